"""Clips and labels in tables: CSV and TSV, JSON and JSON Lines, Kinetics' own."""

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from action_clip.data.classes import shown
from action_clip.data.rows import Row, read_split
from action_clip.errors import ActionClipError
from action_clip.tokenizer.label_files import column_head
from action_clip.video import is_video_name

_FILE_HEADS = (
    *("file", "filename", "file name", "filepath", "file path", "path", "video", "video file", "video path"),
    *("video name", "clip", "clip path", "video id", "id"),
)
_LABEL_HEADS = (
    *("label", "labels", "label name", "class", "classes", "class name", "category", "action", "actions"),
    *("target", "targets", "tags"),
)
_SPLIT_HEADS = ("split", "subset", "partition")
_GROUP_HEADS = ("group", "groups", "group id")
_START_HEADS = ("start", "start s", "start time", "time start")
_END_HEADS = ("end", "end s", "end time", "time end")
_YOUTUBE = "youtube id"
_DELIMITERS = ("\t", ",", ";")
_BETWEEN_LABELS = re.compile("[|;]")


class Columns(NamedTuple):
    """The columns of files and of labels that the user names; None: by their heads."""

    file: str | None = None
    label: str | None = None


BY_HEADS = Columns()


class _Record(NamedTuple):
    """A row by the heads of its columns."""

    where: str
    cells: Mapping[str, Any]


def json_rows(text: str, source: str, columns: Columns) -> list[Row]:
    """Return the rows of a JSON text: a list of objects, an object by files, or an object a line.

    An object by files has, for each, a label, a list of labels, or an object; Kinetics' own has `annotations` there.

    Raises:
        ActionClipError: it is not valid, or has none of these forms.
    """
    return _rows(list(_json_records(text, source)), source, columns)


def table_rows(text: str, source: str, columns: Columns) -> list[Row] | None:
    """Return the rows of a table with commas, semicolons or tabs; None where the text is none.

    The first line has the heads of columns; without heads, the rows are `file,label`.

    Raises:
        ActionClipError: the header names no files or no labels, or a row does not fit it.
    """
    first = next((line for line in text.splitlines() if line.strip()), "")
    tried: list[str] = []
    for delimiter in _DELIMITERS:
        heads = _cells(first, delimiter)
        if len(heads) < 2:
            continue
        if is_video_name(heads[0]) and len(heads) == 2:
            return _rows(list(_csv_records(text, delimiter, ["file", "label"], source)), source, columns)
        if any(is_video_name(head) for head in heads):
            raise ActionClipError(
                f"the first line of {source} has no heads of columns, and {len(heads)} columns: write a first line "
                "such as file,label"
            )
        tried = tried or heads
        if {*map(column_head, heads)} & {*_FILE_HEADS, *_LABEL_HEADS, _YOUTUBE} or columns.file in heads:
            records = list(_csv_records(text, delimiter, heads, source))[1:]
            return _rows(records, source, columns, heads)
    if tried and not first.rstrip()[-1:].isdecimal():  # a list of paths with ids may have commas
        _column(tried, columns.file, _FILE_HEADS, "files", "--file-column", source)
    return None


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))]
    except (csv.Error, StopIteration):
        return []


def _csv_records(text: str, delimiter: str, heads: Sequence[str], source: str) -> Iterator[_Record]:
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    while True:
        first = rows.line_num + 1
        where = f"line {first} of {source}"
        try:
            row = [cell.strip() for cell in next(rows)]
        except StopIteration:
            return
        except csv.Error as error:
            raise ActionClipError(f"{where} is no row of a table ({error}): check its quotation marks") from error
        if not any(row):
            continue
        if len(row) != len(heads):
            raise ActionClipError(
                f"{where} has {len(row)} columns, and the first line {len(heads)}: write as many, in double quotes "
                "what has the separator in it"
            )
        yield _Record(where, dict(zip(heads, row, strict=True)))


def _json_records(text: str, source: str) -> Iterator[_Record]:
    try:
        content = json.loads(text, object_pairs_hook=partial(_object, source))
    except (ValueError, RecursionError) as error:
        content = _json_lines(text, source, error)
    if isinstance(content, dict):
        for name, value in content.items():
            yield _Record(f"'{name}' in {source}", _of_file(name, value))
    elif all(isinstance(item, dict) for item in content):
        for number, item in enumerate(content, start=1):
            yield _Record(f"object {number} of {source}", item)
    else:
        raise ActionClipError(
            f"{source} must be a JSON list of objects with a file and a label, or an object of files to labels"
        )


def _json_lines(text: str, source: str, error: Exception) -> list[Any]:
    lines = [line for line in text.splitlines() if line.strip()]
    try:
        return [json.loads(line, object_pairs_hook=partial(_object, source)) for line in lines]
    except (ValueError, RecursionError):
        raise ActionClipError(f"{source} is not valid JSON ({error}): check it") from error


def _object(source: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON, in which each key is once. Raises ActionClipError."""
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ActionClipError(f"{source} has '{twice}' twice in one object: leave one of them")
    return content


def _of_file(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        return {"file": name, "label": value}
    annotations = value.get("annotations")
    if not isinstance(annotations, dict):
        return {"file": name} | value
    segment = annotations.get("segment")
    start, end = segment if isinstance(segment, list) and len(segment) == 2 else (None, None)
    return {
        _YOUTUBE: name,
        "label": annotations.get("label"),
        "time start": start,
        "time end": end,
        "split": value.get("subset"),
    }


def _rows(records: Sequence[_Record], source: str, columns: Columns, heads: Sequence[str] = ()) -> list[Row]:
    heads = heads or list(dict.fromkeys(head for record in records for head in record.cells))
    if not heads:
        return []
    is_kinetics = columns.file is None and _YOUTUBE in map(column_head, heads)
    file_heads = (_YOUTUBE,) if is_kinetics else _FILE_HEADS
    file = _column(heads, columns.file, file_heads, "files", "--file-column", source)
    label = _column(heads, columns.label, _LABEL_HEADS, "labels", "--label-column", source)
    others = [head for head in heads if head not in (file, label)]
    read = [_optional(others, names) for names in (_SPLIT_HEADS, _GROUP_HEADS, _START_HEADS, _END_HEADS)]
    rows = [
        Row(_text(record, file, "file"), _labels(record, label), record.where, *_others(record, read))
        for record in records
    ]
    return [_of_kinetics(row) for row in rows] if is_kinetics else rows


def _others(
    record: _Record, columns: Sequence[Callable[[_Record], str]]
) -> tuple[str | None, str | None, float | None, float | None]:
    """Return the split, the group, the start and the end of a row."""
    split, group, start, end = (column(record) for column in columns)
    start_s, end_s = _seconds(start, record.where), _seconds(end, record.where)
    if start_s is not None and end_s is not None and end_s <= start_s:
        raise ActionClipError(f"{record.where} ends at {end_s:g} s and begins at {start_s:g} s: check its times")
    return read_split(split, record.where), group or None, start_s, end_s


def _of_kinetics(row: Row) -> Row:
    """Return a row of Kinetics: a part of a video, whose file is named after both where it was cut out."""
    name, start_s, end_s = row.name, row.start_s, row.end_s
    cut = None if start_s is None or end_s is None else f"{name}_{round(start_s):06d}_{round(end_s):06d}"
    return replace(row, group=row.group or name, cut=cut)


def _column(heads: Sequence[str], wanted: str | None, known: Sequence[str], what: str, option: str, source: str) -> str:
    """Return the head of a column: the wanted one, or the only one that is known. Raises ActionClipError."""
    listed = shown(heads)
    if wanted is not None:
        if wanted not in heads:
            raise ActionClipError(f"{source} has no column '{wanted}' ({listed}): name one of them with {option}")
        return wanted
    found = [head for head in heads if column_head(head) in known]
    if len(found) > 1 and "id" in known:  # an id beside a name of a file is a number of the row
        found = [head for head in found if column_head(head) != "id"]
    if len(found) == 1:
        return found[0]
    if found:
        raise ActionClipError(f"{source} has several columns of {what} ({shown(found)}): name one with {option}")
    raise ActionClipError(
        f"{source} has no column of {what} ({listed}): call it {known[0]} in the first line, or name it with {option}"
    )


def _optional(heads: Iterable[str], known: Sequence[str]) -> Callable[[_Record], str]:
    """Return a function that returns the text in the first known column; "" where there is none."""
    head = next((head for head in heads if column_head(head) in known), None)

    def text(record: _Record) -> str:
        value = None if head is None else record.cells.get(head)
        return "" if value is None else str(value).strip()

    return text


def _text(record: _Record, head: str, what: str) -> str:
    value = record.cells.get(head)
    text = str(value).strip() if isinstance(value, str | int) else ""
    if not text or "\0" in text:
        raise ActionClipError(f"{record.where} has no {what}: write one, or leave out the row")
    return text


def _labels(record: _Record, head: str) -> tuple[str, ...]:
    """Return the labels in a cell, between which is `|` or `;`, or in a list of JSON."""
    value = record.cells.get(head)
    values = _BETWEEN_LABELS.split(value) if isinstance(value, str) else value if isinstance(value, list) else [value]
    if any(isinstance(each, bool) or not isinstance(each, str | int | None) for each in values):
        raise ActionClipError(f"{record.where} has a label that is no text: write its name")
    labels = [text for each in values if each is not None and (text := str(each).strip())]
    if not labels:
        raise ActionClipError(f"{record.where} has no label: write one, or leave out the row")
    return tuple(dict.fromkeys(labels))


def _seconds(text: str, where: str) -> float | None:
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ActionClipError(f"{where} has '{text}' for a time: write seconds")
    return seconds
