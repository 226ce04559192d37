"""Cross-validation of heads: what they answer for clips that they were not fitted to, and their best settings."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from action_clip.data.dataset import Dataset
from action_clip.data.splits import folds, group_numbers
from action_clip.training.heads.examples import Examples, groups_of_class, membership
from action_clip.training.heads.kinds import Head, Setting

FOLDS = 5
MOST_GROUPS = 60
"""Most groups of which each is left out in turn, where a class has fewer than FOLDS."""
_LEAST = 1e-7
"""Below it, a probability counts as this one in the loss."""

Rows = NDArray[np.intp]
Fold = tuple[Rows, Rows]
"""The rows of clips to fit to, and of those to answer for."""


@dataclass(frozen=True, eq=False)
class Validation:
    """What cross-validation found of a head.

    Attributes:
        head: it.
        setting: the best one on all clips that were left out.
        rows: (M,) those of the clips, ascending.
        probabilities: (M, C) for each of them, by the head fitted to other folds with the setting that is best there.
    """

    head: Head
    setting: Setting
    rows: Rows = field(repr=False)
    probabilities: NDArray[np.float64] = field(repr=False)


def make_folds(dataset: Dataset, seed: int) -> list[Fold]:
    """Return the folds of clips; [] where there are not two groups that can be left out.

    There are FOLDS of them, stratified, with groups together, or, where a class has fewer groups, one for each group.
    Clips of classes with a single group are never left out: nothing would be known of these classes.

    Raises:
        ActionClipError: scikit-learn is not installed.
    """
    counts = groups_of_class(dataset)
    eligible = np.flatnonzero([all(counts[label] > 1 for label in example.labels) for example in dataset.examples])
    groups = group_numbers(dataset)
    if len(np.unique(groups[eligible])) < 2:
        return []
    is_few = counts[counts > 1].min() < FOLDS and len(np.unique(groups[eligible])) <= MOST_GROUPS
    found = []
    for _, part in folds(dataset.taken(eligible.tolist()), None if is_few else FOLDS, seed):
        tested = eligible[part]
        found.append((np.flatnonzero(~np.isin(groups, groups[tested])), tested))
    return found


def validated(head: Head, examples: Examples, parts: Sequence[Fold]) -> Validation:
    """Fit the head with all its settings, without each fold in turn, and return what it answers for that one.

    The setting for the clips of a fold is the best one on the other folds.

    Args:
        head: any.
        examples: all clips.
        parts: of `make_folds`, at least two.
    """
    count, classes = len(examples), examples.membership.shape[1]
    answers = np.zeros((len(head.settings), count, classes), np.float32)
    fold_of = np.full(count, -1)
    for number, (known, tested) in enumerate(parts):
        fold_of[tested] = number
        for place, fitted in enumerate(head.fitted(examples.taken(known), head.settings)):
            answers[place, tested] = fitted.probabilities(examples.features[tested])
    rows = np.flatnonzero(fold_of >= 0)
    quality = np.stack([_quality(each[rows], examples.taken(rows)) for each in answers])
    probabilities = np.empty((len(rows), classes))
    for number in range(len(parts)):
        own = fold_of[rows] == number
        probabilities[own] = answers[_best(quality[:, ~own]), rows[own]]
    return Validation(head, head.settings[_best(quality)], rows, probabilities)


def _quality(probabilities: NDArray[np.float32], examples: Examples) -> NDArray[np.float64]:
    """Return for each clip whether the answer is right, and the logarithm of its probability, (M, 2).

    Of several classes a clip, no answer is the right one, and the logarithm is the mean over the classes.
    """
    belongs = examples.membership
    if examples.is_multi_label:
        of_truth = np.where(belongs, probabilities, 1 - probabilities)
        logs = np.log(np.maximum(of_truth, _LEAST)).mean(axis=1)
        return np.stack([np.zeros(len(logs)), logs], axis=1)
    logs = np.log(np.maximum(probabilities[belongs], _LEAST))
    return np.stack([probabilities.argmax(axis=1) == examples.labels, logs], axis=1)


def _best(quality: NDArray[np.float64]) -> int:
    """Return the place of the setting with most right answers; of equal ones, with the highest mean logarithm."""
    means = quality.mean(axis=1)
    return int(np.lexsort((-means[:, 1], -means[:, 0]))[0])


def left_out(dataset: Dataset, parts: Sequence[Fold]) -> tuple[int, int]:
    """Return how many clips the folds leave out, and how many classes these have."""
    rows = np.concatenate([tested for _, tested in parts]) if parts else np.empty(0, np.intp)
    return len(rows), int(membership(dataset)[rows].any(axis=0).sum())
