"""Whole videos in windows: their frames lie on one grid, and each is decoded and encoded once, however windows overlap.

The engine decodes stretches of the grid's frames and encodes their frames; windows are made of these in order.
"""

import logging
import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from action_clip.errors import ActionClipError
from action_clip.models.encoded import NO_FRAMES, EncodedClips, Results, Steps
from action_clip.models.engine import Limits, Ready, Stages, run
from action_clip.models.known_videos import KnownVideos
from action_clip.models.model_graphs import ModelGraphs
from action_clip.models.prediction import Failure, Prediction, Window
from action_clip.models.scoring import Choices, Scores
from action_clip.models.video_encoder import name_of, timed
from action_clip.video.preprocess import clip_tensor
from action_clip.video.reader import VideoReader
from action_clip.video.sampling import UNIFORM_RULES

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from action_clip.video.stretches import Stretch

_LOG = logging.getLogger("action_clip")
_MOST_FRAMES = 24
"""Most frames of a stretch: those of ten seconds between two keyframes, two a second, and no more memory than 15 MB."""


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
    if not _is_length(window_s):
        raise ActionClipError(f"the window is {window_s}: give a number of seconds above 0, such as 4")
    if stride_s is None:
        return Spacing(window_s, frames, max(frames // 2, 1))
    if not _is_length(stride_s):
        raise ActionClipError(f"the stride is {stride_s}: give a number of seconds above 0, such as {window_s / 2:g}")
    if stride_s > window_s:
        raise ActionClipError(
            f"with a stride of {stride_s:g} s, windows of {window_s:g} s leave out parts of the video: give a stride "
            f"of {window_s:g} at most"
        )
    stride = max(round(stride_s * frames / window_s), 1)
    spacing = Spacing(window_s, frames, stride)
    if not math.isclose(stride * spacing.step_s, stride_s, rel_tol=1e-6):
        _LOG.warning(
            "windows begin every %g s, not every %g s: on the frames that are looked at, %g s apart",
            stride * spacing.step_s,
            stride_s,
            spacing.step_s,
        )
    return spacing


def _is_length(seconds: object) -> bool:
    return isinstance(seconds, int | float | np.number) and bool(0 < seconds < math.inf)


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
        duration_s: of the video.
        timings_s: seconds of each stage since the windows before, for all of them.
    """

    spans_s: tuple[tuple[float, float], ...]
    features: NDArray[np.float32] = field(repr=False)
    logits: NDArray[np.float32] = field(repr=False)
    indices: NDArray[np.int64] = field(repr=False)
    times_s: NDArray[np.float64] = field(repr=False)
    video: str | None
    model: str
    duration_s: float
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


class _Film:
    """A video: which frames are looked at, and the windows that are complete."""

    def __init__(self, video: "str | os.PathLike[str]", spacing: Spacing, rule: str) -> None:
        """Open the video and find its frames. Raises ActionClipError where it cannot be read."""
        self.video = video
        self.name = name_of(video)
        self.reader = VideoReader(video, threads=1)
        self.is_over = False
        self._spacing = spacing
        self._rule = UNIFORM_RULES[rule]
        try:
            self.duration_s = self.reader.duration_s
            indices = self._grid()
        except BaseException:
            self.reader.close()
            raise
        self._indices = np.array(indices)
        self.frames, self._places = np.unique(self._indices, return_inverse=True)
        """The index of each frame that is looked at, ascending; one that is shown for longer fills several steps."""
        self._rows = np.empty((0, 0), np.float32)
        self._first_row = 0
        self._next_window = 0
        self._timings_s: dict[str, float] = {}

    def _grid(self) -> list[int]:
        """Return the index of the frame that is shown in the middle of each step."""
        spacing, total = self._spacing, len(self.reader)
        if self.duration_s <= spacing.window_s:  # one window, of the frames that a clip has
            return self._rule(total, spacing.frames)
        steps = math.ceil(self.duration_s / spacing.step_s - 0.5)
        return self.reader.shown_at((np.arange(steps) + 0.5) * spacing.step_s)

    def stretches(self) -> "Iterator[Stretch]":
        """Return an iterator over its frames, in stretches."""
        return self.reader.stretches(self.frames.tolist(), _MOST_FRAMES)

    def add(self, rows: NDArray[np.float32], timings_s: dict[str, float]) -> None:
        """Add what the next frames were encoded to, and how long that took."""
        self._rows = np.concatenate([self._rows, rows]) if self._rows.size else rows
        for stage, seconds in timings_s.items():
            self._timings_s[stage] = self._timings_s.get(stage, 0.0) + seconds

    def windows(self, encode: "Callable[[NDArray[np.float32]], EncodedClips]", model: str) -> EncodedWindows | None:
        """Encode the windows whose frames have all been added since the last call; None where there are none."""
        steps = []
        while (window := self._steps(self._next_window)) is not None and self._has(window):
            steps.append(window)
            self._next_window += 1
        if not steps:
            return None
        places = self._places[np.array(steps)]
        encoded = encode(self._rows[places - self._first_row])
        self._forget()
        indices = self._indices[np.array(steps)]
        first = self._next_window - len(steps)
        timings_s, self._timings_s = self._timings_s | encoded.timings_s, {}
        return EncodedWindows(
            spans_s=tuple(self._span_s(number) for number in range(first, self._next_window)),
            features=encoded.features,
            logits=encoded.logits,
            indices=indices,
            times_s=np.array(self.reader.times_s)[indices],
            video=self.name,
            model=model,
            duration_s=self.duration_s,
            timings_s=timings_s,
        )

    @property
    def _count(self) -> int:
        """Number of windows: the first one that reaches the end of the video is the last one."""
        beyond = len(self._indices) - self._spacing.frames
        return 1 + max(-(-beyond // self._spacing.stride), 0)

    def _steps(self, number: int) -> list[int] | None:
        """Return the steps of a window's frames, some of them repeatedly where it is shorter; None after the last."""
        if number >= self._count:
            return None
        first = number * self._spacing.stride
        left = len(self._indices) - first
        if left >= self._spacing.frames:
            return list(range(first, first + self._spacing.frames))
        return [first + step for step in self._rule(left, self._spacing.frames)]

    def _span_s(self, number: int) -> tuple[float, float]:
        start_s = number * self._spacing.stride * self._spacing.step_s
        is_last = number == self._count - 1
        return start_s, self.duration_s if is_last else start_s + self._spacing.window_s

    def _has(self, steps: Sequence[int]) -> bool:
        return bool(self._places[steps[-1]] < self._first_row + len(self._rows))

    def _forget(self) -> None:
        """Drop the rows that no later window has."""
        steps = self._steps(self._next_window)
        needed = len(self.frames) if steps is None else int(self._places[steps[0]])
        self._rows = self._rows[needed - self._first_row :].copy()
        self._first_row = needed

    @property
    def is_complete(self) -> bool:
        """Whether all its windows have been encoded."""
        return self._next_window == self._count

    def close(self) -> None:
        """Decode nothing more: what is in progress fails soon."""
        self.is_over = True
        self.reader.close()


@dataclass(frozen=True, eq=False)
class _Part:
    """What the engine takes: some frames of a video."""

    number: int
    """Of the video."""
    film: _Film
    stretch: "Stretch"


@dataclass(frozen=True, eq=False)
class _Unreadable:
    """What the engine takes for a video that cannot be opened."""

    number: int
    name: str | None
    error: ActionClipError


_Item = _Part | _Unreadable


@dataclass(frozen=True, eq=False)
class _Rows:
    """What the frames of a part were encoded to, (N, …), a row each."""

    rows: NDArray[np.float32]
    timings_s: dict[str, float]


@dataclass(frozen=True, eq=False)
class _Decoded:
    part: _Part
    key: str | None
    """In the video bank; None where it is not kept there."""
    tensor: NDArray[np.float32]
    """(N, 3, S, S)."""
    timings_s: dict[str, float]


class WindowEncoder:
    """Encodes whole videos with one model and one spacing of windows."""

    def __init__(self, graphs: ModelGraphs, clip_graphs: ModelGraphs, steps: Steps, spacing: Spacing) -> None:
        """Choose the model.

        Args:
            graphs: run on frames, in the engine's threads.
            clip_graphs: run on clips, in the caller's thread.
            steps: what they do.
            spacing: of the windows.
        """
        self._graphs = graphs
        self._clip_graphs = clip_graphs
        self._steps = steps
        self._spacing = spacing
        self._known = KnownVideos(graphs, "frames", 0)
        self._films: set[_Film] = set()

    def encode(self, videos: "Iterable[str | os.PathLike[str]]", limits: Limits) -> Results[EncodedWindows]:
        """Yield the number of each video, from 0, and its windows, some at a time and in order; or a Failure, once.

        Args:
            videos: files or URLs.
            limits: of the engine.

        Raises ActionClipError where the graphs are not available or cannot run.
        """
        parts: deque[_Item] = deque()
        self._graphs.paths()
        self._known.start()
        stages: Stages[_Item, _Decoded, _Rows] = Stages(self._prepared, self._encoded, self._close, limits)
        results = run(self._parts(videos, parts), stages, ordered=True)
        with closing(results):
            for _, result in results:
                part = parts.popleft()
                if isinstance(part, _Unreadable):
                    yield part.number, Failure(part.name, part.error)
                    continue
                film = part.film
                if film.is_over:  # it has failed before
                    continue
                if isinstance(result, Failure):
                    self._end(film)
                    yield part.number, Failure(film.name, result.error)
                    continue
                film.add(result.rows, result.timings_s)
                windows = film.windows(self._encoded_clips, self._graphs.spec.name)
                if film.is_complete:
                    self._end(film)
                if windows is not None:
                    yield part.number, windows

    def _parts(self, videos: "Iterable[str | os.PathLike[str]]", parts: deque[_Item]) -> Iterator[_Item]:
        """Open each video and yield its parts, which `parts` gets too."""
        for number, video in enumerate(videos):
            for part in self._parts_of(number, video):
                parts.append(part)
                yield part

    def _parts_of(self, number: int, video: "str | os.PathLike[str]") -> Iterator[_Item]:
        try:
            film = _Film(video, self._spacing, self._graphs.spec.uniform)
            self._films.add(film)
            stretches = film.stretches()
        except ActionClipError as error:
            yield _Unreadable(number, name_of(video), error)
            return
        for stretch in stretches:
            yield _Part(number, film, stretch)
            if film.is_over:
                return

    def _prepared(self, part: _Item) -> Ready[_Decoded] | _Rows:
        """Return what the part's frames were encoded to before, else decode and preprocess them."""
        if isinstance(part, _Unreadable):
            raise part.error
        film, stretch = part.film, part.stretch
        with stretch:
            key = None if self._steps.frames is None else self._known.key(film.video, stretch.indices)
            known = None if key is None else self._known.find_rows(key)
            if known is not None:
                return _Rows(known, {})
            return Ready(_Decoded(part, key, *self._tensor(stretch)))

    def _tensor(self, stretch: "Stretch") -> tuple[NDArray[np.float32], dict[str, float]]:
        """Decode frames and preprocess them, one after the other; return (N, 3, S, S), and the seconds of both."""
        spec = self._graphs.spec
        tensor = np.empty((len(stretch.indices), 3, spec.image_size, spec.image_size), np.float32)
        began, preprocessing_s = perf_counter(), 0.0
        for place, frame in enumerate(stretch.frames()):
            decoded = perf_counter()
            tensor[place] = clip_tensor(frame.image[None], spec.image_size, spec.mean, spec.std, spec.resize)[0]
            preprocessing_s += perf_counter() - decoded
        return tensor, {"decode": perf_counter() - began - preprocessing_s, "preprocess": preprocessing_s}

    def _encoded(self, parts: Sequence[_Decoded]) -> list[_Rows]:
        """Encode the frames of several parts at once."""
        if self._steps.frames is None:
            return [_Rows(part.tensor, part.timings_s) for part in parts]
        timings: dict[str, float] = {}
        with timed(timings, "image"):
            rows = self._steps.frames(self._graphs, np.concatenate([part.tensor for part in parts]))
        ends = np.cumsum([len(part.tensor) for part in parts])
        results = []
        for part, own in zip(parts, np.split(rows, ends[:-1]), strict=True):
            if part.key is not None:
                self._known.add_rows(part.key, part.part.film.video, part.part.stretch.indices, own)
            results.append(_Rows(own, part.timings_s | {"image": timings["image"] * len(own) / len(rows)}))
        return results

    def _encoded_clips(self, rows: NDArray[np.float32]) -> EncodedClips:
        return self._steps.clips(self._clip_graphs, rows)

    def _end(self, film: _Film) -> None:
        self._films.discard(film)
        film.close()

    def _close(self) -> None:
        """Make what is in progress fail soon, and write to the disk what is kept."""
        for film in list(self._films):
            film.close()
        self._known.flush()
