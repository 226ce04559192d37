"""The boxes that MP4 and QuickTime files are made of (ISO 14496-12, 4.2)."""

import os
from collections.abc import Iterator

from action_clip.video.given import Readable, read_all


def boxes_of_file(file: Readable) -> Iterator[tuple[str, int, int | None]]:
    """Yield type, start and end of the content of each box of a file; the last may have no end but the file's.

    Raises ValueError where something else than a box follows.
    """
    at = 0
    while True:
        file.seek(at, os.SEEK_SET)
        header = read_all(file, 16)
        if len(header) < 8:
            return
        size, kind, start = int.from_bytes(header[:4]), header[4:8].decode("latin-1"), at + 8
        if size == 1:
            size, start = int.from_bytes(header[8:]), at + 16
        if size and size < start - at:
            raise ValueError(kind)
        yield kind, start, at + size if size else None
        if not size:
            return
        at += size


def boxes(content: bytes, *, lenient: bool = False) -> Iterator[tuple[str, bytes]]:
    """Yield type and content of each box in another one's content.

    Raises ValueError where one does not end in it; `lenient`, as FFmpeg is, ends it there.
    """
    at = 0
    while at + 8 <= len(content):
        size, start = int.from_bytes(content[at : at + 4]), at + 8
        if lenient and size == 1:
            size, start = int.from_bytes(content[at + 8 : at + 16]), at + 16
        if lenient:
            size = min(size or len(content), len(content) - at)
        if not start - at <= size <= len(content) - at:
            raise ValueError(size)
        yield content[at + 4 : at + 8].decode("latin-1"), content[start : at + size]
        at += size
