"""Checkpoints of every layout, as people have them, and what is said of those that cannot be read."""

import argparse
import hashlib
import importlib
import json
import math
import os
import pickle
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from random_checkpoints import (
    Sizes,
    State,
    as_openai_stores,
    head_state,
    hugging_face_state,
    module_of,
    openai_state,
    prefixed,
    save_torchscript,
    with_openai_facts,
    with_temporal_shift,
)
from safetensors.torch import save_file
from torch import Tensor

from errors import ActionClipError
from export.clip.assemble import Networks, assemble
from export.clip.checkpoints import Checkpoint, read_checkpoint
from export.transformer import Block

SIZES = Sizes(layers=1, text_layers=1)
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
OTHER_MEAN, OTHER_STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.15)
HEADS = ("meanP", "Conv_1D", "LSTM", "Transf", "Transf_cls")


@dataclass(frozen=True)
class Facts:
    """What a checkpoint is found to be; the defaults are those of a CLIP of SIZES."""

    layout: str
    frames: int = 8
    head: str = "meanP"
    activation: str = "quickgelu"
    heads: tuple[int, int] = (1, 2)
    image_size: int = 32
    resize: int = 32
    mean: tuple[float, float, float] = MEAN
    std: tuple[float, float, float] = STD
    logit_scale: float = math.exp(4.5)
    temporal: str | None = None


# 36 = 32 · 256 / 224.
ACTION_CLIP = Facts("ActionCLIP", resize=36, logit_scale=100.0)


@pytest.fixture(scope="module")
def clip() -> State:
    return openai_state(SIZES)


@pytest.fixture(scope="module")
def hollow() -> State:
    """Weights that are all zero and take no room, for what is refused whatever they are."""
    return openai_state(SIZES, seed=None)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a checkpoint goes."""
    return tmp_path / "checkpoint.pt"


def read(path: Path, *, trust: bool = False, **wishes: Any) -> Networks:
    return assemble(read_checkpoint(path, trust=trust), **wishes)


def plain(folder: Path, clip: State, fusion: State | None = None) -> Networks:
    """The networks of these weights in float32, from OpenAI's layout, or the official one where there is a head."""
    return assemble(plain_checkpoint(folder, clip, fusion))


def plain_checkpoint(folder: Path, clip: State, fusion: State | None = None) -> Checkpoint:
    path = folder / "plain.pt"
    weights = {name: value.float() for name, value in clip.items()}
    if fusion is None:
        torch.save(with_openai_facts(weights), path)
    else:
        head = {name: value.float() for name, value in fusion.items()}
        torch.save({"model_state_dict": weights, "fusion_model_state_dict": head}, path)
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


def assert_same(found: Networks, wanted: Networks, within: float = 0) -> None:
    """Both have the very same features, which differ from row to row."""
    mine, theirs = features(found), features(wanted)
    for role, values in mine.items():
        assert (values - theirs[role]).abs().max() <= within, role
        assert (values[0] - values[-1]).abs().max() > 0.1, role


def first_blocks(networks: Networks) -> tuple[Block, Block]:
    """Of the text and the image tower."""
    text, image = networks.text.transformer.resblocks[0], networks.image.transformer.resblocks[0]
    assert isinstance(text, Block)
    assert isinstance(image, Block)
    return text, image


def assert_facts(networks: Networks, facts: Facts, *files: Path) -> None:
    text, image = first_blocks(networks)
    found = Facts(
        networks.checkpoint.layout, networks.frames, networks.head, networks.activation,
        (text.attn.heads, image.attn.heads), networks.image.image_size, networks.resize, networks.mean, networks.std,
        networks.logit_scale, networks.image.temporal,
    )  # fmt: skip
    assert found == replace(facts, logit_scale=networks.logit_scale)
    assert networks.logit_scale == pytest.approx(facts.logit_scale, rel=1e-6)
    content = b"".join(path.read_bytes() for path in files)
    assert networks.checkpoint.sha256 == hashlib.sha256(content).hexdigest()
    assert not any(parameter.requires_grad for parameter in networks.image.parameters())


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), "utf-8")


# OpenAI


def test_openai_state_dict(clip: State, tmp_path: Path) -> None:
    assert_facts(plain(tmp_path, clip), Facts("OpenAI CLIP"), tmp_path / "plain.pt")


@pytest.mark.filterwarnings("ignore:.*torch.jit.load.* is deprecated")
def test_openai_torchscript_archive(clip: State, file: Path, tmp_path: Path) -> None:
    stored = as_openai_stores(clip)
    assert {value.dtype for value in stored.values()} == {torch.float16, torch.float32}
    save_torchscript(with_openai_facts(stored), file)
    networks = read(file)
    assert_facts(networks, Facts("OpenAI CLIP"), file)
    assert_same(networks, plain(tmp_path, stored))
    assert features(networks)["text"].dtype == torch.float32


# ActionCLIP


def half(state: Mapping[str, Tensor]) -> State:
    return {name: value.half() for name, value in state.items()}


@pytest.mark.parametrize(
    ("head", "prefix", "stored", "legacy"),
    [
        *((head, "", dict, False) for head in HEADS),
        ("Conv_1D", "module.", half, True),
        ("LSTM", "module.", as_openai_stores, False),
        ("Transf", "module.", as_openai_stores, False),
        ("Transf", "", half, True),
        ("Transf_cls", "module.module.", half, False),
        ("meanP", "module.", as_openai_stores, False),
    ],
)
def test_official_action_clip(
    clip: State,
    file: Path,
    tmp_path: Path,
    head: str,
    prefix: str,
    stored: Callable[[Mapping[str, Tensor]], State],
    legacy: bool,
) -> None:
    # As trained: the towers in whatever CLIP was loaded in, the head in float32, or all in one type.
    towers = stored(clip)
    fusion = head_state(head, SIZES.embedding, frames=5)
    fusion = half(fusion) if stored is half else fusion
    optimizer = {"state": {0: {"step": 7, "exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 5e-6, "params": [0]}]}
    torch.save(
        {
            "epoch": 49,
            "model_state_dict": prefixed(towers, prefix),
            "fusion_model_state_dict": prefixed(fusion, prefix),
            "optimizer_state_dict": optimizer,
        },
        file,
        _use_new_zipfile_serialization=not legacy,
    )
    networks = read(file, fusion=head)
    frames = 5 if head == "Transf_cls" else 8
    assert_facts(networks, replace(ACTION_CLIP, head=head, frames=frames), file)
    assert_same(networks, plain(tmp_path, towers, fusion))
    if head == "meanP":
        assert_same(networks, plain(tmp_path, towers))


def test_official_without_a_head(clip: State, file: Path, tmp_path: Path) -> None:
    torch.save({"model_state_dict": clip, "epoch": 3}, file)
    networks = read(file, fusion="meanP")
    assert_facts(networks, ACTION_CLIP, file)
    assert_same(networks, plain(tmp_path, clip, {}))


@pytest.mark.parametrize("prefix", ["", "module."])
def test_official_with_temporal_shift(clip: State, file: Path, tmp_path: Path, prefix: str) -> None:
    towers = prefixed(with_temporal_shift(clip), prefix)
    assert f"{prefix}visual.transformer.resblocks.0.net.attn.in_proj_weight" in towers
    torch.save({"model_state_dict": towers, "fusion_model_state_dict": {}}, file)
    networks = read(file, frames=4)
    assert_facts(networks, replace(ACTION_CLIP, frames=4, temporal="shift"), file)
    unshifted = plain_checkpoint(tmp_path, clip)
    assert_same(networks, assemble(replace(unshifted, temporal="shift"), frames=4))
    assert not torch.equal(features(networks)["image"], features(assemble(unshifted, frames=4))["image"])


def test_official_with_joint_attention(clip: State, file: Path, tmp_path: Path) -> None:
    towers = {**clip, "visual.time_embedding": torch.linspace(-1, 1, 3 * SIZES.width).reshape(3, -1)}
    torch.save(
        {"model_state_dict": prefixed(towers, "module."), "fusion_model_state_dict": head_state("LSTM", 64)}, file
    )
    networks = read(file)
    assert_facts(networks, replace(ACTION_CLIP, head="LSTM", frames=3, temporal="joint"), file)
    openai = assemble(replace(plain_checkpoint(tmp_path, towers), temporal="joint"))
    assert torch.equal(features(networks)["image"], features(openai)["image"])
    assert torch.equal(networks.image.time_embedding, towers["visual.time_embedding"])


@pytest.mark.parametrize(("positions", "wish", "frames"), [(6, None, 6), (6, 4, 4), (77, None, 8), (77, 16, 16)])
def test_frames_follow_the_positions(
    clip: State, file: Path, tmp_path: Path, positions: int, wish: int | None, frames: int
) -> None:
    fusion = head_state("Transf", SIZES.embedding, positions=positions)
    meta = {"epoch": 50, "cfg": "model = dict(type='ActionClip')", "mmengine_version": "0.7.1"}
    state = half(prefixed(clip, "clip.")) | half(prefixed(fusion, "adapter."))
    torch.save({"meta": meta, "state_dict": state, "message_hub": {"log_scalars": {}}}, file)
    networks = read(file, frames=wish)
    assert_facts(networks, replace(ACTION_CLIP, layout="mmaction2 ActionCLIP", head="Transf", frames=frames), file)
    # The head's norms have another epsilon than the official code's.
    official = plain_checkpoint(tmp_path, half(clip), half(fusion))
    assert (networks.checkpoint.fusion_epsilon, official.fusion_epsilon) == (1e-5, 1e-12)
    assert_same(networks, assemble(replace(official, fusion_epsilon=1e-5), frames=frames))


# open_clip


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


OPEN_CLIP = Facts("open_clip", activation="gelu", heads=(2, 4), mean=OTHER_MEAN, std=OTHER_STD)


def as_open_clip(clip: State, folder: Path, activation: str) -> Networks:
    """The networks of the plain layout, with the heads of open_clip_config()."""
    return assemble(replace(plain_checkpoint(folder, clip), heads=(2, 4), activation=activation))


@pytest.mark.parametrize("activation", ["gelu", "quickgelu"])
def test_open_clip_state_dict_needs_its_activation(clip: State, file: Path, tmp_path: Path, activation: str) -> None:
    torch.save(clip, file)
    assert "give --activation quickgelu" in refused(file)
    networks = read(file, activation=activation)
    assert_facts(networks, Facts("CLIP state dict", activation=activation), file)
    assert_same(networks, assemble(replace(plain_checkpoint(tmp_path, clip), activation=activation)))


def test_open_clip_training_checkpoint(clip: State, file: Path, tmp_path: Path) -> None:
    content = {"epoch": 32, "name": "run", "state_dict": prefixed(clip, "module."), "scaler": {"scale": 65536.0}}
    torch.save({**content, "optimizer": {"state": {}, "param_groups": []}}, file)
    networks = read(file, activation="quickgelu")
    assert_facts(networks, Facts("CLIP state dict"), file)
    assert_same(networks, plain(tmp_path, clip))


@pytest.mark.parametrize(
    ("name", "quick"), [("open_clip_model.safetensors", False), ("open_clip_pytorch_model.bin", True)]
)
@pytest.mark.parametrize("given", ["folder", "file"])
def test_open_clip_with_its_configuration(clip: State, tmp_path: Path, name: str, quick: bool, given: str) -> None:
    (save_file if name.endswith("safetensors") else torch.save)(clip, tmp_path / name)
    write_json(tmp_path / "open_clip_config.json", open_clip_config(**({"quick_gelu": True} if quick else {})))
    networks = read(tmp_path if given == "folder" else tmp_path / name)
    activation = "quickgelu" if quick else "gelu"
    assert_facts(networks, replace(OPEN_CLIP, activation=activation), tmp_path / name)
    assert_same(networks, as_open_clip(clip, tmp_path, activation))


def test_open_clip_with_a_tower_for_texts_of_its_own(clip: State, tmp_path: Path) -> None:
    # CustomTextCLIP; and a training checkpoint in place of a bare state dict.
    own = {n if n.startswith(("visual.", "logit_scale")) else f"text.{n}": value for n, value in clip.items()}
    torch.save({"epoch": 3, "state_dict": own}, tmp_path / "open_clip_pytorch_model.bin")
    write_json(tmp_path / "open_clip_config.json", open_clip_config())
    networks = read(tmp_path)
    assert_facts(networks, OPEN_CLIP, tmp_path / "open_clip_pytorch_model.bin")
    assert_same(networks, as_open_clip(clip, tmp_path, "gelu"))


@pytest.mark.parametrize(
    ("vision", "width", "text_width", "heads"), [({}, 768, 512, (8, 12)), ({"width": 1280}, 1280, 1024, (8, 20))]
)
def test_open_clips_own_defaults(
    file: Path, vision: dict[str, int], width: int, text_width: int, heads: tuple[int, int]
) -> None:
    torch.save(openai_state(Sizes(width=width, layers=1, text_width=text_width, text_layers=1), seed=None), file)
    write_json(file.with_name("open_clip_config.json"), {"model_cfg": {"text_cfg": None, "vision_cfg": vision}})
    assert_facts(read(file), Facts("open_clip", activation="gelu", heads=heads, logit_scale=1), file)


# Hugging Face


def hugging_face_config(activation: str = "quick_gelu") -> dict[str, Any]:
    vision = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 1, "num_attention_heads": 4}
    text = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 1, "num_attention_heads": 2}
    return {
        "model_type": "clip",
        "projection_dim": 64,
        "vision_config": {**vision, "image_size": 32, "patch_size": 16, "hidden_act": activation},
        "text_config": {**text, "hidden_act": activation},
    }


HUGGING_FACE = Facts("Hugging Face CLIP", heads=(2, 4))
# Its projections lie transposed in memory, so sums are taken in another order.
ROUNDING = 1e-5


def save_hugging_face(clip: State, folder: Path, activation: str = "quick_gelu", **options: Any) -> None:
    """As transformers saves a CLIPModel."""
    transformers = pytest.importorskip("transformers")
    model = transformers.CLIPModel(transformers.CLIPConfig(**hugging_face_config(activation)))
    model.load_state_dict(hugging_face_state(clip))
    model.save_pretrained(folder, **options)


@pytest.mark.parametrize("given", ["folder", "file"])
def test_hugging_face_folder(clip: State, tmp_path: Path, given: str) -> None:
    save_hugging_face(clip, tmp_path)
    file = tmp_path / "model.safetensors"
    networks = read(tmp_path if given == "folder" else file)
    assert_facts(networks, HUGGING_FACE, file)
    assert_same(networks, as_open_clip(clip, tmp_path, "quickgelu"), ROUNDING)


@pytest.mark.parametrize("shards", [1, 3])
def test_hugging_face_weights_as_pickles(clip: State, tmp_path: Path, shards: int) -> None:
    # What transformers wrote before safetensors, and no longer does; its positions were weights too.
    write_json(tmp_path / "config.json", hugging_face_config("gelu"))
    state = hugging_face_state(clip)
    for tower, count in (("text", 77), ("vision", 5)):
        state[f"{tower}_model.embeddings.position_ids"] = torch.arange(count)[None]
    names = list(state)
    files = [tmp_path / "pytorch_model.bin"]
    if shards > 1:
        files = [tmp_path / f"pytorch_model-{part:05}-of-{shards:05}.bin" for part in range(1, shards + 1)]
        where = {name: files[place % shards].name for place, name in enumerate(names)}
        write_json(tmp_path / "pytorch_model.bin.index.json", {"metadata": {"total_size": 1}, "weight_map": where})
    for part, path in enumerate(files):
        torch.save({name: state[name] for name in names[part::shards]}, path)
    networks = read(tmp_path)
    assert_facts(networks, replace(HUGGING_FACE, activation="gelu"), *files)
    assert_same(networks, as_open_clip(clip, tmp_path, "gelu"), ROUNDING)


def test_hugging_face_shards(clip: State, tmp_path: Path) -> None:
    save_hugging_face(clip, tmp_path, "gelu", max_shard_size="1MB")
    files = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(files) > 2
    networks = read(tmp_path)
    assert_facts(networks, replace(HUGGING_FACE, activation="gelu"), *files)
    assert_same(networks, as_open_clip(clip, tmp_path, "gelu"), ROUNDING)


@pytest.mark.parametrize(
    ("own", "facts"),
    [
        (
            {"size": {"shortest_edge": 40}, "image_mean": OTHER_MEAN, "image_std": OTHER_STD},
            {"resize": 40, "mean": OTHER_MEAN, "std": OTHER_STD},
        ),
        ({"size": 48, "crop_size": 32}, {"resize": 48}),
        ({"size": {"height": 32, "width": 32}, "image_mean": None, "image_std": OTHER_STD}, {"std": OTHER_STD}),
        # Smaller than what is cut out of it.
        ({"size": 24}, {"resize": 32}),
    ],
)
def test_hugging_face_preprocessing(clip: State, tmp_path: Path, own: dict[str, Any], facts: dict[str, Any]) -> None:
    save_file(hugging_face_state(clip), tmp_path / "model.safetensors")
    write_json(tmp_path / "config.json", hugging_face_config())
    write_json(tmp_path / "preprocessor_config.json", own)
    assert_facts(read(tmp_path), replace(HUGGING_FACE, **facts), tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    ("config", "heads", "activation", "epsilons"),
    [
        # What is left out or null is transformers' default, and text_config_dict outdoes text_config, as there.
        ({"model_type": "clip"}, (8, 12), "quickgelu", (1e-5, 1e-5)),
        (
            {
                "model_type": "clip", "text_config_dict": None, "vision_config_dict": None,
                "text_config": {"num_attention_heads": 4, "hidden_act": "gelu", "layer_norm_eps": 1e-6},
                "vision_config": {"num_attention_heads": 16, "hidden_act": "gelu", "layer_norm_eps": 1e-4},
            },
            (4, 16), "gelu", (1e-6, 1e-4),
        ),
        (
            {
                "model_type": "clip", "text_config": {"num_attention_heads": 4, "hidden_act": "gelu"},
                "text_config_dict": {"num_attention_heads": 16}, "vision_config": None,
            },
            (16, 12), "quickgelu", (1e-5, 1e-5),
        ),
    ],
)  # fmt: skip
def test_what_hugging_faces_configuration_says(
    tmp_path: Path, config: dict[str, Any], heads: tuple[int, int], activation: str, epsilons: tuple[float, float]
) -> None:
    transformers = pytest.importorskip("transformers")
    # First: transformers changes what it is given.
    write_json(tmp_path / "config.json", config)
    theirs = transformers.CLIPConfig.from_dict(config)
    parts = (theirs.text_config, theirs.vision_config)
    assert (tuple(part.num_attention_heads for part in parts), tuple(part.layer_norm_eps for part in parts)) == (
        heads,
        epsilons,
    )
    state = hugging_face_state(openai_state(Sizes(width=768, layers=1, text_width=512, text_layers=1), seed=None))
    torch.save(state, tmp_path / "pytorch_model.bin")
    networks = read(tmp_path)
    facts = Facts("Hugging Face CLIP", heads=heads, activation=activation, logit_scale=1)
    assert_facts(networks, facts, tmp_path / "pytorch_model.bin")
    assert tuple(block.ln_2.eps for block in first_blocks(networks)) == epsilons


# Sizes


B = {"width": 768, "text_width": 512, "embedding": 512}
L = {"width": 1024, "text_width": 768, "embedding": 768}


@pytest.mark.parametrize(
    ("image_size", "patch", "sizes", "heads"),
    [
        (224, 32, B, (8, 12)),
        (224, 16, B, (8, 12)),
        (224, 14, L, (12, 16)),
        (336, 14, L, (12, 16)),
        # ViT-H, -g and -bigG have heads 80, 88 and 104 wide.
        (224, 14, {"width": 1280, "text_width": 1024, "embedding": 1024}, (16, 16)),
        (224, 14, {"width": 1408, "text_width": 1024, "embedding": 1024}, (16, 16)),
        (224, 14, {"width": 1664, "text_width": 1280, "embedding": 1280}, (20, 16)),
        (240, 16, {"width": 896, "text_width": 640, "embedding": 640}, (10, 14)),
    ],
    ids=["B/32", "B/16", "L/14", "L/14@336", "H/14", "g/14", "bigG/14", "B/16-plus-240"],
)
def test_sizes_are_read_off_the_weights(
    file: Path, image_size: int, patch: int, sizes: dict[str, int], heads: tuple[int, int]
) -> None:
    torch.save(
        openai_state(Sizes(image_size=image_size, patch=patch, layers=2, text_layers=1, **sizes), seed=None), file
    )
    networks = read(file, activation="gelu")
    facts = Facts("CLIP state dict", activation="gelu", heads=heads, logit_scale=1)
    assert_facts(networks, replace(facts, image_size=image_size, resize=image_size), file)
    assert networks.image.conv1.weight.shape == (sizes["width"], 3, patch, patch)
    assert networks.image.proj.shape == (sizes["width"], sizes["embedding"])
    assert (len(networks.image.transformer.resblocks), len(networks.text.transformer.resblocks)) == (2, 1)


# What is refused


def refused(path: Path, **wishes: Any) -> str:
    """The sentence that says why."""
    with pytest.raises(ActionClipError) as caught:
        read(path, **wishes)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.pt", b"", "is damaged or no checkpoint (EOFError): download it again"),
        ("a.safetensors", b"", "is damaged or no checkpoint (Error while deserializing header"),
        ("a.pt", b"<!DOCTYPE html><html><body>404</body></html>", "is a web page, not a checkpoint"),
        ("a.pth", b"\n <html>\n", "is a web page, not a checkpoint"),
        ("a.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer"),
        ("a.bin", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "run git lfs pull in its folder"),
        ("a.pt", b"Access denied\n", "is not a PyTorch checkpoint: download it again"),
        ("a.pt", b"{}", "is not a PyTorch checkpoint: download it again"),
        ("a.safetensors", b"\xff" * 100, "is damaged or no checkpoint"),
        ("a.pt", b"PK\x03\x04" + bytes(50), "is damaged or no checkpoint (PytorchStreamReader failed"),
        ("a.pt", b"PK\x05\x06" + bytes(18), "is damaged or no checkpoint"),
    ],
)
def test_files_that_are_no_checkpoints(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(content)
    said = refused(tmp_path / name)
    assert said.startswith(f"{tmp_path / name} ")
    assert sentence in said


def save_legacy(content: Any, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize(
    ("suffix", "save"),
    [(".pt", torch.save), (".pt", save_legacy), (".safetensors", save_file), (".pt", save_torchscript)],
    ids=["zip", "legacy", "safetensors", "TorchScript"],
)
@pytest.mark.parametrize("kept", [0.999, 0.5, 0.001])
def test_truncated_files(clip: State, tmp_path: Path, suffix: str, save: Callable[..., None], kept: float) -> None:
    path = tmp_path / f"part{suffix}"
    save(clip, path)
    os.truncate(path, int(path.stat().st_size * kept))
    assert "download it again" in refused(path)


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    assert refused(tmp_path / "absent.pt").startswith(f"there is no checkpoint {tmp_path / 'absent.pt'}")
    assert "cannot be read (File name too long): check the file" in refused(tmp_path / ("x" * 300))
    assert "is no checkpoint: it needs config.json with model.safetensors" in refused(tmp_path)
    write_json(tmp_path / "config.json", hugging_face_config())
    assert "is no checkpoint: it needs config.json with model.safetensors" in refused(tmp_path)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (torch.zeros(3), "holds an object of type Tensor, not a checkpoint: give a state dict"),
        ([torch.zeros(3)], "holds an object of type list, not a checkpoint"),
        (7, "holds an object of type int, not a checkpoint"),
        ({}, "the checkpoint lacks visual.conv1.weight, visual.positional_embedding, visual.proj"),
        ({"model": {"a": torch.zeros(3)}}, "holds no state dict ('model' is of type dict, not a plain tensor)"),
        ({"state_dict": [torch.zeros(3)]}, "holds no state dict (names and tensors)"),
        ({"model_state_dict": 3}, "holds no state dict (names and tensors)"),
        ({"a": torch.zeros(3).to_sparse()}, "holds no state dict ('a' is of type Tensor, not a plain tensor)"),
        ({"a": torch.zeros(3, dtype=torch.complex64)}, "holds no state dict ('a' is of type Tensor"),
        ({"vision_model.x": torch.zeros(3)}, "has Hugging Face's layout: put its config.json beside it"),
        ({3: torch.zeros(3)}, "the checkpoint lacks visual.conv1.weight"),
    ],
)
def test_pickles_of_something_else(file: Path, content: Any, sentence: str) -> None:
    torch.save(content, file)
    assert sentence in refused(file)


class Runs:
    """Creates a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._folder),)


@pytest.mark.parametrize("save", [torch.save, save_legacy])
def test_code_is_run_only_where_trusted(
    clip: State, file: Path, tmp_path: Path, save: Callable[[Any, Path], None]
) -> None:
    save({"state_dict": clip, "callback": Runs(tmp_path / "made")}, file)
    said = refused(file, activation="quickgelu")
    assert "holds more than weights (posix.mkdir), and reading that may run any code" in said
    assert "give --trust if you trust where it comes from" in said
    assert not (tmp_path / "made").exists()

    assert_same(read(file, trust=True, activation="quickgelu"), plain(tmp_path, clip))
    assert (tmp_path / "made").is_dir()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol 4")
def test_a_plain_pickle_runs_nothing(tmp_path: Path) -> None:
    for protocol in (2, 4):
        path = tmp_path / f"{protocol}.pkl"
        path.write_bytes(pickle.dumps(Runs(tmp_path / "made"), protocol))
        assert "download it again" in refused(path) or "holds more than weights" in refused(path)
        assert not (tmp_path / "made").exists()


def test_what_other_trainers_put_beside_the_weights(clip: State, file: Path, tmp_path: Path) -> None:
    torch.save({"state_dict": clip, "meta": argparse.Namespace(epoch=3)}, file)
    assert "holds more than weights (argparse.Namespace)" in refused(file)
    assert_same(read(file, trust=True, activation="quickgelu"), plain(tmp_path, clip))


def test_a_whole_module_is_read_where_trusted(clip: State, file: Path, tmp_path: Path) -> None:
    torch.save(module_of(with_openai_facts(clip)), file)
    assert "holds more than weights (random_checkpoints.Shell)" in refused(file)
    networks = read(file, trust=True)
    assert_facts(networks, Facts("OpenAI CLIP"), file)
    assert_same(networks, plain(tmp_path, clip))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol 4")
def test_newer_pickles_need_trust(clip: State, file: Path, tmp_path: Path) -> None:
    torch.save(with_openai_facts(clip), file, pickle_protocol=4)
    assert "holds more than weights (other objects)" in refused(file)
    assert_same(read(file, trust=True), plain(tmp_path, clip))


def test_code_that_is_not_here(clip: State, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trainer_of_theirs.py").write_text("class Settings:\n    pass\n", "utf-8")
    with monkeypatch.context() as there:
        there.syspath_prepend(tmp_path)
        settings = importlib.import_module("trainer_of_theirs").Settings()
        torch.save({"state_dict": clip, "settings": settings}, file)
    del sys.modules["trainer_of_theirs"]
    said = refused(file, trust=True, activation="gelu")
    assert "needs code that is not here (No module named 'trainer_of_theirs'): install it" in said


# Weights that do not fit


def test_all_that_is_wrong_is_listed_at_once(hollow: State, file: Path) -> None:
    fusion = head_state("Transf", SIZES.embedding)
    del fusion["transformer.resblocks.3.ln_2.bias"]
    fusion["transformer.resblocks.5.mlp.c_proj.weight"] = torch.zeros(64, 100)
    fusion["transformer.extra"] = torch.zeros(2)
    towers = dict(hollow)
    del towers["visual.ln_post.weight"], towers["ln_final.bias"]
    towers["visual.conv1.weight"] = torch.zeros(128, 3, 16, 8)
    towers["transformer.resblocks.0.ln_1.weight"] = torch.zeros(())
    towers["visual.adapter.weight"] = towers["logit_bias"] = torch.zeros(2)
    torch.save({"model_state_dict": towers, "fusion_model_state_dict": fusion}, file)
    assert refused(file) == (
        "the checkpoint lacks ln_final.bias, visual.ln_post.weight, fusion: transformer.resblocks.3.ln_2.bias; "
        "it has left over logit_bias, visual.adapter.weight, fusion: transformer.extra; "
        "it has transformer.resblocks.0.ln_1.weight () instead of 64, "
        "visual.conv1.weight 128×3×16×8 instead of 128×3×8×8, "
        "fusion: transformer.resblocks.5.mlp.c_proj.weight 64×100 instead of 64×256: "
        "it is not of a model that is known here"
    )


def test_a_layer_that_is_not_there(hollow: State, file: Path) -> None:
    moved = {
        name.replace("visual.transformer.resblocks.0", "visual.transformer.resblocks.1"): hollow[name]
        for name in hollow
    }
    torch.save(hollow | {n: v for n, v in moved.items() if ".1.ln_1" in n}, file)
    said = refused(file, activation="gelu")
    assert "lacks visual.transformer.resblocks.1.attn.q_proj.weight" in said.replace("the checkpoint ", "")
    torch.save(moved, file)
    said = refused(file, activation="gelu")
    assert said.startswith("the checkpoint lacks visual.transformer.resblocks.0.mlp.c_fc.weight")


def changed(name: str, value: Any) -> Callable[[State], State]:
    return lambda state: {**state, name: value(state.get(name)) if callable(value) else value}


def without(start: str) -> Callable[[State], State]:
    return lambda state: {name: value for name, value in state.items() if not name.startswith(start)}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (changed("visual.layer1.0.conv1.weight", torch.zeros(1)), "is a CLIP with a ResNet: only those with a vision"),
        (changed("token_embedding.weight", lambda w: w[:32000]), "has 32000 tokens and texts of 77: only CLIP's own"),
        (changed("positional_embedding", lambda w: w[:64]), "has 49408 tokens and texts of 64: only CLIP's own"),
        (changed("text_projection", lambda w: w[:, 0]), "text_projection has the shape 64, not 2 sides"),
        (changed("text_projection", lambda w: w[:, :32]), "images are embedded in 64 dimensions, texts in 32"),
        (changed("visual.proj", lambda w: w[None]), "visual.proj has the shape 1×128×64, not 2 sides"),
        (changed("visual.proj", lambda w: w[:60]), "a width of 60 cannot be divided among 0 attention heads"),
        (changed("visual.conv1.weight", torch.zeros(128)), "visual.conv1.weight has the shape 128, not 4 sides"),
        (changed("visual.conv1.weight", lambda w: w[..., :0]), "visual.conv1.weight has the shape 128×3×16×0"),
        (changed("visual.positional_embedding", torch.zeros(())), "visual.positional_embedding has the shape ()"),
        (
            changed("visual.positional_embedding", lambda w: w[:1]),
            "visual.positional_embedding 1×128 instead of 2×128",
        ),
        (
            changed("visual.positional_embedding", lambda w: w[:4]),
            "visual.positional_embedding 4×128 instead of 2×128",
        ),
        (
            changed("transformer.resblocks.0.attn.in_proj_weight", lambda w: w[:100]),
            "has left over transformer.resblocks.0.attn.in_proj_weight",
        ),
        (
            changed("visual.transformer.resblocks.0.attn.in_proj_bias", torch.zeros(())),
            "lacks visual.transformer.resblocks.0.attn.q_proj.bias",
        ),
        (
            changed("transformer.resblocks.0.attn.in_proj_bias", lambda w: w[:6]),
            "transformer.resblocks.0.attn.q_proj.bias 2 instead of 64",
        ),
        (
            changed("transformer.resblocks.0.mlp.c_fc.weight", torch.zeros(0)),
            "transformer.resblocks.0.mlp.c_fc.weight has the shape 0, not 2 sides",
        ),
        (changed("logit_scale", torch.tensor([4.0, 5.0])), "logit_scale is not one number below 20"),
        (changed("logit_scale", torch.tensor(math.nan)), "logit_scale is not one number below 20"),
        (changed("logit_scale", torch.tensor(1e4)), "logit_scale is not one number below 20"),
        (changed("logit_scale_of_mine", torch.tensor(1.0)), "has left over logit_scale_of_mine"),
        (without("visual.transformer."), "lacks visual.transformer.resblocks.0.mlp.c_fc.weight"),
        (without("transformer."), "lacks transformer.resblocks.0.mlp.c_fc.weight"),
        (without("visual."), "lacks visual.conv1.weight, visual.positional_embedding, visual.proj: check"),
    ],
)
def test_towers_that_do_not_fit(hollow: State, file: Path, change: Callable[[State], State], sentence: str) -> None:
    torch.save(change(hollow), file)
    assert sentence in refused(file, activation="gelu")


@pytest.mark.parametrize(
    ("head", "change", "sentence"),
    [
        ("Transf_cls", changed("transformer.pos_embed", torch.zeros(9)), "pos_embed has the shape 9, not 3 sides"),
        ("Transf_cls", changed("transformer.pos_embed", torch.zeros(1, 1, 64)), "pos_embed has no place for a frame"),
        ("Transf_cls", without("transformer.pos_embed"), "lacks pos_embed"),
        ("Transf_cls", without("transformer.transformer_enc"), "lacks transformer.resblocks.0.mlp.c_fc.weight"),
        ("Transf", without("frame_position"), "lacks frame_position_embeddings.weight"),
        (
            "Transf",
            changed("frame_position_embeddings.weight", torch.zeros(())),
            "frame_position_embeddings.weight has the shape (), not 2 sides",
        ),
        ("Conv_1D", changed("shift.weight", torch.zeros(64, 1, 5)), "fusion: shift.weight 64×1×5 instead of 64×1×3"),
        ("LSTM", without("lstm_visual.bias_hh"), "lacks fusion: lstm_visual.bias_hh_l0"),
        ("meanP", changed("classifier.weight", torch.zeros(2)), "has left over fusion: classifier.weight"),
    ],
)
def test_heads_that_do_not_fit(
    hollow: State, file: Path, head: str, change: Callable[[State], State], sentence: str
) -> None:
    torch.save({"model_state_dict": hollow, "fusion_model_state_dict": change(head_state(head, 64))}, file)
    assert sentence in refused(file)


def test_a_time_embedding_that_does_not_fit(hollow: State, file: Path) -> None:
    towers = {**hollow, "visual.time_embedding": torch.zeros(128)}
    torch.save({"model_state_dict": towers, "fusion_model_state_dict": {}}, file)
    assert "visual.time_embedding has the shape 128, not 2 sides" in refused(file)


# Wishes that contradict the weights


@pytest.mark.parametrize(
    ("head", "wishes", "sentence"),
    [
        ("Transf", {"fusion": "LSTM"}, "the checkpoint's frame head is Transf, not LSTM: give another"),
        ("meanP", {"fusion": "Transf"}, "the checkpoint's frame head is meanP, not Transf: give another"),
        ("Transf_cls", {"frames": 4}, "the checkpoint's weights are for 5 frames, not 4: give another"),
        ("Transf", {"frames": 78}, "has positions for 77 frames: give --frames 77 or fewer"),
        ("LSTM", {"activation": "gelu"}, "the checkpoint's activation is quickgelu, not gelu: give another"),
    ],
)
def test_wishes_that_contradict(hollow: State, file: Path, head: str, wishes: dict[str, Any], sentence: str) -> None:
    torch.save({"model_state_dict": hollow, "fusion_model_state_dict": head_state(head, 64, frames=5)}, file)
    assert sentence in refused(file, **wishes)


@pytest.mark.parametrize(
    ("head", "wish", "sentence"),
    [
        ("meanP", 8, "the checkpoint's weights are for 3 frames, not 8: give another"),
        ("Transf_cls", None, "fusion: pos_embed 1×6×64 instead of 1×4×64"),
    ],
)
def test_joint_attention_fixes_the_frames(
    hollow: State, file: Path, head: str, wish: int | None, sentence: str
) -> None:
    towers = {**hollow, "visual.time_embedding": torch.zeros(3, 128)}
    torch.save({"model_state_dict": towers, "fusion_model_state_dict": head_state(head, 64, frames=5)}, file)
    assert sentence in refused(file, frames=wish)


@pytest.mark.parametrize("wish", [None, "Transf", "LSTM"])
def test_an_official_checkpoint_without_its_head(hollow: State, file: Path, wish: str | None) -> None:
    torch.save({"model_state_dict": hollow}, file)
    said = refused(file, fusion=wish)
    assert "has a model_state_dict but no fusion_model_state_dict: give one with both, or say --fusion meanP" in said


# Folders


@pytest.fixture
def folder(hollow: State, tmp_path: Path) -> Path:
    """Of Hugging Face, with one file of weights."""
    torch.save(hugging_face_state(hollow), tmp_path / "pytorch_model.bin")
    write_json(tmp_path / "config.json", hugging_face_config())
    return tmp_path


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model_type": "siglip"}, "holds a model of type 'siglip', not 'clip': give a CLIPModel's folder"),
        ({"model_type": None}, "holds a model of type None, not 'clip'"),
        ({"text_config": {"hidden_act": "relu"}}, "has the activations ['quick_gelu', 'relu']: only quick_gelu or"),
        ({"text_config": {"hidden_act": "gelu"}}, "has the activations ['gelu', 'quick_gelu']"),
        ({"text_config": {"hidden_act": ["gelu"]}}, "config.json: hidden_act must be a text, not ['gelu']"),
        ({"text_config": "small"}, "config.json: text_config must be a JSON object, not 'small'"),
        ({"vision_config_dict": [1]}, "config.json: vision_config_dict must be a JSON object, not [1]"),
        (
            {"text_config": {"num_attention_heads": "8"}},
            "config.json: num_attention_heads must be a whole number above 0, not '8': download it again",
        ),
        ({"text_config": {"num_attention_heads": 0}}, "num_attention_heads must be a whole number above 0, not 0"),
        ({"text_config": {"num_attention_heads": 3}}, "a width of 64 cannot be divided among 3 attention heads"),
        ({"vision_config": {"layer_norm_eps": 0}}, "layer_norm_eps must be a number above 0, not 0"),
    ],
)
def test_hugging_face_configurations(folder: Path, change: dict[str, Any], sentence: str) -> None:
    write_json(folder / "config.json", hugging_face_config() | change)
    assert sentence in refused(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe{}", b'{"a":' * 100_000])
@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
def test_configurations_that_are_not_json(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    assert refused(folder) == f"{folder / name} is not valid JSON: download it again"


def test_configurations_that_are_no_object(folder: Path) -> None:
    write_json(folder / "config.json", ["clip"])
    assert refused(folder) == f"{folder / 'config.json'} holds no JSON object: download it again"


@pytest.mark.parametrize(
    ("own", "sentence"),
    [
        ({"size": "224"}, "size must be a whole number above 0, not '224'"),
        ({"size": {"shortest_edge": 0}}, "size must be a whole number above 0, not 0"),
        ({"image_mean": [0.5, 0.5]}, "image_mean must be three numbers, not [0.5, 0.5]"),
        ({"image_std": [0.5, 0.5, 0]}, "image_std must be three numbers above 0, not [0.5, 0.5, 0]"),
    ],
)
def test_preprocessing_that_makes_no_sense(folder: Path, own: dict[str, Any], sentence: str) -> None:
    write_json(folder / "preprocessor_config.json", own)
    assert f"{folder / 'preprocessor_config.json'}: {sentence}: download it again" == refused(folder)


@pytest.mark.parametrize(
    ("index", "sentence"),
    [
        (
            {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}},
            "lacks model-2.safetensors: download",
        ),
        # No name leads out of the folder, though there is such a file.
        ({"weight_map": {"a": "../outside.safetensors"}}, "lacks outside.safetensors: download the folder again"),
        ({"weight_map": {"a": "sub/model.safetensors"}}, "lacks model.safetensors: download the folder again"),
        ({"weight_map": {}}, "has no weight_map: download the folder again"),
        ({"weight_map": {"a": 1}}, "has no weight_map: download the folder again"),
        ({"weight_map": ["model-1.safetensors"]}, "weight_map must be a JSON object, not ['model-1.safetensors']"),
        ({"metadata": {}}, "has no weight_map: download the folder again"),
    ],
)
def test_shards_that_are_not_there(hollow: State, tmp_path: Path, index: dict[str, Any], sentence: str) -> None:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    for place in ("model-1.safetensors", "sub/model.safetensors", "../outside.safetensors"):
        save_file({"logit_scale": torch.zeros(())}, folder / place)
    write_json(folder / "config.json", hugging_face_config())
    write_json(folder / "model.safetensors.index.json", index)
    assert sentence in refused(folder)


def test_an_absolute_shard_is_not_read(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    outside = (folder / "pytorch_model.bin").rename(tmp_path / "elsewhere" / "pytorch_model.bin")
    write_json(folder / "pytorch_model.bin.index.json", {"weight_map": {"a": str(outside)}})
    assert "lacks pytorch_model.bin: download the folder again" in refused(folder)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({}, "has no model_cfg: download it again"),
        ({"model_cfg": []}, "model_cfg must be a JSON object, not []"),
        (open_clip_config(vision_cfg="ViT"), "vision_cfg must be a JSON object, not 'ViT'"),
        (open_clip_config(text_cfg={"heads": 2.0}), "heads must be a whole number above 0, not 2.0"),
        (open_clip_config(vision_cfg={"width": 128, "head_width": 0}), "head_width must be a whole number above 0"),
        (open_clip_config() | {"preprocess_cfg": {"mean": 0.5}}, "mean must be three numbers, not 0.5"),
        # The same weights in another network.
        (open_clip_config(vision_cfg={"pool_type": "avg"}), "sets pool_type: such variants of CLIP are not known here"),
        (open_clip_config(text_cfg={"pool_type": "last", "no_causal_mask": True}), "sets no_causal_mask, pool_type:"),
        (open_clip_config(text_cfg={"norm_kwargs": {"eps": 1e-6}}), "sets norm_kwargs: such variants"),
    ],
)
def test_open_clip_configurations(hollow: State, tmp_path: Path, config: dict[str, Any], sentence: str) -> None:
    torch.save(hollow, tmp_path / "open_clip_pytorch_model.bin")
    write_json(tmp_path / "open_clip_config.json", config)
    assert sentence in refused(tmp_path)
    assert refused(tmp_path / "open_clip_pytorch_model.bin").startswith(str(tmp_path / "open_clip_config.json"))


def test_unsafe_weights_in_a_folder(hollow: State, folder: Path) -> None:
    content = {**hugging_face_state(hollow), "callback": Runs(folder / "made")}
    torch.save(content, folder / "pytorch_model.bin")
    assert f"{folder / 'pytorch_model.bin'} holds more than weights" in refused(folder)
    assert not (folder / "made").exists()
