"""Folders of many videos: `python -m benchmarks.folders WORK KIND COUNT` completes one, KIND of FOLDERS.

It is a process of its own, as the one that starts and times the others must stay small.
"""

import os
import shutil
import sys
from functools import partial
from pathlib import Path

from benchmarks.inputs import FEW_TINY, Inputs, write_clip
from benchmarks.video import make_videos, whole


def make_clips(inputs: Inputs, count: int) -> None:
    """Make `count` different clips of ten seconds; each takes three seconds of a core."""
    inputs.clips.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        path = inputs.clips / f"{number:03}.mp4"
        if not path.exists():
            whole(path, partial(write_clip, seed=number))


def make_tiny(inputs: Inputs, count: int) -> None:
    """Make copies of a tiny clip with times of modification of their own, so that the program has to look at each."""
    few, rest = inputs.tiny / "few", inputs.tiny / "rest"
    for folder in (few, rest):
        folder.mkdir(parents=True, exist_ok=True)
    first = few / "0000.mp4"
    if not first.exists():
        whole(first, partial(write_clip, width=128, height=96, frames=16))
    for number in range(1, count):
        path = (few if number < FEW_TINY else rest) / f"{number:04}.mp4"
        if not path.exists():
            whole(path, partial(shutil.copyfile, first))
        os.utime(path, (number, number))


def make_long(inputs: Inputs, count: int) -> None:
    """Make the `count` shortest of the long videos."""
    make_videos(inputs, count)


FOLDERS = {"clips": make_clips, "tiny": make_tiny, "long": make_long}


if __name__ == "__main__":
    FOLDERS[sys.argv[2]](Inputs(Path(sys.argv[1])), int(sys.argv[3]))
