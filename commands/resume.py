"""A file of answers for several videos that a later run can go on with, after this one was ended in any way.

Beside the answers, FILE.resume records how they were made, then one line for each piece of FILE: which video it is the
answer for, its length and its hash. The line comes before the piece, so a process that is ended at any moment leaves at
most one piece that is not complete, and it is known which. An answer that comes in parts is a piece that grows: each
part has a line for the piece as it is then, and a piece that was to grow further is not complete.
"""

import json
import os
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import xxhash

from action_clip.commands.videos import FileId, ListedVideo
from action_clip.errors import ActionClipError
from action_clip.system.addresses import display_name, is_address, is_other_address
from action_clip.system.files import check_target, replacing, require_regular_file, writing

_MARK = "how the answers beside this file were made: --resume goes on with them"
_START = 20
_LONGEST_START = 6 * _START
"""Most bytes of the start of a piece: six for a surrogate, which is written as an escape."""
_LONGEST_LINE = 1 << 20

Settings = Mapping[str, Any]
"""What the answers depend on, besides the videos, by its name in messages; None where it is not known yet. Of long
values there is the `digest`."""
_DIGEST = "xxh3:"


def digest(value: object) -> str:
    """Return a hash of lists, dictionaries, texts and numbers, for Settings."""
    return _DIGEST + xxhash.xxh3_128_hexdigest(json.dumps(value).encode())


class _Piece(NamedTuple):
    """A part of the file of answers: for a video, or for none, as the header of CSV is."""

    video: str | None
    file: FileId | str | None
    """The file that was looked at; of a URL, which may have secrets, a hash."""
    size: int
    start: str
    """Its first characters."""
    hash: str
    failed: bool
    grows: bool = False
    """Whether a part of the answer is still missing."""


_KINDS = {
    "video": str | None,
    "file": list | str | None,
    "size": int,
    "start": str,
    "hash": str,
    "failed": bool,
    "grows": bool,
}
"""The types of its fields in FILE.resume."""


@contextmanager
def resumable_output(
    path: str | os.PathLike[str], settings: Callable[[], Settings], head: str, *, resume: bool
) -> Iterator["ResumableOutput"]:
    """Yield the file of answers, which no other run writes in the meantime.

    Args:
        path: of the answers; the other files are beside it.
        settings: returns the settings of this run.
        head: what the file begins with.
        resume: whether to go on with what is there, and not to begin anew.

    Raises:
        ActionClipError: another run is writing to it, or `path` or FILE.resume has something else; with `resume`, also
            where other settings were used, or the file was changed.
    """
    target = Path(os.path.realpath(path))
    check_target(target)
    with _locked(target):
        record = _record_of(target)
        recorded = _read_record(record)
        check_target(record)
        pieces: list[_Piece] = []
        if resume and os.path.exists(target) and os.path.getsize(target):
            if recorded is None:
                raise ActionClipError(
                    f"{target} is not to be resumed: there is no {record.name} beside it, which tells how it was made; "
                    "name another --output, or leave out --resume to overwrite it"
                )
            _check_same(target, recorded[0], settings())
            pieces = [piece for piece in _complete_pieces(target, recorded[1]) if not piece.grows]
            if os.path.getsize(target) > _size(pieces):
                with writing(target):
                    os.truncate(target, _size(pieces))  # the beginning of an answer that is not complete
        else:
            recorded = None
        output = ResumableOutput(target, settings, head, recorded and recorded[0], pieces)
        try:
            yield output
        finally:
            output.close()


class ResumableOutput:
    """The file of answers of `resumable_output`. It stays as it is until the first answer is written."""

    def __init__(
        self,
        path: Path,
        settings: Callable[[], Settings],
        head: str,
        before: Settings | None,
        pieces: Sequence[_Piece],
    ) -> None:
        """`before`: the settings that the file was begun with, None for a new one; `pieces`: what it has."""
        self._path = path
        self._settings = settings
        self._head = head
        self._before = before
        self._pieces = pieces
        self._kept = [piece for piece in pieces if not piece.failed]
        self._files: tuple[BinaryIO, BinaryIO] | None = None
        self._growing = _Growing()

    def answered(self, videos: Sequence[ListedVideo]) -> set[int]:
        """Return the places of the videos that have an answer: under the same name, or another one of the same file.

        What was written for one of them that failed is taken out, as it is tried again; failures of others stay.

        Raises:
            ActionClipError: one of these files has been changed since.
        """
        done = [piece for piece in self._pieces if piece.video is not None and not piece.failed]
        files = {piece.file for piece in done if not isinstance(piece.file, FileId) or piece.file.inode} - {None}
        names = {piece.video: piece.file for piece in done if isinstance(piece.file, FileId | None)}
        places = set()
        for place, video in enumerate(videos):
            if _key(video) in files:
                places.add(place)
            elif (name := _name(video)) in names:
                before = names[name]
                if before is not None and video.file is not None and before[2:] != video.file[2:]:
                    raise ActionClipError(
                        f"{video.name} was changed after it was answered in {self._path}: leave out --resume, or name "
                        "another --output"
                    )
                places.add(place)
        tried = {_name(video) for video in videos} | {_key(video) for video in videos} - {None}
        self._kept = [piece for piece in self._pieces if not piece.failed or not {piece.video, piece.file} & tried]
        return places

    def write(self, text: str, video: ListedVideo, *, failed: bool, more: bool = False) -> None:
        """Add what is written for a video; it is in the file when this returns. Raises ActionClipError."""
        with writing(self._path):
            if self._files is None:
                self._files = self._begin()
            self._write(text, video, failed=failed, more=more)

    def close(self) -> None:
        """Close the files."""
        if self._files is not None:
            with writing(self._path):
                for file in self._files:
                    file.close()

    def _begin(self) -> tuple[BinaryIO, BinaryIO]:
        """Bring both files to what is kept of them, and open them to add more."""
        settings = self._settings()
        if self._before is not None:
            _check_same(self._path, self._before, settings)
        record = _record_of(self._path)
        with replacing(record) as draft:
            lines = [{"action_clip": _MARK, "settings": settings}, *map(_Piece._asdict, self._kept)]
            draft.write_bytes(b"".join(map(_line, lines)))
            # The answers are changed last, when nothing but the name of the record can fail.
            if len(self._kept) < len(self._pieces):
                _copy_kept(self._path, self._pieces, {*self._kept})
            answers = open(self._path, "ab")  # noqa: SIM115 both are closed by close()
            answers.truncate(_size(self._kept))
        self._files = answers, open(record, "ab")  # noqa: SIM115
        if not self._kept and self._head:
            self._write(self._head, None, failed=False, more=False)
        return self._files

    def _write(self, text: str, video: ListedVideo | None, *, failed: bool, more: bool) -> None:
        assert self._files is not None
        answers, record = self._files
        data = _encoded(text)
        name, key = (None, None) if video is None else (_name(video), _key(video))
        size, start, hashed = self._growing.with_part(text, data)
        if not more:
            self._growing = _Growing()
        record.write(_line(_Piece(name, key, size, start, hashed, failed, more)._asdict()))
        record.flush()
        answers.write(data)
        answers.flush()


class _Growing:
    """The parts of a piece that were written so far."""

    def __init__(self) -> None:
        self._size = 0
        self._start = ""
        self._hash = xxhash.xxh3_64()

    def with_part(self, text: str, data: bytes) -> tuple[int, str, str]:
        """Return size, start and hash of the piece with one more part: `data`, which is `text` encoded."""
        self._size += len(data)
        self._start = (self._start + text[:_START])[:_START]
        self._hash.update(data)
        return self._size, self._start, self._hash.hexdigest()


def _name(video: ListedVideo) -> str:
    """Return its name in FILE.resume: that of an address has no secrets, and a path is the same with ./ before it."""
    return display_name(video.name) if is_other_address(video.name) else os.path.normpath(video.name)


def _key(video: ListedVideo) -> FileId | str | None:
    if is_address(video.name):
        return xxhash.xxh3_128_hexdigest(video.name.strip().encode("utf-8", "surrogateescape"))
    return video.file


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", errors="backslashreplace")


def _size(pieces: Iterable[_Piece]) -> int:
    return sum(piece.size for piece in pieces)


def _record_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.resume")


def _line(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values).encode() + b"\n"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file of answers, FILE.lock, where the file system has locks. Raises ActionClipError."""
    from filelock import FileLock, Timeout

    name = path.with_name(f"{path.name}.lock")
    if os.path.lexists(name) and (not os.path.isfile(name) or name.stat().st_size):
        raise ActionClipError(f"{name} is in the way, and not of this program: name another --output")
    lock = FileLock(name)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ActionClipError(
            f"another run is writing to {path}: wait until it has ended, or name another --output"
        ) from error
    except (OSError, NotImplementedError):
        pass  # FILE.resume cannot be written either, or there are no locks
    try:
        yield
    finally:
        if lock.is_locked:
            with suppress(OSError):  # Windows removes no file that is open, and the lock does it itself
                name.unlink()
            lock.release()


def _read_record(path: Path) -> tuple[Settings, list[_Piece]] | None:
    """Return the settings and pieces in FILE.resume; None where there is no such file.

    Lines from the first damaged one on are left out. Raises ActionClipError where it is another program's file.
    """
    if not os.path.lexists(path):
        return None
    try:
        require_regular_file(path)
        with path.open("rb") as file:
            begin = _parsed(file) or {}
            settings = begin.get("settings")
            if begin.get("action_clip") != _MARK or not isinstance(settings, dict):
                raise ActionClipError(f"{path} is in the way, and not of this program: name another --output")
            pieces: list[_Piece] = []
            with suppress(ValueError, LookupError, TypeError):
                while (values := _parsed(file)) is not None:
                    piece = _piece({"grows": False} | values)
                    if pieces and pieces[-1].grows:
                        pieces.pop()
                    pieces.append(piece)
    except OSError as error:
        raise ActionClipError(f"{path} cannot be read ({error.strerror}): name another --output") from error
    return settings, pieces


def _parsed(file: BinaryIO) -> dict[str, Any] | None:
    """Return the JSON object in the next line; None where there is none, or it is not complete."""
    line = file.readline(_LONGEST_LINE)
    try:
        values = json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


def _piece(values: Mapping[str, Any]) -> _Piece:
    """Return the piece of a line in FILE.resume. Raises ValueError, LookupError or TypeError where it is none."""
    if not all(isinstance(values[name], kind) for name, kind in _KINDS.items()) or values["size"] < 0:
        raise ValueError(values)
    file = values["file"]
    return _Piece(**{**values, "file": FileId(*map(int, file)) if isinstance(file, list) else file})


def _check_same(path: Path, before: Settings, now: Settings) -> None:
    """Raise ActionClipError, which names them, where settings differ."""
    others = []
    for name in dict.fromkeys([*before, *now]):
        old, new = before.get(name), now.get(name)
        if old == new or None in (old, new):
            continue
        others.append(f"other {name}" if str(old).startswith(_DIGEST) else f"{name} {old}, not {new}")
    if others:
        raise ActionClipError(
            f"{path} was begun with {' and '.join(others)}: give the same again, name another --output, or leave out "
            "--resume to overwrite it"
        )


def _complete_pieces(path: Path, pieces: Sequence[_Piece]) -> list[_Piece]:
    """Return the pieces that the file has, complete. Raises ActionClipError where it has anything else.

    Failures may be missing: a run that was ended while it resumed has taken them out of the file, not of the record.
    """
    found: list[_Piece] = []
    missing: list[_Piece] = []  # after the last one that was found
    try:
        with path.open("rb") as file:
            left = os.fstat(file.fileno()).st_size
            for piece in pieces:
                start = file.tell()
                if piece.size <= left and xxhash.xxh3_64_hexdigest(file.read(piece.size)) == piece.hash:
                    found.append(piece)
                    left -= piece.size
                    missing = []
                    continue
                file.seek(start)
                missing.append(piece)
                if not piece.failed:
                    break
            rest = file.read(_LONGEST_START)
    except OSError as error:
        raise ActionClipError(f"{path} cannot be read ({error.strerror}): name another --output") from error
    starts = [_encoded(piece.start) for piece in missing if piece.size > left]
    if rest and not any(start.startswith(rest[: len(start)]) for start in starts):
        raise ActionClipError(
            f"{path} has been changed since it was written, and is not to be resumed: name another --output, or leave "
            "out --resume to overwrite it"
        )
    return found


def _copy_kept(path: Path, pieces: Iterable[_Piece], kept: Container[_Piece]) -> None:
    """Replace the file by one that has only the pieces that are kept."""
    with replacing(path) as draft, path.open("rb") as old, draft.open("wb") as new:
        for piece in pieces:
            data = old.read(piece.size)
            if piece in kept:
                new.write(data)
