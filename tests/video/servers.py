"""Web servers on this machine that answer as a test says."""

import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def serving(answer: Answer, tls: ssl.SSLContext | None = None) -> Iterator[tuple[str, list[str | None]]]:
    """Yield the address of a server that answers so, and the Range headers it was asked with."""
    asked: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers["Range"])
            answer(self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}/my%20clip.mp4?x=é ü", asked
    finally:
        server.shutdown()
        server.server_close()


def send(handler: BaseHTTPRequestHandler, code: int, content: bytes, **headers: str) -> None:
    handler.send_response(code)
    for name, text in headers.items():
        handler.send_header(name.replace("_", "-"), text)
    handler.end_headers()
    try:
        handler.wfile.write(content)
    except ConnectionError:
        handler.close_connection = True


def whole(content: bytes) -> Answer:
    return lambda handler: send(handler, 200, content, Content_Length=str(len(content)))


def ranges(content: bytes) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        start = int((handler.headers["Range"] or "bytes=0-")[6:].split("-")[0])
        span = f"bytes {start}-{len(content) - 1}/{len(content)}"
        part = content[start:]
        send(handler, 206, part, Content_Length=str(len(part)), Content_Range=span, Accept_Ranges="bytes")

    return answer


def files(contents: Mapping[str, bytes], answer: Callable[[bytes], Answer] = whole) -> Answer:
    """Serve these files by the last part of their path."""

    def serve(handler: BaseHTTPRequestHandler) -> None:
        name = handler.path.partition("?")[0].rpartition("/")[2]
        if name in contents:
            answer(contents[name])(handler)
        else:
            send(handler, 404, b"")

    return serve


def beside(address: str, name: str) -> str:
    """The address of another file of the same server."""
    return f"{address.rpartition('/')[0]}/{name}"
