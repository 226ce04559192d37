import hashlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import zipfile
from base64 import b64encode
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fault_server import Fault, FaultServer, RawServer, wait_until
from filelock import FileLock, Timeout
from platformdirs import user_cache_path
from protobuf_writer import Field, message

import action_clip.models.model_graphs
import action_clip.models.store.download
import action_clip.models.store.hashes
import action_clip.models.store.lock
from action_clip import ActionClip
from action_clip.errors import ActionClipError
from action_clip.models.catalog.specs import ModelFile, ModelSpec
from action_clip.models.store.hashes import first_use_hashes, record_first_use, sha256_of
from action_clip.models.store.home import HASHES
from action_clip.models.store.home import home as home_folder
from action_clip.models.store.installation import fetch, fetch_checkpoint, install
from action_clip.models.store.locations import directory_of, locate, repair_hint
from action_clip.models.store.verification import verify
from action_clip.system import connection


def graph(filling: bytes, size: int) -> bytes:
    """A model of that many bytes which does nothing."""
    operator = message([(1, b"x"), (2, b"y"), (4, b"Identity")])
    inner = message([(1, operator), (11, message([(1, b"x")])), (12, message([(1, b"y")]))])
    outer: list[Field] = [(1, 9), (7, inner)]
    left = size - len(message([*outer, (6, filling * (size // len(filling)))]))
    return message([*outer, (6, (filling * size)[: size // len(filling) * len(filling) + left])])


BODIES = {"text": graph(b"t", 3000), "image": graph(b"i", 2000), "fusion": graph(b"f", 1000)}
CHECKPOINT = b"\x80\x02" + b"c" * 99_998
EXPORT = (
    "run action-clip export tiny once (it needs pip install 'action-clip[export]', in a clone '.[export]'), "
    "or use --model nano, which needs no download"
)
# What a child process does: the same as example(), from the URLs' host and the home of its environment.
CHILD = """
import logging, sys
sys.path[:0] = sys.argv[1:]
from action_clip.models.store import download, lock
from action_clip.models.store.installation import fetch
from action_clip.system import connection
from test_installation import example
logging.basicConfig(format="%(message)s")
connection.CHUNK = 100
print(sorted(path.name for path in fetch(example()).values()))
"""


def example(folder: str | None = None, sha256: str | None = None) -> ModelSpec:
    """A model of three files of a few bytes, to be had from the mirror at /base/."""
    files = tuple(
        ModelFile(
            role=role,
            name=f"{role}.onnx",
            url=f"https://models.example/base/{role}.onnx" if folder is None else None,
            sha256=sha256 if role == "text" else None,
            also_accepted=("old.onnx",) if role == "text" else (),
        )
        for role in BODIES
    )
    return ModelSpec(
        name="tiny",
        aliases=(),
        kind="zero-shot",
        description="three files",
        frames=8,
        image_size=224,
        resize=256,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        uniform="segments",
        logit_scale=100.0,
        prompts=("{}",),
        classes=(),
        licence="MIT",
        accuracy="none",
        citation="none",
        size=6000,
        folder=folder,
        checkpoint=None,
        files=files,
    )


def exported(size: int | None = None, sha256: str | None = None) -> ModelSpec:
    """The same model, to be exported from a checkpoint that is to be had from the mirror."""
    url = "https://models.example/base/tiny.pth"
    checkpoint = ModelFile(role="checkpoint", name="tiny.pth", url=url, size=size, sha256=sha256)
    files = tuple(ModelFile(role=role, name=f"{role}.onnx") for role in BODIES)
    return replace(example(), checkpoint=checkpoint, files=files)


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        for role, body in BODIES.items():
            server.add(f"/base/{role}.onnx", body)
        server.add("/base/tiny.pth", CHECKPOINT)
        yield server


@pytest.fixture(autouse=True)
def home(server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, with the server as the mirror."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("ACTION_CLIP_OFFLINE", raising=False)
    monkeypatch.setenv("ACTION_CLIP_MIRROR", server.url)
    monkeypatch.setenv("ACTION_CLIP_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(action_clip.models.store.download, "pause", lambda _: None)
    return tmp_path / "home"


def place(folder: Path, **bodies: bytes) -> None:
    """Put files into the folder by hand."""
    folder.mkdir(parents=True, exist_ok=True)
    for role, body in bodies.items():
        (folder / f"{role}.onnx").write_bytes(body)


def refusal(spec: ModelSpec) -> str:
    with pytest.raises(ActionClipError) as caught:
        fetch(spec)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def recorded(home: Path) -> dict[str, str]:
    """The hashes of first use, by file name."""
    return {name: first_use.sha256 for name, first_use in first_use_hashes(home / "tiny").items()}


def paths(server: FaultServer) -> list[str]:
    return [path for path, _ in server.requests]


def test_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert home_folder() == home
    monkeypatch.delenv("ACTION_CLIP_HOME")
    assert home_folder() == user_cache_path("action_clip", appauthor=False)
    monkeypatch.setenv("ACTION_CLIP_HOME", "~/graphs")
    assert home_folder() == Path.home() / "graphs"


def test_fetch_downloads_once(server: FaultServer, home: Path) -> None:
    assert locate(example()) is None
    assert not home.exists()
    found = fetch(example())
    assert found == {role: home / "tiny" / f"{role}.onnx" for role in BODIES}
    assert {role: path.read_bytes() for role, path in found.items()} == BODIES
    assert locate(example()) == found
    assert fetch(example()) == found
    assert paths(server) == ["/base/text.onnx", "/base/image.onnx", "/base/fusion.onnx"]


def test_files_that_are_there_are_used(server: FaultServer, home: Path) -> None:
    place(home / "tiny", old=b"first export", image=b"by hand")
    found = fetch(example())
    assert found["text"] == home / "tiny" / "old.onnx"
    assert found["image"].read_bytes() == b"by hand"
    assert paths(server) == ["/base/fusion.onnx"]


def test_name_of_the_catalog_goes_first(home: Path) -> None:
    place(home / "tiny", old=b"first export", **BODIES)
    assert fetch(example())["text"].name == "text.onnx"


def test_hash_of_a_download_is_remembered(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fetch(example())["image"]
    monkeypatch.delattr(action_clip.models.store.hashes, "read_sha256")
    assert sha256_of(path) == sha256(BODIES["image"])


def test_stale_parts_are_removed(home: Path) -> None:
    place(home / "tiny", text=b"t")
    part = home / "tiny" / "text.onnx.0123abcd.part"
    part.write_bytes(b"")
    os.utime(part, (0, 0))
    fetch(example())
    assert not part.exists()


def test_downloads_are_logged(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    place(home / "tiny", text=b"t")
    fetch(example())
    fetch(example())
    assert caplog.messages == [f"downloading image.onnx and fusion.onnx (tiny is about 0 MB in all) to {home / 'tiny'}"]


def test_files_are_not_hashed_where_home_cannot_be_written(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place(home / "tiny", **BODIES)
    monkeypatch.setattr(os, "access", lambda path, mode: not (path == home and mode == os.W_OK))
    assert set(fetch(example())) == set(BODIES)
    assert not (home / HASHES).exists()


def test_hashes_that_cannot_be_recorded(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ActionClipError

    monkeypatch.setattr(action_clip.models.store.hashes, "_record", refuse)
    assert set(fetch(example())) == set(BODIES)
    assert [item.against for item in verify(example())] == ["nothing"] * 3
    assert not (home / HASHES).exists()


def test_failed_download(server: FaultServer, home: Path) -> None:
    server.add("/base/image.onnx", b"", [Fault(status=404)])
    message = refusal(example())
    assert message == (
        f"could not download {server.url}/base/image.onnx: the server answers 404 Not Found; "
        f"put the file into {home / 'tiny'} by hand, or use --model nano, which needs no download"
    )
    # What had arrived before is kept.
    assert (home / "tiny" / "text.onnx").read_bytes() == BODIES["text"]
    assert locate(example()) is None


@pytest.mark.parametrize("value", ["1", "true", " YES "])
def test_offline(server: FaultServer, home: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("ACTION_CLIP_OFFLINE", value)
    place(home / "tiny", image=b"i")
    message = refusal(example())
    assert message == (
        f"the model tiny needs text.onnx and fusion.onnx in {home / 'tiny'}, and ACTION_CLIP_OFFLINE forbids "
        f"downloading: put the missing files there by hand (from {server.url}/base/text.onnx, "
        f"{server.url}/base/fusion.onnx), or use --model nano, which needs no download"
    )
    place(home / "tiny", text=b"t", fusion=b"f")
    assert set(fetch(example())) == set(BODIES)
    assert server.requests == []


@pytest.mark.parametrize("value", ["", "0", "false", "No"])
def test_not_offline(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("ACTION_CLIP_OFFLINE", value)
    assert set(fetch(example())) == set(BODIES)


def test_mirror_with_a_path(server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACTION_CLIP_MIRROR", server.url + "/copies/of/")
    for role, body in BODIES.items():
        server.add(f"/copies/of/base/{role}.onnx", body)
    fetch(example())
    assert paths(server) == [f"/copies/of/base/{role}.onnx" for role in BODIES]


@pytest.mark.parametrize(
    "mirror",
    [
        "mirror.example",
        "ftp://mirror.example",
        "http://",
        "http://[",
        "http://m?a",
        "http://m:99999",
        "me:secret@mirror.example",
        "http://me:secret@mirror.example:port",
    ],
)
def test_mirror_that_is_no_url(home: Path, monkeypatch: pytest.MonkeyPatch, mirror: str) -> None:
    monkeypatch.setenv("ACTION_CLIP_MIRROR", mirror)
    message = refusal(example())
    assert message == "ACTION_CLIP_MIRROR is no address: make it https://host or https://host/path"
    assert not home.exists()


def test_a_password_of_the_mirror_is_sent_and_not_shown(
    server: FaultServer, home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ACTION_CLIP_MIRROR", server.url.replace("//", "//me:s3cret@"))
    monkeypatch.setenv("ACTION_CLIP_OFFLINE", "1")
    shown = f"{server.url.replace('//', '//me:***@')}/base/text.onnx"
    messages = [refusal(example())]
    monkeypatch.delenv("ACTION_CLIP_OFFLINE")
    server.add("/base/text.onnx", BODIES["text"], [Fault(cut_after=1000), Fault(status=404)])
    messages.append(refusal(example()))
    note = home / "tiny" / "text.onnx.resume.json"
    assert note.exists()
    assert all(shown in message for message in messages)
    # What had arrived is continued all the same.
    fetch(example())
    assert server.asked("Range")[:3] == [None, "bytes=1000-", "bytes=1000-"]
    assert set(server.asked("Authorization")) == {"Basic " + b64encode(b"me:s3cret").decode()}
    told = "\n".join([*messages, caplog.text])
    assert "s3cret" not in told


def test_a_password_of_the_mirror_is_not_written(
    server: FaultServer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACTION_CLIP_MIRROR", server.url.replace("//", "//me:s3cret@"))
    server.add("/base/text.onnx", BODIES["text"], [Fault(cut_after=1000), Fault(status=404)])
    refusal(example())
    written = [path.read_bytes() for path in home.rglob("*") if path.is_file()]
    assert len(written) >= 2
    assert not any(b"s3cret" in content for content in written)


def test_home_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("ACTION_CLIP_HOME", str(tmp_path / "file" / "home"))
    message = refusal(example())
    assert f"{tmp_path / 'file' / 'home' / 'tiny'} cannot be written (" in message
    assert "set ACTION_CLIP_HOME to another one, or use --model nano" in message


def test_embedded_model(server: FaultServer, home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "embedded"
    spec = example(folder=str(folder))
    place(folder, text=b"t", image=b"i")
    assert locate(spec) is None
    assert refusal(spec) == (
        f"fusion.onnx of the model tiny is missing in {folder}: put it back or reinstall the program"
    )
    place(folder, fusion=b"f")
    assert fetch(spec) == {role: folder / f"{role}.onnx" for role in BODIES}
    assert sorted(path.name for path in folder.iterdir()) == ["fusion.onnx", "image.onnx", "text.onnx"]
    assert server.requests == []
    assert not home.exists()


def test_folder_of_an_embedded_model() -> None:
    assert directory_of(example(folder="nano")) == Path(action_clip.models.model.__file__).parent / "nano"


def child(more: str = "") -> "subprocess.Popen[str]":
    here = Path(__file__).parent
    program = CHILD.replace("print(", f"{more}\nprint(")
    command = [sys.executable, "-c", program, str(here), str(here.parent), str(here.parents[1]), str(here.parents[2])]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_download_once(server: FaultServer) -> None:
    go_on = threading.Event()
    server.add("/base/text.onnx", BODIES["text"], [Fault(before=go_on.wait)])
    first = child()
    wait_until(lambda: server.requests)
    second = child()
    assert second.stderr is not None
    waiting = second.stderr.readline()
    go_on.set()
    expected = "['fusion.onnx', 'image.onnx', 'text.onnx']\n"
    outputs = [process.communicate(timeout=60) for process in (first, second)]
    assert waiting == "waiting for another run that is downloading tiny (Ctrl-C ends this one)\n"
    assert [output for output, _ in outputs] == [expected, expected]
    assert outputs[1][1] == ""
    assert len(server.requests) == 3


def test_waiting_for_a_run_that_hangs_ends(
    home: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    place(home / "tiny", text=BODIES["text"])
    monkeypatch.setattr(action_clip.models.store.lock, "_HOLDER_S", 0.2)
    with FileLock(home / "tiny" / ".lock"):
        # Not of this process, which could acquire it once more.
        process = child("lock._HOLDER_S = 0.2")
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "waiting for another run" in err
    assert err.strip().endswith(
        f"another run holds {home / 'tiny' / '.lock'} and has brought nothing of tiny for 0 s: end it and run again, "
        "or use --model nano, which needs no download"
    )


def test_another_run_that_makes_progress_is_waited_for(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For hours of a clock that is in the hands of the test."""
    (home / "tiny").mkdir(parents=True)
    hours = iter(range(0, 10**6, 300))
    monkeypatch.setattr(action_clip.models.store.lock, "monotonic", lambda: next(hours))

    def acquire(lock: FileLock, timeout: float | None = None) -> None:
        part = home / "tiny" / "image.onnx.0123abcd.part"
        with part.open("ab") as file:
            file.write(b"i")
        if part.stat().st_size < 100:
            raise Timeout("still another's")

    monkeypatch.setattr(FileLock, "acquire", acquire)
    assert set(fetch(example())) == set(BODIES)
    assert next(hours) > 100 * 300


@pytest.mark.skipif(os.name == "nt", reason="a signal cannot be sent to a process there")
@pytest.mark.parametrize("phase", ["the lock", "the answer", "headers", "the content", "a pause"])
def test_ctrl_c_ends_every_wait(server: FaultServer, home: Path, phase: str) -> None:
    """What is waited for does not come before the end of the test."""
    go_on = threading.Event()
    more = "import time; download.pause = lambda s: (print('pausing', file=sys.stderr, flush=True), time.sleep(s))"
    faults = {
        "the answer": Fault(before=go_on.wait),
        "headers": Fault(between_headers=go_on.wait),
        "the content": Fault(halfway=go_on.wait),
        "a pause": Fault(status=503, headers=(("Retry-After", "50"),)),
    }
    (home / "tiny").mkdir(parents=True)
    if phase in faults:
        server.add("/base/text.onnx", graph(b"t", 100_000), [faults[phase]])
    with FileLock(home / "tiny" / ".lock") if phase == "the lock" else nullcontext():
        process = child(more)
        assert process.stderr is not None
        if phase in ("the lock", "a pause"):
            word = "waiting" if phase == "the lock" else "pausing"
            assert any(word in line for line in process.stderr)
        elif phase == "the content":
            wait_until(lambda: sum(path.stat().st_size for path in (home / "tiny").glob("*.part")) > 0)
        else:
            wait_until(lambda: server.requests)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=25)
    go_on.set()
    assert process.returncode == -signal.SIGINT
    assert err.rstrip().endswith("KeyboardInterrupt")
    if phase == "the content":
        (part,) = (home / "tiny").glob("*.part")
        arrived = part.stat().st_size
        fetch(example())
        assert server.asked("Range")[:2] == [None, f"bytes={arrived}-"]


def test_two_threads_download_once(server: FaultServer) -> None:
    found: list[dict[str, Path]] = []
    threads = [threading.Thread(target=lambda: found.append(fetch(example()))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2
    assert found[0] == found[1]
    assert len(server.requests) == 3


def test_killed_process_is_continued(server: FaultServer, home: Path) -> None:
    stop = threading.Event()
    body = graph(b"t", 100_000)
    server.add("/base/text.onnx", body, [Fault(halfway=stop.wait)])
    process = child()
    folder = home / "tiny"
    wait_until(lambda: sum(path.stat().st_size for path in folder.glob("*.part")) > 0)
    process.kill()
    process.communicate(timeout=60)
    stop.set()
    assert locate(example()) is None
    assert not (folder / "text.onnx").exists()
    (part,) = folder.glob("*.part")
    arrived = part.stat().st_size
    fetch(example())
    assert server.asked("Range") == [None, f"bytes={arrived}-", None, None]
    assert (folder / "text.onnx").read_bytes() == body
    assert {path.name for path in folder.iterdir()} == {*(f"{role}.onnx" for role in BODIES), ".lock"}


def test_first_use_is_recorded_and_verified(home: Path) -> None:
    place(home / "tiny", image=b"by hand")
    found = fetch(example())
    expected = {f"{role}.onnx": sha256(path.read_bytes()) for role, path in found.items()}
    assert recorded(home) == expected
    verified = verify(example())
    assert [(item.role, item.path, item.sha256, item.against) for item in verified] == [
        (role, path, expected[path.name], "first use") for role, path in found.items()
    ]


def test_verify_notices_a_change_that_keeps_size_and_time(home: Path) -> None:
    path = fetch(example())["text"]
    stat = path.stat()
    path.write_bytes(b"T" * 3000)
    # The next use is not the first one.
    fetch(example())
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(ActionClipError) as caught:
        verify(example())
    assert str(caught.value) == (
        f"{path} has the sha256 {sha256(b'T' * 3000)} instead of {sha256(BODIES['text'])} (first use): "
        f"delete it to download it again, or delete its lines in {home / HASHES} if the change was yours"
    )
    lines = (home / HASHES).read_text().splitlines(keepends=True)
    (home / HASHES).write_text("".join(line for line in lines if "tiny/text.onnx" not in line))
    assert [item.against for item in verify(example())] == ["nothing", "first use", "first use"]
    assert [item.against for item in verify(example())] == ["first use"] * 3


def test_what_an_earlier_version_recorded_is_verified(home: Path) -> None:
    """A file that is changed between the last run of the earlier version and the first of this one."""
    place(home / "tiny", **BODIES)
    earlier = home / "tiny" / "sha256.json"
    content = json.dumps({f"{role}.onnx": sha256(body) for role, body in BODIES.items()}, indent=1)
    earlier.write_text(content)
    place(home / "tiny", image=b"other")
    fetch(example())
    for _ in range(2):
        with pytest.raises(ActionClipError) as caught:
            verify(example())
        assert str(caught.value) == (
            f"{home / 'tiny' / 'image.onnx'} has the sha256 {sha256(b'other')} instead of {sha256(BODIES['image'])} "
            f"(first use): delete it to download it again, or delete its lines in {earlier} if the change was yours"
        )
    assert earlier.read_text() == content
    earlier.write_text("".join(line for line in content.splitlines(keepends=True) if "image.onnx" not in line))
    assert [item.against for item in verify(example())] == ["first use", "nothing", "first use"]
    assert [item.against for item in verify(example())] == ["first use"] * 3


def test_a_new_download_counts_more_than_what_an_earlier_version_recorded(home: Path) -> None:
    (home / "tiny").mkdir(parents=True)
    (home / "tiny" / "sha256.json").write_text(json.dumps({"text.onnx": sha256(b"other")}))
    fetch(example())
    assert [item.against for item in verify(example())] == ["first use"] * 3


def test_hashes_of_first_use_move_with_home(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch(example())
    home.rename(tmp_path / "moved")
    monkeypatch.setenv("ACTION_CLIP_HOME", str(tmp_path / "moved"))
    place(tmp_path / "moved" / "tiny", image=b"other")
    with pytest.raises(ActionClipError, match=r"image\.onnx has the sha256 .* \(first use\)"):
        verify(example())


def test_verify_names_every_file_that_changed(home: Path) -> None:
    fetch(example())
    place(home / "tiny", text=b"1", fusion=b"2")
    with pytest.raises(ActionClipError, match=r"text\.onnx has .*; .*fusion\.onnx has ") as caught:
        verify(example())
    assert "image.onnx" not in str(caught.value)


def test_verify_of_a_model_that_is_not_there(home: Path) -> None:
    with pytest.raises(ActionClipError, match=r"text\.onnx of the model tiny is missing in .*--model tiny"):
        verify(example())
    assert not home.exists()


def test_verify_against_the_catalog(home: Path) -> None:
    right = example(sha256=sha256(BODIES["text"]))
    fetch(right)
    assert [item.against for item in verify(right)] == ["catalog", "first use", "first use"]
    with pytest.raises(ActionClipError, match=r"instead of 0{64} \(catalog\)"):
        verify(example(sha256="0" * 64))


def test_verify_of_an_embedded_model(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "embedded"
    place(folder, **BODIES)
    good = verify(example(str(folder), sha256(BODIES["text"])))
    assert [item.against for item in good] == ["catalog", "nothing", "nothing"]
    with pytest.raises(ActionClipError, match=r"\(catalog\): reinstall the program"):
        verify(example(str(folder), "0" * 64))
    assert not home.exists()


def test_much_more_than_the_catalog_expects_is_not_taken(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flood(connection: socket.socket, go_on: threading.Event) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not go_on.is_set():
            connection.sendall(b"2710\r\n" + bytes(10_000) + b"\r\n")

    with RawServer(flood) as url:
        monkeypatch.setenv("ACTION_CLIP_MIRROR", url)
        assert "the server sends more than 48000 bytes" in refusal(example())
    assert not list(home.rglob("*.onnx*"))


def test_nothing_is_recorded_where_nothing_is_to_be_kept(home: Path) -> None:
    (home / "tiny").mkdir(parents=True)
    for role, body in BODIES.items():
        (home / "tiny" / f"{role}.onnx").write_bytes(body)
    before = sorted(home.rglob("*"))
    assert len(fetch(example(), keep=False)) == 3
    assert sorted(home.rglob("*")) == before
    fetch(example())
    assert set(recorded(home)) == {f"{role}.onnx" for role in BODIES}


def test_file_by_hand_that_is_not_the_catalogs(home: Path) -> None:
    place(home / "tiny", **BODIES)
    spec = example(sha256="0" * 64)
    message = refusal(spec)
    path = home / "tiny" / "text.onnx"
    assert message == (
        f"{path} has the sha256 {sha256(BODIES['text'])} instead of the catalog's {'0' * 64}: "
        "delete it to download it again"
    )
    # The first export is another file, of which the catalog knows nothing.
    path.rename(home / "tiny" / "old.onnx")
    assert fetch(spec)["text"].name == "old.onnx"
    assert verify(spec)[0].against == "first use"


def test_download_that_is_not_the_earlier_file(
    server: FaultServer, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = fetch(example())["text"]
    path.unlink()
    body = graph(b"new", 300)
    server.add("/base/text.onnx", body)
    fetch(example())
    old, new = sha256(BODIES["text"]), sha256(body)
    assert f"{path} is not the file it was before: sha256 {old}, now {new}" in caplog.messages
    assert verify(example())[0].sha256 == new


# What servers, proxies and mirrors answer instead of a graph, whatever they say that it is.
NO_GRAPHS = {
    "a web page": b"<!DOCTYPE html><html><body>log in</body></html>",
    "JSON": b'{"error": {"code": 404, "message": "no such object"}}',
    "an LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 353000000\n",
    "a text": b"Not Found",
    "the first half": BODIES["image"][:1000],
    "all but a byte": BODIES["image"][:-1],
    "no graph": message([(1, 9), (2, b"a producer"), (6, b"i" * 100)]),
    "an empty graph": message([(1, 9), (7, b"")]),
    "no operators": message([(1, 9), (7, message([(11, message([(1, b"x")])), (12, message([(1, b"x")]))]))]),
    "zeros": bytes(2000),
    "noise": bytes(range(7, 256)) * 10,
}


@pytest.mark.parametrize("kind", NO_GRAPHS)
@pytest.mark.parametrize("content_type", ["application/octet-stream", "application/json", None])
def test_what_is_no_graph_is_not_installed(
    server: FaultServer, home: Path, kind: str, content_type: str | None
) -> None:
    headers = () if content_type is None else (("Content-Type", content_type),)
    server.add("/base/image.onnx", NO_GRAPHS[kind], [Fault(headers=headers, without=("Content-Type",))] * 2)
    message = refusal(example())
    assert f"could not download {server.url}/base/image.onnx: the file is not what it should be: it" in message
    assert f"put the file into {home / 'tiny'} by hand" in message
    assert sorted(path.name for path in (home / "tiny").iterdir()) == [".lock", "text.onnx"]
    # It may have been a moment's.
    server.add("/base/image.onnx", BODIES["image"], [Fault(body=NO_GRAPHS[kind], without=("x-goog-hash",))])
    assert fetch(example())["image"].read_bytes() == BODIES["image"]


def archive(files: dict[str, bytes]) -> bytes:
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w") as written:
            for name, content in files.items():
                written.writestr(zipfile.ZipInfo(name), content)  # of 1980, not of now: the same bytes each time
        return file.getvalue()


def safetensors(size: int, offset: int) -> bytes:
    entry = {"dtype": "U8", "shape": [size], "data_offsets": [0, offset]}
    header = json.dumps({"__metadata__": {"format": "pt"}, "w": entry}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(size)


CHECKPOINTS = {
    "a zip": archive({"archive/data.pkl": b"\x80\x02."}),
    "a pickle": b"\x80\x02}q\x00.",
    "safetensors": safetensors(100, 100),
}
NO_CHECKPOINTS = {
    "a zip cut short": archive({"archive/data.pkl": b"\x80\x02." * 1000})[:-30],
    "safetensors without weights": safetensors(90, 100),
    "safetensors cut short": safetensors(100, 100)[:50],
    "safetensors with no end": b"\xff\xff\xff\xff\xff\xff\xff\x7f{}",
    "a web page": NO_GRAPHS["a web page"],
    "JSON": NO_GRAPHS["JSON"],
    "an LFS pointer": NO_GRAPHS["an LFS pointer"],
    "a graph": BODIES["text"],
}


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_a_checkpoint_is_installed(server: FaultServer, home: Path, kind: str) -> None:
    server.add("/base/tiny.pth", CHECKPOINTS[kind])
    assert fetch_checkpoint(exported()).read_bytes() == CHECKPOINTS[kind]


@pytest.mark.parametrize("kind", NO_CHECKPOINTS)
def test_what_is_no_checkpoint_is_not_installed(server: FaultServer, home: Path, kind: str) -> None:
    server.add("/base/tiny.pth", NO_CHECKPOINTS[kind])
    message = checkpoint_refusal(exported())
    assert f"could not download {server.url}/base/tiny.pth: the file is not what it should be: " in message
    assert not (home / "tiny" / "tiny.pth").exists()


@pytest.mark.parametrize(
    ("spec", "cure"),
    [
        (example(), "delete it to download it again"),
        (exported(), "run action-clip export tiny to export it again"),
        (example("nano", "0" * 64), "reinstall the program"),
        (example(os.path.abspath("mine")), "export it again, or get it anew from where it is from"),
    ],
)
def test_the_repair_hint_depends_on_the_source_of_the_file(spec: ModelSpec, cure: str) -> None:
    assert repair_hint(spec) == cure


def test_a_downloaded_graph_that_cannot_be_loaded_is_named(
    server: FaultServer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It looks like a graph, and onnxruntime knows better.
    monkeypatch.setattr(action_clip.models.model_graphs, "find", lambda name: example() if name == "tiny" else None)
    with pytest.raises(ActionClipError) as caught:
        ActionClip("tiny", cache=False).classify(np.zeros((8, 40, 40, 3), np.uint8), ["eating"])
    assert str(caught.value).startswith(f"the graph {home / 'tiny' / 'image.onnx'} cannot be loaded on 'cpu' (")
    assert str(caught.value).endswith("): delete it to download it again")


def test_a_known_hash_is_enough(server: FaultServer) -> None:
    body = b"what the catalog says that it is"
    server.add("/base/tiny.pth", body)
    assert fetch_checkpoint(exported(sha256=sha256(body))).read_bytes() == body


@pytest.mark.parametrize(
    "content", [b"my list of hashes", b"{x", b"[]", b"\xff", b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}"]
)
def test_a_record_that_holds_something_else_is_left_alone(
    home: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    place(home / "tiny", **BODIES)
    (home / HASHES).write_bytes(content)
    for _ in range(2):
        assert set(fetch(example())) == set(BODIES)
        assert [item.sha256 for item in verify(example())] == [sha256(body) for body in BODIES.values()]
    assert (home / HASHES).read_bytes() == content
    assert caplog.messages == [
        f"{home / HASHES} cannot be read as what this program writes there, and is left alone: move it away"
    ]


def test_other_entries_of_a_record_stay(home: Path) -> None:
    place(home / "tiny", **BODIES)
    place(home / "other", text=b"another model's")
    record_first_use({home / "other" / "text.onnx": sha256(b"another model's")})
    before = (home / HASHES).read_bytes()
    fetch(example())
    assert (home / HASHES).read_bytes().startswith(before)
    assert len((home / HASHES).read_bytes()) > len(before)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
def test_a_pipe_in_place_of_the_record_is_not_opened(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    place(home / "tiny", **BODIES)
    os.mkfifo(home / HASHES)
    assert set(fetch(example())) == set(BODIES)
    assert [message.startswith(str(home / HASHES)) for message in caplog.messages] == [True]


def drafts(home: Path, **bodies: bytes) -> dict[str, Path]:
    """Exported graphs that have not got their names yet, in the model's folder."""
    folder = home / "tiny" / "draft"
    place(folder, **bodies)
    return {role: folder / f"{role}.onnx" for role in bodies}


def checkpoint_refusal(spec: ModelSpec) -> str:
    with pytest.raises(ActionClipError) as caught:
        fetch_checkpoint(spec)
    return str(caught.value)


def test_graphs_that_are_not_exported_yet(server: FaultServer, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sentence = f"the graphs of tiny are not on this disk yet: {EXPORT}"
    assert refusal(exported()) == sentence
    assert not home.exists()
    # The checkpoint alone makes no model, nor does one graph.
    place(home / "tiny", image=b"i")
    (home / "tiny" / "tiny.pth").write_bytes(CHECKPOINT)
    assert locate(exported()) is None
    assert refusal(exported()) == sentence
    monkeypatch.setenv("ACTION_CLIP_OFFLINE", "1")
    assert refusal(exported()) == sentence
    assert server.requests == []


def test_exported_graphs_need_no_checkpoint(server: FaultServer, home: Path) -> None:
    place(home / "tiny", **BODIES)
    found = fetch(exported())
    assert found == locate(exported()) == {role: home / "tiny" / f"{role}.onnx" for role in BODIES}
    assert recorded(home) == {f"{role}.onnx": sha256(body) for role, body in BODIES.items()}
    assert [item.against for item in verify(exported())] == ["first use"] * 3
    assert server.requests == []


def test_verify_of_graphs_that_are_not_exported_yet(home: Path) -> None:
    place(home / "tiny", text=b"t")
    with pytest.raises(ActionClipError) as caught:
        verify(exported())
    assert str(caught.value) == f"image.onnx of the model tiny is missing in {home / 'tiny'}: {EXPORT}"


def test_checkpoint_is_downloaded_once(server: FaultServer, home: Path, caplog: pytest.LogCaptureFixture) -> None:
    spec = exported(len(CHECKPOINT), sha256(CHECKPOINT))
    path = fetch_checkpoint(spec)
    assert path == home / "tiny" / "tiny.pth"
    assert path.read_bytes() == CHECKPOINT
    assert recorded(home) == {"tiny.pth": sha256(CHECKPOINT)}
    assert fetch_checkpoint(spec) == path
    assert paths(server) == ["/base/tiny.pth"]
    assert caplog.messages == [f"downloading tiny.pth (tiny is exported from it) to {home / 'tiny'}"]


def test_checkpoint_that_is_cut_is_continued(server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CHUNK", 1000)
    server.add("/base/tiny.pth", CHECKPOINT, [Fault(cut_after=60_000), Fault(status=404)])
    assert "tiny.pth: the server answers 404" in checkpoint_refusal(exported())
    assert fetch_checkpoint(exported()).read_bytes() == CHECKPOINT
    assert server.asked("Range") == [None, "bytes=60000-", "bytes=60000-"]


def test_checkpoint_of_another_sha256(server: FaultServer, home: Path) -> None:
    assert checkpoint_refusal(exported(sha256="0" * 64)) == (
        f"could not download {server.url}/base/tiny.pth: the file's sha256 is {sha256(CHECKPOINT)} instead of "
        f"{'0' * 64}; put the file into {home / 'tiny'} by hand, or use --model nano, which needs no download"
    )
    assert [path.name for path in (home / "tiny").iterdir()] == [".lock"]


def test_checkpoint_of_another_size(server: FaultServer) -> None:
    assert "the server's file has 100000 bytes instead of 5" in checkpoint_refusal(exported(size=5))


def test_checkpoint_offline(server: FaultServer, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACTION_CLIP_OFFLINE", "1")
    assert checkpoint_refusal(exported()) == (
        f"the export of tiny needs tiny.pth in {home / 'tiny'}, and ACTION_CLIP_OFFLINE forbids downloading: put the "
        f"missing files there by hand (from {server.url}/base/tiny.pth), "
        "or use --model nano, which needs no download"
    )
    place(home / "tiny")
    (home / "tiny" / "tiny.pth").write_bytes(CHECKPOINT)
    assert fetch_checkpoint(exported()) == home / "tiny" / "tiny.pth"
    assert server.requests == []


def test_checkpoint_by_hand(server: FaultServer, home: Path) -> None:
    place(home / "tiny")
    path = home / "tiny" / "tiny.pth"
    path.write_bytes(b"by hand")
    assert checkpoint_refusal(exported(sha256=sha256(CHECKPOINT))) == (
        f"{path} has the sha256 {sha256(b'by hand')} instead of the catalog's {sha256(CHECKPOINT)}: "
        "delete it to download it again"
    )
    assert fetch_checkpoint(exported()).read_bytes() == b"by hand"
    assert recorded(home) == {"tiny.pth": sha256(b"by hand")}
    assert server.requests == []


def test_checkpoint_of_a_model_that_has_none(server: FaultServer) -> None:
    assert checkpoint_refusal(example()) == "the graphs of tiny are ready, not exported: use --model tiny"
    assert server.requests == []


def test_installed_graphs_are_found_and_verified(home: Path) -> None:
    fetch_checkpoint(exported())
    graphs = drafts(home, **BODIES)
    install(exported(), graphs)
    found = fetch(exported())
    assert {role: path.read_bytes() for role, path in found.items()} == BODIES
    assert not any(path.exists() for path in graphs.values())
    hashes = {f"{role}.onnx": sha256(body) for role, body in BODIES.items()}
    assert recorded(home) == {"tiny.pth": sha256(CHECKPOINT), **hashes}
    assert [item.against for item in verify(exported())] == ["first use"] * 3


def test_installed_graphs_take_the_place_of_others(home: Path) -> None:
    others = {role: body.upper() for role, body in BODIES.items()}
    # As many bytes at the same time as before: what is remembered of a path no longer holds.
    for bodies in (BODIES, others):
        graphs = drafts(home, **bodies)
        for draft in graphs.values():
            os.utime(draft, (0, 0))
            sha256_of(draft)
        install(exported(), graphs)
        for path in fetch(exported()).values():
            sha256_of(path)
    found = fetch(exported())
    assert {role: path.read_bytes() for role, path in found.items()} == others
    hashes = [sha256(body) for body in others.values()]
    assert [item.sha256 for item in verify(exported())] == hashes
    assert [sha256_of(path) for path in found.values()] == hashes


def test_exported_graph_that_changed(home: Path) -> None:
    install(exported(), drafts(home, **BODIES))
    place(home / "tiny", image=b"other")
    with pytest.raises(ActionClipError) as caught:
        verify(exported())
    assert str(caught.value) == (
        f"{home / 'tiny' / 'image.onnx'} has the sha256 {sha256(b'other')} instead of {sha256(BODIES['image'])} "
        "(first use): run action-clip export tiny to export it again, "
        f"or delete its lines in {home / HASHES} if the change was yours"
    )


def test_install_waits_for_another_run(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    graphs = drafts(home, **BODIES)
    lock = FileLock(home / "tiny" / ".lock", thread_local=False)
    lock.acquire()
    thread = threading.Thread(target=install, args=(exported(), graphs))
    thread.start()
    wait_until(lambda: caplog.messages)
    assert locate(exported()) is None
    lock.release()
    thread.join()
    assert locate(exported()) is not None


@pytest.mark.parametrize("culprit", ["replace", "_record"])
def test_install_into_a_folder_that_cannot_be_written(
    home: Path, monkeypatch: pytest.MonkeyPatch, culprit: str
) -> None:
    graphs = drafts(home, **BODIES)

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os if culprit == "replace" else action_clip.models.store.hashes, culprit, refuse)
    with pytest.raises(ActionClipError) as caught:
        install(exported(), graphs)
    assert str(caught.value) == (
        f"{home / 'tiny'} cannot be written (No space left on device): set ACTION_CLIP_HOME to another one, "
        "or use --model nano, which needs no download"
    )
