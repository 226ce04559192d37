"""Ctrl-C ends the reading of a video wherever it is, and is a KeyboardInterrupt."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from make_videos import write_numbered

from action_clip.system.interrupts import interruptible
from action_clip.video.ffmpeg_file import ReadStatus, StoppedError

ROOT = Path(__file__).parents[2]
STALL_S = 60.0
# What the machine may be late by.
PATIENCE_S = 20.0
CODE = """
import sys
from action_clip.system import interrupts
from action_clip.video.reader import read_clip
from action_clip.video.sampling import make_sampler
interrupts._PATIENCE_S = 600  # nothing is to be waited for when Python ends
try:
    print("ready", flush=True)
    while True:
        read_clip(sys.argv[1], make_sampler(sys.argv[2], 8, 0), threads=int(sys.argv[3]))
        print("again", flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""

pytestmark = pytest.mark.skipif(os.name == "nt", reason="no signals of this kind")


@contextmanager
def stalling(answers: dict[str, bytes]) -> Iterator[tuple[str, threading.Event]]:
    """A server that says so much to a request for each path, and no more; the event is set when it has said it.

    What is at other paths is answered well.
    """
    over, stalled = threading.Event(), threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(client: socket.socket) -> None:
        with client, suppress(OSError):
            path = client.recv(1 << 16).split(b" ")[1].decode() if answers else ""
            client.sendall(answers.get(path, b""))
            if not answers.get(path, b"").endswith(b"#EXT-X-ENDLIST\n"):
                stalled.set()
                over.wait(STALL_S)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}", stalled
    finally:
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@contextmanager
def reading(
    source: str | Path, kind: str = "uniform", threads: int = 2, **environment: str
) -> Iterator[subprocess.Popen[str]]:
    """A process that reads a video again and again."""
    with subprocess.Popen(
        [sys.executable, "-c", CODE, str(source), kind, str(threads)],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process


def assert_interrupted(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert out.splitlines()[-1] == "interrupted"
    assert err == ""
    assert process.returncode == 0


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n"
HLS = b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\none.ts\n#EXTINF:2,\ntwo.ts\n#EXT-X-ENDLIST\n"
PLAYLIST = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(HLS) + HLS
STALLS = {
    "before it answers": ("http://{}/a.mp4", {"/a.mp4": b""}),
    "in its headers": ("http://{}/a.mp4", {"/a.mp4": OK}),
    "in the content": ("http://{}/a.gif", {"/a.gif": OK + b"\r\nGIF89a"}),
    "before it is secure": ("https://{}/a.mp4", {}),
    "in a playlist": ("http://{}/a", {"/a": OK + b"\r\n" + HLS[:40]}),
    "in a segment": ("http://{}/a", {"/a": PLAYLIST, "/one.ts": OK + b"\r\nG" + bytes(187)}),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["uniform", "keyframes"])
@pytest.mark.parametrize("where", STALLS)
def test_while_a_server_is_silent(where: str, kind: str) -> None:
    address, answers = STALLS[where]
    with stalling(answers) as (host, stalled), reading(address.format(host), kind) as process:
        assert stalled.wait(STALL_S)
        assert_interrupted(process)


@pytest.mark.parametrize("begin", [None, b"", b"some bytes"])
def test_while_nothing_comes_through_a_pipe(tmp_path: Path, begin: bytes | None) -> None:
    (tmp_path / "temporary").mkdir()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with reading(pipe, TMPDIR=str(tmp_path / "temporary")) as process:
        if begin is None:  # nobody opens it
            assert_interrupted(process)
        else:
            with pipe.open("wb") as writer:
                writer.write(begin)
                writer.flush()
                assert_interrupted(process)
    assert os.listdir(tmp_path / "temporary") == []


def test_while_python_looks_for_the_folder_of_temporary_files(tmp_path: Path) -> None:
    code = """
import os, signal, tempfile, time
from action_clip.system.files import draft_folder

unlink = os.unlink

def interrupted(path, **how):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.1)
    unlink(path, **how)

os.unlink = interrupted
try:
    with draft_folder():
        print("made")
except KeyboardInterrupt:
    print("interrupted")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "TMPDIR": str(tmp_path)}, capture_output=True,
        text=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("interrupted\n", "")
    assert os.listdir(tmp_path) == []


def test_when_a_pipe_is_about_to_be_read(tmp_path: Path) -> None:
    """The thread that reads it goes on while its folder is removed."""
    code = """
import os, sys
from action_clip.system import interrupts
from action_clip.video.source import _copied

begin = interrupts.run_in_thread

def interrupted(work, **how):
    begin(work, **how)
    raise KeyboardInterrupt

interrupts.run_in_thread = interrupted
pipe = os.open(sys.argv[1], os.O_RDWR)
for _ in range(300):
    try:
        with _copied(sys.argv[1]):
            pass
    except KeyboardInterrupt:
        os.write(pipe, b"x")
os._exit(0)
"""
    (tmp_path / "temporary").mkdir()
    os.mkfifo(tmp_path / "pipe")
    environment = {**os.environ, "TMPDIR": str(tmp_path / "temporary")}
    command = [sys.executable, "-c", code, str(tmp_path / "pipe")]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=PATIENCE_S)
    assert os.listdir(tmp_path / "temporary") == []


@pytest.mark.parametrize("kind", ["uniform", "keyframes"])
@pytest.mark.parametrize("threads", [1, 4])
def test_while_a_file_is_decoded(tmp_path: Path, kind: str, threads: int) -> None:
    path = write_numbered(tmp_path / "clip.mkv", 200, options={"g": "5", "bf": "0"})
    with reading(path, kind, threads) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "again\n"
        assert_interrupted(process)


def test_work_that_is_interrupted_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    status = ReadStatus()
    begun, ended = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        status.stop.wait(STALL_S)
        ended.set()
        status.check()

    def interrupt(*_: object) -> None:
        assert begun.wait(STALL_S)
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr("action_clip.system.interrupts.wait_for", interrupt)
    with pytest.raises(KeyboardInterrupt):
        interruptible(work, status.stop)
    assert ended.wait(STALL_S)
    with pytest.raises(StoppedError):
        status.check()


def test_what_work_raises_is_raised() -> None:
    def work() -> None:
        raise KeyError("it")

    with pytest.raises(KeyError, match="it"):
        interruptible(work, threading.Event())
    assert interruptible(lambda: 7, threading.Event()) == 7
