"""Networks written in the layout of ActionCLIP's published code, and read again."""

from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_files import (
    OTHER_MEAN,
    OTHER_STD,
    SIZES,
    assert_same_network,
    hugging_face_config,
    open_clip_config,
    read,
    refused,
    write_json,
)
from random_checkpoints import (
    State,
    fusion_state,
    hugging_face_state,
    openai_state,
    prefixed,
    with_openai_facts,
    with_temporal_shift,
)

from action_clip.export.clip.assemble import Networks
from action_clip.export.clip.model import ClipModel
from action_clip.export.clip.official import official_content

PROMPTS = ("a clip of {}", "{}")
FUSIONS = ("meanP", "Conv_1D", "LSTM", "Transf", "Transf_cls")


def official(folder: Path, clip: State, fusion: State) -> Path:
    path = folder / "official.pt"
    torch.save({"model_state_dict": clip, "fusion_model_state_dict": fusion}, path)
    return path


def written(folder: Path, networks: Networks, scale: float = 4.5) -> Path:
    path = folder / "written.pt"
    torch.save(official_content(networks, scale, PROMPTS), path)
    return path


def assert_equal(found: Networks, expected: Networks) -> None:
    """The same weights, constants, preprocessing and evaluation."""
    for part in ("text", "image", "fusion"):
        assert_same_network(getattr(found, part), getattr(expected, part))
    for field in ("fusion_name", "activation", "frames", "resize", "mean", "std"):
        assert getattr(found, field) == getattr(expected, field), field
    assert found.image.temporal == expected.image.temporal
    for tower in ("text", "image"):
        blocks = [getattr(networks, tower).transformer.resblocks[0] for networks in (found, expected)]
        assert blocks[0].attn.heads == blocks[1].attn.heads
        assert blocks[0].ln_1.eps == blocks[1].ln_1.eps
    assert (found.checkpoint.uniform, found.checkpoint.layout) == (expected.checkpoint.uniform, "ActionCLIP")
    assert ClipModel(found).spec("", "").prompts == PROMPTS


@pytest.mark.parametrize("fusion", FUSIONS)
def test_an_official_checkpoint_is_written_as_it_was(tmp_path: Path, fusion: str) -> None:
    clip, weights = openai_state(SIZES), fusion_state(fusion, SIZES.embedding)
    networks = read(official(tmp_path, clip, weights))
    path = written(tmp_path, networks, float(clip["logit_scale"]))
    content = torch.load(path, weights_only=True)
    # What the published code would load, strictly.
    for found, expected in ((content["model_state_dict"], clip), (content["fusion_model_state_dict"], weights)):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            if fusion == "Transf" or name != "frame_position_embeddings.weight":
                assert torch.equal(found[name], value), name
            assert found[name].shape == value.shape
    assert_equal(read(path), networks)


def test_temporal_shift_and_joint_attention(tmp_path: Path) -> None:
    shifted = with_temporal_shift(openai_state(SIZES))
    networks = read(official(tmp_path, shifted, {}))
    path = written(tmp_path, networks)
    assert torch.load(path, weights_only=True)["model_state_dict"].keys() == shifted.keys()
    assert_equal(read(path), networks)
    joint = openai_state(SIZES) | {"visual.time_embedding": torch.randn(6, SIZES.width)}
    networks = read(official(tmp_path, joint, {}))
    assert networks.frames == 6
    assert_equal(read(written(tmp_path, networks)), networks)


def test_what_the_layout_takes_for_granted_is_written_beside_it(tmp_path: Path) -> None:
    config = hugging_face_config("gelu")
    config["text_config"]["layer_norm_eps"] = 1e-6
    (tmp_path / "hf").mkdir()
    write_json(tmp_path / "hf" / "config.json", config)
    write_json(
        tmp_path / "hf" / "preprocessor_config.json",
        {"image_mean": OTHER_MEAN, "image_std": OTHER_STD, "size": {"shortest_edge": 40}},
    )
    torch.save(hugging_face_state(openai_state(SIZES)), tmp_path / "hf" / "pytorch_model.bin")
    networks = read(tmp_path / "hf", frames=16)
    assert (networks.activation, networks.resize) == ("gelu", 40)
    assert_equal(read(written(tmp_path, networks)), networks)

    (tmp_path / "oc").mkdir()
    write_json(tmp_path / "oc" / "open_clip_config.json", open_clip_config())
    torch.save(openai_state(SIZES), tmp_path / "oc" / "open_clip_pytorch_model.bin")
    networks = read(tmp_path / "oc")
    assert (networks.activation, networks.mean) == ("gelu", OTHER_MEAN)
    assert_equal(read(written(tmp_path, networks)), networks)


def test_mmaction2s_fusion_keeps_its_epsilon_its_frames_and_its_rule(tmp_path: Path) -> None:
    weights = fusion_state("Transf", SIZES.embedding, positions=16)
    state = prefixed(openai_state(SIZES), "clip.") | prefixed(weights, "adapter.")
    torch.save({"state_dict": state}, tmp_path / "mmaction.pth")
    networks = read(tmp_path / "mmaction.pth")
    assert (networks.frames, networks.checkpoint.uniform, networks.checkpoint.fusion_epsilon) == (16, "midpoints", 1e-5)
    again = read(written(tmp_path, networks))
    assert_equal(again, networks)
    assert again.checkpoint.fusion_epsilon == 1e-5


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("activation", "sine", "activation must be one of quickgelu, gelu, not 'sine'"),
        ("frames", 0, "frames must be a whole number above 0, not 0"),
        ("text_heads", -1, "text_heads must be a whole number above 0, not -1"),
        ("image_epsilon", "x", "image_epsilon must be a number, not 'x'"),
        ("mean", [1.0], "mean must be three numbers, not [1.0]"),
        ("prompts", ["no place"], "prompts must be"),
        ("uniform", "never", "uniform must be one of 'segments', 'midpoints', 'linspace', not 'never'"),
    ],
)
def test_foreign_values_are_refused(tmp_path: Path, name: str, value: Any, what: str) -> None:
    torch.save(with_openai_facts(openai_state(SIZES)), tmp_path / "openai.pt")
    content = official_content(read(tmp_path / "openai.pt"), 4.5, PROMPTS)
    content["action_clip"][name] = value
    torch.save(content, tmp_path / "written.pt")
    assert what in refused(tmp_path / "written.pt")
