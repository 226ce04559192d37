"""Files at addresses of pyarrow's file systems: s3://, gs://, hdfs:// and others, and files of this machine."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import url2pathname
from uuid import uuid4

import pyarrow
from pyarrow.fs import FileInfo, FileSystem, FileType, LocalFileSystem

from action_clip.errors import ActionClipError
from action_clip.system.addresses import display_address, is_address, is_other_address

_CHUNK = 1 << 20
_ERRORS = (OSError, ValueError, pyarrow.ArrowException)
"""What pyarrow's file systems raise."""
_ADDRESS = re.compile(r"\s*(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>[^/?]*)(?P<path>[^?]*)(?P<query>\?.*=.*)?", re.I)


class Place(NamedTuple):
    """A file or folder, which need not exist.

    Attributes:
        name: as it was given, without secrets, for messages.
        path: in its file system.
        prefix: what comes before `path` in addresses, such as "s3://".
        query: what comes after it.
    """

    name: str
    filesystem: FileSystem
    path: str
    prefix: str = ""
    query: str = ""

    @property
    def is_local(self) -> bool:
        """Whether it is on a file system of this machine."""
        return isinstance(self.filesystem, LocalFileSystem)

    def within(self, name: str) -> str:
        """Return the path of a file in this folder."""
        return f"{self.path.rstrip('/')}/{name}"

    def address_of(self, path: str) -> str:
        """Return the address of another path in the same file system."""
        return f"{self.prefix}{path}{self.query}"

    def info(self) -> FileInfo:
        """Return type, size and time of the file or folder. Raises ActionClipError where they cannot be read."""
        with readable(self.name):
            return self.filesystem.get_file_info(self.path)


def is_storage_address(name: str) -> bool:
    """Return whether a name is an address that is read through pyarrow: not http(s), and no existing file."""
    return is_other_address(name) and not is_address(name) and not os.path.lexists(name)


def without_file_scheme(name: str) -> str:
    """Return the path of a file: address; other names unchanged."""
    match = _ADDRESS.fullmatch(name)
    return url2pathname(match["path"]) if match is not None and match["scheme"].lower() == "file" else name


def located(name: str) -> Place:
    """Return the place of an address or a path.

    Raises ActionClipError for an address of no file system, or whose file system cannot be reached.
    """
    name = without_file_scheme(name)
    if is_address(name):
        raise ActionClipError(f"at {display_address(name)} only videos are read: copy it here, or to s3:// or the like")
    match = _ADDRESS.fullmatch(name)
    if match is None or not is_storage_address(name):
        return Place(name, LocalFileSystem(), os.path.abspath(name))
    scheme, host, query = match["scheme"].lower(), match["host"], match["query"] or ""
    shown = display_address(name)
    with readable(shown):
        filesystem, root = _file_system(f"{scheme}://{host}/{query}")
    root = root.rstrip("/")
    # Keys are taken as they are, as other programs for these addresses do, and not as percent-encoded.
    return Place(shown, filesystem, f"{root}{match['path']}", f"{scheme}://{host}".removesuffix(root), query)


@cache
def _file_system(root: str) -> tuple[FileSystem, str]:
    # Kept, since that of a bucket asks the server where it is.
    found: tuple[FileSystem, str] = FileSystem.from_uri(root)
    return found


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Turn what a file system raises into an ActionClipError: the file or folder `name` cannot be read."""
    try:
        yield
    except _ERRORS as error:
        raise ActionClipError(
            f"{name} cannot be read ({_reason(error)}): check the address, its rights and its server"
        ) from error


@contextmanager
def writable(name: str) -> Iterator[None]:
    """Turn what a file system raises into an ActionClipError: the file or folder `name` cannot be written."""
    try:
        yield
    except _ERRORS as error:
        raise ActionClipError(f"cannot write {name} ({_reason(error)}): check its rights and free space") from error


def _reason(error: Exception) -> str:
    # The first line: where there is no Java for hdfs://, the others are a hundred places where it is not.
    return getattr(error, "strerror", None) or str(error).partition("\n")[0]


def local_copy(address: str, folder: Path) -> Path:
    """Copy the video at an address of a file system into a folder of this machine and return the copy.

    The copy has the time of the original, by which the same video is recognised again.

    Raises ActionClipError where there is no such file, or it cannot be read, or the disk is full.
    """
    from action_clip.video.address import check_disk_space

    place = located(address)
    info = place.info()
    if info.type != FileType.File:
        raise ActionClipError(f"there is no video {place.name}: check the address")
    check_disk_space(place.name, info.size or 0)
    copy = folder / f"{uuid4().hex}{_ending(place.path)}"
    with readable(place.name):
        with place.filesystem.open_input_stream(place.path, compression=None) as source, copy.open("wb") as target:
            shutil.copyfileobj(source, target, _CHUNK)
        if info.mtime_ns is not None:
            os.utime(copy, ns=(info.mtime_ns, info.mtime_ns))
    return copy


def _ending(path: str) -> str:
    ending = re.search(r"\.[A-Za-z0-9]{1,8}$", path)
    return ending[0] if ending else ""


def write_whole(place: Place, name: str, content: Any) -> None:
    """Write a file into the folder `place` under a temporary name, then give it its name.

    Args:
        place: the folder.
        name: of the file; one of that name is replaced.
        content: bytes or a buffer.

    Raises ActionClipError where it cannot be written.
    """
    draft = place.within(f".{name}.{uuid4().hex}.tmp")  # readers of Parquet folders pass over such names
    with writable(f"{name} in {place.name}"):
        try:
            with place.filesystem.open_output_stream(draft, compression=None) as file:
                file.write(content)
            place.filesystem.move(draft, place.within(name))
        except _ERRORS:
            with suppress(*_ERRORS):
                place.filesystem.delete_file(draft)
            raise
