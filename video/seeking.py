"""Seeking: each requested frame is decoded from the keyframe before it, and every timestamp is checked."""

from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import wait
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext

from action_clip.system.interrupts import run_in_thread
from action_clip.video.frame_buffer import Picture
from action_clip.video.packets import PacketTable, SeekError, read_run
from action_clip.video.pixels import upright_rgb
from action_clip.video.source import MOST_READERS, Video, opened

Store = Callable[[int, Picture], None]
"""A function that receives a frame's number and its (H, W, 3) uint8 RGB; twice where a run is decoded again."""


_SKIPPING = ("h264", "hevc", "mpeg4", "mpeg1video", "mpeg2video")
"""Codecs whose decoders skip non-reference frames on request. With others, every frame is decoded and checked."""


class StrategyError(Exception):
    """A strategy cannot return the requested frames, or cannot be sure that they are right: the next one is tried."""


@dataclass
class _Run:
    """Packets to decode one after the other: from a keyframe to the last one that a requested frame needs."""

    first: int
    last: int
    requested: dict[int, int] = field(default_factory=dict)
    """Frame numbers by presentation time."""


def run_starts(table: PacketTable, requested: Collection[int]) -> list[int]:
    """Return the first frame of each run of packets that the frames `requested`, of a regular table, are decoded from.

    No frame is decoded twice where decoding begins anew at these.
    """
    return [min(run.requested.values()) for run in _plan(table, requested)]


def decode_frames(video: Video, table: PacketTable, requested: Collection[int], store: Store) -> None:
    """Decode frames of a video with a regular table, and pass them to `store`, in any order and from any thread.

    `requested` has their numbers, from 0 in order of presentation. Raises StrategyError when the decoded frames do not
    match the timestamps; then frames that were passed on may be wrong.
    """
    runs = _plan(table, requested)
    if video.notices_damage or video.source.is_url:
        for run in runs:
            _store_run(video, table, run, store)
    else:
        _decode_in_parallel(video, table, runs, store)


def stream_frames(video: Video, table: PacketTable, requested: Collection[int]) -> Iterator[tuple[int, Picture]]:
    """Yield number and picture of the frames `requested` of a regular table, in order, each as soon as it is decoded.

    Each is checked before it is yielded. Raises StrategyError when the next one does not match the timestamps.
    """
    last = -1
    for run in _plan(table, requested):
        is_shared = video.notices_damage or video.source.is_url
        with nullcontext(video) if is_shared else opened(video.source, 1) as decoder:
            for number, picture in _decode_surely(decoder, table, run):
                if number > last:
                    last = number
                    yield number, picture


def _store_run(video: Video, table: PacketTable, run: _Run, store: Store) -> None:
    for number, picture in _decode_surely(video, table, run):
        store(number, picture)


def _decode_in_parallel(video: Video, table: PacketTable, runs: list[_Run], store: Store) -> None:
    """Decode each run with a decoder that has decoded nothing else, several at once."""

    def decode(run: _Run) -> None:
        with opened(video.source, 1) as decoder:
            _store_run(decoder, table, run, store)

    most = min(video.threads, MOST_READERS)
    for first in range(0, len(runs), most):
        decoding = [run_in_thread(partial(decode, run)) for run in runs[first : first + most]]
        wait(decoding)
        for done in decoding:
            done.result()


def _decode_surely(video: Video, table: PacketTable, run: _Run) -> Iterator[tuple[int, Picture]]:
    """Decode a run without non-reference frames; where that fails, decode all of it, from its first frame on."""
    skips = _skips_non_reference(video.stream.codec_context)
    for skip in dict.fromkeys((skips, False)):
        try:
            yield from _decode_run(video, table, run, skip=skip)
        except StrategyError:
            # Decoders that have to guess how far frames are reordered can guess wrong where some are missing.
            if not skip:
                raise
        except (av.FFmpegError, SeekError) as error:
            raise StrategyError(f"the packets from {run.first} on cannot be decoded: {error}") from error
        else:
            return


def _plan(table: PacketTable, requested: Collection[int]) -> list[_Run]:
    runs: list[_Run] = []
    for number in sorted(requested):
        packet = int(table.shown[number])
        keyframe = table.keyframe_for(packet)
        if not runs or keyframe > runs[-1].last:
            runs.append(_Run(keyframe, packet))
        runs[-1].last = max(runs[-1].last, packet)
        runs[-1].requested[int(table.pts[packet])] = number
    return runs


def _decode_run(video: Video, table: PacketTable, run: _Run, *, skip: bool) -> Iterator[tuple[int, Picture]]:
    """Yield the requested frames of a run, and check that each packet shows its frame, in order.

    Where the decoder is to `skip` non-reference frames, those among them that were not requested may be missing.
    """
    start = int(table.pts[run.first])
    times = table.pts[run.first : run.last + 1]
    # Frames shown before the keyframe but stored after it may refer to what was before it: decoders skip them.
    due = deque(np.sort(times[table.is_shown[run.first : run.last + 1] & (times >= start)]).tolist())
    needed = {start, *run.requested} if skip else set(due)
    context = video.stream.codec_context
    context.flush_buffers()
    for index, packet in enumerate(chain(read_run(video, table, run.first, run.last), [None]), run.first):
        is_needed = packet is None or int(table.pts[index]) in needed
        context.skip_frame = "DEFAULT" if is_needed or not skip else "NONREF"
        for frame in video.decode(packet):
            if frame.pts is None or frame.is_corrupt or (frame.pts == start and not frame.key_frame):
                raise StrategyError(f"a frame of the packets from {run.first} on is damaged")
            while due and due[0] < frame.pts and due[0] not in needed:
                due.popleft()
            if not due or due.popleft() != frame.pts:
                raise StrategyError(f"the packets from {run.first} on show other frames than their timestamps say")
            if frame.pts in run.requested:
                yield run.requested[frame.pts], upright_rgb(frame, video.aspect)
    if needed.intersection(due):
        raise StrategyError(f"the packets from {run.first} on show fewer frames than their timestamps say")


def _skips_non_reference(context: VideoCodecContext) -> bool:
    """Return whether a decoder skips non-reference frames on request, and no frame refers to those.

    In HEVC with several temporal layers, frames of a higher layer may refer to them (H.265, 7.4.2.2). The number of
    layers is in hvcC (ISO 14496-15, 8.3.3.1); where a stream has none, it is not known.
    """
    extradata = context.extradata or b""
    has_one_layer = len(extradata) > 22 and extradata[0] == 1 and extradata[21] >> 3 & 7 == 1
    return context.name in _SKIPPING and (context.name != "hevc" or has_one_layer)
