"""The figures of the benchmark for "none of these", on scores and features small enough to check by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from action_clip import ActionClip, ActionClipError, LabelBank
from action_clip.commands.samples import SAMPLE_VIDEO
from benchmarks.none_of_these import (
    DRAWS,
    OTHERS,
    PARTS,
    auc,
    best_threshold,
    cross_validated,
    draw,
    outcome,
    outside_prompts,
    parts_of,
    report,
    spread,
    with_texts,
    youden,
)

LABELS = OTHERS + 3


def bank(none: int = 0) -> LabelBank:
    """Each label, and each text for none, along an axis of its own, the same in two prompts."""
    axes = np.eye(LABELS + none, LABELS + 2, dtype=np.float32)
    return LabelBank(
        tuple(f"label {number}" for number in range(LABELS)), np.stack([axes, axes]), 10.0, none_texts=("x", "y")[:none]
    )


def test_auc_counts_pairs_and_ties_half() -> None:
    scores = np.array([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]])
    # above: 0.9 three, 0.5 one and a half, 0.2 one, of nine pairs
    assert auc(scores) == pytest.approx(5.5 / 9)
    assert auc(scores[:, ::-1]) == pytest.approx(3.5 / 9)


def test_the_threshold_has_the_largest_youden_index() -> None:
    scores = np.array([[0.9, 0.1], [0.6, 0.2], [0.3, 0.5], [0.7, 0.3]])
    assert youden(scores, 0.6) == pytest.approx(0.75)
    assert youden(scores, 0.3) == pytest.approx(0.5)
    assert best_threshold(scores) == pytest.approx((0.6, 0.75))


def test_questions_have_the_right_label_first_and_others_without_it() -> None:
    truth = [2, 0, 2]
    questions = draw(truth, LABELS)
    assert questions.labels.shape == (3 * DRAWS, 1 + OTHERS)
    assert questions.clips.tolist() == [0, 1, 2] * DRAWS
    for clip, numbers in zip(questions.clips, questions.labels.tolist(), strict=True):
        assert numbers[0] == truth[clip]
        assert len({*numbers}) == 1 + OTHERS
    assert len({tuple(numbers) for numbers in questions.labels.tolist()}) > DRAWS
    np.testing.assert_array_equal(draw(truth, LABELS).labels, questions.labels)


def test_outcomes_by_hand() -> None:
    features = np.eye(LABELS, LABELS + 2, dtype=np.float32)[:2]  # of clips that are exactly their label
    questions = draw([0, 1], LABELS)
    e = np.exp(10.0)

    own = outcome(features, bank(none=2), questions)
    np.testing.assert_allclose(own.not_none[:, 0], (e + OTHERS) / (e + OTHERS + 2))
    np.testing.assert_allclose(own.not_none[:, 1], OTHERS / (OTHERS + 2))
    np.testing.assert_allclose(own.label[:, 0], e / (e + OTHERS + 2))
    np.testing.assert_allclose(own.label[:, 1], 1 / (OTHERS + 2))
    np.testing.assert_allclose(own.similarity, [[1, 0]] * len(own.label))
    assert own.right.tolist() == [[1, 1]] * len(own.label)

    without = outcome(features, bank(), questions)
    np.testing.assert_array_equal(without.not_none, 1)
    np.testing.assert_allclose(without.label, [[e / (e + OTHERS), 1 / OTHERS]] * len(own.label))
    assert without.right.tolist() == [[1, 0]] * len(own.label)

    together = outcome(features, replace(bank(none=2), is_multi_label=True), questions)
    np.testing.assert_allclose(together.label, [[e / (e + 2), 1 / 3]] * len(own.label))


def test_a_text_is_not_beside_the_label_that_it_is() -> None:
    labels = bank()
    both = with_texts(labels, replace(labels, labels=("label 0", "x"), embeddings=labels.embeddings[:, :2]))
    assert both.none_texts == ("label 0", "x")
    np.testing.assert_array_equal(both.embeddings[:, LABELS:], labels.embeddings[:, :2])
    features = np.eye(LABELS, LABELS + 2, dtype=np.float32)[:1]  # exactly label 0, and its text
    own = outcome(features, both, draw([0], LABELS))
    e = np.exp(10.0)
    np.testing.assert_allclose(own.not_none[:, 0], (e + OTHERS) / (e + OTHERS + 1))  # x alone
    np.testing.assert_allclose(own.not_none[:, 1], OTHERS / (OTHERS + e + 1))


def test_texts_outside_prompts_are_the_same_beside_labels_in_all() -> None:
    varied = bank(none=2)
    varied = replace(varied, embeddings=varied.embeddings * np.array([1, -1], np.float32)[:, None, None])
    bare = outside_prompts(varied, 1)
    np.testing.assert_array_equal(bare.embeddings[:, :LABELS], varied.embeddings[:, :LABELS])
    np.testing.assert_array_equal(bare.embeddings[:, LABELS:], varied.embeddings[[1, 1], LABELS:])


def test_what_is_chosen_is_measured_on_other_labels() -> None:
    parts = np.arange(4 * PARTS) % PARTS
    good, bad = np.tile([0.9, 0.1], (4 * PARTS, 1)), np.tile([0.1, 0.9], (4 * PARTS, 1))
    lucky = bad.copy()
    lucky[parts == 0] = [0.9, 0.1]  # in part 0 alone
    assert cross_validated({"bad": bad, "lucky": lucky}, parts) == (0, ["bad", *["lucky"] * (PARTS - 1)])
    assert cross_validated({"bad": bad, "good": good}, parts) == (1, ["good"] * PARTS)

    of_clips = parts_of([0, 5, 0, 11], LABELS)
    assert of_clips[0] == of_clips[2]
    assert {*parts_of(range(LABELS), LABELS).tolist()} == {*range(PARTS)}


def test_the_spread_is_over_clips() -> None:
    clips = np.arange(200) % 50
    assert spread(clips, lambda rows: float(clips[rows].mean())) == pytest.approx(
        np.sqrt((50**2 - 1) / 12 / 50), rel=0.2
    )
    assert spread(clips, lambda rows: float(len(rows))) == 0


def test_a_folder_with_few_labels_is_refused() -> None:
    with pytest.raises(ActionClipError, match="the clips have 1 labels: give a folder with more than 9"):
        report({Path(SAMPLE_VIDEO): "playing piano"}, ActionClip("nano"))
