"""Networks that are trained from scratch see motion, and understand words together that they never saw together."""

from pathlib import Path

import numpy as np
import pytest
import torch
from in_process import run
from moving_shapes import FRAMES, MOTIONS, clips_of, shuffled, write_clips

from action_clip import ActionClip

HELD_OUT = [motion for motion in MOTIONS if motion.is_held_out]
CLIPS_EACH = 160


@pytest.mark.slow
def test_combinations_of_words_that_were_never_trained_together(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_clips(tmp_path / "data", [motion for motion in MOTIONS if not motion.is_held_out], 50, seed=0)
    (tmp_path / "prompts.txt").write_text("{}\n", "utf-8")
    # One thread comes to the same weights on any number of cores, and takes less of the processors.
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    out = tmp_path / "run"
    code, printed, err = run(
        capsys, "train", "--fine-tune", "--data", str(tmp_path / "data"), "--out", str(out), "--scratch", "tiny",
        "--frames", str(FRAMES), "--prompts", str(tmp_path / "prompts.txt"), "--augmentation", "none",
        "--epochs", "8", "--batch-size", "24", "--lr", "1e-4", "--image-lr", "1e-3", "--fusion-lr", "1e-2",
    )  # fmt: skip
    assert code == 0, err
    assert f"wrote {out}: action-clip --model {out} " in printed

    right: list[bool] = []
    right_way: list[bool] = []
    right_way_shuffled: list[bool] = []
    random = np.random.default_rng(3)
    with ActionClip(out, cache=False) as model:
        bank = model.labels([motion.label for motion in MOTIONS])  # those that were trained too
        assert len(bank.embeddings) == 1  # the prompt that it was trained with
        two_ways = {motion: model.labels([motion.label, motion.reversed.label]) for motion in HELD_OUT}
        for motion, frames in clips_of(HELD_OUT, CLIPS_EACH, seed=2):
            right.append(model.classify(frames, bank).ranked[0].label == motion.label)
            for ordered, answers in ((frames, right_way), (shuffled(frames, random), right_way_shuffled)):
                answers.append(model.classify(ordered, two_ways[motion]).ranked[0].label == motion.label)
    assert np.mean(right) >= 0.9
    assert np.mean(right_way) >= 0.9
    # Shuffled frames still show the axis, but nothing of the way along it: chance is one of two directions, exactly, as
    # clips of either are the same then. Four standard deviations of so many coins.
    assert abs(np.mean(right_way_shuffled) - 1 / 2) < 4 * (1 / 2) / len(right_way_shuffled) ** 0.5
