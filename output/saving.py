"""What --save makes, by the ending of the file's name: a sheet, which is a picture, or the video with labels."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from action_clip.errors import ActionClipError
from action_clip.output.sheet import EXTENSIONS
from action_clip.system.files import check_target

PICTURES = EXTENSIONS
VIDEOS = (".mp4", ".mkv", ".webm", ".gif")


def makes_video(path: str | os.PathLike[str]) -> bool:
    """Return whether a video is saved at `path`, and not a sheet."""
    return Path(path).suffix.lower() in VIDEOS


def check_path(path: str | os.PathLike[str], videos: Iterable[str | os.PathLike[str]] = ()) -> None:
    """Raise ActionClipError where nothing can be saved at `path` by --save.

    Its ending is unknown, its folder missing, there is no permission; or a video is to be saved, and one of `videos`,
    of which it is made, comes through a pipe.
    """
    name = os.fspath(path)
    if Path(path).suffix.lower() not in (*PICTURES, *VIDEOS):
        raise ActionClipError(
            f"cannot save {name}: the name must end in one of {', '.join(PICTURES)} for a picture, or "
            f"{', '.join(VIDEOS)} for the video with its labels"
        )
    check_target(path)
    if not makes_video(path):
        return
    if os.path.exists(path) and not os.path.isfile(path):
        raise ActionClipError(f"cannot save the video {name}: it is a device or a pipe; name a file")
    for video in videos:
        with suppress(OSError, ValueError):  # it is missing: who reads it says so
            if stat.S_ISFIFO(os.stat(video).st_mode):
                raise ActionClipError(
                    f"cannot save the video {name}: {os.fspath(video)} is a pipe, which can be read only once; write "
                    "what comes through it to a file, and give that"
                )
