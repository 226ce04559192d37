"""Writing a Prediction as text, JSON or CSV: one function for each format, listed in FORMATS, and several by a Form."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from action_clip.system.files import write_file
from action_clip.system.terminal import json_escaped, printable, sentence

if TYPE_CHECKING:
    from action_clip.models.prediction import Failure, Prediction

COLUMNS = ("video", "rank", "index", "label", "probability")
"""The header of CSV."""
# Cells that begin with one of these are formulas in Excel, LibreOffice and Google Sheets (OWASP, "CSV Injection").
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def as_text(prediction: Prediction) -> str:
    """Return the prediction in the layout of the scripts that this program replaces, for existing parsers of it."""
    lines = ["=" * 62, f"class_count = {len(prediction.labels)}"]
    for entry in prediction.ranked:
        lines.append(f"+ idx = {entry.rank - 1}")
        lines.append(f"  category = {entry.index} [{printable(entry.label)}]")
        lines.append(f"  prob = {float(entry.probability)!r}")
    return "\n".join([*lines, "", "Script finished successfully.", ""])


def as_json(prediction: Prediction) -> str:
    """Return the prediction as a JSON object on one line: the outputs of several runs together are JSON Lines."""
    return json_line(prediction.to_dict())


def as_csv(prediction: Prediction, *, for_spreadsheets: bool = False) -> str:
    """Return the prediction as CSV: a header and a row for each label; the video is empty for frames without a file.

    `for_spreadsheets`: whether to put ' before cells that spreadsheets would take for formulas.
    """
    return csv_text([COLUMNS]) + rows(prediction, for_spreadsheets=for_spreadsheets)


FORMATS: dict[str, Callable[[Prediction], str]] = {"text": as_text, "json": as_json, "csv": as_csv}


@dataclass(frozen=True)
class Form:
    """How answers for several videos are written.

    Attributes:
        head: what comes before the first one.
        answer, failure: return the text for a video, which ends with a line end.
        in_order: whether they are in the order of the videos; otherwise each is written as soon as it is there.
    """

    head: str
    answer: Callable[[Prediction], str]
    failure: Callable[[Failure], str]
    in_order: bool


def form_of_several(name: str, *, for_spreadsheets: bool = False) -> Form:
    """Return the form of several answers in one of the FORMATS; `for_spreadsheets` is as for `as_csv`."""
    if name == "json":
        return Form("", as_json, failure_as_json, in_order=False)
    if name == "text":
        return Form("", lambda prediction: heading(prediction) + as_text(prediction), _failure_as_text, in_order=True)
    failure = partial(failure_as_row, COLUMNS, for_spreadsheets=for_spreadsheets)
    return Form(csv_text([COLUMNS]), partial(rows, for_spreadsheets=for_spreadsheets), failure, in_order=True)


def heading(result: Prediction | Failure) -> str:
    """Return the line before what text says of one of several videos."""
    return f"video = {printable(result.video or '')}\n"


def _failure_as_text(failure: Failure) -> str:
    return heading(failure) + error_line(failure)


def error_line(failure: Failure) -> str:
    """Return what text says of why a video failed."""
    return f"error = {sentence(failure.error)}\n"


def failure_as_json(failure: Failure) -> str:
    """Return a failure as a JSON object on one line."""
    return json_line(failure.to_dict())


def failure_as_row(columns: Sequence[str], failure: Failure, *, for_spreadsheets: bool) -> str:
    """Return a failure as a row of CSV with these columns: the video alone."""
    video = cell(failure.video or "", for_spreadsheets=for_spreadsheets)
    return csv_text([[video if column == "video" else "" for column in columns]])


def rows(prediction: Prediction, *before: object, for_spreadsheets: bool) -> str:
    """Return a row of CSV for each label, with the cells `before` in front."""
    video = cell(prediction.video or "", for_spreadsheets=for_spreadsheets)
    return csv_text(
        [
            *before,
            video,
            entry.rank,
            entry.index,
            cell(entry.label, for_spreadsheets=for_spreadsheets),
            float(entry.probability),
        ]
        for entry in prediction.ranked
    )


def cell(text: str, *, for_spreadsheets: bool) -> str:
    """Return the text for a cell of CSV."""
    return f"'{text}" if for_spreadsheets and text.startswith(_FORMULA_STARTS) else text


def json_line(values: dict[str, Any]) -> str:
    """Return the values as a JSON object on one line."""
    return json_escaped(json.dumps(values, ensure_ascii=False)) + "\n"


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Return rows of CSV, each with its end."""
    stream = io.StringIO()
    # Text streams translate line ends on Windows themselves: csv's "\r\n" would come out as "\r\r\n".
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()


def save_text(text: str, path: str | os.PathLike[str]) -> None:
    """Write the file `path` in UTF-8, whole or not at all. Raises ActionClipError.

    A file name that is not valid Unicode (Python decodes such bytes to lone surrogates) is written with escapes, which
    are those of JSON.
    """
    write_file(path, text.encode("utf-8", errors="backslashreplace"))
