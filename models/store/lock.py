"""The lock of a model's directory, into which one run at a time writes."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from action_clip.errors import ActionClipError
from action_clip.models.store.locations import USE_NANO

if TYPE_CHECKING:
    from filelock import BaseFileLock

_HOLDER_S = 600.0
"""Seconds that another run is waited for without progress; longer than a silent server is waited for."""

_log = logging.getLogger("action_clip")


@contextmanager
def locked(directory: Path, name: str) -> Iterator[None]:
    """Hold the lock of a model's directory, which is created; waits for another run as long as that makes progress.

    Args:
        directory: the model's directory.
        name: the model's name, for messages.

    Raises:
        ActionClipError: the directory cannot be written, or another run holds the lock and does nothing.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(directory / ".lock")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            _log.warning("waiting for another run that is downloading %s (Ctrl-C ends this one)", name)
            _wait_for(lock, directory, name)
    except (OSError, NotImplementedError) as error:  # NotImplementedError: a file system without locks
        raise unwritable(directory, error) from error
    try:
        yield
    finally:
        lock.release()


def unwritable(directory: Path, error: Exception) -> ActionClipError:
    """Return the error for a model's directory that cannot be written."""
    reason = getattr(error, "strerror", None) or error
    return ActionClipError(f"{directory} cannot be written ({reason}): set ACTION_CLIP_HOME to another one, {USE_NANO}")


def _wait_for(lock: "BaseFileLock", directory: Path, name: str) -> None:
    """Acquire the lock, as long as another run makes progress; ActionClipError where it hangs."""
    from filelock import Timeout

    sizes, since = _sizes(directory), monotonic()
    while monotonic() - since < _HOLDER_S:
        with suppress(Timeout):
            lock.acquire(timeout=min(1.0, _HOLDER_S))
            return
        if (now := _sizes(directory)) != sizes:
            sizes, since = now, monotonic()
    raise ActionClipError(
        f"another run holds {directory / '.lock'} and has brought nothing of {name} for {_HOLDER_S:.0f} s: end it "
        f"and run again, {USE_NANO}"
    )


def _sizes(directory: Path) -> dict[str, int]:
    sizes = {}
    with os.scandir(directory) as entries:
        for entry in entries:
            with suppress(OSError):  # it may just have got another name
                sizes[entry.name] = os.lstat(entry.path).st_size
    return sizes
