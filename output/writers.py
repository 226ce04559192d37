"""Writing a Prediction as text, JSON or CSV: one function for each format, listed in FORMATS, and several by a Form."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from action_clip.system.files import write_file
from action_clip.system.terminal import json_escaped, printable, sentence

if TYPE_CHECKING:
    from action_clip.models.prediction import Failure, Prediction

_COLUMNS = ("video", "rank", "index", "label", "probability")
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
    return json_escaped(json.dumps(prediction.to_dict(), ensure_ascii=False)) + "\n"


def as_csv(prediction: Prediction, *, for_spreadsheets: bool = False) -> str:
    """Return the prediction as CSV: a header and a row for each label; the video is empty for frames without a file.

    `for_spreadsheets`: whether to put ' before cells that spreadsheets would take for formulas.
    """
    return _csv([_COLUMNS]) + _rows(prediction, for_spreadsheets=for_spreadsheets)


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
        return Form("", as_json, _failure_as_json, in_order=False)
    if name == "text":
        return Form("", lambda prediction: _heading(prediction) + as_text(prediction), _failure_as_text, in_order=True)
    cells = partial(_rows, for_spreadsheets=for_spreadsheets)
    return Form(_csv([_COLUMNS]), cells, partial(_failure_as_row, for_spreadsheets=for_spreadsheets), in_order=True)


def _heading(result: Prediction | Failure) -> str:
    return f"video = {printable(result.video or '')}\n"


def _failure_as_text(failure: Failure) -> str:
    return f"{_heading(failure)}error = {sentence(failure.error)}\n"


def _failure_as_json(failure: Failure) -> str:
    return json_escaped(json.dumps(failure.to_dict(), ensure_ascii=False)) + "\n"


def _failure_as_row(failure: Failure, *, for_spreadsheets: bool) -> str:
    return _csv([[_cell(failure.video or "", for_spreadsheets), *[""] * (len(_COLUMNS) - 1)]])


def _rows(prediction: Prediction, *, for_spreadsheets: bool) -> str:
    video = _cell(prediction.video or "", for_spreadsheets)
    return _csv(
        [video, entry.rank, entry.index, _cell(entry.label, for_spreadsheets), float(entry.probability)]
        for entry in prediction.ranked
    )


def _cell(text: str, for_spreadsheets: bool) -> str:
    return f"'{text}" if for_spreadsheets and text.startswith(_FORMULA_STARTS) else text


def _csv(rows: Iterable[Sequence[object]]) -> str:
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
