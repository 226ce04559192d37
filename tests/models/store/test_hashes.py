"""What files and graphs are known by: never by what is not theirs."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from small_models import random_model, save_model

import action_clip.models.store.hashes
from action_clip.errors import ActionClipError
from action_clip.models.store.hashes import (
    first_use_hashes,
    graph_identity,
    record_first_use,
    sha256_of,
)
from action_clip.models.store.home import HASHES, home

ROOT = Path(__file__).parents[3]


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.onnx"
    path.write_bytes(b"one")
    return path


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are read whole, in order."""
    really = action_clip.models.store.hashes.read_sha256
    paths = []

    def watched(path: Path) -> str:
        paths.append(path)
        return really(path)

    monkeypatch.setattr(action_clip.models.store.hashes, "read_sha256", watched)
    return paths


def beside(folder: Path, seed: int) -> Path:
    """A text graph that keeps its weights in text.data."""
    path = save_model(random_model(seed, 8, False), folder, frames=8) / "text.onnx"
    (folder / "text.data").unlink(missing_ok=True)
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="text.data", size_threshold=100)
    return path


def facts() -> list[dict[str, Any]]:
    """The lines of the record."""
    return [json.loads(line) for line in (home() / HASHES).read_text().splitlines()]


def write_facts(facts: Iterable[dict[str, Any]]) -> None:
    (home() / HASHES).write_text("".join(f"{json.dumps(fact)}\n" for fact in facts))


def keep_times(path: Path, change: Callable[[], object]) -> None:
    stat = path.stat()
    change()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)


def test_a_file_is_read_once(path: Path, read: list[Path]) -> None:
    for _ in range(3):
        assert sha256_of(path) == sha256(b"one")
    assert read == [path]
    assert sorted(item.name for item in home().iterdir()) == [HASHES, f"{HASHES}.lock"]


@pytest.mark.parametrize("how", ["written into", "replaced", "copied over with its times", "longer"])
def test_a_file_that_was_replaced_is_read_again(path: Path, tmp_path: Path, how: str) -> None:
    sha256_of(path)
    other = tmp_path / "other"
    other.write_bytes(b"three" if how == "longer" else b"two")
    stat = path.stat()
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    if how == "written into":
        keep_times(path, lambda: path.write_bytes(b"two"))
    elif how == "replaced":
        keep_times(path, lambda: other.replace(path))
    else:
        shutil.copy2(other, path)
    assert sha256_of(path) == sha256(b"three" if how == "longer" else b"two")


def test_samples_of_the_content_tell_files_apart_without_times_and_inodes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a file system without numbers of files and times of change."""
    whole = np.random.default_rng(0).bytes(1 << 20)
    really = os.fstat

    def without(descriptor: int) -> SimpleNamespace:
        facts = really(descriptor)
        numbers = {name: getattr(facts, name) for name in ("st_size", "st_mode", "st_nlink", "st_dev")}
        return SimpleNamespace(**numbers, st_mtime_ns=1, st_ctime_ns=1, st_ino=0)

    monkeypatch.setattr(os, "fstat", without)
    path.write_bytes(whole)
    sha256_of(path)
    for other in (whole[:-1] + b"x", b"x" + whole[1:], np.random.default_rng(1).bytes(1 << 20)):
        path.write_bytes(other)
        assert sha256_of(path) == sha256(other)


FORMS = [
    "",
    "{FACT}",
    '{FACT, "seal": 1}',
    '{"kind": "", "path": KEY}',
    '{"kind": "last read", "path": KEY, "seal": []}',
]


@pytest.mark.parametrize("content", FORMS)
def test_a_line_of_another_form_is_replaced(path: Path, read: list[Path], content: str) -> None:
    fact = '"kind": "last read", "path": KEY, "sha256": "other", "stamp": [], "weights": null'
    (home() / HASHES).write_text(content.replace("FACT", fact).replace("KEY", json.dumps(str(path))))
    for _ in range(2):
        assert sha256_of(path) == sha256(b"one")
    assert read == [path]
    assert [fact["sha256"] for fact in facts()] == [sha256(b"one")]


def test_damage_to_the_record_changes_no_hash(path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    other = tmp_path / "b.onnx"
    other.write_bytes(b"two")
    sha256_of(path), sha256_of(other)
    record = home() / HASHES
    clean = record.read_bytes()
    lines = facts()
    write_facts(line | {"path": other_line["path"]} for line, other_line in zip(lines, reversed(lines), strict=True))
    swapped = record.read_bytes()
    # The other's hash with this one's stamp.
    write_facts(line | {"sha256": sha256(b"two")} for line in lines)
    mixed = record.read_bytes()
    damages = [swapped, mixed, bytes(len(clean)), b"{", clean.replace(b"\n", b"")]
    damages += [clean[:size] for size in range(0, len(clean), 50)]
    rng = np.random.default_rng(0)
    for at in rng.integers(len(clean), size=100):
        damages.append(clean[:at] + bytes([clean[at] ^ 1 << rng.integers(8)]) + clean[at + 1 :])
    for damaged in damages:
        record.write_bytes(damaged)
        assert [sha256_of(path), sha256_of(other)] == [sha256(b"one"), sha256(b"two")]
        # It is whole again.
        assert {fact["sha256"] for fact in facts()} == {sha256(b"one"), sha256(b"two")}
    assert not caplog.records


def test_the_record_is_cut_down_to_the_files_last_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(action_clip.models.store.hashes, "_MOST_READ", 10)
    model = home() / "tiny"
    record_first_use({model / "text.onnx": sha256(b"text")})
    files = [tmp_path / str(number) for number in range(30)]
    for file in files:
        file.write_bytes(b"one")
        assert sha256_of(file) == sha256(b"one")
        assert len(facts()) <= 11
    read = [fact["path"] for fact in facts() if fact["kind"] == "last read"]
    assert read == [str(file) for file in files[-10:]]
    assert first_use_hashes(model)["text.onnx"].sha256 == sha256(b"text")


def test_a_line_that_was_cut_off_does_not_affect_others(path: Path, read: list[Path]) -> None:
    """As where a process was killed while it wrote."""
    model = home() / "tiny"
    record_first_use({model / "text.onnx": sha256(b"text")})
    sha256_of(path)
    record = home() / HASHES
    record.write_bytes(record.read_bytes()[:-20])
    assert sha256_of(path) == sha256(b"one")
    assert read == [path, path]
    assert first_use_hashes(model)["text.onnx"].sha256 == sha256(b"text")


def test_a_lock_that_cannot_be_had_stops_no_record() -> None:
    """It is another user's, in a folder that both may write into, or the file system has none."""
    (home() / f"{HASHES}.lock").mkdir(parents=True)
    model = home() / "tiny"
    record_first_use({model / "text.onnx": sha256(b"text")})
    record_first_use({model / "image.onnx": sha256(b"image")})
    assert {name: first_use.sha256 for name, first_use in first_use_hashes(model).items()} == {
        "text.onnx": sha256(b"text"),
        "image.onnx": sha256(b"image"),
    }


def test_processes_that_run_at_once_lose_nothing_of_each_other() -> None:
    program = """
import sys
from pathlib import Path
from action_clip.models.store.hashes import record_first_use
for number in range(100):
    record_first_use({Path(sys.argv[1], f"{number}.onnx"): f"{number:064}"})
"""
    models = [home() / str(number) for number in range(3)]
    processes = [subprocess.Popen([sys.executable, "-c", program, str(model)], cwd=ROOT) for model in models]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    hashes = {f"{number}.onnx": f"{number:064}" for number in range(100)}
    for model in models:
        assert {name: first_use.sha256 for name, first_use in first_use_hashes(model).items()} == hashes


def test_a_file_that_changes_while_it_is_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(path: Path) -> str:
        path.write_bytes(b"longer")
        return sha256(b"one")

    with monkeypatch.context() as patch:
        patch.setattr(action_clip.models.store.hashes, "read_sha256", read)
        sha256_of(path)
    assert sha256_of(path) == sha256(b"longer")


def test_without_a_home(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACTION_CLIP_HOME", str(path))
    assert sha256_of(path) == sha256(b"one")
    graph = beside(path.parent / "model", 1)
    assert graph_identity(graph) == graph_identity(graph)


def test_a_missing_file_has_no_hash(tmp_path: Path) -> None:
    with pytest.raises(ActionClipError, match=r"a\.onnx cannot be read \(No such file or directory\)"):
        sha256_of(tmp_path / "a.onnx")


def test_a_graph_in_one_file_is_known_by_it(tmp_path: Path) -> None:
    path = save_model(random_model(1, 8, False), tmp_path, frames=8) / "text.onnx"
    assert graph_identity(path) == sha256(path.read_bytes())


def test_a_graph_is_known_by_its_weights_too(tmp_path: Path, read: list[Path]) -> None:
    path, other = beside(tmp_path / "one", 1), beside(tmp_path / "two", 2)
    identity = graph_identity(path)
    assert identity not in (sha256(path.read_bytes()), graph_identity(other))
    assert path.read_bytes() == other.read_bytes()
    assert sorted(read) == sorted([path, other, *(graph.with_name("text.data") for graph in (path, other))])
    read.clear()
    assert graph_identity(path) == identity
    assert read == []
    # With the size and the times of those that were there.
    weights = path.with_name("text.data")
    keep_times(weights, lambda: shutil.copy(other.with_name("text.data"), weights))
    assert graph_identity(path) == graph_identity(other)
    moved = Path(shutil.copytree(path.parent, tmp_path / "three"), "text.onnx")
    assert graph_identity(moved) == graph_identity(other)


@pytest.mark.parametrize("what", ["the names", "the hashes"])
def test_a_graph_is_known_by_its_weights_whatever_is_remembered(tmp_path: Path, what: str) -> None:
    path = beside(tmp_path, 1)
    identity = graph_identity(path)
    wrong: dict[str, Any] = {"weights": []} if what == "the names" else {"sha256": "0" * 64}
    write_facts(fact | wrong for fact in facts())
    assert graph_identity(path) == identity


def test_a_missing_or_invalid_graph_has_no_identity(tmp_path: Path) -> None:
    path = beside(tmp_path, 1)
    (tmp_path / "text.data").rename(tmp_path / "moved")
    with pytest.raises(ValueError, match=r"in the file 'text.data', which is missing$"):
        graph_identity(path)
    (tmp_path / "moved").rename(tmp_path / "text.data")
    graph_identity(path)
    (tmp_path / "text.data").unlink()
    with pytest.raises(ActionClipError, match=r"text\.data cannot be read \(No such file or directory\)"):
        graph_identity(path)
    path.write_bytes(b"no graph")
    with pytest.raises(ValueError, match="no ONNX model"):
        graph_identity(path)
