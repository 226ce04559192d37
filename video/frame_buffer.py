"""The array that the frames of a clip are written into as they are decoded."""

from collections.abc import Callable, Sequence
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from action_clip.video.pixels import check_total

Picture = NDArray[np.uint8]
Shrink = Callable[[Picture], Picture]
"""A function from an RGB picture, (H, W, 3), to a smaller one that is kept in its place, or to the same one."""


def unchanged(picture: Picture) -> Picture:
    """Return the picture."""
    return picture


class FrameBuffer:
    """The array of the frames `indices`, which any thread puts in any order; all get the size of the first one.

    Where all indices are equal, as for a picture, the frame is stored once.
    """

    def __init__(self, indices: Sequence[int], shrink: Shrink = unchanged) -> None:
        self._shrink = shrink
        self._first = indices[0]
        self._positions: dict[int, list[int]] = {}
        for position, index in enumerate(indices):
            self._positions.setdefault(index, []).append(position)
        self._count = len(indices)
        self._stored = len(indices) if len(self._positions) > 1 else 1
        self._frames: Picture | None = None
        self._lock = Lock()
        self._other_sizes: dict[int, Picture] = {}

    def put(self, index: int, picture: Picture) -> None:
        """Put an RGB picture, (H, W, 3), shrunk, at each position of its index.

        Raises ActionClipError where the frames are too large together.
        """
        picture = self._shrink(picture)
        with self._lock:
            if self._frames is None:
                check_total(self._stored, *picture.shape[:2])
                self._frames = np.empty((self._stored, *picture.shape), np.uint8)
        if picture.shape == self._frames.shape[1:]:
            for position in self._positions[index][: self._stored]:
                self._frames[position] = picture
        else:
            check_total(len(self._other_sizes) + 1, *picture.shape[:2])
            self._other_sizes[index] = picture.copy()

    def frames(self) -> Picture:
        """Return (T, H, W, 3) once every frame was put; the buffer is empty afterwards.

        Where all indices are equal, the array is a read-only view of one frame. Raises ActionClipError where the frames
        are too large together.
        """
        frames, self._frames = self._frames, None
        assert frames is not None
        if self._other_sizes:
            frames = self._in_one_size(frames)
        return np.broadcast_to(frames, (self._count, *frames.shape[1:])) if self._stored < self._count else frames

    def _in_one_size(self, frames: Picture) -> Picture:
        pictures = {
            index: self._other_sizes.get(index, frames[positions[0]]) for index, positions in self._positions.items()
        }
        height, width, _ = pictures[self._first].shape
        check_total(self._count, height, width)
        result = np.empty((self._count, height, width, 3), np.uint8)
        for index, picture in pictures.items():
            fitted = picture if picture.shape == result.shape[1:] else resized(picture, height, width)
            for position in self._positions[index]:
                result[position] = fitted
        return result


def resized(picture: Picture, height: int, width: int) -> Picture:
    """Return an RGB picture, (H, W, 3) uint8, resized to (height, width, 3)."""
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))
