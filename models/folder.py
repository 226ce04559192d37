"""A folder with three graphs is a complete model: what it needs to be fed is in the graphs' own metadata."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from errors import ActionClipError
from models import fields
from models.catalog import ROLES, ModelFile, ModelSpec
from models.metadata import read_metadata
from tokenizer.prompts import DEFAULT_PROMPTS

T = TypeVar("T")


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

    def value(key: str, parse: Callable[[Any], T]) -> T:
        if key not in metadata:
            raise ActionClipError(f"{paths['image']} lacks the metadata key '{key}': export it again")
        try:
            content = json.loads(metadata[key])
        except (ValueError, RecursionError):
            content = metadata[key]
        try:
            return parse(content)
        except ValueError as error:
            raise ActionClipError(
                f"{paths['image']} has {metadata[key]!r} as metadata key '{key}', which must be {error}: "
                "export it again"
            ) from error

    image_size, resize = value("image_size", fields.count), value("resize", fields.count)
    if resize < image_size:
        raise ActionClipError(f"{paths['image']} has a resize of {resize} below its image_size: export it again")
    spec = ModelSpec(
        name=metadata.get("model", folder.resolve().name),
        aliases=(),
        kind="zero-shot",
        description=f"graphs in {folder}",
        frames=value("frames", fields.frame_count),
        image_size=image_size,
        resize=resize,
        mean=value("mean", fields.three_numbers),
        std=value("std", fields.three_positive_numbers),
        logit_scale=value("logit_scale", fields.positive_number),
        prompts=value("prompts", fields.prompts) if "prompts" in metadata else DEFAULT_PROMPTS,
        licence=metadata.get("licence", "not stated"),
        accuracy="not stated",
        citation="",
        size=sum(path.stat().st_size for path in paths.values()),
        folder=str(folder.resolve()),
        checkpoint=None,
        files=tuple(ModelFile(role=role, name=paths[role].name) for role in ROLES),
    )
    return spec, paths
