"""Writing what happens in live video: a line for each answer, for each change of it, or for each segment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

import wcwidth

from action_clip.output.timelines import clock
from action_clip.output.writers import COLUMNS, cell, csv_text, json_line, rows
from action_clip.system.terminal import printable

if TYPE_CHECKING:
    from action_clip.models.live import LiveWindow
    from action_clip.models.segments import Segment

_TIMES = ("start_s", "end_s")
_SEGMENT_COLUMNS = ("time", *_TIMES, "video", "index", "label", "probability")
NOTHING = "-"
"""Stands in text for no label at all."""

Happening = tuple["LiveWindow", tuple[int, ...]]
"""An answer, and the indices of the labels that happen."""


@dataclass(frozen=True)
class LiveForm:
    """How answers are written.

    Attributes:
        head: what comes before the first one.
        lines: yields whole lines, as the answers come.
    """

    head: str
    lines: Callable[[Iterable[LiveWindow]], Iterator[str]]


def window_form(name: str, *, for_spreadsheets: bool) -> LiveForm:
    """Return the form of all answers, as "json" or "csv"; `for_spreadsheets` is as for `as_csv`."""
    if name == "json":
        return LiveForm("", lambda answers: (json_line(answer.to_dict()) for answer in answers))
    return LiveForm(csv_text([("time", *_TIMES, *COLUMNS)]), partial(_csv_windows, for_spreadsheets=for_spreadsheets))


def change_form(happening: Callable[[Iterable[LiveWindow]], Iterator[Happening]]) -> LiveForm:
    """Return the form of changes, as text; `happening` yields the labels that happen at each answer."""
    return LiveForm("", lambda answers: _changes(happening(answers)))


def segment_form(
    name: str, segments: Callable[[Iterable[LiveWindow]], Iterator[Segment]], *, for_spreadsheets: bool
) -> LiveForm:
    """Return the form of segments, each when its end is known, as "text", "json" or "csv".

    Args:
        name: of the format.
        segments: joins answers.
        for_spreadsheets: as for `as_csv`.
    """
    head = csv_text([_SEGMENT_COLUMNS]) if name == "csv" else ""
    write: Callable[[LiveWindow, Segment], str] = _json_segment if name == "json" else _text_segment
    if name == "csv":
        write = partial(_csv_segment, for_spreadsheets=for_spreadsheets)

    def lines(answers: Iterable[LiveWindow]) -> Iterator[str]:
        rest = iter(answers)
        first = next(rest, None)
        if first is None:
            return
        for segment in segments(chain([first], rest)):
            yield write(first, segment)

    return LiveForm(head, lines)


def _csv_windows(answers: Iterable[LiveWindow], *, for_spreadsheets: bool) -> Iterator[str]:
    for answer in answers:
        times = (_iso(answer.time), round(answer.start_s, 6), round(answer.end_s, 6))
        yield rows(answer.prediction, *times, for_spreadsheets=for_spreadsheets)


def _changes(answers: Iterable[Happening]) -> Iterator[str]:
    before: tuple[int, ...] | None = None
    for answer, now in answers:
        if now != before:
            before = now
            yield f"{answer.time:%Y-%m-%d %H:%M:%S}  {_happening(answer, now)}\n"


def _happening(answer: LiveWindow, indices: tuple[int, ...]) -> str:
    prediction = answer.prediction
    labels = (f"{_one_line(prediction.labels[index])}  {prediction.probabilities[index]:.1%}" for index in indices)
    return ", ".join(labels) or NOTHING


def _one_line(label: str) -> str:
    return printable(" ".join(label.split()))


def _began(first: LiveWindow, segment: Segment) -> datetime:
    """Return when a segment began by the clock on the wall, counted from the first answer."""
    return first.time + timedelta(seconds=segment.start_s - first.end_s)


def _iso(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds")


def _text_segment(first: LiveWindow, segment: Segment) -> str:
    length = clock(segment.end_s - segment.start_s, decimals=1)
    began = _began(first, segment)
    return f"{began:%Y-%m-%d %H:%M:%S}  {length}  {_one_line(segment.label)}  {segment.probability:.1%}\n"


def _json_segment(first: LiveWindow, segment: Segment) -> str:
    video = {"video": first.prediction.video, "model": first.prediction.model}
    return json_line({"time": _iso(_began(first, segment))} | video | segment.to_dict())


def _csv_segment(first: LiveWindow, segment: Segment, *, for_spreadsheets: bool) -> str:
    values = segment.to_dict() | {
        "time": _iso(_began(first, segment)),
        "video": cell(first.prediction.video or "", for_spreadsheets=for_spreadsheets),
        "label": cell(segment.label, for_spreadsheets=for_spreadsheets),
    }
    return csv_text([[values[column] for column in _SEGMENT_COLUMNS]])


def status(answer: LiveWindow, columns: int) -> str:
    """Return the newest answer on one line of a terminal, shorter than so many columns: time, label, probability."""
    best = answer.prediction.ranked[0]
    text = f"{answer.time:%H:%M:%S}  {best.probability:>6.1%}  {_one_line(best.label)}"
    return wcwidth.clip(text, 0, max(columns - 1, 0))
