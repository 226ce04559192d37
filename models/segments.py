"""Segments: windows of a video that follow each other and have the same answer become one, with beginning and end."""

import math
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import asdict, dataclass
from heapq import heappop, heappush
from itertools import chain
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from action_clip.errors import ActionClipError
from action_clip.models import SWITCHING_COST_S
from action_clip.models.prediction import Prediction, Window
from action_clip.models.smoothing import latest, smoothed

W = TypeVar("W", bound=Window)
P = TypeVar("P", bound="_Part")

MULTI_LABEL_THRESHOLD = 0.5
"""The default threshold where each label is scored by itself: what it means is more probable than anything else."""
_CLOSING = 0.5
"""The part of the threshold below which a segment ends."""
_ROUNDING_S = 1e-6


@dataclass(frozen=True)
class Segment:
    """A part of a video in which one label happens.

    Attributes:
        start_s, end_s: beginning and end, in seconds from the video's first frame.
        label: what happens.
        index: of the label in `Prediction.labels`.
        probability: mean over the windows.
    """

    start_s: float
    end_s: float
    label: str
    index: int
    probability: float

    def to_dict(self) -> dict[str, Any]:
        """Return its attributes, with times to the microsecond."""
        return asdict(self) | {"start_s": round(self.start_s, 6), "end_s": round(self.end_s, 6)}


def segments(
    windows: Iterable[Window],
    *,
    threshold: float | None = None,
    min_duration: float = 0.0,
    switching_cost: float | None = None,
) -> Iterator[Segment]:
    """Join windows with the same answer, which is the most probable label.

    Windows overlap, so each stands for the time that is nearer to its middle than to those of its neighbours. The
    answer changes only where this is worth it: the sequence of answers is the one with the largest sum of the
    logarithms of their probabilities times the seconds, less `switching_cost` for each change. A label begins where it
    is the answer with at least the probability `threshold`. It ends where another one begins, or where it falls below
    half of `threshold`. "None of these" is a label like the others, but its segments are left out.

    Where each label was scored by itself, its segments do not depend on those of others, and may overlap with them.

    Args:
        windows: of one video, in order, as `timeline` returns them.
        threshold: from 0 to 1; None: 0, and 0.5 where each label was scored by itself.
        min_duration: in seconds; shorter segments are left out.
        switching_cost: in seconds: the answer changes to a label that is e times as probable for that long, or e² times
            for half as long, and for twice as long where it changes back after that; 0: each window has its own answer.
            None: 0.5 s. Not where each label was scored by itself.

    Returns:
        An iterator over the segments by their beginnings, each as soon as its end is known, and what began before it.

    Raises:
        ActionClipError: an argument has another value, or the windows are something else, or not of one video and the
            same labels, in order.
    """
    _check(threshold, switching_cost)
    if not _is_number(min_duration, most=math.inf):
        raise ActionClipError(f"the shortest duration is {min_duration!r}: give a number of seconds from 0")
    if not isinstance(windows, Iterable):
        raise ActionClipError(f"the windows are a {type(windows).__name__}: give what timeline() returns")
    joined = _joined(_answered(_parts(windows), switching_cost, smoothed), threshold)
    return (each for each in joined if each.end_s - each.start_s >= min_duration - _ROUNDING_S)


def happening(
    windows: Iterable[W], *, threshold: float | None = None, switching_cost: float | None = None
) -> Iterator[tuple[W, tuple[int, ...]]]:
    """Yield each window, at once, with the indices of the labels that happen then, ascending.

    They are those of `segments`, as far as they can be known without later windows; "none of these" is one of them.

    Args:
        windows, threshold, switching_cost: as for `segments`.

    Raises:
        ActionClipError: as `segments`.
    """
    _check(threshold, switching_cost)
    before: tuple[int, ...] = ()
    for part, answer in _answered(_new_parts(windows), switching_cost, latest):
        before = tuple(sorted(_happening(part.prediction, answer, before, threshold)))
        yield part.window, before


def _check(threshold: float | None, switching_cost: float | None) -> None:
    """Raise ActionClipError where one of them has another value than `segments` takes."""
    if threshold is not None and not _is_number(threshold, most=1.0):
        raise ActionClipError(f"the threshold is {threshold!r}: give a probability from 0 to 1")
    if switching_cost is not None and not _is_number(switching_cost, most=math.inf):
        raise ActionClipError(f"the switching cost is {switching_cost!r}: give a number of seconds from 0")


def _is_number(value: object, most: float) -> bool:
    return isinstance(value, int | float | np.number) and bool(0 <= value <= most and value < math.inf)


@dataclass(frozen=True)
class _Part:
    """The time that a window stands for."""

    start_s: float
    end_s: float
    prediction: Prediction


@dataclass(frozen=True)
class _NewPart(_Part, Generic[W]):
    """The time that a window adds to those before it."""

    window: W


def _new_parts(windows: Iterable[W]) -> Iterator[_NewPart[W]]:
    """Yield for each window the part from the end of the one before, or from its own beginning."""
    end_s = -math.inf
    for window in windows:
        yield _NewPart(max(window.start_s, end_s), window.end_s, window.prediction, window)
        end_s = window.end_s


def _parts(windows: Iterable[Window]) -> Iterator[_Part]:
    """Yield the part of each window: from one to the next lies the mean of their middles, unless they are far apart."""
    before: Window | None = None
    start_s = 0.0
    for window in windows:
        if not isinstance(window, Window):
            raise ActionClipError(f"a window is a {type(window).__name__}: give what timeline() returns")
        if before is None:
            start_s = window.start_s
        else:
            _check_follows(before, window)
            if window.start_s - before.end_s > before.end_s - before.start_s:  # a live stream was interrupted
                yield _Part(start_s, before.end_s, before.prediction)
                before, start_s = window, window.start_s
                continue
            end_s = (before.start_s + before.end_s + window.start_s + window.end_s) / 4
            yield _Part(start_s, end_s, before.prediction)
            start_s = end_s
        before = window
    if before is not None:
        yield _Part(start_s, before.end_s, before.prediction)


def _check_follows(before: Window, window: Window) -> None:
    """Raise ActionClipError where a window is no later one of the same video, with the same labels."""
    one, other = before.prediction, window.prediction
    if not before.start_s < window.start_s or one.video != other.video or one.labels != other.labels:
        raise ActionClipError(
            f"the window from {window.start_s:g} s is not a later one of the same video and labels as the one from "
            f"{before.start_s:g} s before it: give the windows of one video, in order, and call segments() for each"
        )


def _answered(
    parts: Iterator[P], switching_cost: float | None, smooth: Callable[..., Iterator[tuple[P, int]]]
) -> Iterator[tuple[P, int | None]]:
    """Yield each part with the index of its answer by `smooth`; with None where each label was scored by itself."""
    first = next(parts, None)
    if first is None:
        return
    parts = chain([first], parts)
    if not first.prediction.is_multi_label:
        yield from smooth(parts, _log_probabilities, SWITCHING_COST_S if switching_cost is None else switching_cost)
    elif switching_cost is None:
        yield from ((part, None) for part in parts)
    else:
        raise ActionClipError("labels that were scored each by itself have no switching cost: leave it out")


def _log_probabilities(part: _Part) -> NDArray[np.float64]:
    """Return (L,), the logarithms of a part's probabilities times its seconds; a probability of 0 is the smallest."""
    probabilities = np.maximum(part.prediction.probabilities.astype(np.float64), np.finfo(np.float64).tiny)
    seconds_logs: NDArray[np.float64] = np.log(probabilities) * (part.end_s - part.start_s)
    return seconds_logs


class _Open:
    """A label that happens, as far as is known."""

    def __init__(self, part: _Part, index: int) -> None:
        self.start_s = part.start_s
        self._index = index
        self._sum = 0.0
        self._count = 0

    def add(self, part: _Part) -> None:
        """Let it last until the end of the part."""
        self._end_s = part.end_s
        self._label = part.prediction.labels[self._index]
        self._sum += float(part.prediction.probabilities[self._index])
        self._count += 1

    def segment(self) -> Segment:
        """Return it as it is so far."""
        return Segment(self.start_s, self._end_s, self._label, self._index, self._sum / self._count)


def _joined(answered: Iterable[tuple[_Part, int | None]], threshold: float | None) -> Iterator[Segment]:
    """Yield the segments of parts that follow each other, with the answers of each, by their beginnings."""
    unfinished: dict[int, _Open] = {}
    finished = _Finished()
    end_s = 0.0
    for part, answer in answered:
        before = unfinished.keys() if part.start_s <= end_s + _ROUNDING_S else ()
        now = _happening(part.prediction, answer, before, threshold)
        for index in unfinished.keys() - (now if before else ()):
            finished.add(unfinished.pop(index).segment())
        end_s = part.end_s
        for index in now - {part.prediction.none_index}:
            unfinished.setdefault(index, _Open(part, index)).add(part)
        yield from finished.before(min((each.start_s for each in unfinished.values()), default=math.inf))
    for each in unfinished.values():
        finished.add(each.segment())
    yield from finished.before(math.inf)


class _Finished:
    """Segments that wait for those which began before them, and may be many: a heap."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Segment]] = []

    def add(self, segment: Segment) -> None:
        heappush(self._heap, (segment.start_s, segment.index, segment))

    def before(self, time_s: float) -> Iterator[Segment]:
        """Yield and forget those that began before this time, by their beginnings."""
        while self._heap and self._heap[0][0] < time_s:
            yield heappop(self._heap)[2]


def _happening(
    prediction: Prediction, answer: int | None, before: Collection[int], threshold: float | None
) -> set[int]:
    """Return the indices of the labels that happen, where those of `before` did just before."""
    probabilities = prediction.probabilities
    if threshold is None:
        threshold = MULTI_LABEL_THRESHOLD if prediction.is_multi_label else 0.0
    lasting = {index for index in before if probabilities[index] >= threshold * _CLOSING}
    if answer is None:
        return lasting.union(np.flatnonzero(probabilities >= threshold).tolist())
    return {answer} if probabilities[answer] >= threshold else lasting
