"""Reading checkpoints of any model: files of weights, configurations, names of weights.

No code in a file runs: PyTorch's files are read by export.stored, and safetensors contain none. A file that
cannot be read that way is refused, unless the user says that its source is trusted.
"""

import errno
import hashlib
import json
import re
import warnings
import zipfile
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import safe_open
from torch import Tensor

from action_clip.errors import ActionClipError
from action_clip.export.pickles import Call, MoreThanWeights, foreign_name, is_name
from action_clip.export.stored import NotACheckpoint, read_stored, tensor_of
from action_clip.models.catalog import validators

T = TypeVar("T")
PerChannel = tuple[float, float, float]
State = dict[str, Tensor]
Rules = tuple[tuple[str, str], ...]

HF_CONFIG = "config.json"
# Where a folder has both, the first is read.
HF_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
# The keys of state dicts in files of mmaction2 and open_clip, TimeSformer, ActionCLIP, which hold other objects too.
_STATES = ("state_dict", "model_state", "model_state_dict", "fusion_model_state_dict")
# Most bytes of a configuration, an index of shards, or the header of safetensors (about 100 for each tensor).
_LARGEST_TEXT = 8 << 20
# Most names in a message.
_MOST_LISTED = 30
# The largest CLIP has 1500 tensors.
_MOST_TENSORS = 20_000
_MOST_SHARDS = 1000
_REAL = {
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
}
# Entries that are no weights: sizes that the weights have too, consecutive position numbers, masks.
_NOT_WEIGHTS = re.compile(
    r"^(input_resolution|context_length|vocab_size|attn_mask)$|^(text|vision)_model\.embeddings\.position_ids$"
)


@dataclass(frozen=True)
class Preprocessing:
    """Preprocessing of frames: short side in pixels (None: the model's default), mean and std of each channel."""

    resize: int | None
    mean: PerChannel
    std: PerChannel


def read_path(
    path: Path, read_folder: Callable[[Path], T], read_content: Callable[[Mapping[str, Any], str], T], trust: bool
) -> T:
    """Return the result of `read_folder` for a folder, or of `read_content` for a file's content and sha256.

    `trust`: as for `load`.

    Raises:
        ActionClipError: the path does not exist, or cannot be read.
    """
    try:
        if not path.exists():
            raise ActionClipError(f"there is no checkpoint {path}: give a file, a folder or a name of the catalog")
        if path.is_dir():
            return read_folder(path)
        content = load(path, trust)
        if not isinstance(content, Mapping):
            raise ActionClipError(
                f"{path} holds an object of type {_kind(content)}, not a checkpoint: give a state dict"
            )
        return read_content(content, sha256_of_files([path]))
    except OSError as error:
        fault = f"{error.filename or path} cannot be read ({error.strerror or error})"
        raise ActionClipError(f"{fault}: check the file") from error


def read_weights(folder: Path, names: Iterable[str], trust: bool) -> tuple[State, str] | None:
    """Return the weights in the first of these files that the folder has, sharded or not, and their sha256.

    None where it has none of them. Raises ActionClipError where the weights are damaged or incomplete.
    """
    for name in names:
        if files := _shards(folder, name):
            state: State = {}
            for file in files:
                state |= weights(load(file, trust), file)
                _check_count(state, folder)
            return state, sha256_of_files(files)
    return None


def _shards(folder: Path, name: str) -> list[Path]:
    """Return the file `name`, or the shards in its index; [] where the folder has neither."""
    if (folder / name).is_file():
        return [folder / name]
    index = folder / f"{name}.index.json"
    if not index.is_file():
        return []
    names = table(read_json(index), "weight_map", index)
    if not names or not all(isinstance(shard, str) for shard in names.values()):
        raise ActionClipError(f"{index} has no weight_map: download the folder again")
    shards = [folder / shard for shard in sorted(set(names.values()))]
    if len(shards) > _MOST_SHARDS:
        raise ActionClipError(f"{index} names more than {_MOST_SHARDS} files: download the folder again")
    missing = [shard.name for shard in shards if shard.parent != folder or not shard.is_file()]
    if missing:
        raise ActionClipError(f"{folder} lacks {listed(missing)}: download the folder again")
    if len({shard.resolve() for shard in shards}) < len(shards):
        raise ActionClipError(f"{index} names a file twice: download the folder again")
    return shards


def load(path: Path, trust: bool) -> Any:
    """Return a file's content: a module's state dict, or the object that was saved, in which `tensors` finds tensors.

    Raises:
        ActionClipError: it cannot be read, or only by running code where that is not trusted.
        OSError: reading fails.
    """
    _refuse_non_checkpoints(path)
    try:
        content = _safetensors(path) if path.suffix == ".safetensors" else read_stored(path)
        _refuse_foreign(content)
        return content
    except NotACheckpoint as error:
        raise ActionClipError(f"{path} is not a PyTorch checkpoint: download it again") from error
    except MoreThanWeights as error:
        if not trust:
            raise ActionClipError(
                f"{path} holds more than weights ({error!s:.200}), and reading that may run any code: save its state "
                "dict alone, or give --trust if you trust where it comes from"
            ) from error
    except Exception as error:  # a damaged file makes its readers raise almost anything
        # EINVAL: zipfile sought a position before the beginning of the file.
        if isinstance(error, ActionClipError) or (isinstance(error, OSError) and error.errno != errno.EINVAL):
            raise
        raise _damaged(path, error) from error
    return _trusted(path)


def _refuse_foreign(content: Any) -> None:
    """Raise MoreThanWeights where a foreign object is among the weights; objects beside them are ignored."""
    states = [content[key] for key in _STATES if key in content] if isinstance(content, Mapping) else []
    name = foreign_name(states or content)
    if name is not None:
        raise MoreThanWeights(name)


def _refuse_non_checkpoints(path: Path) -> None:
    """Raise ActionClipError for pipes, devices, empty files, and text files that failed downloads leave."""
    if not path.is_file():
        raise ActionClipError(f"{path} is a pipe or a device, not a checkpoint: give a file or a folder")
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        raise ActionClipError(f"{path} is empty: download it again")
    start = start.lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        raise ActionClipError(f"{path} is a Git LFS pointer, not the weights: run git lfs pull in its folder")
    if start.startswith((b"<!doctype", b"<html")):
        raise ActionClipError(f"{path} is a web page, not a checkpoint: download the file itself")


def _safetensors(path: Path) -> State:
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
    if size > _LARGEST_TEXT:
        raise ValueError("its header is too long")
    with safe_open(path, "pt") as opened:
        names = opened.keys()
        _check_count(names, path)
        return {name: opened.get_tensor(name) for name in names}


def _trusted(path: Path) -> Any:
    """Return the content of a file that may run code while it is read. Raises ActionClipError where reading fails."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Mapped: the optimiser's state, two thirds of a training checkpoint, is never read.
            content = torch.load(path, map_location="cpu", weights_only=False, mmap=zipfile.is_zipfile(path))
    except Exception as error:
        if isinstance(error, ImportError | AttributeError):
            raise ActionClipError(
                f"{path} needs code that is not here ({error}): install it or save the weights alone"
            ) from error
        raise _damaged(path, error) from error
    return content.state_dict() if isinstance(content, torch.nn.Module) else content


def _damaged(path: Path, error: Exception) -> ActionClipError:
    reason = re.split(r"\.\s|\n", str(error).strip())[0] or type(error).__name__
    return ActionClipError(f"{path} is damaged or no checkpoint ({reason:.200}): download it again")


def canonical(state: State) -> State:
    """Return the weights in float32, with three matrices for queries, keys and values, and without other entries."""
    plain: State = {}
    for name, value in state.items():
        if _NOT_WEIGHTS.match(name):
            continue
        stem, _, kind = name.rpartition("in_proj_")
        if stem.endswith("attn.") and value.ndim and len(value) % 3 == 0:
            for projection, part in zip("qkv", value.float().chunk(3), strict=True):
                plain[f"{stem}{projection}_proj.{kind}"] = part
        else:
            plain[name] = value.float()
    return plain


def renamed(state: State, rules: Rules) -> State:
    """Return the weights under new names: each rule, a pattern and its replacement, is applied in turn."""
    result = {}
    for name, value in state.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        result[name] = value
    return result


def weights(content: Any, path: Path) -> State:
    """Return the state dict that `content` is, or has as `state_dict`. Raises ActionClipError as `tensors` does."""
    inner = content.get("state_dict") if isinstance(content, Mapping) else None
    return tensors(content if inner is None else inner, path)


def tensors(content: Any, path: Path) -> State:
    """Return the tensors of a state dict by name, without the prefixes of DataParallel and torch.compile.

    Raises ActionClipError where `content` is no state dict, or has too many tensors.
    """
    if not isinstance(content, Mapping):
        raise ActionClipError(f"{path} holds no state dict (names and tensors): give that of one of the known models")
    state: State = {}
    _check_count(content, path)
    for key, stored in content.items():
        name = str(key)
        if not isinstance(key, str | int) or not is_name(name):
            raise ActionClipError(
                f"{path} holds no state dict (a key is no name of a weight): give that of one of the known models"
            )
        try:
            value = tensor_of(stored)
        except Exception as error:
            raise _damaged(path, error) from error
        if not _is_plain(value):
            raise ActionClipError(
                f"{path} holds no state dict ({key!r} is of type {_kind(value)}, not a plain tensor): "
                "give that of one of the known models"
            )
        state[re.sub(r"^((module|_orig_mod)\.)+", "", name)] = value
    return state


def _check_count(names: Collection[Any], path: Path) -> None:
    if len(names) > _MOST_TENSORS:
        raise ActionClipError(f"{path} holds more than {_MOST_TENSORS} tensors: give the weights of one known model")


def _kind(value: Any) -> str:
    """Return the type of a value in a checkpoint, for messages."""
    if not isinstance(value, Call):
        return type(value).__name__
    return "Tensor" if "._rebuild_" in value.function else value.function.rpartition(".")[2]


def _is_plain(value: Any) -> bool:
    """Return whether the value is a dense tensor of real numbers in memory."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.dtype in _REAL
        and not (value.is_quantized or value.is_meta)
    )


def listed(names: Sequence[str]) -> str:
    """Return the first names, and the number of the others, for messages."""
    more = len(names) - _MOST_LISTED
    return ", ".join(names[:_MOST_LISTED]) + (f" and {more} more" if more > 0 else "")


def table(config: Mapping[str, Any], key: str, path: Path) -> dict[str, Any]:
    """Return an object within a configuration; {} where it is absent or null. Raises ActionClipError as `value_of`."""
    return value_of(config, key, json_object, {}, path)


def json_object(value: Any) -> dict[str, Any]:
    """Return the value, which must be a JSON object; else raise ValueError, as models.catalog.validators do."""
    if not isinstance(value, dict):
        raise ValueError("a JSON object")
    return value


def value_of(config: Mapping[str, Any], key: str, check: Callable[[Any], T], default: T, path: Path) -> T:
    """Return a value of a configuration, `default` where it is absent or null.

    Raises ActionClipError where `check` raises ValueError; the message names `path`.
    """
    value = config.get(key)
    try:
        return default if value is None else check(value)
    except ValueError as error:
        raise ActionClipError(f"{path}: {key} must be {error}, not {value!r:.60}: download it again") from error


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file. Raises ActionClipError where it has none."""
    if path.stat().st_size > _LARGEST_TEXT:
        raise ActionClipError(f"{path} is longer than any configuration: download it again")
    try:
        content = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ActionClipError(f"{path} is not valid JSON: download it again") from error
    if not isinstance(content, dict):
        raise ActionClipError(f"{path} holds no JSON object: download it again")
    return content


def hf_preprocessing(folder: Path, default: Preprocessing) -> Preprocessing:
    """Return the preprocessing in a Hugging Face folder's preprocessor_config.json.

    Values of `default` replace absent ones, or an absent file. Raises ActionClipError for values that are not valid.
    """
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        return default
    config = read_json(path)
    if isinstance(size := config.get("size"), dict):
        config["size"] = size.get("shortest_edge")
    resize = value_of(config, "size", validators.pixels, default.resize, path)
    return Preprocessing(resize, *normalisation(config, "image_mean", "image_std", default, path))


def normalisation(
    config: Mapping[str, Any], mean: str, std: str, default: Preprocessing, path: Path
) -> tuple[PerChannel, PerChannel]:
    """Return the mean and std that a configuration has under these keys, or those of `default`."""
    return (
        value_of(config, mean, validators.three_numbers, default.mean, path),
        value_of(config, std, validators.three_positive_numbers, default.std, path),
    )


def sha256_of_files(files: Iterable[Path]) -> str:
    """Return the sha256 of the concatenated files, in hexadecimal digits."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()
