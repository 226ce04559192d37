"""File objects that FFmpeg reads from, and the errors of reading: FFmpeg opens no files itself."""

from __future__ import annotations

import os
from threading import Event
from typing import Protocol


class Readable(Protocol):
    """A binary file that can seek."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, b"" at the end."""
        ...

    def seek(self, offset: int, whence: int, /) -> int:
        """Move, and return the new position."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


def read_all(file: Readable, size: int) -> bytes:
    """Return the next `size` bytes, fewer at the end."""
    data = bytearray()
    while len(data) < size and (piece := file.read(size - len(data))):
        data += piece
    return bytes(data)


class StoppedError(Exception):
    """Reading was ended: by Ctrl-C, or because the reader was closed."""


class ReadStatus:
    """The first error of FFmpeg's reading, since FFmpeg passes no exception on, and whether reading is to end."""

    def __init__(self) -> None:
        self.stop = Event()
        """Set when reading is to end."""
        self._error: Exception | None = None

    def record(self, error: Exception) -> None:
        """Keep the error unless there was one before, from which it follows."""
        self._error = self._error or error

    def check(self) -> None:
        """Raise the recorded error, if there is one, or StoppedError when reading is to end."""
        if self._error is not None:
            raise self._error
        if self.stop.is_set():
            raise StoppedError


class FFmpegFile:
    """A file object for PyAV: an error is recorded, and FFmpeg sees the end of the file instead.

    Of exceptions that a file object raises, PyAV would keep one, print a second, and lose one that is no `Exception`.
    """

    def __init__(self, file: Readable, name: str, status: ReadStatus) -> None:
        """Wrap a file; FFmpeg resolves relative URLs against `name`, and takes its ending as a hint of the format."""
        self._file = file
        self.name = name
        self._status = status
        self._at = 0

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes; b"" at the end, or after an error."""
        try:
            self._status.check()
            data = self._file.read(size)
        except Exception as error:
            self._status.record(error)
            return b""
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move, and return the new position, -1 where that is not possible."""
        try:
            self._status.check()
            self._at = self._file.seek(offset, whence)
        except (OSError, ValueError):  # a position before the start
            return -1
        except Exception as error:
            self._status.record(error)
            return -1
        return self._at

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def close(self) -> None:
        """Close the file."""
        self._file.close()
