"""Work in the background, while the caller does something else."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from threading import Event
from typing import TypeVar

from action_clip.system.interrupts import complete, run_in_thread, wait_for

T = TypeVar("T")


@contextmanager
def run_in_background(work: Callable[[Event], T], *, concurrent: bool) -> Iterator[Future[T]]:
    """Call `work` in a thread of its own while the block runs; without `concurrent`, in this thread after the block.

    The yielded future has the result of `work` after the block. Where the block raises, or Ctrl-C is pressed, the event
    that is passed to `work` is set, which tells it to stop. An error of the block is raised when `work` has stopped,
    KeyboardInterrupt at once: `work` may be in a library that does not look at the event.
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
