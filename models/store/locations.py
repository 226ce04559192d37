"""Where a model's files are on this disk, and what helps where one is missing or damaged."""

import os
from pathlib import Path

from action_clip.errors import ActionClipError
from action_clip.models.catalog.specs import ModelFile, ModelSpec
from action_clip.models.store.home import NoHomeError, home

USE_NANO = "or use --model nano, which needs no download"
_MODELS = Path(__file__).parents[1]


def directory_of(spec: ModelSpec) -> Path:
    """Where the model's files are, or will be: in home(), unless it is embedded or a directory of the user's."""
    return home() / spec.name if spec.folder is None else _MODELS / spec.folder


def locate(spec: ModelSpec) -> dict[str, Path] | None:
    """The graphs' paths by role, or None when one is not on this disk. Never connects, never writes."""
    paths = {file.role: path for file in spec.files if (path := find_file(spec, file)) is not None}
    return paths if len(paths) == len(spec.files) else None


def find_file(spec: ModelSpec, file: ModelFile) -> Path | None:
    """The file's path, under the first of its names that there is; None where it is not on this disk."""
    try:
        directory = directory_of(spec)
    except NoHomeError:
        return None
    paths = (directory / name for name in (file.name, *file.also_accepted))
    # Unlike Path.is_file, this is False for what is in a directory that may not be entered.
    return next((path for path in paths if os.path.isfile(path)), None)


def require_file(spec: ModelSpec, file: ModelFile) -> Path:
    """The file's path. Raises ActionClipError when it is not on this disk."""
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
    """The sha256 of the catalog, which does not hold for a file under another accepted name."""
    return file.sha256 if path.name == file.name else None


def export_hint(spec: ModelSpec) -> str:
    """What to do for graphs that are not exported yet."""
    packages = "it needs pip install 'action-clip[export]', in a clone '.[export]'"
    return f"run action-clip export {spec.name} once ({packages}), {USE_NANO}"


def repair_hint(spec: ModelSpec) -> str:
    """What to do where a file of the model is damaged: it depends on where the file is from."""
    if spec.checkpoint is not None:
        return f"run action-clip export {spec.name} to export it again"
    if spec.folder is None:
        return "delete it to download it again"
    is_embedded = any(file.sha256 for file in spec.files)
    return "reinstall the program" if is_embedded else "export it again, or get it anew from where it is from"
