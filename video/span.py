"""A part of a video as a sequence of its frames."""

import os
from collections.abc import Iterator
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from action_clip.errors import ActionClipError
from action_clip.video.reader import VideoReader


class Span:
    """The frames of a video that are shown from `start_s` to `end_s`; only those that are asked for are decoded.

    `len(span)` and `span[index]` raise ActionClipError where the video cannot be read, or ends before.
    """

    def __init__(self, video: str | os.PathLike[str], start_s: float, end_s: float | None) -> None:
        """Choose the part, in seconds from the first frame; None: to the end. The video is opened when it is needed."""
        self._video = video
        self._start_s = start_s
        self._end_s = end_s

    def __len__(self) -> int:
        return len(self._range)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        image: NDArray[np.uint8] = self._reader.frames_at([self._range[index]]).frames[0]
        return image

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return (self[index] for index in range(len(self)))

    @cached_property
    def _reader(self) -> VideoReader:
        return VideoReader(self._video, threads=1)

    @cached_property
    def _range(self) -> range:
        return frames_of_span(self._reader, self._start_s, self._end_s)


def frames_of_span(reader: VideoReader, start_s: float, end_s: float | None) -> range:
    """Return the indices of the frames that are shown from `start_s` to `end_s`, in seconds; None: to the end.

    Raises ActionClipError where the video cannot be read, or ends before.
    """
    if start_s >= reader.duration_s:
        raise ActionClipError(f"it has {reader.duration_s:g} s, and no frames from {start_s:g} s on")
    first, last = reader.shown_at(np.array([start_s, min(end_s or np.inf, reader.duration_s)])).tolist()
    is_begun = end_s is not None and reader.times_s[last] >= end_s
    return range(first, max(last + (not is_begun), first + 1))
