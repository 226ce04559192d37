"""What MP4 files claim: FFmpeg makes room for each sample, and few bytes can say that there are millions."""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from action_clip.errors import ActionClipError
from action_clip.video.boxes import boxes, boxes_of_file
from action_clip.video.given import Readable, read_all

MOST_SAMPLES = 2**24
"""That have no bytes of their own in the index: days of video, and 0.6 GB of FFmpeg's memory."""
_EDITED = 4
"""FFmpeg goes through the samples once for each edit; so many more of these are let pass."""
_PARENTS = {"moov", "trak", "edts", "mdia", "minf", "stbl", "moof", "traf", "udta"}
_DEEPEST = 10  # as deep as FFmpeg looks
_MOST_BYTES = 2**28  # of an index
_MOST_BOXES = 2**18


def check_claims(name: str, file: Readable, *, whole: bool) -> None:
    """Look through the boxes of a file, if it is made of boxes; `whole`: also for what follows its index.

    Raises ActionClipError where there are more than MOST_SAMPLES.
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
    """All of one size, so that there is no table of them."""
    edits: int = 0
    is_sound: bool = False
    is_counted: bool = False
    """Not of PCM sound, which FFmpeg takes in chunks."""

    def claimed(self) -> int:
        if self.is_sound and not self.is_counted:
            return 0
        return self.samples * self.are_equal + (self.samples * self.edits // _EDITED if self.edits > 1 else 0)


def _claimed(content: bytes) -> int:
    """How many samples the tables in this content claim without having bytes for them."""
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
    """Yield type and content of each box that holds no others, and of each track before what it holds."""
    with suppress(ValueError):
        for kind, inner in boxes(content, lenient=True):
            if kind == "trak" or kind not in _PARENTS:
                yield kind, inner
            if kind in _PARENTS and depth < _DEEPEST:
                yield from _tables(inner, depth + 1)
