"""Graphs as onnxruntime optimises them for this machine, kept on disk: a session is then made by opening a file.

Making a session of a large graph takes seconds: reading it, optimising it, and laying its weights out as the processor
multiplies them. All of that is kept under home()/optimised, a folder a graph: graph.onnx, and weights.bin, which is
mapped into memory, so that nothing is copied and processes share it. What is kept fits one kind of processor and one
onnxruntime, and the folder's name says which.

seal.txt has a checksum over these files and the folder's name; a session is made of nothing that it does not fit, and
what is wrong is made anew. The checksum is XXH3's, as fast as memory: it is read beside a video that is decoded.
"""

import errno
import hashlib
import json
import logging
import os
import platform
import re
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from mmap import ACCESS_READ, mmap
from pathlib import Path
from time import time

import onnxruntime
import xxhash

from action_clip.models.cache.upstream import choose_early
from action_clip.models.catalog.structure import check_graph
from action_clip.models.runtime.sessions import SessionError, make_session, session_options
from action_clip.models.store.hashes import graph_identity
from action_clip.models.store.home import cache_home
from action_clip.system.files import draft, require_regular_file

_LOG = logging.getLogger("action_clip")
# Of what is kept: another layout is another number.
_LAYOUT = 5
_DRAFT = ".part"
# What takes a minute may take an hour; runs that are killed one after the other must not fill the disk meanwhile.
_DRAFT_KEPT_S, _UNUSED_KEPT_S = 3600, 60 * 24 * 3600
_GRAPH, _WEIGHTS = "graph.onnx", "weights.bin"
# Only what has such a name and one of these files, which begin alike, is ever removed: the folder may hold something of
# the user's, too. With two of them, damage to one does not matter.
_OWN_NAME = re.compile(r"[0-9a-f]{32}(\.part|-[0-9a-f]{12}-.+-\d+)")
_MARK, _SEAL = "kept-by-action_clip.txt", "seal.txt"
_MARK_TEXT = b"Made by action_clip.py, which also removes it: it can be deleted.\n"
# Bytes from which on onnxruntime starts a weight, and what it packs of it, on a page of its own: more than 1 MiB
# (ModelSavingOptions.align_threshold in onnxruntime/core/graph/model_saving_options.h).
_ALIGNED = (1 << 20) + 1
# Bytes of a file that are mapped at once while it is checked.
_PART = 64 << 20
# What Linux tells of a processor that decides which instructions it has.
_TRAITS = {"vendor_id", "cpu family", "model", "model name", "flags", "Features", "CPU implementer", "CPU part"}


def optimised(path: Path) -> Path | None:
    """The optimised form of the graph at `path`, made now where it is not kept yet, or not as it was made.

    What it returns has been checked; a session is to be made of it at once. It remains that somebody else writes into
    the file in between, or while it is mapped: this program does not, it only puts whole folders in their place.

    None where there is no home() or it is read-only, and for a graph that has its weights in another file: what
    onnxruntime 1.20 writes of it still needs that file.

    Raises OSError when it cannot be written, ActionClipError when the graph cannot be read, ValueError when it is none
    that should be run (`check_graph`), and SessionError when onnxruntime cannot load it.
    """
    kept_in = cache_home()
    if kept_in is None:
        return None
    root = kept_in / "optimised"
    if not root.is_dir() and not _can_make(root):
        return None
    identity = graph_identity(path)
    folder = root / f"{identity[:32]}-{form()}"
    if not _is_whole(folder):
        if check_graph(path) or not os.access(root, os.W_OK):
            return None
        if _is_own(folder):
            _LOG.warning("what was kept of %s for this machine was damaged, and is made anew", path)
        _remove_stale(root)
        with _drafted(folder) as own:
            optimise(path, own)
            if graph_identity(path) != identity:
                raise OSError("it was replaced meanwhile")
    with suppress(OSError):
        os.utime(folder)  # when it was last used
    return folder / _GRAPH


def optimise(path: Path, folder: Path) -> Path:
    """Write the optimised form of the graph at `path` into `folder` → its path.

    Raises SessionError when onnxruntime cannot, OSError when the disk is full.
    """
    options = session_options(1)  # it computes next to nothing
    options.log_severity_level = 4
    options.optimized_model_filepath = str(folder / _GRAPH)
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", _WEIGHTS)
    options.add_session_config_entry("session.save_external_prepacked_constant_initializers", "1")
    # The others stay in the graph: what is mapped of them would not be aligned, which int8 products crash on.
    options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", str(_ALIGNED))
    try:
        make_session(path, options, "CPUExecutionProvider")
    except SessionError:
        if shutil.disk_usage(folder).free < _ALIGNED:  # which onnxruntime does not say
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None
        raise
    _leave_out_unread_rows(folder / _GRAPH)
    return folder / _GRAPH


def _leave_out_unread_rows(path: Path) -> None:
    # What onnxruntime has optimised is easier to see through than what it was made of.
    graph = path.read_bytes()
    early = choose_early(graph)
    if early is not graph:
        path.write_bytes(early)


def discard(kept: Path) -> None:
    """Remove an optimised graph that cannot be loaded."""
    if _is_own(kept.parent):
        _remove(kept.parent)


def _is_whole(folder: Path) -> bool:
    """Whether all is as it was when the folder got its name."""
    try:
        return _is_own(folder) and (folder / _SEAL).read_bytes() == _seal(folder, folder.name)
    except OSError:
        return False


def _seal(folder: Path, name: str) -> bytes:
    """What seal.txt has to say of what is in `folder`, under its name.

    Raises OSError when something in it cannot be read.
    """
    digests = {}
    for path in (folder / _GRAPH, folder / _WEIGHTS):
        if path.name == _GRAPH or os.path.lexists(path):
            digests[path.name] = _checksum(path)
    return _MARK_TEXT + xxhash.xxh3_128_hexdigest(json.dumps([name, digests]).encode()).encode() + b"\n"


def _checksum(path: Path) -> str:
    """Of what is in a file, mapped part by part: so it is neither copied nor resident as a whole.

    Other threads wait once a part, not once a page, for the interpreter's lock.
    """
    digest = xxhash.xxh3_128()
    require_regular_file(path)
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        for start in range(0, size, _PART):
            with mmap(file.fileno(), min(_PART, size - start), offset=start, access=ACCESS_READ) as part:
                digest.update(part)
    return digest.hexdigest()


def _is_own(folder: Path) -> bool:
    """Whether this program has made the folder: by its name, and by a mark in it."""
    try:
        is_folder = stat.S_ISDIR(folder.lstat().st_mode)
    except OSError:
        return False
    is_named = _OWN_NAME.fullmatch(folder.name) is not None
    return is_folder and is_named and any(_is_mark(folder / name) for name in (_MARK, _SEAL))


def _is_mark(path: Path) -> bool:
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return False
        with path.open("rb") as file:
            return file.read(len(_MARK_TEXT)) == _MARK_TEXT
    except OSError:
        return False


def _remove(folder: Path) -> None:
    """Remove a folder that this program has made; not, where somebody has put something into it, what that is."""
    with suppress(OSError):
        for name in (_GRAPH, _WEIGHTS, _SEAL, _MARK):
            path = folder / name
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink(missing_ok=True)
        folder.rmdir()


def _can_make(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return True


def _remove_stale(root: Path) -> None:
    """What was not used for long, and what runs that were killed have left half-written."""
    for folder in root.iterdir():
        with suppress(OSError):
            idle_s = time() - folder.stat().st_mtime
            if idle_s > (_DRAFT_KEPT_S if folder.suffix == _DRAFT else _UNUSED_KEPT_S) and _is_own(folder):
                _remove(folder)


@contextmanager
def _drafted(folder: Path) -> Iterator[Path]:
    """A folder to write into, which gets its name when it is complete, on the disk and not only on its way there."""
    with draft(folder.with_name(f"{uuid.uuid4().hex}{_DRAFT}")) as own:
        own.mkdir()
        (own / _MARK).write_bytes(_MARK_TEXT)
        yield own
        (own / _SEAL).write_bytes(_seal(own, folder.name))
        for file in own.iterdir():
            with file.open("rb+") as written:
                os.fsync(written.fileno())
        try:
            own.replace(folder)
        except OSError:
            if not _is_whole(folder):  # else another run was faster
                if _is_own(folder):  # damaged, or what is left of one that was being removed
                    _remove(folder)
                own.replace(folder)


def form() -> str:
    """The form in which graphs are kept: for which kind of processor, by which onnxruntime, in which layout."""
    return f"{_processor()}-{onnxruntime.__version__}-{_LAYOUT}"


@cache
def _processor() -> str:
    """A name for this kind of processor; where that is hard to ask, for this machine."""
    traits = [platform.machine(), platform.processor()]
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            first = file.read(1 << 16).partition("\n\n")[0]
        traits += [line for line in first.splitlines() if line.partition(":")[0].strip() in _TRAITS]
    except OSError:
        traits.append(platform.node())
    return hashlib.sha256("\n".join(traits).encode()).hexdigest()[:12]
