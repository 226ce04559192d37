"""What is kept of an answer: thumbnails and not frames; what is pickled of a model: its arguments and no sessions."""

import gc
import pickle
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from small_models import CLASSES, random_closed_model, random_model, save_closed_model, save_model

from action_clip import ActionClip, ActionClipOperator, TimeSformer, TimeSformerOperator
from action_clip.video.thumbnails import MOST_BYTES

LABELS = ["drinking", "riding a bicycle", "playing the drums"]
FRAMES = 8
SLACK = 8 << 10
"""Bytes of an answer beside its frames: features, probabilities, times."""


@pytest.fixture
def model(tmp_path: Path) -> ActionClip:
    return ActionClip(save_model(random_model(1, FRAMES, True), tmp_path / "model", frames=FRAMES), threads=2)


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    return save_closed_model(random_closed_model(1, frames=4), tmp_path / "closed")


def film(count: int, height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)


@contextmanager
def growth() -> Iterator[list[int]]:
    """How many bytes are taken more after the block, without what only the collector of cycles would free."""
    grown: list[int] = []
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        yield grown
        grown.append(tracemalloc.get_traced_memory()[0] - before)
    finally:
        tracemalloc.stop()
        gc.enable()


@pytest.mark.slow
def test_a_thousand_answers_take_the_memory_of_their_thumbnails(closed: Path) -> None:
    model, frames = TimeSformer(closed, threads=1), film(6, 48, 60)
    model.classify(frames)
    with growth() as grown:
        answers = [model.classify(frames) for _ in range(1000)]
    assert grown[0] < 1000 * (answers[0].frames.nbytes + SLACK)


@pytest.mark.slow
@pytest.mark.parametrize(("height", "width"), [(1080, 1920), (1920, 1080)])
def test_answers_for_large_frames_are_small_in_memory_and_pickled(model: ActionClip, height: int, width: int) -> None:
    frames = film(FRAMES, height, width)
    model.classify(frames, LABELS)
    with growth() as grown:
        answers = [model.classify(frames, LABELS) for _ in range(4)]
        encoded = model.encode_video(frames)
    assert grown[0] < 5 * (MOST_BYTES + SLACK)
    for kept in (*answers, encoded):
        assert len(pickle.dumps(kept)) < MOST_BYTES + SLACK
    assert answers[0].frames.shape[0] == encoded.clip.frames.shape[0] == FRAMES
    assert answers[0].frame_indices == tuple(range(FRAMES))


def test_a_pickled_answer_is_the_same_answer(model: ActionClip) -> None:
    answer = model.classify(film(FRAMES, 48, 60), LABELS)
    again = pickle.loads(pickle.dumps(answer))
    assert again.ranked == answer.ranked
    assert (again.labels, again.frame_indices, again.model) == (answer.labels, answer.frame_indices, answer.model)
    np.testing.assert_array_equal(again.probabilities, answer.probabilities)
    np.testing.assert_array_equal(again.frames, answer.frames)


def test_a_pickled_model_is_its_arguments(tmp_path: Path, closed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = film(FRAMES, 48, 60)
    save_model(random_model(1, FRAMES, True), tmp_path / "model", frames=FRAMES)
    monkeypatch.chdir(tmp_path)
    model = ActionClip(
        "model", threads=1, prompts=["a photo of {}", "{}"], average="embeddings", cache=False, prepack=False
    )
    names = dict(enumerate(f"class {number}" for number in range(len(CLASSES))))
    classifier = TimeSformer(closed, threads=1, classmap=names, prepack=False)
    expected = model.classify(frames, LABELS), classifier.classify(frames)
    pickled = pickle.dumps((model, classifier))
    assert len(pickled) < 2000
    monkeypatch.chdir("/")
    model, classifier = pickle.loads(pickled)
    found = model.classify(frames, LABELS), classifier.classify(frames)
    for one, other in zip(found, expected, strict=True):
        assert one.labels == other.labels
        np.testing.assert_array_equal(one.probabilities, other.probabilities)


def test_a_model_of_the_catalog_is_pickled_by_its_name() -> None:
    model = ActionClip("nano", threads=1)
    model.labels(LABELS)
    again = pickle.loads(pickle.dumps(model))
    assert again.spec == model.spec
    np.testing.assert_array_equal(again.labels(LABELS).embeddings, model.labels(LABELS).embeddings)


def test_pickled_operators_have_no_features(tmp_path: Path, closed: Path) -> None:
    folder = save_model(random_model(1, FRAMES, True), tmp_path / "model", frames=FRAMES)
    names = {f"label {number}": number for number in range(200)}
    frames = list(film(FRAMES, 48, 60))
    for operator in (ActionClipOperator(str(folder), classmap=names), TimeSformerOperator(str(closed))):
        labels, scores, features = operator(frames)
        pickled = pickle.dumps(operator)
        assert len(pickled) < 10_000
        again = pickle.loads(pickled)(frames)
        assert again[:2] == (labels, pytest.approx(scores))
        np.testing.assert_allclose(again[2], features)
