"""Where a model's files are on this disk, and advice for a file that is missing or damaged."""

import os
from pathlib import Path

from action_clip.errors import ActionClipError
from action_clip.models.catalog.specs import ModelFile, ModelSpec
from action_clip.models.store.home import NoHomeError, home

USE_NANO = "or use --model nano, which needs no download"
_MODELS = Path(__file__).parents[1]


def directory_of(spec: ModelSpec) -> Path:
    """Return the directory of the model's files: in home(), unless it is embedded or a directory of the user's."""
    return home() / spec.name if spec.folder is None else _MODELS / spec.folder


def locate(spec: ModelSpec) -> dict[str, Path] | None:
    """Return the graphs' paths by role; None when one is not on this disk. Never connects, never writes."""
    paths = {file.role: path for file in spec.files if (path := find_file(spec, file)) is not None}
    return paths if len(paths) == len(spec.files) else None


def find_file(spec: ModelSpec, file: ModelFile) -> Path | None:
    """Return the file's path, under the first of its names that exists; None where it is not on this disk."""
    try:
        directory = directory_of(spec)
    except NoHomeError:
        return None
    paths = (directory / name for name in (file.name, *file.also_accepted))
    # Unlike Path.is_file, this is False for a file in a directory that may not be entered.
    return next((path for path in paths if os.path.isfile(path)), None)


def require_file(spec: ModelSpec, file: ModelFile) -> Path:
    """Return the file's path. Raises ActionClipError when it is not on this disk."""
    path = find_file(spec, file)
    if path is None:
        hint = "put it back or reinstall the program"
        if spec.checkpoint is not None:
            hint = export_hint(spec)
        elif spec.folder is None:
            hint = f"run once with --model {spec.name} to download it, or put it there by hand"
        raise ActionClipError(f"{file.name} of the model {spec.name} is missing in {directory_of(spec)}: {hint}")
    return path


def published_sha256(file: ModelFile, path: Path) -> str | None:
    """Return the file's sha256 in the catalog; None where `path` has another accepted name."""
    return file.sha256 if path.name == file.name else None


def export_hint(spec: ModelSpec) -> str:
    """Return advice for graphs that are not exported yet, for an error message."""
    packages = "it needs pip install 'action-clip[export]', in a clone '.[export]'"
    return f"run action-clip export {spec.name} once ({packages}), {USE_NANO}"


def repair_hint(spec: ModelSpec) -> str:
    """Return advice for a damaged file of the model, for an error message: it depends on the file's origin."""
    if spec.checkpoint is not None:
        return f"run action-clip export {spec.name} to export it again"
    if spec.folder is None:
        return "delete it to download it again"
    is_embedded = any(file.sha256 for file in spec.files)
    return "reinstall the program" if is_embedded else "export it again, or get it anew from where it is from"
