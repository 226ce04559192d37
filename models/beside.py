"""Work beside other work, on another core; and work that Ctrl-C does not wait for."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from threading import Event, Thread, current_thread, main_thread
from typing import TypeVar

T = TypeVar("T")

_POLL_S = 0.2  # on Windows, Ctrl-C wakes nobody


@contextmanager
def beside(work: Callable[[Event], T], *, at_once: bool) -> Iterator[Future[T]]:
    """Do `work` while the block runs, in a thread of its own; without `at_once`, after the block.

    Its result is for after the block. Where the block raises, or Ctrl-C is pressed, the event that `work` is given is
    set: what takes long looks at it and stops. An error waits for that, Ctrl-C does not: the work may be in a library
    that knows nothing of the event.
    """
    stop = Event()
    future = _begun(lambda: work(stop)) if at_once else Future[T]()
    try:
        yield future
        if at_once:
            _wait_for(future)
        else:
            _fulfil(future, lambda: work(stop))
    except BaseException as error:
        stop.set()
        if at_once and not isinstance(error, KeyboardInterrupt):
            _wait_for(future)
        raise


def interruptible(work: Callable[[], T]) -> T:
    """What `work` returns; Ctrl-C ends the wait for it, even where it is in a library that does not hear of signals."""
    if current_thread() is not main_thread():  # which is the one that Ctrl-C reaches
        return work()
    future = _begun(work)
    _wait_for(future)
    return future.result()


def _begun(work: Callable[[], T]) -> Future[T]:
    """The work's result, once it is there; the process does not wait for it when it ends."""
    future: Future[T] = Future()
    Thread(target=_fulfil, args=(future, work), daemon=True).start()
    return future


def _fulfil(future: Future[T], work: Callable[[], T]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:
        future.set_exception(error)


def _wait_for(future: Future[T]) -> None:
    while not future.done():
        wait([future], _POLL_S)
