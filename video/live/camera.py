"""A camera of this machine, by OpenCV."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from threading import Event
from time import monotonic
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from action_clip.errors import ActionClipError
from action_clip.video.live.feed import AS_THEY_COME, BrokenError, Due, LiveFrame

_CAMERAS = 100
"""OpenCV takes the hundreds of a number for the library that is to open the camera: 200 would be camera 0."""


class CameraFeed:
    """The frames of a camera, each as soon as it is there."""

    pace = AS_THEY_COME

    def __init__(self, camera: int | str) -> None:
        """Open a camera by its number or device. Raises ActionClipError where there is none, or it is in use."""
        self._stop = Event()
        with _quiet():
            self._capture = _capture(camera)
        if not self._capture.isOpened():
            self._capture.release()
            raise ActionClipError(
                f"the camera {camera} cannot be opened: check that it is there, that no other program uses it and that "
                "you may use it (on Linux, the group video), or give a number from 0, an address or a file"
            )

    def frames(self, due: Due) -> Iterator[LiveFrame]:
        """Yield the frames: as `Feed.frames`. A camera has no end."""
        try:
            while not self._stop.is_set():
                has_frame, picture = self._capture.read()
                if not has_frame:
                    raise BrokenError("the camera gives no picture")
                yield LiveFrame(partial(_rgb, picture), None, monotonic())
        finally:
            self._capture.release()

    def close(self) -> None:
        """Let `frames` end and release the camera."""
        self._stop.set()

    def join(self, timeout_s: float) -> None:
        """Return at once: it has no threads."""


def _capture(camera: int | str) -> cv2.VideoCapture:
    """Return OpenCV's capture; it is not open where the camera cannot be."""
    if isinstance(camera, str):  # else OpenCV would give its name to FFmpeg, which prints what fails
        return cv2.VideoCapture(camera, cv2.CAP_V4L2)
    return cv2.VideoCapture(camera) if 0 <= camera < _CAMERAS else cv2.VideoCapture()


def _rgb(bgr: Any) -> NDArray[np.uint8]:
    if bgr.ndim == 2:
        bgr = bgr[..., None]
    picture: NDArray[np.uint8] = np.repeat(bgr, 3, axis=2) if bgr.shape[2] == 1 else bgr[..., 2::-1]
    return np.ascontiguousarray(picture)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep OpenCV from printing its attempts to open a camera."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)
