"""Connecting to other hosts: redirects that never leave https, and a limit to every wait."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from queue import Empty, Full, Queue
from threading import Event, Thread
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeAlias
from urllib.parse import urljoin, urlsplit

from action_clip.errors import ActionClipError
from action_clip.system.addresses import display_address, may_follow

if TYPE_CHECKING:
    import requests

REDIRECTS = 5
WAIT_S = 120.0
"""Seconds that servers are waited for in all, unless ACTION_CLIP_TIMEOUT says otherwise."""
SLOWEST = 32 << 10
"""Bytes of content with a known length that extend the wait by a second."""
CHUNK = 1 << 16
_CHUNKS_AHEAD = 16
_POLL_S = 0.2  # seconds after which a wait notices what does not wake it, such as Ctrl-C on Windows
# What a transfer's thread passes on: the answer, its content chunk by chunk, b"" after the last; or what went wrong.
Item: TypeAlias = "requests.Response | bytes | BaseException"


class RedirectError(Exception):
    """The server redirects to an address that is not followed; the text is the reason."""


class SlowError(Exception):
    """The server takes longer than the wait budget allows; the text is the reason."""


class WaitBudget:
    """How long servers are waited for, in all, while one file is fetched; time between the waits does not count.

    That is ACTION_CLIP_TIMEOUT seconds (120), and a second more for every 32 KiB that arrive of content whose length is
    known: a slow connection does not fail, but a server that sends a byte a second, or a live stream, is given up.
    """

    def __init__(self, stop: Event | None = None) -> None:
        """Start with the whole budget.

        Args:
            stop: ends a wait when it is set.

        Raises:
            ActionClipError: ACTION_CLIP_TIMEOUT is no number of seconds above 0.
        """
        chosen = os.environ.get("ACTION_CLIP_TIMEOUT", "").strip()
        try:
            self._most_s = float(chosen) if chosen else WAIT_S
        except ValueError:
            self._most_s = 0.0
        if not 0 < self._most_s < 1e9:
            raise ActionClipError(f"ACTION_CLIP_TIMEOUT is '{chosen}': make it a number of seconds, such as 600")
        self._waited_s = 0.0
        self._stop = stop or Event()

    def grow(self, size: int) -> None:
        """Extend the budget for `size` bytes of content with a known length that have arrived."""
        self._most_s += size / SLOWEST

    def wait_for(self, queue: "Queue[Item]") -> "Item":
        """Return the next item of the queue.

        Raises:
            SlowError: it does not come in time, or waiting was stopped.
        """
        began = monotonic()
        try:
            while (left_s := self._most_s - self._waited_s - (monotonic() - began)) > 0 and not self._stop.is_set():
                with suppress(Empty):
                    return queue.get(timeout=min(left_s, _POLL_S))
        finally:
            self._waited_s += monotonic() - began
        raise SlowError(f"the server takes longer than {self._most_s:.0f} s in all (ACTION_CLIP_TIMEOUT sets that)")


class WaitLimit(WaitBudget):
    """How long a server is waited for each time: for content that has no end."""

    def __init__(self, stop: Event, most_s: float) -> None:
        """`stop` ends a wait when it is set; `most_s`: seconds."""
        super().__init__(stop)
        self._most_s = most_s

    def grow(self, size: int) -> None:
        """Leave the limit as it is."""

    def wait_for(self, queue: "Queue[Item]") -> "Item":
        """Return the next item of the queue; raise SlowError where it does not come in time, or waiting was stopped."""
        self._waited_s = 0.0
        try:
            return super().wait_for(queue)
        except SlowError:
            raise SlowError(f"no data for {self._most_s:.0f} s") from None


class Transfer:
    """The answer to a GET request after redirects; a context manager.

    A thread of its own does the waiting, so that Ctrl-C and the budget end it whatever the server does: even while its
    name is looked up, or its headers never end.

    Attributes:
        url: where the redirects led.
        status_code, reason, headers: of the answer, as requests has them.
    """

    url: str
    status_code: int
    reason: str
    headers: "requests.structures.CaseInsensitiveDict[str]"

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        timeout_s: tuple[float, float],
        budget: WaitBudget,
        *,
        has_known_length: bool = False,
        chunk: int | None = None,
    ) -> None:
        """Send the request and wait for the answer's headers.

        Args:
            url: http or https; what begins as https stays https.
            headers: sent with every request, beside an Accept-Encoding that asks for uncompressed content.
            timeout_s: seconds to connect, and between any two bytes.
            budget: limits the whole wait.
            has_known_length: whether the content's length is known even where the answer does not say it.
            chunk: bytes of content that are passed on together, where the server does not send it in chunks; None:
                CHUNK.

        Raises:
            RedirectError: a redirect from https to something else, to neither http nor https, or too many of them.
            SlowError: the budget is used up.
            requests.RequestException: the request fails.
        """
        self._budget = budget
        self._items: Queue[Item] = Queue(_CHUNKS_AHEAD)
        self._is_closed = Event()
        work = (url, {"Accept-Encoding": "identity", **headers}, timeout_s, chunk or CHUNK)
        Thread(target=self._work, args=work, name="transfer", daemon=True).start()
        try:
            answer = self._next()
        except BaseException:
            self.close()
            raise
        assert not isinstance(answer, bytes)
        self._answer = answer
        self.url, self.status_code, self.reason = str(answer.url), answer.status_code, answer.reason or ""
        self.headers = answer.headers
        self._is_sized = has_known_length or self.length is not None

    @property
    def length(self) -> int | None:
        """Length of the content in bytes; None where the answer does not state it, as for content in chunks."""
        if "Transfer-Encoding" in self.headers:
            return None
        match = re.fullmatch(r"[0-9]{1,18}", self.headers.get("Content-Length", ""))
        return int(match[0]) if match else None

    @property
    def content_range(self) -> tuple[int, int | None] | None:
        """The Content-Range of an answer 206: offset of the content in the whole, and length of the whole, in bytes.

        The length is None where the answer does not state it; the result is None without a valid Content-Range.
        """
        stated = self.headers.get("Content-Range", "").strip()
        match = re.fullmatch(r"bytes ([0-9]{1,18})-[0-9]{1,18}/(0|[1-9][0-9]{0,17}|\*)", stated)
        return (int(match[1]), None if match[2] == "*" else int(match[2])) if match else None

    @property
    def validator(self) -> str | None:
        """The value for an If-Range header: a strong ETag, else the date of the last change; None without either."""
        etag = self.headers.get("ETag", "")
        return etag if etag.startswith('"') else self.headers.get("Last-Modified")

    def chunks(self) -> Iterator[bytes]:
        """Yield the content in chunks.

        Raises:
            SlowError: the budget is used up.
            requests.RequestException, urllib3.exceptions.HTTPError: the connection fails.
        """
        while chunk := self._next():
            assert isinstance(chunk, bytes)
            if self._is_sized:
                self._budget.grow(len(chunk))
            yield chunk

    def close(self) -> None:
        """End the transfer; without an effect once it has ended."""
        self._is_closed.set()
        # Wakes the thread where it waits for more (urllib3 2.3 and later); else it ends with the timeout.
        with suppress(Exception):
            self._answer.raw.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _next(self) -> "requests.Response | bytes":
        item = self._budget.wait_for(self._items)
        if isinstance(item, BaseException):
            raise item
        return item

    def _work(self, url: str, headers: Mapping[str, str], timeout_s: tuple[float, float], size: int) -> None:
        try:
            with _follow(url, headers, timeout_s) as answer:
                self._pass_on(answer)
                for chunk in answer.raw.stream(size, decode_content=False):
                    if chunk and not self._pass_on(chunk):
                        return
            self._pass_on(b"")
        except BaseException as error:
            self._pass_on(error)

    def _pass_on(self, item: "Item") -> bool:
        """Queue the item, and return True; False when the transfer was closed."""
        while not self._is_closed.is_set():
            with suppress(Full):
                self._items.put(item, timeout=_POLL_S)
                return True
        return False


def _follow(url: str, headers: Mapping[str, str], timeout_s: tuple[float, float]) -> "requests.Response":
    import requests

    for _ in range(REDIRECTS + 1):
        try:
            with requests.Session() as session:
                # Otherwise requests reads the whole content of a redirect, and fails at malformed addresses.
                session.get_redirect_target = lambda _: None  # type: ignore[method-assign, assignment]
                response = session.get(url, headers=headers, stream=True, allow_redirects=False, timeout=timeout_s)
        except requests.RequestException:
            raise
        except ValueError as error:  # from parsers of addresses
            raise requests.exceptions.InvalidURL(str(error)) from error
        if not response.is_redirect:
            return response
        response.close()
        url = _following(url, response.headers["Location"])
    raise RedirectError(f"the server redirects more than {REDIRECTS} times")


def _following(url: str, location: str) -> str:
    """Return the address that a redirect leads to. Raises RedirectError where it is not followed."""
    # http.client decodes the bytes of a header as Latin-1, whatever their encoding is.
    location = re.sub("[\x80-\xff]", lambda match: f"%{ord(match[0]):02X}", location)
    try:
        following = urljoin(url, location)
        is_allowed = may_follow(url, following)
    except ValueError:
        raise RedirectError(f"the server redirects to {display_address(location)}, which is no address") from None
    if not is_allowed:
        allowed = "https" if urlsplit(url).scheme == "https" else "http or https"
        raise RedirectError(f"the server redirects to {display_address(following)}, which is not {allowed}")
    return following


def failure_reason(error: BaseException) -> tuple[str, bool]:
    """Return the cause of a network library's exception in few words, and whether trying again may help."""
    # Imported here, since most runs connect to nothing.
    import socket
    import ssl
    from http.client import HTTPException, IncompleteRead, RemoteDisconnected

    import requests
    import urllib3

    causes = list(_causes(error))

    def caused_by(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in causes)

    if caused_by(requests.exceptions.InvalidURL, urllib3.exceptions.LocationParseError):
        return "the URL is not valid", False
    if caused_by(ssl.SSLCertVerificationError):
        return "the server's certificate is not trusted", False
    if caused_by(requests.exceptions.ProxyError):
        return "the proxy does not work", True
    was_cut = caused_by(RemoteDisconnected, IncompleteRead)
    if caused_by(requests.exceptions.InvalidHeader, HTTPException) and not was_cut:
        return "the server does not answer as HTTP servers do", False
    if caused_by(socket.gaierror):
        return "the host's name cannot be resolved", True
    if caused_by(requests.exceptions.Timeout, urllib3.exceptions.ReadTimeoutError, TimeoutError):
        return "the server does not answer in time", True
    if caused_by(requests.exceptions.ChunkedEncodingError, urllib3.exceptions.ProtocolError):
        return "the connection was cut", True
    return "the server cannot be reached", True


def _causes(error: BaseException) -> Iterator[BaseException]:
    waiting: list[object] = [error]
    seen: list[object] = []
    while waiting:
        cause = waiting.pop()
        if isinstance(cause, BaseException) and cause not in seen:
            seen.append(cause)
            yield cause
            waiting += [*cause.args, getattr(cause, "reason", None), cause.__cause__, cause.__context__]
