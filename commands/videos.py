"""Which videos --video names: files, folders, patterns, lists of names, names on stdin, and URLs."""

import logging
import os
import re
import stat
import sys
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from fnmatch import fnmatch
from pathlib import Path
from typing import BinaryIO, NamedTuple

from action_clip.errors import ActionClipError
from action_clip.system.addresses import is_address, is_other_address
from action_clip.system.folders import names_in, walk
from action_clip.tokenizer.label_files import COMMENT, unquoted
from action_clip.video import is_video_file

STDIN = "-"
_MOST_NAMES = 256 << 20
"""Most bytes of a list: a million long names."""
_MAGIC = re.compile(r"[*?[]")

_LOG = logging.getLogger("action_clip")


class FileId(NamedTuple):
    """Identifies a regular file, under any of its names; a file that is written again gets another one."""

    device: int
    inode: int
    size: int
    mtime_ns: int


class ListedVideo(NamedTuple):
    """A video: its path or URL as it was given or found; `file` is None for URLs and where there is no regular file."""

    name: str
    file: FileId | None


class Listing:
    """The videos that were found, each once, in the order of their first names.

    Attributes:
        videos: the videos.
        lists: the files of names that were read.
        unreadable: a sentence for each folder that could not be read.
    """

    def __init__(self) -> None:
        self.videos: list[ListedVideo] = []
        self.lists: list[str] = []
        self.unreadable: list[str] = []
        self._seen: set[object] = set()

    def add(self, name: str) -> None:
        """Add a video, unless it is there already, under this name, another path or a link."""
        video = ListedVideo(name, _file_id(name))
        if is_address(name):
            key: object = name.strip()
        else:
            # Some network drives give every file the inode 0.
            key = video.file if video.file is not None and video.file.inode else os.path.abspath(name)
        if key not in self._seen:
            self._seen.add(key)
            self.videos.append(video)


def is_one_video(names: Sequence[str]) -> bool:
    """Return whether they are the name of one file or URL, not of a folder or list; or none, for the sample."""
    return not names or (len(names) == 1 and _kind(names[0]) is _itself)


def list_videos(names: Iterable[str]) -> Listing:
    """Return the videos that the names stand for, each of which is one of these:

    * a file or a URL, whether it is there or not;
    * a folder: all files in it and below it that end in one of VIDEO_EXTENSIONS, sorted. Hidden files and folders are
      left out; links are followed, and each folder is looked at once;
    * a pattern with `*`, `?`, `[…]` or `**`, where no file has it for a name. Folders that it matches are searched; if
      it has no extension, it matches videos only;
    * `@FILE` or `-`, a list of names in a file or on stdin: see `_listed_names`.

    A folder that cannot be read, or a name that stands for no video, does not stop the others: there is a sentence in
    `unreadable`, or a warning in the log.

    Raises:
        ActionClipError: there are no videos at all, or a list cannot be read.
    """
    listing = Listing()
    nothing = []
    for name in names:
        count = 0
        for count, video in enumerate(_kind(name)(name, listing), start=1):  # noqa: B007
            listing.add(video)
        if not count:
            nothing.append(_found_nothing(name))
    for problem in listing.unreadable:
        _LOG.error("error: %s", problem)
    if not listing.videos:
        raise ActionClipError("; ".join(nothing))
    for sentence in nothing:
        _LOG.warning("%s", sentence)
    return listing


def _kind(name: str) -> Callable[[str, Listing], Iterator[str]]:
    """Return the function that yields what the name stands for."""
    if name == STDIN:
        return _in_list
    if is_address(name) or is_other_address(name):
        return _itself
    if os.path.isdir(name):
        return _in_folder
    if not os.path.lexists(name):
        if name.startswith("@"):
            return _in_list
        if _MAGIC.search(name):
            return _matching
    return _itself


def _found_nothing(name: str) -> str:
    kind = _kind(name)
    if kind is _in_folder:
        return f"there is no video in {name} or below it: name a folder with files that end in .mp4, .mkv or the like"
    if kind is _matching:
        return f"there is no video that {name} matches: check the pattern, and that its folder is there"
    where = "stdin" if name == STDIN else name[1:]
    return f"there is no name of a video in {where}: write one a line"


def _itself(name: str, listing: Listing) -> Iterator[str]:
    yield name


def _in_folder(folder: str, listing: Listing) -> Iterator[str]:
    for path, is_folder in walk(folder, listing.unreadable):
        if not is_folder and is_video_file(path):
            yield path


def _matching(pattern: str, listing: Listing) -> Iterator[str]:
    parts: list[str] = []
    for part in Path(pattern).parts:
        if part != "**" or parts[-1:] != ["**"]:
            parts.append(part)
    takes_any_file = os.path.splitext(parts[-1])[1]
    for path in _matches("", parts, listing.unreadable):
        if os.path.isdir(path):
            yield from _in_folder(path, listing)
        elif takes_any_file or is_video_file(path):
            yield path


def _in_list(name: str, listing: Listing) -> Iterator[str]:
    is_stdin = name == STDIN
    if is_stdin and sys.stdin is None:
        raise ActionClipError("there is no stdin to read the names of videos from: name a file, @FILE")
    source = "stdin" if is_stdin else name[1:]
    listing.lists.append("/dev/stdin" if is_stdin else source)
    try:
        with nullcontext(sys.stdin.buffer) if is_stdin else open(source, "rb") as file:
            content = _read(file, source)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ActionClipError(f"the list of videos {source} cannot be read ({reason}): name a text file") from error
    yield from _listed_names(content, source)


def _read(file: BinaryIO, source: str) -> bytes:
    content = file.read(_MOST_NAMES + 1)
    if len(content) > _MOST_NAMES:
        raise ActionClipError(
            f"{source} has more than {_MOST_NAMES >> 20} MiB, which is no list of videos: give a shorter one"
        )
    return content


def _listed_names(content: bytes, source: str) -> list[str]:
    """Return the names in a list of files and URLs, which are taken as they are: they are no patterns and no folders.

    * With a NUL after each: every character counts, and every byte, as the names of files may have any.
    * Otherwise lines, in the encoding of file names, or UTF-16 with a byte-order mark. Spaces around them, double
      quotes around a whole line, empty lines and lines that begin with `# ` are left out.

    Raises:
        ActionClipError: it is no such list, but perhaps a video.
    """
    is_utf16 = content.startswith((BOM_UTF16_LE, BOM_UTF16_BE))
    try:
        if b"\0" in content and not is_utf16:
            names = [os.fsdecode(name) for name in content.removesuffix(b"\0").split(b"\0")]
            if "" in names:
                raise ActionClipError(
                    f"{source} is no list of videos: write a name a line, or a NUL after each; a video itself goes "
                    "into a file or a named pipe"
                )
            return names
        text = content.decode("utf-16") if is_utf16 else os.fsdecode(content)
    except UnicodeDecodeError as error:
        raise ActionClipError(f"the list of videos {source} is not UTF-8 text: save it as UTF-8") from error
    # Lists that were joined have byte-order marks in the middle too.
    lines = (line.removeprefix("\ufeff").strip() for line in re.split("\r\n|\r|\n", text))
    return [unquoted(line) for line in lines if line and not COMMENT.match(line)]


def _matches(folder: str, parts: Sequence[str], unreadable: list[str]) -> Iterator[str]:
    """Yield the paths in the folder ("" for the working folder) that match a pattern in parts, sorted."""
    first, rest = parts[0], parts[1:]
    if first == "**":
        if not rest:
            yield folder or os.curdir
            return
        for path, is_folder in walk(folder, unreadable):
            if is_folder:
                yield from _matches(path, rest, unreadable)
        return
    names: Iterable[str] = [first]
    if _MAGIC.search(first):
        names = [name for name in names_in(folder, unreadable) if fnmatch(name, first)]
        if not first.startswith("."):
            names = [name for name in names if not name.startswith(".")]
    for path in (os.path.join(folder, name) for name in names):
        if not rest:
            if os.path.lexists(path):
                yield path
        elif os.path.isdir(path):
            yield from _matches(path, rest, unreadable)


def _file_id(name: str) -> FileId | None:
    if is_address(name):
        return None
    try:
        status = os.stat(name)
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return FileId(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
