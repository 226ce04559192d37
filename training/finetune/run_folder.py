"""The folder of a training: checkpoints in the layout of ActionCLIP's published code, a log, and the classes.

* `last.pt`, `best.pt`: after the last and the best whole epoch. Beside the published layout's four entries each has
  what `export` must know about the networks, and `TRAINING`, what going on needs.
* `log.jsonl`: a line for each epoch.
* `labels.txt`: the classes, one a line.
* `events.out.tfevents.…`: the loss of each step, for TensorBoard.

Each file but the last one is written whole or not at all.
"""

import json
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from action_clip.errors import ActionClipError
from action_clip.system.files import replacing, write_file, writing

LAST, BEST, LOG, LABELS = "last.pt", "best.pt", "log.jsonl", "labels.txt"
TRAINING = "training"
"""The entry of a checkpoint that says how far the training is, and what it depends on: texts, numbers, lists."""
_DRAFT = re.compile(r"\.[0-9a-f]{32}\.tmp")
"""The names that `replacing` gives to files that are not complete."""
_STEPS = re.compile(r"events\.out\.tfevents\.")
_LEFT_BEFORE_THE_FIRST_EPOCH = re.compile(rf"(?:{_DRAFT.pattern}|{re.escape(BEST)})\Z|{_STEPS.pattern}")


class RunFolder:
    """The files of a training, in one folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def last(self) -> Path:
        """The checkpoint after the last whole epoch."""
        return self.path / LAST

    @property
    def best(self) -> Path:
        """The checkpoint after the best epoch so far."""
        return self.path / BEST

    def check(self, *, resume: bool) -> None:
        """Raise ActionClipError where it has a training already, or none to go on with, or is not one to write to."""
        if resume and not self.last.is_file():
            raise ActionClipError(
                f"{self.path} has no training to go on with (no {LAST}): leave out --resume, or name its folder"
            )
        if not resume and self.last.exists():
            raise ActionClipError(
                f"{self.path} has a training already: give --resume to go on with it, or name another folder"
            )
        if self.path.exists() and not self.path.is_dir():
            raise ActionClipError(f"{self.path} is a file: name a folder")
        parent = self.path.absolute().parent
        if not parent.is_dir():
            raise ActionClipError(f"there is no folder {parent}: create it first")
        place = self.path if self.path.exists() else parent
        if not os.access(place, os.W_OK):
            raise ActionClipError(f"{place} cannot be written: name a folder of your own")
        if not resume and (others := [name for name in self._names() if not _LEFT_BEFORE_THE_FIRST_EPOCH.match(name)]):
            raise ActionClipError(
                f"{self.path} has other files, such as {min(others)}: name a new folder, so that none is overwritten"
            )

    def _names(self) -> list[str]:
        return [path.name for path in self.path.iterdir()] if self.path.is_dir() else []

    def make(self, *, resume: bool) -> None:
        """Make the folder if there is none, and remove what a process that was killed left in it.

        That is what is not complete; where no epoch was, the steps of the one that was not either.
        """
        with writing(self.path):
            self.path.mkdir(exist_ok=True)
            for path in self.path.iterdir():
                if _DRAFT.fullmatch(path.name) or (not resume and _STEPS.match(path.name)):
                    path.unlink()

    def load(self) -> dict[str, Any]:
        """Return the content of the last checkpoint, its tensors in memory.

        Raises ActionClipError where it is damaged or of another program.
        """
        try:
            content = torch.load(self.last, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged file makes its reader raise almost anything
            raise ActionClipError(
                f"{self.last} is damaged ({type(error).__name__}): train anew in another folder"
            ) from error
        training = content.get(TRAINING) if isinstance(content, dict) else None
        if not isinstance(training, dict) or not training.keys() >= {"settings", "history", "precision"}:
            raise ActionClipError(f"{self.last} is no checkpoint of a fine-tuning: name the folder of one")
        return dict(content)

    def save(self, path: Path, content: Mapping[str, Any]) -> None:
        """Write a checkpoint under a temporary name, then give it its own.

        Raises ActionClipError where it cannot be written; the one before stays.
        """
        try:
            with replacing(path) as temporary, temporary.open("wb") as file:
                torch.save(dict(content), file)
        except (OSError, RuntimeError) as error:  # PyTorch turns a full disk into a RuntimeError
            cause = error if isinstance(error, OSError) else error.__context__
            reason = (cause.strerror if isinstance(cause, OSError) else None) or str(error).partition("\n")[0]
            is_kept = self.last.is_file()
            kept = f"; {self.last} is whole" if is_kept else ""
            remedy = "go on with --resume" if is_kept else "begin again"
            raise ActionClipError(f"cannot write {path} ({reason:.200}){kept}: make room, and {remedy}") from error

    def write_log(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Write what is known of each epoch, a JSON object a line."""
        write_file(self.path / LOG, "".join(f"{json.dumps(dict(epoch))}\n" for epoch in history).encode())

    def write_labels(self, classes: Sequence[str]) -> None:
        """Write the classes, one a line."""
        write_file(self.path / LABELS, "".join(f"{label}\n" for label in classes).encode())


class StepLog:
    """The loss and the learning rates of each step, and the accuracy of each epoch, for TensorBoard."""

    def __init__(self, folder: Path, first_step: int) -> None:
        """`first_step`: the one that this process begins with; what an earlier one wrote from there on is dropped."""
        from tensorboardX import SummaryWriter

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            self._writer = SummaryWriter(str(folder), purge_step=first_step or None)

    def write(self, step: int, **values: float) -> None:
        """Write values of a step."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def flush(self) -> None:
        """Write to the disk what was written here."""
        self._writer.flush()

    def close(self) -> None:
        """End the file."""
        self._writer.close()
