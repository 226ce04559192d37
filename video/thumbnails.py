"""Small copies of the frames that were looked at: with them, the predictions for a thousand videos fit into memory."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from action_clip.video.reader import VideoReader, read_clip
from action_clip.video.sampling import Keyframes, uniform_indices

MOST_BYTES = 1 << 22
"""Most bytes of all frames of one video: more pixels than a sheet shows of them."""
LONGEST_SIDE = 160
"""Pixels of the longer side of the only thumbnail of a video among several."""


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
        place[:] = _reduced(frame, size)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(shrink, distinct, small))
    return small if len(small) == count else np.broadcast_to(small, (count, *small.shape[1:]))


def thumbnail(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a copy of a frame, (H, W, 3) uint8 RGB, whose longer side has `LONGEST_SIDE` pixels at most."""
    height, width, _ = frame.shape
    scale = min(LONGEST_SIDE / max(height, width), 1.0)
    return _reduced(frame, (max(round(width * scale), 1), max(round(height * scale), 1)))


def keyframe_thumbnail(
    video: str | os.PathLike[str], *, threads: int | None = None, readers: set[VideoReader] | None = None
) -> NDArray[np.uint8]:
    """Return the thumbnail of the keyframe that is nearest to the middle of a video, as little as possible of it read.

    Arguments and errors are those of `read_clip`.
    """
    middle = Keyframes(partial(uniform_indices, count=1))
    clip = read_clip(video, middle, threads=threads, readers=readers, shrink=thumbnail)
    frame: NDArray[np.uint8] = clip.frames[0]
    return frame


def _reduced(frame: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return a copy of a frame in the size (width, height)."""
    picture = Image.fromarray(np.ascontiguousarray(frame))
    # reducing_gap averages blocks of whole pixels first, which is quick and does most of the reduction.
    return np.array(picture.resize(size, Image.Resampling.HAMMING, reducing_gap=1.0))
