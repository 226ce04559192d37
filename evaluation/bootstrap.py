"""How sure a figure is: 95 % intervals by resampling groups of clips."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.float64]

RESAMPLES = 1000
_PERCENTILES = (2.5, 97.5)
_BLOCK = 1 << 22
"""Weights that are in memory at a time."""


class Bootstrap:
    """Resamples of groups, as how many times each clip is in them.

    Clips of one group, such as cuts from one film, are alike: each group is drawn as a whole, as many as there are,
    with replacement.
    """

    def __init__(self, groups: NDArray[np.intp], seed: int) -> None:
        """Choose the groups, (N,) their numbers from 0, and the seed."""
        self._groups = groups
        self._seed = seed

    def interval(self, figure: Callable[[Weights], Weights]) -> tuple[float, float] | None:
        """Return the 2.5th and the 97.5th percentile of a figure over the resamples; None of fewer than two groups.

        `figure` returns it, (R,), for weights of clips, (R, N); NaN where it is not defined, which is left out.
        """
        if len(self._groups) == 0 or self._groups.max() == 0:
            return None
        values = np.concatenate([figure(weights) for weights in self._resamples()])
        if not np.isfinite(values).any():
            return None
        low, high = np.nanpercentile(values, _PERCENTILES)
        return float(low), float(high)

    def _resamples(self) -> Iterator[Weights]:
        random = np.random.default_rng(self._seed)
        count = int(self._groups.max()) + 1
        step = max(_BLOCK // max(len(self._groups), count), 1)
        for first in range(0, RESAMPLES, step):
            rows = min(step, RESAMPLES - first)
            drawn = random.integers(0, count, (rows, count))
            drawn += np.arange(rows)[:, None] * count
            times = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)
            yield times[:, self._groups].astype(np.float64)


def mean(values: NDArray[np.float64]) -> Callable[[Weights], Weights]:
    """Return the figure that is the mean of values of clips, (N,)."""
    return lambda weights: _ratio(weights @ values, weights.sum(axis=1))


def mean_of_classes(values: NDArray[np.float64], classes: NDArray[np.intp]) -> Callable[[Weights], Weights]:
    """Return the figure that is the mean over the classes of the mean of values of their clips, (N,) each.

    Of a resample without a class, it is the mean over the others.
    """
    order = np.argsort(classes, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(classes[order]) != 0])

    def figure(weights: Weights) -> Weights:
        sorted_weights = weights[:, order]
        counts = np.add.reduceat(sorted_weights, starts, axis=1)
        sums = np.add.reduceat(sorted_weights * values[order], starts, axis=1)
        means = np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0)
        return _ratio(means.sum(axis=1), (counts > 0).sum(axis=1).astype(np.float64))

    return figure


def mean_average_precision(scores: NDArray[np.float64], targets: NDArray[np.bool_]) -> Callable[[Weights], Weights]:
    """Return the figure that is the mean over the classes of the average precision, by scores and targets, (N, C).

    It is that of `sklearn.metrics.average_precision_score` with weights, for many resamples at a time.
    """
    sorted_classes = []
    for label in np.flatnonzero(targets.any(axis=0)):
        order = np.argsort(-scores[:, label], kind="stable")
        ends = np.flatnonzero(np.r_[np.diff(scores[order, label]) != 0, True])
        sorted_classes.append((order, ends, targets[order, label].astype(np.float64)))

    def figure(weights: Weights) -> Weights:
        sums, counts = np.zeros(len(weights)), np.zeros(len(weights))
        for order, ends, target in sorted_classes:
            sorted_weights = weights[:, order]
            taken = np.cumsum(sorted_weights, axis=1)[:, ends]
            right = np.cumsum(sorted_weights * target, axis=1)[:, ends]
            gained = np.diff(right, axis=1, prepend=0.0)
            precision = np.divide(right, taken, out=np.zeros_like(right), where=taken > 0)
            present = right[:, -1] > 0
            sums += _ratio((gained * precision).sum(axis=1), right[:, -1], empty=0.0)
            counts += present
        return _ratio(sums, counts)

    return figure


def _ratio(values: Weights, counts: Weights, empty: float = np.nan) -> Weights:
    return np.divide(values, counts, out=np.full_like(values, empty), where=counts > 0)
