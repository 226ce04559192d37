"""The closed-set model against plain numpy, in both orders that graphs declare."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from small_models import CLASSES, SmallClosedModel, decoded, preprocessed, random_closed_model, save_closed_model

from action_clip import ActionClipError, TimeSformer
from action_clip.commands.samples import SAMPLE_VIDEO

BOTH_ORDERS = pytest.mark.parametrize("channels_first", [False, True], ids=["(N, T, 3, S, S)", "(N, 3, T, S, S)"])


@pytest.fixture(scope="module")
def small() -> SmallClosedModel:
    return random_closed_model(1, frames=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, small: SmallClosedModel) -> Path:
    return save_closed_model(small, tmp_path_factory.mktemp("closed"))


def frames_of(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 48, 60, 3), dtype=np.uint8)


@BOTH_ORDERS
@pytest.mark.parametrize("batch", ["N", 1, 2])
def test_frames_get_the_probabilities_computed_by_hand(
    tmp_path: Path, small: SmallClosedModel, channels_first: bool, batch: int | str
) -> None:
    save_closed_model(small, tmp_path, channels_first=channels_first, batch=batch)
    frames = frames_of(11)
    # From the first to the last: i * 10 / 3, rounded down.
    looked_at = frames[[0, 3, 6, 10]]

    prediction = TimeSformer(tmp_path).classify(frames)

    assert prediction.frame_indices == (0, 3, 6, 10)
    np.testing.assert_array_equal(prediction.frames, looked_at)
    np.testing.assert_allclose(prediction.probabilities, small.probabilities(looked_at), atol=1e-5)
    np.testing.assert_allclose(prediction.video_features, small.features(preprocessed(looked_at)), atol=1e-5)
    assert np.linalg.norm(prediction.video_features) == pytest.approx(1)
    # The numbers are not the same whatever is put in.
    assert np.abs(small.probabilities(looked_at[::-1]) - prediction.probabilities).max() > 0.01


@BOTH_ORDERS
def test_a_video_gets_the_probabilities_computed_by_hand(
    tmp_path: Path, small: SmallClosedModel, channels_first: bool
) -> None:
    save_closed_model(small, tmp_path, channels_first=channels_first)
    frames = decoded(SAMPLE_VIDEO)
    indices = [i * (len(frames) - 1) // 3 for i in range(4)]

    prediction = TimeSformer(tmp_path).classify(SAMPLE_VIDEO)

    assert prediction.frame_indices == tuple(indices)
    assert (indices[0], indices[-1]) == (0, len(frames) - 1)
    np.testing.assert_allclose(prediction.probabilities, small.probabilities(frames[indices]), atol=1e-5)


def test_three_frames_are_taken_as_frames_first(tmp_path: Path) -> None:
    small = random_closed_model(2, frames=3)
    save_closed_model(small, tmp_path)
    frames = frames_of(3)
    np.testing.assert_allclose(
        TimeSformer(tmp_path).classify(frames).probabilities, small.probabilities(frames), atol=1e-5
    )


def test_the_answer_for_a_video_is_complete(folder: Path) -> None:
    prediction = TimeSformer(folder).classify(SAMPLE_VIDEO, top_k=3)
    assert prediction.labels == CLASSES
    assert prediction.probabilities.sum() == pytest.approx(1)
    assert prediction.top_k == 3
    assert [entry.rank for entry in prediction.ranked] == [1, 2, 3]
    assert [entry.probability for entry in prediction.ranked] == sorted(prediction.probabilities, reverse=True)[:3]
    assert [entry.label for entry in prediction.ranked] == [CLASSES[entry.index] for entry in prediction.ranked]
    assert (prediction.model, prediction.video) == ("small-closed", str(SAMPLE_VIDEO))
    assert prediction.duration_s == pytest.approx(prediction.frame_times_s[-1], abs=0.2)
    assert prediction.frame_times_s[0] == 0
    assert set(prediction.timings_s) == {"decode", "preprocess", "video", "score"}


def test_frames_have_neither_name_nor_times(folder: Path) -> None:
    prediction = TimeSformer(folder).classify(frames_of(2), top_k=100)
    assert (prediction.video, prediction.duration_s, prediction.frame_times_s) == (None, None, ())
    assert prediction.frame_indices == (0, 0, 0, 1)
    assert prediction.top_k == len(prediction.ranked) == len(CLASSES)


def test_the_folder_says_which_frames_uniform_means(tmp_path: Path, small: SmallClosedModel) -> None:
    save_closed_model(small, tmp_path, uniform="segments")
    assert TimeSformer(tmp_path).classify(frames_of(12)).frame_indices == (1, 4, 7, 10)


def test_random_sampling_follows_its_seed(folder: Path, small: SmallClosedModel) -> None:
    model = TimeSformer(folder)
    frames = frames_of(40)
    first = model.classify(frames, sampling="random", seed=3)
    assert all(low <= index < low + 10 for index, low in zip(first.frame_indices, (0, 10, 20, 30), strict=True))
    np.testing.assert_allclose(first.probabilities, small.probabilities(frames[list(first.frame_indices)]), atol=1e-5)
    assert model.classify(frames, sampling="random", seed=3).frame_indices == first.frame_indices
    assert len({model.classify(frames, sampling="random", seed=seed).frame_indices for seed in range(5)}) > 1


def test_a_closed_set_takes_no_labels(folder: Path) -> None:
    with pytest.raises(TypeError, match="positional arguments"):
        TimeSformer(folder).classify("missing.mp4", ["drinking"])  # type: ignore[call-arg, arg-type]


@pytest.mark.parametrize(
    "classmap",
    [
        {7 - index: f"class {index}" for index in range(1, 8)},
        {str(7 - index): f"class {index}" for index in range(1, 8)},
        {f"class {index}": 7 - index for index in range(1, 8)},
    ],
    ids=["index to name", "index as text", "name to index"],
)
def test_a_class_map_replaces_the_names(folder: Path, classmap: dict[str, int]) -> None:
    plain = TimeSformer(folder).classify(frames_of(4), top_k=7)
    named = TimeSformer(folder, classmap=classmap).classify(frames_of(4), top_k=7)
    assert named.labels == tuple(f"class {index}" for index in (7, 6, 5, 4, 3, 2, 1))
    np.testing.assert_array_equal(named.probabilities, plain.probabilities)
    assert [entry.label for entry in named.ranked] == [f"class {7 - entry.index}" for entry in plain.ranked]


@pytest.mark.parametrize(
    ("classmap", "message"),
    [
        ({"one": 0}, "the class map has 1 classes, 0 to 0, and the model 7, 0 to 6: name each of them, counted from 0"),
        ({name: index + 1 for index, name in enumerate(CLASSES)}, "has 7 classes, 1 to 7, and the model 7, 0 to 6"),
        ({name: min(index, 5) for index, name in enumerate(CLASSES)}, "has an index twice"),
    ],
)
def test_a_class_map_names_each_class_once(folder: Path, classmap: dict[str, int], message: str) -> None:
    with pytest.raises(ActionClipError, match=message):
        TimeSformer(folder, classmap=classmap)


def test_as_many_logits_as_classes(tmp_path: Path, small: SmallClosedModel) -> None:
    save_closed_model(small, tmp_path, classes=CLASSES[:5])
    message = r"video\.onnx gives logits of the shape \(1, 7\) and features of \(1, 16\), not \(1, 5\) and \(1, D\)"
    with pytest.raises(ActionClipError, match=message):
        TimeSformer(tmp_path).classify(frames_of(4))


def test_a_graph_without_features_is_an_error(tmp_path: Path, small: SmallClosedModel) -> None:
    save_closed_model(small, tmp_path)
    graph = onnx.load(tmp_path / "video.onnx")
    del graph.graph.output[1]
    onnx.save(graph, tmp_path / "video.onnx")
    with pytest.raises(ActionClipError, match=r"video\.onnx has 1 outputs, not 2: export it again"):
        TimeSformer(tmp_path).classify(frames_of(4))


def test_logits_that_are_not_finite_are_an_error(tmp_path: Path, small: SmallClosedModel) -> None:
    save_closed_model(replace(small, head=np.full_like(small.head, np.nan)), tmp_path)
    with pytest.raises(ActionClipError, match=r"video\.onnx gives logits that are not finite"):
        TimeSformer(tmp_path).classify(frames_of(4))


@pytest.mark.parametrize("shape", [(1, 8, 3, 32, 32), (1, 4, 3, 16, 16), (32, 32), (4, 3, 32, 32), (0, 4, 3, 32, 32)])
def test_clips_of_another_shape_are_an_error(folder: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ActionClipError) as caught:
        TimeSformer(folder).encode_clips(np.zeros(shape, np.float32))
    assert str(caught.value) == (
        f"the clips are float32 {shape}, and small-closed takes float32 (N, 4, 3, 32, 32): "
        "preprocess one clip or more, and stack them"
    )


@BOTH_ORDERS
def test_a_graph_that_takes_other_clips_than_its_metadata_says_is_an_error(
    tmp_path: Path, small: SmallClosedModel, channels_first: bool
) -> None:
    save_closed_model(small, tmp_path, channels_first=channels_first)
    graph = onnx.load(tmp_path / "video.onnx")
    next(entry for entry in graph.metadata_props if entry.key == "frames").value = "5"
    onnx.save(graph, tmp_path / "video.onnx")
    with pytest.raises(ActionClipError, match=r"video\.onnx takes \(any, [34], [34], 32, 32\), not \(1, [35], [35], "):
        TimeSformer(tmp_path).classify(frames_of(4))


@pytest.mark.parametrize("top_k", [0, -1, 2.5, "5", None])
def test_top_k_is_a_whole_number_above_0(folder: Path, top_k: int) -> None:
    with pytest.raises(ActionClipError, match=f"top_k is {top_k}: give a whole number above 0"):
        TimeSformer(folder).classify(frames_of(4), top_k=top_k)


def test_the_catalogs_model_names_what_to_run_once() -> None:
    model = TimeSformer()
    assert (model.spec.name, len(model.classes), model.classes[100]) == ("timesformer_k400_8x224", 400, "drinking")
    with pytest.raises(ActionClipError, match="run action-clip export timesformer_k400_8x224 once"):
        model.classify("missing.mp4")
