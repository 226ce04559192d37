"""Decoding a video from its start to its end, which is slow but right for every file."""

from bisect import bisect_left
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from fractions import Fraction

import av
from av.video.frame import VideoFrame

from action_clip.video.frame_buffer import Picture, Shrink, unchanged
from action_clip.video.packets import PacketTable, read_packets
from action_clip.video.pixels import SQUARE, check_total, upright_rgb
from action_clip.video.source import VideoSource, opened


@dataclass
class DecodedFrames:
    """The result of decoding from the start; frames are numbered in the order in which the decoder returns them."""

    aspect: Fraction = SQUARE
    """Width of a pixel over its height, as players show it."""
    times: list[int | None] = field(default_factory=list)
    """Presentation time of each frame."""
    corrupt: set[int] = field(default_factory=set)
    """The frames that the decoder itself calls corrupt."""
    failures: list[tuple[int | None, int]] = field(default_factory=list)
    """Presentation time of each packet that could not be decoded, and how many frames had come before it."""
    pictures: dict[int, Picture] = field(default_factory=dict)
    """RGB of the frames that were requested, shrunk."""
    shrink: Shrink = unchanged
    end: int = 0
    """When the last frame ends, in the unit of `times`, where the decoder tells it; else 0."""

    def add(self, frames: Iterable[VideoFrame], requested: Collection[int]) -> None:
        """Add the next frames, with the pictures of those requested."""
        for frame in frames:
            number = len(self.times)
            self.times.append(frame.pts)
            if frame.is_corrupt:
                self.corrupt.add(number)
            if number in requested:
                self.keep(number, upright_rgb(frame, self.aspect))

    def keep(self, number: int, picture: Picture) -> None:
        """Keep the picture of a frame. Raises ActionClipError where the pictures are too large together."""
        self.pictures[number] = picture = self.shrink(picture)
        check_total(len(self.pictures), *picture.shape[:2])

    def timeline(self) -> tuple[list[int | None], list[int | None]]:
        """Return the time of every frame of the video, and its number in the decoder's output, None for a broken one.

        A packet that could not be decoded is inserted by its time or, where times are not in order, where it failed.
        Corrupt frames count as broken unless there are no others.
        """
        good = set(range(len(self.times))) - self.corrupt or self.corrupt
        times = list(self.times)
        numbers: list[int | None] = [number if number in good else None for number in range(len(times))]
        known = [time for time in times if time is not None]
        in_order = len(known) == len(times) and known == sorted(known)
        for time, before in reversed(self.failures):
            place = before
            if in_order and time is not None:
                place = bisect_left(known, time)
                if known[place : place + 1] == [time]:
                    continue
                known.insert(place, time)
            times.insert(place, time)
            numbers.insert(place, None)
        return times, numbers


Pass = Callable[[DecodedFrames, Collection[int]], Generator[None, None, None]]
"""A generator function that decodes from the start and, at each step, adds frames, with the pictures requested."""


def decode_all(
    decode: Pass, requested: Collection[int], shrink: Shrink = unchanged, *, to_end: bool = True
) -> DecodedFrames:
    """Return the frames from the start to the end, or to the last one requested, with the pictures requested, shrunk.

    Raises ActionClipError where reading fails, or these pictures are too large.
    """
    result = DecodedFrames(shrink=shrink)
    with closing(decode(result, requested)) as steps:
        for _ in steps:
            if not to_end and len(result.pictures) == len(requested):
                break
    return result


def stream_all(decode: Pass, requested: Collection[int]) -> Iterator[tuple[int, Picture]]:
    """Yield number and picture of each frame requested, in order, while everything is decoded from the start.

    Raises ActionClipError as `decode_all` does.
    """
    result = DecodedFrames()
    last = max(requested)
    with closing(decode(result, requested)) as steps:
        for _ in steps:
            for number in sorted(result.pictures):
                yield number, result.pictures.pop(number)
            if len(result.times) > last:
                break


def decode_packets(
    source: VideoSource, table: PacketTable, threads: int, result: DecodedFrames, requested: Collection[int]
) -> Generator[None, None, None]:
    """Decode a packet at each step, and add its frames to `result`.

    Raises ActionClipError where reading fails, or the pictures requested are too large together.
    """
    with opened(source, threads) as video:
        result.aspect = video.aspect
        for packet in table.cached if table.cached is not None else read_packets(video):
            try:
                result.add(video.decode(packet), requested)
            except av.FFmpegError:
                if not packet.is_discard:
                    result.failures.append((packet.pts, len(result.times)))
            yield
        with suppress(av.FFmpegError):
            result.add(video.decode(None), requested)
        yield
