"""Smoothing over time: the sequence of labels that explains all windows of a video best, where a change has a cost.

It is the Viterbi algorithm (Forney, 1973) for a chain in which every change of the label is equally improbable.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from action_clip.errors import ActionClipError
from action_clip.models.prediction import Window

_MOST_UNDECIDED = 64
"""Most windows that wait for later ones: then the best sequence so far decides about the first of them."""


def smoothed(windows: Iterable[Window], switching_cost: float) -> Iterator[tuple[Window, int]]:
    """Yield each window with the index of its label in the most probable sequence of labels.

    That is the sequence with the largest sum, over all windows, of the logarithm of its label's probability, less
    `switching_cost` for each change from a window to the next. With a cost of 0 it has each window's best label.

    Args:
        windows: of one video, in order, about the same labels.
        switching_cost: 0 or more; 1 means that a change is e times less probable than none.

    Returns:
        An iterator that is a few windows behind: later ones decide about a change, `_MOST_UNDECIDED` at most.

    Raises:
        ActionClipError: the cost is below 0 or no number.
    """
    if not switching_cost >= 0:
        raise ActionClipError(f"the switching cost is {switching_cost}: give 0 or more")
    return _smoothed(windows, switching_cost)


def _smoothed(windows: Iterable[Window], cost: float) -> Iterator[tuple[Window, int]]:
    waiting: deque[Window] = deque()
    changes: deque[NDArray[np.intp]] = deque()  # by label of a window, that of the window before; of all but the first
    sums = np.zeros(0)
    for window in windows:
        with np.errstate(divide="ignore"):
            logs = np.log(window.prediction.probabilities)
        logs = np.maximum(logs, math.log(np.finfo(np.float64).tiny))  # two labels of probability 0 are not the same
        if waiting:
            best = int(sums.argmax())
            stays = sums >= sums[best] - cost
            changes.append(np.where(stays, np.arange(len(sums)), best))
            sums = np.where(stays, sums, sums[best] - cost)
        sums = sums + logs if len(sums) else logs
        waiting.append(window)
        for label in _decided(changes, int(sums.argmax()), len(sums)):
            yield waiting.popleft(), label
            changes.popleft()
    yield from zip(waiting, _path(changes, int(sums.argmax())) if waiting else [], strict=True)


def _decided(changes: deque[NDArray[np.intp]], best: int, labels: int) -> list[int]:
    """Return the labels of the first windows, as many as all sequences that may still win have in common."""
    alive = np.arange(labels)
    for last in range(len(changes) - 1, -1, -1):
        alive = np.unique(changes[last][alive])
        if len(alive) == 1:
            return _path([*changes][:last], int(alive[0]))
    return _path(changes, best)[:1] if len(changes) >= _MOST_UNDECIDED else []


def _path(changes: Iterable[NDArray[np.intp]], label: int) -> list[int]:
    """Return the labels of all windows on the way to the last one's."""
    path = [label]
    for before in reversed([*changes]):
        path.append(int(before[path[-1]]))
    return path[::-1]
