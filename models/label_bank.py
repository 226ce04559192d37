"""Text features kept on disk, so that a label is encoded once and not at every run."""

import logging
import sqlite3
import zlib
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_LOG = logging.getLogger("action_clip")
# Written into the file: another layout is another number, and a file with another number starts afresh.
_LAYOUT = 1
_TABLE = """
CREATE TABLE IF NOT EXISTS features (
    space TEXT NOT NULL, text TEXT NOT NULL, vector BLOB NOT NULL, crc INTEGER NOT NULL, PRIMARY KEY (space, text)
) WITHOUT ROWID
"""
_WAIT_S = 30.0
_GROUP = 500  # texts of one query, below sqlite's limit of parameters


class LabelBank:
    """An sqlite file of (space, text) → feature; a space is one text graph with one tokenizer.

    It is a cache: whatever is wrong with the file costs time and a warning, never an answer. Several processes may
    read and write at once; sqlite's locks keep them apart.
    """

    def __init__(self, path: Path, space: str) -> None:
        self.path = path
        self.space = space

    def read(self, texts: Iterable[str]) -> dict[str, NDArray[np.float32]]:
        """The features (D,) of those texts that the bank knows."""
        try:
            return self._read(list(texts)) if self.path.exists() else {}
        except sqlite3.OperationalError as error:
            self._unusable(error)
        except (sqlite3.DatabaseError, ValueError) as error:
            self._discard(error)
        return {}

    def write(self, features: Mapping[str, NDArray[np.float32]]) -> None:
        """Keep these features; all of them or, where the file cannot be written, none."""
        rows = []
        for text, feature in features.items():
            vector = np.ascontiguousarray(feature, dtype="<f4").tobytes()
            rows.append((self.space, text, vector, zlib.crc32(vector)))
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._insert(rows)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError as error:
                self._discard(error)
                self._insert(rows)
        except (sqlite3.Error, OSError) as error:
            self._unusable(error)

    def _read(self, texts: list[str]) -> dict[str, NDArray[np.float32]]:
        known = {}
        with closing(self._connect()) as bank:
            if bank.execute("PRAGMA user_version").fetchone()[0] != _LAYOUT:
                return {}
            for first in range(0, len(texts), _GROUP):
                group = texts[first : first + _GROUP]
                marks = ",".join("?" * len(group))
                query = f"SELECT text, vector, crc FROM features WHERE space = ? AND text IN ({marks})"
                for text, vector, crc in bank.execute(query, (self.space, *group)):
                    if zlib.crc32(vector) != crc:
                        raise ValueError("checksum mismatch")
                    known[text] = np.frombuffer(vector, dtype="<f4").astype(np.float32)
        return known

    def _insert(self, rows: list[tuple[str, str, bytes, int]]) -> None:
        with closing(self._connect()) as bank, bank:
            bank.execute("BEGIN IMMEDIATE")
            if bank.execute("PRAGMA user_version").fetchone()[0] != _LAYOUT:
                bank.execute("DROP TABLE IF EXISTS features")
                bank.execute(_TABLE)
                bank.execute(f"PRAGMA user_version = {_LAYOUT}")
            bank.executemany("INSERT OR REPLACE INTO features VALUES (?, ?, ?, ?)", rows)

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=_WAIT_S)

    def _discard(self, error: Exception) -> None:
        """Remove a damaged file; the next write makes a new one."""
        _LOG.warning("the label bank %s was damaged (%s) and is being rebuilt", self.path, error)
        try:
            for suffix in ("", "-journal"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        except OSError as problem:
            self._unusable(problem)

    def _unusable(self, error: Exception) -> None:
        _LOG.warning("the label bank %s cannot be used (%s): labels are encoded anew each time", self.path, error)
