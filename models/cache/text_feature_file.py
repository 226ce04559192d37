"""Text features on disk, in an sqlite file, so that a label is encoded once and not in every run."""

import logging
import os
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from time import time

import numpy as np
import xxhash
from numpy.typing import NDArray

from action_clip.models.store.home import warn_once

_LOG = logging.getLogger("action_clip")
MOST_BYTES = 256 << 20
"""Most bytes of the file, exceeded by at most one write: 107,000 features of 512 numbers, 2.5 KB each in all."""

# Files of earlier layouts, and seconds without a write after which they are removed.
_OLDER = ("label_bank.sqlite3",)
_OLDER_KEPT_S = 60 * 24 * 3600
# Identifies the program in the file's header.
_APPLICATION = int.from_bytes(b"ActC")
MARK = "action_clip.py label bank"
"""A text in the table's definition and in each row, by which the remains of a damaged file are recognised."""
_TABLE = f"""CREATE TABLE features ( -- {MARK}, which can be deleted
    space TEXT NOT NULL, text TEXT NOT NULL, vector BLOB NOT NULL, seal BLOB NOT NULL, used INTEGER NOT NULL,
    UNIQUE (space, text)
)"""
# Header of an sqlite file: its first bytes, the place of the application's number, and its length.
_MAGIC, _APPLICATION_AT, _HEADER = b"SQLite format 3\0", 68, 100
# Bytes of a page: several whole rows fit into one, with little space lost.
_PAGE = 16384
_DAY_S = 24 * 3600
# How far from 1 the norm of a feature may be, as float32 rounds.
_ROUNDING = 1e-3
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
_TEXTS_PER_QUERY = 500  # below sqlite's limit of parameters

# Files that this process no longer tries to use, or to write.
_unusable: set[Path] = set()
_unwritable: set[Path] = set()


class TextFeatureFile:
    """A map from (space, text) to feature in an sqlite file. A space names all that a feature depends on but its text.

    No error of the file is raised: features are then computed again, and there is a warning. A damaged file is
    replaced; a file that this program has not made is left alone, and one that cannot be used is not tried again by
    this process. Several processes may read and write at once: sqlite locks the file. Above MOST_BYTES the least
    recently used rows are removed; the file does not shrink, its free pages are used again.
    """

    def __init__(self, path: Path, space: str) -> None:
        self.path = path
        self.space = space

    def read(self, texts: Iterable[str]) -> dict[str, NDArray[np.float32]]:
        """Return the features, (D,) float32, of those texts that are in the file, by text."""
        # Unlike Path.exists, this is False for a file in a folder that may not be entered.
        if self.path in _unusable or not os.path.exists(self.path):
            return {}
        try:
            return self._read(list(texts))
        except _PROBLEMS as error:
            try:
                self._discard(error)
            except (*_PROBLEMS, OSError) as problem:
                _unusable.add(self.path)
                self._give_up(problem)
        return {}

    def write(self, features: Mapping[str, NDArray[np.float32]]) -> None:
        """Store these features, by text; none of them where the file cannot be written."""
        if self.path in _unusable or self.path in _unwritable:
            return
        now = int(time())
        rows = []
        for text, feature in features.items():
            vector = np.ascontiguousarray(feature, dtype="<f4").tobytes()
            rows.append((self.space, text, vector, self._seal(text, vector), now))
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._insert(rows)
            except _PROBLEMS as error:
                self._discard(error)
                self._insert(rows)
            self._remove_older()
        except (*_PROBLEMS, OSError) as error:
            _unwritable.add(self.path)
            self._give_up(error)

    def _remove_older(self) -> None:
        """Remove the files of earlier layouts that no version of the program has written into for a long time."""
        for path in map(self.path.with_name, _OLDER):
            with suppress(OSError):
                if time() - path.stat().st_mtime > _OLDER_KEPT_S and _is_own(path):
                    _remove(path)

    def _read(self, texts: list[str]) -> dict[str, NDArray[np.float32]]:
        with closing(self._connect()) as database:
            if not _is_ready(database):
                return {}
            known, unused = self._select(database, texts)
            _note_use(database, unused)
        return known

    def _select(
        self, database: sqlite3.Connection, texts: list[str]
    ) -> tuple[dict[str, NDArray[np.float32]], list[tuple[int]]]:
        """Return the features that are in the file, and the ids of rows whose time of use is over a day from now."""
        known = {}
        unused = []
        now = int(time())
        lately = (now - _DAY_S, now + _DAY_S)
        for first in range(0, len(texts), _TEXTS_PER_QUERY):
            group = texts[first : first + _TEXTS_PER_QUERY]
            query = (
                "SELECT rowid, text, vector, seal, used NOT BETWEEN ? AND ? FROM features "
                f"WHERE space = ? AND text IN ({','.join('?' * len(group))})"
            )
            for row, text, vector, seal, is_unused in database.execute(query, (*lately, self.space, *group)):
                known[text] = self._feature(text, vector, seal)
                if is_unused:
                    unused.append((row,))
        if len({len(feature) for feature in known.values()}) > 1:
            raise sqlite3.DatabaseError("features of different lengths")
        return known, unused

    def _feature(self, text: object, vector: object, seal: object) -> NDArray[np.float32]:
        if not (isinstance(text, str) and isinstance(vector, bytes) and self._seal(text, vector) == seal):
            raise sqlite3.DatabaseError("checksum mismatch")
        if len(vector) % 4:
            raise sqlite3.DatabaseError("a feature that is cut off")
        feature = np.frombuffer(vector, dtype="<f4").astype(np.float32)
        if not abs(float(feature @ feature) - 1) < _ROUNDING:
            raise sqlite3.DatabaseError("a feature that is not normalised")
        return feature

    def _insert(self, rows: list[tuple[str, str, bytes, bytes, int]]) -> None:
        with closing(self._connect()) as database:
            database.execute(f"PRAGMA page_size = {_PAGE}")  # of a new file
            with database:
                database.execute("BEGIN IMMEDIATE")
                if not _is_ready(database):
                    database.execute(_TABLE)
                    database.execute(f"PRAGMA application_id = {_APPLICATION}")
                database.executemany("INSERT OR REPLACE INTO features VALUES (?, ?, ?, ?, ?)", rows)
                # Damage to pages that were not read before is noticed now, not by the next run.
                if len(self._select(database, [text for _, text, *_ in rows])[0]) < len(rows):
                    raise sqlite3.DatabaseError("rows that cannot be found")
                _make_room(database)

    def _seal(self, text: str, vector: bytes) -> bytes:
        """Return a checksum of the whole row, which does not match where a column is from another row."""
        return xxhash.xxh3_128_digest(f"{self.space}\0{len(text)}\0{text}".encode() + vector)

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=_WAIT_S)

    def _discard(self, error: Exception) -> None:
        """Remove the file if `error` means that it is damaged; the next write makes a new one.

        Raises `error` where it means something else, OSError where the file cannot be removed.
        """
        if _is_out_of_reach(error) or not _is_own(self.path):
            raise error
        _remove(self.path)
        _LOG.warning("the label bank %s was damaged (%s) and is being rebuilt", self.path, error)

    def _give_up(self, error: Exception) -> None:
        """Warn, once in each process, that the file is not used."""
        warn_once(
            self.path,
            "the label bank %s cannot be used (%s): labels are encoded anew in every run, until it is moved away or "
            "ACTION_CLIP_HOME names another folder",
            self.path,
            error,
        )


def _is_own(path: Path) -> bool:
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
            if MARK.encode() in before + block:
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
    # The lowest byte is the primary code.
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _OUT_OF_REACH


def _is_ready(database: sqlite3.Connection) -> bool:
    """Return whether the table exists; it does not in a new file.

    Raises sqlite3.DatabaseError when the file is damaged, or another program's.
    """
    schema = [sql for (sql,) in database.execute("SELECT sql FROM sqlite_master WHERE sql NOTNULL")]
    if schema == [_TABLE]:
        return True
    if schema or database.execute("PRAGMA application_id").fetchone()[0] not in (0, _APPLICATION):
        raise sqlite3.DatabaseError("its tables are not those that this program makes")
    return False


def _note_use(database: sqlite3.Connection, rows: list[tuple[int]]) -> None:
    """Record that these rows were used now, unless another process has locked the file."""
    if not rows:
        return
    database.execute("PRAGMA busy_timeout = 0")
    # The file may be read-only, or locked by another process.
    with suppress(sqlite3.OperationalError), database:
        database.executemany(f"UPDATE features SET used = {int(time())} WHERE rowid = ?", rows)


def _make_room(database: sqlite3.Connection) -> None:
    """Remove a quarter of the rows, the least recently used ones, where the file is above MOST_BYTES."""
    names = ("page_count", "freelist_count", "page_size")
    pages, free, size = (database.execute(f"PRAGMA {name}").fetchone()[0] for name in names)
    if (pages - free) * size > MOST_BYTES:
        database.execute(
            # Times in the future are from a clock that was wrong: those rows go first.
            "DELETE FROM features WHERE rowid IN (SELECT rowid FROM features ORDER BY used < ?, used, rowid "
            "LIMIT (SELECT count(*) / 4 + 1 FROM features))",
            (int(time()) + _DAY_S,),
        )
