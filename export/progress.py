"""The progress of an export on stderr: a line for each step, repeated while the step takes long."""

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
"""Seconds without output after which the current step is repeated."""


class ProgressHandler(logging.Handler):
    """Writes log records; one of level INFO names the current step, and the seconds since the beginning precede it.

    A context manager: within it, the current step is repeated whenever nothing was written for `silence_s`.
    """

    def __init__(self, stream: TextIO | None = None, silence_s: float = SILENCE_S) -> None:
        """`stream`: None for stderr; `silence_s`: seconds."""
        super().__init__()
        self.setFormatter(LogFormatter("%(message)s"))
        self._stream = stream or sys.stderr
        self._silence_s = silence_s
        self._began = monotonic()
        self._step = ""
        self._last_written = self._began
        self._ended = Event()
        self._thread = Thread(target=self._repeat, name="progress", daemon=True)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        text = self.format(record)
        if record.levelno == logging.INFO:
            self._step = text
            text = self._timed(text)
        self._write(text)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(1)  # its write may be blocked by a slow reader

    def _repeat(self) -> None:
        while not self._ended.wait(self._last_written + self._silence_s - monotonic()):
            if monotonic() < self._last_written + self._silence_s:
                continue
            self._last_written = monotonic()
            if self._step:
                self._write(self._timed(f"still {self._step}"))

    def _timed(self, text: str) -> str:
        return f"{monotonic() - self._began:7.1f} s  {text}"

    def _write(self, text: str) -> None:
        self._last_written = monotonic()
        with suppress(OSError, ValueError):  # the reader has closed the stream
            tqdm.write(text, self._stream)  # above its bars
            self._stream.flush()
