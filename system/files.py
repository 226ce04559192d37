"""Files that are written completely or not at all, texts that are read completely or refused, and mapped files."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import tempfile
import uuid
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator, Mapping, Sequence
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, BinaryIO

from action_clip.errors import ActionClipError
from action_clip.system.interrupts import interruptible

MOST_TEXT = 16 << 20
"""Most bytes of a text file: a million short labels. More of them would take many GB of memory."""
Buffer = bytes | mmap
_drafts: set[Path] = set()


def check_target(path: str | os.PathLike[str]) -> None:
    """Raise ActionClipError if `path` cannot be written; cheap enough to be called before the work begins."""
    target = Path(path)
    if os.path.isdir(target):
        raise ActionClipError(f"cannot write {target}: it is a folder; name a file in it")
    if not os.path.isdir(target.parent):
        raise ActionClipError(f"cannot write {target}: there is no folder {target.parent}; create it first")
    if not os.access(target if os.path.exists(target) else target.parent, os.W_OK):
        raise ActionClipError(f"cannot write {target}: no permission; name a file in a folder of your own")


def check_apart(
    targets: Mapping[str, str | os.PathLike[str]], sources: Mapping[str, Sequence[str | os.PathLike[str]]]
) -> None:
    """Raise ActionClipError where a file that will be written is read too, or written twice, also through links.

    Args:
        targets: the files that will be written, by their names in the message.
        sources: the files that are read, by their names in the message.
    """
    seen: dict[str, str | os.PathLike[str]] = {}
    for name, target in targets.items():
        for other, files in (*((other, [file]) for other, file in seen.items()), *sources.items()):
            if any(_are_one(target, file) for file in files):
                raise ActionClipError(
                    f"{name} names the same file as {other}, {os.fspath(target)}, and would overwrite it: "
                    "name another file"
                )
        seen[name] = target


def _are_one(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    try:
        # Devices and pipes, such as a terminal, may be both read and written.
        return os.path.samefile(one, other) and os.path.isfile(one)
    except (OSError, ValueError):  # one of them is not there
        return os.path.realpath(one) == os.path.realpath(other)


def write_file(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` under a temporary name beside `path`, then give it its name.

    Where `path` is a link, its target is replaced. A device or a pipe, such as /dev/null, cannot be replaced and is
    written directly, as is a file that is open already, such as /dev/stdout.

    Raises ActionClipError: missing folder, no permission, full disk.
    """
    check_target(path)
    with writing(path):
        if (stream := open_stream(path)) is not None:
            with stream:
                stream.write(data)
            return
        with replacing(path) as temporary:
            temporary.write_bytes(data)


@contextlib.contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Raise an OSError of the block as an ActionClipError: the file `path` cannot be written."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise ActionClipError(f"cannot write {os.fspath(path)}: {reason}; name another file") from error


@contextlib.contextmanager
def writing_into(folder: Path) -> Iterator[None]:
    """Raise an OSError of the block as an ActionClipError: nothing can be written into the folder."""
    try:
        yield
    except OSError as error:
        raise ActionClipError(f"{folder} cannot be written ({error.strerror or error}): name another one") from error


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield the path of a draft beside the file, for the block to write, which replaces the file or a link's target.

    Where the block raises, the file stays as it was. Raises OSError where it cannot be replaced.
    """
    target = Path(os.path.realpath(path))
    # Not derived from the target's name: that one may already be as long as the file system allows.
    with draft(target.with_name(f".{uuid.uuid4().hex}.tmp")) as temporary:
        yield temporary
        if target.exists():
            shutil.copymode(target, temporary)
        temporary.replace(target)


def open_stream(path: str | os.PathLike[str]) -> BinaryIO | None:
    """Open a device, a pipe, or a file that is open already, such as /dev/stdout, for writing; None for other paths.

    Raises OSError where it cannot be opened.
    """
    if (descriptor := _descriptor(path)) is not None:
        return os.fdopen(os.dup(descriptor), "wb")
    if os.path.exists(path) and not os.path.isfile(path):
        return open(path, "wb")
    return None


def _descriptor(path: str | os.PathLike[str]) -> int | None:
    """Return the descriptor of /dev/stdout, /dev/fd/3, /proc/self/fd/3 or a link to such a path; None for others."""
    name = os.fspath(path)
    for _ in range(8):
        if match := re.fullmatch(rf"/dev/(?:stdout|stderr)|/(?:dev|proc/(?:self|{os.getpid()}))/fd/(\d{{1,9}})", name):
            return int(match[1]) if match[1] else 1 + name.endswith("err")
        if not os.path.islink(name):
            break
        name = os.path.join(os.path.dirname(name), os.readlink(name))
    return None


@contextlib.contextmanager
def draft(path: Path) -> Iterator[Path]:
    """Yield the path, for a file or folder that the block renames when it is complete; otherwise it is removed."""
    _drafts.add(path)
    try:
        yield path
    finally:
        _remove(path)
        _drafts.discard(path)


def temporary_folder() -> Path:
    """Return the folder for temporary files.

    Python writes a file to see whether it can write there, which an exception, that of Ctrl-C, would leave behind.
    """
    return Path(interruptible(tempfile.gettempdir))


@contextlib.contextmanager
def draft_folder(parent: Path | None = None, prefix: str = "action_clip-") -> Iterator[Path]:
    """Yield a new folder in `parent`, or among the temporary files, that is removed afterwards with its content.

    Raises OSError when it cannot be made.
    """
    with draft((parent or temporary_folder()) / f"{prefix}{uuid.uuid4().hex}") as folder:
        folder.mkdir(mode=0o700)
        yield folder


def remove_drafts() -> None:
    """Remove all drafts: for a process that ends without unwinding its stack."""
    for path in list(_drafts):
        _remove(path)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def read_text(path: str | os.PathLike[str], what: str, most: int = MOST_TEXT) -> str:
    """Return the text of a file or pipe without byte-order marks: UTF-8, or UTF-16 that begins with such a mark.

    Args:
        path: of the file.
        what: what it is, for the error message: "labels file".
        most: bytes that it may have.

    Raises:
        ActionClipError: the file cannot be read, is larger than `most`, or has another encoding.
    """
    name = os.fspath(path)
    try:
        with open(path, "rb") as file:
            content = file.read(most + 1)
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        reason = getattr(error, "strerror", None) or error
        raise ActionClipError(f"the {what} {name} cannot be read ({reason}): name a text file") from error
    if len(content) > most:
        raise ActionClipError(f"the {what} {name} has more than {most >> 20} MiB: give a shorter one")
    try:
        text = content.decode("utf-16" if content.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "utf-8")
    except UnicodeDecodeError as error:
        raise ActionClipError(f"the {what} {name} is not UTF-8 text: save it as UTF-8") from error
    if "\0" in text:  # UTF-16 without a byte-order mark decodes as UTF-8
        raise ActionClipError(f"the {what} {name} is not UTF-8 text: save it as UTF-8")
    # Joined files have marks in the middle, without a line end before them where the file before had none at its end.
    return re.sub("(?<=[^\r\n\ufeff])\ufeff", "\n", text).replace("\ufeff", "")


def require_regular_file(path: Path) -> None:
    """Raise OSError unless the path is a regular file; to be called before it is opened, since opening a pipe waits."""
    if not os.path.isfile(path):
        if os.path.lexists(path):
            raise OSError(errno.EINVAL, "it is no file")
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


@contextlib.contextmanager
def memory_mapped(path: Path) -> Iterator[Buffer]:
    """Yield the content of a file, mapped into memory: only the parts that are used are read from the disk.

    Raises OSError when it cannot be read.
    """
    require_regular_file(path)
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:  # which cannot be mapped
            yield b""
            return
        with mmap(file.fileno(), 0, access=ACCESS_READ) as content:
            yield content


def read_json_object(path: Path, most_bytes: int) -> dict[str, Any]:
    """Return the JSON object in a file of the program's own; {} where there is none, or more than `most_bytes`."""
    try:
        require_regular_file(path)
        content = json.loads(path.read_bytes()) if path.stat().st_size <= most_bytes else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


class LineFile:
    """A file that lines are appended to as they come, in place: whatever ends the work, all of its lines are whole."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Empty the file, or make it; a device or a pipe is opened. Raises ActionClipError where that cannot be."""
        self._path = path
        self._length = 0
        with writing(path):
            stream = open_stream(path)
            self._is_file = stream is None
            self._stream = open(path, "wb", buffering=0) if stream is None else stream  # noqa: SIM115

    def write(self, text: str) -> None:
        """Append whole lines, in UTF-8; where there is no room for all of them, none. Raises ActionClipError."""
        data = text.encode("utf-8", errors="backslashreplace")
        with writing(self._path):
            try:
                rest = memoryview(data)
                while rest:
                    rest = rest[self._stream.write(rest) :]
                self._stream.flush()
            except OSError:
                if self._is_file:
                    self._stream.truncate(self._length)
                raise
        self._length += len(data)

    def close(self) -> None:
        """Close the file. Raises ActionClipError where it cannot be written."""
        with writing(self._path):
            self._stream.close()

    def __enter__(self) -> LineFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
