"""The embedded model on real video: the sample, and where they are at hand, labelled clips."""

import os
from pathlib import Path

import pytest

from action_clip import ActionClip
from action_clip.commands.samples import SAMPLE_LABELS, SAMPLE_VIDEO
from action_clip.tokenizer.prompts import read_labels
from benchmarks.accuracy import measure

ACTION = "playing piano"
CLIPS = os.environ.get("ACTION_CLIP_CLIPS")


@pytest.fixture(scope="module")
def nano() -> ActionClip:
    return ActionClip("nano")


def test_the_sample_is_named(nano: ActionClip) -> None:
    prediction = nano.classify(SAMPLE_VIDEO, read_labels(SAMPLE_LABELS))
    assert prediction.ranked[0].label == ACTION
    assert prediction.ranked[0].probability > 2 * prediction.ranked[1].probability
    assert prediction.frames.shape[0] == 8


@pytest.mark.parametrize("seed", range(10))
def test_not_by_luck_of_one_frame(nano: ActionClip, seed: int) -> None:
    prediction = nano.classify(SAMPLE_VIDEO, read_labels(SAMPLE_LABELS), sampling="random", seed=seed)
    assert prediction.ranked[0].label == ACTION


def test_the_sample_is_small() -> None:
    assert SAMPLE_VIDEO.stat().st_size <= 3_000_000


@pytest.mark.slow
@pytest.mark.skipif(not CLIPS, reason="ACTION_CLIP_CLIPS names no folder of labelled clips")
def test_accuracy_on_labelled_clips(nano: ActionClip) -> None:
    figures = measure(Path(CLIPS or ""), nano)
    print(figures)
    assert figures.top1 >= 0.29
    assert figures.top5 >= 0.55
    assert figures.calibration_error < 0.2
