"""Metrics, compared with numbers computed by hand and with scikit-learn; intervals by resampling."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from action_clip.data.dataset import Dataset, Example
from action_clip.evaluation.answers import Answers
from action_clip.evaluation.bootstrap import RESAMPLES, Bootstrap, mean, mean_average_precision, mean_of_classes
from action_clip.evaluation.metrics import evaluate

NAN = float("nan")


def answers(
    right: Sequence[int | tuple[int, ...]],
    scores: Sequence[Sequence[float]],
    *,
    groups: Sequence[str | None] = (),
    failures: Sequence[int] = (),
    are_probabilities: bool = True,
) -> Answers:
    """Answers for clips with these labels; those that failed have no scores."""
    labels = tuple((each,) if isinstance(each, int) else each for each in right)
    groups = groups or [None] * len(right)
    examples = tuple(
        Example(f"{n}.mp4", each, group) for n, (each, group) in enumerate(zip(labels, groups, strict=True))
    )
    classes = tuple("abcdefgh"[: len(scores[0])])
    array = np.array(scores, np.float64)
    array[list(failures)] = NAN
    dataset = Dataset("data", classes, examples, classes)
    broken = dict.fromkeys(failures, "broken")
    return Answers(dataset, "model", classes, labels, array, broken, are_probabilities=are_probabilities)


THREE = answers(
    [0, 0, 0, 0, 1, 1, 2],
    [
        [0.7, 0.2, 0.1],  # right
        [0.6, 0.3, 0.1],  # right
        [0.2, 0.5, 0.3],  # b, the right one is third
        [0.3, 0.3, 0.4],  # c, the right one is second: of equal ones the first comes first
        [0.1, 0.8, 0.1],  # right
        [0.1, 0.1, 0.8],  # c, the right one is third
        [0.4, 0.4, 0.2],  # a, the right one is third
    ],
)


def test_figures_of_clips_with_one_label() -> None:
    result = evaluate(THREE, top_k=2)
    values = {name: figure.value for name, figure in result.figures.items()}
    assert values == {
        "top_1": pytest.approx(3 / 7),
        "top_2": pytest.approx(4 / 7),
        "mean_per_class": pytest.approx((2 / 4 + 1 / 2 + 0) / 3),
    }
    assert all(figure.of_answered == figure.value for figure in result.figures.values())
    assert [(each.label, each.clips, each.value) for each in result.classes] == [
        ("a", 4, 0.5),
        ("b", 2, 0.5),
        ("c", 1, 0),
    ]
    assert result.confusion is not None
    assert result.confusion.tolist() == [[2, 1, 1], [0, 1, 1], [1, 0, 0]]
    assert result.not_computed == {}


def test_the_expected_calibration_error() -> None:
    """In bins of 1/15: 0.4 twice (1 of 2 … none right), 0.5, 0.6, 0.7 and 0.8 twice."""
    result = evaluate(THREE, top_k=2)
    assert result.calibration is not None
    bins = {round(each.confidence, 6): (each.clips, each.accuracy) for each in result.calibration.bins if each.clips}
    assert bins == {0.4: (2, 0.0), 0.5: (1, 0.0), 0.6: (1, 1.0), 0.7: (1, 1.0), 0.8: (2, 0.5)}
    expected = (2 * 0.4 + 1 * 0.5 + 1 * 0.4 + 1 * 0.3 + 2 * 0.3) / 7
    assert result.calibration.error == pytest.approx(expected)
    assert [each.low for each in result.calibration.bins] == pytest.approx([n / 15 for n in range(15)])
    assert [each.high for each in result.calibration.bins] == pytest.approx([(n + 1) / 15 for n in range(15)])


def test_a_probability_on_an_edge_is_in_the_bin_below() -> None:
    result = evaluate(answers([0, 1], [[0.6, 0.4], [0.0, 1.0]]))
    assert result.calibration is not None
    assert [round(each.high, 6) for each in result.calibration.bins if each.clips] == [0.6, 1.0]
    assert result.calibration.error == pytest.approx(0.2)


def test_clips_without_an_answer_count_as_wrong() -> None:
    result = evaluate(answers([0, 0, 1, 1], [[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.9, 0.1]], failures=[1, 3]))
    top_1, per_class = result.figures["top_1"], result.figures["mean_per_class"]
    assert (top_1.value, top_1.of_answered) == (0.5, 1.0)
    assert (per_class.value, per_class.of_answered) == (0.5, 1.0)
    assert [(each.clips, each.value) for each in result.classes] == [(2, 0.5), (2, 0.5)]
    assert result.confusion is not None
    assert result.confusion.tolist() == [[1, 0], [0, 1]]


def test_a_class_of_which_no_clip_has_an_answer_counts_with_zero() -> None:
    result = evaluate(answers([0, 1], [[0.9, 0.1], [0.1, 0.9]], failures=[1]))
    assert result.figures["mean_per_class"].value == 0.5
    assert result.figures["mean_per_class"].of_answered == 1.0


def test_what_the_first_labels_alone_tell() -> None:
    """Scores of the first two labels of four: top-2 is known, top-3 is not."""
    known = answers([0, 1], [[0.6, 0.3, NAN, NAN], [0.5, NAN, 0.4, NAN]])
    assert evaluate(known, top_k=2).figures["top_2"].value == 0.5
    result = evaluate(known, top_k=3)
    assert "top_3" not in result.figures
    assert result.not_computed == {"top_3": "the answers name 2 labels for a clip"}
    assert evaluate(known, top_k=4).not_computed == {"top_4": "there are 4 labels"}
    assert result.figures["top_1"].value == 0.5


def test_scores_that_are_no_probabilities_have_no_calibration() -> None:
    result = evaluate(answers([0, 1], [[3.0, -2.0], [9.0, 1.0]], are_probabilities=False))
    assert result.calibration is None
    assert result.not_computed["expected_calibration_error"] == "the scores are no probabilities"


SEVERAL = answers(
    [(0, 1), (1,), (2,), (0,), (0, 2)],
    [[0.9, 0.8, 0.1], [0.3, 0.2, 0.4], [0.2, 0.9, 0.4], [0.3, 0.1, 0.0], [0.1, 0.0, 0.7]],
)


def test_average_precision_of_clips_with_several_labels() -> None:
    """a: right clips at places 1, 2 (with 3, as their scores are equal) and 5; b: at 2 and 3; c: at 1 and 2."""
    result = evaluate(SEVERAL, top_k=2)
    a = (1 / 1 + 2 / 3 + 3 / 5) / 3
    b = (1 / 2 + 2 / 3) / 2
    c = (1 / 1 + 2 / 3) / 2
    assert [each.label for each in result.classes] == ["a", "b", "c"]
    by_class = [each.value for each in result.classes]
    assert by_class == [pytest.approx(value) for value in (a, b, average(2))]
    assert c == pytest.approx(average(2))
    assert result.figures["mean_average_precision"].value == pytest.approx((a + b + c) / 3)
    assert result.figures["top_1"].value == pytest.approx(3 / 5)
    assert result.confusion is None
    assert result.calibration is None
    assert set(result.not_computed) == {"mean_per_class", "confusion", "expected_calibration_error"}


def average(label: int) -> float:
    return float(average_precision_score(SEVERAL.targets[:, label], SEVERAL.scores[:, label]))


def test_a_clip_that_cannot_be_read_comes_last_for_each_label() -> None:
    result = evaluate(answers([(0, 1), (1,), (0,)], [[0.9, 0.9], [0.5, 0.6], [0.7, 0.1]], failures=[0]))
    mean_precision = result.figures["mean_average_precision"]
    assert mean_precision.of_answered == 1.0
    assert mean_precision.value == pytest.approx(((1 + 2 / 3) / 2 + (1 + 2 / 3) / 2) / 2)


def test_average_precision_needs_all_scores() -> None:
    result = evaluate(answers([(0, 1), (1,)], [[0.9, 0.5, NAN], [NAN, 0.6, 0.1]]))
    assert result.not_computed["mean_average_precision"] == "the answers have scores for 2 of the 3 labels"


def test_an_interval_is_that_of_groups() -> None:
    """Ten groups of ten alike clips are as sure as ten clips, not as a hundred."""
    right, wrong = [0.9, 0.1], [0.1, 0.9]
    ten = answers([0] * 10, [right] * 5 + [wrong] * 5)
    hundred = answers([0] * 100, [right] * 50 + [wrong] * 50)
    grouped = answers([0] * 100, [right] * 50 + [wrong] * 50, groups=[f"g{n // 10}" for n in range(100)])
    widths = []
    for each in (ten, hundred, grouped):
        interval = evaluate(each).figures["top_1"].interval
        assert interval is not None
        assert interval[0] < 0.5 < interval[1]
        widths.append(interval[1] - interval[0])
    # Of n clips, half of them right, 95 % lie within 1.96 · sqrt(0.25 / n) of the half.
    assert widths[0] == pytest.approx(2 * 1.96 * 0.5 / 10**0.5, rel=0.1)
    assert widths[1] == pytest.approx(2 * 1.96 * 0.5 / 100**0.5, rel=0.1)
    assert widths[2] == widths[0]


def test_a_seed_gives_the_same_intervals() -> None:
    one, again, other = (evaluate(THREE, seed=seed).figures["mean_per_class"].interval for seed in (1, 1, 2))
    assert one == again
    assert one is not None
    assert one != other


def test_one_group_has_no_interval() -> None:
    assert evaluate(answers([0, 1], [[0.9, 0.1]] * 2, groups=["g", "g"])).figures["top_1"].interval is None


def test_figures_of_resamples_are_those_of_the_clips_in_them() -> None:
    """Each figure for weights is that of a data set in which clips come as many times, as scikit-learn computes it."""
    random = np.random.default_rng(0)
    weights = random.integers(0, 3, (20, 30)).astype(np.float64)
    hits, classes = random.integers(0, 2, 30).astype(np.float64), random.integers(0, 4, 30)
    scores, targets = np.round(random.random((30, 5)), 1), random.random((30, 5)) < 0.3
    of_mean, of_classes = mean(hits)(weights), mean_of_classes(hits, classes)(weights)
    of_precision = mean_average_precision(scores, targets)(weights)
    for row, times in enumerate(weights.astype(int)):
        clips = np.repeat(np.arange(30), times)
        assert of_mean[row] == pytest.approx(hits[clips].mean())
        by_class = [hits[clips][classes[clips] == label].mean() for label in np.unique(classes[clips])]
        assert of_classes[row] == pytest.approx(np.mean(by_class))
        labels = np.flatnonzero(targets[clips].any(axis=0))
        precisions = [average_precision_score(targets[clips, label], scores[clips, label]) for label in labels]
        assert of_precision[row] == pytest.approx(np.mean(precisions))


def test_each_resample_has_as_many_groups_as_there_are() -> None:
    groups = np.array([0, 0, 1, 2, 2, 2])
    drawn: list[NDArray[np.float64]] = []

    def keep(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        drawn.append(weights)
        return weights[:, 0]

    Bootstrap(groups, 0).interval(keep)
    weights = np.concatenate(drawn)
    assert weights.shape == (RESAMPLES, 6)
    assert (weights[:, [0, 2, 3]].sum(axis=1) == 3).all()
    assert (weights[:, 0] == weights[:, 1]).all()
    assert weights[:, 2].mean() == pytest.approx(1, abs=0.1)
