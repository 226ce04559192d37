"""Checkpoints of CLIP and ActionCLIP in the layouts that people have them in, read into one.

A file never gets to run code of its own: PyTorch's weights_only reader for pickles, safetensors, and TorchScript, which
is not Python. What cannot be read so is refused, unless the user says that its source is trusted.
"""

import errno
import hashlib
import json
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file
from torch import Tensor

from errors import ActionClipError
from models import fields
from models.catalog import CLIP_MEAN, CLIP_STD

T = TypeVar("T")
State = dict[str, Tensor]
Rules = tuple[tuple[str, str], ...]
Colours = tuple[float, float, float]

HF_CONFIG, OPEN_CLIP_CONFIG = "config.json", "open_clip_config.json"
# In this order: where a folder has both, the first is taken.
_WEIGHTS = {
    HF_CONFIG: ("model.safetensors", "pytorch_model.bin"),
    OPEN_CLIP_CONFIG: ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
}
_PREPROCESSOR = "preprocessor_config.json"

# Hugging Face's names → OpenAI's. Linear layers there, bare matrices here: the two projections are transposed.
_FROM_HUGGING_FACE: Rules = (
    (r"^vision_model\.embeddings\.(class_embedding)$", r"visual.\1"),
    (r"^vision_model\.embeddings\.patch_embedding\.", "visual.conv1."),
    (r"^vision_model\.embeddings\.position_embedding\.weight$", "visual.positional_embedding"),
    (r"^vision_model\.pre_layrnorm\.", "visual.ln_pre."),
    (r"^vision_model\.post_layernorm\.", "visual.ln_post."),
    (r"^vision_model\.encoder\.layers\.", "visual.transformer.resblocks."),
    (r"^visual_projection\.weight$", "visual.proj"),
    (r"^text_model\.embeddings\.token_embedding\.", "token_embedding."),
    (r"^text_model\.embeddings\.position_embedding\.weight$", "positional_embedding"),
    (r"^text_model\.encoder\.layers\.", "transformer.resblocks."),
    (r"^text_model\.final_layer_norm\.", "ln_final."),
    (r"^text_projection\.weight$", "text_projection"),
    (r"(resblocks\.\d+)\.self_attn\.", r"\1.attn."),
    (r"(resblocks\.\d+)\.layer_norm(\d)\.", r"\1.ln_\2."),
    (r"(resblocks\.\d+)\.mlp\.fc1\.", r"\1.mlp.c_fc."),
    (r"(resblocks\.\d+)\.mlp\.fc2\.", r"\1.mlp.c_proj."),
)
# PyTorch's TransformerEncoder, in ActionCLIP's head Transf_cls.
_FROM_ENCODER: Rules = (
    (r"^transformer\.(cls_token|pos_embed)$", r"\1"),
    (r"^transformer\.transformer_enc\.norm\.", "norm."),
    (r"^transformer\.transformer_enc\.layers\.(\d+)\.self_attn\.", r"transformer.resblocks.\1.attn."),
    (r"^transformer\.transformer_enc\.layers\.(\d+)\.norm(\d)\.", r"transformer.resblocks.\1.ln_\2."),
    (r"^transformer\.transformer_enc\.layers\.(\d+)\.linear1\.", r"transformer.resblocks.\1.mlp.c_fc."),
    (r"^transformer\.transformer_enc\.layers\.(\d+)\.linear2\.", r"transformer.resblocks.\1.mlp.c_proj."),
)
# What checkpoints carry beside weights: sizes that the weights tell too, positions counted from 0, masks.
_NOT_WEIGHTS = re.compile(
    r"^(input_resolution|context_length|vocab_size|attn_mask)$|^(text|vision)_model\.embeddings\.position_ids$"
)


@dataclass(frozen=True)
class Preprocessing:
    """Of frames, as a checkpoint's own configuration says: pixels of the short side, mean and std of each colour."""

    resize: int | None
    mean: Colours
    std: Colours


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The weights of a checkpoint under this project's names, in float32, and what else it says of the networks."""

    layout: str
    """Whose it is, for people: "OpenAI CLIP", …"""
    sha256: str
    """Of the file; of a sharded checkpoint, of its files one after the other."""
    clip: State
    """Both towers: the image tower's names begin with "visual."."""
    fusion: State | None
    """The frame head; None where there is none, because the checkpoint is a CLIP for single images."""
    fusion_epsilon: float = 1e-5
    epsilons: tuple[float, float] = (1e-5, 1e-5)
    """Of the LayerNorms of the text and the image tower."""
    activation: str | None = None
    """"quickgelu" or "gelu"; None where the checkpoint does not say."""
    heads: tuple[int | None, int | None] = (None, None)
    """Attention heads of the text and the image tower; None where the checkpoint does not say."""
    temporal: str | None = None
    """"shift" or "joint" where the image tower mixes the frames of a clip."""
    preprocessing: Preprocessing | None = None


def read_checkpoint(path: Path, *, trust: bool = False) -> Checkpoint:
    """Read a checkpoint file or folder of any known layout.

    Layouts: official ActionCLIP, mmaction2's ActionCLIP, OpenAI's CLIP (TorchScript or state dict), open_clip (state
    dict, training checkpoint or folder), Hugging Face's CLIPModel (folder, sharded or not).

    Args:
        path: a file, or a folder with config.json or open_clip_config.json.
        trust: let the file's pickle run any code, where PyTorch's safe reader refuses it.

    Raises:
        ActionClipError: the file is missing, damaged, unsafe, or of no known layout.
    """
    try:
        if not path.exists():
            raise ActionClipError(f"there is no checkpoint {path}: give a file, a folder or a name of the catalog")
        if path.is_dir():
            return _read_folder(path, trust)
        checkpoint = _recognised(_load(path, trust), _sha256([path]), path)
        # A plain state dict is OpenAI's or open_clip's, and only a configuration beside it tells.
        config = path.with_name(OPEN_CLIP_CONFIG)
        if checkpoint.activation is None and config.is_file():
            return _with_open_clip_config(checkpoint, config)
    except OSError as error:
        fault = f"{error.filename or path} cannot be read ({error.strerror or error})"
        raise ActionClipError(f"{fault}: check the file") from error
    return checkpoint


def _read_folder(folder: Path, trust: bool) -> Checkpoint:
    for config_name, names in _WEIGHTS.items():
        if not (folder / config_name).is_file():
            continue
        for name in names:
            if files := _shards(folder, name):
                state: State = {}
                for file in files:
                    state |= _weights(_load(file, trust), file)
                sha256 = _sha256(files)
                if config_name == HF_CONFIG:
                    return _hugging_face(state, sha256, folder)
                checkpoint = _recognised(state, sha256, folder)
                return _with_open_clip_config(checkpoint, folder / OPEN_CLIP_CONFIG)
    raise ActionClipError(
        f"{folder} is no checkpoint: it needs config.json with model.safetensors or pytorch_model.bin (Hugging Face), "
        "or open_clip_config.json with open_clip_model.safetensors or open_clip_pytorch_model.bin"
    )


def _shards(folder: Path, name: str) -> list[Path]:
    """The files that make up the weights `name`, which may have an index of its shards instead; [] if not there."""
    if (folder / name).is_file():
        return [folder / name]
    index = folder / f"{name}.index.json"
    if not index.is_file():
        return []
    names = _table(_json(index), "weight_map", index)
    if not names or not all(isinstance(shard, str) for shard in names.values()):
        raise ActionClipError(f"{index} has no weight_map: download the folder again")
    shards = [folder / shard for shard in sorted(set(names.values()))]
    missing = [shard.name for shard in shards if shard.parent != folder or not shard.is_file()]
    if missing:
        raise ActionClipError(f"{folder} lacks {', '.join(missing)}: download the folder again")
    return shards


def _load(path: Path, trust: bool) -> Any:
    """The file's content: a module's state dict, or whatever object was saved."""
    try:
        _refuse_text(path)
        if path.suffix == ".safetensors":
            return load_file(path)
        if not zipfile.is_zipfile(path):
            return torch.load(path, map_location="cpu", weights_only=not trust)
        with zipfile.ZipFile(path) as archive:
            is_script = any(name.endswith("/constants.pkl") for name in archive.namelist())
        if is_script:
            return dict(torch.jit.load(path, map_location="cpu").state_dict())  # type: ignore[no-untyped-call]
        # Mapped: the optimiser's state, two thirds of a training checkpoint, is never read.
        return torch.load(path, map_location="cpu", weights_only=not trust, mmap=True)
    except Exception as error:  # a damaged file makes its readers raise almost anything
        # EINVAL: PyTorch looked for the end of an archive before its beginning.
        if isinstance(error, ActionClipError) or (isinstance(error, OSError) and error.errno != errno.EINVAL):
            raise
        raise ActionClipError(f"{path} {_fault(error, path, trust)}") from error


def _fault(error: Exception, path: Path, trust: bool) -> str:
    """What is wrong with a file that could not be read, and what to do."""
    if trust and isinstance(error, ImportError | AttributeError):
        return f"needs code that is not here ({error}): install it or save the weights alone"
    if not isinstance(error, UnpicklingError):
        reason = re.split(r"\.\s|\n", str(error).strip())[0] or type(error).__name__
        return f"is damaged or no checkpoint ({reason}): download it again"
    # An archive's checksums are right, so what cannot be read is what the safe reader does not allow.
    found = re.search(r"GLOBAL (\S+)", str(error))
    if found is None and not zipfile.is_zipfile(path):
        return "is not a PyTorch checkpoint: download it again"
    return (
        f"holds more than weights ({found[1] if found else 'other objects'}), and reading that may run any code: save "
        "its state dict alone, or give --trust if you trust where it comes from"
    )


def _refuse_text(path: Path) -> None:
    """Downloads go wrong in two common ways that leave a text file."""
    with path.open("rb") as file:
        start = file.read(64).lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        raise ActionClipError(f"{path} is a Git LFS pointer, not the weights: run git lfs pull in its folder")
    if start.startswith((b"<!doctype", b"<html")):
        raise ActionClipError(f"{path} is a web page, not a checkpoint: download the file itself")


def _recognised(content: Any, sha256: str, path: Path) -> Checkpoint:
    """Tell the layout of a file's content by its keys."""
    if isinstance(content, torch.nn.Module):  # only where trusted
        content = content.state_dict()
    if not isinstance(content, Mapping):
        kind = type(content).__name__
        raise ActionClipError(f"{path} holds an object of type {kind}, not a checkpoint: give a state dict")
    if "model_state_dict" in content:
        return _official(content, sha256, path)
    state = _weights(content, path)
    if any(name.startswith("adapter.") for name in state):
        clip = {name.removeprefix("clip."): value for name, value in state.items() if not name.startswith("adapter.")}
        head = {name.removeprefix("adapter."): value for name, value in state.items() if name.startswith("adapter.")}
        return _checkpoint("mmaction2 ActionCLIP", sha256, clip, fusion=head, activation="quickgelu")
    if any(name.startswith(("vision_model.", "text_model.")) for name in state):
        if not path.with_name(HF_CONFIG).is_file():
            raise ActionClipError(f"{path} has Hugging Face's layout: put its {HF_CONFIG} beside it")
        return _hugging_face(state, sha256, path.parent)
    if "input_resolution" in state:
        return _checkpoint("OpenAI CLIP", sha256, state, activation="quickgelu")
    state = {name.removeprefix("text."): value for name, value in state.items()}
    return _checkpoint("CLIP state dict", sha256, state)


def _official(content: Mapping[str, Any], sha256: str, path: Path) -> Checkpoint:
    clip = _tensors(content["model_state_dict"], path)
    head = content.get("fusion_model_state_dict")
    temporal = None
    if any(re.match(r"visual\.transformer\.resblocks\.\d+\.net\.", name) for name in clip):
        temporal = "shift"
        clip = {re.sub(r"^(visual\.transformer\.resblocks\.\d+)\.net\.", r"\1.", n): v for n, v in clip.items()}
    elif "visual.time_embedding" in clip:
        temporal = "joint"
    fusion = None if head is None else _renamed(_tensors(head, path), _FROM_ENCODER)
    return _checkpoint(
        "ActionCLIP", sha256, clip, fusion=fusion, fusion_epsilon=1e-12, activation="quickgelu", temporal=temporal
    )


def _hugging_face(state: State, sha256: str, folder: Path) -> Checkpoint:
    config = _json(folder / HF_CONFIG)
    if config.get("model_type") != "clip":
        raise ActionClipError(
            f"{folder} holds a model of type {config.get('model_type')!r}, not 'clip': give a CLIPModel's folder"
        )
    path = folder / HF_CONFIG
    # What a configuration leaves out is transformers' default; the older text_config_dict is stronger, as it is there.
    text, vision = (
        _table(config, f"{part}_config" if config.get(f"{part}_config_dict") is None else f"{part}_config_dict", path)
        for part in ("text", "vision")
    )
    activations = {_value(part, "hidden_act", fields.text, "quick_gelu", path) for part in (text, vision)}
    if not activations <= {"quick_gelu", "gelu"} or len(activations) > 1:
        raise ActionClipError(f"{folder} has the activations {sorted(activations)}: only quick_gelu or gelu are known")
    named = _renamed(state, _FROM_HUGGING_FACE)
    for name in ("visual.proj", "text_projection"):
        if name in named and named[name].ndim == 2:
            named[name] = named[name].T
    checkpoint = _checkpoint("Hugging Face CLIP", sha256, named, activation=activations.pop().replace("_", ""))
    epsilons = [_value(part, "layer_norm_eps", fields.positive_number, 1e-5, path) for part in (text, vision)]
    return replace(
        checkpoint,
        heads=(
            _value(text, "num_attention_heads", fields.count, 8, path),
            _value(vision, "num_attention_heads", fields.count, 12, path),
        ),
        epsilons=(epsilons[0], epsilons[1]),
        preprocessing=_hugging_face_preprocessing(folder / _PREPROCESSOR),
    )


def _hugging_face_preprocessing(path: Path) -> Preprocessing | None:
    if not path.is_file():
        return None
    config = _json(path)
    if isinstance(size := config.get("size"), dict):
        config["size"] = size.get("shortest_edge")
    resize = _value(config, "size", fields.count, None, path)
    return Preprocessing(resize, *_normalisation(config, "image_mean", "image_std", path))


def _with_open_clip_config(checkpoint: Checkpoint, path: Path) -> Checkpoint:
    config = _json(path)
    if "model_cfg" not in config:
        raise ActionClipError(f"{path} has no model_cfg: download it again")
    model = _table(config, "model_cfg", path)
    text, vision = _table(model, "text_cfg", path), _table(model, "vision_cfg", path)
    for part, pool in ((text, "argmax"), (vision, "tok")):
        # These change what is computed from the same weights; of all else that is not known here the weights tell.
        own = [key for key in ("act_kwargs", "norm_kwargs", "no_causal_mask") if part.get(key)]
        own += ["pool_type"] * (part.get("pool_type", pool) != pool)
        if own:
            raise ActionClipError(f"{path} sets {', '.join(own)}: such variants of CLIP are not known here")
    # What a configuration leaves out is open_clip's default.
    width = _value(vision, "width", fields.count, 768, path)
    images = _table(config, "preprocess_cfg", path)
    return replace(
        checkpoint,
        layout="open_clip",
        activation="quickgelu" if model.get("quick_gelu") else "gelu",
        heads=(
            _value(text, "heads", fields.count, 8, path),
            width // _value(vision, "head_width", fields.count, 64, path),
        ),
        preprocessing=Preprocessing(None, *_normalisation(images, "mean", "std", path)),
    )


def _normalisation(config: Mapping[str, Any], mean: str, std: str, path: Path) -> tuple[Colours, Colours]:
    return (
        _value(config, mean, fields.three_numbers, CLIP_MEAN, path),
        _value(config, std, fields.three_positive_numbers, CLIP_STD, path),
    )


def _checkpoint(
    layout: str,
    sha256: str,
    clip: State,
    *,
    fusion: State | None = None,
    fusion_epsilon: float = 1e-5,
    activation: str | None = None,
    temporal: str | None = None,
) -> Checkpoint:
    return Checkpoint(
        layout=layout,
        sha256=sha256,
        clip=_canonical(clip),
        fusion=None if fusion is None else _canonical(fusion),
        fusion_epsilon=fusion_epsilon,
        activation=activation,
        temporal=temporal,
    )


def _canonical(state: State) -> State:
    """float32, attention's three matrices apart, nothing that is not a weight."""
    canonical: State = {}
    for name, value in state.items():
        if _NOT_WEIGHTS.match(name):
            continue
        stem, _, kind = name.rpartition("in_proj_")
        if stem.endswith("attn.") and value.ndim and len(value) % 3 == 0:
            for projection, part in zip("qkv", value.float().chunk(3), strict=True):
                canonical[f"{stem}{projection}_proj.{kind}"] = part
        else:
            canonical[name] = value.float()
    return canonical


def _renamed(state: State, rules: Rules) -> State:
    renamed = {}
    for name, value in state.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        renamed[name] = value
    return renamed


def _weights(content: Any, path: Path) -> State:
    """A state dict, or that within a checkpoint of its training."""
    inner = content.get("state_dict") if isinstance(content, Mapping) else None
    return _tensors(content if inner is None else inner, path)


def _tensors(content: Any, path: Path) -> State:
    """A state dict, without the prefixes that DataParallel and torch.compile put before every name."""
    if not isinstance(content, Mapping):
        raise ActionClipError(f"{path} holds no state dict (names and tensors): give the checkpoint of a CLIP model")
    for name, value in content.items():
        if not _is_plain(value):
            raise ActionClipError(
                f"{path} holds no state dict ({name!r} is of type {type(value).__name__}, not a plain tensor): "
                "give the checkpoint of a CLIP model"
            )
    return {re.sub(r"^((module|_orig_mod)\.)+", "", str(name)): value for name, value in content.items()}


def _is_plain(value: Any) -> bool:
    """A tensor of real numbers that are all there, one after the other."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and not (value.is_complex() or value.is_quantized or value.is_meta)
    )


def _table(config: Mapping[str, Any], key: str, path: Path) -> dict[str, Any]:
    """A part of a configuration; empty where it is left out or null."""
    return _value(config, key, _object, {}, path)


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("a JSON object")
    return value


def _value(config: Mapping[str, Any], key: str, check: Callable[[Any], T], default: T, path: Path) -> T:
    """A value of a configuration, `default` where it is left out or null."""
    value = config.get(key)
    try:
        return default if value is None else check(value)
    except ValueError as error:
        raise ActionClipError(f"{path}: {key} must be {error}, not {value!r:.60}: download it again") from error


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ActionClipError(f"{path} is not valid JSON: download it again") from error
    if not isinstance(content, dict):
        raise ActionClipError(f"{path} holds no JSON object: download it again")
    return content


def _sha256(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()
