"""The yardstick gives the program's answer."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_models import random_model, save_model

from action_clip import ActionClip
from action_clip.video.preprocess import clip_tensor
from benchmarks.inputs import ROOT, write_clip
from benchmarks.reference_flow import BATCH, classify, preprocess, read_frames

pytestmark = pytest.mark.slow

LABELS = ["dancing", "drinking", "reading", "playing the harp", "jumping over a fence", "eating"]
STAGES = {"sessions", "text", "decode", "preprocess", "image", "fusion", "score"}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clip that the whole processes are measured on."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write_clip(path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = random_model(seed=3, frames=8, transformer=True, size=64)
    return save_model(model, tmp_path_factory.mktemp("model"), frames=8)


def test_it_answers_as_the_program_does(folder: Path, clip: Path) -> None:
    assert len(LABELS) * 16 > BATCH  # more than one batch
    timings_s: dict[str, float] = {}
    probabilities = classify(folder, clip, LABELS, timings_s)
    expected = ActionClip(folder).classify(clip, LABELS).probabilities
    assert expected.max() < 0.9
    np.testing.assert_allclose(probabilities, expected, atol=1e-3)
    assert set(timings_s) == STAGES


def test_the_command_prints_the_top_labels(folder: Path, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("\n".join(LABELS[2:]), encoding="utf-8")
    command = [sys.executable, "-m", "benchmarks.reference_flow", "--model", str(folder), "--video", str(clip)]
    command += ["--text", LABELS[0], "--text", LABELS[1], "--desc_file", str(tmp_path / "labels.txt")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    expected = ActionClip(folder).classify(clip, LABELS)
    assert [entry["label"] for entry in answer["predictions"]] == [entry.label for entry in expected.ranked]
    assert set(answer["timings_s"]) == STAGES


def test_it_preprocesses_as_the_program_does(clip: Path) -> None:
    frames = read_frames(clip, 8)
    facts = {"resize": "256", "image_size": "224", "mean": "[0.5, 0.4, 0.3]", "std": "[0.3, 0.2, 0.1]"}
    expected = clip_tensor(np.stack([np.asarray(frame) for frame in frames]), 224, (0.5, 0.4, 0.3), (0.3, 0.2, 0.1))
    np.testing.assert_allclose(preprocess(frames, facts), expected, atol=1e-5)
