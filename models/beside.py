"""Work beside other work, on another core."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from threading import Event, Thread
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def beside(work: Callable[[Event], T], *, at_once: bool) -> Iterator[Future[T]]:
    """Do `work` while the block runs, in a thread of its own; without `at_once`, after the block.

    Its result is for after the block. Where the block raises, or Ctrl-C is pressed, the event that `work` is given is
    set: what takes long looks at it and stops.
    """
    future: Future[T] = Future()
    stop = Event()

    def run() -> None:
        try:
            future.set_result(work(stop))
        except BaseException as error:
            future.set_exception(error)

    thread = Thread(target=run if at_once else lambda: None)
    thread.start()
    try:
        yield future
        if at_once:
            wait([future])
        else:
            run()
    except BaseException:
        stop.set()
        raise
    finally:
        thread.join()
