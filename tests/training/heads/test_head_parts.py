"""The parts of a data set for training: which classes they have, and what is refused in one sentence."""

import numpy as np
import pytest

from action_clip import ActionClipError
from action_clip.data.dataset import Dataset, Example
from action_clip.training.heads.curve import SHOTS, curve
from action_clip.training.heads.examples import Examples
from action_clip.training.heads.figures import Figures
from action_clip.training.heads.kinds import ClassMean, Linear
from action_clip.training.heads.parts import check_classes, training_parts


def dataset(*clips: tuple[int, str | None], classes: int = 4) -> Dataset:
    examples = tuple(Example(f"{n}.mp4", (label,), split=split) for n, (label, split) in enumerate(clips))
    return Dataset(
        "data", tuple(f"class {n}" for n in range(classes)), examples, tuple(f"class_{n}" for n in range(classes))
    )


def test_without_splits_all_clips_are_for_training_and_classes_without_clips_go() -> None:
    known, val = training_parts(dataset((0, None), (2, None), (3, None)))
    assert val is None
    assert (known.classes, known.names) == (("class 0", "class 2", "class 3"), ("class_0", "class_2", "class_3"))
    assert [example.labels for example in known.examples] == [(0,), (1,), (2,)]


def test_clips_for_testing_are_left_alone() -> None:
    known, val = training_parts(dataset((0, "train"), (3, "train"), (3, "val"), (0, "test")))
    assert val is not None
    assert [example.video for example in known.examples] == ["0.mp4", "1.mp4"]
    assert [(example.video, example.labels) for example in val.examples] == [("2.mp4", (1,))]
    assert val.classes == ("class 0", "class 3")


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_class_that_is_only_elsewhere(split: str) -> None:
    with pytest.raises(ActionClipError, match=rf"no clips for training of 'class_1', but for {split}: give some"):
        training_parts(dataset((0, "train"), (2, "train"), (1, split)))


def test_one_class() -> None:
    with pytest.raises(ActionClipError, match="data has one class, 'class_2', from which nothing can be told apart"):
        training_parts(dataset((2, None), (2, None)))


def test_a_split_without_training() -> None:
    with pytest.raises(ActionClipError, match=r"data has no clips for train \(it has val\)"):
        training_parts(dataset((0, "val"), (1, "val")))


def test_a_class_of_which_nothing_can_be_read() -> None:
    data = dataset((0, None), (1, None), classes=2)
    examples = Examples(np.zeros((1, 2), np.float32), np.array([[True, False]]), is_multi_label=False)
    with pytest.raises(ActionClipError, match="none of the clips of 'class_1' can be read"):
        check_classes(data, examples)


def test_the_curve_is_drawn_from_so_many_clips_a_class() -> None:
    """Features say the class and the clip: what a head is right about shows what it was fitted to."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(2), 12)
    points = random.normal(size=(2, 8))
    features = (points[labels] + 0.9 * random.normal(size=(24, 8))).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    train = Examples(features, np.eye(2, dtype=bool)[labels], is_multi_label=False)
    data = dataset(*((int(label), None) for label in labels), classes=2)
    figures = [Figures(ClassMean(), {"scale": 16.0}), Figures(Linear(), {"C": 10.0})]
    found = curve(figures, train, data, None, 0)
    assert found.keys() == {"mean", "linear"}
    # A quarter is measured with, nine of each class are left.
    assert [point.shots for point in found["mean"]] == [1, 2, 4, 8]
    assert found["mean"][-1].mean > found["mean"][0].mean
    assert found["mean"][0].deviation > 0
    assert found == curve(figures, train, data, None, 0)
    assert found != curve(figures, train, data, None, 1)

    with_val = curve(figures, train, data, train, 0)
    assert [point.shots for point in with_val["mean"]] == [1, 2, 4, 8]
    assert with_val["mean"][-1].mean > 0.8
    assert SHOTS == (1, 2, 4, 8, 16)
