"""Keyframes by the index that a container has: what reads a few places of a video of any length.

Its times are those of decoding, where a container has both (MP4). What an edit list cuts away is in it too, and marked.
"""

from __future__ import annotations  # PyAV subscripts Packet in its stubs only

from collections.abc import Iterator, Sequence
from concurrent.futures import wait
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise, takewhile

import av
import numpy as np
from av.index import IndexEntries
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray

from action_clip.system.cores import usable_cores
from action_clip.system.interrupts import run_in_thread
from action_clip.video.packets import demux
from action_clip.video.pixels import upright_rgb
from action_clip.video.seeking import Store, StrategyError
from action_clip.video.source import MOST_READERS, Video, opened

_INDEXED = ("mov,mp4", "matroska", "avi")
"""How the names of the formats begin whose index tells of keyframes anywhere in the file."""
_ROUNDED = 2
"""Frames by which a container's duration may be wrong."""


@dataclass(frozen=True, order=True)
class Keyframe:
    """An entry of the index, which may grow while the video is read: so it is known by its time."""

    time: int
    before: int | None
    """How many shown frames have their entries before it, where every frame has one."""


@dataclass(frozen=True)
class ShownKeyframe:
    """A keyframe that was decoded: which frame of the video it is, or about which, and when it is shown."""

    number: int
    time_s: float
    """From the first frame."""


@dataclass(frozen=True)
class KeyframeIndex:
    """The index of a container, with what the container says of the whole video."""

    entries: IndexEntries
    shown: NDArray[np.intp] | None
    """The entries of frames that are shown; None for an index that has not every frame."""
    start: int
    """When the first frame is shown, in the stream's time."""
    duration: int
    """Of the video, in the stream's time."""
    total_frames: int
    """As the index or the container has it, else by duration and average rate."""
    seconds: float = field(repr=False)
    """Of a unit of the stream's time."""

    def nearest(self, frame: int) -> Keyframe:
        """Return the keyframe that the index has nearest to where a frame must be, the earlier of two."""
        if self.shown is not None:
            time = self.entries[int(self.shown[frame])].timestamp
        else:
            time = self.start + round(frame * self.duration / self.total_frames)
        candidates = {self.entries.search_timestamp(time, backward=backward) for backward in (True, False)} - {-1}
        candidates = {entry for entry in candidates if not self.entries[entry].is_discard}
        if not candidates:
            raise StrategyError("the index has no keyframe")
        entry = min(sorted(candidates), key=lambda entry: abs(self.entries[entry].timestamp - time))
        before = None if self.shown is None else int(np.searchsorted(self.shown, entry))
        return Keyframe(self.entries[entry].timestamp, before)

    def decode(self, video: Video, keyframe: Keyframe, store: Store) -> ShownKeyframe:
        """Store the picture of a keyframe, alone, by its time.

        `video` is any that is open of those with this index.

        Raises StrategyError when the keyframe is not where the index has it, or is no picture by itself.
        """
        try:
            video.container.seek(keyframe.time, stream=video.stream)
            packets = demux(video)
            packet = next(p for p in packets if keyframe.time in (p.dts, p.pts) and p.is_keyframe)
            frames = [*video.decode(packet), *video.decode(None)]
            if len(frames) != 1 or not frames[0].key_frame or frames[0].is_corrupt or frames[0].pts is None:
                raise StrategyError("a keyframe of the index is damaged, or no picture by itself")
            after = frames[0].pts - self.start
            number = round(after * self.total_frames / self.duration)
            if keyframe.before is not None:
                number = keyframe.before + _count_leading(packets, frames[0].pts)
            if video.container.format.name == "avi":  # has no times, and the decoder's own may begin late
                after = round(number * self.duration / self.total_frames)
        except (av.FFmpegError, StopIteration) as error:
            raise StrategyError(f"a keyframe is not where the index has it: {error}") from error
        store(keyframe.time, upright_rgb(frames[0], video.aspect))
        number = min(max(number, 0), self.total_frames - 1)
        return ShownKeyframe(number, max(after * self.seconds, 0.0))


def _count_leading(packets: Iterator[Packet[VideoStream]], time: int) -> int:
    """How many of the packets after a keyframe are shown before it, at `time`: these come first."""
    leading = takewhile(lambda packet: packet.pts is not None and packet.pts < time, packets)
    return sum(not packet.is_discard for packet in leading)


def read_index(video: Video) -> KeyframeIndex:
    """Return the index of the video's container.

    Raises StrategyError where it has none, or does not say how long the video is, and where transparency has keyframes
    of its own.
    """
    stream, container = video.stream, video.container
    if video.alpha or not container.format.name.startswith(_INDEXED) or not stream.time_base or not container.duration:
        raise StrategyError("the container has no index of keyframes, or no duration")
    start = stream.start_time or 0
    end = round(container.duration / av.time_base / stream.time_base)
    try:
        # Matroska's index is at the end of a file, and is read when something is sought.
        container.seek(start + (stream.duration or end), stream=stream)
    except av.FFmpegError as error:
        raise StrategyError(f"the index cannot be read: {error}") from error
    entries = stream.index_entries
    counts_from_zero = len(entries) > 0 and entries[-1].timestamp < end
    duration = stream.duration or (end - start if counts_from_zero else end)
    rate = stream.average_rate or stream.guessed_rate
    seconds = float(stream.time_base)
    expected = round(duration * seconds * rate) if rate else 0
    shown = np.arange(len(entries))
    if len(entries) != expected:  # else nothing is cut away, and there can be a million
        shown = np.flatnonzero([not entry.is_discard for entry in entries])
    is_whole = len(entries) == (stream.frames or expected) or abs(len(shown) - expected) <= _ROUNDED
    if not is_whole and len(entries) > stream.frames > 0:
        raise StrategyError("an edit list shows something twice")
    total = len(shown) if is_whole else stream.frames or expected
    if duration <= 0 or total <= 0:
        raise StrategyError("the index is empty")
    return KeyframeIndex(entries, shown if is_whole else None, start, duration, total, seconds)


def decode_keyframes(
    video: Video, index: KeyframeIndex, keyframes: Sequence[Keyframe], threads: int, store: Store
) -> list[ShownKeyframe]:
    """Store the pictures of keyframes, by their times; return what each is.

    A decoder's own threads are of no use to a picture alone, so a file is opened again for each of `threads`, 0 for one
    a core, which take its pictures at the same time. Raises StrategyError as `KeyframeIndex.decode` does.
    """
    most = min(threads or usable_cores(), MOST_READERS, len(keyframes))
    if video.source.is_url or not video.notices_damage:
        most = 1
    ends = [len(keyframes) * number // most for number in range(most + 1)]

    def decode(first: int, last: int) -> list[ShownKeyframe]:
        if first == 0:
            return [index.decode(video, keyframe, store) for keyframe in keyframes[:last]]
        with opened(video.source, 1, strict=True) as again:
            return [index.decode(again, keyframe, store) for keyframe in keyframes[first:last]]

    mine, *shares = pairwise(ends)
    others = [run_in_thread(partial(decode, *share)) for share in shares]
    try:
        shown = decode(*mine)
    finally:
        wait(others)
    return shown + [keyframe for other in others for keyframe in other.result()]
