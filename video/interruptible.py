"""Waiting so that Ctrl-C ends it: FFmpeg does not notice that, and PyAV loses what is raised while it is read for."""

from collections.abc import Callable
from concurrent.futures import Future, wait
from threading import Event, Thread
from typing import TypeVar

T = TypeVar("T")

_POLL_S = 0.2  # on Windows nothing else notices Ctrl-C
_GRACE_S = 0.5
"""For what is being done to end by itself."""


def in_thread(work: Callable[[], T]) -> Future[T]:
    """Begin `work` in a thread of its own that, unlike an executor's, is not waited for when the program ends."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    Thread(target=run, name="video", daemon=True).start()
    return future


def interruptible(work: Callable[[], T], stop: Event) -> T:
    """Return what `work` returns, or raise what it raises, having done it in another thread.

    Ctrl-C sets `stop`, which `work` looks at where it can, and is raised here at once, whatever `work` is doing.
    """
    future = in_thread(work)
    try:
        while not future.done():
            wait([future], _POLL_S)
    except BaseException:
        stop.set()
        wait([future], _GRACE_S)
        raise
    return future.result()
