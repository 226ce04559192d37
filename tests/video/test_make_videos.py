"""What the makers of test videos leave behind: a video, and nothing else."""

import os
from pathlib import Path

import pytest
from make_videos import split_hidden_frames, write_numbered


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="no such priorities")
def test_priority_stays_what_it_was(tmp_path: Path) -> None:
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    whole = write_numbered(tmp_path / "whole.mkv", 20, "libsvtav1", options={"preset": "12"})
    split_hidden_frames(whole, tmp_path / "clip.mkv")
    assert (os.sched_getscheduler(0), os.sched_getparam(0)) == before
