"""The boxes that MP4 and QuickTime files are made of (ISO 14496-12, 4.2), and how many samples they may claim.

FFmpeg allocates memory for each sample of an index, and a few bytes of an index can claim millions of samples.
"""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from action_clip.errors import ActionClipError
from action_clip.video.ffmpeg_file import Readable, read_all

MOST_SAMPLES = 2**24
"""Most samples that may have no bytes of their own in the index: days of video, and 0.6 GB of FFmpeg's memory."""
_EDITED = 4
"""FFmpeg visits all samples once for each edit, which takes less memory: so many visits count as one sample."""
_PARENTS = {"moov", "trak", "edts", "mdia", "minf", "stbl", "moof", "traf", "udta"}
_DEEPEST = 10  # as deep as FFmpeg looks
_MOST_BYTES = 2**28  # of an index
_MOST_BOXES = 2**18


def boxes_of_file(file: Readable) -> Iterator[tuple[str, int, int | None]]:
    """Yield the type of each box of a file and where its content starts and ends, in bytes from the file's start.

    An end of None is that of the file. Raises ValueError where a box claims to be shorter than its header.
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
    """Yield the type and content of each box in `content`, that of another box.

    Raises ValueError where a box is shorter than its header, or longer than the rest of `content`; `lenient` cuts off
    the latter, as FFmpeg does.
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


def check_sample_counts(name: str, file: Readable, *, whole: bool) -> None:
    """Raise ActionClipError where a file claims more than MOST_SAMPLES samples without bytes of their own.

    A file without boxes passes. `name` is the video's in the message; with `whole`, fragments after the index count.
    """
    claimed = 0
    with suppress(ValueError):
        for number, (kind, start, end) in enumerate(boxes_of_file(file)):
            if not re.fullmatch(r"[ -~\xa9]{4}", kind) or number == _MOST_BOXES:
                break
            if kind in ("moov", "moof"):
                file.seek(start, 0)
                size = _MOST_BYTES if end is None else min(end - start, _MOST_BYTES)
                claimed += _claimed(read_all(file, size))
            if claimed > MOST_SAMPLES:
                raise ActionClipError(
                    f"{name} cannot be read as a video (it claims more samples than a video has); check that it plays"
                )
            if kind == "moov" and not whole:
                break


@dataclass
class _Track:
    samples: int = 0
    are_equal: bool = False
    """Whether all samples have one size, so that the index has no table of sizes."""
    edits: int = 0
    is_sound: bool = False
    is_counted: bool = False
    """Whether the samples of sound count: those of PCM do not, as FFmpeg reads them in chunks."""

    def claimed(self) -> int:
        """Return how many samples the track claims without bytes of their own."""
        if self.is_sound and not self.is_counted:
            return 0
        return self.samples * self.are_equal + (self.samples * self.edits // _EDITED if self.edits > 1 else 0)


def _claimed(content: bytes) -> int:
    """Return how many samples the tables in this content claim without bytes of their own."""
    claimed = 0
    track = _Track()
    for kind, box in _tables(content, 0):
        count = int.from_bytes(box[4:8])
        if kind == "trak":
            claimed += track.claimed()
            track = _Track()
        elif kind == "stsz":
            track.samples = max(track.samples, int.from_bytes(box[8:12]))
            track.are_equal = track.are_equal or count > 0
        elif kind == "elst":
            track.edits = max(track.edits, min(count, len(box) // 12))
        elif kind == "hdlr":
            track.is_sound = box[8:12] == b"soun"
        elif kind == "stts":
            track.is_counted = track.is_counted or count != 1 or int.from_bytes(box[12:16]) != 1
        elif kind == "trun" and not int.from_bytes(box[:4]) & 0xF00:  # no field of its own
            claimed += count
    return claimed + track.claimed()


def _tables(content: bytes, depth: int) -> Iterator[tuple[str, bytes]]:
    """Yield the type and content of each box without inner boxes, and of each track before its inner boxes."""
    with suppress(ValueError):
        for kind, inner in boxes(content, lenient=True):
            if kind == "trak" or kind not in _PARENTS:
                yield kind, inner
            if kind in _PARENTS and depth < _DEEPEST:
                yield from _tables(inner, depth + 1)
