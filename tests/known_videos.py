"""Videos for the video bank, what a new process finds of them, and scripts that use it in another process."""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from action_clip.models.cache.video_bank import KnownVideo, VideoBank

ROOT = Path(__file__).parents[1]
MOST = 1 << 30


def video(number: int, width: int = 512, frames: int = 8) -> KnownVideo:
    """One of many."""
    rng = np.random.default_rng(number)
    return KnownVideo(
        features=rng.normal(size=width).astype(np.float32),
        frame_features=rng.normal(size=(frames, width)).astype(np.float32),
        logits=np.empty(0, np.float32),
        indices=tuple(range(number, number + frames)),
        times_s=tuple((number + index) / 29.97 for index in range(frames)),
        total_frames=number + 300,
        duration_s=number / 3,
    )


def assert_same(found: KnownVideo | None, expected: KnownVideo) -> None:
    """That it is the same, bit for bit."""
    assert found is not None
    for one, other in (
        (found.features, expected.features),
        (found.frame_features, expected.frame_features),
        (found.logits, expected.logits),
    ):
        if other is None:
            assert one is None
        else:
            assert one is not None
            assert one.dtype == np.float32
            assert one.shape == other.shape
            assert one.tobytes() == other.tobytes()
    assert [type(index) for index in found.indices] == [int] * len(expected.indices)
    assert (found.indices, found.times_s) == (expected.indices, expected.times_s)
    assert (found.total_frames, found.duration_s) == (expected.total_frames, expected.duration_s)


def known(path: Path, numbers: Iterable[int], most: int = MOST) -> list[int]:
    """Which of these videos a new process finds, each as it was written."""
    bank = VideoBank(path, most)
    found = []
    for number in numbers:
        if (record := bank.read(f"video {number}")) is not None:
            assert_same(record, video(number))
            found.append(number)
    bank.close()
    return found


def filled(path: Path, numbers: range, most: int = MOST) -> VideoBank:
    bank = VideoBank(path, most)
    for number in numbers:
        bank.write(f"video {number}", video(number))
    bank.flush()
    return bank


_IN_ANOTHER = """
import os, sys, threading, time
sys.path.insert(0, "tests")
from pathlib import Path
from known_videos import MOST, VideoBank, video
path = Path(sys.argv[1])
bank = VideoBank(path, MOST)
"""


def running(script: str, path: Path, **options: Any) -> "subprocess.Popen[str]":
    """Return a new process that runs the script, which has the bank at `path`."""
    command = [sys.executable, "-W", "ignore", "-c", _IN_ANOTHER + script, str(path)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
