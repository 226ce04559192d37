"""The packets of a video: what is known of each without decoding it, and reading any run of them again."""

from __future__ import annotations  # PyAV subscripts Packet in its stubs only

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import av
import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray

from video.source import Video, read_packets

KEPT_BYTES = 64 * 2**20
"""Up to this much compressed video is kept in memory, so that nothing is read or downloaded twice."""

NO_TIME = -(2**63)
_DEFAULT_RATE = Fraction(25)  # FFmpeg's own, for streams that state none
_SEEK_BACK_S = (0, 1, 4, 16)


class SeekError(Exception):
    """The packets could not be found again where they were: decode from the start instead."""


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
    """False for what an edit list cuts away: decoded, as others refer to it, but no part of the video."""
    starts_anywhere: bool
    """False when some packet depends on more than those since its keyframe."""
    kept: tuple[Packet[VideoStream], ...] | None

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

    def keyframe_for(self, packet: int) -> int:
        """Return the last keyframe that is before a packet both in decoding order and in time."""
        keys = np.flatnonzero(self.is_key[: packet + 1])
        return int(keys[self.pts[keys] <= self.pts[packet]][-1])


def scan(video: Video) -> PacketTable:
    """Read through the whole stream without decoding it.

    Raises ActionClipError when the connection or the disk fails.
    """
    stream = video.stream
    rows: list[tuple[int, int, int, int, bool, bool]] = []
    kept: list[Packet[VideoStream]] | None = []
    kept_bytes = 0
    starts_anywhere = True
    for packet in read_packets(video):
        pts = NO_TIME if packet.pts is None else packet.pts
        dts = NO_TIME if packet.dts is None else packet.dts
        rows.append((pts, dts, packet.duration or 0, packet.size, packet.is_keyframe, not packet.is_discard))
        if len(rows) > 1 and (packet.has_sidedata("new_extradata") or packet.has_sidedata("palette")):
            starts_anywhere = False
        kept_bytes += packet.size
        if kept_bytes > KEPT_BYTES:
            kept = None
        if kept is not None:
            kept.append(packet)
    columns = np.array(rows, np.int64).reshape(-1, 6).T
    return PacketTable(
        time_base=stream.time_base or 1 / _DEFAULT_RATE,
        rate=stream.average_rate or stream.guessed_rate or _DEFAULT_RATE,
        pts=columns[0],
        dts=columns[1],
        duration=columns[2],
        size=columns[3],
        is_key=columns[4].astype(bool),
        is_shown=columns[5].astype(bool),
        starts_anywhere=starts_anywhere,
        kept=None if kept is None else tuple(kept),
    )


def read_run(video: Video, table: PacketTable, first: int, last: int) -> Iterator[Packet[VideoStream]]:
    """Yield the packets `first` to `last` (included) of the table, from memory or by seeking in the file.

    Raises SeekError when seeking leads elsewhere or the packets are not those of the table, and FFmpegError when
    they cannot be read.
    """
    if table.kept is not None:
        yield from table.kept[first : last + 1]
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
        packets = (packet for packet in video.container.demux(video.stream) if packet.size)
        for packet in packets:
            if packet.pts == pts and packet.size == size:
                yield packet
                yield from packets
                return
            if packet.pts is None or packet.pts > pts:
                break
    raise SeekError
