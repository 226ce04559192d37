"""Windows on glued clips: figures that can be checked by hand, and where the clips are in the whole."""

from pathlib import Path

import numpy as np
import pytest
from make_videos import write_numbered, write_video
from small_models import random_model, save_model

from action_clip import ActionClip, VideoReader
from benchmarks import glued
from benchmarks.glued import Rightness, Span, glue, measure, rightness


def test_figures() -> None:
    truth = [Span(0, 4, 7), Span(4, 6, 7), Span(6, 10, 2), Span(10, 12, 5)]
    found = [Span(0, 5, 7), Span(5, 8, 3), Span(8, 12, 2)]
    # 0 to 5 and 8 to 10 are right; there is no change at 4, one of 5 and 8 is 1 s from 6, and 8 is 2 s from 10
    figures = rightness(found, truth)
    assert figures == Rightness(7, 12, (1, 2), 3)
    assert figures + Rightness(1, 8, (3,), 1) == Rightness(8, 20, (1, 2, 3), 4)
    assert rightness([Span(0, 12, 7)], truth).errors_s == (float("inf"),) * 2


def test_clips_follow_each_other(tmp_path: Path) -> None:
    one = write_numbered(tmp_path / "one.mp4", 10, rate=10)
    two = write_video(tmp_path / "two.mp4", [np.full((48, 64, 3), 200, np.uint8)] * 30, rate=30)
    truth = glue([(one, 4), (two, 1), (one, 0)], tmp_path / "whole.mp4")
    assert truth == [Span(0, 1, 4), Span(1, 2, 1), Span(2, 3, 0)]
    with VideoReader(tmp_path / "whole.mp4") as video:
        assert len(video) == 75
        assert video.duration_s == pytest.approx(3)
        frames = video.frames_at([24, 25, 49, 50]).frames
    assert frames.shape == (4, glued.SIZE, glued.SIZE, 3)
    assert [picture.mean() > 190 for picture in frames] == [False, True, True, False]


def test_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glued, "WINDOWS_S", (1.0,))
    monkeypatch.setattr(glued, "STRIDES", (0.5,))
    monkeypatch.setattr(glued, "COSTS_S", (0.0, 1000.0))
    for name, count in (("one", 50), ("two", 60), ("short", 20)):
        write_numbered(tmp_path / f"{name}.mp4", count)
    rows = ["file,label", "one.mp4,eating", "two.mp4,reading", "short.mp4,singing"]
    (tmp_path / "manifest.csv").write_text("\n".join(rows), encoding="utf-8")
    model = ActionClip(save_model(random_model(1, 4, True), tmp_path / "model", frames=4), cache=False)
    title, whole, head, each, smooth = measure(tmp_path, model, 1.5, 2)
    assert title == "2 clips of at least 1.5 s, 3 labels, 2 orders, 9 s"
    assert "of all seconds right" in whole
    assert len(head.split("  ")) > 5
    assert each.split()[:6] == ["1", "s", "0.5", "s", "0", "s"]
    assert smooth.split()[:6] == ["1", "s", "0.5", "s", "1000", "s"]
    assert smooth.split()[-1] == "0.50"  # one segment for both clips
