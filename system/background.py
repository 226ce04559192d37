"""Work beside other work, on another core."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from threading import Event
from typing import TypeVar

from action_clip.system.interrupts import complete, run_in_thread, wait_for

T = TypeVar("T")


@contextmanager
def run_in_background(work: Callable[[Event], T], *, concurrent: bool) -> Iterator[Future[T]]:
    """Do `work` while the block runs, in a thread of its own; without `concurrent`, after the block.

    Its result is for after the block. Where the block raises, or Ctrl-C is pressed, the event that `work` is given is
    set: what takes long looks at it and stops. An error waits for that, Ctrl-C does not: the work may be in a library
    that knows nothing of the event.
    """
    stop = Event()
    future = Future[T]()
    try:
        if concurrent:
            future = run_in_thread(lambda: work(stop))
        yield future
        if concurrent:
            wait_for(future)
        else:
            complete(future, lambda: work(stop))
    except BaseException as error:
        stop.set()
        if concurrent and not isinstance(error, KeyboardInterrupt):
            wait_for(future)
        raise
