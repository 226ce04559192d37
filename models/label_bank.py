"""Text features kept on disk, so that a label is encoded once and not at every run."""

import logging
import os
import sqlite3
import zlib
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_LOG = logging.getLogger("action_clip")
# Written into the file: whose it is, and its layout; of another layout, it starts afresh.
_APPLICATION = int.from_bytes(b"ActC")
_LAYOUT = 2
_TABLE = """CREATE TABLE features (
    space TEXT NOT NULL, text TEXT NOT NULL, vector BLOB NOT NULL, crc INTEGER NOT NULL, PRIMARY KEY (space, text)
) WITHOUT ROWID"""
# Of an sqlite file: how it begins, and where the number of its application is.
_MAGIC, _MARK_AT = b"SQLite format 3\0", 68
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
_GROUP = 500  # texts of one query, below sqlite's limit of parameters


def _is_out_of_reach(error: sqlite3.Error) -> bool:
    """Whether the file cannot be had just now or here; any other error of sqlite's means that it is damaged."""
    # The lowest byte is the primary code.
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _OUT_OF_REACH


class LabelBank:
    """An sqlite file of (space, text) → feature; a space is one text graph with one tokenizer.

    It is a cache: whatever is wrong with the file costs time and a warning, never an answer. A damaged one is replaced,
    one that this program has not made is left alone. Several processes may read and write at once; sqlite's locks keep
    them apart.
    """

    def __init__(self, path: Path, space: str) -> None:
        self.path = path
        self.space = space
        self._gave_up = False

    def read(self, texts: Iterable[str]) -> dict[str, NDArray[np.float32]]:
        """The features (D,) of those texts that the bank knows."""
        # Unlike Path.exists, this is False for what is in a folder that may not be entered.
        if not os.path.exists(self.path):
            return {}
        try:
            return self._read(list(texts))
        except sqlite3.Error as error:
            if self._is_damaged(error):
                self._discard(error)
            else:
                self._give_up(error)
        return {}

    def write(self, features: Mapping[str, NDArray[np.float32]]) -> None:
        """Keep these features; all of them or, where the file cannot be written, none."""
        rows = []
        for text, feature in features.items():
            vector = np.ascontiguousarray(feature, dtype="<f4").tobytes()
            rows.append((self.space, text, vector, self._checksum(text, vector)))
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._insert(rows)
            except sqlite3.Error as error:
                if not self._is_damaged(error):
                    raise
                self._discard(error)
                self._insert(rows)
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)

    def _read(self, texts: list[str]) -> dict[str, NDArray[np.float32]]:
        known = {}
        with closing(self._connect()) as bank:
            if not _is_ready(bank):
                return {}
            for first in range(0, len(texts), _GROUP):
                group = texts[first : first + _GROUP]
                marks = ",".join("?" * len(group))
                query = f"SELECT text, vector, crc FROM features WHERE space = ? AND text IN ({marks})"
                for text, vector, crc in bank.execute(query, (self.space, *group)):
                    if not isinstance(vector, bytes) or self._checksum(text, vector) != crc:
                        raise sqlite3.DatabaseError("checksum mismatch")
                    known[text] = np.frombuffer(vector, dtype="<f4").astype(np.float32)
        return known

    def _insert(self, rows: list[tuple[str, str, bytes, int]]) -> None:
        with closing(self._connect()) as bank, bank:
            bank.execute("BEGIN IMMEDIATE")
            if not _is_ready(bank):
                bank.execute("DROP TABLE IF EXISTS features")
                bank.execute(_TABLE)
                bank.execute(f"PRAGMA user_version = {_LAYOUT}")
                bank.execute(f"PRAGMA application_id = {_APPLICATION}")
            bank.executemany("INSERT OR REPLACE INTO features VALUES (?, ?, ?, ?)", rows)

    def _checksum(self, text: str, vector: bytes) -> int:
        """Of all that makes a row."""
        return zlib.crc32(vector, zlib.crc32(f"{self.space}\0{text}".encode()))

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=_WAIT_S)

    def _is_damaged(self, error: sqlite3.Error) -> bool:
        """Whether the file is one of this program's, with something wrong in it."""
        if _is_out_of_reach(error):
            return False
        try:
            with self.path.open("rb") as file:
                header = file.read(_MARK_AT + 4)
        except OSError:
            return False
        return header.startswith(_MAGIC) and int.from_bytes(header[_MARK_AT:]) == _APPLICATION

    def _discard(self, error: Exception) -> None:
        """Remove a damaged file; the next write makes a new one."""
        _LOG.warning("the label bank %s was damaged (%s) and is being rebuilt", self.path, error)
        try:
            for suffix in ("", "-journal"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        except OSError as problem:
            self._give_up(problem)

    def _give_up(self, error: Exception) -> None:
        if self._gave_up:
            return
        self._gave_up = True
        _LOG.warning(
            "the label bank %s cannot be used (%s): labels are encoded anew each time, until it is moved away or "
            "ACTION_CLIP_HOME names another folder",
            self.path,
            error,
        )


def _is_ready(bank: sqlite3.Connection) -> bool:
    """Whether the file has this layout; not where it is new, or of another one.

    Raises sqlite3.DatabaseError when it is damaged, or another program's.
    """
    schema = [sql for (sql,) in bank.execute("SELECT sql FROM sqlite_master WHERE sql NOTNULL")]
    application = bank.execute("PRAGMA application_id").fetchone()[0]
    if application != _APPLICATION:
        # Earlier versions have left no mark, but a table with these words.
        if application or [" ".join(sql.split()) for sql in schema] not in ([], [" ".join(_TABLE.split())]):
            raise sqlite3.DatabaseError("it is not this program's")
        return False
    if bank.execute("PRAGMA user_version").fetchone()[0] != _LAYOUT:
        return False
    if schema != [_TABLE]:
        raise sqlite3.DatabaseError("its table is not the one that was made")
    return True
