"""The folder of Parquet files that `action-clip ray` writes: what it holds, and a record of how it was made."""

import hashlib
import json
import logging
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.compute
import pyarrow.parquet
from pyarrow.fs import FileInfo, FileSelector, FileType

from action_clip.commands.ray.storage import Place, located, readable, writable, write_whole
from action_clip.errors import ActionClipError

# Readers of folders of Parquet files pass over names that begin with _ or a dot.
_RECORD, _LOCK, _RUN = "_action_clip.json", ".action_clip.lock", ".action_clip.run"
_LAYOUT = 1
"""Of the folder; another one is of another version of the program."""
_PART = re.compile(r"part-[0-9a-f]{32}\.parquet")
_PARQUET = ".parquet"
_HELD = ["path", "error"]
"""The columns that say what an output holds."""
_UNREADABLE = (pyarrow.ArrowException, OSError, ValueError)
_MOST_SHOWN = 60
"""Characters of an option's value in a message."""
_READERS = 16
"""Files that are read at a time."""
_LOG = logging.getLogger("action_clip")

Settings = Mapping[str, Any]
"""What the answers depend on, by the option that says it, in JSON's types."""


# Features are lists of any length here: pyarrow before 26 reads no lists of a fixed size of which some are null.
_SCHEMA = pyarrow.schema(
    {
        "path": pyarrow.string(),
        "label": pyarrow.string(),
        "probability": pyarrow.float64(),
        "labels": pyarrow.list_(pyarrow.string()),
        "probabilities": pyarrow.list_(pyarrow.float64()),
        "features": pyarrow.list_(pyarrow.float32()),
        "duration_s": pyarrow.float64(),
        "error": pyarrow.string(),
    }
)


def part_name(paths: Sequence[str]) -> str:
    """Return the name of the file of these videos, the same whenever and wherever they are done."""
    return f"part-{hashlib.sha256(chr(0).join(paths).encode()).hexdigest()[:32]}.parquet"


def write_part(place: Place, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the file of these videos into an output.

    Args:
        place: the output's folder.
        rows: a value for each column of `_SCHEMA`, or none for null, a row for each video.

    Raises ActionClipError where it cannot be written.
    """
    table = pyarrow.Table.from_pylist(list(rows), schema=_SCHEMA)
    write_whole(place, part_name([row["path"] for row in rows]), _as_parquet(table))


def check_run(place: Place, run: str) -> None:
    """Raise ActionClipError where a later run than `run`, the value of `Output.opened`, writes the output in `place`.

    Workers may outlive a command that was killed, and what they wrote then would be doubled by the next one.
    """
    with readable(place.name), place.filesystem.open_input_stream(place.within(_RUN)) as file:
        latest = file.read()
    if latest != run.encode():
        raise ActionClipError(f"another run has begun to write {place.name}, and this one ends")


def failures_in(place: Place, name: str) -> int | None:
    """Return how many videos of a file in an output have an error; None where there is no such file.

    Raises ActionClipError where it cannot be read.
    """
    with readable(f"{place.name}/{name}"):
        if place.filesystem.get_file_info(place.within(name)).type != FileType.File:
            return None
        errors = pyarrow.parquet.read_table(place.within(name), columns=["error"], filesystem=place.filesystem)["error"]
    return len(errors) - int(errors.null_count)


def _as_parquet(table: pyarrow.Table) -> pyarrow.Buffer:
    stream = pyarrow.BufferOutputStream()
    # A dictionary of features, which are all different, would make the file half as large again.
    pyarrow.parquet.write_table(table, stream, use_dictionary=["label", "labels.list.element"])
    return stream.getvalue()


@dataclass(frozen=True)
class Held:
    """What an output holds: the paths of its videos, and of those of them that have an error."""

    paths: frozenset[str]
    failed: frozenset[str]


class Output:
    """An output: a folder of this machine or at an address.

    Its files are written under temporary names and then renamed, so that none is half-written. A file's name is made
    of the paths of its videos: workers that do the same videos again replace it.
    """

    def __init__(self, name: str) -> None:
        """Use the folder of that path or address; `opened` makes it. Raises ActionClipError as `located` does."""
        self.place = located(name)
        self.name = self.place.path if self.place.is_local else name
        """Its absolute path, or its address."""

    @contextmanager
    def opened(self, settings: Settings) -> Iterator[str]:
        """Make the folder where there is none, and keep other runs on this machine from it during the block.

        The value of the block is a name of this run: workers of earlier ones write nothing more (`check_run`).

        Args:
            settings: of this run.

        Raises:
            ActionClipError: the folder cannot be written, is not an output or is one of other settings, or another
                run writes it.
        """
        record = self._record()
        if record is not None:
            _check_settings(self.place.name, record, settings)
        with writable(self.place.name):
            self.place.filesystem.create_dir(self.place.path, recursive=True)
        with self._locked():
            if record is None:
                content = {"program": "action-clip ray", "layout": _LAYOUT, "settings": settings}
                write_whole(self.place, _RECORD, json.dumps(content, ensure_ascii=False, indent=1).encode())
            run = uuid.uuid4().hex
            write_whole(self.place, _RUN, run.encode())
            for file in self._files():
                if file.base_name.startswith(".") and _PART.search(file.base_name):  # of a run that was killed
                    self._remove(file)
            yield run

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if not self.place.is_local:
            yield
            return
        from filelock import FileLock, Timeout

        lock = FileLock(Path(self.place.within(_LOCK)))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise ActionClipError(
                f"another run writes {self.place.name}: wait until it ends, or name another folder"
            ) from None
        except (OSError, NotImplementedError) as error:
            raise ActionClipError(f"cannot write {self.place.name} ({error}): name another folder") from error
        try:
            yield
        finally:
            lock.release()

    def _record(self) -> Settings | None:
        """Return the settings that the output was made with; None where it is empty or not there."""
        files = self._files()
        if not any(file.base_name == _RECORD for file in files):
            if any(not file.base_name.startswith(".") for file in files):
                raise ActionClipError(
                    f"{self.place.name} has files, and none of them is {_RECORD}: it is no output of this command, "
                    "name a new or an empty folder"
                )
            return None
        with readable(self.place.name), self.place.filesystem.open_input_file(self.place.within(_RECORD)) as file:
            content = file.read()
        try:
            record = json.loads(content)
            if record["layout"] == _LAYOUT:
                return dict(record["settings"])
        except (ValueError, TypeError, KeyError, RecursionError):
            pass
        raise ActionClipError(
            f"{_RECORD} in {self.place.name} is damaged or of another version of this program: name another folder"
        )

    def _files(self) -> list[FileInfo]:
        with readable(self.place.name):
            if self.place.filesystem.get_file_info(self.place.path).type == FileType.File:
                raise ActionClipError(f"the output {self.place.name} is a file: name a folder")
            files = self.place.filesystem.get_file_info(FileSelector(self.place.path, allow_not_found=True))
        return sorted((file for file in files if file.type == FileType.File), key=lambda file: file.base_name)

    def _remove(self, file: FileInfo) -> None:
        with readable(self.place.name):
            self.place.filesystem.delete_file(file.path)

    def held(self) -> Held:
        """Return the videos that the output holds.

        Its own files that are damaged are removed, since they would stop readers of the folder, and Parquet files that
        are not its own are left alone, both with a warning.

        Raises ActionClipError where the folder or a file of it cannot be read.
        """
        parts = []
        for file in self._files():
            if _PART.fullmatch(file.base_name):
                parts.append(file)
            elif file.base_name.endswith(_PARQUET):
                _LOG.warning("%s is no file of answers, and is left alone", file.path)
        with ThreadPoolExecutor(_READERS) as pool:
            tables = list(pool.map(self._paths_in, parts))
        paths, failed = set(), set()
        for file, table in zip(parts, tables, strict=True):
            if table is None:
                self._remove(file)
                _LOG.warning("%s was damaged: its videos are done again", file.path)
                continue
            paths.update(table["path"].to_pylist())
            failed.update(table.filter(pyarrow.compute.is_valid(table["error"]))["path"].to_pylist())
        return Held(frozenset(paths), frozenset(failed))

    def _paths_in(self, file: FileInfo) -> pyarrow.Table | None:
        """Return the columns path and error of a file; None where it is damaged.

        Raises ActionClipError where it cannot be read, which is not said in pyarrow's errors for Parquet.
        """
        with suppress(*_UNREADABLE):
            return pyarrow.parquet.read_table(file.path, columns=_HELD, filesystem=self.place.filesystem)
        with readable(file.path), self.place.filesystem.open_input_file(file.path) as stream:
            content = stream.read()
        with suppress(*_UNREADABLE):
            return pyarrow.parquet.read_table(pyarrow.BufferReader(content), columns=_HELD)
        return None

    def forget_failed(self) -> None:
        """Remove the rows that have an error, so that their videos are done again.

        Raises ActionClipError where a file cannot be read or written.
        """
        for file in self._files():
            if not _PART.fullmatch(file.base_name) or not failures_in(self.place, file.base_name):
                continue
            with readable(file.path):
                table = pyarrow.parquet.read_table(file.path, filesystem=self.place.filesystem)
            kept = table.filter(pyarrow.compute.is_null(table["error"]))
            if len(kept):
                write_whole(self.place, file.base_name, _as_parquet(kept))
            else:
                self._remove(file)


def _check_settings(name: str, made_with: Settings, settings: Settings) -> None:
    """Raise ActionClipError where an output was made with other settings; the message says which."""
    settings = json.loads(json.dumps(settings))
    other = [
        f"{option} was {_shown(made_with.get(option))} and is {_shown(settings.get(option))}"
        for option in {**made_with, **settings}
        if made_with.get(option) != settings.get(option)
    ]
    if other:
        raise ActionClipError(
            f"{name} was made with other options ({'; '.join(other)}): give the same ones, or name another folder"
        )


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"
