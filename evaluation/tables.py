"""An evaluation as text and as JSON."""

import math
from typing import Any

import numpy as np

from action_clip.evaluation.metrics import ClassFigure, Evaluation, Figure
from action_clip.output.captions import counted
from action_clip.system.addresses import display_name
from action_clip.system.terminal import printable

_SHOWN = 5
_NAMES = {
    "mean_per_class": "mean per class",
    "mean_average_precision": "mean average precision",
    "expected_calibration_error": "expected calibration error",
    "confusion": "confusion matrix",
}


def as_text(evaluation: Evaluation) -> str:
    """Return the figures, the worst classes and the pairs that are confused most, as tables."""
    answers = evaluation.answers
    failed = len(answers.failures)
    with_clips = sum(count > 0 for count in answers.dataset.counts)
    lines = [
        f"{printable(answers.source)} on {printable(answers.dataset.name)}: {counted(len(answers), 'clip')} with "
        f"{with_clips} of {len(answers.choices)} labels" + (f", views {answers.views}" if answers.views else "")
    ]
    if failed:
        lines.append(f"{counted(failed, 'clip')} without an answer, which count{'s' if failed == 1 else ''} as wrong")
    heads = ["", "all clips", "95 % interval", *(["those with an answer"] if failed else [])]
    rows = [_figure_row(name, figure, with_answered=bool(failed)) for name, figure in evaluation.figures.items()]
    if evaluation.calibration is not None:
        rows.append([_NAMES["expected_calibration_error"], f"{evaluation.calibration.error:.3f}", "", ""])
    lines += ["", *_table([heads, *rows])]
    lines += [f"no {figure_name(name)}: {reason}" for name, reason in evaluation.not_computed.items()]
    what = "average precision" if answers.dataset.is_multi_label else "right"
    if worst := worst_classes(evaluation):
        rows = [[printable(each.label), str(each.clips), _percent(each.value)] for each in worst]
        lines += ["", *_table([["worst classes", "clips", what], *rows])]
    if pairs := confused(evaluation):
        rows = [[printable(label), printable(answer), f"{count} of {clips}"] for label, answer, count, clips in pairs]
        lines += ["", *_table([["confused most", "with", "clips"], *rows])]
    return "\n".join(lines) + "\n"


def as_dict(evaluation: Evaluation) -> dict[str, Any]:
    """Return everything in plain Python types, for `--format json`."""
    answers, dataset = evaluation.answers, evaluation.answers.dataset
    calibrated = evaluation.calibration
    return {
        "source": answers.source,
        "data": dataset.name,
        "views": answers.views or None,
        "clips": len(answers),
        "answered": len(answers) - len(answers.failures),
        "labels": list(answers.choices),
        "figures": {
            name: {
                "value": figure.value,
                "low": figure.interval[0] if figure.interval else None,
                "high": figure.interval[1] if figure.interval else None,
                "of_answered": figure.of_answered,
            }
            for name, figure in evaluation.figures.items()
        },
        "not_computed": evaluation.not_computed,
        "classes": [{"label": each.label, "clips": each.clips, "value": each.value} for each in evaluation.classes],
        "confusion": None if evaluation.confusion is None else evaluation.confusion.tolist(),
        "calibration": None
        if calibrated is None
        else {"error": calibrated.error, "bins": [vars(each) for each in calibrated.bins]},
        "answers": [_answer(evaluation, index) for index in range(len(answers))],
    }


def _answer(evaluation: Evaluation, index: int) -> dict[str, Any]:
    answers = evaluation.answers
    video = display_name(answers.dataset.examples[index].video)
    right = [answers.choices[label] for label in answers.right[index]]
    if index in answers.failures:
        return {"video": video, "labels": right, "error": answers.failures[index]}
    best = answers.best[index]
    score = float(answers.scores[index, best])
    return {
        "video": video,
        "labels": right,
        "answer": answers.choices[best],
        "score": score if math.isfinite(score) else None,
    }


def figure_name(name: str) -> str:
    """Return what tables call a figure."""
    return _NAMES.get(name, name.replace("_", "-"))


def worst_classes(evaluation: Evaluation, most: int = _SHOWN) -> list[ClassFigure]:
    """Return the classes with the lowest values, of which some clips are wrong; of equal ones those with more clips."""
    return sorted((each for each in evaluation.classes if each.value < 1), key=lambda each: (each.value, -each.clips))[
        :most
    ]


def confused(evaluation: Evaluation, most: int = _SHOWN) -> list[tuple[str, str, int, int]]:
    """Return the label and the wrong answer that most clips have, the number of these, and of all with the label."""
    if evaluation.confusion is None:
        return []
    matrix, choices = evaluation.confusion, evaluation.answers.choices
    wrong = matrix * ~np.eye(len(matrix), dtype=np.bool_)
    clips = {each.label: each.clips for each in evaluation.classes}
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return [
        (choices[label], choices[answer], int(wrong[label, answer]), clips[choices[label]])
        for label, answer in pairs
        if wrong[label, answer]
    ]


def _figure_row(name: str, figure: Figure, *, with_answered: bool) -> list[str]:
    interval = "" if figure.interval is None else f"{_percent(figure.interval[0])} to {_percent(figure.interval[1])}"
    row = [figure_name(name), _percent(figure.value), interval]
    return [*row, _percent(figure.of_answered)] if with_answered else row


def _percent(value: float) -> str:
    return f"{value:.1%}".replace("%", " %")


def _table(rows: list[list[str]]) -> list[str]:
    import wcwidth

    rows = [[*row, *[""] * (len(rows[0]) - len(row))][: len(rows[0])] for row in rows]
    widths = [max(wcwidth.width(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell + " " * (width - wcwidth.width(cell)) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
