"""The video bank: what a model saw of the videos in files, on disk, so that a video is decoded and encoded once."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate
from pathlib import Path
from struct import Struct
from threading import RLock
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np
import xxhash
from numpy.typing import NDArray

from action_clip.errors import ActionClipError
from action_clip.models.store.home import VIDEO_BANK, cache_home
from action_clip.system.addresses import is_address
from action_clip.system.files import require_regular_file
from action_clip.system.forks import reset_in_children

if TYPE_CHECKING:
    from action_clip.models.cache.blob_file import BlobFile

MOST_GB = 2.0
"""Gigabytes (10⁹ bytes) that the file may take, unless ACTION_CLIP_CACHE_GB sets another bound."""
_MARK = "action_clip.py video bank"
# Bytes of each of the three parts of a file that its fingerprint is made of.
_PART = 64 << 10
# Seconds between two writes: what a process loses that is killed. Each waits for the disk a few times.
_EVERY_S = 2.0
# Bytes that wait in memory before they are written at once.
_MOST_WAITING = 4 << 20
# Of a record: version, rows of frame_features or -1, their columns, D, C, how many indices and times, total_frames and
# duration_s. Arrays of these types follow.
_HEADER = Struct("<IiIIIII4xqd")
_VERSION = 1
_TYPES = ("<i8", "<f8", "<f4", "<f4", "<f4")


@dataclass(frozen=True, eq=False)
class KnownVideo:
    """What is kept of V views of a video, one after the other; the key tells V.

    Attributes:
        features: (V · D,) float32.
        frame_features: (V · T, D) float32, the image graph's output; None where frames see each other.
        logits: (V · C,) float32; C = 0 for a zero-shot model.
        indices: of the frames, from 0, clip by clip.
        times_s: their presentation times, in seconds from the first frame of the video; () where they are not known.
        total_frames: of the video.
        duration_s: of the video.
    """

    features: NDArray[np.float32] = field(repr=False)
    frame_features: NDArray[np.float32] | None = field(repr=False)
    logits: NDArray[np.float32] = field(repr=False)
    indices: tuple[int, ...]
    times_s: tuple[float, ...]
    total_frames: int
    duration_s: float


def video_fingerprint(path: str | os.PathLike[str]) -> str | None:
    """Return a text that another file has only where it is a copy with the same time of modification.

    It consists of the file's size, its time of modification, and the XXH3 checksum of its first, middle and last 64
    KiB; the path is not in it. Where it is the same before a video is decoded and afterwards, the file was not written
    meanwhile.

    None for an address, for what is no file with content, such as a pipe, a device or a folder, and for a file that
    cannot be read.
    """
    if is_address(os.fsdecode(path)):
        return None
    digest = xxhash.xxh3_128()
    try:
        require_regular_file(Path(path))
        with open(path, "rb", buffering=0) as file:
            facts = os.fstat(file.fileno())
            for start in (0, (facts.st_size - _PART) // 2, facts.st_size - _PART):
                file.seek(max(start, 0))
                digest.update(file.read(_PART))
    except (OSError, ValueError):  # ValueError: a path with a null character
        return None
    # The files of /proc are said to be empty, and are not.
    return f"{facts.st_size}-{facts.st_mtime_ns}-{digest.hexdigest()}" if facts.st_size else None


def video_bank() -> "VideoBank | None":
    """Return the user's video bank, one object for the whole process; None, after a warning, where there is no home.

    Raises ActionClipError where ACTION_CLIP_CACHE_GB is no number above 0, or ACTION_CLIP_HOME cannot be expanded.
    """
    most_bytes = _most_bytes()
    folder = cache_home()
    return None if folder is None else _bank_at(folder / VIDEO_BANK, most_bytes)


class VideoBank:
    """A map from key to KnownVideo in a BlobFile: no error of the file is raised, and any thread may use it.

    Writes are collected and reach the disk _EVERY_S seconds after the last ones, with the next call, or by `flush`: a
    process that is killed loses a few, and nothing is damaged. A forked child begins with nothing to write. Where the
    folder cannot be written, as in a home that is read-only, the bank is only read, without a warning.
    """

    def __init__(self, path: Path, most_bytes: int) -> None:
        """Choose the file, which is made by the first write, and the bytes that it may take."""
        self.path = path
        self._file = _blob_file(path, most_bytes)
        self.reset_after_fork()
        reset_in_children(self)

    def reset_after_fork(self) -> None:
        """Begin with nothing to write: the parent writes what it has collected."""
        # The garbage collector may close an iterator of results, which flushes, in the middle of any method.
        self._flushing, self._lock = RLock(), RLock()
        self._is_flushing = False
        self._waiting: dict[str, bytes] = {}
        self._waiting_bytes = 0
        self._flushed_s = -math.inf

    def read(self, key: str) -> KnownVideo | None:
        """Return what is kept under this key; None where there is nothing."""
        with self._lock:
            blob = self._waiting.get(key)
        found = _parsed({key: blob}) if blob is not None else self._file.read([key], note_use=False)
        self._flush_if_due()
        return found.get(key)

    def write(self, key: str, video: KnownVideo) -> None:
        """Keep this video, unless it has numbers that are not finite.

        Args:
            key: names all that the record depends on: the file, the graphs, how frames are chosen and preprocessed.
            video: arrays of any memory layout; they are copied.
        """
        blob = _record(video)
        try:
            _video(blob)
        except ValueError:
            return
        with self._lock:
            self._waiting[key] = blob
            self._waiting_bytes += len(blob)
        self._flush_if_due()

    def flush(self) -> None:
        """Write what was collected, if anything."""
        with self._flushing:
            if self._is_flushing:
                return
            self._is_flushing = True
            try:
                with self._lock:
                    blobs = self._take()
                if blobs and _is_writable(self.path.parent):
                    self._file.write(blobs)
                self._file.note_use()
            finally:
                self._is_flushing = False

    def close(self) -> None:
        """Write what was collected; the bank may be used again, and has nothing open between two calls."""
        self.flush()

    def _flush_if_due(self) -> None:
        with self._lock:
            is_due = monotonic() - self._flushed_s >= _EVERY_S or self._waiting_bytes >= _MOST_WAITING
            if is_due:
                self._flushed_s = monotonic()  # of several threads, one writes
        if is_due:
            self.flush()

    def _take(self) -> dict[str, bytes]:
        blobs, self._waiting, self._waiting_bytes = self._waiting, {}, 0
        return blobs


@cache
def _bank_at(path: Path, most_bytes: int) -> VideoBank:
    return VideoBank(path, most_bytes)


def _most_bytes() -> int:
    chosen = os.environ.get("ACTION_CLIP_CACHE_GB", "").strip()
    try:
        most = float(chosen) if chosen else MOST_GB
    except ValueError:
        most = 0.0
    if not 0 < most < 1e9:
        raise ActionClipError(f"ACTION_CLIP_CACHE_GB is '{chosen}': make it a number of gigabytes above 0, such as 2")
    return int(most * 1e9)


def _blob_file(path: Path, most_bytes: int) -> "BlobFile[KnownVideo]":
    from action_clip.models.cache.blob_file import BlobFile, Layout  # sqlite3 takes milliseconds

    layout = Layout(
        name="video bank",
        loss="videos are encoded anew in every run",
        mark=_MARK,
        table="videos",
        key="key",
        blob="record",
        # The record is last: what follows a long blob is read only after it.
        definition=f"""CREATE TABLE videos ( -- {_MARK}, which can be deleted
    space TEXT NOT NULL, key TEXT NOT NULL, used INTEGER NOT NULL, seal BLOB NOT NULL, record BLOB NOT NULL,
    UNIQUE (space, key)
)""",
        settings=("page_size = 4096", "auto_vacuum = INCREMENTAL"),
        use_step_s=3600,
    )
    return BlobFile(path, _MARK, layout, most_bytes, _parsed)


def _is_writable(folder: Path) -> bool:
    """Return whether files can be made in the folder, which is made first where there is none."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def _parsed(blobs: Mapping[str, bytes]) -> dict[str, KnownVideo]:
    return {key: _video(blob) for key, blob in blobs.items()}


def _record(video: KnownVideo) -> bytes:
    """Return the video as bytes: a header with the sizes, and the arrays."""
    frames = video.frame_features
    arrays = (video.indices, video.times_s, video.features, () if frames is None else frames, video.logits)
    header = _HEADER.pack(
        _VERSION,
        *((-1, 0) if frames is None else frames.shape),
        len(video.features),
        len(video.logits),
        len(video.indices),
        len(video.times_s),
        video.total_frames,
        video.duration_s,
    )
    return header + b"".join(np.asarray(array, kind).tobytes() for array, kind in zip(arrays, _TYPES, strict=True))


def _video(record: bytes) -> KnownVideo:
    """Return the video of a record, bit for bit as it was.

    Raises ValueError where the record is not exactly as `_record` makes it, or has a number that is not finite.
    """
    if len(record) < _HEADER.size:
        raise ValueError("a record that is cut off")
    version, rows, columns, width, classes, indices, times, total_frames, duration_s = _HEADER.unpack_from(record)
    counts = (indices, times, width, max(rows, 0) * columns, classes)
    sizes = [count * np.dtype(kind).itemsize for count, kind in zip(counts, _TYPES, strict=True)]
    if version != _VERSION or rows < -1 or times not in (0, indices) or len(record) != _HEADER.size + sum(sizes):
        raise ValueError("a record of another size or version")
    starts = accumulate(sizes, initial=_HEADER.size)
    arrays = [
        np.frombuffer(record, kind, count, start).astype(kind[1:])
        for kind, count, start in zip(_TYPES, counts, starts, strict=False)
    ]
    if not (math.isfinite(duration_s) and all(np.isfinite(array).all() for array in arrays)):
        raise ValueError("a record with numbers that are not finite")
    return KnownVideo(
        features=arrays[2],
        frame_features=None if rows < 0 else arrays[3].reshape(rows, columns),
        logits=arrays[4],
        indices=tuple(arrays[0].tolist()),
        times_s=tuple(arrays[1].tolist()),
        total_frames=total_frames,
        duration_s=duration_s,
    )
