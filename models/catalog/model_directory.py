"""A folder with a model's graphs is a complete model: what it needs to be fed is in the graphs' own metadata."""

import json
import os
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from action_clip.errors import ActionClipError
from action_clip.models.catalog import validators
from action_clip.models.catalog.metadata import read_metadata
from action_clip.models.catalog.specs import ROLES, ModelFile, ModelSpec
from action_clip.tokenizer.prompts import DEFAULT_PROMPTS

# Of a model and of what may lie beside it.
_MOST_FILES = 1000
_MOST_SHOWN = 100  # characters of what is wrong

T = TypeVar("T")


def read_model_directory(folder: Path) -> tuple[ModelSpec, dict[str, Path]]:
    """The model in `folder` and where its graph of each role is.

    The metadata keys are written by the exporter: role in every graph; model, frames, image_size, resize, mean, std,
    uniform, logit_scale, prompts (JSON) and licence are read from the image graph, or from the video graph of a closed
    set, which has classes instead of the last two.

    Raises:
        ActionClipError: a role is missing or doubled, or a value is missing, malformed or beyond all that models have.
    """
    paths: dict[str, Path] = {}
    for path in _graphs_in(folder):
        role = read_metadata(path).get("role")
        if role is None or all(role not in roles for roles in ROLES.values()):
            continue
        if role in paths:
            raise ActionClipError(
                f"{folder} has two {role} graphs, {paths[role].name} and {path.name}: keep one of them"
            )
        paths[role] = path
    kind = "closed-set" if "video" in paths else "zero-shot"
    if foreign := [role for role in paths if role not in ROLES[kind]]:
        raise ActionClipError(f"{folder} has a video graph and the {' and the '.join(foreign)} graph: keep one model")
    missing = [role for role in ROLES[kind] if role not in paths]
    if missing:
        raise ActionClipError(
            f"{folder} is not a model: no graph in it says that it is the {' or the '.join(missing)} graph "
            "(ONNX metadata key 'role'); export the model again with action-clip export"
        )
    # The graph that frames go into says what they must be like.
    first = paths["video" if kind == "closed-set" else "image"]
    metadata = read_metadata(first)

    def parsed(key: str, content: Any, parse: Callable[[Any], T]) -> T:
        try:
            return parse(content)
        except ValueError as error:
            shown = metadata[key][:_MOST_SHOWN] + "…" * (len(metadata[key]) > _MOST_SHOWN)
            raise ActionClipError(
                f"{first} has {shown!r} as metadata key '{key}', which must be {error}: export it again"
            ) from error

    def value(key: str, parse: Callable[[Any], T]) -> T:
        if key not in metadata:
            raise ActionClipError(f"{first} lacks the metadata key '{key}': export it again")
        try:
            content = json.loads(metadata[key])
        except (ValueError, RecursionError):
            content = metadata[key]
        return parsed(key, content, parse)

    def line(key: str, default: str) -> str:
        text = metadata.get(key, "")
        return parsed(key, text, validators.line) if text.strip() else default

    image_size, resize = value("image_size", validators.pixels), value("resize", validators.pixels)
    if resize < image_size:
        raise ActionClipError(f"{first} has a resize of {resize} below its image_size: export it again")
    frames = value("frames", validators.frame_count)
    if frames * image_size**2 > validators.MOST_PIXELS_OF_A_CLIP:
        raise ActionClipError(f"{first} has {frames} frames of {image_size} pixels, which is too much: export it again")
    prompts = value("prompts", validators.prompts) if "prompts" in metadata else DEFAULT_PROMPTS
    spec = ModelSpec(
        name=line("model", folder.resolve().name),
        aliases=(),
        kind=kind,
        description=f"graphs in {folder}",
        frames=frames,
        image_size=image_size,
        resize=resize,
        mean=value("mean", validators.three_numbers),
        std=value("std", validators.three_positive_numbers),
        uniform=value("uniform", validators.uniform_rule) if "uniform" in metadata else "segments",
        logit_scale=value("logit_scale", validators.positive_number) if kind == "zero-shot" else 1.0,
        prompts=prompts if kind == "zero-shot" else (),
        classes=value("classes", validators.class_names) if kind == "closed-set" else (),
        licence=line("licence", "not stated"),
        accuracy="not stated",
        citation="",
        size=sum(path.stat().st_size for path in paths.values()),
        folder=str(folder.resolve()),
        checkpoint=None,
        files=tuple(ModelFile(role=role, name=paths[role].name) for role in ROLES[kind]),
    )
    return spec, paths


def _graphs_in(folder: Path) -> list[Path]:
    """The ONNX files; what else may have such a name, a folder or a pipe, is none."""
    try:
        paths = list(islice(folder.glob("*.onnx"), _MOST_FILES + 1))
    except OSError as error:
        raise ActionClipError(f"{folder} cannot be read ({error.strerror}): check the folder") from error
    if len(paths) > _MOST_FILES:
        raise ActionClipError(f"{folder} has more than {_MOST_FILES} ONNX files: name a folder with one model")
    return sorted(path for path in paths if os.path.isfile(path))
