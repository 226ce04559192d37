"""Every wait for a server ends, redirects stay on safe ground, and secrets are not shown."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
import urllib3
from fault_server import Fault, FaultServer, RawServer

from action_clip.errors import ActionClipError
from action_clip.system.addresses import redacted
from action_clip.system.connection import RedirectError, SlowError, Transfer, WaitBudget, failure_reason

ROOT = Path(__file__).parents[2]
TIMEOUT_S = (60.0, 60.0)
HEADERS = b"HTTP/1.1 200 OK\r\n"


def silent(client: socket.socket, over: threading.Event) -> None:
    over.wait(60)


def drip(begin: bytes, drop: bytes, pause_s: float = 0.05) -> Callable[[socket.socket, threading.Event], None]:
    """First this, then that again and again."""

    def answer(client: socket.socket, over: threading.Event) -> None:
        client.sendall(begin)
        while not over.wait(pause_s):
            client.sendall(drop)

    return answer


def fetched(url: str, **named: bool) -> bytes:
    with Transfer(url, {}, TIMEOUT_S, WaitBudget(), **named) as transfer:
        return b"".join(transfer.chunks())


ENDLESS = {
    "silence": silent,
    "headers that never end": drip(HEADERS, b"X-More: x\r\n"),
    "a header that never ends": drip(HEADERS + b"X-More: ", b"x"),
    "a status that never ends": drip(b"", b"H"),
    "a byte now and then": drip(HEADERS + b"Content-Length: 1000000\r\n\r\n", b"x"),
    "a live stream": drip(HEADERS + b"\r\n", b"x" * 65536, 0.01),
    "a live stream in chunks": drip(HEADERS + b"Transfer-Encoding: chunked\r\n\r\n", b"5\r\nhello\r\n", 0.01),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_transfers_without_an_end_are_given_up(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setenv("ACTION_CLIP_TIMEOUT", "0.5")
    with (
        RawServer(ENDLESS[kind]) as url,
        pytest.raises(SlowError, match=r"longer than \d+ s in all \(ACTION_CLIP_TIMEOUT"),
    ):
        fetched(url)


@pytest.mark.slow
def test_a_long_transfer_that_goes_on_is_no_slow_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of known length, each 32 KiB are given a second: 20 times the time that there is at first."""
    monkeypatch.setenv("ACTION_CLIP_TIMEOUT", "0.5")
    size = 100 * 65536

    def answer(client: socket.socket, over: threading.Event) -> None:
        client.sendall(HEADERS + f"Content-Length: {size}\r\n\r\n".encode())
        for _ in range(100):
            client.sendall(b"x" * 65536)
            over.wait(0.02)

    with RawServer(answer) as url:
        assert len(fetched(url)) == size


def test_time_between_waits_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACTION_CLIP_TIMEOUT", "1")
    with FaultServer() as server:
        server.add("/a", b"x" * (1 << 21))
        with Transfer(f"{server.url}/a", {}, TIMEOUT_S, WaitBudget()) as transfer:
            chunks = transfer.chunks()
            first = next(chunks)
            threading.Event().wait(1.5)
            assert len(first) + sum(map(len, chunks)) == 1 << 21


@pytest.mark.parametrize("chosen", ["soon", "0", "-1", "nan", "inf", "1e99"])
def test_a_timeout_is_a_number(monkeypatch: pytest.MonkeyPatch, chosen: str) -> None:
    monkeypatch.setenv("ACTION_CLIP_TIMEOUT", chosen)
    with pytest.raises(ActionClipError, match=f"^ACTION_CLIP_TIMEOUT is '{chosen}': make it a number of seconds"):
        WaitBudget()


@pytest.mark.parametrize(
    "location", ["http://[", "http://a]b", "file:///etc/passwd", "ftp://x", "data:,x", "javascript:x", "//[::1"]
)
def test_redirects_to_nowhere(location: str) -> None:
    with FaultServer() as server:
        fault = Fault(302, headers=(("Location", location),))
        server.add("/a", b"", [fault])
        with pytest.raises(RedirectError):
            fetched(f"{server.url}/a")
        assert len(server.requests) == 1


def test_a_redirect_names_no_more_of_data_than_their_beginning() -> None:
    with FaultServer() as server:
        server.add("/a", b"", [Fault(302, headers=(("Location", "data:video/mp4;base64," + "A" * 50_000),))])
        with pytest.raises(RedirectError, match=r"^the server redirects to data:video/mp4;base64,A{18}…, which is not"):
            fetched(f"{server.url}/a")


def test_the_content_of_a_redirect_is_not_read() -> None:
    begin = b"HTTP/1.1 302 Found\r\nLocation: /a\r\n\r\n"
    with RawServer(drip(begin, b"x" * 65536)) as url, pytest.raises(RedirectError, match="more than 5 times"):
        fetched(url)


@pytest.mark.parametrize(
    ("location", "path"),
    [("/é", "/%E9"), ("/\u00c3\u00a9", "/%C3%A9"), ("/%C3%A9", "/%C3%A9")],
)
def test_redirects_to_names_of_any_encoding(location: str, path: str) -> None:
    """Which the server here sends in Latin-1, a byte a letter."""
    with FaultServer() as server:
        server.add("/a", b"", [Fault(302, headers=(("Location", location),))])
        server.add(path, b"found")
        assert fetched(f"{server.url}/a") == b"found"


def test_what_comes_in_chunks_has_their_length() -> None:
    sent = HEADERS + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    with (
        RawServer(lambda client, over: client.sendall(sent)) as url,
        Transfer(url, {}, TIMEOUT_S, WaitBudget()) as transfer,
    ):
        assert b"".join(transfer.chunks()) == b"hello"
    assert transfer.length is None


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (HEADERS + b"X-More: x\r\n" * 200 + b"\r\n", "the server does not answer as HTTP servers do"),
        (b"HTTP/2 200 OK\r\n\r\n", "the server does not answer as HTTP servers do"),
        (b"SSH-2.0-OpenSSH\r\n", "the server does not answer as HTTP servers do"),
        (b"", "the connection was cut"),
        (HEADERS + b"Content-Length: 9\r\n\r\nhello", "the connection was cut"),
        (HEADERS + b"Transfer-Encoding: chunked\r\n\r\n9\r\nhello", "the connection was cut"),
    ],
)
def test_failures_are_described_by_their_cause(sent: bytes, said: str) -> None:
    def answer(client: socket.socket, over: threading.Event) -> None:
        client.sendall(sent)

    errors = (requests.RequestException, urllib3.exceptions.HTTPError)
    with RawServer(answer) as url, pytest.raises(errors) as error:
        fetched(url)
    assert failure_reason(error.value)[0] == said


@pytest.mark.parametrize(
    "url", ["http://[", "http://", "http:///x", "http://a b/", "http://x:99999/", "http://" + "a" * 300]
)
def test_invalid_addresses(url: str) -> None:
    with pytest.raises((requests.RequestException, urllib3.exceptions.HTTPError)):
        fetched(url)


def test_numbers_of_many_digits_in_headers() -> None:
    many = b"9" * 5000
    with RawServer(drip(HEADERS + b"Content-Length: " + many + b"\r\n\r\n", b"x")) as url:
        transfer = Transfer(url, {}, TIMEOUT_S, WaitBudget())
        transfer.close()
    assert transfer.headers["Content-Length"] == many.decode()


def test_content_is_not_unpacked() -> None:
    """Which could make gigabytes of kilobytes."""
    with FaultServer() as server:
        fault = Fault(headers=(("Content-Encoding", "gzip"),), body=b"\x1f\x8bnot unpacked")
        server.add("/a", b"", [fault])
        assert fetched(f"{server.url}/a") == b"\x1f\x8bnot unpacked"
        assert server.asked("Accept-Encoding") == ["identity"]


@pytest.mark.skipif(os.name == "nt", reason="no signals of this kind")
@pytest.mark.parametrize("kind", ["silence", "a byte now and then"])
def test_ctrl_c_ends_a_wait_and_is_a_keyboard_interrupt(kind: str) -> None:
    asked = threading.Event()

    def answer(client: socket.socket, over: threading.Event) -> None:
        asked.set()
        ENDLESS[kind](client, over)

    code = (
        "import sys; from action_clip.system.connection import WaitBudget, Transfer\n"
        "try:\n"
        "    with Transfer(sys.argv[1], {}, (60, 60), WaitBudget()) as transfer:\n"
        "        b''.join(transfer.chunks())\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted')\n"
    )
    with (
        RawServer(answer) as url,
        subprocess.Popen([sys.executable, "-c", code, url], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process,
    ):
        assert asked.wait(60)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=20)[0] == "interrupted\n"
        assert process.returncode == 0


def test_a_transfer_that_is_left_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    with FaultServer() as server:
        server.add("/a", b"x" * (1 << 24))
        for _ in range(3):
            with Transfer(f"{server.url}/a", {}, TIMEOUT_S, WaitBudget()) as transfer:
                next(transfer.chunks())
    # Those of earlier tests, which still end by themselves, are not counted.
    begun = [thread for thread in threading.enumerate() if thread.name == "transfer" and thread not in before]
    for thread in begun:
        thread.join(60)
    assert not [thread for thread in begun if thread.is_alive()]


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://host/a.mp4?x=1#y", "https://host/a.mp4?x=1#y"),
        ("https://ann@host/a.mp4", "https://ann@host/a.mp4"),
        ("https://ann:pass@host/a.mp4", "https://ann:***@host/a.mp4"),
        ("HTTPS://ann:p:a@s@s@host/a@b", "HTTPS://ann:***@host/a@b"),
        ("https://:pass@host/", "https://:***@host/"),
        ("https://host/a?id=3&access_token=abc&x=1", "https://host/a?id=3&access_token=***&x=1"),
        ("https://host/a?X-Amz-Signature=abc;Password=x y", "https://host/a?X-Amz-Signature=***;Password=*** y"),
        ("http://us@er:SECRET@127.0.0.1:1/v", "http://us@er:***@127.0.0.1:1/v"),
        ("http://user:SE CRET@h/v", "http://user:***@h/v"),
        ("http://user:SE/CRET@h/v", "http://user:***@h/v"),
        ("http://user:SE#CRET@h:80/v", "http://user:***@h:80/v"),
        ("http:/user:SECRET@h/v", "http:/user:***@h/v"),
        (" http://user:SECRET@h/v", " http://user:***@h/v"),
        ("http://[::1]:80/a@b?sig=x&key=y", "http://[::1]:80/a@b?sig=***&key=***"),
        ("https://h/a?monkey=1&design=2", "https://h/a?monkey=1&design=2"),
        ("see http://a:b@c and http://d:e@f.", "see http://a:***@c and http://d:***@f."),
        ("/a/b:c@d.mp4", "/a/b:c@d.mp4"),
        ("http://host:8080/a@b", "http://host:8080/a@b"),
    ],
)
def test_secrets_in_addresses_are_not_shown(address: str, shown: str) -> None:
    assert redacted(address) == shown
