"""Reading files of labels and class names: plain lines, tables (CSV, TSV) or JSON, with or without ids."""

import csv
import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from numbers import Integral
from typing import Any, NamedTuple

from action_clip.errors import ActionClipError
from action_clip.system.files import read_text

# The last one occurs in no name: with it, a table has one column.
_DELIMITERS = ("\t", ",", ";", "\x1f")
_ID_HEADS = ("id", "index", "idx", "class id", "class index", "label id")
_NAME_HEADS = ("name", "names", "label", "labels", "class name", "label name")
# Heads that name the labels only beside an id column: beside more columns they may name groups of labels, and alone in
# a line they are more likely a label.
_NAME_HEADS_BESIDE_IDS = ("class", "category", "category name", "action", "action name")

# By delimiter, its name and its symbol in messages.
_SHOWN = {",": ("commas", ","), ";": ("semicolons", ";"), "\t": ("tabs", "<TAB>")}

COMMENT = re.compile(r"#+(?:\s|$)")
# `[sitting] and eating` is a label, which none of these match.
_JSON_START = re.compile(r"\s*(?:\{\s*(?:[\"'}]|\d+\s*:)|\[\s*[\"'{\]])")
_NUMBERED = re.compile(r"(\d{1,9})([.:)]?)\s+([^\d\s].*)")
# Fewer lines that begin with 1, 2, 3, … may be labels: "1 step forward", "2 jumps".
_MANY = 10
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_LINE_ENDS = re.compile("[\t-\r\x1c-\x1f\x85\u2028\u2029]")

_log = logging.getLogger("action_clip")


class Names(NamedTuple):
    """The names in a file by id, in ascending order; where `has_ids` is false, ids count the names from 0."""

    by_id: dict[int, str]
    has_ids: bool


class _Line(NamedTuple):
    number: int
    text: str


class _Columns(NamedTuple):
    """The columns of a table; `id` is None where it has no ids."""

    delimiter: str
    width: int
    name: int
    id: int | None


class _Object(list[tuple[str, Any]]):
    """A JSON object as a list of pairs, which keeps both of two pairs with the same key."""

    __slots__ = ()


def one_line(name: str) -> str:
    """Return the name, stripped, with a space in place of each line end or tab.

    The tokenizer takes all of them for one space.
    """
    name = name.strip()
    return " ".join(filter(None, map(str.strip, _LINE_ENDS.split(name)))) if _LINE_ENDS.search(name) else name


def numbered(pairs: Iterable[tuple[Any, Any]]) -> list[tuple[int, str]] | None:
    """Return pairs of (id, name) or of (name, id), whose ids may be texts, as (id, name); None for anything else."""
    pairs = list(pairs)
    if not all(_is_id(first) and isinstance(second, str) for first, second in pairs):
        pairs = [(second, first) for first, second in pairs]
    if not all(_is_id(first) and isinstance(second, str) and second.strip() for first, second in pairs):
        return None
    return [(int(first), second) for first, second in pairs]


def read_names(path: str | os.PathLike[str], what: str, *, numbered_lines: bool = False) -> Names:
    """Read the names in a file: UTF-8, or UTF-16 with a byte-order mark; lines that begin with `# ` are comments.

    * JSON: a list of names; a list of objects with a name and perhaps an id; an object, names to ids or ids to names.
    * CSV with commas or semicolons, or TSV: a header, `id,name` in either order or `name` alone, and a row a name; or
      no header, and in each row an id and a name.
    * Anything else: a name a line, perhaps numbered. Lines that may be meant as a table cause a warning.

    Double quotes around a whole name, as some lists of Kinetics-400 have them, are no part of it.

    Args:
        path: the file.
        what: its kind, for the messages: "labels file".
        numbered_lines: whether numbers before names are ids however few lines there are.

    Raises:
        ActionClipError: it cannot be read, has no names, has an id twice or lacks one, or is no valid JSON or table.
    """
    source = f"the {what} {os.fspath(path)}"
    lines = [line.strip() for line in re.split("\r\n|\r|\n", read_text(path, what))]
    # Comments become empty lines, so that line numbers stay right.
    lines = ["" if COMMENT.match(line) else line for line in lines]
    content_lines = [_Line(number, line) for number, line in enumerate(lines, start=1) if line]
    if content_lines and (content := _json("\n".join(lines), content_lines[0].text, source)) is not None:
        pairs, has_ids = _of_json(content, source)
    elif content_lines and (columns := _header(content_lines[0].text)):
        pairs, has_ids = _of_table(content_lines, columns, source), columns.id is not None
    else:
        rows = _rows_without_header(content_lines) or _numbered_lines(content_lines, doubtful=numbered_lines)
        pairs, has_ids = rows or list(enumerate(line.text for line in content_lines)), rows is not None
        if rows is None:
            _warn_if_ambiguous(content_lines, source)
    if not pairs:
        raise ActionClipError(f"{source} names nothing: write labels into it, one a line")
    by_id = {id: unquoted(name) for id, name in sorted(pairs)}
    if len(by_id) < len(pairs):
        twice = next(id for id, following in pairwise(sorted(id for id, _ in pairs)) if id == following)
        raise ActionClipError(f"{source} has the id {twice} twice: give each name its own")
    return Names(by_id, has_ids)


def unquoted(name: str) -> str:
    name = name.strip()
    inner = name[1:-1].strip()
    return inner if inner and name[0] == name[-1] == '"' and '"' not in inner else name


def _is_id(value: Any) -> bool:
    if isinstance(value, str):
        return value.isdecimal() and len(value) < 10
    return not isinstance(value, bool) and isinstance(value, Integral) and int(value) >= 0


def _json(text: str, first_line: str, source: str) -> Any:
    """Return the text parsed as JSON; None where it is not JSON and does not look like it.

    Raises ActionClipError where it looks like JSON and is not valid.
    """
    if not first_line.startswith(("{", "[")):
        return None
    try:
        return json.loads(text, object_pairs_hook=_Object, strict=False)
    except (ValueError, RecursionError) as error:
        if _JSON_START.match(text):
            raise ActionClipError(f"{source} is not valid JSON ({error}): check it") from error
    return None


def _of_json(content: Any, source: str) -> tuple[list[tuple[int, str]], bool]:
    """Return the pairs of ids and names, and whether the ids are the file's own. Raises ActionClipError for others."""
    pairs: Sequence[tuple[Any, Any]] = []
    has_ids = isinstance(content, _Object)
    if isinstance(content, _Object):
        pairs = content
    elif all(isinstance(item, _Object) for item in content):
        fields = [{column_head(key): value for key, value in item} for item in content]
        pairs = [(_value(item, _ID_HEADS), _value(item, _name_heads(len(item)))) for item in fields]
        has_ids = any(id is not None for id, _ in pairs)
    else:
        pairs = [(None, name) for name in content]
    by_id = numbered(pairs if has_ids else [(place, name) for place, (_, name) in enumerate(pairs)])
    if by_id is None:
        raise ActionClipError(
            f"{source} must be a JSON list of names, or an object of names to ids or ids to names, or a list of "
            "objects with a name and an id each, ids whole numbers from 0"
        )
    return by_id, has_ids


def _value(item: Mapping[str, Any], heads: Sequence[str]) -> Any:
    return next((item[head] for head in heads if head in item), None)


def column_head(cell: str) -> str:
    """Return a column's head in one spelling: "class id" for `classId`, `Class_ID` and `class id`."""
    return re.sub("[ _-]+|(?<=[a-z])(?=[A-Z])", " ", cell.strip()).casefold()


def _name_heads(width: int) -> Sequence[str]:
    """Return the heads of columns of names in a table of so many columns, the best first."""
    return _NAME_HEADS if width > 2 else _NAME_HEADS + _NAME_HEADS_BESIDE_IDS


def _header(line: str) -> _Columns | None:
    for delimiter in _DELIMITERS:
        heads = [column_head(cell) for _, row in _rows([_Line(1, line)], delimiter) for cell in row]
        ids = [place for place, head in enumerate(heads) if head in _ID_HEADS]
        if not ids and heads[:1] == [""]:  # as pandas writes its index
            ids = [0]
        names = [place for place, head in enumerate(heads) if head in _name_heads(len(heads))]
        if len(names) == len(ids) == 1:
            return _Columns(delimiter, len(heads), names[0], ids[0])
        if len(heads) == 1 and heads[0] in _NAME_HEADS and delimiter == _DELIMITERS[-1]:
            return _Columns(delimiter, 1, 0, None)
    return None


def _of_table(lines: Sequence[_Line], columns: _Columns, source: str) -> list[tuple[int, str]]:
    """Return the pairs of ids and names below the header; without an id column, ids count the rows.

    Raises ActionClipError for a row that does not fit the header.
    """
    pairs: list[tuple[int, str]] = []
    header: list[str] = []
    for number, row in _rows(lines, columns.delimiter):
        where = f"line {number} of {source}"
        if not row:
            raise ActionClipError(f"{where} is no row of a table: check its quotation marks")
        header = header or row
        if row == header or not any(row):  # joined files repeat the header
            continue
        if len(row) != columns.width:
            raise ActionClipError(
                f"the header of {source} has {columns.width} columns, and its line {number} has {len(row)}: write as "
                "many, a name with a comma in double quotes"
            )
        id = len(pairs) if columns.id is None else row[columns.id]
        if not _is_id(id):
            raise ActionClipError(f"{where} has {id!r} for an id: write a whole number from 0")
        if not row[columns.name]:
            raise ActionClipError(f"{where} has no name: write one, or leave out the line")
        pairs.append((int(id), row[columns.name]))
    return pairs


def _rows_without_header(lines: Sequence[_Line]) -> list[tuple[int, str]] | None:
    """Return the pairs of ids and names where each line certainly has one of each; else None.

    "1, 2, 3 go" and "5,000 meters" are labels. So the ids have to be 0, 1, 2, …, or to come first in each line, before
    names that do not begin with a digit.
    """
    for delimiter in _DELIMITERS[:-1]:
        if not lines or delimiter not in lines[0].text:
            continue
        rows = [row for _, row in _rows(lines, delimiter)]
        if not all(len(row) == 2 and all(row) for row in rows):
            continue
        numbers = [all(_is_id(row[column]) for row in rows) for column in (0, 1)]
        if sum(numbers) != 1:
            continue
        column = numbers.index(True)
        pairs = [(int(row[column]), row[1 - column]) for row in rows]
        ids = {id for id, _ in pairs}
        counts = ids == set(range(len(rows)))
        if counts or (len(ids) == len(rows) > 1 and column == 0 and not any(name[0].isdigit() for _, name in pairs)):
            return pairs
    return None


def _numbered_lines(lines: Sequence[_Line], *, doubtful: bool = False) -> list[tuple[int, str]] | None:
    """Return the pairs of numbers and names where lines are numbered from 0 or 1 on, as `1 run` or `1. run`; else None.

    Args:
        lines: the file's lines, without comments.
        doubtful: whether to return them also where the numbers may be part of labels.
    """
    matches = [match for line in lines if (match := _NUMBERED.fullmatch(line.text))]
    pairs = [(int(match[1]), match[3]) for match in matches]
    if len(matches) < len(lines) or not pairs or len({name for _, name in pairs}) < len(pairs):
        return None
    first = pairs[0][0]
    if first > 1 or any(id != place for place, (id, _) in enumerate(pairs, start=first)):
        return None
    return pairs if doubtful or len(pairs) >= _MANY or all(match[2] for match in matches) else None


def _rows(lines: Sequence[_Line], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of each row's first line and its cells, stripped; a malformed row has none and is the last."""
    rows = csv.reader((f"{line.text}\n" for line in lines), delimiter=delimiter, skipinitialspace=True, strict=True)
    while (first := rows.line_num) < len(lines):
        try:
            row = [cell.strip() for cell in next(rows)]
        except csv.Error:
            row = []
        yield lines[first].number, row
        if not row:
            return


def _warn_if_ambiguous(lines: Sequence[_Line], source: str) -> None:
    """Log a warning where plain lines may be meant as a table or as several labels."""
    texts = [_THOUSANDS.sub("", line.text) for line in lines if unquoted(line.text) == line.text]
    for delimiter, (them, shown) in _SHOWN.items():
        if 2 * sum(delimiter in text for text in texts) > len(lines):
            _log.warning(
                "%s is read as one label a line, %s included: a table begins with the line id%sname, and a list has "
                "each label on a line of its own",
                *(source, them, shown),
            )
            break
    else:
        if len(lines) > 1 and _numbered_lines(lines, doubtful=True):
            _log.warning(
                "%s is read as one label a line, numbers included: for ids, begin with the line id,name, and write a "
                "comma after each",
                source,
            )
    if hashed := [str(line.number) for line in lines if line.text.startswith("#")]:
        _log.warning(
            "%s has labels that begin with # (lines %s): a comment begins with # and a space",
            source,
            ", ".join(hashed[:10]) + (", …" if len(hashed) > 10 else ""),
        )
