"""Decoding keyframes by the container's index: a few places of the file are read, however long the video is.

Where a container has decoding and presentation times (MP4), the index holds decoding times. Frames that an edit list
cuts away are in the index too, marked as discarded.
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
"""Beginnings of FFmpeg's names of formats whose index lists the keyframes of the whole file."""
_ROUNDED = 2
"""Number of frames by which a container's duration may be wrong, as it is rounded."""


@dataclass(frozen=True, order=True)
class Keyframe:
    """A keyframe in the index, identified by its time: the index may grow while the video is read."""

    time: int
    """The timestamp of its entry, in units of the stream's time base."""
    before: int | None
    """Number of shown frames with entries before this one; None where the index does not list every frame."""


@dataclass(frozen=True)
class ShownKeyframe:
    """A decoded keyframe: its number and its time in the video."""

    number: int
    """From 0 in order of presentation; estimated where the index does not list every frame."""
    time_s: float
    """Presentation time, in seconds from the first frame."""


@dataclass(frozen=True)
class KeyframeIndex:
    """The index of a container, and the length of the video as the container states it."""

    entries: IndexEntries
    shown: NDArray[np.intp] | None
    """Positions in `entries` of the frames that are shown; None where the index does not list every frame."""
    start: int
    """Presentation time of the first frame, in units of the stream's time base."""
    duration: int
    """Duration of the video, in units of the stream's time base."""
    total_frames: int
    """Number of frames: counted in the index, else as the container states it, else duration times average rate."""
    seconds: float = field(repr=False)
    """Length of a unit of the stream's time base, in seconds."""

    def nearest(self, frame: int) -> Keyframe:
        """Return the keyframe of the index that is nearest in time to a frame, the earlier of two.

        Args:
            frame: number of the frame, from 0 in order of presentation.

        Raises:
            StrategyError: the index has no keyframe there.
        """
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
        """Decode a keyframe without other frames, store its picture, and return its number and time.

        Args:
            video: the video of this index; any of its open decoders.
            keyframe: a keyframe of this index.
            store: receives the keyframe's `time` and its picture, (H, W, 3) uint8 RGB.

        Raises:
            StrategyError: the keyframe is not where the index has it, or cannot be decoded without other frames.
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
            if video.container.format.name == "avi":  # AVI has no times, and the decoder's may begin late
                after = round(number * self.duration / self.total_frames)
        except (av.FFmpegError, StopIteration) as error:
            raise StrategyError(f"a keyframe is not where the index has it: {error}") from error
        store(keyframe.time, upright_rgb(frames[0], video.aspect))
        number = min(max(number, 0), self.total_frames - 1)
        return ShownKeyframe(number, max(after * self.seconds, 0.0))


def _count_leading(packets: Iterator[Packet[VideoStream]], time: int) -> int:
    """Return how many of the packets that directly follow a keyframe are shown before `time`, when it is shown."""
    leading = takewhile(lambda packet: packet.pts is not None and packet.pts < time, packets)
    return sum(not packet.is_discard for packet in leading)


def read_index(video: Video) -> KeyframeIndex:
    """Return the index of the video's container.

    Raises StrategyError where the container has no usable index or states no duration, and where transparency is a
    second video with keyframes of its own.
    """
    stream, container = video.stream, video.container
    if video.alpha or not container.format.name.startswith(_INDEXED) or not stream.time_base or not container.duration:
        raise StrategyError("the container has no index of keyframes, or no duration")
    start = stream.start_time or 0
    end = round(container.duration / av.time_base / stream.time_base)
    try:
        # FFmpeg reads Matroska's index, at the end of a file, when it first seeks.
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
    if len(entries) != expected:  # equal numbers: none is discarded, and a search through a million takes long
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
    """Decode keyframes, store their pictures, and return the number and time of each, in the given order.

    A decoder's own threads do not speed up a single picture. So a file is opened several times, and each decoder takes
    a share of the keyframes.

    Args:
        video: the open video.
        index: its index.
        keyframes: keyframes of the index, without duplicates.
        threads: how many decoders work at once, 0 for one a core.
        store: receives the `time` and the picture, (H, W, 3) uint8 RGB, of each keyframe, from any thread.

    Raises:
        StrategyError: as by `KeyframeIndex.decode`.
        ActionClipError: reading fails.
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
