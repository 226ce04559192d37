"""Work beside other work, on another core."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from threading import Event
from typing import TypeVar

from action_clip.system.interrupts import fulfil, in_thread, wait_for

T = TypeVar("T")


@contextmanager
def beside(work: Callable[[Event], T], *, at_once: bool) -> Iterator[Future[T]]:
    """Do `work` while the block runs, in a thread of its own; without `at_once`, after the block.

    Its result is for after the block. Where the block raises, or Ctrl-C is pressed, the event that `work` is given is
    set: what takes long looks at it and stops. An error waits for that, Ctrl-C does not: the work may be in a library
    that knows nothing of the event.
    """
    stop = Event()
    future = Future[T]()
    try:
        if at_once:
            future = in_thread(lambda: work(stop))
        yield future
        if at_once:
            wait_for(future)
        else:
            fulfil(future, lambda: work(stop))
    except BaseException as error:
        stop.set()
        if at_once and not isinstance(error, KeyboardInterrupt):
            wait_for(future)
        raise
