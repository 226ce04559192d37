"""A web server on this machine that serves files and misbehaves on request."""

import hashlib
import socket
import ssl
import threading
import time
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self

import trustme


@dataclass(frozen=True)
class Fault:
    """How one request is answered; what is not set is as it should be."""

    status: int = 200
    """Anything but 200: that status, and no file."""
    headers: tuple[tuple[str, str], ...] = ()
    without: tuple[str, ...] = ()
    """Headers that are left out."""
    body: bytes | None = None
    """Sent in place of the file's bytes (those asked for)."""
    length: int | None = None
    """What Content-Length says."""
    etag: str | None = None
    ignore_range: bool = False
    ignore_if_range: bool = False
    content_range: str | None = None
    cut_after: int | None = None
    """The connection is cut after so many bytes of the body."""
    before: Callable[[], object] | None = None
    """Called before anything is answered."""
    between_headers: Callable[[], object] | None = None
    """Called when the first headers have been sent."""
    halfway: Callable[[], object] | None = None
    """Called when half of the body has been sent."""


@dataclass
class Resource:
    """A file that is served, and how its next requests go wrong."""

    body: bytes
    etag: str
    faults: deque[Fault]


@dataclass
class FaultServer:
    """A server of files: `with FaultServer() as server: server.add("/a.onnx", b"…")`."""

    certificate: Path | None = None
    """Speak https; the certificate of the authority that vouches for it is written to this file."""
    requests: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)
    """Path and headers of every request so far."""
    resources: dict[str, Resource] = field(default_factory=dict)

    def __enter__(self) -> Self:
        resources, requests = self.resources, self.requests

        class Handler(_Handler):
            def do_GET(self) -> None:
                requests.append((self.path, dict(self.headers)))
                if self.path in resources:
                    self.serve(resources[self.path])
                else:
                    self.send_error(404)

        self._server = _QuietServer(("127.0.0.1", 0), Handler)
        if self.certificate is not None:
            authority = trustme.CA()
            authority.cert_pem.write_to_path(self.certificate)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority.issue_cert("127.0.0.1").configure_cert(context)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        scheme = "http" if self.certificate is None else "https"
        return f"{scheme}://127.0.0.1:{self._server.server_address[1]}"

    def add(self, path: str, body: bytes, faults: Iterable[Fault] = (), etag: str = '"one"') -> None:
        """Serve body at path; the first requests meet the faults, one each, the others are answered well."""
        self.resources[path] = Resource(body, etag, deque(faults))

    def asked(self, header: str) -> list[str | None]:
        """That header of every request so far."""
        return [headers.get(header) for _, headers in self.requests]


class _QuietServer(ThreadingHTTPServer):
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that hang up, which is what they do to a server that misbehaves."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def serve(self, resource: Resource) -> None:
        fault = resource.faults.popleft() if resource.faults else Fault()
        if fault.before is not None:
            fault.before()
        self.close_connection = True
        if fault.status != 200:
            self._head(fault.status, {"Content-Length": "0"}, fault)
            return
        etag = fault.etag or resource.etag
        start = 0
        asked = self.headers.get("Range")
        same = fault.ignore_if_range or self.headers.get("If-Range", etag) == etag
        if asked is not None and same and not fault.ignore_range:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        total = len(resource.body)
        digest = b64encode(hashlib.md5(resource.body).digest()).decode("ascii")
        headers = {"ETag": etag, "Content-Type": "application/octet-stream", "x-goog-hash": f"md5={digest}"}
        if start >= total > 0:
            self._head(416, headers | {"Content-Range": f"bytes */{total}", "Content-Length": "0"}, fault)
            return
        body = resource.body[start:] if fault.body is None else fault.body
        headers["Content-Length"] = str(len(body) if fault.length is None else fault.length)
        if start:
            headers["Content-Range"] = fault.content_range or f"bytes {start}-{total - 1}/{total}"
        self._head(206 if start else 200, headers, fault)
        body = body[: fault.cut_after]
        self.wfile.write(body[: len(body) // 2])
        if fault.halfway is not None:
            fault.halfway()
        self.wfile.write(body[len(body) // 2 :])

    def _head(self, status: int, headers: Mapping[str, str], fault: Fault) -> None:
        self.send_response(status)
        if fault.between_headers is not None:
            self.flush_headers()
            fault.between_headers()
        replaced = {name.lower() for name, _ in fault.headers} | {name.lower() for name in fault.without}
        for name, value in headers.items():
            if name.lower() not in replaced:
                self.send_header(name, value)
        for name, value in fault.headers:
            self.send_header(name, value)
        self.end_headers()


class RawServer:
    """A server that says what it likes: `with RawServer(answer) as url`; `answer` is told when it should end."""

    def __init__(self, answer: Callable[[socket.socket, threading.Event], object]) -> None:
        self._answer = answer
        self._go_on = threading.Event()

    def __enter__(self) -> str:
        self._listening = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()
        return f"http://127.0.0.1:{self._listening.getsockname()[1]}"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._go_on.set()
        self._listening.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while not self._go_on.is_set():
                connection, _ = self._listening.accept()
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(1 << 16)
            self._answer(connection, self._go_on)


def wait_until(condition: Callable[[], object]) -> None:
    """Return once condition() is true; raises TimeoutError where that takes longer than a test may."""
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.005)
