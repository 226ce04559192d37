"""Writing what happens in a video, and when: windows as JSON or CSV; segments also as a table, SRT or WebVTT."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import wcwidth

from action_clip.output.writers import (
    COLUMNS,
    cell,
    csv_text,
    error_line,
    failure_as_json,
    failure_as_row,
    heading,
    json_line,
    rows,
)
from action_clip.system.terminal import printable

if TYPE_CHECKING:
    from action_clip.models.prediction import Failure, Prediction, Window
    from action_clip.models.segments import Segment

_TIMES = ("start_s", "end_s")
_SEGMENT_COLUMNS = (*_TIMES, "video", "index", "label", "probability")
_WIDEST_LABEL = 40
"""Columns of a terminal that labels are padded to, at most."""
# SubRip has no escapes, and players take these for HTML's and ASS's markup.
_FOR_SRT = str.maketrans({"<": "‹", ">": "›", "{": "(", "}": ")", "\\": "/"})
_FOR_VTT = str.maketrans({"<": "&lt;", ">": "&gt;", "&": "&amp;"})


@dataclass(frozen=True)
class TimelineForm:
    """How the windows, or the segments, of videos are written.

    Attributes:
        head: what comes before those of the first video.
        texts: yields what is written for a video's windows or segments, as these come; its first argument is the
            prediction for the first window.
        failure: returns what is written for a video that failed; its second argument is whether anything is written
            for it already.
    """

    head: str
    texts: Callable[[Prediction, Iterable[Any]], Iterator[str]]
    failure: Callable[[Failure, bool], str]


def timeline_form(name: str, *, of_segments: bool, is_one: bool, for_spreadsheets: bool = False) -> TimelineForm:
    """Return a form.

    Args:
        name: "json" or "csv"; of segments also "text", and for one video "srt" or "vtt".
        of_segments: whether it is for segments, not for windows.
        is_one: whether there is one video: then nothing is written of its failure, and in a table not its name.
        for_spreadsheets: as for `as_csv`.
    """
    form = _form(name, of_segments, is_one, for_spreadsheets)
    return replace(form, failure=lambda *_: "") if is_one else form


def _form(name: str, of_segments: bool, is_one: bool, for_spreadsheets: bool) -> TimelineForm:
    if name == "json":
        return TimelineForm("", _json_segments if of_segments else _json_windows, _json_failure)
    if name == "csv":
        columns = _SEGMENT_COLUMNS if of_segments else (*_TIMES, *COLUMNS)
        texts = partial(_csv_segments if of_segments else _csv_windows, for_spreadsheets=for_spreadsheets)
        failure = partial(_csv_failure, columns, for_spreadsheets=for_spreadsheets)
        return TimelineForm(csv_text([columns]), texts, failure)
    if name == "srt":
        return TimelineForm("", _srt, _text_failure)
    if name == "vtt":
        return TimelineForm("WEBVTT\n\n", _vtt, _text_failure)
    return TimelineForm("", partial(_table, is_one=is_one), _text_failure)


def _json_windows(_: Prediction, windows: Iterable[Window]) -> Iterator[str]:
    for window in windows:
        yield json_line(window.to_dict())


def _csv_windows(_: Prediction, windows: Iterable[Window], *, for_spreadsheets: bool) -> Iterator[str]:
    for window in windows:
        times = (round(window.start_s, 6), round(window.end_s, 6))
        yield rows(window.prediction, *times, for_spreadsheets=for_spreadsheets)


def _json_segments(first: Prediction, segments: Iterable[Segment]) -> Iterator[str]:
    for segment in segments:
        yield json_line({"video": first.video, "model": first.model} | segment.to_dict())


def _csv_segments(first: Prediction, segments: Iterable[Segment], *, for_spreadsheets: bool) -> Iterator[str]:
    for segment in segments:
        values = segment.to_dict() | {
            "video": cell(first.video or "", for_spreadsheets=for_spreadsheets),
            "label": cell(segment.label, for_spreadsheets=for_spreadsheets),
        }
        yield csv_text([[values[column] for column in _SEGMENT_COLUMNS]])


def _table(first: Prediction, segments: Iterable[Segment], *, is_one: bool) -> Iterator[str]:
    """Yield the header, then a line for each segment; where there are several videos, a line with its name before."""
    width = min(max(wcwidth.width(printable(label)) for label in first.labels), _WIDEST_LABEL)
    width = max(width, len("label"))
    longest = len(clock(first.duration_s or 0.0, decimals=1))
    header = f"{'start':<{longest}}  {'end':<{longest}}  {'label':<{width}}  probability\n"
    yield header if is_one else heading(first) + header
    for segment in segments:
        times = "  ".join(clock(seconds, decimals=1).ljust(longest) for seconds in (segment.start_s, segment.end_s))
        label = wcwidth.ljust(printable(segment.label), width)
        yield f"{times}  {label}  {segment.probability:>11.1%}\n"


def _srt(_: Prediction, segments: Iterable[Segment]) -> Iterator[str]:
    for number, segment in enumerate(segments, start=1):
        yield f"{number}\n{_cue(segment, point=',')}\n{_on_one_line(segment.label).translate(_FOR_SRT)}\n\n"


def _vtt(_: Prediction, segments: Iterable[Segment]) -> Iterator[str]:
    for segment in segments:
        yield f"{_cue(segment, point='.')}\n{_on_one_line(segment.label).translate(_FOR_VTT)}\n\n"


def _cue(segment: Segment, *, point: str) -> str:
    """Return the line with the times of a subtitle, which is shown for a millisecond at least."""
    end_s = max(segment.end_s, segment.start_s + 0.001)
    start, end = (clock(seconds, decimals=3, point=point).rjust(12, "0") for seconds in (segment.start_s, end_s))
    return f"{start} --> {end}"


def _on_one_line(label: str) -> str:
    return printable(" ".join(label.split()))


def clock(seconds: float, *, decimals: int, point: str = ".") -> str:
    """Return a time as h:mm:ss, with so many decimals of a second after the point."""
    units = round(seconds * 10**decimals)
    whole, part = divmod(units, 10**decimals)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}{point}{part:0{decimals}}"


def _json_failure(failure: Failure, _: bool) -> str:
    return failure_as_json(failure)


def _csv_failure(columns: tuple[str, ...], failure: Failure, _: bool, *, for_spreadsheets: bool) -> str:
    return failure_as_row(columns, failure, for_spreadsheets=for_spreadsheets)


def _text_failure(failure: Failure, has_begun: bool) -> str:
    return error_line(failure) if has_begun else heading(failure) + error_line(failure)
