"""How right heads are with few clips a class: their accuracy over 1, 2, 4, 8 and 16 of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from action_clip.data.dataset import Dataset
from action_clip.data.splits import split_off
from action_clip.training.heads.examples import Examples
from action_clip.training.heads.figures import Figures, fitted_with

SHOTS = (1, 2, 4, 8, 16)
DRAWS = 5
"""How many times clips are drawn."""
_SHARE = 0.25
"""Of the clips, what is split off to measure with, where there are none for validation."""


@dataclass(frozen=True)
class Point:
    """The accuracy of a head with so many clips a class: mean and standard deviation over the draws."""

    shots: int
    mean: float
    deviation: float


def curve(
    figures: Sequence[Figures], examples: Examples, dataset: Dataset, val: Examples | None, seed: int
) -> dict[str, list[Point]]:
    """Return the points of each head, by its name.

    Of a class that has fewer clips than asked for, all are taken; there are no points for more clips than the
    largest has. Where there are no clips for validation, other clips are split off to measure with in each draw.

    Args:
        figures: of heads, with the setting that each is fitted with.
        examples, dataset: the clips.
        val: those for validation.
        seed: of the draws.

    Raises:
        ActionClipError: nothing can be split off.
    """
    found: dict[tuple[str, int], list[float]] = {}
    for draw in range(DRAWS):
        known, measured = _split(examples, dataset, val, seed + draw)
        order = np.random.default_rng([seed, draw]).permutation(known)
        most = examples.membership[known].sum(axis=0).max()
        for shots in (each for each in SHOTS if each <= most):
            chosen = _some_of_each(order, examples, shots)
            few = examples.taken(chosen)
            for each in figures:
                fitted = fitted_with(each.head, few, each.setting)
                answers = fitted.probabilities(measured.features).argmax(axis=1)
                found.setdefault((each.head.name, shots), []).append(float((answers == measured.labels).mean()))
    return {
        each.head.name: [
            Point(shots, float(np.mean(values)), float(np.std(values)))
            for shots in SHOTS
            if (values := found.get((each.head.name, shots)))
        ]
        for each in figures
    }


def _split(examples: Examples, dataset: Dataset, val: Examples | None, seed: int) -> tuple[NDArray[np.intp], Examples]:
    """Return the rows of clips to draw from, and the clips to measure with."""
    if val is not None:
        return np.arange(len(examples)), val
    known, measured = split_off(dataset, _SHARE, seed)
    rows = {example: row for row, example in enumerate(dataset.examples)}
    return (
        np.array([rows[example] for example in known.examples], np.intp),
        examples.taken(np.array([rows[example] for example in measured.examples], np.intp)),
    )


def _some_of_each(order: NDArray[np.intp], examples: Examples, shots: int) -> NDArray[np.intp]:
    """Return the first rows in this order of each class, so many of each or all."""
    belongs = examples.membership[order]
    is_taken = (belongs & (belongs.cumsum(axis=0) <= shots)).any(axis=1)
    return order[is_taken]
