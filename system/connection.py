"""Connecting to other hosts: whether that is allowed, redirects that never leave https, and an end to every wait."""

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
"""How long is waited for a server in all, unless ACTION_CLIP_TIMEOUT says otherwise."""
SLOWEST = 32 << 10
"""Bytes of announced content for which a second more is waited."""
CHUNK = 1 << 16
_CHUNKS_AHEAD = 16
_POLL_S = 0.2  # how soon a wait notices what it is not woken by: on Windows, Ctrl-C
# What a transfer's thread passes on: the answer, its content chunk by chunk, b"" after the last; or what went wrong.
Item: TypeAlias = "requests.Response | bytes | BaseException"


class RedirectError(Exception):
    """The server redirects to where we do not go; the text is the reason."""


class SlowError(Exception):
    """The server takes longer than is waited for it; the text is the reason."""


class WaitBudget:
    """How long servers are waited for, in all, while one thing is fetched; what we do meanwhile does not count.

    That is ACTION_CLIP_TIMEOUT seconds (120), and a second more for every 32 KiB that arrive of content whose length is
    known. So a slow line is no failure, but a byte a second, or a live stream in place of a file, comes to an end.
    """

    def __init__(self, stop: Event | None = None) -> None:
        """Begin with nothing waited.

        Args:
            stop: ends a wait when it is set, for want of budget.

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
        """Wait longer: so many bytes of known length have arrived."""
        self._most_s += size / SLOWEST

    def wait_for(self, queue: "Queue[Item]") -> "Item":
        """The next item.

        Raises:
            SlowError: it does not come in time.
        """
        began = monotonic()
        try:
            while (left_s := self._most_s - self._waited_s - (monotonic() - began)) > 0 and not self._stop.is_set():
                with suppress(Empty):
                    return queue.get(timeout=min(left_s, _POLL_S))
        finally:
            self._waited_s += monotonic() - began
        raise SlowError(f"the server takes longer than {self._most_s:.0f} s in all (ACTION_CLIP_TIMEOUT sets that)")


class Transfer:
    """The answer to a GET request after redirects; a context manager.

    A thread of its own does the waiting, so that Ctrl-C and budget end it whatever the server does: even a silent
    look-up of its name, or headers that never end.

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
    ) -> None:
        """Send the request and wait for the answer's headers.

        Args:
            url: http or https; what begins as https stays https.
            headers: of every request, besides Accept-Encoding: content comes as it is.
            timeout_s: seconds to connect, and between any two bytes.
            budget: in all.
            has_known_length: whether the content's length is known even where the answer does not say it.

        Raises:
            RedirectError: a redirect from https to something else, to neither http nor https, or too many of them.
            SlowError: the budget is at its end.
            requests.RequestException: the request fails.
        """
        self._budget = budget
        self._items: Queue[Item] = Queue(_CHUNKS_AHEAD)
        self._is_closed = Event()
        work = (url, {"Accept-Encoding": "identity", **headers}, timeout_s)
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
        """Bytes of the content, where the answer says that; what comes in chunks ends with the last of them."""
        if "Transfer-Encoding" in self.headers:
            return None
        found = re.fullmatch(r"[0-9]{1,18}", self.headers.get("Content-Length", ""))
        return int(found[0]) if found else None

    @property
    def content_range(self) -> tuple[int, int | None] | None:
        """Where in the whole the content begins, and how long the whole is where the answer says that: of a 206."""
        stated = self.headers.get("Content-Range", "").strip()
        found = re.fullmatch(r"bytes ([0-9]{1,18})-[0-9]{1,18}/(0|[1-9][0-9]{0,17}|\*)", stated)
        return (int(found[1]), None if found[2] == "*" else int(found[2])) if found else None

    @property
    def validator(self) -> str | None:
        """What If-Range can carry: a strong ETag, else the date of the last change."""
        etag = self.headers.get("ETag", "")
        return etag if etag.startswith('"') else self.headers.get("Last-Modified")

    def chunks(self) -> Iterator[bytes]:
        """The content, piece by piece.

        Raises:
            SlowError: the budget is at its end.
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

    def _work(self, url: str, headers: Mapping[str, str], timeout_s: tuple[float, float]) -> None:
        try:
            with _follow(url, headers, timeout_s) as answer:
                self._pass_on(answer)
                for chunk in answer.raw.stream(CHUNK, decode_content=False):
                    if chunk and not self._pass_on(chunk):
                        return
            self._pass_on(b"")
        except BaseException as error:
            self._pass_on(error)

    def _pass_on(self, item: "Item") -> bool:
        """Whether somebody still waits for it."""
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
                # To know what would follow, it would read the whole of a redirect's content, and fail at odd addresses.
                session.get_redirect_target = lambda _: None  # type: ignore[method-assign, assignment]
                response = session.get(url, headers=headers, stream=True, allow_redirects=False, timeout=timeout_s)
        except requests.RequestException:
            raise
        except ValueError as error:  # of the many parsers that an address goes through
            raise requests.exceptions.InvalidURL(str(error)) from error
        if not response.is_redirect:
            return response
        response.close()
        url = _following(url, response.headers["Location"])
    raise RedirectError(f"the server redirects more than {REDIRECTS} times")


def _following(url: str, location: str) -> str:
    """Where a redirect leads, if we go there."""
    # As bytes of a header, whatever their encoding, come out of http.client.
    location = re.sub("[\x80-\xff]", lambda found: f"%{ord(found[0]):02X}", location)
    try:
        following = urljoin(url, location)
        is_allowed = may_follow(url, following)
    except ValueError:
        raise RedirectError(f"the server redirects to {display_address(location)}, which is no address") from None
    if not is_allowed:
        wanted = "https" if urlsplit(url).scheme == "https" else "http or https"
        raise RedirectError(f"the server redirects to {display_address(following)}, which is not {wanted}")
    return following


def failure_reason(error: BaseException) -> tuple[str, bool]:
    """A network library's exception in few words, and whether trying again may help."""
    # Here: who never connects need not wait for them.
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
