"""The files that FFmpeg is given to read from: it opens none itself, and what goes wrong in them is not lost."""

from __future__ import annotations

import os
from threading import Event
from typing import Protocol


class Readable(Protocol):
    """What is read at any place."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes, none at the end."""
        ...

    def seek(self, offset: int, whence: int, /) -> int:
        """Move, and return the new place."""
        ...

    def close(self) -> None:
        """Be done with it."""
        ...


def read_all(file: Readable, size: int) -> bytes:
    """The next `size` bytes, fewer at the end."""
    data = bytearray()
    while len(data) < size and (piece := file.read(size - len(data))):
        data += piece
    return bytes(data)


class StoppedError(Exception):
    """Nobody waits for the video any more."""


class Trouble:
    """What went wrong while FFmpeg was reading: raised when it has returned, as it passes no exception on."""

    def __init__(self) -> None:
        self.stop = Event()
        """Set when nobody waits for the video any more."""
        self._first: Exception | None = None

    def note(self, error: Exception) -> None:
        """Remember what went wrong first: the rest follows from it."""
        self._first = self._first or error

    def check(self) -> None:
        """Raise what went wrong, if anything did; StoppedError when nobody waits any more."""
        if self._first is not None:
            raise self._first
        if self.stop.is_set():
            raise StoppedError


class Given:
    """A file as FFmpeg may read it, by PyAV's rules: for it, what goes wrong is the end of the file.

    PyAV would keep one exception, print a second one, and lose what is no `Exception`.
    """

    def __init__(self, file: Readable, name: str, trouble: Trouble) -> None:
        """Wrap a file; FFmpeg takes from the `name` what others are relative to, and from its ending a hint."""
        self._file = file
        self.name = name
        self._trouble = trouble
        self._at = 0

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; none at the end, or when there was trouble."""
        try:
            self._trouble.check()
            data = self._file.read(size)
        except Exception as error:
            self._trouble.note(error)
            return b""
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move, and return the new place, -1 where there is none."""
        try:
            self._trouble.check()
            self._at = self._file.seek(offset, whence)
        except (OSError, ValueError):  # a place before the start
            return -1
        except Exception as error:
            self._trouble.note(error)
            return -1
        return self._at

    def tell(self) -> int:
        """The place."""
        return self._at

    def close(self) -> None:
        """Be done with it."""
        self._file.close()
