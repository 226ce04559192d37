"""Text features kept on disk, so that a label is encoded once and not at every run."""

import hashlib
import json
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
"""Of the file, give or take a chunk of labels: 107,000 features of 512 numbers, 2.5 KB each with all that is around."""

# Those of earlier layouts, and how long one is kept that nothing is written into.
_OLDER = ("label_bank.sqlite3",)
_OLDER_KEPT_S = 60 * 24 * 3600
# Written into the file: whose it is.
_APPLICATION = int.from_bytes(b"ActC")
# In the table and in each of its rows: by it, what is left of a damaged file is known.
_MARK = "action_clip.py label bank"
_TABLE = f"""CREATE TABLE features ( -- {_MARK}, which can be deleted
    space TEXT NOT NULL, text TEXT NOT NULL, vector BLOB NOT NULL, seal BLOB NOT NULL, used INTEGER NOT NULL,
    UNIQUE (space, text)
)"""
# Of an sqlite file: how it begins, where the number of its application is, and where its own data begins.
_MAGIC, _MARK_AT, _HEADER = b"SQLite format 3\0", 68, 100
# Rows are stored whole in a page, at the least loss.
_PAGE = 16384
_DAY_S = 24 * 3600
# How far from 1 the length of a feature may be, for all that float32 rounds.
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
# What sqlite raises; and Python, of a damaged file, where sqlite's message quotes what is no text.
_PROBLEMS = (sqlite3.Error, UnicodeDecodeError)
_BLOCK = 1 << 20
_GROUP = 500  # texts of one query, below sqlite's limit of parameters

# Files that this process has given up, and those that it has given up writing.
_unusable: set[Path] = set()
_unwritable: set[Path] = set()


def space_of(*parts: str) -> str:
    """The name of a space, for all that its features depend on."""
    return f"{_MARK} {hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]}"


class LabelBank:
    """An sqlite file of (space, text) → feature; a space (`space_of`) is all that a text's feature depends on.

    It is a cache: whatever is wrong with the file costs time and a warning, never an answer. A damaged one is replaced,
    one that this program has not made is left alone; one that cannot be used is not tried again by this process.
    Several processes may read and write at once; sqlite's locks keep them apart. Above MOST_BYTES, rows go, those first
    that were not used for longest; the file stays as large as it is, and its free pages are used again.
    """

    def __init__(self, path: Path, space: str) -> None:
        self.path = path
        self.space = space

    def read(self, texts: Iterable[str]) -> dict[str, NDArray[np.float32]]:
        """The features (D,) of those texts that the bank knows."""
        # Unlike Path.exists, this is False for what is in a folder that may not be entered.
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
        """Keep these features; all of them or, where the file cannot be written, none."""
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
        """Remove the files of earlier layouts that no version of the program has written into for long."""
        for path in map(self.path.with_name, _OLDER):
            with suppress(OSError):
                if time() - path.stat().st_mtime > _OLDER_KEPT_S and _is_own(path):
                    _remove(path)

    def _read(self, texts: list[str]) -> dict[str, NDArray[np.float32]]:
        with closing(self._connect()) as bank:
            if not _is_ready(bank):
                return {}
            known, unused = self._select(bank, texts)
            _note_use(bank, unused)
        return known

    def _select(
        self, bank: sqlite3.Connection, texts: list[str]
    ) -> tuple[dict[str, NDArray[np.float32]], list[tuple[int]]]:
        """The features that there are, and the rows of those that were not used for a day, or only in one to come."""
        known = {}
        unused = []
        now = int(time())
        lately = (now - _DAY_S, now + _DAY_S)
        for first in range(0, len(texts), _GROUP):
            group = texts[first : first + _GROUP]
            query = (
                "SELECT rowid, text, vector, seal, used NOT BETWEEN ? AND ? FROM features "
                f"WHERE space = ? AND text IN ({','.join('?' * len(group))})"
            )
            for row, text, vector, seal, is_unused in bank.execute(query, (*lately, self.space, *group)):
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
        with closing(self._connect()) as bank:
            bank.execute(f"PRAGMA page_size = {_PAGE}")  # which is that of a new file
            with bank:
                bank.execute("BEGIN IMMEDIATE")
                if not _is_ready(bank):
                    bank.execute(_TABLE)
                    bank.execute(f"PRAGMA application_id = {_APPLICATION}")
                bank.executemany("INSERT OR REPLACE INTO features VALUES (?, ?, ?, ?, ?)", rows)
                # Damage that reading has not met may be met now, rather than by the next run.
                if len(self._select(bank, [text for _, text, *_ in rows])[0]) < len(rows):
                    raise sqlite3.DatabaseError("rows that cannot be found")
                _make_room(bank)

    def _seal(self, text: str, vector: bytes) -> bytes:
        """A checksum of all that makes a row, so that nothing in it can be another row's."""
        return xxhash.xxh3_128_digest(f"{self.space}\0{len(text)}\0{text}".encode() + vector)

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=_WAIT_S)

    def _discard(self, error: Exception) -> None:
        """Remove a damaged file, of which `error` is the sign; the next write makes a new one.

        Raises `error` where it is a sign of something else, OSError where the file cannot be removed.
        """
        if _is_out_of_reach(error) or not _is_own(self.path):
            raise error
        _remove(self.path)
        _LOG.warning("the label bank %s was damaged (%s) and is being rebuilt", self.path, error)

    def _give_up(self, error: Exception) -> None:
        """Say so, once a process."""
        warn_once(
            self.path,
            "the label bank %s cannot be used (%s): labels are encoded anew in every run, until it is moved away or "
            "ACTION_CLIP_HOME names another folder",
            self.path,
            error,
        )


def _is_own(path: Path) -> bool:
    """Whether the file is what is left of one that this program has made."""
    if not os.path.isfile(path):
        return False
    is_blank, before = True, b""
    with path.open("rb") as file:
        header = file.read(_HEADER)
        begins = header[: len(_MAGIC)] == _MAGIC[: len(header)]
        if begins and (len(header) < _HEADER or header[_MARK_AT : _MARK_AT + 4] == _APPLICATION.to_bytes(4)):
            return True
        while block := file.read(_BLOCK):
            if _MARK.encode() in before + block:
                return True
            is_blank = is_blank and not block.strip(b"\0")
            before = block[-_HEADER:]
    # Nothing but zeros, as a power cut leaves it, is nobody's.
    return is_blank and not header.strip(b"\0")


def _remove(path: Path) -> None:
    """Remove a file, and what sqlite has left beside it."""
    for suffix in ("", "-journal", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _is_out_of_reach(error: Exception) -> bool:
    """Whether the file cannot be had just now or here; any other error of sqlite's means that it is damaged."""
    # The lowest byte is the primary code.
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _OUT_OF_REACH


def _is_ready(bank: sqlite3.Connection) -> bool:
    """Whether the table is there; not where the file is new.

    Raises sqlite3.DatabaseError when it is damaged, or another program's.
    """
    schema = [sql for (sql,) in bank.execute("SELECT sql FROM sqlite_master WHERE sql NOTNULL")]
    if schema == [_TABLE]:
        return True
    if schema or bank.execute("PRAGMA application_id").fetchone()[0] not in (0, _APPLICATION):
        raise sqlite3.DatabaseError("its tables are not those that this program makes")
    return False


def _note_use(bank: sqlite3.Connection, rows: list[tuple[int]]) -> None:
    """Note that these rows are used now, where that can be done at once."""
    if not rows:
        return
    bank.execute("PRAGMA busy_timeout = 0")
    # The file may be read-only, or somebody may be writing into it: it matters little.
    with suppress(sqlite3.OperationalError), bank:
        bank.executemany(f"UPDATE features SET used = {int(time())} WHERE rowid = ?", rows)


def _make_room(bank: sqlite3.Connection) -> None:
    """Where there is more than MOST_BYTES, remove a quarter of the rows: much at once, and seldom."""
    names = ("page_count", "freelist_count", "page_size")
    pages, free, size = (bank.execute(f"PRAGMA {name}").fetchone()[0] for name in names)
    if (pages - free) * size > MOST_BYTES:
        bank.execute(
            # Those from a time to come are of a clock that was wrong.
            "DELETE FROM features WHERE rowid IN (SELECT rowid FROM features ORDER BY used < ?, used, rowid "
            "LIMIT (SELECT count(*) / 4 + 1 FROM features))",
            (int(time()) + _DAY_S,),
        )
