"""The packets of a video: a table of all of them, made without decoding, and reading any run of them again."""

from __future__ import annotations  # PyAV subscripts Packet in its stubs only

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray

from action_clip.errors import ActionClipError
from action_clip.system.forks import cached_property
from action_clip.video.alpha import SIDE_DATA
from action_clip.video.source import Video, VideoSource, read_failure

CACHED_BYTES = 16 * 2**20
"""Most bytes of packets that are cached in memory, so that they are not read twice."""
CACHED_URL_BYTES = 64 * 2**20
"""Most bytes of packets that are cached for a URL, where they would be downloaded twice."""
CACHED_PACKETS = 2**17
"""Most packets that are cached: each takes half a kilobyte, even where it holds one byte."""
MOST_PACKETS = 2**24
"""Most packets of a video: days of it, and 1.6 GB for their table."""

NO_TIME = -(2**63)
_DEFAULT_RATE = Fraction(25)  # FFmpeg's own, for streams that state none
_CHANGES = ("new_extradata", "palette", SIDE_DATA)  # side data that later packets depend on
_COLUMNS = 6  # of numbers for each packet
_SEEK_BACK_S = (0, 1, 4, 16)


class SeekError(Exception):
    """Seeking does not lead to the packets of the table: decode from the start instead."""


@dataclass(frozen=True)
class PacketTable:
    """All packets of a video stream in decoding order; times count `time_base`, NO_TIME where unknown."""

    time_base: Fraction
    rate: Fraction
    """Average frames per second, as the container has it: only for streams without timestamps."""
    pts: NDArray[np.int64]
    dts: NDArray[np.int64]
    duration: NDArray[np.int64]
    size: NDArray[np.int64]
    is_key: NDArray[np.bool_]
    is_shown: NDArray[np.bool_]
    """False for packets that an edit list cuts away: decoded, as others refer to them, but no part of the video."""
    starts_anywhere: bool
    """Whether decoding a packet needs only the packets since its keyframe."""
    cached: tuple[Packet[VideoStream], ...] | None
    """The packets themselves; None where they are too many for memory."""

    @cached_property
    def shown(self) -> NDArray[np.intp]:
        """The indices of the shown packets in order of presentation: in most videos, one a frame."""
        shown = np.flatnonzero(self.is_shown)
        return shown[np.argsort(self.pts[shown], kind="stable")]

    @cached_property
    def is_regular(self) -> bool:
        """Whether timestamps tell which packet shows which frame, and decoding may start at any keyframe."""
        if not (self.starts_anywhere and len(self.shown) and self.is_key[0]) or np.any(self.pts == NO_TIME):
            return False
        times = self.pts[self.shown]
        known = self.dts[self.dts != NO_TIME]
        return bool(np.all(np.diff(times) > 0) and np.all(np.diff(known) >= 0) and self.pts[0] <= times[0])

    @cached_property
    def _keys(self) -> NDArray[np.intp]:
        """The positions of the keyframes."""
        return np.flatnonzero(self.is_key)

    def keyframe_for(self, packet: int) -> int:
        """Return the position of the last keyframe that is before a packet both in decoding order and in time."""
        keys = self._keys
        place = int(np.searchsorted(keys, packet, side="right")) - 1
        while self.pts[keys[place]] > self.pts[packet]:
            place -= 1
        return int(keys[place])

    def nearest_keyframe(self, frame: int) -> int:
        """Return the number of the keyframe that is nearest in time to frame `frame`, the earlier of two.

        Frames are numbered in order of presentation. Without keyframes, it is `frame` itself.
        """
        keys = np.flatnonzero(self.is_key[self.shown])
        times = self.pts[self.shown]
        return int(keys[np.argmin(np.abs(times[keys] - times[frame]))]) if len(keys) else frame


def clock(stream: VideoStream) -> tuple[Fraction, Fraction]:
    """Return the unit of a stream's times, in seconds, and its average rate in frames a second."""
    rate = stream.average_rate or stream.guessed_rate or _DEFAULT_RATE
    return stream.time_base or 1 / _DEFAULT_RATE, rate


def fits_memory(source: VideoSource) -> bool:
    """Return whether the packets of a file are few enough to be cached; True for a URL, whose size may be unknown.

    Raises ActionClipError where the file no longer exists.
    """
    return source.is_url or source.size() <= CACHED_BYTES


def scan(video: Video) -> PacketTable:
    """Return the table of the packets from where the container is to its end, which are read but not decoded.

    Raises ActionClipError when the connection or the disk fails, and for more than MOST_PACKETS packets.
    """
    stream = video.stream
    numbers = array("q")  # a twentieth of the memory of tuples
    cached: list[Packet[VideoStream]] = []
    room = CACHED_URL_BYTES if video.source.is_url else CACHED_BYTES
    starts_anywhere = fits = True
    for packet in read_packets(video):
        pts, dts, size = packet.pts, packet.dts, packet.size
        if len(numbers) == MOST_PACKETS * _COLUMNS:
            raise ActionClipError(
                f"{video.source.name} has more than {MOST_PACKETS} frames; cut it into parts, or look at its keyframes"
            )
        side_data = list(packet.iter_sidedata())
        if numbers and any(data.data_type in _CHANGES for data in side_data):
            starts_anywhere = False
        numbers.extend(
            (
                NO_TIME if pts is None else pts,
                NO_TIME if dts is None else dts,
                packet.duration or 0,
                size,
                packet.is_keyframe,
                not packet.is_discard,
            )
        )
        room -= size + sum(data.data_size for data in side_data)
        fits = fits and room >= 0 and len(cached) < CACHED_PACKETS
        if fits:
            cached.append(packet)
        else:
            cached.clear()
    time_base, rate = clock(stream)
    columns = np.frombuffer(numbers, np.int64).reshape(-1, _COLUMNS).T.copy()
    return PacketTable(
        time_base=time_base,
        rate=rate,
        pts=columns[0],
        dts=columns[1],
        duration=columns[2],
        size=columns[3],
        is_key=columns[4].astype(bool),
        is_shown=columns[5].astype(bool),
        starts_anywhere=starts_anywhere,
        cached=tuple(cached) if fits else None,
    )


def demux(video: Video) -> Iterator[Packet[VideoStream]]:
    """Yield the packets of the video stream that hold data, from where the container is.

    Raises FFmpegError where they cannot be read.
    """
    try:
        for packet in video.container.demux(video.stream):
            if packet.size:
                yield packet
    except IndexError:  # PyAV 18, at the end of a file in which streams begin in the middle
        return


def read_packets(video: Video) -> Iterator[Packet[VideoStream]]:
    """Yield the packets of the video stream, in decoding order, from where the container is.

    A cut or damaged file ends where it can no longer be read. Raises ActionClipError when the connection or
    the disk fails.
    """
    try:
        for packet in demux(video):
            video.source.check()
            yield packet
    except av.FFmpegError as error:
        if video.source.is_url or isinstance(error, OSError):
            raise read_failure(video.source, error) from error


def read_run(video: Video, table: PacketTable, first: int, last: int) -> Iterator[Packet[VideoStream]]:
    """Yield the packets `first` to `last` (included) of the table, from memory or by seeking in the file.

    Raises SeekError when seeking leads elsewhere or the packets are not those of the table, and FFmpegError when
    they cannot be read.
    """
    if table.cached is not None:
        yield from table.cached[first : last + 1]
        return
    index = first
    for packet in _seek(video, table, first):
        if packet.pts != table.pts[index] or packet.size != table.size[index]:
            raise SeekError
        yield packet
        index += 1
        if index > last:
            return
    raise SeekError


def _seek(video: Video, table: PacketTable, first: int) -> Iterator[Packet[VideoStream]]:
    """Yield the packets from `first`, a keyframe, on: seek to it or before it, and skip what comes before."""
    pts, dts, size = int(table.pts[first]), int(table.dts[first]), table.size[first]
    # Some formats seek by presentation time, some by decoding time, and some land late: then aim earlier.
    earlier = pts if dts == NO_TIME else min(pts, dts)
    for target in (pts, *(earlier - round(back / table.time_base) for back in _SEEK_BACK_S)):
        try:
            video.container.seek(target, stream=video.stream)
        except av.FFmpegError:
            continue
        packets = demux(video)
        for packet in packets:
            if packet.pts == pts and packet.size == size:
                yield packet
                yield from packets
                return
            if packet.pts is None or packet.pts > pts:
                break
    raise SeekError
