"""The record of hashes: each file's sha256 when it was last read, and when it was first used.

It is one file under home(), a JSON object on each line. Of two lines of one kind about one path, the later one counts:

    {"kind": "last read", "path": "tiny/text.onnx", "sha256": "…", "stamp": […], "weights": […], "seal": "…"}
    {"kind": "first use", "path": "tiny/text.onnx", "sha256": "…", "seal": "…"}

"last read" saves reading the file again while its stamp stays the same; `weights` names the files that a graph keeps
weights in, null until it was checked. "first use" is what the file is verified against. Paths are relative to home()
where they are below it, so that it can be moved.

It is written whole, under a lock, so that processes that run at once do not undo each other's lines. A line whose seal
is wrong is ignored, which costs time only.
"""

import hashlib
import json
import os
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from action_clip.errors import ActionClipError
from action_clip.models.catalog.structure import check_graph
from action_clip.models.store.home import HASHES, cache_home, home, warn_once
from action_clip.system.files import draft, read_json_object, require_regular_file

_LAST_READ, _FIRST_USE = "last read", "first use"
_EARLIER_RECORD = "sha256.json"
"""In a model's directory: the hashes of first use, as earlier versions of the program record them. It is only read."""
# Most facts of the kind "last read" in the record, which is read several times in a run.
_MOST_READ = 1000
_LOCK_S = 10.0
"""Seconds that another process is waited for while it writes the record: longer than writing takes."""
_MOST_BYTES = 32 << 20
"""Most bytes of a record; a larger file is not taken for one."""
# What a record begins with, and what each of its lines contains.
_BEGINNING, _HASH = b'{"kind": "', re.compile(rb'"[0-9a-f]{64}"')
# Number and size in bytes of the blocks of a file, spread over it, that are read for its stamp.
_SAMPLES, _SAMPLE = 16, 4096

Fact = dict[str, Any]
"""A line of the record, without its seal."""
Subject = tuple[str, str]
"""The kind of a fact, and the path that it is about."""


class FirstUse(NamedTuple):
    """The sha256 that a file had when it was first used."""

    sha256: str
    record: Path
    """The file in which it is recorded."""


def sha256_of(path: Path) -> str:
    """Return the file's sha256, which is recorded with the file's stamp, so that the file is not read again for it.

    Where the record is damaged, or home() cannot be written, the file is read again. Raises ActionClipError when the
    file cannot be read.
    """
    return str(_last_read(path)["sha256"])


def graph_identity(path: Path) -> str:
    """Return a sha256 over a graph and the files that it keeps weights in: what it computes depends on nothing else.

    Where all weights are in the graph's own file, it is the sha256 of that file.

    Raises ActionClipError when one of the files cannot be read, ValueError when `check_graph` refuses the graph.
    """
    fact = _last_read(path)
    if fact["weights"] is None:
        with _readable(path):
            fact = fact | {"weights": list(check_graph(path))}
        if _stamp(path) == fact["stamp"]:
            _try_to_record(fact)
    if not fact["weights"]:
        return str(fact["sha256"])
    parts = [fact["sha256"], *([name, sha256_of(path.parent / name)] for name in fact["weights"])]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def read_sha256(path: Path) -> str:
    """Return the file's sha256, computed anew.

    Raises ActionClipError when it cannot be read.
    """
    with _readable(path):
        require_regular_file(path)
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def first_use_hashes(directory: Path) -> dict[str, FirstUse]:
    """Return the hashes that the files of a directory in home() had at first use, by file name."""
    earlier = directory / _EARLIER_RECORD
    recorded = read_json_object(earlier, _MOST_BYTES).items()
    hashes = {name: FirstUse(digest, earlier) for name, digest in recorded if isinstance(digest, str)}
    prefix = f"{_key(directory)}/"
    for (kind, path), fact in _recorded(prefix).items():
        if kind == _FIRST_USE:
            hashes[path.removeprefix(prefix)] = FirstUse(fact["sha256"], home() / HASHES)
    return hashes


def record_first_use(hashes: Mapping[Path, str]) -> None:
    """Record the sha256 of files at their first use; nothing is recorded where home() cannot be written."""
    _try_to_record(*(_first_use(path, digest) for path, digest in hashes.items()))


def record_new_file(path: Path, digest: str) -> None:
    """Record the sha256 of a file that has just been written, in place of that of an earlier one.

    Raises OSError or ActionClipError when the record cannot be written.
    """
    _record(_read(path, _stamp(path), digest), _first_use(path, digest))


def _last_read(path: Path) -> Fact:
    """Return the fact of the kind "last read" about the file, which is read unless the recorded stamp is its own."""
    key, stamp = _key(path), _stamp(path)
    fact = _recorded(key).get((_LAST_READ, key))
    if fact is None or fact["stamp"] != stamp:
        fact = _read(path, stamp, read_sha256(path))
        if _stamp(path) == stamp:
            _try_to_record(fact)
    return fact


def _read(path: Path, stamp: list[int | str], digest: str) -> Fact:
    return {"kind": _LAST_READ, "path": _key(path), "sha256": digest, "stamp": stamp, "weights": None}


def _first_use(path: Path, digest: str) -> Fact:
    return {"kind": _FIRST_USE, "path": _key(path), "sha256": digest}


def _key(path: Path) -> str:
    """Return the path as the record has it: relative to home() where it is below that."""
    absolute, folder = Path(os.path.abspath(path)), cache_home()
    is_below = folder is not None and absolute.is_relative_to(folder)
    return absolute.relative_to(folder).as_posix() if folder is not None and is_below else str(absolute)


def _recorded(start: str) -> dict[Subject, Fact]:
    """Return the recorded facts about files whose keys begin with `start`."""
    folder = cache_home()
    content = None if folder is None else _content(folder / HASHES)
    return _facts(content or b"", start)


def _try_to_record(*facts: Fact) -> None:
    with suppress(OSError, ActionClipError):
        _record(*facts)


def _record(*facts: Fact) -> None:
    """Add the facts that are not recorded yet.

    Raises OSError or ActionClipError when the record cannot be written.
    """
    path = home() / HASHES
    content = _content(path)
    if content is not None:
        if not _unrecorded(facts, _facts(content)):
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            content = _content(path)  # another process may just have written it
            if content is not None:
                _write(path, facts, _facts(content))
    if content is None:
        warn_once(path, "%s cannot be read as what this program writes there, and is left alone: move it away", path)


def _write(path: Path, facts: Iterable[Fact], recorded: dict[Subject, Fact]) -> None:
    new = _unrecorded(facts, recorded)
    others = {subject: fact for subject, fact in recorded.items() if subject not in new}
    target = Path(os.path.realpath(path))
    with draft(target.with_name(f".{uuid.uuid4().hex}.tmp")) as temporary:
        temporary.write_bytes(b"".join(map(_line, _newest(others | new))))
        temporary.replace(target)


def _unrecorded(facts: Iterable[Fact], recorded: Mapping[Subject, Fact]) -> dict[Subject, Fact]:
    return {_subject(fact): fact for fact in facts if recorded.get(_subject(fact)) != fact}


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the record's lock where possible: some file systems have no locks, and the lock may be another user's."""
    from filelock import FileLock

    lock = FileLock(f"{path}.lock", timeout=_LOCK_S)
    with suppress(OSError, NotImplementedError):  # a Timeout is an OSError
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _newest(facts: dict[Subject, Fact]) -> list[Fact]:
    """Return all facts of the kind "first use", and the _MOST_READ latest ones of the kind "last read"."""
    read = [subject for subject in facts if subject[0] == _LAST_READ]
    left_out = set(read[:-_MOST_READ])
    return [fact for subject, fact in facts.items() if subject not in left_out]


def _facts(content: bytes, start: str = "") -> dict[Subject, Fact]:
    """Return the facts in a record about files whose keys begin with `start`, in the order of their lines."""
    part = json.dumps(start)[:-1].encode()
    facts: dict[Subject, Fact] = {}
    for line in content.split(b"\n"):
        if part in line and (fact := _parsed(line)) is not None and fact["path"].startswith(start):
            facts.pop(_subject(fact), None)
            facts[_subject(fact)] = fact
    return facts


def _subject(fact: Fact) -> Subject:
    return fact["kind"], fact["path"]


def _line(fact: Fact) -> bytes:
    return json.dumps(fact | {"seal": _seal(fact)}).encode() + b"\n"


def _parsed(line: bytes) -> Fact | None:
    """Return the fact in a line; None where the line is damaged."""
    try:
        fact: Fact = json.loads(line)
        return fact if fact.pop("seal") == _seal(fact) else None
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return None


def _seal(fact: Fact) -> str:
    return hashlib.sha256(json.dumps(fact).encode()).hexdigest()[:16]


def _content(path: Path) -> bytes | None:
    """Return the content of a record, damaged or not; b"" where there is none, None where the file is another's."""
    # This comes before opening, as opening a pipe waits until another process writes into it.
    if not os.path.lexists(path):
        return b""
    try:
        if not os.path.isfile(path) or path.stat().st_size > _MOST_BYTES:
            return None
        content = path.read_bytes()
    except OSError:
        return None
    # A power cut may leave zeros, or nothing.
    was_record = content[: len(_BEGINNING)] == _BEGINNING[: len(content)] or _HASH.search(content)
    return content if was_record or not content.strip(b"\0") else None


def _stamp(path: Path) -> list[int | str]:
    """Return numbers and a hash that change when the file does.

    Size and time of modification may stay the same when another file replaces it (cp -p, rsync -t); the inode, the time
    of status change, which only the system sets, and a hash of samples of the content do not. A change goes unnoticed
    only where it is between the samples and within a tick of the system's clock, 10 ms.
    """
    sample = hashlib.sha256()
    with _readable(path):
        require_regular_file(path)
        with path.open("rb", buffering=0) as file:
            facts = os.fstat(file.fileno())
            for index in range(_SAMPLES):
                file.seek(max(facts.st_size - _SAMPLE, 0) * index // (_SAMPLES - 1))
                sample.update(file.read(_SAMPLE))
    return [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino, sample.hexdigest()[:16]]


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ActionClipError(f"{path} cannot be read ({error.strerror or error}): check the file") from error
