"""Videos at http addresses, served by well and badly behaved servers on this machine."""

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import trustme
from make_videos import numbered, numbers_in, write_numbered, write_video

import video.packets
import video.source
from errors import ActionClipError
from video.reader import read_clip
from video.sampling import make_sampler

Answer = Callable[[BaseHTTPRequestHandler], None]
eight = make_sampler("uniform", 8, 0)


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


@pytest.fixture
def clip_bytes(tmp_path: Path) -> bytes:
    options = {"g": "20", "bf": "2"}
    return write_numbered(
        tmp_path / "clip.mp4", 100, options=options, container_options={"movflags": "faststart"}
    ).read_bytes()


@pytest.fixture
def secure(tmp_path: Path) -> tuple[ssl.SSLContext, str]:
    """What makes a server speak https, and the file with the certificate to trust it by."""
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    return tls, str(tmp_path / "authority.pem")


@pytest.mark.parametrize("kept_bytes", [2**30, 0])
@pytest.mark.parametrize("server", [whole, ranges])
def test_a_video_at_an_address(
    tmp_path: Path,
    clip_bytes: bytes,
    server: Callable[[bytes], Answer],
    kept_bytes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(video.packets, "KEPT_URL_BYTES", kept_bytes)
    with serving(server(clip_bytes)) as (address, asked):
        clip = read_clip(address, eight)
    assert numbers_in(clip.frames) == list(clip.indices) == [5, 18, 30, 43, 55, 68, 80, 93]
    assert clip.total_frames == 100
    assert np.array_equal(clip.frames, read_clip(tmp_path / "clip.mp4", eight).frames)
    if kept_bytes:
        assert len(asked) == 1


def test_a_server_that_cannot_seek(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 30, (200, 96, 160, 3), np.uint8)
    pictures = [numbered(number) + noise[number] for number in range(200)]
    options = {"g": "50", "crf": "1", "preset": "ultrafast"}
    path = write_video(tmp_path / "clip.mkv", pictures, options=options)
    assert path.stat().st_size > 2**21
    monkeypatch.setattr(video.packets, "KEPT_URL_BYTES", 0)
    with serving(whole(path.read_bytes())) as (address, asked):
        clip = read_clip(address, eight)
    assert numbers_in(clip.frames) == list(clip.indices) == [12, 37, 62, 87, 112, 137, 162, 187]
    assert len(asked) > 1


def test_https_needs_a_certificate_that_is_trusted(
    secure: tuple[ssl.SSLContext, str], clip_bytes: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls, trusted = secure
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    with serving(whole(clip_bytes), tls) as (address, asked):
        with pytest.raises(ActionClipError, match="could not be read"):
            read_clip(address, eight)
        assert asked == []
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", trusted)
        assert read_clip(address, eight).total_frames == 100


def test_https_never_becomes_http(
    secure: tuple[ssl.SSLContext, str], clip_bytes: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls, trusted = secure
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", trusted)
    with serving(whole(clip_bytes)) as (plain, asked), serving(whole(clip_bytes), tls) as (other, _):
        with serving(lambda h: send(h, 302, b"", Location=plain.replace("é ü", "")), tls) as (address, _):
            with pytest.raises(ActionClipError, match=r"redirects to http://127.* which is not https"):
                read_clip(address, eight)
            assert asked == []
        with serving(lambda h: send(h, 302, b"", Location=other.replace("é ü", "")), tls) as (address, _):
            assert read_clip(address, eight).total_frames == 100


def test_a_redirect_that_comes_late_is_not_followed(
    secure: tuple[ssl.SSLContext, str], clip_bytes: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls, trusted = secure
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", trusted)
    with serving(whole(clip_bytes)) as (plain, asked):
        answers: list[Answer] = [
            whole(clip_bytes),
            lambda h: send(h, 302, b"", Location=plain.replace("é ü", "")),
        ]
        with (
            serving(lambda h: answers.pop(0)(h), tls) as (address, _),
            pytest.raises(ActionClipError, match="could not be read"),
        ):
            read_clip(address, eight)
        assert asked == []


def test_offline_means_no_connection(clip_bytes: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACTION_CLIP_OFFLINE", "1")
    with serving(whole(clip_bytes)) as (address, asked):
        with pytest.raises(ActionClipError, match="is an address, and ACTION_CLIP_OFFLINE forbids connecting"):
            read_clip(address, eight)
        assert asked == []


def test_an_address_that_is_not_found() -> None:
    with (
        serving(lambda handler: send(handler, 404, b"")) as (address, _),
        pytest.raises(ActionClipError, match=r"^the video at http.*/my%20clip.mp4\?x=é ü could not .*404"),
    ):
        read_clip(address, eight)


def test_a_server_that_is_not_there() -> None:
    with serving(lambda handler: None) as (address, _):
        pass
    with pytest.raises(ActionClipError, match=r"could not be read \(Connection refused\); check the address"):
        read_clip(address, eight)


@pytest.mark.parametrize("sent", [0, 2000])
def test_a_server_that_stalls(clip_bytes: bytes, sent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video.source, "URL_TIMEOUT_S", 0.3)
    done = threading.Event()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if sent:
            send(handler, 200, clip_bytes[:sent], Content_Length=str(len(clip_bytes)))
            handler.wfile.flush()
        done.wait(20)

    with serving(answer) as (address, _):
        with pytest.raises(ActionClipError, match=r"no answer for 0\.3 seconds"):
            read_clip(address, eight)
        done.set()


def test_a_connection_that_breaks(clip_bytes: bytes) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        send(handler, 200, clip_bytes[: len(clip_bytes) * 3 // 4], Content_Length=str(len(clip_bytes)))
        handler.close_connection = True

    with serving(answer) as (address, _), pytest.raises(ActionClipError, match="could not be read"):
        read_clip(address, eight)
