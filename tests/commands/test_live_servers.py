"""Streams of Debian's packages on this machine: they are watched, cut, connected again and ended; and the window."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from shutil import which
from socket import SOCK_DGRAM, SOCK_STREAM
from typing import Any

import pytest
from live_streams import (
    ffmpeg,
    flv_over_rtmp,
    free_port,
    hls,
    mjpeg_over_http,
    mpegts_over_http,
    mpegts_over_udp,
    rtsp_server,
)
from small_models import random_model, save_model

ROOT = Path(__file__).parents[2]
PATIENCE_S = 120.0
ASK = ["-t", "eating", "-t", "läuft", "--window", "0.5"]

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="servers of Debian")]

Server = Callable[[], AbstractContextManager[Any]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_model(random_model(1, 4, False), tmp_path_factory.mktemp("model"), frames=4))


@contextmanager
def folder_server(folder: Path) -> Iterator[str]:
    """The address of the files in a folder."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def streams(kind: str) -> tuple[Server, str]:
    """What starts a server, again and again, and its address."""
    port = free_port(SOCK_DGRAM if kind == "udp" else SOCK_STREAM)
    return {
        "rtsp": (partial(rtsp_server, port, "secret"), f"rtsp://user:secret@127.0.0.1:{port}/live"),
        "udp": (partial(ffmpeg, *mpegts_over_udp(port)), f"udp://127.0.0.1:{port}"),
        "http": (partial(ffmpeg, *mpegts_over_http(port)), f"http://user:secret@127.0.0.1:{port}/live.ts"),
        "rtmp": (partial(ffmpeg, *flv_over_rtmp(port)), f"rtmp://user:secret@127.0.0.1:{port}/live/camera"),
        "mjpeg": (partial(ffmpeg, *mjpeg_over_http(port)), f"http://127.0.0.1:{port}/camera"),
    }[kind]


class Watching:
    """The command, watching; it is killed at the end.

    Attributes:
        process: its process.
        notes: what it has written to stderr so far.
    """

    def __init__(self, *arguments: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-u", str(ROOT / "action_clip.py"), *arguments],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.notes: list[str] = []
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()
        self._watchdog = threading.Timer(2 * PATIENCE_S, self.process.kill)
        self._watchdog.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.notes.extend(self.process.stderr)

    def __enter__(self) -> "Watching":
        return self

    def __exit__(self, *_: object) -> None:
        self._watchdog.cancel()
        self.process.kill()
        self.process.wait()
        self._reading.join(PATIENCE_S)

    def has_noted(self, text: str) -> bool:
        """Whether it has said so on stderr."""
        return any(text in note for note in self.notes)

    def wait_until(self, is_so: Callable[[], object]) -> None:
        """Wait while it runs."""
        end = time.monotonic() + PATIENCE_S
        while not is_so():
            assert self.process.poll() is None, self.notes
            assert time.monotonic() < end, self.notes
            time.sleep(0.1)

    def answer(self) -> dict[str, Any]:
        """The next line of JSON."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.notes
        found: dict[str, Any] = json.loads(line)
        return found

    def end(self, kind: signal.Signals = signal.SIGINT) -> tuple[int, str]:
        """The exit code after a signal, and the rest of stdout."""
        self.process.send_signal(kind)
        assert self.process.stdout is not None
        out = self.process.stdout.read()
        return self.process.wait(PATIENCE_S), out


def has_lines(path: Path, count: int) -> bool:
    """Whether there are so many lines in a file so far."""
    return path.exists() and path.read_text().count("\n") >= count


@contextmanager
def watching(kind: str, model: str, *options: str) -> Iterator[tuple[Watching, AbstractContextManager[Any], Server]]:
    """The command, watching a server, which it connects to as soon as it can."""
    serve, address = streams(kind)
    with ExitOnce(serve) as server:
        for _ in range(20):  # HTTP servers of ffmpeg say nothing when they are ready
            with Watching("--live", address, "-m", model, *ASK, "--format", "json", *options) as command:
                try:
                    command.answer()
                except AssertionError:
                    if any(re.search("cannot be reached|refused", note) for note in command.notes):
                        continue
                    raise
                yield command, server, serve
                return
        raise AssertionError("it never connected")


class ExitOnce:
    """A context manager that may be left before its block ends."""

    def __init__(self, serve: Server) -> None:
        self._server = serve()
        self._is_left = False

    def __enter__(self) -> "ExitOnce":
        self._server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        if not self._is_left:
            self._is_left = True
            self._server.__exit__(None, None, None)


@pytest.mark.parametrize("kind", ["rtsp", "rtmp", "udp", "http", "mjpeg"])
def test_a_stream_is_watched_cut_and_connected_again(kind: str, model: str) -> None:
    with watching(kind, model) as (command, server, serve):
        before = [command.answer() for _ in range(2)]
        server.__exit__(None, None, None)
        if kind != "udp":
            command.wait_until(lambda: command.has_noted("connecting again"))
        last = before[-1]
        with serve():
            after = command.answer()
            while after["start_s"] <= last["end_s"] + 1 or (kind != "udp" and not command.has_noted("connected again")):
                after = command.answer()
            code, _ = command.end()
    for each in (*before, after):
        assert each["frame_times_s"] == sorted(each["frame_times_s"])
        assert each["end_s"] - each["start_s"] == pytest.approx(0.5)
        assert len(each["predictions"]) == 2
        assert each["latency_s"] >= 0
    assert after["time"] >= last["time"]
    assert code == 0
    if kind != "udp":
        assert any(note.endswith("connecting again in 1 s\n") for note in command.notes)
    assert "secret" not in "".join([*command.notes, *map(json.dumps, before)])


def test_a_signal_ends_it_with_whole_lines_and_0(model: str, tmp_path: Path) -> None:
    kinds = [signal.SIGINT, signal.SIGTERM]
    with ExitStack() as resources:
        watched = []
        for kind in kinds:  # both at once, which takes half the time
            serve, address = streams("udp")
            resources.enter_context(serve())
            output = tmp_path / f"{kind.name}.jsonl"
            options = ["-m", model, *ASK, "--format", "json", "--output", str(output)]
            watched.append((kind, address, output, resources.enter_context(Watching(address, *options))))
        for kind, address, output, command in watched:
            command.wait_until(lambda output=output: has_lines(output, 3))  # type: ignore[misc]
            assert command.end(kind) == (0, ""), kind
            text = output.read_text()
            assert text.endswith("\n")
            assert all(json.loads(line)["video"] == address for line in text.splitlines())
            assert not [note for note in command.notes if "error" in note]


def test_a_stream_that_ends_ends_the_command(model: str) -> None:
    port = free_port()
    arguments = mpegts_over_http(port)
    with ffmpeg("-t", "3", *arguments):
        for _ in range(20):
            address = f"http://127.0.0.1:{port}/live.ts"
            with Watching("--live", address, "-m", model, *ASK, "--format", "json") as command:
                assert command.process.stdout is not None
                out = command.process.stdout.read()
                code = command.process.wait(PATIENCE_S)
            if code == 0:
                break
    assert code == 0
    assert json.loads(out.splitlines()[-1])["end_s"] > 2
    assert not [note for note in command.notes if "connecting again" in note]


def test_a_live_playlist(model: str, tmp_path: Path) -> None:
    with ffmpeg(*hls(tmp_path)), folder_server(tmp_path) as address:
        playlist = tmp_path / "live.m3u8"
        end = time.monotonic() + PATIENCE_S
        while not playlist.exists() or playlist.read_text().count("#EXTINF") < 2:
            assert time.monotonic() < end
            time.sleep(0.05)
        with Watching("--live", f"{address}/live.m3u8?token=hidden", "-m", model, *ASK, "--format", "json") as command:
            found = [command.answer() for _ in range(9)]  # the playlist was read again
            assert command.end()[0] == 0
        with Watching(f"{address}/live.m3u8", "-m", model, *ASK) as command:
            assert command.process.wait(PATIENCE_S) == 1
    assert found[0]["video"] == f"{address}/live.m3u8?token=***"
    assert found[-1]["end_s"] > 2
    assert "is a live stream, a playlist without an end; watch it with --live" in "".join(command.notes)


def test_a_recorded_playlist_is_played_to_its_end(model: str, tmp_path: Path) -> None:
    with ffmpeg("-t", "2", *hls(tmp_path), is_live=False) as process:
        process.wait(PATIENCE_S)
    with (
        folder_server(tmp_path) as address,
        Watching("--live", f"{address}/live.m3u8", "-m", model, *ASK, "--format", "json") as command,
    ):
        assert command.process.stdout is not None
        answers = [json.loads(line) for line in command.process.stdout]
        assert command.process.wait(PATIENCE_S) == 0
    assert answers[-1]["end_s"] == pytest.approx(2)


def test_pictures_that_replace_each_other_are_no_video(model: str) -> None:
    port = free_port()
    with ffmpeg(*mjpeg_over_http(port)):
        for _ in range(20):
            with Watching(f"http://127.0.0.1:{port}/camera", "-m", model, *ASK) as command:
                assert command.process.wait(PATIENCE_S) == 1
            if "cannot be reached" not in "".join(command.notes):
                break
    assert "is a live stream, which has no end; watch it with --live" in "".join(command.notes)


def test_a_server_that_refuses(model: str) -> None:
    port = free_port()
    with rtsp_server(port, "secret"):
        address = f"rtsp://user:wrong@127.0.0.1:{port}/live"
        with Watching(address, "-m", model, *ASK) as command:
            assert command.process.wait(PATIENCE_S) == 1
    assert re.search(r"rtsp://user:\*\*\*@.* could not be opened \(the server answers 401", "".join(command.notes))
    assert "wrong" not in "".join(command.notes)


@pytest.fixture
def display() -> Iterator[str]:
    """A display without a screen."""
    if which("Xvfb") is None or which("xdotool") is None:
        pytest.skip("Xvfb or xdotool is not installed")
    command = ["Xvfb", "-displayfd", "1", "-screen", "0", "1024x768x24", "-nolisten", "tcp"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        try:
            yield f":{server.stdout.readline().strip()}"
        finally:
            server.kill()


def xdotool(display: str, *arguments: str) -> str:
    environment = {**os.environ, "DISPLAY": display}
    command = ["xdotool", *arguments]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    ).stdout


def test_the_window_shows_the_video_and_ends_it(model: str, display: str, tmp_path: Path) -> None:
    ends = ["q", "Escape", "close", "Ctrl-C"]
    with ExitStack() as resources:
        watched = []
        for end in ends:  # all at once, which takes less time
            serve, address = streams("udp")
            resources.enter_context(serve())
            output = tmp_path / f"{end}.jsonl"
            options = ["--show", "-m", model, *ASK, "--format", "json", "--output", str(output)]
            # The path, which nothing else reads, is in the title.
            command = resources.enter_context(Watching(f"{address}/by-{end}", *options, DISPLAY=display))
            watched.append((end, f"action-clip: by-{end}", output, command))
        for end, name, output, command in watched:
            command.wait_until(lambda output=output: has_lines(output, 2))  # type: ignore[misc]
            window = xdotool(display, "search", "--sync", "--onlyvisible", "--name", name).split()[-1]
            # As large as the pictures, which came.
            command.wait_until(lambda window=window: "480x288" in xdotool(display, "getwindowgeometry", window))  # type: ignore[misc]
            if end == "Ctrl-C":
                command.process.send_signal(signal.SIGINT)
            else:
                xdotool(display, *(["windowkill", window] if end == "close" else ["key", "--window", window, end]))
            assert command.process.wait(PATIENCE_S) == 0, end
            assert not [note for note in command.notes if "error" in note]
            assert not xdotool(display, "search", "--onlyvisible", "--name", name)
