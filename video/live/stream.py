"""A live stream: a reader without an end. It connects, again where it has to, and chooses frames on a grid."""

import logging
import math
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Event, Lock, Thread
from time import monotonic, perf_counter
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from action_clip.errors import ActionClipError
from action_clip.system.addresses import display_name
from action_clip.system.interrupts import POLL_S, start_unawaited
from action_clip.video.live import camera_of
from action_clip.video.live.clock import StreamClock
from action_clip.video.live.feed import BrokenError, Feed, LiveFrame
from action_clip.video.live.opening import open_feed

_LOG = logging.getLogger("action_clip")

PAUSES_S = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Seconds before each attempt to connect again; the last one is repeated."""
_PATIENCE_S = 2.0
"""Seconds that a frame stands for, at most, where a stream stalls."""
_ROUNDING_S = 0.0006
"""Seconds by which a frame may begin late and still be the one that is shown: as for the frames of a file."""
_DEFAULT_INTERVAL_S = 0.04
_CLOSING_S = 1.0
"""Seconds that the threads of a connection are waited for, after they were told to end."""


@dataclass(frozen=True, eq=False)
class GridFrame:
    """A frame that is shown in the middle of one step of the grid, or of several.

    Attributes:
        steps: their numbers.
        index: of the frame, from 0, among those that came.
        time_s: when it is shown, in seconds since the first one.
        due: the same by `time.monotonic`: when it arrived, or was to be shown.
        time: the same by the clock on the wall.
        pixels: what is kept of it.
        timings_s: seconds of converting and preprocessing it.
    """

    steps: range
    index: int
    time_s: float
    due: float
    time: datetime
    pixels: NDArray[np.uint8] = field(repr=False)
    timings_s: dict[str, float]


class Receiver(Protocol):
    """Takes the frames on the grid, in a thread of the stream."""

    def add(self, frame: GridFrame) -> None:
        """Take the next frame; it must not wait."""
        ...

    def end(self, error: BaseException | None, duration_s: float) -> None:
        """Know that the last frame has come, at the end or because of the error, and how long all took."""
        ...


@dataclass(frozen=True, eq=False)
class _Shown:
    """A frame, from when it is shown on."""

    frame: LiveFrame
    index: int
    time_s: float
    due: float


class LiveStream:
    """Reads a camera, a stream or a file at its own rate, in threads of its own, from `start` to its end or `stop`."""

    def __init__(
        self,
        source: int | str | os.PathLike[str],
        step_s: float,
        keep: Callable[[NDArray[np.uint8]], NDArray[np.uint8]],
        receiver: Receiver,
    ) -> None:
        """Open nothing yet.

        Args:
            source: as for `open_feed`.
            step_s: length of a step of the grid, in seconds.
            keep: returns what is kept of a frame, (H, W, 3) uint8 RGB.
            receiver: gets the frames that are shown in the middle of the steps.
        """
        camera = camera_of(source)
        self.name = display_name(os.fsdecode(source)) if camera is None else str(source)  # type: ignore[arg-type]
        self._source = source
        self._step_s = step_s
        self._keep = keep
        self._receiver = receiver
        self._stop = Event()
        self._has_begun = Event()
        self._is_over = Event()
        self._error: BaseException | None = None
        self._clock = StreamClock()
        self._feed: Feed | None = None
        self._converting = Lock()
        self._shown: _Shown | None = None
        self._newest: LiveFrame | None = None
        self._next_step = 0
        self._count = 0
        self._first_index, self._first_s = 0, 0.0  # of this connection
        self._end_s = 0.0
        self._is_final = False
        self._thread = Thread(target=self._run, name="live", daemon=True)

    def start(self) -> None:
        """Begin to connect."""
        start_unawaited(self._thread)

    def wait_for_start(self) -> None:
        """Wait until the first frame has come. Raises the error where none will come."""
        while not (self._has_begun.is_set() or self._is_over.is_set()):
            self._has_begun.wait(POLL_S)
        if self._error is not None and not self._has_begun.is_set():
            raise self._error

    def stop(self) -> None:
        """End soon; any thread may call it."""
        self._stop.set()
        self._has_begun.set()
        if (feed := self._feed) is not None:
            feed.close()

    def join(self, timeout_s: float) -> None:
        """Wait for the end, at most so many seconds."""
        self._is_over.wait(timeout_s)

    def picture(self) -> NDArray[np.uint8] | None:
        """Return the newest frame, (H, W, 3) uint8 RGB; None before the first one."""
        newest = self._newest
        if newest is None:
            return None
        with self._converting:
            return np.array(newest.convert())

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            self._read()
        except BaseException as found:
            error = found
        self._error = error
        self._is_over.set()
        self._receiver.end(error, self._end_s)

    def _read(self) -> None:
        """Connect until the stream ends. Raises ActionClipError where it never begins."""
        pauses = self._pauses()
        while not self._stop.is_set():
            count = self._count
            try:
                feed = open_feed(self._source)
                try:
                    self._play(feed)
                finally:
                    feed.close()
                    feed.join(_CLOSING_S)
                return
            except (BrokenError, ActionClipError) as error:
                if not self._count:
                    raise self._never_begun(error) from error
                if self._is_final:
                    raise
                if self._stop.is_set():
                    return
                if self._count > count:  # it was connected
                    self._leave()
                    pauses = self._pauses()
                pause_s = next(pauses)
                said = "%s; connecting again in %.0f s"
                if self.name in str(error):
                    _LOG.warning(said, error, pause_s)
                else:
                    _LOG.warning(f"%s: {said}", self.name, error, pause_s)
            self._stop.wait(pause_s)

    @staticmethod
    def _pauses() -> Iterator[float]:
        yield from PAUSES_S
        while True:
            yield PAUSES_S[-1]

    def _never_begun(self, error: BrokenError | ActionClipError) -> ActionClipError:
        if isinstance(error, ActionClipError):
            return error
        return ActionClipError(f"no picture came from {self.name} ({error}); check it, and what it is connected to")

    def _play(self, feed: Feed) -> None:
        """Take the frames of one connection, each when it is due."""
        self._feed = feed
        if self._stop.is_set():  # meanwhile
            return
        self._clock.begin(feed.pace)
        self._is_final = feed.pace.is_trusted  # a file that breaks off would begin anew
        is_again, longest_s = self._count > 0, math.inf if feed.pace.is_trusted else _PATIENCE_S
        with closing(feed.frames(self._clock.due)) as frames:  # type: ignore[type-var]
            for frame in frames:
                time_s = self._clock.time_s(frame.pts_s, frame.arrived)
                due = self._clock.due(frame.pts_s, frame.arrived)
                if self._stop.wait(due - monotonic()) if due > monotonic() else self._stop.is_set():
                    return
                if is_again:
                    _LOG.warning("%s: connected again", self.name)
                    is_again = False
                self._pass(time_s, longest_s)
                if self._shown is None:
                    self._first_index, self._first_s = self._count, time_s
                self._shown = _Shown(frame, self._count, time_s, due)
                self._newest = frame
                self._count += 1
                self._has_begun.set()
        if not self._count:
            raise ActionClipError(f"{self.name} has no picture that can be decoded; convert it to H.264 first")
        self._leave()

    def _leave(self) -> None:
        """Let the last frame of a connection be shown for as long as the others were on average."""
        if self._shown is not None:
            count = self._shown.index - self._first_index
            lasted_s = self._shown.time_s - self._first_s
            self._end_s = self._shown.time_s + (lasted_s / count if count else _DEFAULT_INTERVAL_S)
            self._pass(self._end_s, _PATIENCE_S)
        self._shown = None

    def _pass(self, end_s: float, longest_s: float) -> None:
        """Deliver the frame that is shown so far, if it is in the middle of a step before the time `end_s`."""
        shown = self._shown
        if shown is None:
            return
        end_s = min(end_s, shown.time_s + longest_s)
        first, end = (math.ceil((time_s - _ROUNDING_S) / self._step_s - 0.5) for time_s in (shown.time_s, end_s))
        steps = range(max(first, self._next_step), end)
        if not steps:
            return
        self._next_step = end
        began = perf_counter()
        try:
            with self._converting:
                picture = shown.frame.convert()
                converted = perf_counter()
                pixels = self._keep(picture)
        except ActionClipError:  # so it would be again
            self._is_final = True
            raise
        timings_s = {"decode": converted - began, "preprocess": perf_counter() - converted}
        time = datetime.now().astimezone() - timedelta(seconds=monotonic() - shown.due)
        self._receiver.add(GridFrame(steps, shown.index, shown.time_s, shown.due, time, pixels, timings_s))
