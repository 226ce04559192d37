"""Keyframes by the index that a container has: what reads a few places of a video of any length."""

from collections.abc import Sequence
from concurrent.futures import wait
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

import av
import numpy as np
from av.index import IndexEntries

from cores import usable_cores
from interrupts import in_thread
from video.decode import SurpriseError, Take
from video.source import Video, demux, opened

_INDEXED = ("mov,mp4", "matroska", "avi")
"""How the names of the formats begin whose index tells of keyframes anywhere in the file."""
_MOST_READERS = 4
"""How often a video is opened at once: each takes the memory of its index."""


@dataclass(frozen=True, order=True)
class Keyframe:
    """An entry of the index, in the stream's time; `number` is which frame of the video it is, or about which."""

    time: int
    number: int


@dataclass(frozen=True)
class KeyframeIndex:
    """The index of a container, with what the container says of the whole video."""

    entries: IndexEntries
    start: int
    """When the first frame is shown, in the stream's time."""
    duration: int
    """Of the video, in the stream's time."""
    total_frames: int
    """As the container states it, else by duration and average rate."""
    duration_s: float
    seconds: float = field(repr=False)
    """Of a unit of the stream's time."""

    def nearest(self, frame: int) -> Keyframe:
        """Return the keyframe that the index has nearest to where a frame must be, the earlier of two."""
        time = self.start + round(frame * self.duration / self.total_frames)
        found = {self.entries.search_timestamp(time, backward=backward) for backward in (True, False)} - {-1}
        if not found:
            raise SurpriseError
        entry = min(sorted(found), key=lambda entry: abs(self.entries[entry].timestamp - time))
        key_time = self.entries[entry].timestamp
        if len(self.entries) == self.total_frames:
            return Keyframe(key_time, entry)
        number = round((key_time - self.start) * self.total_frames / self.duration)
        return Keyframe(key_time, int(np.clip(number, 0, self.total_frames - 1)))

    def decode(self, video: Video, keyframe: Keyframe, take: Take) -> float:
        """Take the picture of a keyframe, alone; return when it is shown, in seconds from the first frame.

        `video` is any that is open of those with this index.

        Raises SurpriseError when the keyframe is not where the index has it, or is no picture by itself.
        """
        try:
            video.container.seek(keyframe.time, stream=video.stream)
            packet = next(
                packet for packet in demux(video) if keyframe.time in (packet.dts, packet.pts) and packet.is_keyframe
            )
            frames = [*video.decode(packet), *video.decode(None)]
        except (av.FFmpegError, StopIteration) as error:
            raise SurpriseError from error
        if len(frames) != 1 or not frames[0].key_frame or frames[0].is_corrupt or frames[0].pts is None:
            raise SurpriseError
        take(keyframe.number, frames[0])
        return max((frames[0].pts - self.start) * self.seconds, 0.0)


def read_index(video: Video) -> KeyframeIndex:
    """Return the index of the video's container.

    Raises SurpriseError where it has none, or does not say how long the video is, and where transparency has keyframes
    of its own.
    """
    stream, container = video.stream, video.container
    if video.alpha or not container.format.name.startswith(_INDEXED) or not stream.time_base or not container.duration:
        raise SurpriseError
    start = stream.start_time or 0
    duration = stream.duration or round(container.duration / av.time_base / stream.time_base)
    rate = stream.average_rate or stream.guessed_rate
    seconds = float(stream.time_base)
    total = stream.frames or (round(duration * seconds * rate) if rate else 0)
    if duration <= 0 or total <= 0:
        raise SurpriseError
    try:
        # Matroska's index is at the end of a file, and is read when something is sought.
        container.seek(start + duration, stream=stream)
    except av.FFmpegError as error:
        raise SurpriseError from error
    return KeyframeIndex(stream.index_entries, start, duration, total, duration * seconds, seconds)


def decode_keyframes(
    video: Video, index: KeyframeIndex, keyframes: Sequence[Keyframe], threads: int, take: Take
) -> list[float]:
    """Take the pictures of keyframes; return when each is shown, in seconds from the first frame.

    A decoder's own threads are of no use to a picture alone, so a file is opened again for each of `threads`, 0 for one
    a core, which take its pictures at the same time. Raises SurpriseError as `KeyframeIndex.decode` does.
    """
    most = 1 if video.origin.is_url else min(threads or usable_cores(), _MOST_READERS, len(keyframes))
    ends = [len(keyframes) * number // most for number in range(most + 1)]

    def decode(first: int, last: int) -> list[float]:
        if first == 0:
            return [index.decode(video, keyframe, take) for keyframe in keyframes[:last]]
        with opened(video.origin, 1) as again:
            return [index.decode(again, keyframe, take) for keyframe in keyframes[first:last]]

    mine, *shares = pairwise(ends)
    others = [in_thread(partial(decode, *share)) for share in shares]
    try:
        shown_s = decode(*mine)
    finally:
        wait(others)
    return shown_s + [time_s for other in others for time_s in other.result()]
