"""Choosing, listing and verifying the models that --model can name."""

import os
import shlex
from pathlib import Path

from action_clip.errors import ActionClipError
from action_clip.models.catalog.specs import catalog, find
from action_clip.models.model_graphs import FoundModel, find_model
from action_clip.system.terminal import printable

_CHECKPOINTS = {".pt", ".pth", ".pyth", ".bin", ".safetensors"}


def chosen_model(model: str) -> FoundModel:
    """Return the model of that name or in that folder.

    Raises:
        ActionClipError: there is no such model, or it is a checkpoint that has yet to be exported.
    """
    if find(model) is None and _is_checkpoint(Path(model)):
        raise ActionClipError(
            f"{model} is a checkpoint, and models run as graphs: run action-clip export {shlex.quote(model)} "
            "--out FOLDER once, then use --model FOLDER"
        )
    return find_model(model)


def _is_checkpoint(path: Path) -> bool:
    """Return whether the path is a file of PyTorch weights, or a folder with some and without graphs."""
    # os.path's functions, unlike Path's, raise nothing for a name that cannot be a path.
    if os.path.isfile(path):
        return path.suffix.lower() in _CHECKPOINTS
    suffixes = {file.suffix.lower() for file in path.glob("*")} if os.path.isdir(path) else set()
    return bool(suffixes & _CHECKPOINTS) and ".onnx" not in suffixes


def graph_hashes(model: FoundModel, *, keep: bool) -> list[list[str]] | None:
    """Return the sha256 of each graph of the model and of files with its weights; None where one is not on this disk.

    `keep`: whether to record them, so that the files are not read again. Raises ActionClipError where one cannot be
    read.
    """
    from action_clip.models.catalog.structure import check_graph
    from action_clip.models.store.hashes import read_sha256, sha256_of
    from action_clip.models.store.locations import locate

    paths = model.paths or locate(model.spec)
    if paths is None:
        return None
    read = sha256_of if keep else read_sha256
    hashes = []
    for _, path in sorted(paths.items()):
        try:
            weights = check_graph(path)
        except (OSError, ValueError):  # which is said when its session is made
            weights = ()
        hashes.append([read(path), *(read(path.parent / name) for name in weights)])
    return hashes


def model_table() -> str:
    """Return a table of the models of the catalog, a line for each."""
    from action_clip.models.store.locations import locate

    rows = [("name", "frames", "size", "on this disk", "published accuracy", "licence")]
    for spec in catalog():
        names = ", ".join((spec.name, *spec.aliases))
        absent = "no: downloaded at first use" if spec.checkpoint is None else f"no: action-clip export {spec.name}"
        here = "yes" if locate(spec) else absent
        rows.append((names, str(spec.frames), f"{spec.size / 1e6:.0f} MB", here, spec.accuracy, spec.licence))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(lines) + "\n"


def verification(model: str) -> str:
    """Return a text with the sha256 of the model's files, read anew, and the known hash that each is equal to.

    Raises ActionClipError where one differs or is missing.
    """
    from action_clip.models.store.verification import verify

    lines = []
    for file in verify(chosen_model(model).spec):
        known = "nothing to compare it with" if file.against == "nothing" else f"equal to {file.against}"
        lines.append(f"{printable(str(file.path))}\n  sha256 {file.sha256}, {known}\n")
    return "".join(lines)
