"""The three graphs of the embedded model, from networks whose weights are given.

A video's feature is the convex combination of the sentence embeddings of the objects recognised in it (Objects2action,
Jain et al., ICCV 2015; ConSE, Norouzi et al., ICLR 2014); a label's is its own sentence embedding.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import Dim
from torch.nn.utils.fusion import fuse_conv_bn_eval

from action_clip.errors import ActionClipError
from action_clip.export.clip.networks import MeanFusion
from action_clip.export.graphs import BATCH, MOST, to_onnx
from action_clip.export.nano.efficientnet import EfficientNetLite2, load_efficientnet
from action_clip.export.nano.minilm import MiniLM
from action_clip.export.nano.student import Student, encode
from action_clip.export.nano.wordnet import WordNet
from action_clip.export.onnx_writing import large_weights, pack_weights, save_model
from action_clip.export.precision import cosines, run
from action_clip.export.source_model import sample_clip
from action_clip.models.catalog.specs import ModelSpec
from action_clip.tokenizer.bpe import CONTEXT_LENGTH, default_tokenizer

_LOG = logging.getLogger("action_clip")
_SYNSETS = Path(__file__).with_name("imagenet_synsets.txt")
# Largest difference of PyTorch's and onnxruntime's outputs, before the weights are packed.
_TOLERANCE = 1e-4


class ObjectImage(nn.Module):
    """From CLIP-normalised frames, (N, 3, 224, 224), to mean sentence embeddings of the objects in them, (N, 384)."""

    scale: Tensor
    shift: Tensor
    class_embeddings: Tensor

    def __init__(self, network: EfficientNetLite2, embeddings: Tensor, spec: ModelSpec) -> None:
        super().__init__()
        mean, std = torch.tensor(spec.mean), torch.tensor(spec.std)
        # From CLIP's scale back to 0–255, then to the network's (x - 127) / 128.
        self.register_buffer("scale", (std * 255 / 128)[:, None, None])
        self.register_buffer("shift", ((mean * 255 - 127) / 128)[:, None, None])
        self.spec = spec
        self.network = network
        self.register_buffer("class_embeddings", embeddings)

    def forward(self, frames: Tensor) -> Tensor:
        probabilities = self.network(frames * self.scale + self.shift).softmax(1)
        features: Tensor = probabilities @ self.class_embeddings
        return features


def image_network(teacher: MiniLM, wordnet: WordNet, checkpoint: Path, spec: ModelSpec) -> ObjectImage:
    """Return the image network with its batch norms folded into the convolutions and the class embeddings centred."""
    network = load_efficientnet(str(checkpoint))
    _fold_batch_norms(network)
    embeddings = class_embeddings(teacher, wordnet)
    return ObjectImage(network, embeddings, spec).eval()


@torch.no_grad()
def class_embeddings(teacher: MiniLM, wordnet: WordNet) -> Tensor:
    """Return the sentence embeddings of the ImageNet classes' names and definitions minus their mean, (1000, 384)."""
    synsets = wordnet.by_offset()
    names = []
    for key in _SYNSETS.read_text("utf-8").split():
        synset = synsets["noun", int(key[1:])]
        names.append(f"{', '.join(synset.lemmas)}: {synset.definition}")
    embeddings = torch.cat([teacher(names[i : i + 100]) for i in range(0, len(names), 100)])
    return embeddings - embeddings.mean(0)


def save_text(student: Student, path: Path, facts: dict[str, str]) -> None:
    """Write the text graph, which takes (N, L) int64 tokens, any N and L. Raises ActionClipError as `_finish` does."""
    texts = ["a photo of action riding a bicycle", "eating", "Can you recognize the action of playing drums?"]
    tokens = encode(default_tokenizer(), texts)
    model = to_onnx(student, "tokens", tokens, {0: BATCH, 1: Dim("length", max=CONTEXT_LENGTH)})
    inputs = [tokens, tokens[:1], torch.nn.functional.pad(tokens, (0, 77 - tokens.shape[1]))]
    _finish(model, student, [t.numpy() for t in inputs], path, {**facts, "role": "text"})


def save_image(network: ObjectImage, path: Path, facts: dict[str, str]) -> None:
    """Write the image graph, which takes (N, 3, 224, 224) float32, any N. Raises ActionClipError as `_finish` does."""
    frames = torch.from_numpy(sample_clip(replace(network.spec, frames=4)))
    model = to_onnx(network, "frames", frames, {0: BATCH})
    _finish(model, network, [frames.numpy(), frames[:1].numpy()], path, {**facts, "role": "image"})


def save_fusion(path: Path, facts: dict[str, str]) -> None:
    """Write the fusion graph, which takes (N, T, 384) float32, any N, T. Raises ActionClipError as `_finish` does."""
    features = torch.rand(2, 8, 384, generator=torch.Generator().manual_seed(0))
    fusion = MeanFusion()
    model = to_onnx(fusion, "frame_features", features, {0: BATCH, 1: Dim("frames", max=MOST)})
    _finish(model, fusion, [features.numpy(), features[:1, :3].numpy()], path, {**facts, "role": "fusion"})


@torch.no_grad()
def _finish(
    model: onnx.ModelProto,
    network: Callable[[Tensor], Tensor],
    inputs: list[NDArray[np.generic]],
    path: Path,
    facts: dict[str, str],
) -> None:
    """Compare the graph with its network, pack its weights, write it, and log what packing changed.

    Raises ActionClipError where its outputs differ from PyTorch's by more than _TOLERANCE.
    """
    exact = max(float(np.abs(run(model, x) - network(torch.from_numpy(x)).numpy()).max()) for x in inputs)
    if not exact < _TOLERANCE:
        raise ActionClipError(
            f"{path.name} differs from PyTorch by {exact:.1e}, more than {_TOLERANCE:.0e}: not written"
        )
    before = run(model, inputs[0])
    pack_weights(model, large_weights(model))
    after = run(model, inputs[0])
    save_model(model, path, facts)
    _LOG.info(
        "%s: %.1f MB, max |Δ| to PyTorch %.1e, least cosine after packing %.5f",
        path.name, path.stat().st_size / 1e6, exact, cosines(before, after).min(),
    )  # fmt: skip


def _fold_batch_norms(network: nn.Module) -> None:
    """Fold each batch norm into the convolution before it, in place, so that the final weights are packed."""
    for module in [*network.modules()]:
        for (name, convolution), (norm_name, norm) in pairwise([*module.named_children()]):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                module.set_submodule(name, fuse_conv_bn_eval(convolution, norm))
                module.set_submodule(norm_name, nn.Identity())
