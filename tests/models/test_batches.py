"""Several clips at once, labels that are encoded once, videos that are encoded once, and models that are closed."""

import gc
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from small_models import (
    CLASSES,
    SmallClosedModel,
    SmallModel,
    preprocessed,
    random_closed_model,
    random_model,
    save_closed_model,
    save_model,
)

import action_clip.models.runtime.graph
import action_clip.models.scoring
from action_clip import ActionClip, ActionClipError, TimeSformer
from action_clip.commands.samples import SAMPLE_VIDEO
from action_clip.models.cache.feature_memory import MEMORY
from action_clip.models.runtime.graph import Graph
from action_clip.models.scoring import LabelBank, score, score_logits

LABELS = ["drinking", "riding a bicycle", "playing the drums"]
T = 4


def frames_of(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 48, 60, 3), dtype=np.uint8)


def clips_of(count: int) -> NDArray[np.float32]:
    return preprocessed(frames_of(count * T)).reshape(count, T, 3, 32, 32)


def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    scaled: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    return scaled


@pytest.fixture
def small() -> SmallModel:
    return random_model(1, T, True)


@pytest.fixture
def folder(tmp_path: Path, small: SmallModel) -> Path:
    return save_model(small, tmp_path / "model", frames=T)


@pytest.fixture
def small_closed() -> SmallClosedModel:
    return random_closed_model(1, frames=T)


@pytest.fixture
def closed(tmp_path: Path, small_closed: SmallClosedModel) -> Path:
    return save_closed_model(small_closed, tmp_path / "closed")


@pytest.mark.parametrize("batch", ["N", 1, 5])
@pytest.mark.parametrize("count", [1, 2, 70])
def test_clips_are_encoded_as_each_alone(tmp_path: Path, small: SmallModel, batch: int | str, count: int) -> None:
    model = ActionClip(save_model(small, tmp_path, frames=T, batch=batch))
    clips = clips_of(count)
    encoded = model.encode_clips(clips)
    frames = [small.image(clip) for clip in clips]
    assert encoded.frame_features is not None
    np.testing.assert_allclose(encoded.frame_features, frames, atol=1e-4)
    np.testing.assert_allclose(encoded.features, unit(np.stack([small.fusion(clip) for clip in frames])), atol=1e-5)
    assert encoded.logits.shape == (count, 0)
    assert set(encoded.timings_s) == {"image", "fusion"}


def mark_temporal(folder: Path, temporal: str) -> None:
    graph = onnx.load(folder / "image.onnx")
    onnx.helper.set_model_props(graph, {p.key: p.value for p in graph.metadata_props} | {"temporal": temporal})
    onnx.save(graph, folder / "image.onnx")


def test_frames_that_attend_to_each_other_have_no_features_of_their_own(folder: Path) -> None:
    assert ActionClip(folder).encode_video(frames_of(9)).frame_features is not None
    mark_temporal(folder, "shift")
    model = ActionClip(folder)
    assert model.encode_clips(clips_of(2)).frame_features is None
    assert model.encode_video(frames_of(9)).frame_features is None


def test_features_of_frames_are_those_of_a_video(folder: Path, small: SmallModel) -> None:
    frames = frames_of(T)
    encoded = ActionClip(folder).encode_video(frames)
    assert encoded.frame_features is not None
    np.testing.assert_allclose(encoded.frame_features, small.image(preprocessed(frames)), atol=1e-4)


@pytest.mark.parametrize("channels_first", [False, True])
@pytest.mark.parametrize("batch", ["N", 1, 2])
@pytest.mark.parametrize(("count", "most_clips"), [(1, 64), (5, 64), (5, 2), (3, 1)])
def test_clips_of_a_closed_set_are_encoded_as_each_alone(
    tmp_path: Path,
    small_closed: SmallClosedModel,
    monkeypatch: pytest.MonkeyPatch,
    channels_first: bool,
    batch: int | str,
    count: int,
    most_clips: int,
) -> None:
    monkeypatch.setattr(action_clip.models.runtime.graph, "_MAX_NUMBERS", most_clips * T * 3 * 32 * 32)
    model = TimeSformer(save_closed_model(small_closed, tmp_path, channels_first=channels_first, batch=batch))
    clips = clips_of(count)
    encoded = model.encode_clips(clips)
    np.testing.assert_allclose(encoded.features, [small_closed.features(clip) for clip in clips], atol=1e-5)
    expected = [small_closed.scores(clip) for clip in clips]
    np.testing.assert_allclose(score_logits(encoded.logits).probabilities, expected, atol=1e-5)
    assert encoded.frame_features is None
    assert set(encoded.timings_s) == {"video"}


@pytest.mark.parametrize(
    ("clips", "actual"),
    [
        (np.zeros((T, 3, 32, 32), np.float32), "float32 (4, 3, 32, 32)"),
        (np.zeros((2, 3, T, 32, 32), np.float32), "float32 (2, 3, 4, 32, 32)"),
        (np.zeros((0, T, 3, 32, 32), np.float32), "float32 (0, 4, 3, 32, 32)"),
        (np.zeros((1, T, 3, 32, 32), np.uint8), "uint8 (1, 4, 3, 32, 32)"),
        (np.float32(1), "a float32"),
        ([[1.0]], "a list"),
        (None, "a NoneType"),
    ],
)
def test_other_input_than_clips_is_an_error(folder: Path, opened: list[Path], clips: Any, actual: str) -> None:
    with pytest.raises(ActionClipError) as caught:
        ActionClip(folder).encode_clips(clips)
    assert str(caught.value) == (
        f"the clips are {actual}, and small takes float32 (N, 4, 3, 32, 32): "
        "preprocess one clip or more, and stack them"
    )
    assert opened == []


@pytest.mark.parametrize("average", ["probabilities", "embeddings"])
def test_a_label_bank_answers_as_its_labels(folder: Path, average: str) -> None:
    model = ActionClip(folder, average=average)
    bank = model.labels([LABELS[0], *LABELS])
    assert bank.labels == tuple(LABELS)
    assert bank.embeddings.shape == (16 if average == "probabilities" else 1, 3, 16)
    assert (bank.logit_scale, bank.model) == (10.0, "small")
    assert set(bank.timings_s) == {"text"}
    for seed in range(2):
        expected = model.classify(frames_of(9, seed), LABELS, top_k=2)
        answer = model.classify(frames_of(9, seed), bank, top_k=2)
        assert answer.ranked == expected.ranked
        np.testing.assert_array_equal(answer.similarities, expected.similarities)
        assert set(expected.timings_s) - set(answer.timings_s) == {"text"}


def test_a_label_bank_needs_no_text_graph(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = ActionClip(folder, cache=False)
    bank = model.labels(LABELS)
    MEMORY.clear()
    roles, call = [], Graph.__call__

    def watched(graph: Graph, rows: NDArray[Any]) -> NDArray[np.float32]:
        roles.append(graph.path.stem)
        return call(graph, rows)

    monkeypatch.setattr(Graph, "__call__", watched)
    model.classify(frames_of(4), bank)
    model.classify(frames_of(4), bank)
    assert roles == ["image", "fusion"] * 2


@pytest.mark.usefixtures("unknown_videos")
def test_a_video_is_encoded_once_for_many_questions(folder: Path, closed: Path) -> None:
    model, classifier = ActionClip(folder), TimeSformer(closed)
    video, classified = model.encode_video(SAMPLE_VIDEO), classifier.encode_video(SAMPLE_VIDEO)
    for labels in (LABELS, LABELS[:2]):
        answer, expected = model.predict(video, model.labels(labels), top_k=1), model.classify(SAMPLE_VIDEO, labels)
        np.testing.assert_allclose(answer.probabilities, expected.probabilities, atol=1e-6)
        assert (answer.top_k, answer.video, answer.frame_times_s) == (1, str(SAMPLE_VIDEO), expected.frame_times_s)
        assert answer.duration_s == expected.duration_s
        scores = score(video.features, model.labels(labels))
        np.testing.assert_array_equal(scores.probabilities, answer.probabilities)
        np.testing.assert_array_equal(scores.similarities, answer.similarities)
    answer = classifier.predict(classified, top_k=3)
    assert (answer.labels, answer.top_k) == (CLASSES, 3)
    np.testing.assert_array_equal(answer.similarities, classified.logits)
    np.testing.assert_allclose(answer.probabilities, classifier.classify(SAMPLE_VIDEO).probabilities, atol=1e-6)


def test_a_bank_or_a_video_of_another_model_is_refused(tmp_path: Path, folder: Path, closed: Path) -> None:
    model, classifier = ActionClip(folder), TimeSformer(closed)
    bank = ActionClip("nano").labels(LABELS)
    message = "the label bank is of the model nano, not of small: make one with its own labels()"
    video = model.encode_video(frames_of(4))
    with pytest.raises(ActionClipError) as caught:
        model.predict(video, bank)
    assert str(caught.value) == message
    with pytest.raises(ActionClipError) as caught:
        model.classify(frames_of(4), bank)
    assert str(caught.value) == message
    with pytest.raises(ActionClipError) as caught:
        classifier.predict(video)
    assert str(caught.value) == "another model has encoded the video: encode it with small-closed"
    # Its features are as long as those of this model.
    with pytest.raises(ActionClipError, match=r"another model has encoded the video: encode it with small$"):
        model.predict(classifier.encode_video(frames_of(4)), LABELS)
    with pytest.raises(ActionClipError, match="top_k is 0"):
        model.predict(video, model.labels(LABELS), top_k=0)


def test_an_encoded_video_is_asked_about_labels_or_a_bank(folder: Path) -> None:
    model = ActionClip(folder)
    video, expected = model.encode_video(frames_of(9)), model.classify(frames_of(9), LABELS, top_k=2)
    answer, of_bank = model.predict(video, iter(LABELS), top_k=2), model.predict(video, model.labels(LABELS), top_k=2)
    assert answer.ranked == of_bank.ranked == expected.ranked
    assert set(answer.timings_s) == set(expected.timings_s)
    assert set(answer.timings_s) - set(of_bank.timings_s) == {"text"}
    assert set(video.timings_s) == {"decode", "preprocess", "image", "fusion"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda model, video: model.predict("clip.mp4", LABELS),
            "predict takes what encode_video returned, not a str: encode the video, or use classify",
        ),
        (
            lambda model, video: model.predict(video.features, LABELS),
            "predict takes what encode_video returned, not a ndarray: encode the video, or use classify",
        ),
        (lambda model, video: model.predict(video, "eating"), "the labels are one string, 'eating': give a list"),
        (lambda model, video: score(video, model.labels(LABELS)), "the features are a EncodedVideo: give an array"),
        (
            lambda model, video: score(video.features, LABELS),  # type: ignore[arg-type]
            "the bank is a list: make one with the model's labels()",
        ),
        (
            lambda model, video: model.encode_clips(clips_of(2) * np.nan),
            "the clips have numbers that are not finite: check how they are preprocessed",
        ),
        (
            lambda model, video: model.classify(frames_of(9), LABELS, sampling="random", seed=1.5),
            "the seed is 1.5; it must be a whole number, 0 or more",
        ),
    ],
)
def test_arguments_of_another_type_are_errors(folder: Path, call: Callable[[Any, Any], Any], message: str) -> None:
    model = ActionClip(folder)
    with pytest.raises(ActionClipError) as caught:
        call(model, model.encode_video(frames_of(9)))
    assert str(caught.value).startswith(message)


def test_notebooks_show_one_line_without_the_numbers(folder: Path, closed: Path) -> None:
    model, classifier = ActionClip(folder), TimeSformer(closed)
    assert (repr(model), repr(classifier)) == (f"ActionClip({str(folder)!r})", f"TimeSformer({str(closed)!r})")
    bank = replace(model.labels(["eating"]), timings_s={})
    assert repr(bank) == "LabelBank(labels=('eating',), logit_scale=10.0, model='small', timings_s={})"
    video, clips = replace(model.encode_video(frames_of(4)), timings_s={}), model.encode_clips(clips_of(2))
    assert repr(video) == "EncodedVideo(video=None, model='small', timings_s={})"
    assert repr(replace(clips, timings_s={})) == "EncodedClips(timings_s={})"


@pytest.mark.parametrize("prompts", [1, 3])
@pytest.mark.parametrize("block", [1, 50, 1 << 22])
def test_scores_of_several_videos_are_those_of_each(monkeypatch: pytest.MonkeyPatch, prompts: int, block: int) -> None:
    monkeypatch.setattr(action_clip.models.scoring, "_BLOCK", block)
    rng = np.random.default_rng(0)
    features = unit(rng.normal(size=(7, 12)).astype(np.float32))
    embeddings = unit(rng.normal(size=(prompts, 5, 12)).astype(np.float32))
    cosines = np.einsum("nd,pld->npl", features.astype(np.float64), embeddings)
    exponentials = np.exp(20 * cosines)
    expected = (exponentials / exponentials.sum(axis=2, keepdims=True)).mean(axis=1)
    bank = LabelBank(tuple("abcde"), embeddings, 20.0)
    several = score(features, bank)
    np.testing.assert_allclose(several.probabilities, expected, atol=1e-5)
    np.testing.assert_allclose(several.similarities, cosines.mean(axis=1), atol=1e-6)
    assert several.probabilities.dtype == several.similarities.dtype == np.float64
    for row, one in enumerate(features):
        alone = score(one, bank)
        assert alone.probabilities.shape == alone.similarities.shape == (5,)
        np.testing.assert_allclose(alone.probabilities, several.probabilities[row], atol=1e-6)
        np.testing.assert_allclose(alone.similarities, several.similarities[row], atol=1e-6)
    assert score(features[:0], bank).probabilities.shape == (0, 5)


def test_features_and_embeddings_of_another_shape_are_errors() -> None:
    bank = LabelBank(("a", "b"), np.ones((1, 2, 4), np.float32), 1.0)
    with pytest.raises(ActionClipError, match=r"the features are \(1, 1, 4\): give \(D,\) of a video or \(N, D\)"):
        score(np.ones((1, 1, 4), np.float32), bank)
    with pytest.raises(ActionClipError, match="the text graph gives 4 numbers and the fusion graph 3"):
        score(np.ones((2, 3), np.float32), bank)
    for shape in ((2, 4), (1, 3, 4), (0, 2, 4), (1, 2, 0)):
        with pytest.raises(ActionClipError) as caught:
            LabelBank(("a", "b"), np.ones(shape, np.float32), 1.0)
        assert str(caught.value) == (
            f"a label bank of 2 labels has embeddings of the shape {shape}: give (prompts, 2, D)"
        )


def test_a_closed_model_releases_its_sessions_and_makes_new_ones(
    folder: Path, closed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions: weakref.WeakSet[Any] = weakref.WeakSet()
    make = onnxruntime.InferenceSession

    def watched(*arguments: Any, **named: Any) -> Any:
        session = make(*arguments, **named)
        sessions.add(session)
        return session

    monkeypatch.setattr(onnxruntime, "InferenceSession", watched)
    with ActionClip(folder) as model, TimeSformer(closed) as classifier:
        first, classified = model.classify(frames_of(4), LABELS), classifier.classify(frames_of(4))
        assert len(sessions) == 4
    gc.collect()
    assert len(sessions) == 0
    again = model.classify(frames_of(4), LABELS)
    np.testing.assert_array_equal(again.probabilities, first.probabilities)
    np.testing.assert_array_equal(classifier.classify(frames_of(4)).probabilities, classified.probabilities)
    assert len(sessions) == 3  # the labels are known


def test_an_error_inside_of_the_block_closes_the_model_too(folder: Path) -> None:
    with pytest.raises(ActionClipError, match=r"missing\.mp4"), ActionClip(folder) as model:
        model.classify("missing.mp4", model.labels(LABELS))
    assert model.classify(frames_of(4), LABELS).labels == tuple(LABELS)


@pytest.mark.parametrize("channels", ["rgb", "bgr"])
def test_channels_say_how_colours_are_arranged(folder: Path, closed: Path, channels: str) -> None:
    frames = frames_of(4)
    arranged = frames if channels == "rgb" else np.ascontiguousarray(frames[..., ::-1])
    answer = ActionClip(folder).classify(arranged, LABELS, channels=channels)
    np.testing.assert_array_equal(answer.frames, frames)
    np.testing.assert_array_equal(answer.probabilities, ActionClip(folder).classify(frames, LABELS).probabilities)
    classified = TimeSformer(closed).classify(arranged, channels=channels)
    np.testing.assert_array_equal(classified.probabilities, TimeSformer(closed).classify(frames).probabilities)


def test_other_channels_are_refused(folder: Path) -> None:
    with pytest.raises(ActionClipError, match="channels is 'hsv': choose rgb or bgr"):
        ActionClip(folder).classify(frames_of(4), LABELS, channels="hsv")
