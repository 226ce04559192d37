"""Networks that are trained from scratch see motion, and understand words together that they never saw together."""

from pathlib import Path

import numpy as np
import pytest
from in_process import run
from moving_shapes import BY_LABEL, FRAMES, MOTIONS, clips_of, shuffled, write_clips

from action_clip import ActionClip

HELD_OUT = [motion for motion in MOTIONS if motion.is_held_out]


@pytest.mark.slow
def test_combinations_of_words_that_were_never_trained_together(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write_clips(tmp_path / "data", [motion for motion in MOTIONS if not motion.is_held_out], 100, seed=0)
    (tmp_path / "prompts.txt").write_text("{}\n", "utf-8")
    out = tmp_path / "run"
    code, printed, err = run(
        capsys, "train", "--fine-tune", "--data", str(tmp_path / "data"), "--out", str(out), "--scratch", "tiny",
        "--frames", str(FRAMES), "--prompts", str(tmp_path / "prompts.txt"), "--augmentation", "none",
        "--epochs", "8", "--batch-size", "48", "--lr", "1e-4", "--image-lr", "1e-3", "--fusion-lr", "1e-2",
    )  # fmt: skip
    assert code == 0, err
    assert f"wrote {out}: action-clip --model {out} " in printed

    right, right_way, right_way_shuffled = [], [], []
    random = np.random.default_rng(3)
    with ActionClip(out, cache=False) as model:
        bank = model.labels([motion.label for motion in MOTIONS])  # those that were trained too
        assert len(bank.embeddings) == 1  # the prompt that it was trained with
        for motion, frames in clips_of(HELD_OUT, 40, seed=2):
            answer = model.classify(frames, bank).ranked[0].label
            right.append(answer == motion.label)
            right_way.append(BY_LABEL[answer].direction == motion.direction)
            answer = model.classify(shuffled(frames, random), bank).ranked[0].label
            right_way_shuffled.append(BY_LABEL[answer].direction == motion.direction)
    assert np.mean(right) >= 0.9
    assert np.mean(right_way) >= 0.9
    # Between one of four and a coin, as the axis is still seen; four standard deviations of 160 coins are 0.16.
    assert 0.2 < np.mean(right_way_shuffled) < 0.66
