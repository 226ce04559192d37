"""The card in the folder of a trained model."""

from collections import Counter
from collections.abc import Sequence
from shlex import quote

from action_clip import __version__
from action_clip.data.dataset import Dataset
from action_clip.models.catalog.specs import ModelSpec
from action_clip.system.terminal import printable
from action_clip.training.heads.report import (
    Report,
    Table,
    curve_note,
    curve_table,
    described,
    figure_note,
    figure_table,
)


def card(report: Report, spec: ModelSpec, command: str, date: str) -> str:
    """Return the text of README.md, in Markdown.

    Args:
        report: of the training.
        spec: of the model that was made.
        command: what the user has typed.
        date: when.
    """
    setting = described(report.chosen.setting)
    numbers = f" ({setting})" if setting else ""
    curve = ["## Few clips", _markdown(curve_table(report)), curve_note(report)] if report.curve else []
    base, licence = _plain(report.base.name), _plain(report.base.licence)
    parts = [
        f"# {_plain(spec.name)}",
        f"A model for actions in videos that tells {len(spec.classes)} classes apart: the head {spec.head}{numbers} "
        f"on the features of {base}. action-clip runs it:",
        _code(f"action-clip --model {quote(spec.name)} --video clip.mp4"),
        f"{_answers(spec)} The figures are of clips like those that it was made from: how it does with other cameras, "
        "places and people has to be tried.",
        "## How right",
        _markdown(figure_table(report)),
        figure_note(report),
        *curve,
        "## Data",
        _data_note(report),
        _markdown(_class_table(report)),
        "## How it was made",
        f"On {date}, by action_clip {__version__}:",
        _code(command),
        f"The base model is {base}. Its graphs are in this folder as they were; their licence: {licence}. The head is "
        "made from the clips, whose licences the program does not know.",
    ]
    return "\n\n".join(parts) + "\n"


def _answers(spec: ModelSpec) -> str:
    if spec.kind == "zero-shot":
        return "Without labels it chooses among these classes. Labels of your own may be among them or others."
    if spec.is_multi_label:
        return "Each class has a probability of its own: several may happen in a clip."
    return "It chooses among these classes, also where none of them happens."


def _data_note(report: Report) -> str:
    text = f"{_plain(report.train.name)}: {len(report.train)} clips for training"
    if report.val is not None:
        text += f", {len(report.val)} for validation"
    unreadable = sum(report.unreadable)
    return text + (f". {unreadable} of them could not be read." if unreadable else ".")


def _class_table(report: Report) -> Table:
    parts: Sequence[Dataset] = [report.train] if report.val is None else [report.train, report.val]
    counts = [Counter(label for each in part.examples for label in each.labels) for part in parts]
    rows = [[name, *(str(count[place]) for count in counts)] for place, name in enumerate(report.train.classes)]
    return [["class", "train", "val"][: len(parts) + 1], *rows]


def _markdown(table: Table) -> str:
    head, *rows = [f"| {' | '.join(map(_plain, row))} |" for row in table]
    return "\n".join([head, f"|{' --- |' * len(table[0])}", *rows])


def _plain(text: str) -> str:
    """Return a text as Markdown that shows it: names of files and classes may look like Markdown or HTML."""
    return "".join(f"\\{char}" if char in "\\`*_{}[]<>|#~" else char for char in printable(text))


def _code(text: str) -> str:
    """Return a text as a block of code, in a fence that it does not have."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}\n{printable(text)}\n{fence}"
