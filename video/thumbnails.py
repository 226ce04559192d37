"""Frames to remember a video by: small enough that the answers for a thousand videos fit into memory."""

from concurrent.futures import ThreadPoolExecutor
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MOST_BYTES = 1 << 22
"""Of the frames of one video together: more pixels than a sheet shows of them."""


def thumbnails(frames: NDArray[np.uint8], threads: int = 1) -> NDArray[np.uint8]:
    """Return (T, h, w, 3) uint8 from (T, H, W, 3): all of `MOST_BYTES` at most, or one pixel each; the same shape.

    Frames that are small enough are returned as they are; where all are one, as of a picture, they stay one in memory.
    `threads` frames are made smaller at a time.
    """
    scale = sqrt(MOST_BYTES / frames.nbytes)
    if scale >= 1:
        return frames
    count, height, width, _ = frames.shape
    size = (max(int(width * scale), 1), max(int(height * scale), 1))
    distinct = frames[:1] if frames.strides[0] == 0 else frames
    small = np.empty((len(distinct), size[1], size[0], 3), np.uint8)

    def shrink(frame: NDArray[np.uint8], place: NDArray[np.uint8]) -> None:
        picture = Image.fromarray(np.ascontiguousarray(frame))
        # With the gap, whole pixels are averaged first, which is quick, and most of the way.
        place[:] = np.asarray(picture.resize(size, Image.Resampling.HAMMING, reducing_gap=1.0))

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(shrink, distinct, small))
    return small if len(small) == count else np.broadcast_to(small, (count, *small.shape[1:]))
