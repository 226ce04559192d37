"""What files and graphs are known by: their sha256, remembered under home() so that none is read twice for it.

Its file there has an entry a file, by its path, and one a graph, by its sha256: which files it keeps weights in.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from action_clip.errors import ActionClipError
from action_clip.models.catalog.structure import check_graph
from action_clip.models.store.home import HASHES, cache_home, home
from action_clip.models.store.records import read_record, update_record
from action_clip.system.files import require_regular_file

# Of a file, what is read each time: blocks of so many bytes, spread over it.
_SAMPLES, _SAMPLE = 16, 4096
# Entries that are remembered: the file is read several times a run.
_MOST = 1000


def sha256_of(path: Path) -> str:
    """The file's sha256, remembered by its path and `_stamp`.

    Damage to what is remembered, or a home() that cannot be written, costs time, nothing else. Raises ActionClipError
    when the file cannot be read.
    """
    stamp = _stamp(path)
    match _recall(os.path.abspath(path)):
        case [*known, str(digest)] if known == stamp:
            return digest
    digest = read_sha256(path)
    if _stamp(path) == stamp:
        _remember(os.path.abspath(path), [*stamp, digest])
    return digest


def graph_identity(path: Path) -> str:
    """What all that the graph at `path` computes depends on: a sha256 over it and the files that it keeps weights in.

    Without any of those it is the sha256 of the graph's own file.

    Raises ActionClipError when one of them cannot be read, ValueError when it is no graph that should be run
    (`check_graph`).
    """
    digest = sha256_of(path)
    match _recall(digest):
        case [*known] if all(isinstance(name, str) for name in known):
            names = known
        case _:
            with _readable(path):
                names = list(check_graph(path))
            if sha256_of(path) == digest:
                _remember(digest, names)
    if not names:
        return digest
    parts = [digest, *([name, sha256_of(path.parent / name)] for name in names)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def read_sha256(path: Path) -> str:
    """The file's sha256, read anew.

    Raises ActionClipError when it cannot be read.
    """
    with _readable(path):
        require_regular_file(path)
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def remember(path: Path, digest: str) -> None:
    """Spare the next `sha256_of` reading what has just been written."""
    _remember(os.path.abspath(path), [*_stamp(path), digest])


def _recall(key: str) -> list[Any] | None:
    """The facts that were remembered; None where there are none, or not as they were written."""
    folder = cache_home()
    entry = None if folder is None else read_record(folder / HASHES).get(key)
    match entry:
        case [*facts, seal] if seal == _seal(key, facts):
            return facts
    return None


def _remember(key: str, facts: list[Any]) -> None:
    with suppress(OSError, ActionClipError):
        update_record(home() / HASHES, {key: [*facts, _seal(key, facts)]}, most=_MOST)


def _seal(key: str, facts: list[Any]) -> str:
    return hashlib.sha256(json.dumps([key, facts]).encode()).hexdigest()[:16]


def _stamp(path: Path) -> list[int | str]:
    """What changes when the file does.

    Its size and time of change may stay when another takes its place (cp -p, rsync -t); where it lies on the disk, the
    time that only the system sets, and a sample of what is in it do not. It remains that a file is written into within
    a tick of the system's clock, 10 ms, and between the samples.
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
