"""Smoothing over time: the sequence of labels that explains a whole video best, where each change of label has a cost.

It is the Viterbi algorithm (Forney, 1973) for a chain in which every change is equally improbable.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")

_MOST_UNDECIDED = 64
"""Most parts that wait for later ones: then the best sequence so far decides about the first of them."""


def smoothed(
    parts: Iterable[T], scores: Callable[[T], NDArray[np.float64]], switching_cost: float
) -> Iterator[tuple[T, int]]:
    """Yield each part with the index of its label in the best sequence of labels.

    That is the sequence with the largest sum of its labels' scores, less `switching_cost` for each change from a part
    to the next. With a cost of 0 each part has the label of its highest score.

    Args:
        parts: of one video, in order.
        scores: returns a part's scores, (L,), finite, of the same labels for every part.
        switching_cost: 0 or more, in the unit of the scores.

    Returns:
        An iterator that is a few parts behind: later ones decide about a change, `_MOST_UNDECIDED` at most.
    """
    waiting: deque[T] = deque()
    changes: deque[NDArray[np.intp]] = deque()  # by label of a part, that of the part before; of all but the first
    sums = np.zeros(0)
    for part in parts:
        if waiting:
            best = int(sums.argmax())
            stays = sums >= sums[best] - switching_cost
            changes.append(np.where(stays, np.arange(len(sums)), best))
            sums = _after_change(sums, switching_cost)
        sums = sums + scores(part) if len(sums) else scores(part)
        waiting.append(part)
        for label in _decided(changes, int(sums.argmax()), len(sums)):
            yield waiting.popleft(), label
            changes.popleft()
    yield from zip(waiting, _path(changes, int(sums.argmax())) if waiting else [], strict=True)


def latest(
    parts: Iterable[T], scores: Callable[[T], NDArray[np.float64]], switching_cost: float
) -> Iterator[tuple[T, int]]:
    """Yield each part, at once, with the index of the label that the best sequence of labels up to it ends with.

    Later parts may show that another sequence was better; `smoothed` waits for them. The arguments are the same.
    """
    sums = np.zeros(0)
    for part in parts:
        sums = _after_change(sums, switching_cost) + scores(part) if len(sums) else scores(part)
        sums = sums - sums.max()  # a stream may have any number of parts
        yield part, int(sums.argmax())


def _after_change(sums: NDArray[np.float64], switching_cost: float) -> NDArray[np.float64]:
    """Return the best sums of sequences, by the label of the next part, before its scores are added."""
    best: NDArray[np.float64] = np.maximum(sums, sums.max() - switching_cost)
    return best


def _decided(changes: deque[NDArray[np.intp]], best: int, labels: int) -> list[int]:
    """Return the labels of the first parts, as many as all sequences that may still win have in common."""
    alive = np.arange(labels)
    for last in range(len(changes) - 1, -1, -1):
        alive = np.unique(changes[last][alive])
        if len(alive) == 1:
            return _path([*changes][:last], int(alive[0]))
    return _path(changes, best)[:1] if len(changes) >= _MOST_UNDECIDED else []


def _path(changes: Iterable[NDArray[np.intp]], label: int) -> list[int]:
    """Return the labels of all parts on the way to the last one's."""
    path = [label]
    for before in reversed([*changes]):
        path.append(int(before[path[-1]]))
    return path[::-1]
