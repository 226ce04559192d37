"""Writing a Prediction as text, JSON or CSV: one function for each format, listed in FORMATS."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from action_clip.system.files import write_file
from action_clip.system.terminal import json_escaped, printable

if TYPE_CHECKING:
    from action_clip.models.prediction import Prediction

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

    def cell(text: str) -> str:
        return f"'{text}" if for_spreadsheets and text.startswith(_FORMULA_STARTS) else text

    stream = io.StringIO()
    # Text streams translate line ends on Windows themselves: csv's "\r\n" would come out as "\r\r\n".
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(["video", "rank", "index", "label", "probability"])
    for entry in prediction.ranked:
        video, label = cell(prediction.video or ""), cell(entry.label)
        table.writerow([video, entry.rank, entry.index, label, float(entry.probability)])
    return stream.getvalue()


FORMATS: dict[str, Callable[[Prediction], str]] = {"text": as_text, "json": as_json, "csv": as_csv}


def save_text(text: str, path: str | os.PathLike[str]) -> None:
    """Write the file `path` in UTF-8, whole or not at all. Raises ActionClipError.

    A file name that is not valid Unicode (Python decodes such bytes to lone surrogates) is written with escapes, which
    are those of JSON.
    """
    write_file(path, text.encode("utf-8", errors="backslashreplace"))
