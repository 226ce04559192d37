"""Frames that come one after the other: those of an iterable, of an open OpenCV capture, of an open PyAV container.

The number of frames is certain only once the last one has come, and the choice of frames depends on it. So they are
chosen for the number that is expected; where another number comes, the stream is read a second time.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from itertools import chain
from operator import length_hint
from typing import TYPE_CHECKING, Any

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from action_clip.errors import ActionClipError
from action_clip.video.images import RGBImage, to_rgb
from action_clip.video.pixels import pixel_aspect, upright_rgb

if TYPE_CHECKING:
    import cv2

_LOG = logging.getLogger("action_clip")

StreamedFrame = tuple[Callable[[], RGBImage], float | None]
"""A function that converts the frame, to be called before the next one is fetched, and its time in seconds."""


class FrameStream(ABC):
    """A stream of frames, from where it stands to its end."""

    name: str
    """The stream in messages, as the subject of a sentence."""
    expected: int | None
    """Estimate of the number of frames left; None where there is no estimate."""
    rate = 0.0
    """Average frames a second; 0 where it is not known."""
    remedy: str
    """Advice in messages on what to give instead."""
    empty_message: str
    """The message where no frame comes."""

    @abstractmethod
    def frames(self) -> Iterator[StreamedFrame]:
        """Iterate over the frames; a second call begins with the same frame as the first one.

        Raises ActionClipError for a second call where the stream cannot go back, and where decoding fails.
        """

    def restart_error(self) -> ActionClipError:
        """Return the error for another number of frames than expected, where the stream cannot be read again."""
        return ActionClipError(
            f"{self.name} says that there are {self.expected} frames, another number came, and it cannot be read "
            f"a second time: {self.remedy}"
        )


class IterableStream(FrameStream):
    """The images of an iterable; an iterator can be read once, other iterables several times."""

    name = "the iterable of images"
    remedy = "give a list"
    empty_message = "there are no frames: give at least one RGB image, and an iterator that was not read before"

    def __init__(self, images: Iterable[Any], channels: str) -> None:
        self._images = images
        self._channels = channels
        self._is_consumed = False
        self.expected = length_hint(images) or None

    def frames(self) -> Iterator[StreamedFrame]:
        iterator = iter(self._images)
        if iterator is self._images and self._is_consumed:
            raise self.restart_error()
        self._is_consumed = True
        for image in iterator:
            yield partial(to_rgb, image, self._channels), None


class CaptureStream(FrameStream):
    """The frames of a `cv2.VideoCapture`: BGR, and turned upright by OpenCV."""

    name = "the capture"
    remedy = "give the file's path, or the frames as a list"
    empty_message = "the capture has no frame left: go back, set(cv2.CAP_PROP_POS_FRAMES, 0), or open it again"

    def __init__(self, capture: cv2.VideoCapture) -> None:
        import cv2

        if not capture.isOpened():
            raise ActionClipError(
                "the capture is not open: check the file or the camera that it was made with, or give the file's path"
            )
        total = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        if total < 1:
            raise ActionClipError(
                "the capture does not say how many frames it has, as those of cameras and live streams do not: read "
                'as many as are meant, and give them as a list with channels="bgr"; of a file, give the path'
            )
        self._capture = capture
        self._first = capture.get(cv2.CAP_PROP_POS_FRAMES)
        self._has_begun = False
        self.expected = max(int(total - self._first), 0)
        self.rate = capture.get(cv2.CAP_PROP_FPS)

    def frames(self) -> Iterator[StreamedFrame]:
        import cv2

        if self._has_begun and not self._capture.set(cv2.CAP_PROP_POS_FRAMES, self._first):
            raise self.restart_error()
        self._has_begun = True
        while self._capture.grab():  # frames that are not chosen are not converted
            yield self._retrieve, self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000

    def _retrieve(self) -> RGBImage:
        return to_rgb(self._capture.retrieve()[1], "bgr")


class ContainerStream(FrameStream):
    """The frames of a container's video stream, converted as those of a file that is read by its path."""

    name = "the container"
    remedy = "give the file's path"
    empty_message = "the container has no video frame left: go back, seek(0), or open it again"

    def __init__(self, container: InputContainer) -> None:
        self._container = container
        self._stream = _video_stream(container)
        self.rate = float(self._stream.average_rate or 0)
        self._decoded = self._decode()
        self._first = next(self._decoded, None)
        self._has_begun = False
        self.expected = self._remaining()

    def frames(self) -> Iterator[StreamedFrame]:
        if self._first is None:
            return
        frames: Iterator[VideoFrame] = chain([self._first], self._decoded)
        if self._has_begun:
            frames = self._decode_again()
        aspect = pixel_aspect(self._stream)
        damaged = 0
        for frame in frames:
            damaged += frame.is_corrupt
            yield partial(upright_rgb, frame, aspect), self._time(frame)
        if damaged and not self._has_begun:
            _LOG.warning("%d frames of the container are damaged: read by the file's path, they are replaced", damaged)
        self._has_begun = True

    def _remaining(self) -> int | None:
        """Return how many frames are left, by the container's count or duration and the time of the first frame here.

        None where the container states neither, or no frame is left.
        """
        stream, rate = self._stream, self.rate
        duration_s = (self._container.duration or 0) / av.time_base
        total = stream.frames or round(duration_s * rate)
        if not total or self._first is None:
            return None
        begun = (self._first.pts or 0) - (stream.start_time or 0)
        return max(total - round(begun * (stream.time_base or 0) * rate), 1)

    def _time(self, frame: VideoFrame) -> float | None:
        time_base = self._stream.time_base  # the last frames, which come without a packet, have no time base
        return None if frame.pts is None or time_base is None else float(frame.pts * time_base)

    def _decode_again(self) -> Iterator[VideoFrame]:
        assert self._first is not None
        first = self._first.pts
        if first is None:
            raise self.restart_error()
        try:
            self._container.seek(first, stream=self._stream)
        except av.FFmpegError as error:
            raise self.restart_error() from error
        return (frame for frame in self._decode() if frame.pts is not None and frame.pts >= first)

    def _decode(self) -> Iterator[VideoFrame]:
        try:
            for packet in self._packets():
                yield from self._stream.decode(packet)
        except av.EOFError:  # the decoder has given its last frame before
            return
        except (av.FFmpegError, ValueError) as error:  # ValueError of PyAV 19, where the decoder cannot be opened
            raise ActionClipError(
                f"the video of the container cannot be decoded ({getattr(error, 'strerror', None) or error}): give "
                "the file's path, as what is damaged is passed over there"
            ) from error

    def _packets(self) -> Iterator[Packet[VideoStream] | None]:
        with suppress(IndexError):  # PyAV 18, at the end of a file in which streams begin in the middle
            for packet in self._container.demux(self._stream):
                if packet.size:
                    yield packet
        yield None  # makes the decoder give the rest


def _video_stream(container: InputContainer) -> VideoStream:
    try:
        container.size  # noqa: B018 a closed container is known only by this error
    except AssertionError as error:
        raise ActionClipError("the container is closed: open it again, av.open, or give the path") from error
    covers = Disposition.attached_pic | Disposition.timed_thumbnails
    streams = [stream for stream in container.streams.video if not stream.disposition & covers]
    streams = [stream for stream in streams if stream.codec_context is not None]
    if not streams:
        raise ActionClipError("the container has no video stream that PyAV can decode: give that of a video")
    best = container.streams.best("video")
    return next((stream for stream in streams if stream is best), streams[0])
