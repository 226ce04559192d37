"""Cross-validation: who is left out, which setting is taken, and that nothing is known of what is answered for."""

from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
from feature_clouds import clouds
from numpy.typing import NDArray

from action_clip.data.dataset import Dataset, Example
from action_clip.training.heads.examples import Examples
from action_clip.training.heads.functions import Affine
from action_clip.training.heads.kinds import ClassMean, FittedHead, Head, Setting
from action_clip.training.heads.validation import left_out, make_folds, validated


def dataset(*classes: Sequence[str | None]) -> Dataset:
    """Clips of each class with these groups."""
    examples = [
        Example(f"{label}-{place}.mp4", (label,), group)
        for label, groups in enumerate(classes)
        for place, group in enumerate(groups)
    ]
    names = tuple("abcdef"[: len(classes)])
    return Dataset("data", names, tuple(examples), names)


def parts_of(data: Dataset) -> list[list[int]]:
    folds = make_folds(data, 0)
    for known, rows in folds:
        assert not set(known.tolist()) & set(rows.tolist())
    return sorted(rows.tolist() for _, rows in folds)


def test_many_clips_are_left_out_in_five_parts() -> None:
    parts = parts_of(dataset([None] * 10, [None] * 5))
    assert len(parts) == 5
    assert sorted(row for part in parts for row in part) == list(range(15))
    assert all(sum(row < 10 for row in part) == 2 for part in parts)


def test_few_clips_are_left_out_one_at_a_time_and_single_ones_never() -> None:
    data = dataset([None, None], [None], [None, None, None])
    assert parts_of(data) == [[0], [1], [3], [4], [5]]
    assert all(2 in known for known, _ in make_folds(data, 0))
    assert left_out(data, make_folds(data, 0)) == (5, 2)


def test_groups_are_left_out_together_with_all_their_classes() -> None:
    data = dataset(["g1", "g1", "g2"], ["g1", "g3"], ["g1"])
    assert parts_of(data) == [[0, 1, 3], [2], [4]]
    [(known, _)] = [fold for fold in make_folds(data, 0) if 0 in fold[1]]
    assert 5 not in known  # of a class that is never left out, but of the same group


def test_without_two_groups_of_a_class_nothing_can_be_left_out() -> None:
    assert make_folds(dataset([None], [None], [None]), 0) == []
    assert make_folds(dataset(["g", "g"], ["h", "h"]), 0) == []
    assert left_out(dataset([None], [None]), []) == (0, 0)
    # Only the second clip could be left out: the first one is all that is known of "b".
    several = Dataset("data", ("a", "b"), (Example("1.mp4", (0, 1)), Example("2.mp4", (0,))), ("a", "b"))
    assert make_folds(several, 0) == []


class Spy(Head):
    """Remembers what it is fitted to; with the setting k it answers the class k to everything."""

    name = "linear"
    settings: ClassVar[Sequence[Setting]] = ({"k": 0.0}, {"k": 1.0}, {"k": 2.0})
    default: ClassVar[Setting] = {"k": 0.0}

    def __init__(self) -> None:
        self.seen: list[NDArray[np.float32]] = []

    def fitted(self, examples: Examples, settings: Sequence[Setting]) -> Iterator[FittedHead]:
        self.seen.append(examples.features)
        for setting in settings:
            bias = 9.0 * (np.arange(3) == setting["k"])
            yield FittedHead(Affine(np.zeros((examples.features.shape[1], 3)), bias))


def test_a_head_knows_nothing_of_what_it_answers_for() -> None:
    train, spy = clouds(0, 10), Spy()
    names = ("a", "b", "c")
    data = Dataset("data", names, tuple(Example(str(row), (row // 10,)) for row in range(30)), names)
    folds = make_folds(data, 0)
    validated(spy, train, folds)
    assert len(spy.seen) == 5
    for seen, (_, rows) in zip(spy.seen, folds, strict=True):
        assert len(seen) == 24
        assert not any((seen == train.features[row]).all(axis=1).any() for row in rows.tolist())


def test_the_setting_for_a_part_is_the_best_one_on_the_others() -> None:
    """Class 0 is in the first part alone, where the answer 0 is right; elsewhere it is 1."""
    train = clouds(0, 4)
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2])
    train = Examples(train.features, np.eye(3, dtype=bool)[labels], is_multi_label=False)
    rows = np.arange(12)
    parts = [np.array([0, 1, 2, 3]), np.array([4, 5, 8]), np.array([6, 7, 9])]
    found = validated(Spy(), train, [(np.setdiff1d(rows, part), part) for part in parts])
    assert found.rows.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    answers = found.probabilities.argmax(axis=1)
    # Without the first part, 1 is right four times; without another one, 0 is.
    assert answers.tolist() == [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    assert found.setting in ({"k": 0.0}, {"k": 1.0})


def test_of_equally_right_settings_the_probabilities_decide() -> None:
    train = clouds(0, 10)
    names = ("a", "b", "c")
    data = Dataset("data", names, tuple(Example(str(row), (row // 10,)) for row in range(30)), names)
    found = validated(ClassMean(), train, make_folds(data, 0))
    assert (found.probabilities.argmax(axis=1) == train.labels).all()
    assert found.setting == {"scale": 128.0}  # the surest is right, as all are
