"""The one array that the frames of a clip are put into as they come."""

from collections.abc import Sequence
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from action_clip.video.pixels import check_total

Picture = NDArray[np.uint8]


class Canvas:
    """Room for the frames `indices`, which come in any order, in any thread; the first index gives the size of all.

    Where all indices are one, as in a picture, there is room for it once.
    """

    def __init__(self, indices: Sequence[int]) -> None:
        self._first = indices[0]
        self._places: dict[int, list[int]] = {}
        for place, index in enumerate(indices):
            self._places.setdefault(index, []).append(place)
        self._count = len(indices)
        self._room = len(indices) if len(self._places) > 1 else 1
        self._frames: Picture | None = None
        self._making = Lock()
        self._misfits: dict[int, Picture] = {}

    def put(self, index: int, picture: Picture) -> None:
        """Put an RGB picture, (H, W, 3), into the places of its index.

        Raises ActionClipError where the pictures are too many of this size.
        """
        with self._making:
            if self._frames is None:
                check_total(self._room, *picture.shape[:2])
                self._frames = np.empty((self._room, *picture.shape), np.uint8)
        if picture.shape == self._frames.shape[1:]:
            for place in self._places[index][: self._room]:
                self._frames[place] = picture
        else:
            check_total(len(self._misfits) + 1, *picture.shape[:2])
            self._misfits[index] = picture.copy()

    def frames(self) -> Picture:
        """Return (T, H, W, 3) once every frame is there; the canvas is empty afterwards.

        Where all are one frame, the array is a read-only view of it.
        """
        frames, self._frames = self._frames, None
        assert frames is not None
        if self._misfits:
            frames = self._in_one_size(frames)
        return np.broadcast_to(frames, (self._count, *frames.shape[1:])) if self._room < self._count else frames

    def _in_one_size(self, frames: Picture) -> Picture:
        pictures = {index: self._misfits.get(index, frames[places[0]]) for index, places in self._places.items()}
        height, width, _ = pictures[self._first].shape
        check_total(self._count, height, width)
        fitting = np.empty((self._count, height, width, 3), np.uint8)
        for index, picture in pictures.items():
            fitted = picture if picture.shape == fitting.shape[1:] else resized(picture, height, width)
            for place in self._places[index]:
                fitting[place] = fitted
        return fitting


def resized(picture: Picture, height: int, width: int) -> Picture:
    """Return an RGB picture of another size."""
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))
