"""Files that are either written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from pathlib import Path

from errors import ActionClipError


def check_target(path: str | os.PathLike[str]) -> None:
    """Raise ActionClipError if `path` cannot be written; cheap enough to ask before the work begins."""
    target = Path(path)
    if os.path.isdir(target):
        raise ActionClipError(f"cannot write {target}: it is a folder; name a file in it")
    if not os.path.isdir(target.parent):
        raise ActionClipError(f"cannot write {target}: there is no folder {target.parent}; create it first")
    if not os.access(target if os.path.exists(target) else target.parent, os.W_OK):
        raise ActionClipError(f"cannot write {target}: no permission; name a file in a folder of your own")


def write_file(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` under a temporary name beside `path`, then give it its name.

    A link keeps pointing where it did and its target is replaced. A device or a pipe, such as /dev/null,
    cannot be replaced and is written directly.

    Raises ActionClipError: missing folder, no permission, full disk.
    """
    check_target(path)
    try:
        # Asked of the path as given: /dev/stdout may lead to a pipe that has no path of its own.
        if os.path.exists(path) and not os.path.isfile(path):
            Path(path).write_bytes(data)
            return
        target = Path(os.path.realpath(path))
        # Not derived from the target's name: that one may already be as long as the file system allows.
        temporary = target.with_name(f".{uuid.uuid4().hex}.tmp")
        try:
            temporary.write_bytes(data)
            if target.exists():
                shutil.copymode(target, temporary)
            temporary.replace(target)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        reason = error.strerror or error
        raise ActionClipError(f"cannot write {os.fspath(path)}: {reason}; name another file") from error
