"""Clips and labels in lists: a path and the ids of classes a line; UCF101's and HMDB51's own split files."""

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import PurePosixPath

from action_clip.data.rows import Row
from action_clip.errors import ActionClipError
from action_clip.system.folders import names_in
from action_clip.tokenizer.label_files import COMMENT
from action_clip.video import is_video_name

CLASS_FILE = "classInd.txt"
"""UCF101's class file, beside its lists."""
_UCF101 = re.compile(r"(train|test)list(\d+)\.txt")
_HMDB51 = re.compile(r"(.+)_test_split(\d+)\.txt")
_HMDB51_SPLITS = {"1": "train", "2": "test"}
"""0 stands for clips that are in neither."""


def list_rows(text: str, source: str, *, multi_label: bool) -> list[Row]:
    """Return the rows of a list: `path id` a line, `folder frames id` as mmaction2 has for folders of frames, or paths.

    Of paths alone the class is the folder, as in UCF101's lists of test clips.

    Args:
        text: of the list.
        source: its name, for messages.
        multi_label: whether all numbers after a path are ids of classes.

    Raises:
        ActionClipError: lines differ in form, or it is not clear what several numbers are.
    """
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or COMMENT.match(line):
            continue
        name, numbers = _name_and_numbers(line.strip())
        found.append((f"line {number} of {source}", name, numbers))
    widths = {len(numbers) for _, _, numbers in found}
    if 0 in widths:
        return _by_folder(found, source)
    if widths == {2} and not any(is_video_name(name) for _, name, _ in found):
        found = [(where, name, numbers[1:]) for where, name, numbers in found]
    elif widths - {1} and not multi_label:
        where = next(where for where, _, numbers in found if len(numbers) > 1)
        raise ActionClipError(
            f"{where} has several numbers: if they are classes, all of them the clip's, say so with --multi-label; "
            "else leave only the id of its class"
        )
    return [Row(name, tuple(numbers), where) for where, name, numbers in found]


def _name_and_numbers(line: str) -> tuple[str, list[str]]:
    """Return what comes before the whole numbers at the end of a line, and these."""
    words = line.split()
    count = sum(1 for _ in takewhile(_is_number, reversed(words[1:])))
    return (line.rsplit(None, count)[0] if count else line), words[len(words) - count :]


def _is_number(word: str) -> bool:
    return word.isdecimal() and len(word) < 10


def _by_folder(found: Sequence[tuple[str, str, Sequence[str]]], source: str) -> list[Row]:
    for where, name, numbers in found:
        if numbers or len(PurePosixPath(name).parts) < 2:
            raise ActionClipError(
                f"{where} is neither a path and the id of its class, nor a path with its class for a folder, and "
                f"others of {source} are: write all in one way"
            )
    return [Row(name, (PurePosixPath(name).parent.name,), where) for where, name, _ in found]


def split_files(folder: str, fold: int | None) -> list[str] | None:
    """Return the paths of UCF101's or HMDB51's split files in a folder; None where there are none of them.

    Args:
        folder: it.
        fold: which of the splits, from 1; None: the only one.

    Raises:
        ActionClipError: there are several, or there is no such one.
    """
    by_fold: dict[int, list[str]] = {}
    for name in names_in(folder, []):
        if match := _UCF101.fullmatch(name) or _HMDB51.fullmatch(name):
            by_fold.setdefault(int(match[2]), []).append(name)
    if not by_fold:
        return None
    have = ", ".join(map(str, sorted(by_fold)))
    if fold is None and len(by_fold) > 1:
        raise ActionClipError(f"{folder} has the splits {have}: choose one with --fold")
    names = by_fold.get(min(by_fold) if fold is None else fold)
    if names is None:
        raise ActionClipError(f"{folder} has no split {fold} ({have}): choose one of them with --fold")
    return [os.path.join(folder, name) for name in names]


def fold_of(path: str) -> int | None:
    """Return the number of the split that a file of HMDB51 belongs to, which has others beside it; None for others."""
    match = _HMDB51.fullmatch(os.path.basename(path))
    return int(match[2]) if match else None


def is_split_file(path: str) -> bool:
    """Return whether a file has the name of one of UCF101's or HMDB51's split files."""
    name = os.path.basename(path)
    return bool(_UCF101.fullmatch(name) or _HMDB51.fullmatch(name))


def split_rows(path: str, text: str) -> list[Row] | None:
    """Return the rows of a file of UCF101's or HMDB51's with this text; None where its name is none of theirs."""
    name = os.path.basename(path)
    if match := _HMDB51.fullmatch(name):
        return _hmdb51_rows(text, path, match[1])
    if match := _UCF101.fullmatch(name):
        return [replace(_named_by_folder(row), split=match[1]) for row in list_rows(text, path, multi_label=False)]
    return None


def _named_by_folder(row: Row) -> Row:
    """Return the row with its folder for the class, where it has one: only lists for training have ids."""
    folder = PurePosixPath(row.name).parent.name
    return replace(row, labels=(folder,)) if folder else row


def _hmdb51_rows(text: str, source: str, action: str) -> list[Row]:
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        name, _, mark = line.strip().rpartition(" ")
        where = f"line {number} of {source}"
        if not name or mark not in ("0", "1", "2"):
            raise ActionClipError(f"{where} does not end with 0, 1 or 2, as HMDB51's splits do: check the file")
        if mark in _HMDB51_SPLITS:
            rows.append(Row(f"{action}/{name.strip()}", (action,), where, _HMDB51_SPLITS[mark]))
    return rows
