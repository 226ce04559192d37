"""The session cache: graphs as onnxruntime optimises them for this processor, on disk.

Making a session of a large graph takes seconds: reading it, optimising it, and copying its weights. The result is an
entry, a folder in home()/optimised for each graph, with graph.onnx and weights.bin. The weights are mapped into memory,
so that processes share them. An entry is for one kind of processor and one version of onnxruntime, which are in the
folder's name. Outputs are the same, bit for bit, as without the cache.

An entry's seal.txt has a checksum over its files and the folder's name. It is compared whenever a session is made; an
entry that does not match is made anew. The checksum is XXH3, which is computed as fast as memory is read, and while the
video is decoded.
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from mmap import ACCESS_READ, mmap
from pathlib import Path
from time import time

import onnxruntime
import xxhash

from action_clip.models.catalog.structure import check_graph
from action_clip.models.runtime.devices import CPU
from action_clip.models.runtime.sessions import SessionError, make_session, session_options
from action_clip.models.store.hashes import graph_identity
from action_clip.models.store.home import cache_home
from action_clip.system.files import draft, require_regular_file

_LOG = logging.getLogger("action_clip")
# Version of an entry's layout: it changes with the names and the content of its files.
_LAYOUT = 7
_DRAFT = ".part"
# Seconds after which an unfinished draft, and an entry that was not used, is removed from the disk.
_DRAFT_KEPT_S, _UNUSED_KEPT_S = 3600, 60 * 24 * 3600
GRAPH, _WEIGHTS = "graph.onnx", "weights.bin"
Writer = Callable[[Path, Path], object]
# Only folders with such a name and one of these two files, which begin with the same text, are ever removed: users may
# have put files of their own there. There are two, as one may be damaged.
_OWN_NAME = re.compile(r"[0-9a-f]{32}(\.part|-[0-9a-f]{12}-.+-\d+)")
_MARK, _SEAL = "kept-by-action_clip.txt", "seal.txt"
_MARK_TEXT = b"Made by action_clip.py, which also removes it: it can be deleted.\n"
# Least size in bytes of weights that onnxruntime aligns to pages: more than 1 MiB
# (ModelSavingOptions.align_threshold in onnxruntime/core/graph/model_saving_options.h).
_ALIGNED = (1 << 20) + 1
# Bytes of a file that are mapped at once while its checksum is computed.
_PART = 64 << 20
# Lines of /proc/cpuinfo that tell which instructions a processor has.
_CPU_FIELDS = {"vendor_id", "cpu family", "model", "model name", "flags", "Features", "CPU implementer", "CPU part"}


def cached_session(path: Path, options: onnxruntime.SessionOptions) -> "onnxruntime.InferenceSession | None":
    """Return a session on the CPU of the graph at `path`, from its entry in the cache; None where `cached_graph` does.

    The entry is written first where there is none. `options` are changed.

    Raises:
        ValueError: the entry could not be loaded, and has been removed; or as `cached_graph`.
        OSError, ActionClipError, SessionError: as `cached_graph`.
    """
    graph = cached_graph(path)
    if graph is None:
        return None
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return make_session(graph, options, CPU)
    except SessionError:
        if _is_own(graph.parent):
            _remove(graph.parent)
        raise ValueError("what was kept cannot be loaded, and has been removed") from None


def cached_graph(path: Path, form: str = "", write: Writer | None = None) -> Path | None:
    """Return the path of another form of the graph at `path`, in the entry that the graph has for this form.

    The entry is written first where there is none or it is damaged. Its checksum has just been compared, so a session
    should be made of it at once: this program writes an entry's files only before their folder has its name, but
    another program could change them.

    None where there is no home() or it is read-only, and without `write` for a graph with weights in another file: the
    optimised graph that onnxruntime 1.20 writes still needs that file.

    Args:
        path: the graph.
        form: the form's name: letters and figures with "-" between them; "" is what `write_optimised` writes.
        write: writes the form of the graph, its first argument, as GRAPH into a folder, its second; None:
            `write_optimised`.

    Raises:
        OSError: the entry cannot be written.
        ActionClipError: the graph cannot be read.
        ValueError: `check_graph` refuses the graph.
        SessionError: onnxruntime cannot load it; or whatever `write` raises.
    """
    home = cache_home()
    if home is None:
        return None
    root = home / "optimised"
    with suppress(OSError):
        root.mkdir(parents=True, exist_ok=True)
    if not root.is_dir():
        return None
    identity = graph_identity(path)
    entry = root / f"{identity[:32]}-{environment_key(form)}"
    if not _is_intact(entry):
        has_other_files = bool(check_graph(path))
        if (has_other_files and write is None) or not os.access(root, os.W_OK):
            return None
        if _is_own(entry):
            _LOG.warning("what was kept of %s for this machine was damaged, and is made anew", path)
        _remove_stale(root)
        with _drafted(entry) as folder:
            (write or write_optimised)(path, folder)
            if graph_identity(path) != identity:
                raise OSError("it was replaced meanwhile")
    with suppress(OSError):
        os.utime(entry)  # when it was last used
    return entry / GRAPH


def write_optimised(path: Path, folder: Path) -> Path:
    """Write the optimised form of the graph at `path` into `folder`, and return its path.

    Raises SessionError when onnxruntime cannot do it, OSError when the disk is full.
    """
    options = session_options(1)  # only constants are computed
    options.log_severity_level = 4
    options.optimized_model_filepath = str(folder / GRAPH)
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", _WEIGHTS)
    # Smaller weights stay in the graph: mapped, they would not be aligned, and int8 products may crash on them.
    options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", str(_ALIGNED))
    try:
        make_session(path, options, CPU)
    except SessionError:
        if shutil.disk_usage(folder).free < _ALIGNED:  # onnxruntime does not report a full disk
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None
        raise
    return folder / GRAPH


def _is_intact(folder: Path) -> bool:
    """Return whether the entry is as it was written."""
    try:
        return _is_own(folder) and (folder / _SEAL).read_bytes() == _seal(folder, folder.name)
    except OSError:
        return False


def _seal(folder: Path, name: str) -> bytes:
    """Return what seal.txt of an entry with this name has to contain, for the files that are in `folder` now.

    Raises OSError when one of them cannot be read.
    """
    digests = {}
    for path in (folder / GRAPH, folder / _WEIGHTS):
        if path.name == GRAPH or os.path.lexists(path):
            digests[path.name] = _checksum(path)
    return _MARK_TEXT + xxhash.xxh3_128_hexdigest(json.dumps([name, digests]).encode()).encode() + b"\n"


def _checksum(path: Path) -> str:
    """Return the XXH3 checksum of a file, which is mapped into memory in parts, so that it is not copied as a whole.

    The interpreter's lock is released while a part is read, so that other threads can go on.
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
    """Return whether this program has made the folder, as its name and a file in it say."""
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
    """Remove this program's files from a folder, and the folder if nothing else is in it."""
    with suppress(OSError):
        for name in (GRAPH, _WEIGHTS, _SEAL, _MARK):
            path = folder / name
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink(missing_ok=True)
        folder.rmdir()


def _remove_stale(root: Path) -> None:
    """Remove entries that were not used for long, and drafts of runs that were killed."""
    for folder in root.iterdir():
        with suppress(OSError):
            idle_s = time() - folder.stat().st_mtime
            if idle_s > (_DRAFT_KEPT_S if folder.suffix == _DRAFT else _UNUSED_KEPT_S) and _is_own(folder):
                _remove(folder)


@contextmanager
def _drafted(entry: Path) -> Iterator[Path]:
    """Yield a folder to write an entry into; after the block it is flushed to the disk and renamed to `entry`."""
    with draft(entry.with_name(f"{uuid.uuid4().hex}{_DRAFT}")) as folder:
        folder.mkdir()
        (folder / _MARK).write_bytes(_MARK_TEXT)
        yield folder
        (folder / _SEAL).write_bytes(_seal(folder, entry.name))
        for path in folder.iterdir():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
        try:
            folder.replace(entry)
        except OSError:
            if not _is_intact(entry):  # else another process has written it meanwhile
                if _is_own(entry):  # damaged, or half removed
                    _remove(entry)
                folder.replace(entry)


def environment_key(form: str = "") -> str:
    """Return a text of what an entry depends on besides its graph: processor, onnxruntime's version, form, layout."""
    return "-".join(filter(None, (_processor(), onnxruntime.__version__, form, str(_LAYOUT))))


@cache
def _processor() -> str:
    """Return a name for this kind of processor; where the system does not tell it, for this machine."""
    traits = [platform.machine(), platform.processor()]
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            first = file.read(1 << 16).partition("\n\n")[0]
        traits += [line for line in first.splitlines() if line.partition(":")[0].strip() in _CPU_FIELDS]
    except OSError:
        traits.append(platform.node())
    return hashlib.sha256("\n".join(traits).encode()).hexdigest()[:12]
