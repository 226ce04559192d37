"""JSON objects that the program keeps on disk for itself; a file that holds anything else is left alone."""

import json
import logging
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from files import write_file

# More than any record needs; what is larger is something else.
_MOST_BYTES = 32 << 20
_log = logging.getLogger("action_clip")


def read_record(path: Path) -> dict[str, Any]:
    """The object in the file; an empty one where there is no file, or none with an object in it."""
    return _content(path) or {}


def update_record(path: Path, entries: Mapping[str, Any]) -> None:
    """Add entries to the object in the file; never leaves half a file, nor overwrites one with anything else in it.

    Raises OSError or ActionClipError when it cannot be written.
    """
    before = _content(path)
    if before is None:
        _say_foreign(path)
        return
    content = before | dict(entries)
    if content != before:
        path.parent.mkdir(parents=True, exist_ok=True)
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
        # Nothing is lost of an empty file: what a power cut leaves.
        content = json.loads(text) if text else {}
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


@cache
def _say_foreign(path: Path) -> None:
    """Once a run."""
    _log.warning("%s cannot be read as what this program writes there, and is left alone: move it away", path)
