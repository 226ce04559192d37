"""Decoding a video from its start to its end: the slow way, which is right for every file."""

from bisect import bisect_left
from collections.abc import Collection, Generator, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from fractions import Fraction

import av
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from action_clip.video.packets import PacketTable
from action_clip.video.pixels import SQUARE, check_total, upright_rgb
from action_clip.video.source import Origin, opened, read_packets


@dataclass
class Pass:
    """What decoding from the start found, frames numbered in the order in which the decoder showed them."""

    aspect: Fraction = SQUARE
    """How much wider than high pixels are shown."""
    times: list[int | None] = field(default_factory=list)
    """Presentation time of each frame."""
    spoilt: set[int] = field(default_factory=set)
    """The frames that the decoder itself calls corrupt."""
    failures: list[tuple[int | None, int]] = field(default_factory=list)
    """Presentation time of each packet that could not be decoded, and how many frames had come before it."""
    pictures: dict[int, NDArray[np.uint8]] = field(default_factory=dict)
    """RGB of the frames that were asked for."""

    def take(self, frames: Iterable[VideoFrame], wanted: Collection[int]) -> None:
        """Note the next frames, and keep the pictures of those wanted."""
        for frame in frames:
            number = len(self.times)
            self.times.append(frame.pts)
            if frame.is_corrupt:
                self.spoilt.add(number)
            if number in wanted:
                self.pictures[number] = picture = upright_rgb(frame, self.aspect)
                check_total(len(self.pictures), *picture.shape[:2])

    def timeline(self) -> tuple[list[int | None], list[int | None]]:
        """Return the time of every frame of the video, and its number in the pass, None for a broken one.

        A packet that could not be decoded has the place of its time, or where times are no guide, the place
        at which it failed. Corrupt frames count as broken unless there are no others.
        """
        good = set(range(len(self.times))) - self.spoilt or self.spoilt
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


def decode_all(
    origin: Origin, table: PacketTable, threads: int, wanted: Collection[int], *, to_end: bool = True
) -> Pass:
    """Decode from the start to the end, or to the last frame wanted, keeping the pictures of those wanted.

    Raises ActionClipError where reading fails, or these pictures are too large.
    """
    found = Pass()
    with closing(_decode_packets(found, origin, table, threads, wanted)) as packets:
        for _ in packets:
            if not to_end and len(found.pictures) == len(wanted):
                break
    return found


def stream_all(
    origin: Origin, table: PacketTable, threads: int, wanted: Collection[int]
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield number and picture of each frame wanted, in order, while everything is decoded from the start.

    Raises ActionClipError as `decode_all` does.
    """
    found = Pass()
    last = max(wanted)
    with closing(_decode_packets(found, origin, table, threads, wanted)) as packets:
        for _ in packets:
            for number in sorted(found.pictures):
                yield number, found.pictures.pop(number)
            if len(found.times) > last:
                break


def _decode_packets(
    found: Pass, origin: Origin, table: PacketTable, threads: int, wanted: Collection[int]
) -> Generator[None, None, None]:
    """Add what each packet shows to `found`, one after the other."""
    with opened(origin, threads) as video:
        found.aspect = video.aspect
        for packet in table.kept if table.kept is not None else read_packets(video):
            try:
                found.take(video.decode(packet), wanted)
            except av.FFmpegError:
                if not packet.is_discard:
                    found.failures.append((packet.pts, len(found.times)))
            yield
        with suppress(av.FFmpegError):
            found.take(video.decode(None), wanted)
        yield
