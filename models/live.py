"""Live video in windows: frames are encoded as they come, and windows are answered rather early than all.

An answer is for the newest window whose frames have all come. Where the graphs are slower than the stream, the windows
before it are left out: so it is late by one stride and one run of the graphs at most.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from threading import Condition
from time import monotonic
from types import TracebackType
from typing import Any, Self
from weakref import finalize

import numpy as np
from numpy.typing import NDArray

from action_clip.models.encoded import Steps, add_timings, timed
from action_clip.models.heads import with_head
from action_clip.models.model_graphs import ModelGraphs
from action_clip.models.prediction import Window
from action_clip.models.scoring import Choices, Scores
from action_clip.models.windows import EncodedWindows, Spacing
from action_clip.system.interrupts import POLL_S
from action_clip.video.live.stream import GridFrame, LiveStream
from action_clip.video.preprocess import cropped, normalised
from action_clip.video.sampling import UNIFORM_RULES

_LOG = logging.getLogger("action_clip")
_BEHIND = 3
"""Answers in succession with windows left out before each of them, after which that is noted."""
_CLOSING_S = 1.5
"""Seconds that the stream's threads are waited for."""


@dataclass(frozen=True)
class LiveWindow(Window):
    """The answer for a part of a live stream; its times count from the first frame that came.

    Attributes:
        time: when its last frame arrived; of a file, when it was to be shown. With the time zone of this machine.
        latency_s: seconds from then to the answer.
    """

    time: datetime
    latency_s: float

    def to_dict(self) -> dict[str, Any]:
        """Return what `--format json` writes: as of a Window, after its time on the wall."""
        return {
            "time": self.time.isoformat(timespec="milliseconds"),
            **super().to_dict(),
            "latency_s": round(self.latency_s, 6),
        }


class _Entry:
    """A frame on the grid, and what it was encoded to; one object in all steps that it is shown in."""

    def __init__(self, frame: GridFrame) -> None:
        self.frame = frame
        self.row: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class _Part:
    """A window whose frames have all come."""

    number: int
    entries: Sequence[_Entry]
    end_s: float | None
    """Where the stream has ended before the window has."""


class _Grid:
    """The newest frames by their steps, and the windows that they make; a `Receiver`.

    Attributes:
        left_out: windows whose frames have come, and that will not be answered as later ones are complete.
    """

    def __init__(self, spacing: Spacing, rule: str) -> None:
        self.left_out = 0
        self._spacing = spacing
        self._rule = UNIFORM_RULES[rule]
        self._changed = Condition()
        self._entries: dict[int, _Entry] = {}
        self._next_window = 0
        self._is_stopped = self._is_over = False
        self._error: BaseException | None = None
        self._duration_s = 0.0

    def add(self, frame: GridFrame) -> None:
        """Take the next frame; the oldest one is dropped where no window that will be answered has it."""
        entry = _Entry(frame)
        with self._changed:
            for step in frame.steps:
                self._entries[step] = entry
            newest = self._newest()
            if newest is not None:
                self._skip_to(newest)
            else:  # windows that begin before will not be complete
                self._drop_before(frame.steps[-1] + 1 - self._spacing.frames)
            self._changed.notify_all()

    def end(self, error: BaseException | None, duration_s: float) -> None:
        """Expect no more frames."""
        with self._changed:
            self._is_over, self._error, self._duration_s = True, error, duration_s
            self._changed.notify_all()

    def wait(self, *, for_frames: bool) -> "_Part | _Entry | None":
        """Return the newest complete window; else, with `for_frames`, a frame that is not encoded; None at the end.

        Raises the error that has ended the stream.
        """
        with self._changed:
            while not self._is_stopped:
                newest = self._newest()
                if newest is not None:
                    return self._taken(newest, self._steps(newest), None)
                if for_frames and (entry := self._unencoded()) is not None:
                    return entry
                if self._is_over:
                    if self._error is not None:
                        raise self._error
                    return self._last()
                self._changed.wait(POLL_S)
            return None

    def stop(self) -> None:
        """Let `wait` return None from now on."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()

    def _steps(self, number: int) -> range:
        first = number * self._spacing.stride
        return range(first, first + self._spacing.frames)

    def _newest(self) -> int | None:
        """Return the number of the newest window whose frames have all come, if it is not answered yet."""
        if not self._entries:
            return None
        last = (next(reversed(self._entries)) + 1 - self._spacing.frames) // self._spacing.stride
        for number in range(last, self._next_window - 1, -1):
            if all(step in self._entries for step in self._steps(number)):
                return number
        return None

    def _skip_to(self, number: int) -> None:
        """Leave out the windows before this one, and drop the frames of no window that may be answered."""
        complete = (self._steps(before) for before in range(self._next_window, number))
        self.left_out += sum(all(step in self._entries for step in steps) for steps in complete)
        self._next_window = number
        self._drop_before(number * self._spacing.stride)

    def _taken(self, number: int, steps: Sequence[int], end_s: float | None) -> _Part:
        self._skip_to(number)
        part = _Part(number, [self._entries[step] for step in steps], end_s)
        self._next_window = number + 1
        self._drop_before(self._next_window * self._spacing.stride)
        return part

    def _drop_before(self, first: int) -> None:
        for step in [step for step in self._entries if step < first]:
            del self._entries[step]

    def _unencoded(self) -> _Entry | None:
        return next((entry for entry in self._entries.values() if entry.row is None), None)

    def _last(self) -> _Part | None:
        """Return the window that ends with the stream, if there are frames after those of the one before."""
        if not self._entries:
            return None
        last = next(reversed(self._entries))
        number, left = self._next_window, last + 1 - self._next_window * self._spacing.stride
        overlap = self._spacing.frames - self._spacing.stride if number else 0
        steps = [number * self._spacing.stride + place for place in self._rule(left, self._spacing.frames)]
        self._next_window += 1
        if left <= overlap or not all(step in self._entries for step in steps):
            self._entries.clear()
            return None
        part = _Part(number, [self._entries[step] for step in steps], self._duration_s)
        self._entries.clear()
        return part


class LiveTimeline:
    """An iterator over the answers for a live stream, as they come; a context manager that ends it.

    with recogniser.watch(0, ["waving", "clapping"]) as answers:
        for answer in answers:
            print(answer.time, answer.prediction.ranked[0].label)
    """

    def __init__(
        self,
        stream_of: Callable[[Callable[[NDArray[np.uint8]], NDArray[np.uint8]], _Grid], LiveStream],
        graphs: ModelGraphs,
        steps: Steps,
        spacing: Spacing,
        choices: Choices,
        score: Callable[[EncodedWindows], Scores],
        top_k: int,
    ) -> None:
        """Make the sessions, and wait for the first frame.

        Args:
            stream_of: returns the stream, for what is kept of a frame and what receives them.
            graphs, steps: the model's.
            spacing: of the windows.
            choices, score, top_k: of the answers.

        Raises:
            ActionClipError: the graphs are not available, or the stream cannot be opened.
        """
        self._graphs = graphs
        self._steps = steps
        self._spacing = spacing
        self._choices = choices
        self._score = score
        self._top_k = top_k
        self._grid = _Grid(spacing, graphs.spec.uniform)
        graphs.paths()
        self._stream = stream_of(self._cropping(), self._grid)
        self._finalizer = finalize(self, self._stream.stop)
        self._stream.start()
        try:
            graphs.start()
            self._stream.wait_for_start()
        except BaseException:
            self.close()
            raise
        self._left_out = self._behind = 0
        self._has_noted = False

    def _cropping(self) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
        spec = self._graphs.spec  # without the object itself, which the stream would keep alive
        return lambda frame: cropped(frame, spec.image_size, spec.resize)

    @property
    def name(self) -> str:
        """The camera, address without its password, or file."""
        return self._stream.name

    @property
    def picture(self) -> NDArray[np.uint8] | None:
        """The newest frame, (H, W, 3) uint8 RGB."""
        return self._stream.picture()

    @property
    def left_out(self) -> int:
        """How many windows were left out so far, as the graphs or the caller are slower than the stream."""
        return self._grid.left_out

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> LiveWindow:
        """Return the answer for the newest window, when its frames have come.

        Raises:
            StopIteration: the stream has ended, or `stop` was called.
            ActionClipError: a graph cannot run, or frames cannot be preprocessed.
        """
        while isinstance(found := self._grid.wait(for_frames=self._steps.frames is not None), _Entry):
            self._encode([found])
        if found is None:
            self.close()
            raise StopIteration
        return self._answer(found)

    def stop(self) -> None:
        """Let the iterator end soon; any thread may call it."""
        self._finalizer()
        self._grid.stop()

    def close(self) -> None:
        """End the connection."""
        self.stop()
        self._stream.join(_CLOSING_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _encode(self, entries: Sequence[_Entry]) -> dict[str, float]:
        """Give these frames their rows; return the seconds of it."""
        timings: dict[str, float] = {}
        pixels = np.stack([entry.frame.pixels for entry in entries])
        tensors = normalised(pixels, self._graphs.spec.mean, self._graphs.spec.std)
        rows = tensors
        if self._steps.frames is not None:
            with timed(timings, "image"):
                rows = self._steps.frames(self._graphs, tensors)
        for entry, row in zip(entries, rows, strict=True):
            entry.row = row
            add_timings(entry.frame.timings_s, {stage: seconds / len(rows) for stage, seconds in timings.items()})
        return timings

    def _answer(self, part: _Part) -> LiveWindow:
        missing = list(dict.fromkeys(entry for entry in part.entries if entry.row is None))
        if missing:
            self._encode(missing)
        encoded = self._encoded(part)
        timings: dict[str, float] = {}
        with timed(timings, "score"):
            scores = self._score(encoded)
        [window] = encoded.answers(self._choices, scores, self._top_k, timings)
        last = max((entry.frame for entry in part.entries), key=lambda frame: frame.index)
        self._note_left_out()
        return LiveWindow(window.start_s, window.end_s, window.prediction, last.time, monotonic() - last.due)

    def _encoded(self, part: _Part) -> EncodedWindows:
        frames = [entry.frame for entry in part.entries]
        rows = [entry.row for entry in part.entries if entry.row is not None]  # all have one
        clips = with_head(self._graphs, self._steps.clips(self._graphs, np.stack(rows)[None]))
        timings_s: dict[str, float] = {}
        for frame in dict.fromkeys(frames):
            add_timings(timings_s, frame.timings_s)
            frame.timings_s.clear()  # each frame counts once, in its first window
        add_timings(timings_s, clips.timings_s)
        start_s = part.number * self._spacing.stride * self._spacing.step_s
        end_s = start_s + self._spacing.window_s if part.end_s is None else part.end_s
        return EncodedWindows(
            spans_s=((start_s, end_s),),
            features=clips.features,
            logits=clips.logits,
            indices=np.array([[frame.index for frame in frames]]),
            times_s=np.array([[frame.time_s for frame in frames]]),
            video=self.name,
            model=self._graphs.spec.name,
            duration_s=None,
            timings_s=timings_s,
        )

    def _note_left_out(self) -> None:
        """Say once that windows are left out, if that goes on: the first ones of a stream may come all at once."""
        is_behind, self._left_out = self.left_out > self._left_out, self.left_out
        self._behind = self._behind + 1 if is_behind else 0
        if self._behind == _BEHIND and not self._has_noted:
            self._has_noted = True
            _LOG.warning(
                "%s: windows come faster than they can be answered, and some are left out: give a longer --stride or a "
                "faster model",
                self.name,
            )
