"""What is told about a training: the tables that are printed, and that the card has too."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from action_clip.data.dataset import Dataset
from action_clip.evaluation.metrics import Figure
from action_clip.models.catalog.specs import ModelSpec
from action_clip.training.heads.curve import DRAWS, Point
from action_clip.training.heads.figures import Figures, metric_name
from action_clip.training.heads.kinds import Setting

Table = Sequence[Sequence[str]]
"""Rows of cells; the first has the heads of the columns."""


@dataclass(frozen=True)
class Report:
    """What is told about a training.

    Attributes:
        base: the model whose features are used.
        train: the clips, also those that cannot be read.
        val: those for validation; None: there are none.
        unreadable: how many clips cannot be read, of those for training and of those for validation.
        left_out: how many clips cross-validation left out in turn, and how many classes these have.
        folds: how many parts it left out; 0: it could leave out none.
        figures: of each head.
        chosen: those of the head that was taken.
        curve: points of each head, by its name; {} where they were not asked for.
        is_multi_label: whether clips have several classes.
    """

    base: ModelSpec
    train: Dataset
    val: Dataset | None
    unreadable: tuple[int, int]
    left_out: tuple[int, int]
    folds: int
    figures: Sequence[Figures]
    chosen: Figures
    curve: Mapping[str, Sequence[Point]]
    is_multi_label: bool


def as_text(report: Report) -> str:
    """Return the tables and what they mean, for a terminal."""
    parts = [_aligned(figure_table(report)), figure_note(report)]
    if report.curve:
        parts += [_aligned(curve_table(report)), curve_note(report)]
    return "\n\n".join(parts) + "\n"


def figure_table(report: Report) -> Table:
    """Return the figures of each head."""
    metric = metric_name(is_multi_label=report.is_multi_label)
    heads = [
        "head",
        *([f"cross-validated {metric}"] if report.folds else []),
        *([f"val {metric}"] if report.val else []),
    ]
    rows = [[*heads, "setting", ""]]
    for figures in report.figures:
        numbers = [each for each in (figures.cross_validated, figures.val) if each is not None]
        taken = "taken" if figures is report.chosen else ""
        rows.append([figures.head.name, *map(_with_interval, numbers), described(figures.setting), taken])
    return rows


def figure_note(report: Report) -> str:
    """Return what the figures mean, in sentences."""
    clips, classes = report.left_out
    unreadable, unreadable_val = report.unreadable
    if not report.folds:
        text = (
            "Each class has one clip, or one group of clips that belong together: none could be left out, so the heads "
            "are not compared, and have their usual settings."
        )
    else:
        of = "" if classes == len(report.train.classes) else f", those of the {classes} classes that have two or more"
        how = f"in {report.folds} parts, groups together" if report.folds < clips else "one at a time"
        text = (
            f"Cross-validated: {clips} clips left out {how}{of}; {len(report.train.classes)} classes to choose from, "
            "and settings chosen on the other parts. In brackets: 95 % intervals."
        )
        if unreadable:
            text += f" {_count(unreadable)} that cannot be read {_as_wrong(unreadable)}."
    if report.val is not None:
        text += f" Val: {len(report.val)} clips, heads fitted to all clips for training."
        if unreadable_val:
            text += f" {_count(unreadable_val)} of them that cannot be read {_as_wrong(unreadable_val)}."
    return text


def curve_table(report: Report) -> Table:
    """Return the accuracy of each head over the number of clips a class."""
    shots = [point.shots for point in next(iter(report.curve.values()))]
    head = ["head", *(f"{number} a class" if number == 1 else str(number) for number in shots)]
    rows = [
        [name, *(f"{_percent(point.mean)} ± {point.deviation * 100:.1f}" for point in points)]
        for name, points in report.curve.items()
    ]
    return [head, *rows]


def curve_note(report: Report) -> str:
    """Return what the curve means, in sentences."""
    measured = "a quarter of the clips, another one each time" if report.val is None else "the clips for val"
    return (
        f"Top-1 with so many clips a class, or all where a class has fewer: mean and standard deviation over {DRAWS} "
        f"draws, measured on {measured}, with the settings above."
    )


def described(setting: Setting) -> str:
    """Return the numbers of a setting with their names."""
    return ", ".join(f"{name} {number:g}" for name, number in setting.items())


def _with_interval(figure: Figure) -> str:
    if figure.interval is None:
        return _percent(figure.value)
    low, high = figure.interval
    return f"{_percent(figure.value)} ({low * 100:.1f} to {high * 100:.1f})"


def _percent(share: float) -> str:
    return f"{share * 100:.1f} %"


def _count(clips: int) -> str:
    return "1 clip" if clips == 1 else f"{clips} clips"


def _as_wrong(clips: int) -> str:
    return "counts as wrong" if clips == 1 else "count as wrong"


def _aligned(table: Table) -> str:
    """Return the table with its columns aligned by spaces."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table)
    return "\n".join(lines)
