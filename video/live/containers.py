"""The frames of an open container as they arrive: one thread drains it, and another one decodes."""

from __future__ import annotations  # PyAV subscripts Packet in its stubs only

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from threading import Event, Lock, Thread
from time import monotonic
from typing import cast

import av
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from action_clip.errors import ActionClipError
from action_clip.system.cores import usable_cores
from action_clip.system.interrupts import start_unawaited
from action_clip.video.ffmpeg_file import StoppedError
from action_clip.video.live.feed import BrokenError, Due, LiveFrame, Pace
from action_clip.video.live.packets import Arrival, PacketQueue
from action_clip.video.pixels import check_size, upright_rgb
from action_clip.video.source import Video

MOST_LATE_S = 2.0
"""Seconds that decoding may be late by: then it goes on with a later keyframe."""
_KEYFRAME_WAIT_S = 10.0
"""Seconds that a keyframe is waited for: some streams have none, and become whole bit by bit."""
_READING, _DECODING = "reading", "decoding"
_MOST_ARRIVALS = 256
_LARGE = 2**21
"""Pixels of a frame, 1080p, above which several frames are decoded at a time, each a frame later."""
_MOST_THREADS = 4
_WITHOUT_TIMES = {"mpjpeg", "mjpeg", "jpeg_pipe", "png_pipe", "h264", "hevc", "m4v", "mpegvideo"}
"""Formats that have no times: FFmpeg counts 25 frames a second, whatever there are."""


class ContainerFeed:
    """The frames of a container that is read to its end once, as they arrive."""

    def __init__(self, video: Video, resources: ExitStack, pace: Pace, *, has_end: bool, silence_s: float) -> None:
        """Begin to read.

        Args:
            video: the open container; nothing of it was decoded.
            resources: closes it, and what it needs.
            pace: how its packets come.
            has_end: whether the end of the data is that of the stream, and not a connection that was closed.
            silence_s: seconds without data after which reading gives up, for the message.
        """
        self.pace = pace
        self._video = video
        self._resources = resources
        self._has_end = has_end
        self._silence_s = silence_s
        self._stop = Event()
        self._queue = PacketQueue(self._stop, drops=not pace.is_own)
        self._has_times = video.container.format.name not in _WITHOUT_TIMES
        self._arrivals: dict[int | None, float] = {}
        self._time_base = video.stream.time_base  # the last frames, which come without a packet, have none
        self._choose_threads()
        self._lock = Lock()
        self._users = {_READING, _DECODING}
        self._is_decoded = False
        self._reading = Thread(target=self._read, name="packets", daemon=True)
        start_unawaited(self._reading)

    def _choose_threads(self) -> None:
        context = self._video.stream.codec_context
        check_size(self._video.source.name, context.width, context.height)
        is_large = context.width * context.height > _LARGE
        context.thread_type = "AUTO" if is_large else "SLICE"
        context.thread_count = min(usable_cores(), _MOST_THREADS)

    def close(self) -> None:
        """End reading and decoding; the thread that ends last closes the container."""
        self._stop.set()
        self._video.source.status.stop.set()
        if not self._is_decoded:
            self._leave(_DECODING)

    def join(self, timeout_s: float) -> None:
        """Wait until reading has ended, at most so many seconds."""
        self._reading.join(timeout_s)

    def _leave(self, user: str) -> None:
        with self._lock:
            self._users.discard(user)
            is_last = not self._users
        if is_last:
            self._resources.close()

    def frames(self, due: Due) -> Iterator[LiveFrame]:
        """Yield the frames: as `Feed.frames`."""
        self._is_decoded = True
        try:
            yield from self._frames(due)
        finally:
            self._leave(_DECODING)

    def _frames(self, due: Due) -> Iterator[LiveFrame]:
        needs_keyframe, since = True, monotonic()
        has_decoded = False
        while (arrival := self._queue.get()) is not None:
            is_late = monotonic() - due(self._pts_s(arrival.packet), arrival.arrived) > MOST_LATE_S
            if (is_late or arrival.is_after_gap) and not needs_keyframe:
                needs_keyframe, since = True, monotonic()
            if needs_keyframe:
                may_begin = arrival.packet.is_keyframe or monotonic() - since > _KEYFRAME_WAIT_S
                if is_late or not may_begin:
                    continue
                needs_keyframe = False
                if has_decoded:
                    self._video.stream.codec_context.flush_buffers()
            has_decoded = True
            yield from self._decoded(arrival)
        if has_decoded and not self._stop.is_set():
            yield from self._decoded(None)

    def _pts_s(self, packet: Packet[VideoStream]) -> float | None:
        if not self._has_times or packet.pts is None or packet.time_base is None:
            return None
        return float(packet.pts * packet.time_base)

    def _decoded(self, arrival: Arrival | None) -> Iterator[LiveFrame]:
        """Yield what the decoder returns for a packet; for None, what is left in it."""
        if arrival is not None:
            self._arrivals[arrival.packet.pts] = arrival.arrived
            if len(self._arrivals) > _MOST_ARRIVALS:
                del self._arrivals[next(iter(self._arrivals))]
        try:
            frames = self._video.decode(None if arrival is None else arrival.packet)
        except StoppedError:
            return
        except (av.FFmpegError, EOFError):  # what is damaged is passed over
            return
        for frame in frames:
            yield self._frame(frame)

    def _frame(self, frame: VideoFrame) -> LiveFrame:
        arrived = self._arrivals.pop(frame.pts, None) or monotonic()
        time_base = frame.time_base or self._time_base
        has_time = self._has_times and frame.pts is not None and time_base is not None
        pts_s = float(frame.pts * time_base) if has_time else None  # type: ignore[operator]
        return LiveFrame(partial(upright_rgb, frame, self._video.aspect), pts_s, arrived)

    def _read(self) -> None:
        """Put all packets into the queue; runs in a thread of its own."""
        error: BaseException | None
        try:
            error = self._drain()
        except BaseException as unexpected:
            error = BrokenError(f"{type(unexpected).__name__}: {unexpected}")
        self._queue.end(error)
        self._leave(_READING)

    def _drain(self) -> Exception | None:
        """Read until the end; return why it is none."""
        try:
            since = monotonic()
            for packet in self._video.container.demux():
                if self._stop.is_set():
                    return None
                if not self.pace.is_trusted and monotonic() - since >= self._silence_s:
                    return self._silence()  # the packet is an older one: FFmpeg returns it when it has waited in vain
                if packet.stream_index == self._video.stream.index and packet.size:
                    self._queue.put(cast("Packet[VideoStream]", packet), monotonic())
                since = monotonic()
            self._video.source.check()
        except (StoppedError, ActionClipError) as error:
            return error if isinstance(error, ActionClipError) else None
        except av.ExitError:
            return self._silence()
        except (av.FFmpegError, ValueError) as error:
            return BrokenError(getattr(error, "strerror", None) or str(error))
        return None if self._has_end else BrokenError("the server has ended it")

    def _silence(self) -> BrokenError:
        return BrokenError(f"no data for {self._silence_s:.0f} s")
