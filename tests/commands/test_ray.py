"""`action-clip ray` as it is typed: workers and whole runs that are killed, videos that cannot be read.

To start a Ray costs as much time as all that a test does with it: most tests use one together, as a cluster.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from action_clip import ActionClip, ActionClipError, main
from action_clip.commands.samples import SAMPLE_VIDEO

pytest.importorskip("ray.data", reason="Ray is not installed")

import pyarrow
import pyarrow.parquet
import ray

from action_clip.commands.ray import driver

ROOT = Path(__file__).parents[2]
LABELS = ["playing piano", "eating", "running"]
WAIT_S = 300.0
"""Longer than anything takes on a slow machine; no wait is expected to end by it."""

in_proc = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="processes are found in /proc")


class Server:
    """Sends the sample, or 404 where `answers` returns false for the path and the process that asks."""

    def __init__(self) -> None:
        self.answers: Callable[[str, int], bool] = lambda path, process: True
        self.asked: list[tuple[str, int]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

            def do_GET(self) -> None:
                self.close_connection = True
                process = process_at(self.client_address[1])
                server.asked.append((self.path, process))
                body = SAMPLE_VIDEO.read_bytes()
                if not server.answers(self.path, process):
                    self.send_error(404)
                    return
                with suppress(OSError):  # who asked may be dead
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    @contextmanager
    def running(self) -> Iterator["Server"]:
        thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield self
        self._http.shutdown()
        self._http.server_close()
        thread.join()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Ray with two CPUs, which this process is connected to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACTION_CLIP_HOME", str(tmp_path_factory.mktemp("home")))  # of the workers
        patch.delenv("PYTHONWARNINGS", raising=False)  # Ray itself warns of things that will go
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("no_proxy", "127.0.0.1")  # workers of a cluster keep the proxy that its processes got
        patch.setattr(driver, "usable_cores", lambda: 2)
        with driver.connected(None):
            yield ray.get_runtime_context().gcs_address


@pytest.fixture
def server() -> Iterator[Server]:
    with Server().running() as running:
        yield running


def process_at(port: int) -> int:
    """The process whose connection from this port to this machine is open."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]]
    (inode,) = (fields[9] for fields in lines if int(fields[1].rpartition(":")[2], 16) == port)
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if os.readlink(descriptor) == f"socket:[{inode}]":
                return int(descriptor.parts[2])
    raise ProcessLookupError(port)


def is_worker(process: int) -> bool:
    """Whether the process is there, and one of Ray."""
    with suppress(OSError):
        return b"ray::" in Path(f"/proc/{process}/cmdline").read_bytes()
    return False


def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def words(*arguments: str | Path) -> list[str]:
    labels = [word for label in LABELS for word in ("--text", label)]
    return ["ray", "--model", "nano", *labels, *map(str, arguments)]


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    # Ray itself warns of things that will go.
    own = {name: value for name, value in os.environ.items() if name not in ("PYTHONWARNINGS", "RAY_ADDRESS")}
    command = [sys.executable, "action_clip.py", *words(*arguments)]
    return subprocess.Popen(command, cwd=ROOT, env=own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(*arguments: str | Path) -> tuple[int, str]:
    """Exit code and stderr; nothing is on stdout."""
    with start(*arguments) as process:
        out, err = process.communicate()
    assert out == ""
    return process.returncode, err


def run_here(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str]:
    """As `run`, in this process."""
    capsys.readouterr()
    code = main(words(*arguments))
    out, err = capsys.readouterr()
    assert out == ""
    return code, err


def answers(folder: Path) -> dict[str, dict[str, Any]]:
    """The rows of an output by path, of which no two are of one video."""
    rows = pyarrow.parquet.read_table(folder).to_pylist()
    assert len({row["path"] for row in rows}) == len(rows)
    return {row["path"]: row for row in rows}


def copies(folder: Path, count: int) -> list[Path]:
    """Copies of the sample, each a little other than the others."""
    folder.mkdir()
    content = SAMPLE_VIDEO.read_bytes()
    for number in range(count):
        (folder / f"{number:02}.gif").write_bytes(content + bytes([number]))
    return sorted(folder.iterdir())


@in_proc
@pytest.mark.slow
def test_a_worker_is_killed_and_every_video_has_one_answer(tmp_path: Path, server: Server, cluster: str) -> None:
    videos = copies(tmp_path / "videos", 12)
    damaged = tmp_path / "videos" / "damaged.mp4"
    damaged.write_bytes(b"no video")
    missing, names_file = tmp_path / "missing.mp4", tmp_path / "names"
    names_file.write_text(f"{missing}\n")
    killed = threading.Event()

    def answer(path: str, process: int) -> bool:
        if path == "/gone":
            return False
        # The first two of them come from both workers. One is killed while both of them work.
        until(lambda: len({process for path, process in server.asked if path != "/gone"}) == 2 or killed.is_set())
        if path == "/a" and not killed.is_set():
            os.kill(process, signal.SIGKILL)
            killed.set()
        return True

    server.answers = answer
    # A batch has one URL: as many files as workers, times four, of as many videos.
    names = [f"{server.url}/{name}" for name in ("a", "b", "gone")]
    code, err = run(
        tmp_path / "videos",
        f"@{names_file}",
        *names,
        *("--out", tmp_path / "out", "--address", cluster, "--cpus", "1", "--workers", "2", "--videos-per-file", "1"),
    )
    found = answers(tmp_path / "out")
    assert killed.is_set()
    assert len({process for path, process in server.asked if path == "/a"}) >= 2
    assert set(found) == {*map(str, [*videos, damaged, missing]), *names}
    assert (code, err) == (
        1,
        f"action_clip: 3 of 17 videos have an error: see the column error in {tmp_path / 'out'}\n",
    )
    assert {path for path, row in found.items() if row["error"] is not None} == {str(damaged), str(missing), names[2]}
    for path in (str(damaged), str(missing), names[2]):
        assert Path(path).name in found[path]["error"]
        assert [found[path][name] for name in ("label", "probability", "features", "duration_s")] == [None] * 4
    expected = ActionClip("nano").classify(SAMPLE_VIDEO, LABELS)
    for path in (*map(str, videos), *names[:2]):
        row = found[path]
        assert row["labels"] == [entry.label for entry in expected.ranked]
        assert row["probabilities"] == pytest.approx([entry.probability for entry in expected.ranked], abs=1e-5)
        assert (row["label"], row["probability"]) == (row["labels"][0], row["probabilities"][0])
        assert np.allclose(row["features"], expected.video_features, atol=1e-5)
        assert row["duration_s"] == pytest.approx(expected.duration_s)


@in_proc
@pytest.mark.slow
def test_a_video_that_kills_its_workers_stops_no_others(tmp_path: Path, server: Server, cluster: str) -> None:
    videos = copies(tmp_path / "videos", 5)

    def answer(path: str, process: int) -> bool:
        if path == "/poison":
            os.kill(process, signal.SIGKILL)
        return True

    server.answers = answer
    poison = f"{server.url}/poison"
    code, _ = run(
        tmp_path / "videos",
        poison,
        *("--out", tmp_path / "out", "--address", cluster, "--cpus", "1", "--workers", "1", "--videos-per-file", "2"),
    )
    found = answers(tmp_path / "out")
    assert code == 1
    assert set(found) == {*map(str, videos), poison}
    assert {path: row["error"] for path, row in found.items() if row["error"] is not None} == {
        poison: "each of the 3 workers that looked at it died: the file may be damaged, or need too much memory"
    }


@in_proc
@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_where_it_was(
    tmp_path: Path, server: Server, cluster: str, capsys: pytest.CaptureFixture[str]
) -> None:
    videos = copies(tmp_path / "videos", 4)
    out, url = tmp_path / "out", f"{server.url}/stalls"
    released = threading.Event()
    server.answers = lambda path, process: released.wait(WAIT_S)
    arguments = (tmp_path / "videos", url, "--out", out, "--cpus", "1", "--workers", "1", "--videos-per-file", "1")
    with start(*arguments, "--address", cluster) as process:
        until(lambda: server.asked)  # the last one: the others are written
        process.kill()
    worker = server.asked[0][1]
    until(lambda: not is_worker(worker))
    released.set()
    parts = {part: part.stat().st_mtime_ns for part in out.glob("part-*.parquet")}
    assert len(parts) == 4
    damaged, *others = sorted(parts)
    damaged.write_bytes(damaged.read_bytes()[:1000])

    assert run(*arguments) == (
        0,
        f"action_clip: {damaged} was damaged: its videos are done again\n"
        f"action_clip: 3 of 5 videos are in {out} already\n",
    )
    assert set(answers(out)) == {*map(str, videos), url}
    assert [part.stat().st_mtime_ns for part in others] == [parts[part] for part in others]

    asked = len(server.asked)
    assert run_here(capsys, *arguments) == (0, "")
    code, err = run_here(capsys, *arguments, "--top-k", "1")
    assert (code, err.partition("(")[2]) == (
        1,
        "--top-k was 5 and is 1): give the same ones, or name another folder\n",
    )
    assert len(server.asked) == asked


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_failed_videos_are_done_again_when_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "connected", lambda address: nullcontext())  # it is
    later, paths = tmp_path / "later.gif", tmp_path / "paths.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"file": ["later.gif", str(SAMPLE_VIDEO)]}), paths)
    arguments = (paths, "--path-column", "file", "--out", tmp_path / "out", "--cpus", "1", "--workers", "1")
    counted = f"action_clip: 1 of 2 videos have an error: see the column error in {tmp_path / 'out'}\n"
    assert run_here(capsys, *arguments) == (1, counted)
    assert answers(tmp_path / "out")["later.gif"]["error"] is not None
    shutil.copy(SAMPLE_VIDEO, later)
    assert run_here(capsys, *arguments) == (1, counted)
    code, err = run_here(capsys, *arguments, "--retry-failed")
    assert (code, err) == (0, f"action_clip: 1 of 2 videos are in {tmp_path / 'out'} already\n")
    found = answers(tmp_path / "out")
    assert found["later.gif"]["error"] is None
    assert found["later.gif"]["label"] == found[str(SAMPLE_VIDEO)]["label"] == LABELS[0]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["no-such-folder/", "--out", "OUT"], "there is no file or folder no-such-folder/"),
        (["@no-such-list", "--out", "OUT"], "the list of videos no-such-list cannot be read"),
        (["samples/", "--out", "README.md"], "README.md is a file: name a folder"),
        (["samples/", "--out", "samples"], "samples has files, and none of them is _action_clip.json"),
        (["samples/", "--out", "OUT", "--address", "127.0.0.1:1"], "the Ray cluster at 127.0.0.1:1 cannot be used"),
    ],
    ids=["folder", "list", "file", "foreign", "address"],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(ROOT)
    code, err = run_here(capsys, *[str(tmp_path / "out") if word == "OUT" else word for word in arguments])
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith("action_clip: error: ")
    assert sentence in err


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_workers_need_a_machine_with_room_for_them() -> None:
    with pytest.raises(ActionClipError, match="no machine of the cluster has 4096 CPUs for a worker"):
        driver.pool_of(None, 4096, 0.0, grows=False)
    with pytest.raises(ActionClipError, match="no machine of the cluster has 1 CPUs and 1 GPUs for a worker"):
        driver.pool_of(None, 1, 1.0, grows=True)
    assert driver.pool_of(3, 4, 1.0, grows=True) == driver.Pool(3, 4, 1.0)
    assert driver.pool_of(None, None, 0.0, grows=False) == driver.Pool(1, 2, 0.0)


def test_labels_are_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ray", "--model", "nano", str(SAMPLE_VIDEO), "--out", str(tmp_path / "out")]) == 1
    sentence = "action_clip: error: there are no labels: give some with --text or --desc_file\n"
    assert capsys.readouterr().err == sentence
    assert not (tmp_path / "out").exists()
