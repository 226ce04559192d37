"""What an export is doing, for whoever waits for it: a line a step, and one now and then while a step takes long."""

import logging
import sys
from contextlib import suppress
from threading import Event, Thread
from time import monotonic
from types import TracebackType
from typing import Self, TextIO

from tqdm import tqdm

from action_clip.system.terminal import LogFormatter

SILENCE_S = 15.0
"""After which it is said again what is being done."""


class ProgressHandler(logging.Handler):
    """Writes what is logged; information is what is being done now, and has the seconds since the beginning before it.

    A context manager: within it, the last information is said again whenever nothing was for a while.
    """

    def __init__(self, stream: TextIO | None = None, silence_s: float = SILENCE_S) -> None:
        """Begin to count the seconds; `stream`: stderr where it is None."""
        super().__init__()
        self.setFormatter(LogFormatter("%(message)s"))
        self._stream = stream or sys.stderr
        self._silence_s = silence_s
        self._began = monotonic()
        self._doing = ""
        self._last_said = self._began
        self._is_over = Event()
        self._thread = Thread(target=self._repeat, name="progress", daemon=True)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        text = self.format(record)
        if record.levelno == logging.INFO:
            self._doing = text
            text = self._timed(text)
        self._write(text)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join(1)  # it may be held up by who reads

    def _repeat(self) -> None:
        while not self._is_over.wait(self._last_said + self._silence_s - monotonic()):
            if monotonic() < self._last_said + self._silence_s:
                continue
            self._last_said = monotonic()
            if self._doing:
                self._write(self._timed(f"still {self._doing}"))

    def _timed(self, text: str) -> str:
        return f"{monotonic() - self._began:7.1f} s  {text}"

    def _write(self, text: str) -> None:
        self._last_said = monotonic()
        with suppress(OSError, ValueError):  # whoever reads has gone
            tqdm.write(text, self._stream)  # above its bars
            self._stream.flush()
