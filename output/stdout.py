"""Writing to stdout, which may be a terminal, a file, a closed pipe, or missing."""

import io
import os
import sys

from action_clip.errors import ActionClipError
from action_clip.system.terminal import printable


def is_terminal() -> bool:
    """Return whether stdout is a terminal."""
    return sys.stdout is not None and sys.stdout.isatty()


def write_stdout(text: str, *, styled: bool = False) -> None:
    """Write the whole text to stdout, in UTF-8.

    Args:
        text: lines, each with its end; on a terminal, control characters are written as escapes.
        styled: write control characters unchanged, as all of them are the program's own.

    Raises:
        ActionClipError: there is no stdout, or it cannot be written.
        BrokenPipeError: its reader has gone.
    """
    if sys.stdout is None:
        raise ActionClipError("there is no stdout to write to: name a file with --output")
    if is_terminal() and not styled:
        text = printable(text, lines=True)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file name that is not valid Unicode must not stop a run.
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # The rest of the buffer goes to /dev/null; otherwise Python would report it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        raise ActionClipError(
            f"the answer cannot be written to stdout ({error.strerror}): name a file with --output"
        ) from error
