"""A file that is being downloaded: where its bytes are, how a later run continues it, and when it is complete.

Until it is complete, a file is beside its target as `<target>.<random>.part`, and `<target>.resume.json` has the name
of that file, its URL and its validator. The caller holds a lock, which keeps two runs apart. The name is unique all the
same, for file systems where locks do not hold: a later run continues a file after renaming it, so that only one can,
and the bytes on the disk are checked in the end, not those that this process received.
"""

import base64
import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from action_clip.system.addresses import redacted
from action_clip.system.files import read_json_object

STALE_S = 24 * 3600.0
_NOTE_SUFFIX = ".resume.json"
_MOST_NOTE = 1 << 20  # bytes


class WrongContentError(Exception):
    """The file is complete and is not what was announced; the text says what differs."""


class ResumableFile:
    """A file that is being downloaded; it continues what an earlier run has left.

    Attributes:
        target: path of the complete file.
        path: path of the file until it is complete.
        validator: value of If-Range to continue the file; None when it cannot be continued.
        total: bytes of the complete file; None where the server does not state it.
    """

    def __init__(self, target: Path, url: str) -> None:
        self.target = target
        self.path = target.with_name(f"{target.name}.{secrets.token_hex(4)}.part")
        self.validator: str | None = None
        self.total: int | None = None
        self._url = redacted(url)  # the note must not contain a password
        self._md5: list[str] = []
        self._note = _note_of(target)
        self._continue(_read_note(target))

    def _continue(self, note: dict[str, Any] | None) -> None:
        if note is None:
            return
        left = self.target.with_name(note["part"])
        # Bytes written to a link would go elsewhere.
        is_file = left.is_file() and not left.is_symlink()
        if note["url"] != self._url or not is_file or left.stat().st_size > note["total"]:
            left.unlink(missing_ok=True)
            return
        with suppress(FileNotFoundError):
            os.replace(left, self.path)
            self.start(note["validator"], note["total"], note["md5"])

    @property
    def received(self) -> int:
        """Number of bytes on the disk that a request can continue."""
        with suppress(FileNotFoundError):
            return self.path.stat().st_size if self.validator is not None else 0
        return 0

    @property
    def complete(self) -> bool:
        """Whether all bytes of the file have arrived."""
        return self.total is not None and self.received == self.total

    def start(self, validator: str | None, total: int | None, md5: list[str]) -> None:
        """Write down what the server says of the file, so that a later run can continue it.

        Without a validator and a length it cannot be continued.

        Args:
            validator: value for If-Range: an ETag or a date.
            total: bytes of the complete file.
            md5: the file's md5 in base64, one for each header of the server.
        """
        self.validator = validator if total is not None and _can_be_sent(validator) else None
        self.total, self._md5 = total, md5
        if self.validator is not None:
            note: dict[str, Any] = {"url": self._url, "part": self.path.name}
            note |= {"validator": validator, "total": total, "md5": md5}
            # What is there may be a link or a pipe: it is replaced, not written into.
            self._note.unlink(missing_ok=True)
            self._note.write_text(json.dumps(note), encoding="utf-8")

    def discard(self) -> None:
        """Delete what has arrived."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)
        self.validator, self.total, self._md5 = None, None, []

    def check(self, size: int | None, sha256: str | None) -> str:
        """Return the sha256 of the bytes on the disk. Raises WrongContentError where they are not as announced."""
        md5_hash, sha256_hash = hashlib.md5(usedforsecurity=False), hashlib.sha256()
        length = 0
        with self.path.open("rb") as file:
            while chunk := file.read(1 << 20):
                md5_hash.update(chunk)
                sha256_hash.update(chunk)
                length += len(chunk)
        expected = size if size is not None else self.total
        if length == 0:
            raise WrongContentError("the server sent an empty file")
        if expected is not None and length != expected:
            raise WrongContentError(f"the file has {length} bytes instead of {expected}")
        md5 = base64.b64encode(md5_hash.digest()).decode("ascii")
        if any(announced != md5 for announced in self._md5):
            announced = " and ".join(self._md5)
            raise WrongContentError(f"the file's md5 is {md5} and the server announced {announced}")
        if sha256 is not None and sha256_hash.hexdigest() != sha256:
            raise WrongContentError(f"the file's sha256 is {sha256_hash.hexdigest()} instead of {sha256}")
        return sha256_hash.hexdigest()

    def check_format(self, check: Callable[[Path], object]) -> None:
        """Raise WrongContentError where `check` raises ValueError."""
        try:
            check(self.path)
        except ValueError as error:
            raise WrongContentError(f"the file is not what it should be: {error}") from error

    def publish(self) -> None:
        """Give the file its name, in one step."""
        os.replace(self.path, self.target)
        self._note.unlink(missing_ok=True)


def remove_stale(directory: Path, names: Iterable[str]) -> None:
    """Delete unfinished downloads of files with these names that no run will continue; the caller holds the lock."""
    for name in names:
        target = directory / name
        with suppress(OSError):
            note = _read_note(target)
            resumable = None if note is None or target.exists() else note["part"]
            if resumable is None:
                _note_of(target).unlink(missing_ok=True)
            for part in directory.glob("*.part"):
                # A young one may be another run's, on a file system where locks do not hold.
                is_stale = part.name != resumable and time.time() - part.lstat().st_mtime > STALE_S
                if is_stale and _is_part_of(part.name, target):
                    part.unlink()


def _is_part_of(name: str, target: Path) -> bool:
    return re.fullmatch(re.escape(target.name) + r"\.[0-9a-f]{8}\.part", name) is not None


def _can_be_sent(validator: Any) -> bool:
    """Return whether it can be the value of a header."""
    return isinstance(validator, str) and validator.isascii() and validator.isprintable()


def _note_of(target: Path) -> Path:
    return target.with_name(target.name + _NOTE_SUFFIX)


def _read_note(target: Path) -> dict[str, Any] | None:
    """Return the note that an earlier run has written; None where there is none, or it is not one of this program."""
    note = read_json_object(_note_of(target), _MOST_NOTE)
    is_valid = (
        isinstance(note.get("url"), str)
        and isinstance(note.get("part"), str)
        and _is_part_of(note["part"], target)
        and _can_be_sent(note.get("validator"))
        and isinstance(note.get("total"), int)
        and isinstance(note.get("md5"), list)
        and all(isinstance(item, str) for item in note["md5"])
    )
    return note if is_valid else None
