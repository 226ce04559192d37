"""A folder with three graphs is a complete model: what it needs to be fed is in the graphs' own metadata."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from errors import ActionClipError
from models.catalog import ROLES, GraphFile, ModelSpec
from models.metadata import read_metadata
from tokenizer.prompts import DEFAULT_PROMPTS


def folder_model(folder: Path) -> tuple[ModelSpec, dict[str, Path]]:
    """The model in `folder` and where its graph of each role is.

    The metadata keys are written by the exporter: role in every graph; model, frames, image_size, resize, mean, std,
    logit_scale, prompts (JSON) and licence are read from the image graph.

    Raises:
        ActionClipError: a role is missing or doubled, or a value is missing or malformed.
    """
    paths: dict[str, Path] = {}
    for path in sorted(folder.glob("*.onnx")):
        role = read_metadata(path).get("role")
        if role not in ROLES:
            continue
        if role in paths:
            raise ActionClipError(
                f"{folder} has two {role} graphs, {paths[role].name} and {path.name}: keep one of them"
            )
        paths[role] = path
    missing = [role for role in ROLES if role not in paths]
    if missing:
        raise ActionClipError(
            f"{folder} is not a model: no graph in it says that it is the {' or the '.join(missing)} graph "
            "(ONNX metadata key 'role'); export the model again with python -m export"
        )
    metadata = read_metadata(paths["image"])

    def value(key: str, parse: Callable[[Any], Any]) -> Any:
        try:
            return parse(json.loads(metadata[key]))
        except KeyError:
            raise ActionClipError(f"{paths['image']} lacks the metadata key '{key}': export it again") from None
        except (ValueError, TypeError) as error:
            raise ActionClipError(
                f"{paths['image']} has {metadata[key]!r} as metadata key '{key}': export it again"
            ) from error

    spec = ModelSpec(
        name=metadata.get("model", folder.resolve().name),
        aliases=(),
        kind="zero-shot",
        description=f"graphs in {folder}",
        frames=value("frames", _count),
        image_size=value("image_size", _count),
        resize=value("resize", _count),
        mean=value("mean", _three),
        std=value("std", _three),
        logit_scale=value("logit_scale", float),
        prompts=value("prompts", _prompts) if "prompts" in metadata else DEFAULT_PROMPTS,
        licence=metadata.get("licence", "not stated"),
        accuracy="not stated",
        citation="",
        size=sum(path.stat().st_size for path in paths.values()),
        folder=str(folder.resolve()),
        files=tuple(GraphFile(role=role, name=paths[role].name) for role in ROLES),
    )
    return spec, paths


def _count(value: Any) -> int:
    if not isinstance(value, int) or value < 1:
        raise ValueError("not a whole number above 0")
    return value


def _three(value: Any) -> tuple[float, float, float]:
    red, green, blue = map(float, value)
    return red, green, blue


def _prompts(value: Any) -> tuple[str, ...]:
    if not value or any(prompt.count("{}") != 1 for prompt in value):
        raise ValueError("not prompt templates")
    return tuple(value)
