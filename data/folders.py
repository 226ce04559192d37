"""Clips in folders: a folder for each class, perhaps in a folder for each split."""

import logging
import os
from collections.abc import Iterator, Mapping

from action_clip.data.classes import shown
from action_clip.data.rows import Row, split_name
from action_clip.errors import ActionClipError
from action_clip.system.folders import names_in, walk
from action_clip.video import is_video_file

_LOG = logging.getLogger("action_clip")


def folder_rows(folder: str) -> list[Row]:
    """Return the clips in `folder/archery/*.mp4`, or `folder/train/archery/*.mp4`, below them too; [] for others.

    Folders called train, val, test or the like are splits where what lies in them is folders. Hidden ones are left out.

    Raises:
        ActionClipError: there are splits and classes beside each other, or a folder cannot be read.
    """
    folders = _folders(folder)
    splits = {name: path for name, path in folders.items() if split_name(name) and _folders(path)}
    if not splits:
        _warn_of_loose(folder, folders)
        return list(_class_rows(folder, folders, None))
    if others := [name for name, path in folders.items() if name not in splits and _has_videos(path)]:
        raise ActionClipError(
            f"{folder} has splits ({shown([*splits])}) and other folders with videos ({shown(others)}): move these "
            f"away, or name one split, {next(iter(splits.values()))}"
        )
    rows: list[Row] = []
    for name, path in splits.items():
        classes = _folders(path)
        _warn_of_loose(path, classes)
        rows += _class_rows(folder, classes, split_name(name))
    return rows


def _folders(folder: str) -> Mapping[str, str]:
    """Return the paths of the folders in a folder by their names."""
    unreadable: list[str] = []
    paths = {name: os.path.join(folder, name) for name in names_in(folder, unreadable) if not name.startswith(".")}
    if unreadable:
        raise ActionClipError(unreadable[0])
    return {name: path for name, path in paths.items() if os.path.isdir(path)}


def _class_rows(top: str, folders: Mapping[str, str], split: str | None) -> Iterator[Row]:
    for label, folder in folders.items():
        unreadable: list[str] = []
        for path, is_folder in walk(folder, unreadable):
            if not is_folder and is_video_file(path):
                yield Row(os.path.relpath(path, top), (label,), path, split)
        if unreadable:
            raise ActionClipError(unreadable[0])


def _has_videos(folder: str) -> bool:
    return any(not is_folder and is_video_file(path) for path, is_folder in walk(folder, []))


def _warn_of_loose(folder: str, folders: Mapping[str, str]) -> None:
    """Log a warning where videos lie beside the folders of classes."""
    loose = [name for name in names_in(folder, []) if is_video_file(os.path.join(folder, name))]
    if folders and loose:
        _LOG.warning(
            "videos that lie in no folder of a class are left out: %d in %s, such as %s", len(loose), folder, loose[0]
        )
