"""Small copies of the frames that were looked at: with them, the predictions for a thousand videos fit into memory."""

from concurrent.futures import ThreadPoolExecutor
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MOST_BYTES = 1 << 22
"""Most bytes of all frames of one video: more pixels than a sheet shows of them."""


def thumbnails(frames: NDArray[np.uint8], threads: int = 1) -> NDArray[np.uint8]:
    """Return frames reduced to `MOST_BYTES` in all, at least one pixel each, with their ratio of width to height.

    Args:
        frames: (T, H, W, 3) uint8 RGB.
        threads: number of frames that are reduced at a time.

    Returns:
        (T, h, w, 3) uint8 RGB: `frames` itself where it is small enough. Where all frames are views of one, as those of
        a picture, so are these.
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
        # reducing_gap averages blocks of whole pixels first, which is quick and does most of the reduction.
        place[:] = np.asarray(picture.resize(size, Image.Resampling.HAMMING, reducing_gap=1.0))

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(shrink, distinct, small))
    return small if len(small) == count else np.broadcast_to(small, (count, *small.shape[1:]))
