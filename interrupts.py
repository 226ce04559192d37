"""Ctrl-C ends a command within a second, with exit code 130 and without a traceback, whatever it is doing."""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

EXIT_CODE = 130
_GRACE_S = 0.6
"""For what Python does when it is interrupted; graphs and decoders do not notice."""


def leave_at_once() -> None:
    """From now on Ctrl-C ends the process where it is: during imports, and when the work is done."""
    if not _is_ignored():
        signal.signal(signal.SIGINT, _end)


def run(main: Callable[[], int]) -> NoReturn:
    """Run a command and end the process with its exit code; to be called once, in the main thread.

    Ctrl-C raises KeyboardInterrupt in it. Where that has not ended it soon, the process is ended all the same.
    """
    try:
        if not _is_ignored():
            _watch()
        code = main()
    except KeyboardInterrupt:
        code = EXIT_CODE
    leave_at_once()
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
    leave_at_once()  # at the next one
    raise KeyboardInterrupt


def _end(*_: object) -> NoReturn:
    # Not imported for it: where nobody has, nothing was written.
    if "files" in sys.modules:
        sys.modules["files"].remove_drafts()
    os._exit(EXIT_CODE)


def _quiet_when_interrupted(unraisable: Any) -> None:
    # A callback of a library that cannot pass an interrupt on reports it here; the process ends soon.
    if unraisable.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(unraisable)
