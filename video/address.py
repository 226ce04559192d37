"""What is at an address, read at any place, through `connection`: FFmpeg itself never connects."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import urlsplit, urlunsplit

from action_clip.errors import ActionClipError
from action_clip.system.addresses import display_address, may_follow, redacted
from action_clip.system.connection import RedirectError, SlowError, Transfer, WaitBudget, failure_reason
from action_clip.video.kept import IN_MEMORY, Kept, check_room, no_room

URL_TIMEOUT_S = 20.0
"""To connect, and between any two bytes; in all there is `WaitBudget`."""
SKIPPED = 1 << 18
"""What lies between is read where it is no more than so many bytes; to go further takes another request."""
ROOM_STEP = 64 << 20
MOST_UNKNOWN = 2 << 30
"""Bytes of what may never end, as its server does not say how long it is."""
_COMPRESSIONS = {"gzip", "x-gzip", "compress", "x-compress", "deflate", "br", "zstd"}
"""Other encodings, such as `none` or `aws-chunked`, are servers' ways to say that there is none."""


class Address:
    """The bytes at an address; one transfer runs at a time, and what has come is kept.

    Where the server knows no ranges, what comes before a place has to come first: all of it is kept, on the disk where
    it is much. Otherwise only so much is that fits into memory, and what is read again is asked for again.
    """

    def __init__(self, name: str, url: str, budget: WaitBudget, part: str = "") -> None:
        """Remember where to connect.

        Args:
            name: of the video, as it is shown.
            url: http or https.
            budget: with all servers of the video.
            part: the address as it is shown, where it is that of a part of the video.
        """
        self._name = name
        self._part = part
        self._url = url
        self._budget = budget
        self._kept = Kept()
        self._transfer: Transfer | None = None
        self._chunks: Iterator[bytes] = iter(())
        self._at = 0  # where the next chunk is
        self._begun_at = 0
        self._last = (0, b"")
        self._is_known = False  # what follows, by the first answer
        self._size: int | None = None
        self._validator: str | None = None
        self._has_ranges = False

    @property
    def base(self) -> str:
        """The address that others are relative to, without its secrets."""
        parts = urlsplit(self._url)
        return redacted(urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])))

    def part(self, url: str) -> Address:
        """What is at an address that is named here, under the same rules.

        Raises ActionClipError where it is one that we do not go to.
        """
        is_allowed = False
        with suppress(ValueError):
            is_allowed = may_follow(self._url, url)
        if not is_allowed:
            raise ActionClipError(
                f"the video at {self._name} names {display_address(url)}, which is not opened: from https "
                "only https is, from http also http; give the address of a single file"
            )
        mine, other = urlsplit(self._url), urlsplit(url)
        if (other.scheme, other.netloc) == (mine.scheme, mine.netloc.rpartition("@")[2]):
            url = urlunsplit(other._replace(netloc=mine.netloc))
        return Address(self._name, url, self._budget, part=redacted(url))

    def read(self, at: int, size: int) -> bytes:
        """Up to `size` of the bytes from `at` on; none at the end.

        Raises ActionClipError where the server, the connection or the disk fails.
        """
        while self._size is None or at < self._size:
            start, chunk = self._last
            piece = chunk[at - start : at - start + size] if start <= at else b""
            if piece := piece or self._kept.read(at, size):
                return piece
            self._advance(at)
        return b""

    def size(self) -> int:
        """How many bytes there are: as the server says, else what there is when all has come."""
        while self._size is None:
            self._advance(self._at)
        return self._size

    def close(self) -> None:
        """End what is running, and forget what has come."""
        if self._transfer is not None:
            self._transfer.close()
        self._kept.close()
        self._last = (0, b"")

    def _advance(self, at: int) -> None:
        """Receive the next chunk of the running transfer or, where that leads nowhere, of one that begins at `at`."""
        import urllib3

        try:
            too_far = self._has_ranges and at - self._at > SKIPPED
            if self._transfer is None or at < self._at or too_far:
                self._connect(at if self._has_ranges else 0)
            chunk = next(self._chunks, b"")
            if chunk:
                self._take(chunk)
            elif self._size is None:
                self._size = self._at
            elif self._at < self._size:
                raise urllib3.exceptions.ProtocolError
            if self._size == 0 and not self._part:
                raise self._failure("the server sends nothing")
        except (SlowError, RedirectError) as error:
            raise self._failure(error) from error
        except (OSError, ValueError, urllib3.exceptions.HTTPError) as error:  # requests' errors are of the first kind
            text, is_passing = failure_reason(error)
            if not (is_passing and self._has_ranges and self._at > self._begun_at):
                raise self._failure(text) from None  # its text has the address as it is
            self._end_transfer()  # something has come, so the rest is asked for

    def _connect(self, at: int) -> None:
        self._end_transfer()
        headers = {"User-Agent": "action_clip", "Range": f"bytes={at}-"}
        if at and self._validator:
            headers["If-Range"] = self._validator
        answer = Transfer(self._url, headers, (URL_TIMEOUT_S, URL_TIMEOUT_S), self._budget)
        self._transfer = answer
        if answer.status_code not in (200, 206):
            raise self._failure(f"the server answers {answer.status_code} {answer.reason}".rstrip())
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
        # A server may say that it knows ranges, and send everything all the same.
        self._has_ranges = self._has_ranges and start == at
        self._chunks = answer.chunks()
        self._at = self._begun_at = start

    def _end_transfer(self) -> None:
        if self._transfer is not None:
            self._transfer.close()
            self._transfer = None

    def _take(self, chunk: bytes) -> None:
        self._last = (self._at, chunk)
        size = self._kept.size + len(chunk)
        if self._size is None and size > MOST_UNKNOWN:
            raise self._failure(f"it has more than {MOST_UNKNOWN >> 30} GiB, and the server does not say how many")
        if size <= IN_MEMORY or not self._has_ranges:
            if size > IN_MEMORY and size // ROOM_STEP > self._kept.size // ROOM_STEP:
                check_room(self._name, (self._size or size) - self._kept.size)
            try:
                self._kept.add(self._at, chunk)
            except OSError as error:
                raise no_room(self._name) from error
        self._at += len(chunk)

    def _failure(self, why: object) -> ActionClipError:
        what = f"{self._part}: {why}" if self._part else why
        return ActionClipError(
            f"the video at {self._name} could not be read ({what}); check the address and the connection"
        )


class AddressFile:
    """A place in what is at an address, moved by reading and seeking."""

    def __init__(self, address: Address, *, owns: bool = False) -> None:
        """Begin at the start; `owns`: the address is closed with the file."""
        self._address = address
        self._owns = owns
        self._at = 0

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; none at the end."""
        data = self._address.read(self._at, size)
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move, and return the new place; ValueError before the start."""
        at = offset + (0 if whence == os.SEEK_SET else self._at if whence == os.SEEK_CUR else self._address.size())
        if at < 0:
            raise ValueError(at)
        self._at = at
        return at

    def close(self) -> None:
        """Be done with it."""
        if self._owns:
            self._address.close()
