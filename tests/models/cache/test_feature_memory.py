"""Features in memory: bounded, the right ones, for all models and threads of a process and for its children."""

import logging
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from small_models import random_model, save_model

from action_clip import ActionClip, ActionClipError, main
from action_clip.models.cache.feature_memory import MEMORY, FeatureMemory
from action_clip.models.cache.text_feature_file import MARK
from action_clip.models.runtime.graph import Graph
from action_clip.models.store.home import LABEL_BANK, home

ROOT = Path(__file__).parents[3]
LABELS = ["eating", "drinking", "riding a bicycle"]
AVERAGES = pytest.mark.parametrize("average", ["probabilities", "embeddings"])


def row(number: int, size: int = 256) -> NDArray[np.float32]:
    return np.full(size, number, np.float32)


def frames() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (8, 48, 60, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_model(random_model(1, 8, False), tmp_path / "model", frames=8)


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many texts each run of a text graph has encoded."""
    counts = []
    call = Graph.__call__

    def counted(graph: Graph, rows: NDArray[Any]) -> NDArray[np.float32]:
        if graph.path.name == "text.onnx":
            counts.append(len(rows))
        return call(graph, rows)

    monkeypatch.setattr(Graph, "__call__", counted)
    return counts


def test_what_is_written_is_read_again_in_its_space() -> None:
    memory = FeatureMemory()
    memory.write("a", {"eating": row(1)})
    memory.write("b", {"eating": row(2), "drinking": row(3)})
    assert memory.read("a", ["eating", "drinking"]).keys() == {"eating"}
    np.testing.assert_array_equal(memory.read("a", ["eating"])["eating"], row(1))
    np.testing.assert_array_equal(memory.read("b", ["eating"])["eating"], row(2))
    memory.clear()
    assert memory.read("a", ["eating"]) == {}


def test_what_was_not_used_for_longest_goes_first() -> None:
    memory = FeatureMemory(100_000)
    for number in range(500):
        memory.write("a", {str(number): row(number)})
        memory.read("a", ["0"])
    known = memory.read("a", map(str, range(500)))
    assert set(known) == {"0", *map(str, range(501 - len(known), 500))}
    assert 100_000 // 2000 < len(known) < 100_000 // 1024


@pytest.mark.parametrize("size", [1, 64, 512])
def test_it_takes_no_more_than_its_limit(size: int) -> None:
    import tracemalloc

    tracemalloc.start()
    try:
        memory = FeatureMemory(1 << 20)
        for number in range(20_000):
            memory.write("a", {f"a video of {number}": row(number, size)})
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(memory.read("a", ["a video of 19999"])) == 1
    assert 0.5 * (1 << 20) < taken < 1.2 * (1 << 20)


def test_threads_share_it() -> None:
    memory = FeatureMemory(200_000)

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(300):
            numbers = rng.integers(0, 200, 20)
            memory.write("a", {str(number): row(number) for number in numbers})
            for text, feature in memory.read("a", map(str, rng.integers(0, 200, 20))).items():
                assert feature[0] == int(text)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [None] * 4


FORKS = """
import os, sys, threading, time
import numpy as np
from action_clip.models.cache.feature_memory import MEMORY
MEMORY.write("a", {"eating": np.ones(4, np.float32)})
locked = threading.Event()

def hold():
    with MEMORY.lock:
        locked.set()
        time.sleep(0.3)

threading.Thread(target=hold).start()
locked.wait()
child = os.fork()
if not child:
    os._exit(len(MEMORY.read("a", ["eating"])) + 40)
for _ in range(600):
    done, status = os.waitpid(child, os.WNOHANG)
    if done:
        break
    time.sleep(0.1)
else:
    os.kill(child, 9)
print(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="nothing forks there")
def test_a_fork_beside_a_thread_that_uses_it_can_use_it() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKS], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert (done.stdout, done.stderr) == ("41\n", "")


@AVERAGES
@pytest.mark.parametrize("cache", [True, False])
def test_a_label_is_encoded_once_and_looked_up_on_the_disk_once(
    folder: Path, texts: list[int], average: str, cache: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    recogniser = ActionClip(folder, average=average, cache=cache)
    first = recogniser.classify(frames(), LABELS)
    assert sum(texts) == 16 * len(LABELS)
    assert (home() / LABEL_BANK).exists() == cache

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("looked up on the disk")

    monkeypatch.setattr(sqlite3, "connect", refuse)
    np.testing.assert_array_equal(recogniser.classify(frames(), LABELS).probabilities, first.probabilities)
    other = recogniser.classify(frames(), LABELS[1:])
    assert other.labels == tuple(LABELS[1:])
    assert sum(texts) == 16 * len(LABELS)


def test_models_share_what_is_the_same_and_nothing_else(folder: Path, tmp_path: Path, texts: list[int]) -> None:
    def probabilities(path: Path, **options: Any) -> list[float]:
        return ActionClip(path, **options).classify(frames(), LABELS).probabilities.tolist()  # type: ignore[no-any-return]

    expected = probabilities(folder)
    other = save_model(random_model(5, 8, False), tmp_path / "other", frames=8)
    assert probabilities(folder) == expected
    assert sum(texts) == 48
    assert probabilities(folder, cache=False) == pytest.approx(expected, abs=1e-6)
    assert probabilities(folder, cache=False) == pytest.approx(expected, abs=1e-6)
    assert sum(texts) == 3 * 48
    assert probabilities(other) != pytest.approx(expected, abs=1e-3)
    assert probabilities(other, cache=False) == pytest.approx(probabilities(other), abs=1e-6)
    assert probabilities(folder, average="embeddings") != expected
    assert probabilities(folder) == expected


def test_labels_that_do_not_fit_into_it_are_all_right(
    folder: Path, texts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = ActionClip(folder).labels(LABELS).embeddings
    monkeypatch.setattr(MEMORY, "most_bytes", 3000)
    recogniser = ActionClip(folder, cache=False)
    for _ in range(2):
        np.testing.assert_allclose(recogniser.labels(LABELS).embeddings, expected, rtol=0, atol=1e-6)
    assert sum(texts) > 2 * 48


def make_unwritable(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if place == "a home that is a file":
        monkeypatch.setenv("ACTION_CLIP_HOME", str(home() / "file"))
        home().write_text("of the user")
    elif place == "a folder for a bank":
        (home() / LABEL_BANK).mkdir()
    elif place == "another's file":
        (home() / LABEL_BANK).write_text("of the user")
    else:
        monkeypatch.delenv("ACTION_CLIP_HOME")
        monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: Path("~/.cache/action_clip"))


@pytest.mark.parametrize("place", ["a home that is a file", "a folder for a bank", "another's file", "no home"])
def test_where_nothing_can_be_kept_labels_are_encoded_once_and_it_is_said_once(
    folder: Path, texts: list[int], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    make_unwritable(place, monkeypatch)
    answers = [ActionClip(folder).classify(frames(), LABELS).probabilities for _ in range(3)]
    ActionClip(folder).classify(frames(), [*LABELS, "something new"])
    for answer in answers:
        np.testing.assert_array_equal(answer, answers[0])
    assert sum(texts) == 16 * (len(LABELS) + 1)
    said = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert len([message for message in said if "label bank" in message or "nothing is kept" in message]) <= 1
    assert "labels are encoded anew in every run" in caplog.text or "nothing is kept between runs" in caplog.text


def test_a_benchmark_encodes_labels_anew(folder: Path, texts: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--model", str(folder), *(f"--text={label}" for label in LABELS)]
    assert main([*arguments, "--benchmark"]) == 0
    assert sum(texts) == 6 * 48
    assert "text" in capsys.readouterr().err
    assert not (home() / LABEL_BANK).exists()


def beside(folder: Path, seed: int) -> Path:
    """A model of which the text graph keeps its weights in text.data."""
    path = save_model(random_model(seed, 8, False), folder, frames=8) / "text.onnx"
    (folder / "text.data").unlink(missing_ok=True)
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="text.data", size_threshold=100)
    return folder


@pytest.mark.parametrize("in_memory", [True, False])
def test_weights_in_another_file_are_another_graph(tmp_path: Path, in_memory: bool) -> None:
    one, other = beside(tmp_path / "one", 1), beside(tmp_path / "other", 2)
    mixed = beside(tmp_path / "mixed", 1)
    first = ActionClip(one).labels(LABELS).embeddings
    (mixed / "text.data").write_bytes((other / "text.data").read_bytes())
    if not in_memory:
        MEMORY.clear()
    expected = ActionClip(other, cache=False).labels(LABELS).embeddings
    np.testing.assert_allclose(ActionClip(mixed).labels(LABELS).embeddings, expected, rtol=0, atol=1e-6)
    assert not np.allclose(first, expected, atol=1e-3)


Change = Callable[[pytest.MonkeyPatch], object]
CONDITIONS: dict[str, Change] = {
    "onnxruntime": lambda patch: patch.setattr("onnxruntime.__version__", "0.0.1"),
    "processor": lambda patch: patch.setattr("action_clip.models.cache.session_cache._processor", lambda: "another"),
    "tokenizer": lambda patch: patch.setattr("action_clip.tokenizer.bpe.Tokenizer.identity", "another"),
    "layout": lambda patch: patch.setattr("action_clip.models.cache.session_cache._LAYOUT", 77),
    "provider": lambda patch: patch.setattr(
        "action_clip.models.runtime.graph.provider", lambda device: f"{device} another"
    ),
}


@pytest.mark.parametrize("condition", CONDITIONS)
def test_features_made_in_other_conditions_are_not_used(folder: Path, condition: str) -> None:
    def space() -> str:
        from action_clip.models.label_encoder import LabelEncoder

        encoder = LabelEncoder(Graph(folder / "text.onnx", keep=True), ["{}"], "probabilities", cache=True)
        return encoder._cache.space

    first = space()
    assert space() == first
    with pytest.MonkeyPatch.context() as patch:
        CONDITIONS[condition](patch)
        assert space() != first
    assert first.startswith(MARK)


def test_a_graph_that_is_replaced_while_it_is_in_use_is_not_taken_for_the_first(folder: Path, tmp_path: Path) -> None:
    ActionClip(folder).labels(LABELS)
    MEMORY.clear()
    recogniser = ActionClip(folder)
    recogniser.labels(LABELS)  # out of the label bank: no session is made
    other = save_model(random_model(5, 8, False), tmp_path / "other", frames=8)
    (other / "text.onnx").replace(folder / "text.onnx")
    with pytest.raises(ActionClipError, match=r"text\.onnx was replaced while it was in use: start again"):
        recogniser.labels([*LABELS, "something new"])
    expected = ActionClip(folder, cache=False).labels(["something new"]).embeddings
    np.testing.assert_allclose(ActionClip(folder).labels(["something new"]).embeddings, expected, rtol=0, atol=1e-6)
