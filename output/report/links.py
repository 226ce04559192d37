"""Links from a page to the videos that it is about."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from action_clip.system.addresses import is_address


class Link(NamedTuple):
    """Where a browser finds a video."""

    address: str
    """Of a file relative to the page, percent-encoded: so both can be moved together."""
    is_file: bool


def link(video: str | None, page: str | os.PathLike[str]) -> Link | None:
    """Return the link from a page to a video; None for what is neither a file nor an address, or one with a secret.

    Args:
        video: path or address, as Prediction has it.
        page: path of the page.
    """
    if video is None:
        return None
    if os.path.isfile(video):
        return Link(_relative(video, page), True)
    if is_address(video) and "***" not in video:
        return Link(quote(video.strip(), safe="!#$%&'()*+,/:;=?@[]~", errors="replace"), False)
    return None


def _relative(video: str, page: str | os.PathLike[str]) -> str:
    # Browsers leave out a folder and the ".." after it, which would lead elsewhere where the folder is a link.
    path = os.path.realpath(video) if os.pardir in Path(video).parts else os.path.abspath(video)
    try:
        relative = os.path.relpath(path, os.path.dirname(os.path.abspath(page)))
    except ValueError:  # it is on another drive
        return Path(path).as_uri()
    return quote(os.fsencode(relative.replace(os.sep, "/")))
