"""Decoding what the windows of a video look at, with a thread a core: `python -m benchmarks.grid VIDEO`."""

import json
import math
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import numpy as np

from action_clip.system.cores import usable_cores
from action_clip.video.reader import VideoReader

# Frames a second, and most frames of a stretch, as with --window 4 and eight frames a window.
RATE = 2
MOST = 24


def decode(reader: VideoReader, threads: int) -> int:
    """Decode the frames with so many threads, and return their number."""
    moments_s = (np.arange(math.ceil(reader.duration_s * RATE - 0.5)) + 0.5) / RATE
    stretches = reader.stretches(np.unique(reader.shown_at(moments_s)).tolist(), MOST)
    lock = Lock()

    def work() -> int:
        count = 0
        while True:
            with lock:
                stretch = next(stretches, None)
            if stretch is None:
                return count
            with stretch:
                count += sum(1 for _ in stretch.frames())

    with ThreadPoolExecutor(threads) as pool:
        return sum(done.result() for done in [pool.submit(work) for _ in range(threads)])


def main() -> None:
    """Decode the video's frames, and print how many there are."""
    with VideoReader(sys.argv[1], threads=1) as reader:
        print(json.dumps({"decoded": decode(reader, usable_cores())}))


if __name__ == "__main__":
    main()
