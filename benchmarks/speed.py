"""How fast the small things are: `python -m benchmarks.speed`.

Prints the processor time on one core of preprocessing eight 1080p frames, and the wall time of the whole command on the
sample with the embedded model and no label known, each as median and range of several runs.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from statistics import median
from time import perf_counter, process_time

import numpy as np

from action_clip import SAMPLES
from models.catalog import find
from video.preprocess import clip_tensor

RUNS = 9


def timed(clock: Callable[[], float], work: Callable[[], object]) -> str:
    """Median and range in milliseconds of RUNS runs after one to warm up."""
    work()
    seconds = []
    for _ in range(RUNS):
        began = clock()
        work()
        seconds.append(clock() - began)
    low, middle, high = (value * 1e3 for value in (min(seconds), median(seconds), max(seconds)))
    return f"{middle:.0f} ms (median of {RUNS}; {low:.0f} to {high:.0f})"


def main() -> None:
    """Print the figures."""
    spec = find("nano")
    assert spec is not None
    frames = np.random.default_rng(0).integers(0, 256, (8, 1080, 1920, 3), np.uint8)
    print("eight 1080p frames to a clip tensor, processor time:", end=" ")
    print(timed(process_time, lambda: clip_tensor(frames, spec.image_size, spec.mean, spec.std, spec.resize)))

    command = [sys.executable, str(SAMPLES.parent / "action_clip.py"), "--model", "nano"]

    def run() -> None:
        with tempfile.TemporaryDirectory() as home:
            environment = {**os.environ, "ACTION_CLIP_HOME": home}
            subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)

    print("the command on the sample, no label known, wall time:", end=" ")
    print(timed(perf_counter, run))


if __name__ == "__main__":
    main()
