"""Decoding only what is needed: each wanted frame from the keyframe before it, every timestamp checked."""

from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import chain

import av
import numpy as np
from numpy.typing import NDArray

from video.packets import PacketTable, SeekError, read_run
from video.pixels import upright_rgb
from video.source import Video


class SurpriseError(Exception):
    """The decoder showed other frames than the timestamps promised: only decoding everything tells more."""


@dataclass
class _Run:
    """Packets to decode one after the other: from a keyframe to the last one that a wanted frame needs."""

    first: int
    last: int
    wanted: dict[int, int] = field(default_factory=dict)
    """Frame numbers by presentation time."""


def decode_wanted(video: Video, table: PacketTable, wanted: Collection[int]) -> dict[int, NDArray[np.uint8]]:
    """Return the RGB pictures of the frames `wanted` (frame n is the n-th shown) of a regular table.

    Raises SurpriseError when anything is not as the timestamps say; then no frame is known to be right.
    """
    pictures: dict[int, NDArray[np.uint8]] = {}
    try:
        for run in _plan(table, wanted):
            pictures |= _decode_run(video, table, run)
    except (av.FFmpegError, SeekError) as error:
        raise SurpriseError from error
    return pictures


def _plan(table: PacketTable, wanted: Collection[int]) -> list[_Run]:
    runs: list[_Run] = []
    for frame in sorted(wanted):
        packet = int(table.shown[frame])
        keyframe = table.keyframe_for(packet)
        if not runs or keyframe > runs[-1].last:
            runs.append(_Run(keyframe, packet))
        runs[-1].last = max(runs[-1].last, packet)
        runs[-1].wanted[int(table.pts[packet])] = frame
    return runs


def _decode_run(video: Video, table: PacketTable, run: _Run) -> dict[int, NDArray[np.uint8]]:
    """Return the wanted pictures of a run; check that each of its packets showed its frame, in order."""
    start = int(table.pts[run.first])
    part = slice(run.first, run.last + 1)
    # Frames shown before the keyframe but stored after it may refer to what was before it: decoders skip them.
    promised = np.sort(table.pts[part][table.is_shown[part] & (table.pts[part] >= start)]).tolist()
    seen: list[int] = []
    pictures: dict[int, NDArray[np.uint8]] = {}
    video.stream.codec_context.flush_buffers()
    for packet in chain(read_run(video, table, run.first, run.last), (None,)):
        for frame in video.stream.decode(packet):
            if frame.pts is None or frame.is_corrupt or (frame.pts == start and not frame.key_frame):
                raise SurpriseError
            seen.append(frame.pts)
            if frame.pts in run.wanted:
                pictures[run.wanted[frame.pts]] = upright_rgb(frame)
    if seen != promised:
        raise SurpriseError
    return pictures
