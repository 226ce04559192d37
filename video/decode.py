"""Decoding only what is needed: each wanted frame from the keyframe before it, every timestamp checked."""

from collections.abc import Callable, Collection
from concurrent.futures import wait
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

import av
from av.video.frame import VideoFrame

from action_clip.system.interrupts import run_in_thread
from action_clip.video.packets import PacketTable, SeekError, read_run
from action_clip.video.references import LeavesOut, nothing, unreferenced
from action_clip.video.source import MOST_READERS, Video, opened

Take = Callable[[int, VideoFrame], None]
"""Receives the number of a wanted frame and the frame; the same one twice where a run is decoded again."""


class SurpriseError(Exception):
    """The decoder showed other frames than the timestamps promised: only decoding everything tells more."""


@dataclass
class _Run:
    """Packets to decode one after the other: from a keyframe to the last one that a wanted frame needs."""

    first: int
    last: int
    wanted: dict[int, int] = field(default_factory=dict)
    """Frame numbers by presentation time."""


def decode_wanted(video: Video, table: PacketTable, wanted: Collection[int], take: Take) -> None:
    """Give the frames `wanted` (frame n is the n-th shown) of a regular table to `take`, in no certain order.

    Raises SurpriseError when anything is not as the timestamps say; then no frame is known to be right.
    """
    leaves_out = unreferenced(video.stream.codec_context)
    runs = _plan(table, wanted)
    try:
        if video.notices_damage or video.origin.is_url:
            for run in runs:
                _decode_surely(video, table, run, take, leaves_out)
        else:
            _decode_apart(video, table, runs, take, leaves_out)
    except (av.FFmpegError, SeekError) as error:
        raise SurpriseError from error


def _decode_apart(video: Video, table: PacketTable, runs: list[_Run], take: Take, leaves_out: LeavesOut) -> None:
    """Decode each run with a decoder that has decoded nothing else, several at once."""

    def decode(run: _Run) -> None:
        with opened(video.origin, 1) as again:
            _decode_surely(again, table, run, take, leaves_out)

    most = min(video.threads, MOST_READERS)
    for first in range(0, len(runs), most):
        decoding = [run_in_thread(partial(decode, run)) for run in runs[first : first + most]]
        wait(decoding)
        for done in decoding:
            done.result()


def _decode_surely(video: Video, table: PacketTable, run: _Run, take: Take, leaves_out: LeavesOut) -> None:
    try:
        _decode_run(video, table, run, take, leaves_out)
    except SurpriseError:
        # Decoders that have to guess how far frames are reordered can guess wrong where some are missing.
        _decode_run(video, table, run, take, nothing)


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


def _decode_run(video: Video, table: PacketTable, run: _Run, take: Take, leaves_out: LeavesOut) -> None:
    """Take the wanted frames of a run; check that each of its packets that is decoded showed its frame, in order."""
    start = int(table.pts[run.first])
    promised: list[int] = []
    seen: list[int] = []
    video.stream.codec_context.flush_buffers()
    packets = enumerate(read_run(video, table, run.first, run.last), run.first)
    for index, packet in chain(packets, ((run.last, None),)):
        if packet is not None:
            time = int(table.pts[index])
            if index > run.first and time not in run.wanted and leaves_out(bytes(packet)):
                continue
            # Frames shown before the keyframe but stored after it may refer to what was before it: decoders skip them.
            if table.is_shown[index] and time >= start:
                promised.append(time)
        for frame in video.decode(packet):
            if frame.pts is None or frame.is_corrupt or (frame.pts == start and not frame.key_frame):
                raise SurpriseError
            seen.append(frame.pts)
            if frame.pts in run.wanted:
                take(run.wanted[frame.pts], frame)
    if seen != sorted(promised):
        raise SurpriseError
