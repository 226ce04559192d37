"""What a forked child does with what its parent has made.

A child has one thread, the one that forked. A lock that another held stays locked there, and a session of onnxruntime,
whose threads are not there, neither runs nor can be destroyed: both wait for ever. So does the import of a module that
another thread was importing: a fork waits for the imports of ours.
"""

import concurrent.futures.thread  # noqa: F401 hooks of its own and of logging, which are to be there before ours
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
"""After which a fork no longer waits for them."""
_POLL_S = 0.01

if sys.version_info >= (3, 12):
    cached_property = functools.cached_property
else:

    class cached_property(functools.cached_property[T]):
        """As of Python 3.12: without a lock that all objects of a class share."""

        def __init__(self, compute: Callable[[Any], T]) -> None:
            super().__init__(compute)
            self.lock = nullcontext()


class ForkAware(Protocol):
    """What has locks, or sessions."""

    def reset_after_fork(self) -> None:
        """Called in a child, while nothing else runs there: make new locks, and let `never_destroy` have sessions."""


def at_fork(**hooks: Callable[[], object]) -> None:
    """As os.register_at_fork, where there are forks: `before`, `after_in_parent`, `after_in_child`."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(**hooks)


def hold_during_forks(lock: RLock) -> None:
    """Fork only while no other thread has this lock: what it guards is whole in a child, and the lock is free."""
    at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)


_fork_aware: "WeakSet[ForkAware]" = WeakSet()


def reset_in_children(thing: ForkAware) -> None:
    """Have its `reset_after_fork` called in each child, as long as it lives."""
    _fork_aware.add(thing)


def _reset_all() -> None:
    for thing in list(_fork_aware):
        thing.reset_after_fork()


at_fork(after_in_child=_reset_all)


def _are_importing(frame: FrameType | None) -> bool:
    """Whether our code, somewhere up the stack from this frame, imports something."""
    while frame is not None:
        caller = frame.f_back
        is_import = frame.f_code.co_filename == "<frozen importlib._bootstrap>"
        if is_import and caller is not None and caller.f_code.co_filename.startswith(_ROOT):
            return True
        frame = caller
    return False


def _wait_for_imports() -> None:
    """Fork before or after another thread imports: what it imports would be half there in a child, and locked."""
    end = time.monotonic() + _IMPORTS_END_IN_S
    while time.monotonic() < end:
        frames = sys._current_frames()
        if not any(_are_importing(frame) for thread, frame in frames.items() if thread != get_ident()):
            return
        time.sleep(_POLL_S)


at_fork(before=_wait_for_imports)


def never_destroy(thing: object) -> None:
    """Whatever refers to it or not, it is never destroyed, not even at Python's end."""
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
