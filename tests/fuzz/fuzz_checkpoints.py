"""Checkpoints of every kind of file, and the configurations beside them."""

import io
import json
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from action_clip.errors import ActionClipError
from action_clip.export.clip.assemble import assemble
from action_clip.export.clip.checkpoints import read_checkpoint
from action_clip.export.timesformer.checkpoints import assemble_timesformer, read_timesformer

GOLDEN = Path(__file__).parents[1] / "export" / "golden" / "torchscript_1.7.1.pt"
WIDTH, PATCH, CLASSES = 64, 4, 3
SHAPES: dict[str, tuple[int, ...]] = {
    "cls_token": (1, 1, WIDTH),
    "pos_embed": (1, 5, WIDTH),
    "time_embed": (1, 2, WIDTH),
    "patch_embed.proj.weight": (WIDTH, 3, PATCH, PATCH),
    "blocks.0.attn.qkv.weight": (3 * WIDTH, WIDTH),
    "blocks.0.attn.proj.weight": (WIDTH, WIDTH),
    "blocks.0.mlp.fc1.weight": (2, WIDTH),
    "blocks.0.mlp.fc2.weight": (WIDTH, 2),
    "head.weight": (CLASSES, WIDTH),
    **{f"{name}.weight": (WIDTH,) for name in ("norm", "blocks.0.norm1", "blocks.0.norm2")},
    **{f"{name}.bias": (WIDTH,) for name in ("norm", "blocks.0.norm1", "blocks.0.norm2", "patch_embed.proj")},
    **{f"blocks.0.{name}.bias": (WIDTH,) for name in ("attn.proj", "mlp.fc2")},
    **{"blocks.0.attn.qkv.bias": (3 * WIDTH,), "blocks.0.mlp.fc1.bias": (2,), "head.bias": (CLASSES,)},
}
VISION = {"hidden_size": WIDTH, "num_attention_heads": 1, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
CONFIGURATIONS: list[dict[str, Any]] = [
    {"model_type": "timesformer", "attention_type": "joint_space_time", "num_frames": 2, "num_attention_heads": 1,
     "hidden_act": "gelu", "layer_norm_eps": 1e-6, "id2label": {"0": "a", "1": "b", "2": "c"}},
    {"model_type": "clip", "text_config": VISION, "vision_config": VISION, "text_config_dict": None},
    {"size": {"shortest_edge": 8}, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]},
    {"metadata": {"total_size": 1}, "weight_map": {"model.head.weight": "part.safetensors"}},
    {"model_cfg": {"embed_dim": 64, "vision_cfg": {"width": 64, "head_width": 64}, "text_cfg": {"heads": 1}},
     "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}},
]  # fmt: skip


def weights() -> dict[str, Tensor]:
    """A TimeSformer's, all parts of the largest: then a file is small, and most of it says what there is."""
    largest = torch.arange(3 * WIDTH * WIDTH).to(torch.int8)
    return {f"model.{name}": largest[: torch.Size(shape).numel()].reshape(shape) for name, shape in SHAPES.items()}


def seeds() -> list[bytes]:
    """A file of each kind."""
    files = []
    optimizer = {"state": {0: torch.ones(2)}}
    content = {"model_state": weights(), "epoch": 3, "optimizer_state": optimizer, "history": np.ones(2)}
    for options in ({}, {"pickle_protocol": 4}, {"_use_new_zipfile_serialization": False}):
        file = io.BytesIO()
        torch.save(content, file, **options)
        files.append(file.getvalue())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.script(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)))
        file = io.BytesIO()
        torch.jit.save(script, file)
    files += [file.getvalue(), GOLDEN.read_bytes()]
    small = {name: value.clone() for name, value in weights().items() if value.numel() <= 3 * WIDTH}
    files.append(safetensors.torch.save(small))
    return files + [json.dumps(configuration).encode() for configuration in CONFIGURATIONS]


def target(data: bytes) -> None:
    """Read them as a file by each of its names, and as each of the configurations of a folder."""
    for name in ("file.pt", "file.safetensors"):
        Path(name).write_bytes(data)
        read(Path(name), len(data))
    if not data.lstrip().startswith(b"{"):
        return
    safetensors.torch.save_file({name: value.clone() for name, value in weights().items()}, "part.safetensors")
    size = Path("part.safetensors").stat().st_size
    for name in ("config.json", "preprocessor_config.json", "model.safetensors.index.json", "open_clip_config.json"):
        folder = Path(name).with_suffix("")
        folder.mkdir(exist_ok=True)
        weights_file = "part" if "index" in name else "open_clip_model" if "open_clip" in name else "model"
        (folder / f"{weights_file}.safetensors").write_bytes(Path("part.safetensors").read_bytes())
        (folder / "config.json").write_text(json.dumps(CONFIGURATIONS[0]))
        (folder / name).write_bytes(data)
        read(folder, size)


def read(path: Path, size: int) -> None:
    """As the exporter does; AssertionError where that gives much more than there is."""
    with suppress(ActionClipError):
        checkpoint = read_checkpoint(path)
        assert sum(value.numel() for value in checkpoint.clip.values()) <= 5 * size
        assemble(checkpoint, activation=checkpoint.activation or "gelu")
    with suppress(ActionClipError):
        video = read_timesformer(path)
        assert sum(value.numel() for value in video.state.values()) <= 5 * size
        assemble_timesformer(video)
