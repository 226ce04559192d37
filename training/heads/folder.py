"""The folder of a trained model: written whole or not at all, and read again before it gets its name."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from action_clip.errors import ActionClipError
from action_clip.models.catalog.metadata import read_metadata
from action_clip.models.catalog.model_directory import read_model_directory
from action_clip.models.catalog.specs import HEAD, ModelSpec, find
from action_clip.models.catalog.structure import check_graph
from action_clip.system.files import draft_folder, write_file, writing_into
from action_clip.system.interrupts import terminable
from action_clip.system.terminal import printable
from action_clip.training.heads.facts import TRAINER, head_facts
from action_clip.training.heads.functions import Affine, Cache

CARD = "README.md"
_HEAD_FILE = f"{HEAD}.onnx"
_LARGEST_DIFFERENCE = 1e-3
"""Of the logits of the written graph from what was fitted, relative to the largest: far more than rounding."""


def check_place(folder: Path, *, overwrite: bool) -> None:
    """Raise ActionClipError where a model cannot be written as this folder, or what is there may not be replaced."""
    target = Path(os.path.realpath(folder))
    _check_name(os.path.basename(os.path.abspath(folder)))
    if not target.parent.is_dir():
        raise ActionClipError(f"there is no folder {target.parent}: create it first")
    if not os.access(target.parent, os.W_OK):
        raise ActionClipError(f"{target.parent} cannot be written: name a folder in one of your own")
    if not os.path.lexists(target):
        return
    if not target.is_dir():
        raise ActionClipError(f"{folder} is a file: name a folder")
    if not any(target.iterdir()):
        return
    if (other := _foreign_file(target)) is not None:
        raise ActionClipError(f"{folder} is there already, with {other} in it: name a new folder")
    if not overwrite:
        raise ActionClipError(f"{folder} has a trained model already: name a new folder, or give --overwrite")


def _check_name(name: str) -> None:
    """Raise ActionClipError where a folder's name cannot be that of a model, or is that of another one."""
    if printable(name) != name:
        raise ActionClipError(f"{name} has characters that no text shows: name a folder without them")
    if find(name) is not None:
        raise ActionClipError(f"--model {name} is a model that is there already: give the folder another name")


def write_folder(
    folder: Path,
    spec: ModelSpec,
    graphs: Mapping[str, Path],
    function: Affine | Cache,
    card: str,
    features: NDArray[np.float32],
    *,
    overwrite: bool = False,
) -> None:
    """Write a model as this folder, in place of one that `check_place` allows.

    The base model's graphs are copied as they are: what videos were encoded to with them is found again. It is written
    under another name beside the folder, and read and compared there.

    Args:
        folder: for the model.
        spec: of the new model.
        graphs: the paths of the base model's graphs by role, those that the new model has too.
        function: the head.
        card: the text of README.md.
        features: some, (N, D), for comparing the written graph with the function.
        overwrite: whether it may take the place of another trained model.

    Raises:
        ActionClipError: the folder cannot be written, or the written graph differs.
    """
    target = Path(os.path.realpath(folder))
    with writing_into(folder), draft_folder(target.parent, ".train-") as draft:
        model = draft / "model"
        model.mkdir()
        with terminable():  # not below: the old model lies in the draft for a moment
            for role, path in graphs.items():
                _copy(path, model / f"{role}.onnx")
            _save_head(model / _HEAD_FILE, function, head_facts(spec, graphs))
            write_file(model / CARD, card.encode())
            _compare(model, function, features)
        check_place(folder, overwrite=overwrite)  # another training may have ended meanwhile
        _give_name(model, target, draft / "replaced")


def _copy(path: Path, target: Path) -> None:
    """Copy a graph, and the files that it has weights in."""
    shutil.copyfile(path, target)
    try:
        names = check_graph(path)
    except ValueError as error:
        raise ActionClipError(f"the graph {path} cannot be copied ({error}): get the model anew") from error
    for name in names:
        beside = target.parent / name
        beside.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path.parent / name, beside)


def _save_head(path: Path, function: Affine | Cache, facts: Mapping[str, str]) -> None:
    from action_clip.export.onnx_writing import save_model

    save_model(function.graph(), path, facts)


def _compare(folder: Path, function: Affine | Cache, features: NDArray[np.float32]) -> None:
    """Read the folder as a model, and run its head. Raises ActionClipError where its logits are others."""
    from action_clip.models.runtime.graph import Graph

    _, paths = read_model_directory(folder)
    expected = function(features)
    difference = np.abs(Graph(paths[HEAD], device="cpu")(features) - expected).max()
    if not difference <= _LARGEST_DIFFERENCE * max(float(np.abs(expected).max()), 1.0):
        raise ActionClipError(
            f"the logits of the written head differ from what was fitted by up to {difference:g}: report this"
        )


def _give_name(model: Path, target: Path, aside: Path) -> None:
    """Rename the folder; what is there goes aside, and comes back where that fails."""
    is_replaced = os.path.isdir(target) and any(target.iterdir())
    if is_replaced:
        os.rename(target, aside)
    try:
        os.replace(model, target)
    except BaseException:
        if is_replaced:
            os.rename(aside, target)
        raise


def _foreign_file(folder: Path) -> str | None:
    """Return the name of a file in the folder that `write_folder` has not written; None where all are its own."""
    head = folder / _HEAD_FILE
    try:
        if TRAINER not in read_metadata(head):
            return min(path.name for path in folder.iterdir())
        _, paths = read_model_directory(folder)
        own = {CARD, *(path.name for path in paths.values())}
        own |= {Path(name).parts[0] for path in paths.values() for name in check_graph(path)}
    except (ActionClipError, ValueError, OSError):
        return min(path.name for path in folder.iterdir())
    return min((path.name for path in folder.iterdir() if path.name not in own), default=None)
