"""Random access to the content at a URL, through `connection`: FFmpeg itself never connects."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from action_clip.errors import ActionClipError
from action_clip.system.addresses import display_address, may_follow, redacted
from action_clip.system.connection import RedirectError, SlowError, Transfer, WaitBudget, failure_reason
from action_clip.system.files import temporary_folder

URL_TIMEOUT_S = 20.0
"""Seconds to connect, and between any two bytes; `WaitBudget` limits the whole wait."""
SKIPPED = 1 << 18
"""Bytes: a position up to so far ahead is reached by reading on, one further ahead by another request."""
ROOM_STEP = 64 << 20
"""Bytes after which the free space of the disk is checked again."""
MOST_UNKNOWN = 2 << 30
"""Most bytes of content whose length the server does not state, as it may never end."""
IN_MEMORY = 64 << 20
"""Bytes of content that are cached in memory; more are cached on the disk."""
DISK_MARGIN = 256 << 20
"""Bytes that stay free on the disk of temporary files."""
WITHOUT_END = "multipart/x-mixed-replace"
"""The type of pictures that replace each other, as cameras send them."""
_COMPRESSIONS = {"gzip", "x-gzip", "compress", "x-compress", "deflate", "br", "zstd"}
"""Encodings that compress content. Others, such as `none` or `aws-chunked`, leave it as it is."""


class RemoteContent:
    """The bytes at a URL: one transfer runs at a time, and the bytes received are cached.

    Where the server has no range requests, all bytes before a position have to be received first: everything is cached,
    on disk beyond IN_MEMORY. Otherwise no more than IN_MEMORY is, and other bytes are requested again when they are
    read again.
    """

    def __init__(self, name: str, url: str, patience: WaitBudget, part: str = "") -> None:
        """Make the object; the first read connects.

        Args:
            name: the video's name in messages.
            url: http or https.
            patience: how long all servers of the video are waited for together.
            part: the address in messages where it is that of a part of the video, such as a segment.
        """
        self._name = name
        self._part = part
        self._url = url
        self._patience = patience
        self._cache = ByteCache()
        self._transfer: Transfer | None = None
        self._chunks: Iterator[bytes] = iter(())
        self._at = 0  # offset of the next chunk
        self._begun_at = 0
        self._last = (0, b"")
        self._is_known = False  # whether the first answer has set the attributes below
        self._size: int | None = None
        self._validator: str | None = None
        self._has_ranges = False

    @property
    def base(self) -> str:
        """The URL that others are relative to, without user name and password."""
        parts = urlsplit(self._url)
        return redacted(urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])))

    def part(self, url: str) -> RemoteContent:
        """Return the content at a URL that this content names, under the same rules.

        Raises ActionClipError for a URL that may not be opened.
        """
        is_allowed = False
        with suppress(ValueError):
            is_allowed = may_follow(self._url, url)
        if not is_allowed:
            raise ActionClipError(
                f"the video at {self._name} names {display_address(url)}, which is not opened: from https only "
                "https is, from http also http; give the address of a single file"
            )
        mine, other = urlsplit(self._url), urlsplit(url)
        if (other.scheme, other.netloc) == (mine.scheme, mine.netloc.rpartition("@")[2]):
            url = urlunsplit(other._replace(netloc=mine.netloc))
        return RemoteContent(self._name, url, self._patience, part=redacted(url))

    def anew(self, patience: WaitBudget) -> RemoteContent:
        """Return an object for the same content, with an empty cache and a wait of its own."""
        return RemoteContent(self._name, self._url, patience, self._part)

    def read(self, at: int, size: int) -> bytes:
        """Return up to `size` bytes from the offset `at` on; b"" at the end.

        Raises ActionClipError where the server, the connection or the disk fails.
        """
        while self._size is None or at < self._size:
            start, chunk = self._last
            piece = chunk[at - start : at - start + size] if start <= at else b""
            if piece := piece or self._cache.read(at, size):
                return piece
            self._advance(at)
        return b""

    def size(self) -> int:
        """Return the number of bytes as the server states it; where it does not, all are received and counted.

        Raises ActionClipError as `read` does.
        """
        while self._size is None:
            self._advance(self._at)
        return self._size

    def close(self) -> None:
        """End the transfer, and delete the cache."""
        if self._transfer is not None:
            self._transfer.close()
        self._cache.close()
        self._last = (0, b"")

    def _advance(self, at: int) -> None:
        """Receive the next chunk: of the running transfer where it soon reaches `at`, else of one that begins there."""
        import urllib3

        try:
            too_far = self._has_ranges and at - self._at > SKIPPED
            if self._transfer is None or at < self._at or too_far:
                self._connect(at if self._has_ranges else 0)
            chunk = next(self._chunks, b"")
            if chunk:
                self._cache_chunk(chunk)
            elif self._size is None:
                self._size = self._at
            elif self._at < self._size:
                raise urllib3.exceptions.ProtocolError
            if self._size == 0 and not self._part:
                raise self._failure("the server sends nothing")
        except (SlowError, RedirectError) as error:
            raise self._failure(error) from error
        except (OSError, ValueError, urllib3.exceptions.HTTPError) as error:  # requests' errors are OSErrors
            text, is_passing = failure_reason(error)
            if not (is_passing and self._has_ranges and self._at > self._begun_at):
                raise self._failure(text) from None  # that error's text has the address with its secrets
            self._end_transfer()  # bytes have arrived, so the rest is requested

    def _connect(self, at: int) -> None:
        self._end_transfer()
        headers = {"User-Agent": "action_clip", "Range": f"bytes={at}-"}
        if at and self._validator:
            headers["If-Range"] = self._validator
        answer = Transfer(self._url, headers, (URL_TIMEOUT_S, URL_TIMEOUT_S), self._patience)
        self._transfer = answer
        if answer.status_code not in (200, 206):
            raise self._failure(f"the server answers {answer.status_code} {answer.reason}".rstrip())
        if answer.headers.get("Content-Type", "").lower().startswith(WITHOUT_END):
            raise ActionClipError(f"{self._name} is a live stream, which has no end; watch it with --live")
        encodings = f"{answer.headers.get('Content-Encoding', '')},{answer.headers.get('Transfer-Encoding', '')}"
        if _COMPRESSIONS.intersection(re.findall(r"[^,\s]+", encodings.lower())):
            raise self._failure("the server compresses it")
        self._begin(answer, at)

    def _begin(self, answer: Transfer, at: int) -> None:
        start, size = (answer.content_range or (-1, None)) if answer.status_code == 206 else (0, answer.length)
        validator = answer.validator
        if not self._is_known:
            self._is_known = True
            self._url, self._size, self._validator = answer.url, size, validator
            self._has_ranges = answer.status_code == 206 or answer.headers.get("Accept-Ranges", "").lower() == "bytes"
        if size is None:
            size = self._size
        if start not in (0, at):
            raise self._failure("the server does not send the part that it is asked for")
        if (size, validator) != (self._size, self._validator):
            raise self._failure("the server sends something else now than at first")
        # A server may announce ranges and still send everything.
        self._has_ranges = self._has_ranges and start == at
        self._chunks = answer.chunks()
        self._at = self._begun_at = start

    def _end_transfer(self) -> None:
        if self._transfer is not None:
            self._transfer.close()
            self._transfer = None

    def _cache_chunk(self, chunk: bytes) -> None:
        self._last = (self._at, chunk)
        size = self._cache.size + len(chunk)
        if self._size is None and size > MOST_UNKNOWN:
            raise self._failure(f"it has more than {MOST_UNKNOWN >> 30} GiB, and the server does not say how many")
        if size <= IN_MEMORY or not self._has_ranges:
            if size > IN_MEMORY and size // ROOM_STEP > self._cache.size // ROOM_STEP:
                check_disk_space(self._name, (self._size or size) - self._cache.size)
            try:
                self._cache.add(self._at, chunk)
            except OSError as error:
                raise no_disk_space(self._name) from error
        self._at += len(chunk)

    def _failure(self, why: object) -> ActionClipError:
        what = f"{self._part}: {why}" if self._part else why
        return ActionClipError(
            f"the video at {self._name} could not be read ({what}); check the address and the connection"
        )


class RemoteFile:
    """A binary file object over the content at a URL, with a position of its own."""

    def __init__(self, content: RemoteContent, *, owns: bool = False) -> None:
        """Make a file at the content's start; with `owns`, closing it closes the content."""
        self._content = content
        self._owns = owns
        self._at = 0

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes; b"" at the end. Raises ActionClipError as `RemoteContent.read` does."""
        data = self._content.read(self._at, size)
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position and return it. Raises ValueError for one before the start."""
        at = offset + (0 if whence == os.SEEK_SET else self._at if whence == os.SEEK_CUR else self._content.size())
        if at < 0:
            raise ValueError(at)
        self._at = at
        return at

    def close(self) -> None:
        """Close the file, and the content where it owns it."""
        if self._owns:
            self._content.close()


@dataclass
class _Span:
    start: int
    end: int
    place: int
    """Offset of its first byte in the cache file."""


class ByteCache:
    """A cache of the received bytes of a file by their offsets: they come in any order, and each is kept once."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 closed with what it belongs to
        self._spans: list[_Span] = []  # by start; only the end of a newer one may overlap the next
        self.size = 0

    def add(self, start: int, data: bytes) -> None:
        """Add the bytes at the offset `start`, without the first ones where they are cached already.

        Raises OSError where the disk is full.
        """
        number = bisect_right(self._spans, start, key=lambda span: span.start)
        before = self._spans[number - 1] if number else None
        if before is not None and start < before.end:
            data = data[before.end - start :]
            start = before.end
        if not data:
            return
        self._file.seek(self.size)
        self._file.write(data)
        if before is not None and before.end == start and before.place + start - before.start == self.size:
            before.end += len(data)
        else:
            self._spans.insert(number, _Span(start, start + len(data), self.size))
        self.size += len(data)

    def read(self, start: int, size: int) -> bytes:
        """Return up to `size` consecutive bytes from the offset `start`; b"" where the first one is not cached."""
        number = bisect_right(self._spans, start, key=lambda span: span.start)
        span = self._spans[number - 1] if number else None
        if span is None or start >= span.end:
            return b""
        self._file.seek(span.place + start - span.start)
        return self._file.read(min(size, span.end - start))

    def close(self) -> None:
        """Delete the cached bytes."""
        self._file.close()


def check_disk_space(name: str, size: int) -> None:
    """Raise ActionClipError where the disk of temporary files has no room for `size` more bytes of the video `name`."""
    try:
        has_room = shutil.disk_usage(temporary_folder()).free >= size + DISK_MARGIN
    except OSError:  # there is no folder for them
        has_room = False
    if not has_room:
        raise no_disk_space(name)


def no_disk_space(name: str) -> ActionClipError:
    """Return the error for a video `name` that does not fit on the disk of temporary files."""
    return ActionClipError(
        f"the video {name} has to be copied first, and there is no room for it among the temporary files: make room, "
        "or name another folder with TMPDIR"
    )
