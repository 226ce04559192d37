"""Reading frames of a video: those that a sampler chooses, those with given indices, or those of a time span."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from functools import partial
from itertools import islice
from threading import Lock
from types import TracebackType
from typing import TypeVar
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from action_clip.errors import ActionClipError
from action_clip.system.forks import cached_property, never_destroy, reset_in_children
from action_clip.system.interrupts import interruptible
from action_clip.video.clip import Clip, Frame
from action_clip.video.ffmpeg_file import StoppedError
from action_clip.video.frame_buffer import Shrink, resized, unchanged
from action_clip.video.original import Original, opened_original
from action_clip.video.sampling import Sampler
from action_clip.video.seeking import StrategyError
from action_clip.video.source import VideoSource, locate
from action_clip.video.strategies import FromStart, Strategy, make_strategies
from action_clip.video.stretches import Stretch, Ways, stretches
from action_clip.video.timeline import Timeline

__all__ = ["Clip", "Frame", "VideoReader", "read_clip"]

T = TypeVar("T")

_log = logging.getLogger("action_clip")
_BATCH_PIXELS = 2**22
"""Pixels of the frames that `frames_between` decodes at once: two of 1080p, thirteen of 640 × 480."""
_ROUNDING_S = 0.0006
"""Seconds by which a frame may begin late and still be found: some containers round times to milliseconds."""


class VideoReader:
    """A video whose packets are read through once, and whose frames are read any number of times.

        with VideoReader("clip.mp4") as video:
            clip = video.frames_at(range(0, len(video), 10))

    The source is a file of any container and codec that PyAV reads (a picture is a video of one frame), a pipe, or an
    http(s) URL. What has come from a URL, and a copy of what came through a pipe, is kept until the reader is closed.

    Frames are found by a list of strategies (`strategies.py`), tried in order. The packets' timestamps come from the
    index of a large MP4 file, or from reading through the packets once. Where they tell which packet shows which frame,
    only the packets from a keyframe to a requested frame are decoded, without the frames that no other refers to;
    otherwise everything is decoded. A broken frame is replaced by its nearest decodable neighbour, with one warning.
    The frames are the same, bit for bit, for any number of threads, however damaged the video is, and whatever was read
    before.

    Any thread may call any method; the calls run one at a time. A forked child opens the video anew. Only the named
    file is opened, and for a URL only http(s) addresses. Ctrl-C ends a call at once, whatever it waits for, and closes
    the reader.

    Every property and method raises ActionClipError when there is no video to read, or the reader is closed.
    """

    def __init__(self, source: str | os.PathLike[str], *, threads: int | None = None) -> None:
        """Check that the video is there; a pipe is copied to a temporary file.

        Args:
            source: the path of a file or pipe, or an http(s) URL.
            threads: number of decoding threads; None: one a core.
        """
        self._resources = ExitStack()
        self._threads = threads or 0
        self._begin(self._resources.enter_context(locate(source)))
        reset_in_children(self)

    def _begin(self, source: VideoSource) -> None:
        self._source = source
        self._lock = Lock()
        self._decoders, self.strategies = make_strategies(source, self._threads)
        self._streams: WeakSet[Generator[Frame, None, None]] = WeakSet()
        self._strategy: str | None = None

    def reset_after_fork(self) -> None:
        """Called in a forked child: open the video anew, and neither use nor close what the parent has opened."""
        never_destroy((self._resources, self._source, self._decoders, self.strategies, list(self._streams)))
        self._resources = ExitStack()
        self._begin(self._resources.enter_context(self._source.for_child()))

    def __enter__(self) -> VideoReader:
        """Return the reader, which is closed when the block ends."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the video. A call that still runs in another thread ends soon, and closes its decoders then."""
        self._source.status.stop.set()
        if self._lock.acquire(blocking=False):
            try:
                self._close_decoders()
            finally:
                self._lock.release()
        self._resources.close()

    def __len__(self) -> int:
        """The number of frames."""
        return len(self._timeline.times_s)

    @property
    def times_s(self) -> tuple[float, ...]:
        """When each frame is shown, in seconds from the first one."""
        return self._timeline.times_s

    @property
    def duration_s(self) -> float:
        """When the last frame ends, in seconds from the first one."""
        return self._timeline.duration_s

    @property
    def rate(self) -> float:
        """The average number of frames a second."""
        return len(self) / self.duration_s

    @cached_property
    def size(self) -> tuple[int, int]:
        """Width and height of the first frame as it is returned: upright, its pixels square."""
        _, height, width, _ = self.frames_at([0]).frames.shape
        return width, height

    @cached_property
    def rotation(self) -> int:
        """By how many degrees, 0, 90, 180 or 270, frames are turned clockwise before they are returned."""
        return self._answer(lambda strategy: strategy.rotation())

    @property
    def strategy(self) -> str | None:
        """The name of the strategy that gave the last result; None before the first one."""
        return self._strategy

    def clip(self, sampler: Sampler, shrink: Shrink = unchanged) -> Clip:
        """Return the frames at the indices that `sampler` gives for the number of frames in the video.

        Each is kept as `shrink` returns it, as soon as it is decoded; any thread may call that. Frames of another size
        than the first one returned are brought to its size.

        With `Keyframes` as the sampler, the keyframes nearest to the frames of its rule are returned. Where an MP4,
        Matroska or AVI file has an index, only that and these keyframes are read; `indices` and `total_frames` are then
        counted in the index where it lists every frame, else estimated from time and average rate. Without an index,
        the keyframes are found by reading through all packets. The frames of the rule themselves are returned where
        timestamps do not tell the frames apart, and where a video of up to `SHORT_PIXELS` has fewer keyframes near them
        than the rule has frames; a longer video gives its few keyframes, with one warning.

        Raises ActionClipError also for indices outside the video, and for frames that are too large.
        """
        return self._answer(lambda strategy: strategy.clip(sampler, shrink))

    def frames_at(self, indices: Sequence[int]) -> Clip:
        """Return the frames with these indices, in this order; 0 is the first frame shown.

        Raises ActionClipError also for indices outside the video, and for frames that are too large together.
        """
        chosen = [int(index) for index in indices]
        total = len(self)
        if not chosen or not all(0 <= index < total for index in chosen):
            raise ActionClipError(f"the frames {chosen} are asked for, but the video has the frames 0 to {total - 1}")
        # Where decoding shows fewer frames than timestamps promise, the last one stands for those that are missing.
        return self.clip(lambda decoded: [min(index, decoded - 1) for index in chosen])

    def every_frame(self) -> Iterator[Frame]:
        """Return an iterator over all frames, in order; otherwise as `frames_between`.

        In place of a broken frame comes its nearest good neighbour, with the index and time of that one.
        """
        return self._stream(list(range(len(self))))

    def original(self) -> AbstractContextManager[Original]:
        """Return a context manager of what a copy of the video keeps besides its frames."""
        return opened_original(self._source)

    def frames_between(self, start_s: float, end_s: float, rate: float) -> Iterator[Frame]:
        """Return an iterator over the frames from `start_s` to `end_s`, in seconds, at `rate` frames a second.

        These are the frames shown at `start_s`, `start_s + 1 / rate`, and so on, up to `end_s` (not included) or the
        end of the video; one that is shown for longer comes repeatedly, as the same `Frame`. They are decoded as they
        are asked for, a few at a time, with a decoder of their own: hours of them take no more memory than seconds.
        All have the size of the first one.

        Raises ActionClipError also for a stretch outside the video and a rate that is not above 0.
        """
        if not (0 <= start_s < end_s and 0 < rate < math.inf):
            raise ActionClipError(
                f"there are no frames from {start_s} to {end_s} s at {rate} frames a second; give a start of 0 or "
                "more, a later end and a rate above 0"
            )
        if start_s >= self.duration_s:
            raise ActionClipError(f"{self._source.name} has {self.duration_s:.3f} s, and no frames from {start_s} s on")
        count = math.ceil((min(end_s, self.duration_s) - start_s) * rate - _ROUNDING_S)
        return self._stream(self.shown_at(start_s + np.arange(max(count, 1)) / rate).tolist())

    def shown_at(self, moments_s: NDArray[np.floating]) -> NDArray[np.intp]:
        """Return the index of the frame that is shown at each moment, in seconds from the first one."""
        return np.maximum(np.searchsorted(self.times_s, moments_s + _ROUNDING_S, side="right") - 1, 0)

    def stretches(self, indices: Sequence[int], most: int, shrink: Shrink = unchanged) -> Iterator[Stretch]:
        """Return an iterator over the frames with these indices in stretches, in order, for several threads to decode.

        The image of each frame is what `shrink` returns for it, in the thread that decodes it. Frames are not brought
        to one size. No frame is decoded twice: stretches begin at keyframes, or wait for those before them. So a thread
        that takes stretches from here decodes each, or leaves its block, before the next.

        Args:
            indices: ascending, without duplicates.
            most: frames of a stretch, at most.
        """

        def places(strategy: Strategy) -> tuple[Strategy, list[int]]:
            starts = strategy.starts(indices)
            self._decoders.close()  # of no more use: stretches have decoders of their own
            return strategy, starts

        strategy, starts = self._answer(places)
        others = self.strategies[self.strategies.index(strategy) :]
        seeking = [other for other in others if not isinstance(other, FromStart)]
        from_start = [other for other in others if isinstance(other, FromStart)]

        def at_once(first: int, end: int) -> Iterator[Frame]:
            return self._checked(strategy.stream(indices[first:end], shrink, strict=True))

        def again(first: int, end: int) -> Iterator[Frame]:
            return self._one_by_one(self._decoded(indices[first:end], seeking, shrink))

        def whole(first: int, end: int) -> Iterator[Frame]:
            return self._one_by_one(self._decoded(indices[first:end], from_start, shrink))

        ways = Ways((at_once, again) if seeking else (), whole)
        # What comes from a URL is read by one thread at a time.
        starts = [0] if self._source.is_url else starts
        return stretches(indices, starts, most, ways, self._source.status.stop)

    def _one_by_one(self, frames: Generator[Frame, None, None]) -> Iterator[Frame]:
        """Yield the frames; while each is decoded, no other call runs."""
        self._alone(lambda: self._streams.add(frames))
        while (frame := self._alone(partial(next, frames, None))) is not None:
            yield frame

    def _checked(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield the frames; errors of reading, and that the reader was closed, are raised as ActionClipError."""
        try:
            try:
                yield from frames
            except Exception:
                self._source.check()
                raise
            self._source.check()
        except StoppedError as error:
            raise self._closed_error("was") from error

    @cached_property
    def _timeline(self) -> Timeline:
        return self._answer(lambda strategy: strategy.timeline())

    def _stream(self, indices: list[int]) -> Iterator[Frame]:
        frames = self._of_one_size(self._decoded(indices, self.strategies))
        self._streams.add(frames)
        batch = 1
        while decoded := self._call(partial(_next, frames, batch)):
            yield from decoded
            batch = max(_BATCH_PIXELS // decoded[0].image[..., 0].size, 1)

    def _of_one_size(self, frames: Iterator[Frame]) -> Generator[Frame, None, None]:
        """Yield the frames, each brought to the size of the first one."""
        size: tuple[int, ...] | None = None
        for frame in frames:
            size = size or frame.image.shape[:2]
            yield frame if frame.image.shape[:2] == size else replace(frame, image=resized(frame.image, *size))

    def _decoded(
        self, indices: Sequence[int], strategies: Sequence[Strategy], shrink: Shrink = unchanged
    ) -> Generator[Frame, None, None]:
        """Yield frames as they are decoded, shrunk; where a strategy fails, the next one goes on from there."""
        done = 0
        for strategy in strategies:
            try:
                for frame in strategy.stream(indices[done:], shrink):
                    self._strategy = strategy.name
                    done += 1
                    yield frame
            except StrategyError as error:
                self._note(strategy, error)
            if done == len(indices):
                return

    def _answer(self, ask: Callable[[Strategy], T]) -> T:
        """Return the answer of the first strategy that raises no StrategyError."""

        def first() -> T:
            for strategy in self.strategies:
                try:
                    answer = ask(strategy)
                except StrategyError as error:
                    self._note(strategy, error)
                else:
                    _log.debug("%s: %s", self._source.name, strategy.name)
                    self._strategy = strategy.name
                    return answer
            raise AssertionError("the last strategy answers everything")

        return self._call(first)

    def _note(self, strategy: Strategy, error: StrategyError) -> None:
        self._source.check()  # an error of reading comes first, as it explains the other
        _log.debug("%s: not %s: %s", self._source.name, strategy.name, error)

    def _call(self, work: Callable[[], T]) -> T:
        """Return what `work` returns; it waits for other calls to end, and Ctrl-C ends it."""
        return interruptible(lambda: self._alone(work), self._source.status.stop)

    def _alone(self, work: Callable[[], T]) -> T:
        stop = self._source.status.stop
        with self._lock:
            try:
                if stop.is_set():
                    raise self._closed_error("is")
                try:
                    return work()
                finally:
                    self._source.check()
            except StoppedError as error:
                raise self._closed_error("was") from error
            finally:
                if stop.is_set():
                    self._close_decoders()

    def _closed_error(self, verb: str) -> ActionClipError:
        return ActionClipError(f"the reader of {self._source.name} {verb} closed; open the video again")

    def _close_decoders(self) -> None:
        for frames in list(self._streams):
            frames.close()
        self._decoders.close()


def _next(frames: Iterator[Frame], count: int) -> list[Frame]:
    return list(islice(frames, count))


def read_clip(
    source: str | os.PathLike[str],
    sampler: Sampler,
    *,
    threads: int | None = None,
    readers: set[VideoReader] | None = None,
    shrink: Shrink = unchanged,
) -> Clip:
    """Return the frames of a video that `sampler` chooses; other arguments and errors are those of `VideoReader`.

    In the meantime its reader is in `readers`: another thread may close it, which makes this an error.
    """
    with VideoReader(source, threads=threads) as video:
        if readers is None:
            return video.clip(sampler, shrink)
        readers.add(video)
        try:
            return video.clip(sampler, shrink)
        finally:
            readers.discard(video)
