"""Loading a data set of any form: what it is is seen from its content."""

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from action_clip.data.classes import Classes, class_key, classes_of, read_classes, shown
from action_clip.data.dataset import Dataset, Example
from action_clip.data.files import ClipFiles
from action_clip.data.folders import folder_rows
from action_clip.data.lists import CLASS_FILE, fold_of, is_split_file, list_rows, split_files, split_rows
from action_clip.data.rows import MOST_BYTES, Row, group_of
from action_clip.data.tables import BY_HEADS, Columns, json_rows, table_rows
from action_clip.errors import ActionClipError
from action_clip.system.addresses import is_address, is_other_address
from action_clip.system.files import read_text
from action_clip.system.folders import names_in
from action_clip.video import is_video_file, is_video_name

_TABLES = (".csv", ".tsv", ".json", ".jsonl")
_LOG = logging.getLogger("action_clip")


@dataclass(frozen=True)
class Source:
    """What tells how data are read, besides their content.

    Attributes:
        path: a folder, or a table or list of clips.
        clips: the folder that listed files are in; None: that of the table or list.
        classes: a class file; None: the labels that the clips have, or UCF101's class file beside its lists.
        fold: which of several splits of UCF101 or HMDB51, from 1.
        columns: of a table.
        multi_label: whether a clip that has several labels, in several rows too, has them all; otherwise one that
            comes twice with different labels is a mistake.
    """

    path: str
    clips: str | None = None
    classes: str | None = None
    fold: int | None = None
    columns: Columns = BY_HEADS
    multi_label: bool = False


def load_dataset(source: Source | str) -> Dataset:
    """Return the data set that a source names, or the one at a path.

    Raises:
        ActionClipError: it is none, has no clips, none of the listed files is there, or labels clash.
    """
    source = source if isinstance(source, Source) else Source(source)
    if not os.path.lexists(source.path):
        raise ActionClipError(f"there are no data at {source.path}: name a folder, a table or a list of clips")
    if source.clips is not None and not os.path.isdir(source.clips):
        raise ActionClipError(f"there is no folder {source.clips}: name the one with the clips")
    files, folder = source_files(source)
    _check_options(source, files)
    rows = [row for file in files for row in _file_rows(file, source)] if files else folder_rows(source.path)
    if not rows:
        raise ActionClipError(_found_nothing(source, files))
    classes = _classes(rows, source, folder)
    examples = _examples(rows, classes, ClipFiles(source.clips or folder), multi_label=source.multi_label)
    missing = [example.problem for example in examples if example.problem is not None]
    if len(missing) == len(examples):
        raise ActionClipError(
            f"{missing[0]}, and so it is with all {len(missing)} clips: name the folder with the clips with --clips"
        )
    name = os.path.basename(os.path.abspath(source.path))
    return Dataset(name, classes.texts, tuple(examples), classes.names)


def _check_options(source: Source, files: Sequence[str]) -> None:
    """Raise ActionClipError where the source says what its kind of data has no use for."""
    if source.fold is not None and not all(is_split_file(file) for file in files or [source.path]):
        raise ActionClipError(f"--fold is about the split files of UCF101 or HMDB51, and {source.path} has none")
    if not files and (source.clips is not None or source.columns != BY_HEADS):
        raise ActionClipError(
            f"--clips and names of columns are about tables and lists, and {source.path} is a folder of clips: leave "
            "them out, or name the table"
        )
    if len(files) == 1 and is_video_file(files[0]):
        raise ActionClipError(
            f"{files[0]} is a video: put it into a folder for each class, or name a table with the columns file and "
            "label"
        )


def source_files(source: Source) -> tuple[list[str], str]:
    """Return the tables or lists that the source stands for, none for folders of classes, and their folder.

    Raises ActionClipError where there are several that are not meant together.
    """
    path = source.path
    if not os.path.isdir(path):
        folder = os.path.dirname(path) or os.curdir
        if (fold := fold_of(path)) is not None:
            return split_files(folder, fold) or [path], folder
        return [path], folder
    if (files := split_files(path, source.fold)) is not None:
        return files, path
    names = names_in(path, [])
    if any(os.path.isdir(os.path.join(path, name)) for name in names if not name.startswith(".")):
        return [], path
    tables = [name for name in names if name.lower().endswith(_TABLES) and not name.startswith(".")]
    if len(tables) > 1:
        raise ActionClipError(f"{path} has several tables ({shown(tables)}): name one of them")
    return [os.path.join(path, name) for name in tables], path


def _file_rows(path: str, source: Source) -> list[Row]:
    text = read_text(path, "table or list of clips", MOST_BYTES)
    if (rows := split_rows(path, text)) is not None:
        return rows
    if text.lstrip().startswith(("{", "[")):
        return json_rows(text, path, source.columns)
    rows = table_rows(text, path, source.columns)
    return list_rows(text, path, multi_label=source.multi_label) if rows is None else rows


def _found_nothing(source: Source, files: Sequence[str]) -> str:
    if files:
        return f"{source.path} names no clips: write a file and its label in each row"
    return (
        f"there are no clips in {source.path}: put them into a folder for each class, or name a table with the columns "
        "file and label"
    )


def _classes(rows: Iterable[Row], source: Source, folder: str) -> Classes:
    if source.classes is not None:
        return read_classes(source.classes)
    beside = os.path.join(folder, CLASS_FILE)
    if os.path.isfile(beside):
        return read_classes(beside)
    return classes_of((label for row in rows for label in row.labels), source.path)


def _examples(rows: Sequence[Row], classes: Classes, files: ClipFiles, *, multi_label: bool) -> list[Example]:
    """Return an example for each clip that the rows name. Raises ActionClipError where rows contradict each other."""
    indices = classes.indices()
    found: dict[object, tuple[Row, Example]] = {}
    for row in rows:
        labels = {_label_index(label, row.where, indices, classes) for label in row.labels}
        example = replace(_found(row, files), labels=tuple(sorted(labels)))
        is_url = is_address(example.video) or is_other_address(example.video)
        key = example.video if is_url else os.path.realpath(example.video), example.start_s, example.end_s
        if (before := found.get(key)) is None:
            found[key] = row, example
        else:
            found[key] = before[0], _joined(before, (row, example), classes, multi_label=multi_label)
    if (repeated := len(rows) - len(found)) and not multi_label:
        _LOG.warning("rows that name a clip which others name too: %d; each clip counts once", repeated)
    return [example for _, example in found.values()]


def _label_index(label: str, where: str, indices: Mapping[str, int], classes: Classes) -> int:
    is_id = label.isdecimal() and len(label) < 10
    index = indices.get(str(int(label)) if is_id else class_key(label))
    if index is not None:
        return index
    if is_id and classes.ids:
        raise ActionClipError(
            f"{where} has the class {label}, and {classes.source} has {min(classes.ids)} to {max(classes.ids)}: give "
            "the class file that belongs to the list"
        )
    raise ActionClipError(f"{where} has the label '{label}', which is not in {classes.source}: write it as it is there")


def _found(row: Row, files: ClipFiles) -> Example:
    """Return the example of a row, without its labels."""
    cut = files.find(row.cut) if row.cut is not None else []
    paths = cut or files.find(row.name)
    name = row.name if row.cut is None else row.cut
    stem = os.path.splitext(os.path.basename(name))[0] if is_video_name(name) else os.path.basename(name)
    example = Example(
        video=paths[0] if len(paths) == 1 else os.path.join(files.folder, name),
        labels=(),
        group=row.group or group_of(stem),
        split=row.split,
        start_s=None if cut else row.start_s,
        end_s=None if cut else row.end_s,
    )
    if not paths:
        return replace(example, problem=f"{row.where} names {name}, which is not in {files.folder}")
    if len(paths) > 1:
        return replace(example, problem=f"{row.where} names {name}, and {paths[0]} and {paths[1]} are called so")
    return example


def _joined(before: tuple[Row, Example], after: tuple[Row, Example], classes: Classes, *, multi_label: bool) -> Example:
    """Return the example of two rows that name one clip. Raises ActionClipError where they contradict each other."""
    (first, example), (second, other) = before, after
    if example.split != other.split:
        raise ActionClipError(
            f"{example.video} is in {example.split or 'no split'} ({first.where}) and in {other.split or 'no split'} "
            f"({second.where}): take one of them away"
        )
    if example.labels != other.labels and not multi_label:
        both = [classes.names[labels[0]] for labels in (example.labels, other.labels)]
        raise ActionClipError(
            f"{example.video} has the labels '{both[0]}' ({first.where}) and '{both[1]}' ({second.where}): take one of "
            "them away, or say with --multi-label that clips have several labels"
        )
    return replace(example, labels=tuple(sorted({*example.labels, *other.labels})))
