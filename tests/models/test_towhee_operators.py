"""The operators as plain functions, on small models and on the embedded one."""

import pickle
from collections.abc import Callable, Iterable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from small_models import (
    CLASSES,
    SmallClosedModel,
    decoded,
    preprocessed,
    random_closed_model,
    random_model,
    save_closed_model,
    save_model,
)

from action_clip import (
    ActionClip,
    ActionClipError,
    ActionClipOperator,
    TimeSformerOperator,
)
from action_clip.commands.samples import SAMPLE_LABELS, SAMPLE_VIDEO
from action_clip.models.catalog.specs import kinetics_400
from action_clip.tokenizer.prompts import read_labels

LABELS = {"drinking": 0, "riding a bicycle": 1, "playing the drums": 2}
Frames = NDArray[np.uint8]


class ModedFrame(np.ndarray[Any, Any]):
    """An array that says how its colours are arranged, as Towhee's VideoFrame does."""

    mode: str | None = None


@pytest.fixture(scope="module")
def small() -> SmallClosedModel:
    return random_closed_model(1, frames=4)


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory, small: SmallClosedModel) -> str:
    return str(save_closed_model(small, tmp_path_factory.mktemp("closed")))


@pytest.fixture(scope="module")
def zero_shot(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_model(random_model(1, 8, True), tmp_path_factory.mktemp("zero-shot"), frames=8))


def frames_of(count: int, seed: int = 0) -> Frames:
    return np.random.default_rng(seed).integers(0, 256, (count, 48, 60, 3), dtype=np.uint8)


def moded(frame: Frames, mode: str | None) -> ModedFrame:
    view: ModedFrame = frame.view(ModedFrame)
    view.mode = mode
    return view


def test_none_of_these_and_labels_by_themselves(zero_shot: str) -> None:
    frames = frames_of(8)
    hows: list[dict[str, Any]] = [{"none": ["a wall"]}, {"none": True}, {"multi_label": True}]
    for how in hows:
        expected = ActionClip(zero_shot).classify(frames, list(LABELS), **how)
        operator = ActionClipOperator(zero_shot, classmap=LABELS, topk=9, **how)
        for same in (operator, pickle.loads(pickle.dumps(operator))):
            names, scores, _ = same(frames)
            assert names == [entry.label for entry in expected.ranked]
            assert scores == pytest.approx([entry.probability for entry in expected.ranked])


@pytest.mark.parametrize(
    "form",
    [
        list,
        tuple,
        np.asarray,
        iter,
        lambda frames: [Image.fromarray(frame) for frame in frames],
        lambda frames: [moded(frame, "RGB") for frame in frames],
        lambda frames: [moded(frame, None) for frame in frames],
        lambda frames: (moded(np.ascontiguousarray(frame[..., ::-1]), "BGR") for frame in frames),
    ],
    ids=["list", "tuple", "array", "generator", "pictures", "RGB", "no mode", "BGR"],
)
@pytest.mark.parametrize("count", [1, 3, 4, 11])
def test_frames_in_every_form_and_number(
    closed: str, small: SmallClosedModel, form: Callable[[Frames], Iterable[Any]], count: int
) -> None:
    frames = frames_of(count)
    looked_at = frames[[i * (count - 1) // 3 for i in range(4)]]
    expected = small.probabilities(looked_at)
    best = np.argsort(-expected)[:5]

    labels, scores, features = TimeSformerOperator(closed)(form(frames))

    assert labels == [CLASSES[index] for index in best]
    assert all(type(score) is float for score in scores)
    np.testing.assert_allclose(scores, expected[best], atol=1e-5)
    assert type(features) is np.ndarray
    np.testing.assert_allclose(features, small.features(preprocessed(looked_at)), atol=1e-5)


@pytest.mark.parametrize("count", [3, 8, 20])
def test_scores_are_those_of_the_model(zero_shot: str, count: int) -> None:
    frames = frames_of(count)
    prediction = ActionClip(zero_shot).classify(frames, list(LABELS))
    operator = ActionClipOperator(zero_shot, classmap=LABELS)
    for _ in range(2):  # the second time with the labels' features at hand
        labels, scores, features = operator(list(frames))
        assert labels == [entry.label for entry in prediction.ranked]
        np.testing.assert_allclose(scores, [entry.probability for entry in prediction.ranked], atol=1e-6)
        np.testing.assert_allclose(features, prediction.video_features, atol=1e-6)


def test_default_labels_are_those_of_kinetics(zero_shot: str) -> None:
    assert (len(kinetics_400()), kinetics_400()[0], kinetics_400()[399]) == (400, "abseiling", "zumba")
    labels, scores, _ = ActionClipOperator(zero_shot, topk=1000)(list(frames_of(8)))
    assert len(labels) == 400
    assert set(labels) == set(kinetics_400())
    assert sum(scores) == pytest.approx(1)


def test_a_class_map_in_any_order(zero_shot: str, closed: str) -> None:
    frames = list(frames_of(8))
    plain = ActionClipOperator(zero_shot, classmap=LABELS)(frames)
    turned = ActionClipOperator(zero_shot, classmap={5: "playing the drums", 9: "riding a bicycle", 0: "drinking"})
    assert turned(frames)[0] == plain[0]
    np.testing.assert_allclose(turned(frames)[1], plain[1], atol=1e-6)

    names = {f"class {index}": index for index in range(7)}
    labels, _, _ = TimeSformerOperator(closed, classmap=names)(frames)
    assert [CLASSES[names[label]] for label in labels] == TimeSformerOperator(closed)(frames)[0]


def test_a_label_twice_is_one_label(zero_shot: str, caplog: pytest.LogCaptureFixture) -> None:
    classmap = {0: "drinking", 1: "drinking", 2: "riding a bicycle", 3: "playing the drums"}
    answer = ActionClipOperator(zero_shot, classmap=classmap)(list(frames_of(8)))
    assert answer[0] == ActionClipOperator(zero_shot, classmap=LABELS)(list(frames_of(8)))[0]
    assert [record.message for record in caplog.records] == ["labels given more than once are used once: 'drinking'"]


@pytest.mark.parametrize(("topk", "count"), [(1, 1), (3, 3), (7, 7), (1000, 7)])
def test_topk_is_clamped(closed: str, small: SmallClosedModel, topk: int, count: int) -> None:
    labels, scores, _ = TimeSformerOperator(closed, topk=topk)(list(frames_of(4)))
    expected = small.probabilities(frames_of(4))
    assert len(labels) == len(scores) == count
    assert scores == sorted(scores, reverse=True)
    assert labels == [CLASSES[index] for index in np.argsort(-expected)[:count]]


@pytest.mark.parametrize("topk", [0, -3, "5", None])
def test_topk_is_a_whole_number_above_0(closed: str, zero_shot: str, topk: int) -> None:
    for make in (lambda: TimeSformerOperator(closed, topk=topk), lambda: ActionClipOperator(zero_shot, topk=topk)):
        with pytest.raises(ActionClipError, match=f"top_k is {topk}: give a whole number above 0"):
            make()


@pytest.mark.parametrize("channels_first", [False, True], ids=["graph frames first", "graph channels first"])
def test_a_preprocessed_clip_is_taken_as_it_is(tmp_path: Path, small: SmallClosedModel, channels_first: bool) -> None:
    save_closed_model(small, tmp_path, channels_first=channels_first)
    operator = TimeSformerOperator(str(tmp_path), skip_preprocess=True, topk=7)
    tensor = np.random.default_rng(5).normal(size=(4, 3, 32, 32)).astype(np.float32)
    expected = small.scores(tensor)
    forms: list[Any] = [
        tensor,
        list(tensor),
        tensor.swapaxes(0, 1),
        tensor[np.newaxis],
        tensor.swapaxes(0, 1)[np.newaxis],
        tensor.astype(np.float64),
    ]
    for form in forms:
        labels, scores, features = operator(form)
        assert labels == [CLASSES[index] for index in np.argsort(-expected)]
        np.testing.assert_allclose(scores, np.sort(expected)[::-1], atol=1e-5)
        np.testing.assert_allclose(features, small.features(tensor), atol=1e-5)


def test_a_preprocessed_clip_for_a_zero_shot_model(zero_shot: str) -> None:
    frames = frames_of(8)
    expected = ActionClipOperator(zero_shot, classmap=LABELS)(frames)
    for clip in (preprocessed(frames), preprocessed(frames).swapaxes(0, 1)):
        labels, scores, features = ActionClipOperator(zero_shot, True, LABELS, 2)(clip)
        assert labels == expected[0][:2]
        np.testing.assert_allclose(scores, expected[1][:2], atol=1e-5)
        np.testing.assert_allclose(features, expected[2], atol=1e-5)


@pytest.mark.parametrize(
    ("clip", "found"),
    [
        (np.zeros((5, 3, 32, 32), np.float32), "float32 (5, 3, 32, 32)"),
        (np.zeros((4, 32, 32, 3), np.float32), "float32 (4, 32, 32, 3)"),
        (np.zeros((2, 4, 3, 32, 32), np.float32), "float32 (2, 4, 3, 32, 32)"),
        (np.zeros((4, 3, 32, 32), np.uint8), "uint8 (4, 3, 32, 32)"),
        (np.zeros((4, 3, 32, 32), np.complex64), "complex64 (4, 3, 32, 32)"),
        ([], "float64 (0,)"),
        (None, "object ()"),
        (iter([]), "object ()"),
    ],
)
def test_a_clip_of_another_shape_is_refused(closed: str, clip: Any, found: str) -> None:
    with pytest.raises(ActionClipError) as caught:
        TimeSformerOperator(closed, skip_preprocess=True)(clip)
    assert str(caught.value) == (
        f"with skip_preprocess the frames must be one float32 array of the shape (4, 3, 32, 32), not {found}: "
        "preprocess them, or leave out skip_preprocess"
    )


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([], "there are no frames: give at least one RGB image"),
        (np.zeros((0, 48, 60, 3), np.uint8), "there are no frames: give at least one RGB image"),
        ([*frames_of(2), frames_of(1)[0, :40]], "the frames differ in size: give those of one video"),
        (
            [np.zeros((48, 60), np.uint8)],
            "a frame is uint8 (48, 60), not uint8 (H, W, 3): it is grey; make three channels of it, "
            "np.stack([array] * 3, axis=-1)",
        ),
        (
            [*frames_of(8), np.zeros((48, 60, 1), np.uint8)],
            "a frame is uint8 (48, 60, 1), not uint8 (H, W, 3): it is grey; make three channels of it, "
            "np.repeat(array, 3, axis=-1)",
        ),
        (
            [np.zeros((48, 60, 4), np.uint8)],
            "a frame is uint8 (48, 60, 4), not uint8 (H, W, 3): it has an alpha channel; leave it out, array[..., :3]",
        ),
        (
            list(frames_of(2).astype(np.float32)),
            "a frame is float32 (48, 60, 3), not uint8 (H, W, 3): give whole numbers from 0 to 255; of values "
            "from 0 to 1, (255 * array).round().astype('uint8')",
        ),
        ([np.zeros((0, 60, 3), np.uint8)], "a frame is uint8 (0, 60, 3), not uint8 (H, W, 3): give RGB images"),
        ([moded(frames_of(1)[0], "HSV")], "a frame is HSV: give RGB images"),
        (
            [None],
            "a frame is None, which cv2.imread and VideoCapture.read return where there is nothing to read: check the "
            "file's name, or leave the frame out",
        ),
        (
            frames_of(1)[0],
            "the array is uint8 (48, 60, 3), not uint8 (T, H, W, 3): it is a single image; give it in a list, [array]",
        ),
        (None, "the frames are one NoneType: give a list of RGB images"),
        (np.array(5, np.uint8), "the array is uint8 (), not uint8 (T, H, W, 3): give RGB images"),
        (Path("clip.mp4"), f"the frames are one {type(Path()).__name__}: give a list of RGB images"),
    ],
)
def test_frames_that_are_none_are_refused(closed: str, frames: Any, message: str) -> None:
    with pytest.raises(ActionClipError) as caught:
        TimeSformerOperator(closed)(frames)
    assert str(caught.value) == message


@pytest.mark.parametrize("skip_preprocess", [False, True])
def test_what_is_no_array_is_refused(closed: str, skip_preprocess: bool) -> None:
    ragged: Any = [[[1], [1, 2]]]
    with pytest.raises(ActionClipError, match="the frames cannot be read as an array"):
        TimeSformerOperator(closed, skip_preprocess)(ragged)


def test_what_a_decoder_raises_is_not_hidden(closed: str) -> None:
    def broken() -> Iterable[Frames]:
        yield frames_of(1)[0]
        raise TypeError("the decoder's own")

    with pytest.raises(TypeError, match="the decoder's own"):
        TimeSformerOperator(closed)(broken())


def test_a_copy_runs_what_the_original_has_loaded(closed: str) -> None:
    operator = TimeSformerOperator(closed)
    before = operator(list(frames_of(4)))
    after = deepcopy(operator)(list(frames_of(4)))
    assert after[:2] == before[:2]


def test_wrong_class_maps_are_refused_at_once(zero_shot: str, closed: str) -> None:
    with pytest.raises(ActionClipError, match="the class map must be"):
        ActionClipOperator(zero_shot, classmap={})
    with pytest.raises(ActionClipError, match="the class map has 1 classes"):
        TimeSformerOperator(closed, classmap={"drinking": 0})


def test_device_and_threads_are_the_models(zero_shot: str, closed: str) -> None:
    for make in (
        lambda **options: ActionClipOperator(zero_shot, classmap=LABELS, **options),
        lambda **options: TimeSformerOperator(closed, **options),
    ):
        with pytest.raises(ActionClipError, match="the device 'abacus' is not there"):
            make(device="abacus")
        with pytest.raises(ActionClipError, match="threads is 0: give a number above 0"):
            make(threads=0)
        np.testing.assert_allclose(make(threads=1)(frames_of(4))[1], make()(frames_of(4))[1], atol=1e-6)


def test_the_defaults_are_the_large_models() -> None:
    for make, name in ((ActionClipOperator, "vit-b-16-8f"), (TimeSformerOperator, "timesformer_k400_8x224")):
        with pytest.raises(ActionClipError, match=f"run action-clip export {name} once"):
            make()(list(frames_of(8)))


@pytest.mark.slow
def test_the_embedded_model_names_the_sample() -> None:
    classmap = {label: index for index, label in enumerate(read_labels(SAMPLE_LABELS))}
    frames = list(decoded(SAMPLE_VIDEO))
    labels, scores, features = ActionClipOperator("nano", classmap=classmap, topk=3)(frames)
    prediction = ActionClip("nano").classify(SAMPLE_VIDEO, list(classmap), top_k=3)
    assert labels[0] == "playing piano"
    assert labels == [entry.label for entry in prediction.ranked]
    np.testing.assert_allclose(scores, [entry.probability for entry in prediction.ranked], atol=1e-6)
    np.testing.assert_allclose(features, prediction.video_features, atol=1e-6)
