"""What ONNX files say about themselves, and folders of them as models."""

import json
from functools import cache
from pathlib import Path

import onnx
from small_models import CLASSES, MEAN, STD

from action_clip.models.catalog.model_directory import read_model_directory
from action_clip.models.catalog.specs import TRAINED_ROLES

FACTS = {
    "model": "small",
    "frames": "8",
    "image_size": "32",
    "resize": "40",
    "mean": json.dumps(MEAN),
    "std": json.dumps(STD),
    "logit_scale": "100.0",
    "prompts": json.dumps(["a photo of {}", "{}"]),
    "uniform": "linspace",
    "classes": json.dumps(CLASSES),
    "licence": "none",
    "checkpoint_sha256": "0" * 64,
    "head": "linear",
    "multi_label": "false",
    "graphs": json.dumps({"image": "text.onnx", "fusion": "fusion.onnx"}),
}


@cache
def graph(role: str) -> bytes:
    """A file that is little more than its metadata."""
    model = onnx.helper.make_model(onnx.helper.make_graph([], role, [], []), ir_version=9)
    onnx.helper.set_model_props(model, {**FACTS, "role": role})
    return bytes(model.SerializeToString())


def seeds() -> list[bytes]:
    """The graphs that frames go into, or a head: what is needed to feed a model is read from them."""
    return [graph("image"), graph("video"), graph("head")]


def target(data: bytes) -> None:
    """Find the model of a folder in which one graph is the input."""
    folder = Path("model")
    folder.mkdir(exist_ok=True)
    for role in ("text", "fusion"):
        path = folder / f"{role}.onnx"
        if b"video" in data:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(graph(role))
    (folder / "frames.onnx").write_bytes(data)
    spec, paths = read_model_directory(folder)
    assert set(paths) in ({"text", "image", "fusion"}, {"video"}, *map(set, TRAINED_ROLES))
    assert len(spec.prompts) > 0 or len(spec.classes) > 0
