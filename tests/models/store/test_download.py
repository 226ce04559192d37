import _thread
import hashlib
import io
import json
import os
import random
import shutil
import socket
import sys
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import pytest
from fault_server import Fault, FaultServer, RawServer, wait_until

import action_clip.models.store.download
from action_clip.errors import ActionClipError
from action_clip.models.store.download import download
from action_clip.models.store.resumable import remove_stale
from action_clip.system import connection

BODY = random.Random(1).randbytes(20_000)
OTHER = random.Random(2).randbytes(20_000)


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        yield server


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between attempts, which do not take place."""
    waits: list[float] = []
    monkeypatch.setattr(action_clip.models.store.download, "pause", waits.append)
    monkeypatch.setattr(connection, "CHUNK", 500)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return waits


def fetch(server: FaultServer, folder: Path, size: int | None = None, sha256: str | None = None) -> str:
    """Download /a.onnx; whatever happens, its name must stand for the whole file or not be there."""
    target = folder / "a.onnx"
    try:
        return download(server.url + "/a.onnx", target, size=size, sha256=sha256)
    finally:
        assert not target.exists() or target.read_bytes() == BODY


def refusal(server: FaultServer, folder: Path, size: int | None = None, sha256: str | None = None) -> str:
    """The message of a download that fails."""
    with pytest.raises(ActionClipError) as caught:
        fetch(server, folder, size, sha256)
    assert not (folder / "a.onnx").exists()
    assert f"could not download {server.url}/a.onnx: " in str(caught.value)
    assert f"put the file into {folder} by hand, or use --model nano" in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_whole_file(server: FaultServer, tmp_path: Path) -> None:
    server.add("/a.onnx", BODY)
    digest = hashlib.sha256(BODY).hexdigest()
    assert fetch(server, tmp_path, len(BODY), digest) == digest
    assert names(tmp_path) == ["a.onnx"]
    assert server.asked("Range") == [None]
    assert server.asked("Accept-Encoding") == ["identity"]


def test_progress_is_for_people(
    server: FaultServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.add("/a.onnx", BODY, [Fault(), Fault(cut_after=8000)])
    fetch(server, tmp_path)
    assert capsys.readouterr() == ("", "")
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    (tmp_path / "a.onnx").unlink()
    fetch(server, tmp_path)
    assert "a.onnx:" in terminal.getvalue()
    assert "8.00k/20.0k" in terminal.getvalue()
    assert "100%" in terminal.getvalue()


def test_cut_connection_is_continued(server: FaultServer, tmp_path: Path, waits: list[float]) -> None:
    server.add("/a.onnx", BODY, [Fault(cut_after=8000)])
    fetch(server, tmp_path)
    assert server.asked("Range") == [None, "bytes=8000-"]
    assert server.asked("If-Range") == [None, '"one"']
    assert waits == [0.5]
    assert names(tmp_path) == ["a.onnx"]


def test_attempts_start_again_where_bytes_arrive(
    server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(action_clip.models.store.download, "PROGRESS", 1000)
    server.add("/a.onnx", BODY, [Fault(cut_after=2500)] * 7)
    fetch(server, tmp_path)
    assert len(server.requests) == 8


def test_repeating_the_same_bytes_is_no_progress(
    server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(action_clip.models.store.download, "PROGRESS", 1000)
    cuts = [Fault(cut_after=9000, ignore_range=True), Fault(cut_after=2000, ignore_range=True)]
    server.add("/a.onnx", BODY, cuts * 10)
    assert "the connection was cut" in refusal(server, tmp_path)
    assert len(server.requests) == 5


def test_server_that_ignores_range(server: FaultServer, tmp_path: Path) -> None:
    server.add("/a.onnx", BODY, [Fault(cut_after=8000), Fault(ignore_range=True)])
    fetch(server, tmp_path)
    assert server.asked("Range") == [None, "bytes=8000-"]


def test_file_that_changes_between_attempts(server: FaultServer, tmp_path: Path) -> None:
    server.add("/a.onnx", BODY, [Fault(cut_after=8000, body=OTHER, etag='"old"')])
    fetch(server, tmp_path)
    assert server.asked("If-Range") == [None, '"old"']
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "second",
    [
        Fault(ignore_if_range=True, etag='"two"'),
        Fault(content_range="bytes 7999-19999/20000"),
        Fault(content_range="bytes 8000-19999/20001"),
        Fault(content_range="lines 8000-19999/20000"),
        Fault(without=("Content-Range",)),
        Fault(headers=(("Content-Encoding", "gzip"),)),
    ],
)
def test_answer_that_does_not_continue(server: FaultServer, tmp_path: Path, second: Fault) -> None:
    # The wrong bytes would be noticed by their md5 too; here they must not even be asked to.
    server.add("/a.onnx", BODY, [Fault(cut_after=8000, without=("x-goog-hash",)), second])
    fetch(server, tmp_path)
    assert server.asked("Range") == [None, "bytes=8000-", None]


def test_last_modified_stands_in_for_a_weak_etag(server: FaultServer, tmp_path: Path) -> None:
    date = "Wed, 21 Oct 2015 07:28:00 GMT"
    weak = Fault(headers=(("ETag", 'W/"one"'), ("Last-Modified", date)), cut_after=8000)
    server.add("/a.onnx", BODY, [weak])
    fetch(server, tmp_path)
    assert server.asked("If-Range") == [None, date]


def test_without_a_validator_nothing_is_continued(server: FaultServer, tmp_path: Path) -> None:
    server.add("/a.onnx", BODY, [Fault(headers=(("ETag", 'W/"one"'),), cut_after=8000)] * 5)
    refusal(server, tmp_path)
    assert server.asked("Range") == [None] * 5
    assert names(tmp_path) == []


def test_wrong_bytes_are_fetched_once_more(server: FaultServer, tmp_path: Path) -> None:
    server.add("/a.onnx", BODY, [Fault(body=OTHER)])
    fetch(server, tmp_path)
    assert server.asked("Range") == [None, None]


def test_wrong_bytes_twice(server: FaultServer, tmp_path: Path) -> None:
    server.add("/a.onnx", BODY, [Fault(body=OTHER)] * 9)
    assert "md5" in refusal(server, tmp_path)
    assert len(server.requests) == 2
    assert names(tmp_path) == []


def test_wrong_sha256(server: FaultServer, tmp_path: Path) -> None:
    server.add("/a.onnx", BODY)
    message = refusal(server, tmp_path, sha256="0" * 64)
    assert f"the file's sha256 is {hashlib.sha256(BODY).hexdigest()} instead of {'0' * 64}" in message
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("hashes", "good"),
    [
        (["crc32c=AAAAAA==", "md5=RIGHT"], True),
        (["crc32c=AAAAAA==,md5=RIGHT"], True),
        (["crc32c=AAAAAA=="], True),
        (["md5=RIGHT", "md5=1B2M2Y8AsgTpgAmY7PhCfg=="], False),
        (["crc32c=AAAAAA==, md5=1B2M2Y8AsgTpgAmY7PhCfg=="], False),
        (["md5=nonsense"], False),
    ],
)
def test_goog_hash(server: FaultServer, tmp_path: Path, hashes: list[str], good: bool) -> None:
    right = b64encode(hashlib.md5(BODY).digest()).decode()
    headers = tuple(("x-goog-hash", value.replace("RIGHT", right)) for value in hashes)
    server.add("/a.onnx", BODY, [Fault(headers=headers)] * 2)
    if good:
        fetch(server, tmp_path)
    else:
        assert "the server announced" in refusal(server, tmp_path)


def test_md5_of_the_whole_file_after_continuing(server: FaultServer, tmp_path: Path) -> None:
    server.add("/a.onnx", BODY, [Fault(cut_after=8000), Fault(body=OTHER[8000:])])
    fetch(server, tmp_path)
    assert server.asked("Range") == [None, "bytes=8000-", None]


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_refusals_are_not_repeated(server: FaultServer, tmp_path: Path, status: int) -> None:
    server.add("/a.onnx", BODY, [Fault(status=status)])
    assert f"the server answers {status}" in refusal(server, tmp_path)
    assert len(server.requests) == 1


def test_busy_server(server: FaultServer, tmp_path: Path, waits: list[float], caplog: pytest.LogCaptureFixture) -> None:
    busy = Fault(status=503, headers=(("Retry-After", "7"),))
    server.add("/a.onnx", BODY, [Fault(status=503), busy, Fault(status=429), Fault(status=500)])
    fetch(server, tmp_path)
    assert waits == [0.5, 7, 2, 4]
    assert "a.onnx: the server answers 503; trying again in 7.0 s" in caplog.messages


def test_server_that_stays_busy(server: FaultServer, tmp_path: Path, waits: list[float]) -> None:
    server.add("/a.onnx", BODY, [Fault(status=503)] * 9)
    assert "the server answers 503;" in refusal(server, tmp_path)
    assert len(server.requests) == 5
    assert waits == [0.5, 1, 2, 4]


def test_retry_after_a_date(server: FaultServer, tmp_path: Path, waits: list[float]) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=40), usegmt=True)
    server.add("/a.onnx", BODY, [Fault(status=503, headers=(("Retry-After", date),))])
    fetch(server, tmp_path)
    assert waits == [pytest.approx(40, abs=15)]


def test_retry_after_that_is_too_long(server: FaultServer, tmp_path: Path, waits: list[float]) -> None:
    server.add("/a.onnx", BODY, [Fault(status=503, headers=(("Retry-After", "3600"),))])
    assert "the server answers 503 and asks to wait 3600 s" in refusal(server, tmp_path)
    assert waits == []


@pytest.mark.slow
def test_stalls(server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(action_clip.models.store.download, "READ_TIMEOUT_S", 1.0)
    stop = Event()
    server.add("/a.onnx", BODY, [Fault(before=stop.wait), Fault(halfway=stop.wait)])
    try:
        fetch(server, tmp_path)
    finally:
        stop.set()
    assert server.asked("Range")[:3] == [None, None, "bytes=10000-"]


NUMBER = "9" * 5000


@pytest.mark.parametrize(
    ("header", "value", "said"),
    [
        ("Content-Length", NUMBER, None),
        ("Content-Length", "9" * 17, "MiB on the disk of"),
        ("Content-Length", "-1", None),
        ("Content-Range", f"bytes {NUMBER}-{NUMBER}/{NUMBER}", None),
        ("ETag", '"' + NUMBER + '"', None),
        ("Content-Encoding", NUMBER, "the server compresses the file"),
    ],
)
def test_numbers_of_many_digits(server: FaultServer, tmp_path: Path, header: str, value: str, said: str | None) -> None:
    headers = ((header, value),)
    server.add("/a.onnx", BODY, [Fault(cut_after=8000), Fault(headers=headers)] if header == "Content-Range" else [])
    if header != "Content-Range":
        server.add("/a.onnx", BODY, [Fault(headers=headers)])
    if said is None:
        fetch(server, tmp_path, len(BODY))
    else:
        assert said in refusal(server, tmp_path)


@pytest.mark.parametrize(
    ("value", "waited"),
    [
        (NUMBER, None),
        ("99999999999", None),
        ("Fri, 31 Dec 9999 23:59:59 GMT", None),
        ("nan", 0.5),
        ("inf", 0.5),
        ("-5", 0.5),
        ("1e9", 0.5),
        (f"Fri, 31 Dec {NUMBER} 23:59:59 GMT", 0.5),
        (f"Fri, 31 Dec 2027 23:59:59 +{NUMBER}", 0.5),
        ("Fri, 31 Dec 2027 23:59:59 +9999999999", 0.5),
        ("Fri,", 0.5),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("", 0.5),
    ],
)
def test_retry_after_that_is_odd(
    server: FaultServer, tmp_path: Path, waits: list[float], value: str, waited: float | None
) -> None:
    server.add("/a.onnx", BODY, [Fault(status=503, headers=(("Retry-After", value),))])
    if waited is None:
        assert "the server answers 503 and asks to wait " in refusal(server, tmp_path)
        assert waits == []
    else:
        fetch(server, tmp_path)
        assert waits == [waited]


@pytest.mark.parametrize("place", ["http://[", "http://[::1", "https://[v1.x]/", "http://host:99999999/"])
def test_redirect_to_what_is_no_address(server: FaultServer, tmp_path: Path, place: str) -> None:
    server.add("/a.onnx", BODY, [Fault(status=302, headers=(("Location", place),))] * 9)
    message = refusal(server, tmp_path)
    assert "which is no address" in message or "the URL is not valid" in message


def test_passwords_are_not_shown(server: FaultServer, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    away = (("Location", "ftp://you:hidden@host/?token=abcdef"),)
    server.add("/a.onnx", BODY, [Fault(status=503), Fault(status=302, headers=away)])
    with pytest.raises(ActionClipError) as caught:
        download(server.url.replace("//", "//me:s3cret@") + "/a.onnx", tmp_path / "a.onnx", size=None, sha256=None)
    told = f"{caught.value} {caplog.text}"
    assert "//me:***@127.0.0.1" in told
    assert "redirects to ftp://you:***@host/?token=***" in told
    assert not any(word in told for word in ("s3cret", "hidden", "abcdef"))


@pytest.fixture
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACTION_CLIP_TIMEOUT", "1")


def drip(connection: socket.socket, go_on: Event, endless: bytes) -> None:
    """A byte every so often, for as long as anybody listens."""
    with suppress(OSError):
        while not go_on.wait(0.1):
            connection.sendall(endless)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
SLOW = {
    "a silent server": (b"", b""),
    "a byte at a time of the first line": (b"HTTP/1.1 200 ", b"O"),
    "headers that never end": (HEAD, b"X: a\r\n"),
    "continuing for ever": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a byte at a time": (HEAD + b"Content-Length: 20000\r\n\r\n", b"x"),
    "a byte at a time of unknown length": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "a chunk's length that never ends": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
}


@pytest.mark.slow
@pytest.mark.usefixtures("_hurried")
@pytest.mark.parametrize("kind", SLOW)
def test_slow_servers_come_to_an_end(tmp_path: Path, kind: str) -> None:
    beginning, endless = SLOW[kind]

    def answer(connection: socket.socket, go_on: Event) -> None:
        connection.sendall(beginning)
        drip(connection, go_on, endless)

    with RawServer(answer) as url, pytest.raises(ActionClipError) as caught:
        download(url + "/a.onnx", tmp_path / "a.onnx", size=None, sha256=None)
    message = str(caught.value)
    assert f"could not download {url}/a.onnx: " in message
    assert "the server takes longer than 1 s in all (ACTION_CLIP_TIMEOUT sets that)" in message or (
        kind in ("headers that never end", "continuing for ever") and "the connection was cut" in message
    )
    assert "has arrived is kept" not in message
    assert names(tmp_path) == []


@pytest.mark.slow
def test_what_came_slowly_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACTION_CLIP_TIMEOUT", "5")
    said = "what has arrived is kept, and the next run goes on from there"
    head = HEAD + b'ETag: "one"\r\nContent-Length: 20000\r\n\r\n' + BODY[:10_000]

    def answer(connection: socket.socket, go_on: Event) -> None:
        connection.sendall(head)
        go_on.wait()

    with RawServer(answer) as url, pytest.raises(ActionClipError, match=said):
        download(url + "/a.onnx", tmp_path / "a.onnx", size=None, sha256=None)
    (part,) = tmp_path.glob("*.part")
    assert part.read_bytes() == BODY[:10_000]


@pytest.mark.parametrize("size", [None, 50_000])
def test_a_file_of_unknown_length_that_never_ends(tmp_path: Path, size: int | None) -> None:
    """As a live stream: it comes quickly, and would fill the disk."""
    head = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    piece = b"2710\r\n" + bytes(10_000) + b"\r\n"

    def flood(connection: socket.socket, go_on: Event) -> None:
        connection.sendall(head)
        with suppress(OSError):
            while not go_on.is_set():
                connection.sendall(piece)

    said = f"the server sends more than {size or 100_000} bytes"
    with RawServer(flood) as url, pytest.raises(ActionClipError, match=said):
        download(url + "/a.onnx", tmp_path / "a.onnx", size=size, sha256=None, most_bytes=100_000)
    assert names(tmp_path) == []


def test_the_disk_fills_up_meanwhile(server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = [1 << 40, 1 << 40, (64 << 20) - 1]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free.pop(0) if len(free) > 1 else free[0]))
    monkeypatch.setattr(action_clip.models.store.download, "SYNC", 6000)
    server.add("/a.onnx", BODY)
    message = refusal(server, tmp_path)
    assert f"MiB on the disk of {tmp_path}, where 63 MiB are free" in message
    (part,) = tmp_path.glob("*.part")
    assert 12_000 <= part.stat().st_size < len(BODY)


def test_server_that_never_answers(server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(action_clip.models.store.download, "READ_TIMEOUT_S", 0.02)
    stop = Event()
    server.add("/a.onnx", BODY, [Fault(before=stop.wait)] * 3 + [Fault(halfway=stop.wait)] * 2)
    try:
        assert "the server does not answer in time" in refusal(server, tmp_path)
    finally:
        stop.set()


def test_no_server(tmp_path: Path, waits: list[float]) -> None:
    with FaultServer() as server:
        pass
    assert "the server cannot be reached" in refusal(server, tmp_path)
    assert len(waits) == 4


def test_redirect_elsewhere(server: FaultServer, tmp_path: Path) -> None:
    with FaultServer() as elsewhere:
        elsewhere.add("/b.onnx", BODY, [Fault(cut_after=8000)])
        away = Fault(status=302, headers=(("Location", elsewhere.url + "/b.onnx"),))
        server.add("/a.onnx", BODY, [away, away])
        fetch(server, tmp_path)
        assert elsewhere.asked("Range") == [None, "bytes=8000-"]


def test_redirect_in_a_circle(server: FaultServer, tmp_path: Path) -> None:
    server.add("/a.onnx", BODY, [Fault(status=307, headers=(("Location", "/a.onnx"),))] * 20)
    assert "redirects more than 5 times" in refusal(server, tmp_path)
    assert len(server.requests) == 6


def test_redirect_to_a_file(server: FaultServer, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(BODY)
    there = (tmp_path / "secret").as_uri()
    server.add("/a.onnx", BODY, [Fault(status=301, headers=(("Location", there),))])
    assert f"redirects to {there}, which is not http or https" in refusal(server, tmp_path)


def test_https_never_becomes_http(server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = tmp_path / "certificate.pem"
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    monkeypatch.setenv("CURL_CA_BUNDLE", str(certificate))
    with FaultServer(certificate) as secure:
        server.add("/a.onnx", BODY)
        within = Fault(status=302, headers=(("Location", "/b.onnx"),))
        out = Fault(status=302, headers=(("Location", server.url + "/a.onnx"),))
        secure.add("/a.onnx", BODY, [within])
        secure.add("/b.onnx", BODY, [out])
        message = refusal(secure, tmp_path)
        assert f"redirects to {server.url}/a.onnx, which is not https" in message
        assert server.requests == []
        assert [path for path, _ in secure.requests] == ["/a.onnx", "/b.onnx"]
        fetch(secure, tmp_path)


def test_certificate_that_nobody_trusts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    with FaultServer(tmp_path / "certificate.pem") as secure:
        secure.add("/a.onnx", BODY)
        assert "the server's certificate is not trusted" in refusal(secure, tmp_path)
        assert secure.requests == []


def test_content_length_that_is_too_long(server: FaultServer, tmp_path: Path) -> None:
    server.add("/a.onnx", BODY, [Fault(length=20_500)])
    fetch(server, tmp_path)
    # What the lie left cannot be continued, so the third request starts anew.
    assert server.asked("Range") == [None, "bytes=20000-", None]


def test_content_length_that_is_always_too_long(server: FaultServer, tmp_path: Path) -> None:
    server.add("/a.onnx", BODY, [Fault(length=20_500, ignore_range=True)] * 9)
    assert "the connection was cut" in refusal(server, tmp_path)


def test_content_length_that_is_too_short(server: FaultServer, tmp_path: Path) -> None:
    server.add("/a.onnx", BODY, [Fault(length=19_000)] * 2)
    assert "md5" in refusal(server, tmp_path)


def test_size_that_is_not_the_catalogs(server: FaultServer, tmp_path: Path) -> None:
    server.add("/a.onnx", BODY)
    assert "the server's file has 20000 bytes instead of 20001" in refusal(server, tmp_path, size=20_001)
    assert len(server.requests) == 1


def test_unknown_length(server: FaultServer, tmp_path: Path) -> None:
    silent = Fault(without=("Content-Length",))
    server.add("/a.onnx", BODY, [Fault(without=("Content-Length", "x-goog-hash")), silent])
    assert "does not say how long the file is" in refusal(server, tmp_path)
    fetch(server, tmp_path)


def test_unknown_length_cut(server: FaultServer, tmp_path: Path) -> None:
    silent = Fault(without=("Content-Length", "x-goog-hash"), cut_after=12_000)
    server.add("/a.onnx", BODY, [silent, silent])
    assert "the file has 12000 bytes instead of 20000" in refusal(server, tmp_path, size=20_000)


def test_chunked_answer(server: FaultServer, tmp_path: Path) -> None:
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    chunked = (("Transfer-Encoding", "chunked"),)
    without = ("Content-Length", "x-goog-hash")
    server.add(
        "/a.onnx",
        BODY,
        [
            Fault(body=body, headers=chunked, without=without, cut_after=9000),
            Fault(body=body, headers=chunked, without=without),
        ],
    )
    fetch(server, tmp_path)
    assert server.asked("Range") == [None, None]


def test_empty_file(server: FaultServer, tmp_path: Path) -> None:
    server.add("/a.onnx", b"")
    assert "the server sent an empty file" in refusal(server, tmp_path)


def test_web_page_instead_of_a_file(server: FaultServer, tmp_path: Path) -> None:
    page = Fault(body=b"<html>log in</html>", headers=(("Content-Type", "text/html; charset=utf-8"),))
    server.add("/a.onnx", BODY, [page])
    assert "the answer is a web page" in refusal(server, tmp_path)


def test_compressed_answer(server: FaultServer, tmp_path: Path) -> None:
    server.add("/a.onnx", BODY, [Fault(headers=(("Content-Encoding", "gzip"),))])
    assert "the server compresses the file" in refusal(server, tmp_path)


def test_full_disk(server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=len(BODY) + (64 << 20) - 1))
    server.add("/a.onnx", BODY, [Fault(), Fault(cut_after=10)])
    message = refusal(server, tmp_path)
    assert f"it needs 65 MiB on the disk of {tmp_path}, where 64 MiB are free (ACTION_CLIP_HOME" in message
    assert names(tmp_path) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=len(BODY) + (64 << 20)))
    fetch(server, tmp_path)


def test_folder_that_cannot_be_written(server: FaultServer, tmp_path: Path) -> None:
    server.add("/a.onnx", BODY)
    folder = tmp_path / "missing"
    assert f"{folder} cannot be written (No such file or directory)" in refusal(server, folder)


def test_interrupted_run_is_continued(server: FaultServer, tmp_path: Path) -> None:
    def interrupt() -> None:
        wait_until(lambda: sum(path.stat().st_size for path in tmp_path.glob("*.part")) > 0)
        _thread.interrupt_main()

    server.add("/a.onnx", BODY, [Fault(halfway=interrupt)])
    with pytest.raises(KeyboardInterrupt):
        fetch(server, tmp_path)
    (part,) = tmp_path.glob("*.part")
    assert names(tmp_path) == [part.name, "a.onnx.resume.json"]
    arrived = part.stat().st_size
    assert 0 < arrived < len(BODY)
    fetch(server, tmp_path)
    assert server.asked("Range") == [None, f"bytes={arrived}-"]
    assert names(tmp_path) == ["a.onnx"]


def leave(server: FaultServer, folder: Path, body: bytes, **changes: object) -> Path:
    """What a run leaves that was killed, body having arrived."""
    part = folder / "a.onnx.0123abcd.part"
    part.write_bytes(body)
    note: dict[str, object] = {"url": server.url + "/a.onnx", "part": part.name}
    note |= {"validator": '"one"', "total": 20_000, "md5": []}
    (folder / "a.onnx.resume.json").write_text(json.dumps(note | changes))
    return part


def test_part_of_a_killed_run_is_continued(server: FaultServer, tmp_path: Path) -> None:
    leave(server, tmp_path, BODY[:7000])
    server.add("/a.onnx", BODY)
    fetch(server, tmp_path)
    assert server.asked("Range") == ["bytes=7000-"]
    assert names(tmp_path) == ["a.onnx"]


def test_whole_part_of_a_killed_run_needs_no_connection(server: FaultServer, tmp_path: Path) -> None:
    leave(server, tmp_path, BODY)
    fetch(server, tmp_path)
    assert server.requests == []


def test_damaged_part_is_noticed(server: FaultServer, tmp_path: Path) -> None:
    md5 = ["1B2M2Y8AsgTpgAmY7PhCfg=="]
    leave(server, tmp_path, BODY, md5=md5)
    server.add("/a.onnx", BODY)
    fetch(server, tmp_path)
    assert server.asked("Range") == [None]


@pytest.mark.parametrize("changes", [{"url": "http://127.0.0.1/a.onnx"}, {"total": 6000}])
def test_part_that_does_not_fit_is_deleted(server: FaultServer, tmp_path: Path, changes: dict[str, object]) -> None:
    part = leave(server, tmp_path, BODY[:7000], **changes)
    server.add("/a.onnx", BODY)
    fetch(server, tmp_path)
    assert server.asked("Range") == [None]
    assert not part.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"part": "../a.part"},
        {"part": "b.onnx.0123abcd.part"},
        {"part": 1},
        {"total": "x"},
        {"md5": [1]},
        {"validator": 5},
        {"validator": '"one"\r\nRange: bytes=0-0'},
        {"validator": "“one”"},
    ],
)
def test_damaged_note_is_ignored(server: FaultServer, tmp_path: Path, changes: dict[str, object]) -> None:
    leave(server, tmp_path, BODY[:7000], **changes)
    server.add("/a.onnx", BODY)
    fetch(server, tmp_path)
    assert server.asked("Range") == [None]


@pytest.mark.parametrize("note", ['{"url": ' + "[" * 100_000, '{"total": ' + "9" * 5000 + "}", "[]", "not a note"])
def test_invalid_note_is_ignored(server: FaultServer, tmp_path: Path, note: str) -> None:
    leave(server, tmp_path, BODY[:7000])
    (tmp_path / "a.onnx.resume.json").write_text(note)
    server.add("/a.onnx", BODY)
    fetch(server, tmp_path)
    assert server.asked("Range") == [None]


def test_a_part_or_note_that_is_a_link_is_not_written_through(server: FaultServer, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    part = leave(server, folder, b"")
    part.unlink()
    for link in (part, folder / "a.onnx.resume.json"):
        mine = tmp_path / f"mine for {link.name}"
        mine.write_bytes(link.read_bytes() if link.exists() else BODY[:7000])
        link.unlink(missing_ok=True)
        link.symlink_to(mine)
    before = [path.read_bytes() for path in sorted(tmp_path.glob("mine*"))]
    server.add("/a.onnx", BODY)
    fetch(server, folder)
    assert [path.read_bytes() for path in sorted(tmp_path.glob("mine*"))] == before
    assert names(folder) == ["a.onnx"]


def test_stale_parts_are_removed(server: FaultServer, tmp_path: Path) -> None:
    continued = leave(server, tmp_path, BODY[:7000])
    orphan, young = tmp_path / "a.onnx.0000ffff.part", tmp_path / "a.onnx.0000eeee.part"
    theirs = [tmp_path / name for name in ("thesis.part", "a.onnx.mine.part", "b.onnx.0123abcd.part", "my.resume.json")]
    for path in (continued, orphan, young, *theirs):
        path.write_bytes(b"x")
    for path in (continued, orphan, *theirs):
        os.utime(path, (0, 0))
    remove_stale(tmp_path, ["a.onnx"])
    kept = [young.name, *(path.name for path in theirs)]
    assert names(tmp_path) == sorted([continued.name, "a.onnx.resume.json", *kept])
    # Once the file is there, by whatever way, its part is of no use.
    (tmp_path / "a.onnx").write_bytes(BODY)
    remove_stale(tmp_path, ["a.onnx"])
    assert names(tmp_path) == sorted(["a.onnx", *kept])
