"""Every fast path gives what the plain one gives: graphs kept, labels known, work side by side, labels in parts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from PIL import Image
from small_models import decoded, random_closed_model, random_model, save_closed_model, save_model

import action_clip.models.label_encoder
import action_clip.models.runtime.graph
from action_clip import ActionClip, TimeSformer
from action_clip.commands.samples import SAMPLE_LABELS, SAMPLE_VIDEO
from action_clip.models.catalog.specs import ModelSpec
from action_clip.models.model_graphs import find_model
from action_clip.models.store.home import home
from action_clip.models.store.installation import fetch
from action_clip.tokenizer.bpe import default_tokenizer
from action_clip.tokenizer.prompts import fill_prompts, read_labels
from action_clip.video.sampling import make_sampler

LABELS = read_labels(SAMPLE_LABELS)
AVERAGES = pytest.mark.parametrize("average", ["probabilities", "embeddings"])
Floats = NDArray[np.float64]
pytestmark = pytest.mark.usefixtures("unknown_videos")  # else only the first answer runs the image and fusion graphs


@dataclass(frozen=True, eq=False)
class Case:
    """A model, and what its three graphs make of the sample without any of our code around them."""

    model: str
    prompts: tuple[str, ...]
    scale: float
    video: Floats
    texts: Floats
    """(prompts, labels, D), of length 1."""

    def expected(self, average: str, labels: Sequence[str] = LABELS) -> Floats:
        texts = self.texts[:, [LABELS.index(label) for label in labels]]
        if average == "embeddings":
            texts = unit(texts.mean(axis=0, keepdims=True))
        exponentials = np.exp(self.scale * (texts @ self.video))
        return np.asarray((exponentials / exponentials.sum(axis=1, keepdims=True)).mean(axis=0))

    def classify(
        self,
        average: str,
        labels: Sequence[str] = LABELS,
        *,
        threads: int | None = None,
        cache: bool = True,
    ) -> Floats:
        recogniser = ActionClip(self.model, prompts=self.prompts, average=average, threads=threads, cache=cache)
        prediction = recogniser.classify(SAMPLE_VIDEO, labels)
        assert prediction.labels == tuple(labels)
        return prediction.probabilities


def unit(features: Floats) -> Floats:
    return np.asarray(features / np.linalg.norm(features, axis=-1, keepdims=True))


def tensor_of(frames: NDArray[np.uint8], spec: ModelSpec) -> NDArray[np.float32]:
    side = spec.image_size
    tensors = []
    for frame in frames:
        image = Image.fromarray(frame)
        factor = spec.resize / min(image.size)
        image = image.resize((int(image.width * factor), int(image.height * factor)), Image.Resampling.BICUBIC)
        left, top = round((image.width - side) / 2), round((image.height - side) / 2)
        pixels = np.asarray(image.crop((left, top, left + side, top + side)), dtype=np.float64) / 255
        tensors.append(((pixels - np.array(spec.mean)) / np.array(spec.std)).transpose(2, 0, 1))
    return np.stack(tensors).astype(np.float32)


def by_hand(model: str, prompts: Sequence[str] | None = None, *, one_text_at_a_time: bool = False) -> Case:
    """What onnxruntime's own sessions say, every text at 77 tokens."""
    spec, paths, _ = find_model(model)
    sessions = {role: onnxruntime.InferenceSession(path) for role, path in (paths or fetch(spec)).items()}

    def run(role: str, rows: NDArray[np.generic]) -> Floats:
        session = sessions[role]
        return np.asarray(session.run(None, {session.get_inputs()[0].name: rows})[0], dtype=np.float64)

    frames = decoded(SAMPLE_VIDEO)
    frames = frames[make_sampler("uniform", spec.frames, 0, spec.uniform)(len(frames))]
    of_frames = run("image", tensor_of(frames, spec))
    video = run("fusion", of_frames[np.newaxis].astype(np.float32))[0]
    chosen = tuple(spec.prompts if prompts is None else prompts)
    tokens = default_tokenizer().encode(fill_prompts(chosen, LABELS))
    groups = np.split(tokens, len(tokens)) if one_text_at_a_time else [tokens]
    texts = np.concatenate([run("text", group) for group in groups])
    return Case(model, chosen, spec.logit_scale, unit(video), unit(texts).reshape(len(chosen), len(LABELS), -1))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = save_model(random_model(1, 8, True), tmp_path_factory.mktemp("small"), frames=8)
    return by_hand(str(folder), one_text_at_a_time=True)


@pytest.fixture(scope="module")
def nano() -> Case:
    """With two prompts, one of them long: with all of its own, texts of 77 tokens take long."""
    return by_hand("nano", ["{}", "a video of a person who is {}"])


@pytest.fixture(params=["small", "nano"])
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.getfixturevalue(request.param)
    return found


def assert_same(probabilities: Floats, expected: Floats) -> None:
    np.testing.assert_allclose(probabilities, expected, rtol=0, atol=1e-5)
    assert expected.max() - expected.min() > 0.01  # an answer that says nothing would be like any other


@AVERAGES
def test_the_plain_way_is_what_the_graphs_say(case: Case, average: str) -> None:
    assert_same(case.classify(average, threads=1, cache=False), case.expected(average))


@AVERAGES
@pytest.mark.parametrize("threads", [1, None])
def test_runs_that_know_nothing_and_some_and_all_labels(small: Case, average: str, threads: int | None) -> None:
    for labels in (LABELS[1::2], LABELS, LABELS, LABELS[::-1]):
        probabilities = small.classify(average, labels, threads=threads)
        assert_same(probabilities, small.expected(average, labels))
        assert len(list((home() / "optimised").glob("*/graph.onnx"))) == 3


@pytest.mark.slow
def test_runs_of_the_embedded_model(nano: Case) -> None:
    for labels in (LABELS[1::2], LABELS, LABELS[::-1]):
        assert_same(nano.classify("embeddings", labels), nano.expected("embeddings", labels))
    # With its own prompts, too.
    plain = ActionClip("nano", threads=1, cache=False).classify(SAMPLE_VIDEO, LABELS[:4])
    for _ in range(2):
        assert_same(ActionClip("nano").classify(SAMPLE_VIDEO, LABELS[:4]).probabilities, plain.probabilities)


@AVERAGES
@pytest.mark.parametrize("threads", [2, None])
def test_text_and_video_side_by_side(small: Case, average: str, threads: int | None) -> None:
    assert_same(small.classify(average, threads=threads, cache=False), small.expected(average))


def test_text_and_video_of_the_embedded_model_side_by_side(nano: Case) -> None:
    assert_same(nano.classify("probabilities", threads=2, cache=False), nano.expected("probabilities"))


@AVERAGES
@pytest.mark.parametrize("chunk", [1, 37, 90])
def test_labels_in_several_chunks(small: Case, average: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(action_clip.models.label_encoder, "_CHUNK", chunk)
    for cache in (False, True, True):
        assert_same(small.classify(average, cache=cache), small.expected(average))


@AVERAGES
@pytest.mark.parametrize("tokens", [1, 30, 300])
def test_texts_in_several_batches(small: Case, average: str, tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(action_clip.models.runtime.graph, "_MAX_TOKENS", tokens)
    assert_same(small.classify(average, cache=False), small.expected(average))


def test_the_embedded_models_labels_in_chunks_and_batches(nano: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(action_clip.models.label_encoder, "_CHUNK", 12)
    monkeypatch.setattr(action_clip.models.runtime.graph, "_MAX_TOKENS", 40)
    probabilities = nano.classify("probabilities", cache=False)
    assert_same(probabilities, nano.expected("probabilities"))


def test_a_closed_set_kept_and_not_kept(tmp_path: Path) -> None:
    model = random_closed_model(3, frames=8)
    save_closed_model(model, tmp_path)
    frames = decoded(SAMPLE_VIDEO)
    expected = model.probabilities(frames[make_sampler("uniform", 8, 0, "linspace")(len(frames))])

    plain = TimeSformer(tmp_path, threads=1, cache=False).classify(SAMPLE_VIDEO).probabilities
    assert not (home() / "optimised").exists()
    first = TimeSformer(tmp_path).classify(SAMPLE_VIDEO).probabilities
    assert len(list((home() / "optimised").glob("*/graph.onnx"))) == 1
    later = TimeSformer(tmp_path).classify(SAMPLE_VIDEO).probabilities

    for probabilities in (plain, first, later):
        assert_same(probabilities, expected)
