"""The windows of a video: their frames lie on one grid, so that each is in several windows and is encoded once."""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from action_clip.errors import ActionClipError
from action_clip.models.encoded import NO_FRAMES, EncodedClips
from action_clip.models.prediction import Prediction, Window
from action_clip.models.scoring import Choices, Scores
from action_clip.video.reader import VideoReader
from action_clip.video.sampling import UNIFORM_RULES

_LOG = logging.getLogger("action_clip")
_MOST_STEPS = 2**22
"""Most steps of a grid: 24 days, two a second, or two and a half hours at 450; some hundred MB in memory."""
_MOST_WINDOWS = 8
"""Most windows that are encoded at a time: where frames see each other, their clip tensors are in memory together."""


@dataclass(frozen=True)
class Spacing:
    """How long windows are, and how far apart: in steps of a grid that has `frames` steps a window.

    Attributes:
        window_s: length of a window, in seconds.
        frames: of a window, in the middle of its steps.
        stride: steps between the beginnings of two windows.
    """

    window_s: float
    frames: int
    stride: int

    @property
    def step_s(self) -> float:
        """Length of a step, in seconds."""
        return self.window_s / self.frames


def make_spacing(window_s: float, stride_s: float | None, frames: int) -> Spacing:
    """Return the spacing of windows with `frames` frames each; a stride of None is half a window.

    Windows begin on the grid: another stride is rounded to its steps, and a note says so.

    Raises:
        ActionClipError: the window or the stride is not above 0 or not finite, or the stride is longer than the window.
    """
    window = _length(window_s)
    if window is None:
        raise ActionClipError(f"the window is {window_s!r}: give a number of seconds above 0, such as 4")
    if stride_s is None:
        return Spacing(window, frames, max(frames // 2, 1))
    between = _length(stride_s)
    if between is None:
        raise ActionClipError(f"the stride is {stride_s!r}: give a number of seconds above 0, such as {window / 2:g}")
    if between > window:
        raise ActionClipError(
            f"with a stride of {between:g} s, windows of {window:g} s leave out parts of the video: give a stride "
            f"of {window:g} at most"
        )
    stride = max(round(between / window * frames), 1)
    spacing = Spacing(window, frames, stride)
    if not math.isclose(stride * spacing.step_s, between, rel_tol=1e-6):
        _LOG.warning(
            "windows begin every %g s, not every %g s: on the frames that are looked at, %g s apart",
            stride * spacing.step_s,
            between,
            spacing.step_s,
        )
    return spacing


def _length(seconds: object) -> float | None:
    """Return a length of time as a float; None where it is not above 0 or not finite, or no number."""
    try:
        length = float(seconds) if isinstance(seconds, int | float | np.integer | np.floating) else math.nan
    except OverflowError:  # an integer that no float is as large as
        return None
    return length if 0 < length < math.inf else None


@dataclass(frozen=True, eq=False)
class EncodedWindows:
    """W windows of a video that were encoded together.

    Attributes:
        spans_s: beginning and end of each, in seconds from the video's first frame.
        features: (W, D) float32, L2-normalised.
        logits: (W, C) float32 over the C classes of a closed set; (W, 0) for a zero-shot model.
        indices: (W, T) of the frames, from 0.
        times_s: (W, T), their times in seconds from the first frame.
        video: path or URL, without its password or token.
        duration_s: of the video; None where it has no end.
        timings_s: seconds of each stage since the windows before, for all of them.
    """

    spans_s: tuple[tuple[float, float], ...]
    features: NDArray[np.float32] = field(repr=False)
    logits: NDArray[np.float32] = field(repr=False)
    indices: NDArray[np.int64] = field(repr=False)
    times_s: NDArray[np.float64] = field(repr=False)
    video: str | None
    model: str
    duration_s: float | None
    timings_s: dict[str, float]

    def answers(self, choices: Choices, scores: Scores, top_k: int, timings_s: dict[str, float]) -> Iterator[Window]:
        """Yield the answer for each window; `timings_s` has the seconds of scoring all of them."""
        timings_s = {stage: seconds / len(self.spans_s) for stage, seconds in (self.timings_s | timings_s).items()}
        for place, (start_s, end_s) in enumerate(self.spans_s):
            prediction = Prediction(
                **choices._asdict(),
                probabilities=scores.probabilities[place],
                similarities=scores.similarities[place],
                top_k=min(top_k, len(choices.labels)),
                video_features=self.features[place],
                frame_indices=tuple(self.indices[place].tolist()),
                model=self.model,
                video=self.video,
                duration_s=self.duration_s,
                frame_times_s=tuple(self.times_s[place].tolist()),
                frames=NO_FRAMES,
                timings_s=timings_s,
            )
            yield Window(start_s, end_s, prediction)


class WindowedVideo:
    """A video: which of its frames are looked at, and the windows whose frames have been encoded."""

    def __init__(
        self, reader: VideoReader, name: str | None, spacing: Spacing, rule: str, stages: Sequence[str]
    ) -> None:
        """Find the frames.

        Args:
            reader: of the video.
            name: its path or URL, without password or token.
            spacing: of the windows.
            rule: one of UNIFORM_RULES: which frames of a video, or of a last window, that is shorter than a window.
            stages: of which `add` gets the seconds.

        Raises:
            ActionClipError: the video cannot be read, or is too long for such short windows.
        """
        self.name = name
        self.reader = reader
        self.is_over = False
        """Whether all its windows have been encoded, or it has failed."""
        self._spacing = spacing
        self._rule = UNIFORM_RULES[rule]
        self._duration_s = reader.duration_s
        self._indices = self._grid()
        self._times_s = np.array(reader.times_s)[self._indices]
        frames, self._places = np.unique(self._indices, return_inverse=True)
        self.frames: list[int] = frames.tolist()
        """The index of each frame that is looked at, ascending; one that is shown for longer fills several steps."""
        self._stages = stages
        self._timings_s = dict.fromkeys(stages, 0.0)
        self._rows = np.empty((0, 0), np.float32)
        self._first_row = 0
        self._next_window = 0

    def _grid(self) -> NDArray[np.intp]:
        """Return the index of the frame that is shown in the middle of each step."""
        spacing, total = self._spacing, len(self.reader)
        if self._duration_s <= spacing.window_s:  # one window, of the frames that a clip has
            return np.array(self._rule(total, spacing.frames))
        if self._duration_s > _MOST_STEPS * spacing.step_s:
            least_s = math.ceil(self._duration_s * spacing.frames / _MOST_STEPS * 100) / 100
            raise ActionClipError(
                f"{self.name} has {self._duration_s:.0f} s, which are too many windows of {spacing.window_s:g} s: give "
                f"windows of {least_s:g} s or more"
            )
        steps = math.ceil(self._duration_s / spacing.step_s - 0.5)
        return self.reader.shown_at((np.arange(steps) + 0.5) * spacing.step_s)

    def add(self, rows: NDArray[np.float32], timings_s: dict[str, float]) -> None:
        """Add what the next frames were encoded to, a row each, and how long that took."""
        self._rows = np.concatenate([self._rows, rows]) if self._rows.size else rows
        for stage, seconds in timings_s.items():
            self._timings_s[stage] += seconds

    def windows(self, encode: Callable[[NDArray[np.float32]], EncodedClips], model: str) -> Iterator[EncodedWindows]:
        """Encode and yield the windows whose frames have all been added by now, and that were not yielded before."""
        while numbers := self._ready():
            yield self._encoded(numbers, encode, model)

    def _ready(self) -> range:
        """Return the numbers of the next windows whose frames have all been added, not too many."""
        first = last = self._next_window
        while last < min(self._count, first + _MOST_WINDOWS) and self._has(last):
            last += 1
        return range(first, last)

    def _encoded(
        self, numbers: range, encode: Callable[[NDArray[np.float32]], EncodedClips], model: str
    ) -> EncodedWindows:
        steps = np.stack([self._steps(number) for number in numbers])
        encoded = encode(self._rows[self._places[steps] - self._first_row])
        self._next_window = numbers.stop
        self.is_over = self._next_window == self._count
        self._forget()
        timings_s, self._timings_s = self._timings_s | encoded.timings_s, dict.fromkeys(self._stages, 0.0)
        return EncodedWindows(
            spans_s=tuple(self._span_s(number) for number in numbers),
            features=encoded.features,
            logits=encoded.logits,
            indices=self._indices[steps],
            times_s=self._times_s[steps],
            video=self.name,
            model=model,
            duration_s=self._duration_s,
            timings_s=timings_s,
        )

    @property
    def _count(self) -> int:
        """Number of windows: the first one that reaches the end of the video is the last one."""
        beyond = len(self._indices) - self._spacing.frames
        return 1 + max(-(-beyond // self._spacing.stride), 0)

    def _steps(self, number: int) -> NDArray[np.intp]:
        """Return the steps of a window's frames; of a shorter one, some of them repeatedly."""
        first = number * self._spacing.stride
        left = min(len(self._indices) - first, self._spacing.frames)
        return first + np.array(self._rule(left, self._spacing.frames))

    def _span_s(self, number: int) -> tuple[float, float]:
        start_s = number * self._spacing.stride * self._spacing.step_s
        is_last = number == self._count - 1
        return start_s, self._duration_s if is_last else start_s + self._spacing.window_s

    def _has(self, number: int) -> bool:
        return bool(self._places[self._steps(number)[-1]] < self._first_row + len(self._rows))

    def _forget(self) -> None:
        """Drop the rows that no later window has."""
        needed = len(self.frames) if self.is_over else int(self._places[self._next_window * self._spacing.stride])
        self._rows = self._rows[needed - self._first_row :].copy()
        self._first_row = needed
