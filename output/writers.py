"""Prediction to text, JSON or CSV: one writer a format, listed in FORMATS."""

from __future__ import annotations

import csv
import io
import json
import os
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, TextIO

from action_clip.system.files import write_file
from action_clip.system.terminal import json_escaped, printable

if TYPE_CHECKING:
    from action_clip.models.prediction import Prediction


# Cells that begin with one of these are formulas in Excel, LibreOffice and Google Sheets (OWASP, "CSV Injection").
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


class ResultWriter(ABC):
    """Writes Predictions in one format.

    Streams should be UTF-8 with errors="backslashreplace": a file name that is not valid Unicode (Python decodes such
    bytes to lone surrogates) is then written with escapes, which are those of JSON, instead of raising an error.
    """

    @abstractmethod
    def write(self, prediction: Prediction, stream: TextIO) -> None:
        """Write `prediction` to a text stream, with a line end after the last line."""

    def text(self, prediction: Prediction) -> str:
        """Return what `write` writes."""
        stream = io.StringIO()
        self.write(prediction, stream)
        return stream.getvalue()

    def save(self, prediction: Prediction, path: str | os.PathLike[str]) -> None:
        """Write `prediction` to the file `path` in UTF-8, whole or not at all. Raises ActionClipError."""
        write_file(path, self.text(prediction).encode("utf-8", errors="backslashreplace"))


class TextWriter(ResultWriter):
    """The layout of the scripts that this program replaces: what parses their output parses this one's, too."""

    def write(self, prediction: Prediction, stream: TextIO) -> None:
        stream.write("=" * 62 + "\n")
        stream.write(f"class_count = {len(prediction.labels)}\n")
        for entry in prediction.ranked:
            stream.write(f"+ idx = {entry.rank - 1}\n")
            stream.write(f"  category = {entry.index} [{printable(entry.label)}]\n")
            stream.write(f"  prob = {float(entry.probability)!r}\n")
        stream.write("\nScript finished successfully.\n")


class JsonWriter(ResultWriter):
    """One object on one line: the outputs of several runs, one after the other, are JSON Lines."""

    def write(self, prediction: Prediction, stream: TextIO) -> None:
        stream.write(json_escaped(json.dumps(prediction.to_dict(), ensure_ascii=False)) + "\n")


class CsvWriter(ResultWriter):
    """A header, then one row a prediction; the video is empty where frames were given instead of a file."""

    def __init__(self, *, for_spreadsheets: bool = False) -> None:
        """`for_spreadsheets`: put ' before cells that spreadsheets would take for formulas; else change no cell."""
        self._for_spreadsheets = for_spreadsheets

    def write(self, prediction: Prediction, stream: TextIO) -> None:
        # Text streams translate line ends on Windows themselves: csv's "\r\n" would come out as "\r\r\n".
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(["video", "rank", "index", "label", "probability"])
        for entry in prediction.ranked:
            texts = [self._cell(prediction.video or ""), self._cell(entry.label)]
            table.writerow([texts[0], entry.rank, entry.index, texts[1], float(entry.probability)])

    def _cell(self, text: str) -> str:
        return f"'{text}" if self._for_spreadsheets and text.startswith(_FORMULA_STARTS) else text


FORMATS: dict[str, ResultWriter] = {"text": TextWriter(), "json": JsonWriter(), "csv": CsvWriter()}
