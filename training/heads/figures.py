"""How right heads are: the figures of the table that is printed, and of the card."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from action_clip.data.encoding import EncodedDataset
from action_clip.evaluation.answers import Answers
from action_clip.evaluation.metrics import Figure, evaluate
from action_clip.training.heads.examples import Examples
from action_clip.training.heads.kinds import FittedHead, Head, Setting
from action_clip.training.heads.validation import Fold, Rows, validated


@dataclass(frozen=True)
class Figures:
    """The figures of a head: top-1 accuracy, or, where clips have several classes, mean average precision.

    Attributes:
        head: it.
        setting: what it is fitted with.
        cross_validated: for clips that it was not fitted to; None where no clip could be left out.
        val: for the clips for validation; None where there are none.
    """

    head: Head
    setting: Setting
    cross_validated: Figure | None = None
    val: Figure | None = None


def metric_name(*, is_multi_label: bool) -> str:
    """Return what the figures are called."""
    return "mAP" if is_multi_label else "top-1"


def compared(
    heads: Sequence[Head], encoded: EncodedDataset, examples: Examples, folds: Sequence[Fold], seed: int
) -> list[Figures]:
    """Return the figures of each head by cross-validation, with its best setting; without folds, its default one.

    Args:
        heads: any.
        encoded: the clips; those that cannot be read count as wrong.
        examples: those that can be read.
        folds: of `make_folds`.
        seed: of the intervals' resamples.
    """
    return [_by_folds(head, encoded, examples, folds, seed) for head in heads]


def _by_folds(head: Head, encoded: EncodedDataset, examples: Examples, folds: Sequence[Fold], seed: int) -> Figures:
    if not folds:
        return Figures(head, head.default)
    found = validated(head, examples, folds)
    return Figures(
        head=head,
        setting=found.setting,
        cross_validated=_figure(encoded, found.rows, found.probabilities, seed),
    )


def with_val(figures: Figures, examples: Examples, val: EncodedDataset, seed: int) -> Figures:
    """Return the figures with that for the clips of `val`, by the head fitted to `examples`."""
    fitted = fitted_with(figures.head, examples, figures.setting)
    probabilities = fitted.probabilities(val.features)
    return replace(figures, val=_figure(val, np.arange(len(val.rows)), probabilities, seed))


def fitted_with(head: Head, examples: Examples, setting: Setting) -> FittedHead:
    """Return the head as it is fitted to the clips with one setting."""
    return next(head.fitted(examples, [setting]))


def _figure(encoded: EncodedDataset, rows: Rows, probabilities: NDArray[np.float64], seed: int) -> Figure:
    """Return the figure for readable clips in these rows, (M,), by probabilities, (M, C), and for the unreadable."""
    unreadable = sorted(encoded.failures)
    dataset = encoded.dataset.taken([*encoded.rows[rows].tolist(), *unreadable])
    scores = np.full((len(dataset), len(dataset.classes)), np.nan)
    scores[: len(rows)] = probabilities
    answers = Answers(
        dataset=dataset,
        source="",
        choices=dataset.classes,
        right=tuple(example.labels for example in dataset.examples),
        scores=scores,
        failures={len(rows) + place: encoded.failures[index] for place, index in enumerate(unreadable)},
    )
    name = "mean_average_precision" if dataset.is_multi_label else "top_1"
    return evaluate(answers, seed=seed).figures[name]
