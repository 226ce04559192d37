"""Downloading one file over HTTP, retried and continued until it is complete and checked."""

import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, BinaryIO

import requests
import urllib3
from tqdm import tqdm

from action_clip.errors import ActionClipError
from action_clip.models.store.resumable import ResumableFile, WrongContentError
from action_clip.system.addresses import redacted
from action_clip.system.connection import RedirectError, SlowError, Transfer, WaitBudget, failure_reason
from action_clip.system.interrupts import interruptible
from action_clip.system.terminal import no_progress_bars

CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 30.0
ATTEMPTS = 5
"""Failures in a row after which a download is given up; the count begins anew after PROGRESS more bytes."""
PROGRESS = 1 << 20
FIRST_PAUSE_S = 0.5
"""Seconds before the second attempt; doubled after each further failure, unless the server says Retry-After."""
LONGEST_PAUSE_S = 60.0
_FOREVER_S = 1e9
DISK_MARGIN = 64 << 20
"""Bytes that must stay free on the disk."""
SYNC = 64 << 20
"""Bytes after which the file is flushed to the disk, and the free space is checked again."""
RETRIED_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})

pause = time.sleep
_log = logging.getLogger("action_clip")

Headers = requests.structures.CaseInsensitiveDict[str]


class _PermanentError(Exception):
    """Trying again would not help; the text is the reason."""


class _TransientError(Exception):
    """Trying again may help; the text is the reason."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


def download(
    url: str,
    target: Path,
    *,
    size: int | None,
    sha256: str | None,
    most_bytes: int | None = None,
    check: Callable[[Path], object] | None = None,
) -> str:
    """Download a file, and return its sha256 in hexadecimal digits.

    What has arrived before a failure or an interruption is kept and continued by the next call. An md5 in the server's
    `x-goog-hash` header is checked as well.

    Args:
        url: the file's address.
        target: path of the file; its folder exists and is locked by the caller.
        size: bytes of the file, to be checked; None: not known.
        sha256: hash of the file, to be checked; None: not known.
        most_bytes: most bytes that are accepted of a file of unknown length; None: any number.
        check: raises ValueError where the file's format is wrong.

    Raises:
        ActionClipError: the download fails; the message has the URL, the reason, and what to do instead.
    """
    try:
        file = ResumableFile(target, url)
        try:
            return _complete(url, file, size, sha256, most_bytes, check)
        except BaseException:
            if file.received == 0:
                file.discard()
            raise
    except _PermanentError as error:
        reason = str(error)
        cause: Exception = error
    except OSError as error:
        reason = f"{target.parent} cannot be written ({error.strerror or error})"
        cause = error
    raise ActionClipError(
        f"could not download {redacted(url)}: {reason}; put the file into {target.parent} by hand, "
        "or use --model nano, which needs no download"
    ) from cause


def _complete(
    url: str,
    file: ResumableFile,
    size: int | None,
    sha256: str | None,
    most_bytes: int | None,
    check: Callable[[Path], object] | None,
) -> str:
    farthest = file.received
    failures = wrong = 0
    budget = WaitBudget()
    while True:
        try:
            if not file.complete:
                _receive(url, file, size, most_bytes, budget)
            digest = file.check(size, sha256)
            if check is not None:
                file.check_format(check)
            file.publish()
            return digest
        except WrongContentError as error:
            file.discard()
            wrong += 1
            if wrong == 2:
                raise _PermanentError(str(error)) from error
            _log.warning("%s: %s; downloading it again", file.target.name, error)
        except _TransientError as error:
            failures = 1 if file.received > farthest + PROGRESS else failures + 1
            farthest = max(farthest, file.received)
            if failures == ATTEMPTS:
                raise _PermanentError(str(error)) from error
            wait_s = FIRST_PAUSE_S * 2 ** (failures - 1) if error.wait_s is None else error.wait_s
            if wait_s > LONGEST_PAUSE_S:
                raise _PermanentError(f"{error} and asks to wait {wait_s:.0f} s") from error
            _log.warning("%s: %s; trying again in %.1f s", file.target.name, error, wait_s)
            pause(wait_s)


def _receive(url: str, file: ResumableFile, size: int | None, most_bytes: int | None, budget: WaitBudget) -> None:
    """Make one request; on return every byte that the server announced is on the disk."""
    try:
        with _open(url, file, budget, has_known_length=size is not None) as response:
            _begin(response, file, size)
            with (
                file.path.open("ab") as stream,
                tqdm(
                    total=file.total,
                    initial=file.received,
                    unit="B",
                    unit_scale=True,
                    desc=file.target.name,
                    disable=no_progress_bars(),
                ) as bar,
            ):
                _write(response.chunks(), stream, file, most_bytes if size is None else size, bar)
    except SlowError as error:
        kept = "; what has arrived is kept, and the next run goes on from there" if file.received else ""
        raise _PermanentError(f"{error}{kept}") from error
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise _failure(error) from error
    if file.total is not None and file.path.stat().st_size < file.total:
        raise _TransientError("the connection was cut")


def _write(chunks: Iterator[bytes], stream: BinaryIO, file: ResumableFile, most_bytes: int | None, bar: Any) -> None:
    written = synced = stream.tell()
    for chunk in chunks:
        written += len(chunk)
        if file.total is None and most_bytes is not None and written > most_bytes:
            raise _PermanentError(f"the server sends more than {most_bytes} bytes")
        stream.write(chunk)
        bar.update(len(chunk))
        if written - synced >= SYNC:
            _sync(stream)
            _require_disk(file, written)
            synced = written
    # The bytes must be on the disk before the file gets its name, even if the power fails.
    _sync(stream)


def _sync(stream: BinaryIO) -> None:
    stream.flush()
    interruptible(lambda: os.fsync(stream.fileno()))


def _open(url: str, file: ResumableFile, budget: WaitBudget, *, has_known_length: bool) -> Transfer:
    """Return the answer to a request for the bytes still missing, after redirects, none of which leaves https."""
    headers = {"User-Agent": "action_clip"}
    if file.received:
        headers |= {"Range": f"bytes={file.received}-", "If-Range": str(file.validator)}
    try:
        timeout_s = (CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
        return Transfer(url, headers, timeout_s, budget, has_known_length=has_known_length)
    except RedirectError as error:
        raise _PermanentError(str(error)) from error


def _begin(response: Transfer, file: ResumableFile, size: int | None) -> None:
    """Prepare the file for the answer's body, which continues it or starts it again."""
    headers = response.headers
    if response.status_code == 206 and file.received:
        if (
            response.content_range not in ((file.received, None), (file.received, file.total))
            or response.validator not in (None, file.validator)
            or headers.get("Content-Encoding", "identity") != "identity"
        ):
            file.discard()
            raise _TransientError("the server's answer does not continue what was there")
        _require_disk(file, file.received)
        return
    if response.status_code == 416 and file.received:
        file.discard()
        raise _TransientError("the server has no such range")
    if response.status_code in RETRIED_STATUSES:
        raise _TransientError(f"the server answers {response.status_code}", _retry_after(headers))
    if response.status_code != 200:
        raise _PermanentError(f"the server answers {response.status_code} {response.reason}".rstrip())
    if headers.get("Content-Type", "").startswith("text/html"):
        raise _PermanentError("the answer is a web page (a log-in page of the network?)")
    if headers.get("Content-Encoding", "identity") != "identity":
        raise _PermanentError("the server compresses the file")
    total = response.length
    md5 = re.findall(r"md5=([^\s,]+)", headers.get("x-goog-hash", ""))
    if total is None and size is None and not md5 and headers.get("Transfer-Encoding") != "chunked":
        raise _PermanentError("the server does not say how long the file is")
    if total is not None and size is not None and total != size:
        raise _PermanentError(f"the server's file has {total} bytes instead of {size}")
    file.discard()
    file.start(response.validator, total, md5)
    _require_disk(file, 0)


def _require_disk(file: ResumableFile, written: int) -> None:
    """Raise _PermanentError where the disk has no space for the bytes that are not written yet."""
    folder = file.path.parent
    free = shutil.disk_usage(folder).free
    needed = max((file.total or 0) - written, 0) + DISK_MARGIN
    if free < needed:
        raise _PermanentError(
            f"it needs {(needed >> 20) + 1} MiB on the disk of {folder}, where {free >> 20} MiB are free "
            "(ACTION_CLIP_HOME may name another folder)"
        )


def _retry_after(headers: Headers) -> float | None:
    """Return the seconds that the server asks to wait, by a number or a date; None where it does not ask."""
    value = headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return min(float(value), _FOREVER_S)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, LookupError, ArithmeticError):  # the value is no date
        return None


def _failure(error: Exception) -> _PermanentError | _TransientError:
    text, is_passing = failure_reason(error)
    return _TransientError(text) if is_passing else _PermanentError(text)
