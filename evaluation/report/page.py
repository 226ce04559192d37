"""Writing the page of an evaluation."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from action_clip.evaluation.metrics import Evaluation
from action_clip.evaluation.report.errors import Pair, pair_id, wrong_pairs
from action_clip.evaluation.report.frames import frames_of
from action_clip.evaluation.tables import figure_name, worst_classes
from action_clip.output.report.page import FOLDER as PAGES
from action_clip.output.report.page import write_page
from action_clip.system.addresses import display_name
from action_clip.video.sampling import Sampler

_FOLDER = Path(__file__).parent
_UPLOT = PAGES / "uplot"
MOST_LABELS = 50
"""Most labels of the confusion matrix: those with the most errors."""
MOST_CLIPS = 300
"""Most clips that are shown with frames: of 8 frames each, they make a page of 10 MB."""


@dataclass(frozen=True)
class Cell:
    """Clips with one label and one answer: their number, their part of the label's clips, and where they are shown."""

    count: int
    share: float
    is_right: bool
    id: str


def save_page(evaluation: Evaluation, path: str | os.PathLike[str], sampler: Sampler) -> None:
    """Write the page of an evaluation, whole or not at all.

    Args:
        evaluation: it.
        path: of the page, whose name ends in .html or .htm; links to clips are relative to its folder.
        sampler: the frames of clips that are looked at.

    Raises:
        ActionClipError: the page cannot be written.
    """
    answers, dataset = evaluation.answers, evaluation.answers.dataset
    pairs = _with_frames(wrong_pairs(answers, path), evaluation, sampler)
    labels, rows = _matrix(evaluation)
    wrong = sum(len(pair.clips) for pair in pairs)
    values = {
        "title": f"{answers.source} on {dataset.name}",
        "facts": [
            f"{len(answers):,} clips",
            f"{sum(count > 0 for count in dataset.counts):,} of {len(answers.choices):,} labels",
            *([f"views {answers.views}"] if answers.views else []),
        ],
        "figures": [(figure_name(name), figure) for name, figure in evaluation.figures.items()],
        "not_computed": [(figure_name(name), reason) for name, reason in evaluation.not_computed.items()],
        "calibration": evaluation.calibration,
        "curve": _curve(evaluation),
        "is_multi_label": dataset.is_multi_label,
        "are_probabilities": answers.are_probabilities,
        "classes": sorted(evaluation.classes, key=lambda each: (each.value, -each.clips)),
        "worst": worst_classes(evaluation, 10),
        "labels": labels,
        "rows": rows,
        "label_count": len(answers.choices),
        "pairs": pairs,
        "wrong": wrong,
        "without_frames": max(wrong - MOST_CLIPS, 0),
        "failures": [
            (display_name(dataset.examples[index].video), sentence)
            for index, sentence in sorted(answers.failures.items())
        ],
    }
    has_curve = evaluation.calibration is not None
    write_page(
        path,
        "evaluation.html",
        values,
        scripts=[_UPLOT / "uPlot.iife.min.js", _FOLDER / "calibration.js"] if has_curve else [],
        styles=[*([_UPLOT / "uPlot.min.css"] if has_curve else []), _FOLDER / "evaluation.css"],
        folder=_FOLDER,
    )


def _with_frames(pairs: Sequence[Pair], evaluation: Evaluation, sampler: Sampler) -> list[Pair]:
    """Return the pairs, of which the first MOST_CLIPS clips have frames."""
    examples = evaluation.answers.dataset.examples
    indices = [clip.index for pair in pairs for clip in pair.clips][:MOST_CLIPS]
    frames = dict(zip(indices, frames_of([examples[index] for index in indices], sampler), strict=True))
    return [
        replace(pair, clips=[replace(clip, frames=frames.get(clip.index, ())) for clip in pair.clips]) for pair in pairs
    ]


def _matrix(evaluation: Evaluation) -> tuple[list[str], list[tuple[str, list[Cell]]]]:
    """Return the labels of the columns, and the rows of the confusion matrix, of labels that have clips or answers."""
    if evaluation.confusion is None:
        return [], []
    matrix, choices = evaluation.confusion, evaluation.answers.choices
    wrong = matrix * ~np.eye(len(matrix), dtype=np.bool_)
    errors = wrong.sum(axis=0) + wrong.sum(axis=1)
    used = np.flatnonzero(matrix.sum(axis=0) + matrix.sum(axis=1))
    chosen = np.sort(used[np.argsort(-errors[used], kind="stable")][:MOST_LABELS])
    rows = []
    for label in chosen[matrix[chosen].sum(axis=1) > 0]:
        total = matrix[label].sum()
        counts = [(answer, int(matrix[label, answer])) for answer in chosen]
        cells = [
            Cell(count, float(count / total), bool(label == answer), pair_id([label], answer))
            for answer, count in counts
        ]
        rows.append((choices[label], cells))
    return [choices[label] for label in chosen], rows


def _curve(evaluation: Evaluation) -> dict[str, Any]:
    """Return what the script draws: the middles of bins, and the right part of the answers in them."""
    bins = [] if evaluation.calibration is None else evaluation.calibration.bins
    return {
        "middles": [round((each.low + each.high) / 2, 6) for each in bins],
        "accuracies": [round(each.accuracy, 6) if each.clips else None for each in bins],
        "confidences": [round(each.confidence, 6) if each.clips else None for each in bins],
        "clips": [each.clips for each in bins],
    }
