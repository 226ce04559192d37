"""Several views of a video: what each is encoded to, their mean, and that they cost neither time nor memory twice."""

import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from small_models import (
    CLASSES,
    MEAN,
    STD,
    SmallModel,
    random_closed_model,
    random_model,
    save_closed_model,
    save_model,
)

import action_clip.video.pixels
from action_clip import ActionClip, ActionClipError, EncodedVideo, Prediction, TimeSformer, score
from action_clip.commands.samples import SAMPLE_VIDEO
from action_clip.models.known_videos import KnownVideos
from action_clip.models.runtime.graph import Graph
from action_clip.models.scoring import score_logits
from action_clip.models.video_encoder import VideoEncoder
from action_clip.video.preprocess import clip_tensor

LABELS = ["drinking", "riding a bicycle", "playing the drums"]
T, SIZE, RESIZE = 4, 32, 40


def frames_of(count: int, seed: int = 0, width: int = 60) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 48, width, 3), dtype=np.uint8)


@pytest.fixture
def small() -> SmallModel:
    return random_model(1, T, True)


@pytest.fixture
def folder(tmp_path: Path, small: SmallModel) -> Path:
    return save_model(small, tmp_path / "model", frames=T)


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    return save_closed_model(random_closed_model(1, frames=T), tmp_path / "closed")


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows the image graph or the video graph got at a time."""
    rows_of_runs = []
    run = Graph.outputs

    def noting(self: Graph, rows: NDArray[Any], count: int) -> list[NDArray[np.float32]]:
        if self.path.stem in ("image", "video"):
            rows_of_runs.append(len(rows))
        return run(self, rows, count)

    monkeypatch.setattr(Graph, "outputs", noting)
    return rows_of_runs


def views_by_hand(frames: NDArray[np.uint8], clips: int, crops: int) -> NDArray[np.float32]:
    """The tensors of all views, (V, T, 3, SIZE, SIZE): whole pictures are resized, then cut."""
    total, count = len(frames), clips * T
    offset = (total / count - 1) / 2
    chosen = [int(i * total / count + offset) if total > count else i * total // count for i in range(count)]
    views = []
    for crop in range(crops):
        for index in chosen:
            picture = Image.fromarray(frames[index])
            factor = RESIZE / min(picture.size)
            picture = picture.resize(
                (int(picture.width * factor), int(picture.height * factor)), Image.Resampling.BICUBIC
            )
            left, top = round((picture.width - SIZE) / 2), round((picture.height - SIZE) / 2)
            if crops == 3:
                left = crop * ((picture.width - SIZE) // 2)
            pixels = np.asarray(picture.crop((left, top, left + SIZE, top + SIZE)), np.float32) / 255
            views.append(((pixels - np.array(MEAN)) / np.array(STD)).transpose(2, 0, 1))
    return np.stack(views).astype(np.float32).reshape(-1, T, 3, SIZE, SIZE)


@pytest.mark.parametrize(
    ("views", "total"), [("10x3", 100), ("10x1", 100), ("1x3", 100), ("3x3", 5), ("2x3", 1), ("1x1", 100)]
)
def test_the_answer_is_the_mean_of_the_probabilities_of_all_views(folder: Path, views: str, total: int) -> None:
    clips, crops = map(int, views.split("x"))
    frames = frames_of(total)
    model = ActionClip(folder)
    bank = model.labels(LABELS)
    alone = model.encode_clips(views_by_hand(frames, clips, crops))
    encoded = model.encode_video(frames, views=views)
    assert encoded.views == views
    np.testing.assert_allclose(encoded.by_view.features, alone.features, atol=1e-5)
    assert alone.frame_features is not None
    assert encoded.by_view.frame_features is not None
    np.testing.assert_allclose(encoded.by_view.frame_features, alone.frame_features, atol=1e-4)
    mean = alone.features.mean(axis=0)
    np.testing.assert_allclose(encoded.features, mean / np.linalg.norm(mean), atol=1e-5)
    for prediction in (model.classify(frames, bank, views=views), model.predict(encoded, bank)):
        expected = score(alone.features, bank)
        np.testing.assert_allclose(prediction.probabilities, expected.probabilities.mean(axis=0), atol=1e-5)
        np.testing.assert_allclose(prediction.similarities, expected.similarities.mean(axis=0), atol=1e-5)
        assert prediction.probabilities.sum() == pytest.approx(1)
        assert prediction.views == views
        assert len(prediction.frame_indices) == len(prediction.frames) == clips * T
        assert prediction.to_dict().get("views", "1x1") == views
        assert prediction.timings_s.keys() >= {"decode", "preprocess", "image", "fusion", "score"}


def test_a_closed_set_has_views_too(closed: Path) -> None:
    frames = frames_of(50)
    model = TimeSformer(closed)
    encoded = model.encode_video(frames, views="2x3")
    assert encoded.by_view.logits.shape == (6, len(CLASSES))
    assert encoded.by_view.frame_features is encoded.frame_features is None
    prediction = model.classify(frames, views="2x3")
    expected = score_logits(encoded.by_view.logits).probabilities.mean(axis=0)
    np.testing.assert_array_equal(prediction.probabilities, expected)
    np.testing.assert_allclose(prediction.similarities, encoded.logits, atol=1e-5)
    first = model.classify(frames, views="1x1")
    assert not np.allclose(first.probabilities, prediction.probabilities, atol=1e-6)
    for many in (
        model.classify_many([frames], views="2x3"),
        dict(model.classify_as_completed([frames], views="2x3")).values(),
    ):
        [result] = many
        assert isinstance(result, Prediction)
        np.testing.assert_array_equal(result.probabilities, prediction.probabilities)


def test_one_view_is_what_it_was(folder: Path) -> None:
    model = ActionClip(folder)
    encoded = model.encode_video(frames_of(20))
    assert encoded.views == "1x1"
    assert encoded.features.shape == encoded.by_view.features[0].shape
    np.testing.assert_array_equal(encoded.features, encoded.by_view.features[0])
    assert encoded.frame_features is not None
    assert len(encoded.frame_features) == T
    assert encoded.logits.shape == (0,)
    assert "views" not in model.predict(encoded, LABELS).to_dict()


def test_several_videos_give_the_same_answers_to_the_bit(folder: Path) -> None:
    model = ActionClip(folder, cache=False)
    videos = [frames_of(30 + seed, seed) for seed in range(5)] + [SAMPLE_VIDEO]
    many = model.classify_many(videos, LABELS, views="5x3")
    pairs = dict(model.classify_as_completed(videos, LABELS, views="5x3"))
    encoded = model.encode_many(videos, views="5x3")
    for number, (video, result, features) in enumerate(zip(videos, many, encoded, strict=True)):
        expected = model.classify(video, LABELS, views="5x3")
        for found in (result, pairs[number]):
            assert isinstance(found, Prediction)
            np.testing.assert_array_equal(found.probabilities, expected.probabilities)
            np.testing.assert_array_equal(found.video_features, expected.video_features)
            assert (found.frame_indices, found.views) == (expected.frame_indices, "5x3")
        assert isinstance(features, EncodedVideo)
        np.testing.assert_array_equal(features.features, expected.video_features)


def test_a_known_video_is_known_with_all_its_views(folder: Path, closed: Path, tmp_path: Path, ran: list[int]) -> None:
    clip = shutil.copy2(SAMPLE_VIDEO, tmp_path / "clip.gif")
    for model in (ActionClip(folder), TimeSformer(closed)):
        first = model.encode_video(clip, views="3x3")
        runs = len(ran)
        [again] = model.encode_many([clip], views="3x3")
        assert len(ran) == runs
        assert isinstance(again, EncodedVideo)
        assert again.views == "3x3"
        np.testing.assert_array_equal(again.by_view.features, first.by_view.features)
        np.testing.assert_array_equal(again.by_view.logits, first.by_view.logits)
        if first.by_view.frame_features is not None:
            assert again.by_view.frame_features is not None
            np.testing.assert_array_equal(again.by_view.frame_features, first.by_view.frame_features)
        assert (again.clip.indices, again.clip.times_s) == (first.clip.indices, first.clip.times_s)
        for views in ("1x1", "3x1", "1x3"):  # others are not known by it
            model.encode_video(clip, views=views)
            assert len(ran) > runs
            runs = len(ran)


def test_the_key_of_one_view_is_that_of_earlier_versions(folder: Path, tmp_path: Path) -> None:
    clip = shutil.copy2(SAMPLE_VIDEO, tmp_path / "clip.gif")
    graphs = ActionClip(folder)._graphs
    keys = [KnownVideos(graphs, "uniform", 0, views) for views in ("1x1", "01x1", "3x3", "3x1")]
    assert KnownVideos(graphs, "uniform", 0).key(clip) == keys[0].key(clip) == keys[1].key(clip)
    assert len({known.key(clip) for known in keys}) == 3
    assert "1x1" not in keys[0]._dependencies


def test_a_clip_is_encoded_at_a_time(folder: Path, ran: list[int]) -> None:
    """So the memory that graphs take does not depend on the number of views."""
    ActionClip(folder, cache=False).encode_video(frames_of(100), views="10x3")
    assert ran == [T] * 30


def test_tensors_are_made_when_a_clip_is_encoded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    events: list[str] = []

    def noting(*arguments: Any) -> NDArray[np.float32]:
        made.append(len(arguments[0]))
        events.append("tensor")
        return clip_tensor(*arguments)

    monkeypatch.setattr("action_clip.video.preprocess.clip_tensor", noting)
    model = ActionClip(folder, cache=False)
    encode = model._encode

    def encoding(*arguments: Any) -> Any:
        events.append("encode")
        return encode(*arguments)

    model._encode = encoding
    model.encode_video(frames_of(100), views="2x3")
    assert made == [T] * 6
    assert events == ["tensor", "encode"] * 6


def test_large_frames_are_not_held(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames that would be too large together are looked at where each is made smaller as it comes."""
    monkeypatch.setattr(action_clip.video.pixels, "_FRAMES", 16)
    monkeypatch.setenv("ACTION_CLIP_MAX_PIXELS", str(480 * 600))

    def large() -> Iterator[NDArray[np.uint8]]:
        generator = np.random.default_rng(1)
        for _ in range(60):
            yield generator.integers(0, 256, (480, 600, 3), np.uint8)

    held: list[tuple[int, ...]] = []
    model = ActionClip(folder, cache=False)
    decode = VideoEncoder.decode

    def noting(self: VideoEncoder, source: Any) -> Any:
        decoded = decode(self, source)
        held.extend(view.args[0].shape for view in decoded.views)  # type: ignore[attr-defined]
        return decoded

    monkeypatch.setattr(VideoEncoder, "decode", noting)
    prediction = model.classify(large(), LABELS, views="10x3")
    assert held == [(T, RESIZE, 50, 3)] * 30
    assert prediction.frames.shape == (10 * T, RESIZE, 50, 3)


def test_encoding_ends_soon_when_results_are_no_longer_wanted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = ActionClip(folder, cache=False)
    encoder = VideoEncoder(
        model._graphs,
        model._encode,
        sampling="uniform",
        seed=0,
        channels="rgb",
        views="10x3",
        thumbnails=False,
    )
    found = encoder.find(frames_of(100))
    assert not isinstance(found, EncodedVideo)
    decoded = encoder.decode(found)
    encoder.close()
    with pytest.raises(ActionClipError, match="no longer wanted"):
        encoder.encode([decoded])


def test_random_frames_and_keyframes_have_views(folder: Path) -> None:
    model = ActionClip(folder)
    one, other = (
        model.encode_video(frames_of(200), views="10x1", sampling="random", seed=seed).clip.indices for seed in (1, 2)
    )
    assert one != other
    for number, index in enumerate(one):
        assert number * 5 <= index < (number + 1) * 5  # 200 frames, 40 segments
    assert len(model.encode_video(SAMPLE_VIDEO, views="2x1", sampling="keyframes").clip.indices) == 2 * T


def test_encoded_views_are_pickled(folder: Path) -> None:
    encoded = ActionClip(folder).encode_video(frames_of(40), views="2x3")
    again = pickle.loads(pickle.dumps(encoded))
    np.testing.assert_array_equal(again.features, encoded.features)
    assert repr(again) == repr(encoded)
    assert "by_view" not in repr(encoded)


@pytest.mark.parametrize("views", ["10x2", "0x1", "many", (10, 3), None])
def test_there_are_no_such_views(folder: Path, closed: Path, views: Any) -> None:
    recogniser, classifier = ActionClip(folder), TimeSformer(closed)
    frames = frames_of(8)
    for call in (
        lambda: recogniser.classify(frames, LABELS, views=views),
        lambda: recogniser.encode_video(frames, views=views),
        lambda: list(recogniser.classify_many([frames], LABELS, views=views)),
        lambda: list(recogniser.encode_many([frames], views=views)),
        lambda: classifier.classify(frames, views=views),
        lambda: list(classifier.classify_as_completed([frames], views=views)),
    ):
        with pytest.raises(ActionClipError, match=r"^views is "):
            call()
