"""Small CLIPs in files: how they are read, what they compute, and what is said of those that are refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from random_checkpoints import Sizes, State, with_openai_facts
from torch import Tensor, nn

from action_clip.errors import ActionClipError
from action_clip.export.clip.assemble import Networks, assemble
from action_clip.export.clip.checkpoints import Checkpoint, read_checkpoint

SIZES = Sizes(layers=1, text_layers=1)
OTHER_MEAN, OTHER_STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.15)


def read(path: Path, *, trust: bool = False, **options: Any) -> Networks:
    return assemble(read_checkpoint(path, trust=trust), **options)


def plain(folder: Path, clip: State, fusion: State | None = None) -> Networks:
    """The networks of these weights in float32, from OpenAI's layout, or the official one where there is a fusion."""
    return assemble(plain_checkpoint(folder, clip, fusion))


def plain_checkpoint(folder: Path, clip: State, fusion: State | None = None) -> Checkpoint:
    path = folder / "plain.pt"
    weights = {name: value.float() for name, value in clip.items()}
    if fusion is None:
        torch.save(with_openai_facts(weights), path)
    else:
        fusion = {name: value.float() for name, value in fusion.items()}
        torch.save({"model_state_dict": weights, "fusion_model_state_dict": fusion}, path)
    return read_checkpoint(path)


@torch.no_grad()
def features(networks: Networks) -> dict[str, Tensor]:
    """What the three networks make of some inputs."""
    generator = torch.Generator().manual_seed(3)
    tokens = torch.zeros(2, 77, dtype=torch.int64)
    tokens[0, :4] = torch.tensor([49406, 320, 1125, 49407])
    tokens[1, :7] = torch.tensor([49406, 5, 4371, 17, 40000, 911, 49407])
    size = networks.image.image_size
    frames = torch.randn(2 * networks.frames, 3, size, size, generator=generator)
    clips = torch.randn(2, networks.frames, networks.text.text_projection.shape[1], generator=generator)
    return {"text": networks.text(tokens), "image": networks.image(frames), "fusion": networks.fusion(clips)}


def assert_same_network(found: nn.Module, expected: nn.Module) -> None:
    """Both have the same layers with the same constants and, to the bit, the same weights."""
    own, other = found.state_dict(), expected.state_dict()
    assert repr(found) == repr(expected)
    assert own.keys() == other.keys()
    assert all(torch.equal(own[name], other[name]) for name in own)


def assert_same(found: Networks, expected: Networks) -> None:
    """Both have the same networks, whose features differ from row to row.

    The last bits of features depend on how the weights lie in memory: Hugging Face's projections are transposed.
    """
    for part in ("text", "image", "fusion"):
        assert_same_network(getattr(found, part), getattr(expected, part))
    mine, theirs = features(found), features(expected)
    for role, values in mine.items():
        assert (values - theirs[role]).abs().max() <= 1e-5, role
        assert (values[0] - values[-1]).abs().max() > 0.1, role


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), "utf-8")


def save_legacy(content: Any, path: Path) -> None:
    """As PyTorch did before 1.6."""
    torch.save(content, path, _use_new_zipfile_serialization=False)


def open_clip_config(**more: Any) -> dict[str, Any]:
    return {
        "model_cfg": {
            "embed_dim": 64,
            "vision_cfg": {"image_size": 32, "layers": 1, "width": 128, "head_width": 32, "patch_size": 16},
            "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1},
            **more,
        },
        "preprocess_cfg": {"mean": OTHER_MEAN, "std": OTHER_STD, "interpolation": "bicubic"},
    }


def hugging_face_config(activation: str = "quick_gelu") -> dict[str, Any]:
    vision = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 1, "num_attention_heads": 4}
    text = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 1, "num_attention_heads": 2}
    return {
        "model_type": "clip",
        "projection_dim": 64,
        "vision_config": {**vision, "image_size": 32, "patch_size": 16, "hidden_act": activation},
        "text_config": {**text, "hidden_act": activation},
    }


def refused(path: Path, **options: Any) -> str:
    """The sentence that says why."""
    with pytest.raises(ActionClipError) as caught:
        read(path, **options)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence
