"""JSON objects that the program keeps on disk for itself: a damaged one begins anew, anything else is left alone."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from action_clip.models.store.home import warn_once
from action_clip.system.files import write_file

# More than any record needs; what is larger is something else.
_MOST_BYTES = 32 << 20
# What a record begins with, and what is in all of them.
_BEGINNING, _HASH = b'{\n "', re.compile(rb'"[0-9a-f]{64}"')


def read_record(path: Path) -> dict[str, Any]:
    """The object in the file; an empty one where there is no file, or none with an object in it."""
    return _content(path) or {}


def update_record(path: Path, entries: Mapping[str, Any], *, most: int | None = None) -> None:
    """Add entries to the object in the file; never leaves half a file, nor overwrites one with anything else in it.

    With `most`, only so many stay, those that were added last.

    Raises OSError or ActionClipError when it cannot be written.
    """
    before = _content(path)
    if before is None:
        warn_once(path, "%s cannot be read as what this program writes there, and is left alone: move it away", path)
        return
    content = before | dict(entries)
    if content != before:
        path.parent.mkdir(parents=True, exist_ok=True)
        if most is not None:
            content = dict(list(content.items())[-most:])
        write_file(path, json.dumps(content, indent=1).encode("utf-8"))


def _content(path: Path) -> dict[str, Any] | None:
    """The object in the file; None where there is something else."""
    # Asked before it is opened: a pipe keeps waiting who does that.
    if not os.path.lexists(path):
        return {}
    try:
        if not os.path.isfile(path) or path.stat().st_size > _MOST_BYTES:
            return None
        text = path.read_bytes()
    except OSError:
        return None
    # Nothing is lost of an empty file, or one of zeros: what a power cut leaves.
    if not text.strip(b"\0"):
        return {}
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return {} if _was_record(text) else None
    return content if isinstance(content, dict) else None


def _was_record(text: bytes) -> bool:
    """Whether what is no JSON was a record once, before it was cut off or damaged."""
    return text[: len(_BEGINNING)] == _BEGINNING[: len(text)] or _HASH.search(text) is not None
