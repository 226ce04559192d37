"""The videos that `action-clip ray` is given: names of the command line, and Parquet files of paths."""

import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase

import pyarrow
import pyarrow.parquet
from pyarrow.fs import FileSelector, FileType

from action_clip.commands.ray.storage import Place, is_storage_address, located, readable, without_file_scheme
from action_clip.commands.videos import list_videos
from action_clip.errors import ActionClipError
from action_clip.system.addresses import is_other_address, redacted
from action_clip.video import is_video_name

_MAGIC = re.compile(r"[*?[]")
_TABLE = ".parquet"
_LOG = logging.getLogger("action_clip")


def find_videos(names: Iterable[str], column: str) -> dict[str, str]:
    """Return what is opened for each video by its path, which is its name in the output: without secrets, and unique.

    Args:
        names: as `commands.videos.list_videos` takes them; addresses of file systems, of a file, a folder or a
            pattern; and what ends in .parquet, a file or a folder of files, here or at such an address.
        column: of the Parquet files, with paths or addresses. Relative paths begin at the file's folder.

    Paths of this machine are absolute in the result, and in the output, unless a Parquet file has them otherwise.

    Raises:
        ActionClipError: there are no videos, or a list, a folder or a Parquet file cannot be read.
    """
    addresses: list[str] = []
    local: list[str] = []
    for name in map(without_file_scheme, names):
        (addresses if is_storage_address(name) or _is_table(name) else local).append(name)
    for name in local:
        if not (is_other_address(name) or os.path.lexists(name) or name[:1] in ("@", "-") or _MAGIC.search(name)):
            raise ActionClipError(f"there is no file or folder {name}: check its name")
    listed = [video.name for video in list_videos(local).videos] if local else []
    found: dict[str, str] = {}
    hidden = 0
    for name in (*listed, *(each for address in addresses for each in _at_address(address))):
        for path, source in _in_table(name, column) if _is_table(name) else [_named(name)]:
            first = found.setdefault(_shown(path), source)
            if first != source and is_other_address(path):
                hidden += 1
            elif first != source:
                raise ActionClipError(
                    f"{path} is {_shown(first)} in one Parquet file of paths and {_shown(source)} in another: do one "
                    "of them into another folder"
                )
    if not found:
        raise ActionClipError("there are no videos: name files, folders, or a Parquet file of paths")
    if hidden:
        _LOG.warning("%d addresses are left out: they differ from others in a password or token alone", hidden)
    return found


def _named(name: str) -> tuple[str, str]:
    """Return the path of a video in the output, with secrets, and what is opened for it."""
    source = name if is_other_address(name) else os.path.abspath(name)
    return source, source


def _is_table(name: str) -> bool:
    return name.partition("?")[0].rstrip("/").lower().endswith(_TABLE)


def _shown(name: str) -> str:
    """Return the name of a video in the output: addresses without secrets, other bytes than UTF-8 with escapes."""
    name = redacted(name.strip()) if is_other_address(name) else name
    return name.encode("utf-8", "backslashreplace").decode()


def _at_address(address: str) -> Iterator[str]:
    """Yield the addresses of the videos that an address stands for: a file, a folder, or a pattern."""
    if _is_table(address) and not _MAGIC.search(address.partition("?")[0]):
        yield address
        return
    place = located(address)
    parts = place.path.rstrip("/").split("/")
    fixed = next((number for number, part in enumerate(parts) if _MAGIC.search(part)), len(parts))
    base, pattern = "/".join(parts[:fixed]), parts[fixed:]
    if not pattern and place.info().type == FileType.File:
        yield address
        return
    count = 0
    for path in _below(place, base):
        below = path[len(base) :].strip("/").split("/")
        if _matches(below, pattern or ["**"]) and (pattern[-1:] not in ([], ["**"]) or is_video_name(path)):
            count += 1
            yield place.address_of(path)
    if not count:
        raise ActionClipError(f"there is no video at {place.name}: name a file, a folder or a pattern with videos")


def _below(place: Place, base: str) -> list[str]:
    """Return the paths of the files in a folder and below it, sorted; without those whose names begin with a dot."""
    with readable(place.name):
        files = place.filesystem.get_file_info(FileSelector(base, recursive=True, allow_not_found=True))
    paths = (file.path for file in files if file.type == FileType.File)
    return sorted(path for path in paths if "/." not in path[len(base) :])


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Return whether a path in parts matches a pattern in parts, of which `**` stands for any number."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_matches(parts[start:], pattern[1:]) for start in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def _in_table(name: str, column: str) -> Iterator[tuple[str, str]]:
    """Yield the paths in a Parquet file, or a folder of them, and what is opened for each."""
    place = located(name)
    if place.info().type == FileType.NotFound:
        raise ActionClipError(f"there is no file {place.name}: check its name")
    with readable(place.name):
        columns = pyarrow.parquet.ParquetDataset(place.path, filesystem=place.filesystem).schema.names
        if not columns:
            raise ActionClipError(f"there is no Parquet file in the folder {place.name}: check its name")
        if column not in columns:
            raise ActionClipError(
                f"{place.name} has no column {column}: name one of {', '.join(columns)} with --path-column"
            )
        paths = pyarrow.parquet.read_table(place.path, columns=[column], filesystem=place.filesystem)[column]
        kind = paths.type.value_type if pyarrow.types.is_dictionary(paths.type) else paths.type
        try:
            if pyarrow.types.is_primitive(kind):  # numbers and times, which can be cast to text
                raise pyarrow.ArrowTypeError(kind)
            paths = paths.cast(pyarrow.string())
        except pyarrow.ArrowException:
            raise ActionClipError(
                f"the column {column} of {place.name} is {paths.type}, not text: name one of paths with --path-column"
            ) from None
    folder = place.path if place.info().type == FileType.Directory else os.path.dirname(place.path)
    for path in paths.to_pylist():
        if path is None or not path.strip():
            raise ActionClipError(f"the column {column} of {place.name} has empty cells: leave these rows out")
        source = without_file_scheme(path)
        is_whole = is_other_address(source) or os.path.isabs(source)
        yield path, source if is_whole else place.address_of(f"{folder}/{path}")
