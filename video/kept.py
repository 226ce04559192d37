"""Bytes of a file that came in any order, by where they are in it."""

import shutil
import tempfile
from bisect import bisect_right
from dataclasses import dataclass

from action_clip.errors import ActionClipError

IN_MEMORY = 64 << 20
"""Bytes; what is more goes to the disk."""
DISK_MARGIN = 256 << 20
"""Bytes that stay free on the disk of temporary files."""


@dataclass
class _Span:
    start: int
    end: int
    place: int
    """Where its first byte is kept."""


class Kept:
    """What of a file has come so far, each byte once."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 closed with what it belongs to
        self._spans: list[_Span] = []  # by start, without overlap but where the newer one ends
        self.size = 0

    def add(self, start: int, data: bytes) -> None:
        """Keep what is at `start`, but for what is there already.

        Raises OSError where the disk is full.
        """
        number = bisect_right(self._spans, start, key=lambda span: span.start)
        before = self._spans[number - 1] if number else None
        if before is not None and start < before.end:
            data = data[before.end - start :]
            start = before.end
        if not data:
            return
        self._file.seek(self.size)
        self._file.write(data)
        if before is not None and before.end == start and before.place + start - before.start == self.size:
            before.end += len(data)
        else:
            self._spans.insert(number, _Span(start, start + len(data), self.size))
        self.size += len(data)

    def read(self, start: int, size: int) -> bytes:
        """Up to `size` of the bytes that follow one another from `start`; none where that one is not there."""
        number = bisect_right(self._spans, start, key=lambda span: span.start)
        span = self._spans[number - 1] if number else None
        if span is None or start >= span.end:
            return b""
        self._file.seek(span.place + start - span.start)
        return self._file.read(min(size, span.end - start))

    def close(self) -> None:
        """Forget everything."""
        self._file.close()


def check_room(name: str, size: int) -> None:
    """Raise ActionClipError where so many bytes more of the video `name` do not fit among the temporary files."""
    try:
        has_room = shutil.disk_usage(tempfile.gettempdir()).free >= size + DISK_MARGIN
    except OSError:  # there is no folder for them
        has_room = False
    if not has_room:
        raise no_room(name)


def no_room(name: str) -> ActionClipError:
    """What to say where the video `name` does not fit among the temporary files."""
    return ActionClipError(
        f"the video {name} has to be copied first, and there is no room for it among the temporary files: make room, "
        "or name another folder with TMPDIR"
    )
