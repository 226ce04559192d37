"""Figures of how good answers are, with scikit-learn's metrics."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from action_clip.data.requirements import require_scikit_learn
from action_clip.data.splits import group_numbers
from action_clip.errors import ActionClipError
from action_clip.evaluation.answers import Answers
from action_clip.evaluation.bootstrap import Bootstrap, Weights, mean, mean_average_precision, mean_of_classes
from action_clip.evaluation.calibration import Calibration, calibration


@dataclass(frozen=True)
class Figure:
    """A figure from 0 to 1.

    Attributes:
        value: of all clips, of which those without an answer count as wrong.
        of_answered: of the others alone.
        interval: of `value`, 95 %; None where there are fewer than two groups.
    """

    value: float
    of_answered: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class ClassFigure:
    """How one class fares: `value` is the part of its clips that are right, or with several labels a clip its AP."""

    label: str
    clips: int
    value: float


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How good answers are.

    Attributes:
        answers: what was evaluated.
        figures: by name: "top_1", "top_5", "mean_per_class"; with several labels a clip "mean_average_precision".
        not_computed: for other figures, why there are none.
        classes: the classes that have clips, in the order of the choices.
        confusion: (C, C) int64, the number of clips by right label and answer; None with several labels a clip.
        calibration: None where answers are no probabilities, and with several labels a clip.
    """

    answers: Answers
    figures: dict[str, Figure]
    not_computed: dict[str, str]
    classes: tuple[ClassFigure, ...] = field(repr=False)
    confusion: NDArray[np.int64] | None = field(repr=False)
    calibration: Calibration | None = field(repr=False)


def evaluate(answers: Answers, *, top_k: int = 5, seed: int = 0) -> Evaluation:
    """Return the figures for answers.

    Args:
        answers: of a model or a file.
        top_k: the figure "top_K" counts clips of which a right label is among the first K.
        seed: of the resamples for the intervals.

    Raises:
        ActionClipError: no clip has an answer, or scikit-learn is not installed.
    """
    require_scikit_learn()
    if not answers.answered.any():
        raise ActionClipError(f"none of the {len(answers)} clips of {answers.dataset.name} has an answer: give some")
    makers = _of_several_labels if answers.dataset.is_multi_label else _of_one_label
    figures, not_computed, classes = makers(answers, Bootstrap(group_numbers(answers.dataset), seed), top_k)
    confusion, calibrated = None, None
    if not answers.dataset.is_multi_label:
        confusion = _confusion(answers)
        if answers.are_probabilities:
            calibrated = calibration(answers)
        else:
            not_computed["expected_calibration_error"] = "the scores are no probabilities"
    else:
        reason = "clips have several labels"
        not_computed |= {"mean_per_class": reason, "confusion": reason, "expected_calibration_error": reason}
    return Evaluation(answers, figures, not_computed, classes, confusion, calibrated)


_Made = tuple[dict[str, Figure], dict[str, str], tuple[ClassFigure, ...]]


def _of_one_label(answers: Answers, bootstrap: Bootstrap, top_k: int) -> _Made:
    from sklearn.metrics import accuracy_score, recall_score

    right = np.array([labels[0] for labels in answers.right], np.intp)
    best, answered = answers.best, answers.answered
    hits = (best == right).astype(np.float64)
    present = np.unique(right)
    recalls = recall_score(right, best, labels=present, average=None, zero_division=0)
    present_answered = np.unique(right[answered])

    def mean_recall(labels: NDArray[np.intp], chosen: NDArray[np.bool_]) -> float:
        return float(recall_score(right[chosen], best[chosen], labels=labels, average="macro", zero_division=0))

    figures = {
        "top_1": Figure(
            float(accuracy_score(right, best)),
            float(accuracy_score(right[answered], best[answered])),
            bootstrap.interval(mean(hits)),
        )
    }
    not_computed = _add_top_k(figures, answers, bootstrap, top_k)
    figures["mean_per_class"] = Figure(
        float(recalls.mean()),
        mean_recall(present_answered, answered),
        bootstrap.interval(mean_of_classes(hits, right)),
    )
    counts = np.bincount(right, minlength=len(answers.choices))
    classes = tuple(
        ClassFigure(answers.choices[label], int(counts[label]), float(recall))
        for label, recall in zip(present, recalls, strict=True)
    )
    return figures, not_computed, classes


def _of_several_labels(answers: Answers, bootstrap: Bootstrap, top_k: int) -> _Made:
    from sklearn.metrics import average_precision_score

    hits, answered = (answers.ranks < 1).astype(np.float64), answers.answered
    figures = {"top_1": _mean_figure(hits, answered, bootstrap)}
    not_computed = _add_top_k(figures, answers, bootstrap, top_k)
    if np.isnan(answers.scores[answered]).any():
        not_computed["mean_average_precision"] = (
            f"the answers have scores for {answers.depths[answered].min()} of the {len(answers.choices)} labels"
        )
        return figures, not_computed, ()
    lowest = np.nanmin(answers.scores) - 1  # what cannot be read comes last for each label
    scores, targets = np.where(np.isnan(answers.scores), lowest, answers.scores), answers.targets

    def precisions(chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
        labels = np.flatnonzero(targets[chosen].any(axis=0))
        return np.array([average_precision_score(targets[chosen, label], scores[chosen, label]) for label in labels])

    present = np.flatnonzero(targets.any(axis=0))
    by_class = precisions(np.ones(len(answers), np.bool_))
    figures["mean_average_precision"] = Figure(
        float(by_class.mean()),
        float(precisions(answered).mean()),
        bootstrap.interval(mean_average_precision(scores, targets)),
    )
    classes = tuple(
        ClassFigure(answers.choices[label], int(targets[:, label].sum()), float(value))
        for label, value in zip(present, by_class, strict=True)
    )
    return figures, not_computed, classes


def _add_top_k(figures: dict[str, Figure], answers: Answers, bootstrap: Bootstrap, top_k: int) -> dict[str, str]:
    """Add the figure of the first K labels, or return why there is none."""
    name = f"top_{top_k}"
    if top_k == 1:
        return {}
    if top_k >= len(answers.choices):
        return {name: f"there are {len(answers.choices)} labels"}
    answered, depths, ranks = answers.answered, answers.depths, answers.ranks
    unknown = answered & (depths < top_k) & (ranks == len(answers.choices))
    if unknown.any():
        return {name: f"the answers name {depths[unknown].min()} labels for a clip"}
    figures[name] = _mean_figure((ranks < top_k).astype(np.float64), answered, bootstrap)
    return {}


def _mean_figure(hits: NDArray[np.float64], answered: NDArray[np.bool_], bootstrap: Bootstrap) -> Figure:
    figure: Callable[[Weights], Weights] = mean(hits)
    return Figure(float(hits.mean()), float(hits[answered].mean()), bootstrap.interval(figure))


def _confusion(answers: Answers) -> NDArray[np.int64]:
    from sklearn.metrics import confusion_matrix

    answered = answers.answered
    right = np.array([labels[0] for labels in answers.right], np.intp)
    matrix: NDArray[np.int64] = confusion_matrix(
        right[answered], answers.best[answered], labels=np.arange(len(answers.choices))
    )
    return matrix
