"""Ctrl-C ends every wait within a second, and a command with exit code 130 and without a traceback.

Graphs, decoders and look-ups of names hear of no signals: they run in threads, and the main thread only waits for them.
"""

import atexit
import os
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from action_clip.system.forks import at_fork

if TYPE_CHECKING:
    from concurrent.futures import Future
    from threading import Event

T = TypeVar("T")

EXIT_CODE = 130
_GRACE_S = 0.6
"""For what notices that it is to stop."""
_POLL_S = 0.2  # on Windows, Ctrl-C wakes nobody
_PATIENCE_S = 10.0
"""How long Python's end waits for graphs."""


def exit_on_interrupt() -> None:
    """From now on Ctrl-C ends the process where it is: during imports, and when the work is done."""
    if not _is_ignored():
        signal.signal(signal.SIGINT, _end)


def run(main: Callable[[], int]) -> NoReturn:
    """Run a command and end the process with its exit code; to be called once, in the main thread.

    Ctrl-C raises KeyboardInterrupt in it. Where that has not ended it soon, the process is ended all the same.
    """
    if sys.stderr is None:  # closed: what would be said there is not to land elsewhere
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 as long as the process
    try:
        if not _is_ignored():
            _watch()
        code = main()
    except KeyboardInterrupt:
        code = EXIT_CODE
    exit_on_interrupt()
    if code == EXIT_CODE:
        _end()  # without Python's own end, which breaks the graphs that still run in other threads
    import gc

    gc.freeze()  # else everything is searched for garbage before the process ends, which takes 0.03 s
    sys.exit(code)


def _is_ignored() -> bool:
    """Whether Ctrl-C is not for us, as where a shell script started us in the background."""
    return signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def _watch() -> None:
    from threading import Thread

    reader, writer = os.pipe()
    if os.name != "nt":  # where it need not be
        os.set_blocking(writer, False)
    # The signal is written here at once, even while the main thread is in a graph and cannot look at it.
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    sys.unraisablehook = _quiet_when_interrupted

    def end_soon() -> None:
        import time

        while os.read(reader, 1) != bytes([signal.SIGINT]):
            pass
        time.sleep(_GRACE_S)
        _end()

    Thread(target=end_soon, name="interrupts", daemon=True).start()
    signal.signal(signal.SIGINT, _interrupt)


def _interrupt(*_: object) -> NoReturn:
    exit_on_interrupt()  # at the next one
    raise KeyboardInterrupt


def _end(*_: object) -> NoReturn:
    # Not imported for it: where nobody has, nothing was written.
    if (files := sys.modules.get("action_clip.system.files")) is not None:
        files.remove_drafts()
    os._exit(EXIT_CODE)


def _quiet_when_interrupted(unraisable: Any) -> None:
    # A callback of a library that cannot pass an interrupt on reports it here; the process ends soon.
    if unraisable.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(unraisable)


_running: set["Future[Any]"] = set()
at_fork(after_in_child=_running.clear)  # what runs does so in the parent


def run_in_thread(work: Callable[[], T], *, awaited_at_exit: bool = True) -> "Future[T]":
    """What `work` returns, once it is there; it is done in a thread of its own.

    When Python ends, it waits some seconds for what still runs, since graphs do not survive its end; not for what may
    never end, and is nothing but Python's own.
    """
    from concurrent.futures import Future
    from threading import Thread

    future: Future[T] = Future()
    future.add_done_callback(_running.discard)
    try:
        if awaited_at_exit:
            _running.add(future)
        Thread(target=complete, args=(future, work), daemon=True).start()
    except BaseException:
        future.cancel()  # has no effect on what has begun, which ends by itself
        raise
    return future


def complete(future: "Future[T]", work: Callable[[], T]) -> None:
    """Do the work, unless it was cancelled, and give its result to the future, or what it raises."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(work())
    except BaseException as error:
        future.set_exception(error)


def wait_for(future: "Future[T]", timeout_s: float = float("inf")) -> None:
    """Wait until it is there, or so long; Ctrl-C ends that."""
    from concurrent.futures import wait

    while not future.done() and timeout_s > 0:
        wait([future], min(_POLL_S, timeout_s))
        timeout_s -= _POLL_S


def interruptible(work: Callable[[], T], stop: "Event | None" = None, *, awaited_at_exit: bool = True) -> T:
    """Return what `work` returns, or raise what it raises.

    Ctrl-C raises KeyboardInterrupt here at once, whatever `work` is doing, and sets `stop`, which `work` looks at where
    it can; `awaited_at_exit` is as of `run_in_thread`. In other threads than the main one, which Ctrl-C does not reach,
    this is just a call.
    """
    from threading import current_thread, main_thread

    if current_thread() is not main_thread():
        return work()
    future: Future[T] | None = None
    try:
        future = run_in_thread(work, awaited_at_exit=awaited_at_exit)
        wait_for(future)
    except BaseException:
        if stop is not None:
            stop.set()
            if future is not None:
                wait_for(future, _GRACE_S)
        raise
    return future.result()


@atexit.register
def _wait_for_all() -> None:
    from concurrent.futures import wait

    wait(set(_running), _PATIENCE_S)
