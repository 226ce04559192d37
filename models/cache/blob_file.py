"""Blobs under keys in an sqlite file: what the label bank's file and the video bank's have in common."""

import logging
import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import RLock
from time import time
from typing import Generic, TypeVar

import xxhash

from action_clip.models.store.home import warn_once
from action_clip.system.forks import hold_during_forks

T = TypeVar("T")
R = TypeVar("R")
_LOG = logging.getLogger("action_clip")
# Seconds without a write after which files of earlier layouts are removed.
_OLDER_KEPT_S = 60 * 24 * 3600
# Identifies the program in the file's header.
_APPLICATION = int.from_bytes(b"ActC")
# Header of an sqlite file: its first bytes, the place of the application's number, and its length.
_MAGIC, _APPLICATION_AT, _HEADER = b"SQLite format 3\0", 68, 100
_DAY_S = 24 * 3600
# Part of the bound that the rows may still take after some were removed, so that this is not done at each write.
_KEPT = 0.9
_WAIT_S = 30.0
_OUT_OF_REACH = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
}
# What sqlite raises; the second comes from Python, where sqlite's message quotes bytes of a damaged file.
_PROBLEMS = (sqlite3.Error, UnicodeDecodeError)
_BLOCK = 1 << 20
_KEYS_PER_QUERY = 500  # below sqlite's limit of parameters

# Files that this process no longer tries to use, or to write.
_unusable: set[Path] = set()
_unwritable: set[Path] = set()

# A fork waits until no other thread is inside sqlite: its mutexes would stay locked in the child.
_SQLITE = RLock()
hold_during_forks(_SQLITE)


@dataclass(frozen=True)
class Layout:
    """How a file is laid out, and what it is called.

    Attributes:
        name: what the file is, in messages.
        loss: what happens without it, in messages: "labels are encoded anew in every run".
        mark: a text in the table's definition and in each row, by which the remains of a damaged file are recognised.
        table, key, blob: names of the table, and of two of its columns; the others are space, seal and used.
        definition: the statement that makes the table.
        settings: pragmas of a new file.
        use_step_s: seconds after which the time of a row's last use is written again.
        older: names of files of earlier layouts.
    """

    name: str
    loss: str
    mark: str
    table: str
    key: str
    blob: str
    definition: str
    settings: tuple[str, ...]
    use_step_s: int
    older: tuple[str, ...] = ()


class BlobFile(Generic[T]):
    """A map from key to blob in one space of an sqlite file. A space names what all of its blobs have in common.

    No error of the file is raised: nothing is found then, and there is a warning. A damaged file is replaced; a file
    that this program has not made is left alone, and one that cannot be used is not tried again by this process.
    Several processes may read and write at once: sqlite locks the file. So may several threads, which take turns; no
    connection is kept between two calls. Above its bound the least recently used rows are removed, and free pages are
    used again.
    """

    def __init__(
        self,
        path: Path,
        space: str,
        layout: Layout,
        most_bytes: int,
        parse: Callable[[Mapping[str, bytes]], dict[str, T]],
    ) -> None:
        """Choose the file, which is made by the first write.

        Args:
            path: of the file.
            space: begins with the layout's mark where blobs and keys do not contain it.
            layout: of the file.
            most_bytes: most bytes that rows take, exceeded by at most one write.
            parse: returns what blobs, by key, contain; raises ValueError where one is not as the program writes it.
        """
        self.path = path
        self.space = space
        self._layout = layout
        self._most_bytes = most_bytes
        self._parse = parse
        # Ids of rows that were read, and of which the time of use is older than the layout's step.
        self._used_now: set[int] = set()

    def read(self, keys: Iterable[str], *, note_use: bool = True) -> dict[str, T]:
        """Return what is in the file for those keys that it has.

        Args:
            keys: any number of them.
            note_use: record now which rows are in use; otherwise `note_use` does it later, for several calls at once.
        """
        wanted = list(keys)

        def look_up(database: sqlite3.Connection) -> dict[str, T]:
            known = self._select(database, wanted)
            if note_use:
                self._note_use(database)
            return known

        return self._look(look_up) or {}

    def note_use(self) -> None:
        """Record that what was read is in use."""
        if self._used_now:
            self._look(self._note_use)

    def write(self, blobs: Mapping[str, bytes]) -> None:
        """Store these blobs, by key; none of them where the file cannot be written."""
        if self.path in _unusable or self.path in _unwritable:
            return
        now = int(time())
        rows = [(self.space, key, blob, self._seal(key, blob), now) for key, blob in blobs.items()]
        insert = partial(self._insert, rows)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with _SQLITE:
                try:
                    self._run(insert)
                except _PROBLEMS as error:
                    self._discard(error)
                    self._run(insert)
            self._remove_older()
        except (*_PROBLEMS, OSError) as error:
            _unwritable.add(self.path)
            self._give_up(error)

    def _look(self, action: Callable[[sqlite3.Connection], R]) -> R | None:
        """Return what `action` returns of the file; None where there is no file, or it cannot be used."""
        # Unlike Path.exists, this is False for a file in a folder that may not be entered.
        if self.path in _unusable or not os.path.exists(self.path):
            return None
        with _SQLITE:
            try:
                return self._run(lambda database: action(database) if self._is_ready(database) else None)
            except _PROBLEMS as error:
                try:
                    self._discard(error)
                except (*_PROBLEMS, OSError) as problem:
                    _unusable.add(self.path)
                    self._give_up(problem)
        return None

    def _run(self, action: Callable[[sqlite3.Connection], R]) -> R:
        """Return what `action` returns of the file.

        After an error it is called once more, unless another process holds the file, which has been waited for: another
        process may have found the file damaged, and replaced it meanwhile.
        """
        try:
            with closing(self._connect()) as database:
                return action(database)
        except _PROBLEMS as error:
            if _code(error) == sqlite3.SQLITE_BUSY:
                raise
        with closing(self._connect()) as database:
            return action(database)

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=_WAIT_S)

    def _is_ready(self, database: sqlite3.Connection) -> bool:
        """Return whether the table exists; it does not in a new file.

        Raises sqlite3.DatabaseError when the file is damaged, or another program's.
        """
        schema = [sql for (sql,) in database.execute("SELECT sql FROM sqlite_master WHERE sql NOTNULL")]
        if schema == [self._layout.definition]:
            return True
        if schema or _pragma(database, "application_id") not in (0, _APPLICATION):
            raise sqlite3.DatabaseError("its tables are not those that this program makes")
        return False

    def _select(self, database: sqlite3.Connection, keys: list[str]) -> dict[str, T]:
        """Return what is in the file for these keys.

        Raises sqlite3.DatabaseError where a row is damaged.
        """
        blobs = {}
        layout, now = self._layout, int(time())
        lately = (now - layout.use_step_s, now + _DAY_S)
        for first in range(0, len(keys), _KEYS_PER_QUERY):
            group = keys[first : first + _KEYS_PER_QUERY]
            query = (
                f"SELECT rowid, {layout.key}, {layout.blob}, seal, used NOT BETWEEN ? AND ? FROM {layout.table} "
                f"WHERE space = ? AND {layout.key} IN ({','.join('?' * len(group))})"
            )
            for row, key, blob, seal, is_unused in database.execute(query, (*lately, self.space, *group)):
                if not (isinstance(key, str) and isinstance(blob, bytes) and self._seal(key, blob) == seal):
                    raise sqlite3.DatabaseError("checksum mismatch")
                blobs[key] = blob
                if is_unused:
                    self._used_now.add(row)
        try:
            return self._parse(blobs)
        except ValueError as error:
            raise sqlite3.DatabaseError(str(error)) from None

    def _seal(self, key: str, blob: bytes) -> bytes:
        """Return a checksum of the whole row, which does not match where a column is from another row."""
        return xxhash.xxh3_128_digest(f"{self.space}\0{len(key)}\0{key}".encode() + blob)

    def _note_use(self, database: sqlite3.Connection) -> None:
        """Record that the rows that were read are in use, unless the file is read-only or another process locks it."""
        rows, self._used_now = [(row,) for row in self._used_now], set()
        if not rows:
            return
        database.execute("PRAGMA busy_timeout = 0")
        with suppress(sqlite3.OperationalError), database:
            database.executemany(f"UPDATE {self._layout.table} SET used = {int(time())} WHERE rowid = ?", rows)

    def _insert(self, rows: list[tuple[str, str, bytes, bytes, int]], database: sqlite3.Connection) -> None:
        layout = self._layout
        if not _pragma(database, "page_count"):
            for setting in layout.settings:
                database.execute(f"PRAGMA {setting}")
        with database:
            database.execute("BEGIN IMMEDIATE")
            if not self._is_ready(database):
                database.execute(layout.definition)
                database.execute(f"PRAGMA application_id = {_APPLICATION}")
            database.executemany(
                f"INSERT OR REPLACE INTO {layout.table} (space, {layout.key}, {layout.blob}, seal, used) "
                "VALUES (?, ?, ?, ?, ?)",
                rows,
            )
            # Damage to pages that were not read before is noticed now, not by the next run.
            if len(self._select(database, [key for _, key, *_ in rows])) < len(rows):
                raise sqlite3.DatabaseError("rows that cannot be found")
            self._make_room(database)
        self._shrink(database)

    def _make_room(self, database: sqlite3.Connection) -> None:
        """Remove the least recently used rows where all take more than they may, until they take _KEPT of it."""
        table, most = self._layout.table, self._most_bytes // _pragma(database, "page_size")
        goal: float = most
        while (pages := _pragma(database, "page_count") - _pragma(database, "freelist_count")) > goal:
            goal = _KEPT * most
            removed = database.execute(
                # Times in the future are from a clock that was wrong: those rows go first.
                f"DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table} ORDER BY used < ?, used, rowid "
                f"LIMIT (SELECT cast(count(*) * ? AS INTEGER) + 1 FROM {table}))",
                (int(time()) + _DAY_S, 1 - goal / pages),
            )
            if not removed.rowcount:
                break

    def _shrink(self, database: sqlite3.Connection) -> None:
        """Give free pages above the bound back to the disk, where the settings have "auto_vacuum = INCREMENTAL"."""
        surplus = _pragma(database, "page_count") - self._most_bytes // _pragma(database, "page_size")
        if surplus > 0:
            # Not execute, which would free one page. It would also commit a transaction.
            database.executescript(f"PRAGMA incremental_vacuum({surplus})")

    def _remove_older(self) -> None:
        """Remove the files of earlier layouts that no version of the program has written into for a long time."""
        for path in map(self.path.with_name, self._layout.older):
            with suppress(OSError):
                if time() - path.stat().st_mtime > _OLDER_KEPT_S and _is_own(path, self._layout.mark):
                    _remove(path)

    def _discard(self, error: Exception) -> None:
        """Remove the file if `error` means that it is damaged; the next write makes a new one.

        Raises `error` where it means something else, OSError where the file cannot be removed.
        """
        if _is_out_of_reach(error) or not _is_own(self.path, self._layout.mark):
            raise error
        _remove(self.path)
        _LOG.warning("the %s %s was damaged (%s) and is being rebuilt", self._layout.name, self.path, error)

    def _give_up(self, error: Exception) -> None:
        """Warn, once in each process, that the file is not used."""
        warn_once(
            self.path,
            "the %s %s cannot be used (%s): %s, until it is moved away or ACTION_CLIP_HOME names another folder",
            self._layout.name,
            self.path,
            error,
            self._layout.loss,
        )


def _pragma(database: sqlite3.Connection, name: str) -> int:
    return int(database.execute(f"PRAGMA {name}").fetchone()[0])


def _is_own(path: Path, mark: str) -> bool:
    """Return whether this program has made the file, which may be damaged."""
    if not os.path.isfile(path):
        return False
    is_blank, before = True, b""
    with path.open("rb") as file:
        header = file.read(_HEADER)
        is_sqlite = header[: len(_MAGIC)] == _MAGIC[: len(header)]
        application = header[_APPLICATION_AT : _APPLICATION_AT + 4]
        if is_sqlite and (len(header) < _HEADER or application == _APPLICATION.to_bytes(4)):
            return True
        while block := file.read(_BLOCK):
            if mark.encode() in before + block:
                return True
            is_blank = is_blank and not block.strip(b"\0")
            before = block[-_HEADER:]
    # A power cut may leave nothing but zeros.
    return is_blank and not header.strip(b"\0")


def _remove(path: Path) -> None:
    """Remove a file and sqlite's journals of it."""
    for suffix in ("", "-journal", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _is_out_of_reach(error: Exception) -> bool:
    """Return whether the file cannot be opened, read or written now; other errors of sqlite mean that it is damaged."""
    return _code(error) in _OUT_OF_REACH


def _code(error: Exception) -> int | None:
    """Return sqlite's primary code of an error, the lowest byte; None where it has none."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
