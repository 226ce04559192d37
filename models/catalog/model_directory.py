"""Reading a directory with a model's graphs, whose metadata has everything else that the program needs of a model."""

import json
import os
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from action_clip.errors import ActionClipError
from action_clip.models.catalog import validators
from action_clip.models.catalog.metadata import read_metadata
from action_clip.models.catalog.specs import HEAD, ROLES, TRAINED_ROLES, ModelFile, ModelSpec
from action_clip.tokenizer.prompts import DEFAULT_NONE_TEXTS, DEFAULT_PROMPTS

# Most ONNX files in a directory: a model's graphs, and others beside them.
_MOST_FILES = 1000
_MOST_SHOWN = 100  # characters of a wrong value in a message

T = TypeVar("T")
D = TypeVar("D")


def read_model_directory(directory: Path) -> tuple[ModelSpec, dict[str, Path]]:
    """Return the model in `directory`, and the path of its graph of each role.

    The metadata keys are written by the exporter: role in every graph; model, frames, image_size, resize, mean, std,
    uniform, logit_scale, prompts (JSON) and licence are read from the image graph, or from the video graph of a closed
    set, which has classes instead of logit_scale and prompts. Where there is a head, all are read from it, and head,
    classes, multi_label, none_texts, and in `graphs` the names of the other files: these are those of another model,
    byte for byte, so that what videos were encoded to with it is found again.

    Raises:
        ActionClipError: a role is missing or doubled, or a value is missing, malformed or larger than in any model.
    """
    paths = _graphs_by_role(directory)
    if HEAD in paths:
        metadata = _Metadata(paths[HEAD])
        paths = _graphs_with_head(metadata)
        kind = "zero-shot" if "text" in paths else "closed-set"
        head: str = metadata.value("head", validators.head)
    else:
        kind = "closed-set" if "video" in paths else "zero-shot"
        _check_roles(directory, paths, kind)
        paths = {role: paths[role] for role in ROLES[kind]}
        # The graph that frames go into says what they must be like.
        metadata = _Metadata(paths["video" if kind == "closed-set" else "image"])
        head = ""
    is_zero_shot = kind == "zero-shot"
    image_size, resize = metadata.value("image_size", validators.pixels), metadata.value("resize", validators.pixels)
    if resize < image_size:
        raise ActionClipError(f"{metadata.path} has a resize of {resize} below its image_size: export it again")
    frames = metadata.value("frames", validators.frame_count)
    if frames * image_size**2 > validators.MOST_PIXELS_OF_A_CLIP:
        raise ActionClipError(
            f"{metadata.path} has {frames} frames of {image_size} pixels, which is too much: export it again"
        )
    prompts = metadata.value_or("prompts", validators.prompts, DEFAULT_PROMPTS)
    spec = ModelSpec(
        name=metadata.line("model", directory.resolve().name),
        aliases=(),
        kind=kind,
        description=f"graphs in {directory}",
        frames=frames,
        image_size=image_size,
        resize=resize,
        mean=metadata.value("mean", validators.three_numbers),
        std=metadata.value("std", validators.three_positive_numbers),
        uniform=metadata.value_or("uniform", validators.uniform_rule, "segments"),
        logit_scale=metadata.value("logit_scale", validators.positive_number) if is_zero_shot else 1.0,
        prompts=prompts if is_zero_shot else (),
        classes=metadata.value("classes", validators.class_names) if head or not is_zero_shot else (),
        licence=metadata.line("licence", "not stated"),
        accuracy="not stated",
        citation="",
        size=sum(path.stat().st_size for path in paths.values()),
        folder=str(directory.resolve()),
        checkpoint=None,
        files=tuple(ModelFile(role=role, name=path.name) for role, path in paths.items()),
        temporal=metadata.line("temporal", ""),
        none_texts=metadata.value_or("none_texts", validators.none_texts, DEFAULT_NONE_TEXTS) if is_zero_shot else (),
        head=head,
        is_multi_label=bool(head)
        and not is_zero_shot
        and metadata.value_or("multi_label", validators.true_or_false, False),
    )
    return spec, paths


class _Metadata:
    """The metadata of one graph, whose values are checked as they are read.

    Attributes:
        path: the graph's file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._texts = read_metadata(path)

    def value(self, key: str, validate: Callable[[Any], T]) -> T:
        """Return the value, parsed as JSON or else as text. Raises ActionClipError where it is missing or wrong."""
        if key not in self._texts:
            raise ActionClipError(f"{self.path} lacks the metadata key '{key}': export it again")
        try:
            content = json.loads(self._texts[key])
        except (ValueError, RecursionError):
            content = self._texts[key]
        return self._validated(key, content, validate)

    def value_or(self, key: str, validate: Callable[[Any], T], default: D) -> T | D:
        """Return the value; the default where the key is missing. Raises ActionClipError where the value is wrong."""
        return self.value(key, validate) if key in self._texts else default

    def line(self, key: str, default: str) -> str:
        """Return the text, on one line; the default where it is missing or blank."""
        text = self._texts.get(key, "")
        return self._validated(key, text, validators.line) if text.strip() else default

    def _validated(self, key: str, content: Any, validate: Callable[[Any], T]) -> T:
        try:
            return validate(content)
        except ValueError as error:
            text = self._texts[key]
            shown = text[:_MOST_SHOWN] + "…" * (len(text) > _MOST_SHOWN)
            raise ActionClipError(
                f"{self.path} has {shown!r} as metadata key '{key}', which must be {error}: export it again"
            ) from error


def _graphs_by_role(directory: Path) -> dict[str, Path]:
    known = {HEAD, *(role for roles in ROLES.values() for role in roles)}
    paths: dict[str, Path] = {}
    for path in _onnx_files(directory):
        role = read_metadata(path).get("role")
        if role not in known:
            continue
        if role in paths:
            raise ActionClipError(
                f"{directory} has two {role} graphs, {paths[role].name} and {path.name}: keep one of them"
            )
        paths[role] = path
    return paths


def _graphs_with_head(head: _Metadata) -> dict[str, Path]:
    """Return the graphs that the metadata of a head names, by role, and the head.

    Raises ActionClipError where they are not those of a model, or one is missing.
    """
    names = {**head.value("graphs", validators.file_by_role), HEAD: head.path.name}
    roles = next((roles for roles in TRAINED_ROLES if set(roles) == set(names)), None)
    if roles is None:
        raise ActionClipError(
            f"{head.path} belongs to the graphs {', '.join(sorted(names))}, which are no model: train it again with "
            "action-clip train"
        )
    paths = {role: head.path.with_name(names[role]) for role in roles}
    for role, path in paths.items():
        if not os.path.isfile(path):
            raise ActionClipError(
                f"{path}, the {role} graph that {head.path.name} belongs to, is missing: put it back, or train the "
                "model again with action-clip train"
            )
    return paths


def _check_roles(directory: Path, paths: dict[str, Path], kind: str) -> None:
    """Raise ActionClipError unless these are the graphs of one model of that kind."""
    if foreign := [role for role in paths if role not in ROLES[kind]]:
        raise ActionClipError(
            f"{directory} has a video graph and the {' and the '.join(foreign)} graph: keep one model"
        )
    if missing := [role for role in ROLES[kind] if role not in paths]:
        raise ActionClipError(
            f"{directory} is not a model: no graph in it says that it is the {' or the '.join(missing)} graph "
            "(ONNX metadata key 'role'); export the model again with action-clip export"
        )


def _onnx_files(directory: Path) -> list[Path]:
    """Return the ONNX files in a directory, without directories and pipes whose names end in .onnx."""
    try:
        paths = list(islice(directory.glob("*.onnx"), _MOST_FILES + 1))
    except OSError as error:
        raise ActionClipError(f"{directory} cannot be read ({error.strerror}): check the folder") from error
    if len(paths) > _MOST_FILES:
        raise ActionClipError(f"{directory} has more than {_MOST_FILES} ONNX files: name a folder with one model")
    return sorted(path for path in paths if os.path.isfile(path))
