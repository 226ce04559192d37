"""Encoding labels: in chunks, from the cache, refused before anything is encoded, and stopped half-way."""

import sqlite3
import sys
import threading
import tracemalloc
from collections.abc import Sequence
from concurrent.futures import CancelledError
from contextlib import closing
from dataclasses import replace
from io import StringIO
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from fault_server import wait_until
from numpy.typing import NDArray
from small_models import SmallModel, random_model, save_model

import action_clip.models.label_encoder
import action_clip.video.reader
from action_clip import ActionClip, ActionClipError
from action_clip.models.cache.feature_memory import MEMORY
from action_clip.models.label_encoder import LabelEncoder
from action_clip.models.runtime.graph import Graph
from action_clip.models.store.home import LABEL_BANK, home
from action_clip.tokenizer.bpe import Tokenizer, default_tokenizer
from action_clip.tokenizer.prompts import DEFAULT_PROMPTS, fill_prompts

LABELS = [
    f"{verb} {count} {things}" for verb in ("eating", "throwing") for count in range(6) for things in ("plums", "x")
]
PROMPTS = ("{}", "a video of {}", "someone is {} in the street")
AVERAGES = pytest.mark.parametrize("average", ["probabilities", "embeddings"])
TOO_LONG = "very " * 80 + "long"
PATIENCE_S = 60.0


@pytest.fixture
def model() -> SmallModel:
    return random_model(1, 8, False)


@pytest.fixture
def folder(tmp_path: Path, model: SmallModel) -> Path:
    return save_model(model, tmp_path / "model", frames=8)


def by_hand(model: SmallModel, average: str, labels: Sequence[str], prompts: Sequence[str]) -> NDArray[np.float32]:
    features = model.text(default_tokenizer().encode(fill_prompts(prompts, labels)))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    bank = features.reshape(len(prompts), len(labels), -1)
    if average == "embeddings":
        bank = bank.mean(axis=0, keepdims=True)
        bank /= np.linalg.norm(bank, axis=2, keepdims=True)
    return bank


def rows_and_bytes() -> tuple[int, int]:
    """What the file of the label bank holds."""
    with closing(sqlite3.connect(home() / LABEL_BANK)) as bank:
        rows, size = bank.execute("SELECT count(*), sum(length(vector)) FROM features").fetchone()
        return rows, size


@AVERAGES
@pytest.mark.parametrize("chunk", [1, 3, 16, 33, 72, 10_000])
def test_chunks_give_the_same_as_all_at_once(
    folder: Path, model: SmallModel, average: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(action_clip.models.label_encoder, "_CHUNK", chunk)
    expected = by_hand(model, average, LABELS, PROMPTS)
    for keep in (False, True, True):
        MEMORY.clear()
        encoder = LabelEncoder(Graph(folder / "text.onnx"), PROMPTS, average, cache=keep)
        bank = encoder.encode(LABELS, Event())
        assert bank.dtype == np.float32
        np.testing.assert_allclose(bank, expected, rtol=0, atol=1e-5)


class _StoppingGraph(Graph):
    """After its second run it wants the work to stop."""

    def __init__(self, path: Path, stop: Event) -> None:
        super().__init__(path)
        self.texts: list[int] = []
        self.stop = stop

    def __call__(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        self.texts.append(len(rows))
        if len(self.texts) == 2:
            self.stop.set()
        return super().__call__(rows)


@AVERAGES
def test_chunks_encoded_before_a_stop_are_cached(
    folder: Path, model: SmallModel, average: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(action_clip.models.label_encoder, "_CHUNK", 15)  # 5 labels
    stop = Event()
    graph = _StoppingGraph(folder / "text.onnx", stop)
    with pytest.raises(CancelledError):
        LabelEncoder(graph, PROMPTS, average, cache=True).encode(LABELS, stop)
    assert graph.texts == [15, 15]
    kept = 10 if average == "embeddings" else 30
    assert rows_and_bytes()[0] == kept

    MEMORY.clear()
    rest = _StoppingGraph(folder / "text.onnx", Event())
    bank = LabelEncoder(rest, PROMPTS, average, cache=True).encode(LABELS, Event())
    assert sum(rest.texts) == 3 * (len(LABELS) - 10)
    np.testing.assert_allclose(bank, by_hand(model, average, LABELS, PROMPTS), rtol=0, atol=1e-5)


@AVERAGES
@pytest.mark.parametrize("cache", [False, True])
def test_a_label_too_long_is_named_before_any_text_is_encoded(
    folder: Path, opened: list[Path], average: str, cache: bool
) -> None:
    labels = [f"label {i}" for i in range(4000)]
    labels.insert(3999, TOO_LONG)
    with pytest.raises(ActionClipError, match=r"the label 'very very .* makes, in its prompt, \d\d tokens"):
        ActionClip(folder, average=average, cache=cache).labels(labels)
    assert opened == []
    assert not (home() / LABEL_BANK).exists()


@AVERAGES
def test_a_label_too_long_among_known_ones_is_named(folder: Path, opened: list[Path], average: str) -> None:
    ActionClip(folder, average=average).labels(LABELS)
    known = rows_and_bytes()
    opened.clear()
    with pytest.raises(ActionClipError, match=r"the label 'very very .* makes, in its prompt, \d\d tokens"):
        ActionClip(folder, average=average).labels([*LABELS, TOO_LONG])
    assert opened == []
    assert rows_and_bytes() == known


@AVERAGES
def test_the_longest_prompt_decides_what_is_too_long(folder: Path, opened: list[Path], average: str) -> None:
    label = "a b c d e " * 6  # 32 tokens with start and end, few letters
    short, long = "a {}", "and " * 50 + "{}"
    fits = ActionClip(folder, average=average, prompts=[short]).labels(["eating", label]).embeddings
    assert np.isfinite(fits).all()
    opened.clear()
    with pytest.raises(ActionClipError, match=r"the label 'a b c .* makes, in its prompt, 82 tokens"):
        ActionClip(folder, average=average, prompts=[short, long]).labels(["eating", label])
    assert opened == []


@AVERAGES
def test_known_labels_need_no_tokenizer_however_long(
    folder: Path, opened: list[Path], average: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = ["eating", "somebody who is eating a great many ripe plums in the shade of an old tree"]
    first = ActionClip(folder, average=average).labels(labels).embeddings
    MEMORY.clear()

    def refuse(*_: object) -> None:
        raise AssertionError("tokenized")

    monkeypatch.setattr(Tokenizer, "tokenize", refuse)
    opened.clear()
    np.testing.assert_array_equal(ActionClip(folder, average=average).labels(labels).embeddings, first)
    assert opened == []
    with pytest.raises(AssertionError, match="tokenized"):
        ActionClip(folder, average=average).labels([*labels, "something new"])


def test_averaged_embeddings_are_kept_once_a_label(folder: Path, opened: list[Path]) -> None:
    first = ActionClip(folder, average="embeddings").labels(LABELS).embeddings
    mean_rows, mean_bytes = rows_and_bytes()
    assert mean_rows == len(LABELS)
    MEMORY.clear()
    opened.clear()
    again = ActionClip(folder, average="embeddings").labels(LABELS[::-1]).embeddings
    np.testing.assert_array_equal(again, first[:, ::-1])
    assert opened == []

    ActionClip(folder, average="probabilities").labels(LABELS)
    rows, size = rows_and_bytes()
    assert rows - mean_rows == len(DEFAULT_PROMPTS) * mean_rows
    assert size - mean_bytes == len(DEFAULT_PROMPTS) * mean_bytes


def test_means_over_other_prompts_are_kept_apart(folder: Path, model: SmallModel) -> None:
    for prompts in (PROMPTS, PROMPTS[::-1], PROMPTS[:2]):
        for _ in range(2):
            MEMORY.clear()
            bank = ActionClip(folder, average="embeddings", prompts=prompts).labels(LABELS).embeddings
            np.testing.assert_allclose(bank, by_hand(model, "embeddings", LABELS, prompts), rtol=0, atol=1e-5)
    assert rows_and_bytes()[0] == 3 * len(LABELS)


@pytest.mark.parametrize("known", [False, True])
def test_memory_is_little_more_than_that_of_the_label_bank(
    tmp_path: Path, model: SmallModel, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MEMORY, "most_bytes", 1 << 20)
    wide = np.random.default_rng(2).normal(size=(len(model.text_out), 768)).astype(np.float32)
    save_model(replace(model, text_out=wide), tmp_path, frames=8)
    labels = [f"label {i}" for i in range(3000)]
    recogniser = ActionClip(tmp_path, prompts=["{}", "a {}"])
    recogniser.labels(labels if known else ["imports"])
    tracemalloc.start()
    try:
        bank = recogniser.labels(labels).embeddings
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert bank.nbytes == 2 * 3000 * 768 * 4
    assert peak < 1.6 * bank.nbytes


class _Stream(StringIO):
    def __init__(self, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


@pytest.mark.parametrize(
    ("is_terminal", "chunk", "shown"),
    [(True, 6, True), (True, 10_000, False), (False, 6, False), (False, 10_000, False)],
)
def test_progress_is_shown_on_a_terminal_where_there_is_any(
    folder: Path, monkeypatch: pytest.MonkeyPatch, is_terminal: bool, chunk: int, shown: bool
) -> None:
    monkeypatch.setattr(action_clip.models.label_encoder, "_CHUNK", chunk)
    monkeypatch.setattr(action_clip.models.label_encoder, "_BAR_AFTER_S", 0)
    stream = _Stream(is_terminal)
    monkeypatch.setattr(sys, "stderr", stream)
    LabelEncoder(Graph(folder / "text.onnx"), PROMPTS, "probabilities", cache=False).encode(LABELS, Event())
    if shown:
        assert "encoding labels" in stream.getvalue()
        assert "labels/s" in stream.getvalue()
        assert stream.getvalue().rpartition("\r")[0].rpartition("\r")[2].strip() == ""  # nothing is left of it
    else:
        assert stream.getvalue() == ""


def test_a_short_wait_shows_no_progress(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(action_clip.models.label_encoder, "_CHUNK", 6)
    monkeypatch.setattr(action_clip.models.label_encoder, "_BAR_AFTER_S", 1000)
    stream = _Stream(True)
    monkeypatch.setattr(sys, "stderr", stream)
    LabelEncoder(Graph(folder / "text.onnx"), PROMPTS, "probabilities", cache=False).encode(LABELS, Event())
    assert "encoding labels" not in stream.getvalue()


def test_a_video_that_cannot_be_read_stops_the_encoding(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(action_clip.models.label_encoder, "_CHUNK", 16)  # one label
    labels = [f"label {i}" for i in range(1000)]
    encoding, failed = Event(), Event()
    read, call = action_clip.video.reader.read_clip, Graph.__call__

    def read_while_encoding(*arguments: Any, **named: Any) -> Any:
        assert encoding.wait(PATIENCE_S)
        try:
            return read(*arguments, **named)
        finally:
            failed.set()

    def encode_until_it_fails(graph: Graph, rows: NDArray[Any]) -> NDArray[np.float32]:
        encoding.set()
        assert failed.wait(PATIENCE_S)
        return call(graph, rows)

    monkeypatch.setattr("action_clip.video.inputs.read_clip", read_while_encoding)
    monkeypatch.setattr(Graph, "__call__", encode_until_it_fails)
    (tmp_path / "broken.mp4").write_bytes(b"this is no video")
    threads = set(threading.enumerate())
    with pytest.raises(ActionClipError, match=r"broken\.mp4"):
        ActionClip(folder).classify(tmp_path / "broken.mp4", labels)
    wait_until(lambda: not set(threading.enumerate()) - threads)
    assert rows_and_bytes()[0] < 16 * len(labels) / 2


def test_a_label_that_cleaning_makes_longer_is_named_before_any_text_is_encoded(tmp_path: Path) -> None:
    save_model(random_model(1, 8, False), tmp_path, frames=8)
    recogniser = ActionClip(tmp_path, prompts=["{}"])
    grows = "Ⱥ" * 36  # 72 bytes, in lower case 108
    with pytest.raises(ActionClipError, match=f"the label '{grows}' makes"):
        recogniser.labels([*(f"label {i}" for i in range(600)), grows])
    assert not (home() / LABEL_BANK).exists()
