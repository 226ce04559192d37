"""Locks and sessions across a fork.

A forked child has only the thread that forked. A lock that another thread held stays locked there for ever. A session
of onnxruntime, whose threads are missing there, blocks for ever when it runs or is destroyed. So does the import of a
module that another thread was importing: a fork waits until no code of this package imports anything.
"""

import concurrent.futures.thread  # noqa: F401 registers its hooks, and those of logging, before ours
import functools
import os
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from threading import RLock, get_ident
from types import FrameType
from typing import Any, Protocol, TypeVar
from weakref import WeakSet

T = TypeVar("T")
_ROOT = str(Path(__file__).parents[1])
_IMPORTS_END_IN_S = 30.0
"""Seconds that a fork waits for imports in other threads."""
_POLL_S = 0.01

if sys.version_info >= (3, 12):
    cached_property = functools.cached_property
else:

    class cached_property(functools.cached_property[T]):
        """functools.cached_property of Python 3.12, without the lock that all objects of a class share before."""

        def __init__(self, compute: Callable[[Any], T]) -> None:
            super().__init__(compute)
            self.lock = nullcontext()


class ForkAware(Protocol):
    """An object with locks or sessions, which must be replaced in a forked child."""

    def reset_after_fork(self) -> None:
        """Make new locks, and pass sessions to `never_destroy`; called in a child, while nothing else runs there."""


def at_fork(**hooks: Callable[[], object]) -> None:
    """Call os.register_at_fork with these hooks, where the system has forks."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(**hooks)


def hold_during_forks(lock: RLock) -> None:
    """Hold this lock during every fork, so that a child finds it free and what it guards consistent."""
    at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)


_fork_aware: "WeakSet[ForkAware]" = WeakSet()


def reset_in_children(target: ForkAware) -> None:
    """Call the object's `reset_after_fork` in each child, as long as the object exists."""
    _fork_aware.add(target)


def _reset_all() -> None:
    for target in list(_fork_aware):
        target.reset_after_fork()


at_fork(after_in_child=_reset_all)


def _are_importing(frame: FrameType | None) -> bool:
    """Return whether code of this package, in this frame or a caller, is importing something."""
    while frame is not None:
        caller = frame.f_back
        is_import = frame.f_code.co_filename == "<frozen importlib._bootstrap>"
        if is_import and caller is not None and caller.f_code.co_filename.startswith(_ROOT):
            return True
        frame = caller
    return False


def _wait_for_imports() -> None:
    """Delay a fork until no other thread imports: the module would stay incomplete in a child, and locked."""
    end = time.monotonic() + _IMPORTS_END_IN_S
    while time.monotonic() < end:
        frames = sys._current_frames()
        if not any(_are_importing(frame) for thread, frame in frames.items() if thread != get_ident()):
            return
        time.sleep(_POLL_S)


at_fork(before=_wait_for_imports)


def never_destroy(target: object) -> None:
    """Keep the object until the process ends, without calling its destructor even then."""
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(target))
