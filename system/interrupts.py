"""Ctrl-C ends every wait within a second, and a command with exit code 130 and without a traceback.

Running a graph, decoding and looking up host names cannot be interrupted by signals: they run in other threads, and the
main thread, which can, waits for them.
"""

import atexit
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from weakref import WeakSet

from action_clip.system.forks import at_fork

if TYPE_CHECKING:
    from concurrent.futures import Future
    from threading import Event, Thread

T = TypeVar("T")

EXIT_CODE = 130
_GRACE_S = 0.6
"""Seconds that work is waited for after it was told to stop."""
POLL_S = 0.2
"""Seconds after which a wait looks around: on Windows, Ctrl-C does not end it."""
_EXIT_WAIT_S = 10.0
"""Seconds that Python's exit waits for running graphs."""
_OBJECTS_UNTIL_GC = 50_000
"""New objects until Python looks for garbage. With its default, 700, it looks through imported modules many times."""


def exit_on_interrupt() -> None:
    """Make Ctrl-C end the process immediately: used while importing, and after the work is done."""
    if not _is_ignored():
        signal.signal(signal.SIGINT, _end)


def run(main: Callable[[], int]) -> NoReturn:
    """Run a command and end the process with its exit code; to be called once, in the main thread.

    Ctrl-C raises KeyboardInterrupt in `main`; a process that has not ended soon afterwards is terminated.
    """
    import gc

    gc.set_threshold(_OBJECTS_UNTIL_GC)
    if sys.stderr is None:  # stderr is closed: the file that is opened next must not get its descriptor
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 as long as the process
    try:
        if not _is_ignored():
            _watch()
        code = main()
    except KeyboardInterrupt:
        code = EXIT_CODE
    exit_on_interrupt()
    if code == EXIT_CODE or not _have_ended():
        _end_with(code)  # without Python's own exit, which crashes what still runs in other threads
    gc.freeze()  # without a last garbage collection, which takes 0.03 s
    sys.exit(code)


@contextmanager
def terminable() -> Iterator[None]:
    """Let signals that end the process remove its drafts before: for a block that writes large files.

    They are SIGTERM, and SIGHUP, of a terminal that is closed. Nothing is changed where the program handles or ignores
    one of them itself, and in other threads than the main one.
    """
    from threading import current_thread, main_thread

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    is_main = current_thread() is main_thread()
    handled = [number for number in numbers if is_main and signal.getsignal(number) is signal.SIG_DFL]
    for number in handled:
        signal.signal(number, _terminate)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, signal.SIG_DFL)


def _terminate(number: int, _: object) -> None:
    from action_clip.system.files import remove_drafts

    remove_drafts()
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)


def _is_ignored() -> bool:
    """Return whether Ctrl-C is ignored, as in a process that a shell script started in the background."""
    return signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def _watch() -> None:
    from threading import Thread

    reader, writer = os.pipe()
    if os.name != "nt":  # Windows does not require it
        os.set_blocking(writer, False)
    # The signal's number is written here at once, even while the main thread runs a graph and no Python code.
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


@contextmanager
def ending_in_order(stop: Callable[[], None]) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM call `stop`, in another thread, while the block runs; a second one ends the process.

    Only in the main thread: others get no signals, and the block runs as it is.
    """
    from queue import SimpleQueue
    from threading import Thread, current_thread, main_thread

    if current_thread() is not main_thread():
        yield
        return
    asked: SimpleQueue[bool] = SimpleQueue()  # its `put` may be called from a signal's handler

    def ask(*_: object) -> None:
        for number in before:
            signal.signal(number, _end)
        asked.put(True)

    def wait() -> None:
        if asked.get():
            stop()

    Thread(target=wait, name="ending", daemon=True).start()
    numbers = [signal.SIGTERM] if _is_ignored() else [signal.SIGINT, signal.SIGTERM]
    before: dict[signal.Signals, Any] = {}
    watched = signal.set_wakeup_fd(-1)  # else the process would end soon, whatever `stop` does
    try:
        before.update({number: signal.signal(number, ask) for number in numbers})
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(watched, warn_on_full_buffer=False)
        asked.put(False)


def _interrupt(*_: object) -> NoReturn:
    exit_on_interrupt()  # for a second Ctrl-C
    raise KeyboardInterrupt


def start_unawaited(thread: "Thread") -> None:
    """Start a thread that may wait in a library for long: the command's end does not wait for it, but for a moment."""
    _unawaited.add(thread)
    thread.start()


def _have_ended() -> bool:
    """Return whether all such threads have ended; those that are about to are waited for."""
    from time import monotonic

    end = monotonic() + _GRACE_S
    for thread in list(_unawaited):
        thread.join(max(end - monotonic(), 0.0))
    return not any(thread.is_alive() for thread in _unawaited)


def _end_with(code: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # it is closed, or there is none
            stream.flush()
    _exit(code)


def _end(*_: object) -> NoReturn:
    _exit(EXIT_CODE)


def _exit(code: int) -> NoReturn:
    # Where the module was not imported, there are no drafts.
    if (files := sys.modules.get("action_clip.system.files")) is not None:
        files.remove_drafts()
    os._exit(code)


def _quiet_when_interrupted(unraisable: Any) -> None:
    # Libraries whose callbacks cannot raise report a KeyboardInterrupt here; the process is about to end.
    if unraisable.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(unraisable)


_running: set["Future[Any]"] = set()
_unawaited: "WeakSet[Thread]" = WeakSet()
at_fork(after_in_child=_running.clear)  # the threads are the parent's
at_fork(after_in_child=_unawaited.clear)


def run_in_thread(work: Callable[[], T], *, awaited_at_exit: bool = True) -> "Future[T]":
    """Call `work` in a thread of its own; the future has its result.

    Python's exit waits some seconds for it, since a graph that runs while the interpreter is finalised crashes. Work in
    Python code that may never end is excluded from that by `awaited_at_exit=False`.
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
        future.cancel()  # no effect once the work has begun
        raise
    return future


@contextmanager
def awaited_at_exit() -> Iterator[None]:
    """Let Python's exit wait some seconds for the block, which another thread than the main one runs."""
    from concurrent.futures import Future

    future: Future[None] = Future()
    _running.add(future)
    try:
        yield
    finally:
        _running.discard(future)
        future.set_result(None)


def complete(future: "Future[T]", work: Callable[[], T]) -> None:
    """Call `work` unless the future is cancelled, and set its result or exception."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(work())
    except BaseException as error:
        future.set_exception(error)


def wait_for(future: "Future[T]", timeout_s: float = float("inf")) -> None:
    """Wait until the future is done, at most `timeout_s` seconds; Ctrl-C raises KeyboardInterrupt."""
    from concurrent.futures import wait

    while not future.done() and timeout_s > 0:
        wait([future], min(POLL_S, timeout_s))
        timeout_s -= POLL_S


def interruptible(work: Callable[[], T], stop: "Event | None" = None, *, awaited_at_exit: bool = True) -> T:
    """Return what `work` returns, or raise what it raises.

    Ctrl-C raises KeyboardInterrupt here at once, whatever `work` is doing, and sets `stop`, which `work` checks where
    it can; `awaited_at_exit` is as for `run_in_thread`. Ctrl-C reaches only the main thread: in others, `work` is
    called directly.
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

    wait(set(_running), _EXIT_WAIT_S)
