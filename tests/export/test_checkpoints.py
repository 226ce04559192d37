"""Checkpoints of every layout, as people have them."""

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_files import (
    OTHER_MEAN,
    OTHER_STD,
    SIZES,
    assert_same,
    features,
    hugging_face_config,
    open_clip_config,
    plain,
    plain_checkpoint,
    read,
    refused,
    write_json,
)
from random_checkpoints import (
    Sizes,
    State,
    as_openai_stores,
    fusion_state,
    hugging_face_state,
    openai_state,
    prefixed,
    save_hollow,
    save_torchscript,
    with_openai_facts,
    with_temporal_shift,
)
from safetensors.torch import save_file
from torch import Tensor

from action_clip.export.clip.assemble import Networks, assemble
from action_clip.export.clip.model import ClipModel
from action_clip.export.transformer import Block

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
FUSIONS = ("meanP", "Conv_1D", "LSTM", "Transf", "Transf_cls")


@dataclass(frozen=True)
class Facts:
    """What a checkpoint is found to be; the defaults are those of a CLIP of SIZES."""

    layout: str
    frames: int = 8
    fusion_name: str = "meanP"
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


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a checkpoint goes."""
    return tmp_path / "checkpoint.pt"


def first_blocks(networks: Networks) -> tuple[Block, Block]:
    """Of the text and the image tower."""
    text, image = networks.text.transformer.resblocks[0], networks.image.transformer.resblocks[0]
    assert isinstance(text, Block)
    assert isinstance(image, Block)
    return text, image


def assert_facts(networks: Networks, facts: Facts, *files: Path) -> None:
    text, image = first_blocks(networks)
    found = Facts(
        networks.checkpoint.layout, networks.frames, networks.fusion_name, networks.activation,
        (text.attn.heads, image.attn.heads), networks.image.image_size, networks.resize, networks.mean, networks.std,
        networks.logit_scale, networks.image.temporal,
    )  # fmt: skip
    assert found == replace(facts, logit_scale=networks.logit_scale)
    assert networks.logit_scale == pytest.approx(facts.logit_scale, rel=1e-6)
    content = b"".join(path.read_bytes() for path in files)
    assert networks.checkpoint.sha256 == hashlib.sha256(content).hexdigest()
    assert not any(parameter.requires_grad for parameter in networks.image.parameters())


# OpenAI


def test_openai_state_dict(clip: State, tmp_path: Path) -> None:
    assert_facts(plain(tmp_path, clip), Facts("OpenAI CLIP"), tmp_path / "plain.pt")


def test_openai_torchscript_archive(clip: State, file: Path, tmp_path: Path) -> None:
    stored = as_openai_stores(clip)
    assert {value.dtype for value in stored.values()} == {torch.float16, torch.float32}
    save_torchscript(with_openai_facts(stored), file)
    networks = read(file)
    assert_facts(networks, Facts("OpenAI CLIP"), file)
    assert_same(networks, plain(tmp_path, stored))
    assert features(networks)["text"].dtype == torch.float32


@pytest.mark.parametrize("protocol", [3, 4])
@pytest.mark.parametrize("zipped", [True, False])
def test_newer_pickles(clip: State, file: Path, tmp_path: Path, protocol: int, zipped: bool) -> None:
    torch.save(with_openai_facts(clip), file, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    assert_same(read(file), plain(tmp_path, clip))


# ActionCLIP


def half(state: Mapping[str, Tensor]) -> State:
    return {name: value.half() for name, value in state.items()}


@pytest.mark.parametrize(
    ("fusion_name", "prefix", "stored", "legacy"),
    [
        *((fusion_name, "", dict, False) for fusion_name in FUSIONS),
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
    fusion_name: str,
    prefix: str,
    stored: Callable[[Mapping[str, Tensor]], State],
    legacy: bool,
) -> None:
    # As trained: the towers in whatever CLIP was loaded in, the fusion in float32, or all in one type.
    towers = stored(clip)
    fusion = fusion_state(fusion_name, SIZES.embedding, frames=5)
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
    networks = read(file, fusion=fusion_name)
    frames = 5 if fusion_name == "Transf_cls" else 8
    assert_facts(networks, replace(ACTION_CLIP, fusion_name=fusion_name, frames=frames), file)
    assert_same(networks, plain(tmp_path, towers, fusion))
    if fusion_name == "meanP":
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
        {"model_state_dict": prefixed(towers, "module."), "fusion_model_state_dict": fusion_state("LSTM", 64)}, file
    )
    networks = read(file)
    assert_facts(networks, replace(ACTION_CLIP, fusion_name="LSTM", frames=3, temporal="joint"), file)
    openai = assemble(replace(plain_checkpoint(tmp_path, towers), temporal="joint"))
    assert torch.equal(features(networks)["image"], features(openai)["image"])
    assert torch.equal(networks.image.time_embedding, towers["visual.time_embedding"])


@pytest.mark.parametrize(("positions", "requested", "frames"), [(6, None, 6), (6, 4, 4), (77, None, 8), (77, 16, 16)])
def test_frames_follow_the_positions(
    clip: State, file: Path, tmp_path: Path, positions: int, requested: int | None, frames: int
) -> None:
    fusion = fusion_state("Transf", SIZES.embedding, positions=positions)
    meta = {"epoch": 50, "cfg": "model = dict(type='ActionClip')", "mmengine_version": "0.7.1"}
    state = half(prefixed(clip, "clip.")) | half(prefixed(fusion, "adapter."))
    torch.save({"meta": meta, "state_dict": state, "message_hub": {"log_scalars": {}}}, file)
    networks = read(file, frames=requested)
    assert_facts(
        networks, replace(ACTION_CLIP, layout="mmaction2 ActionCLIP", fusion_name="Transf", frames=frames), file
    )
    # The fusion's norms have another epsilon than the official code's.
    official = plain_checkpoint(tmp_path, half(clip), half(fusion))
    assert (networks.checkpoint.fusion_epsilon, official.fusion_epsilon) == (1e-5, 1e-12)
    # So have the frames that it is evaluated on.
    assert (networks.checkpoint.uniform, official.uniform) == ("midpoints", "segments")
    assert ClipModel(networks).spec("mine", "").uniform == "midpoints"
    assert_same(networks, assemble(replace(official, fusion_epsilon=1e-5), frames=frames))


# open_clip


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
    save_hollow(openai_state(Sizes(width=width, layers=1, text_width=text_width, text_layers=1), seed=None), file)
    write_json(file.with_name("open_clip_config.json"), {"model_cfg": {"text_cfg": None, "vision_cfg": vision}})
    assert_facts(read(file), Facts("open_clip", activation="gelu", heads=heads, logit_scale=1), file)


# Hugging Face


HUGGING_FACE = Facts("Hugging Face CLIP", heads=(2, 4))


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
    assert_same(networks, as_open_clip(clip, tmp_path, "quickgelu"))


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
    assert_same(networks, as_open_clip(clip, tmp_path, "gelu"))


def test_hugging_face_shards(clip: State, tmp_path: Path) -> None:
    save_hugging_face(clip, tmp_path, "gelu", max_shard_size="1MB")
    files = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(files) > 2
    networks = read(tmp_path)
    assert_facts(networks, replace(HUGGING_FACE, activation="gelu"), *files)
    assert_same(networks, as_open_clip(clip, tmp_path, "gelu"))


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
    save_hollow(state, tmp_path / "pytorch_model.bin")
    networks = read(tmp_path)
    facts = Facts("Hugging Face CLIP", heads=heads, activation=activation, logit_scale=1)
    assert_facts(networks, facts, tmp_path / "pytorch_model.bin")
    assert tuple(block.ln_2.eps for block in first_blocks(networks)) == epsilons


# Sizes


B = {"width": 768, "text_width": 512, "embedding": 512}
L = {"width": 1024, "text_width": 768, "embedding": 768}


@pytest.mark.slow
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
    save_hollow(
        openai_state(Sizes(image_size=image_size, patch=patch, layers=2, text_layers=1, **sizes), seed=None), file
    )
    networks = read(file, activation="gelu")
    facts = Facts("CLIP state dict", activation="gelu", heads=heads, logit_scale=1)
    assert_facts(networks, replace(facts, image_size=image_size, resize=image_size), file)
    assert networks.image.conv1.weight.shape == (sizes["width"], 3, patch, patch)
    assert networks.image.proj.shape == (sizes["width"], sizes["embedding"])
    assert (len(networks.image.transformer.resblocks), len(networks.text.transformer.resblocks)) == (2, 1)
