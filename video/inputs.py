"""Reading frames from all kinds of videos: a path, an array, images, an OpenCV capture or a PyAV container."""

import os
import sys
from collections.abc import Iterable, Mapping, Sequence, Set
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
from av.container import InputContainer, OutputContainer
from numpy.typing import NDArray
from PIL import Image

from action_clip.errors import ActionClipError
from action_clip.video import check_channels
from action_clip.video.frame_buffer import Shrink, unchanged
from action_clip.video.frame_streams import CaptureStream, ContainerStream, FrameStream, IterableStream
from action_clip.video.images import RGBImage, check_array, refuse_tensor, to_rgb
from action_clip.video.pixels import check_total
from action_clip.video.reader import Clip, VideoReader, read_clip
from action_clip.video.sampling import Sampler

if TYPE_CHECKING:
    import cv2

    VideoInput = str | os.PathLike[str] | NDArray[np.uint8] | Iterable[Any] | cv2.VideoCapture | InputContainer

MOST_BYTES = 2**31
"""Most bytes kept of an iterator of unknown length: 345 images of 1920 × 1080, 2330 of 640 × 480."""
_FORMS = "give a path, an address, an array (T, H, W, 3), a list of images, a cv2.VideoCapture or a PyAV container"


def read_frames(
    video: "VideoInput",
    sampler: Sampler,
    *,
    channels: str = "rgb",
    threads: int | None = None,
    readers: set[VideoReader] | None = None,
    shrink: Shrink = unchanged,
) -> Clip:
    """Return the frames at the indices that `sampler` gives for the number of frames in the video.

    Args:
        video: one of these:

            * a path or an http(s) URL, as for `read_clip`;
            * an array (T, H, W, 3) of uint8;
            * a sequence of images, or an iterable of them, such as a generator: NumPy arrays (H, W, 3) of uint8, PIL
              images, Towhee's frames or PyAV's. Of a sequence only the chosen images are looked at. Where an iterator
              does not tell how many it has left (`operator.length_hint`), all its images, up to `MOST_BYTES`, are kept
              until the last has come: any of them may be a chosen one;
            * an open `cv2.VideoCapture` or PyAV input container, read from its position to its end, and not closed.
              Its count of frames is an estimate: where another number comes, it is rewound and read a second time.
              A container gives the frames that its path gives; a capture's are converted by OpenCV, which leaves
              pixels that are not square as they are.
        sampler: returns the indices of the chosen frames for the number of frames in the video.
        channels: the order in arrays, "rgb" or "bgr". Other images state theirs; a capture is always BGR.
        threads: number of threads that decode a path or URL; None: one a core.
        readers: as for `read_clip`.
        shrink: what is kept of each frame, as for `VideoReader.clip`.

    Returns:
        The chosen frames. For captures and containers, indices, times and duration count from their position before;
        for arrays and images, the times are () and the duration is 0.0.

    Raises:
        ActionClipError: the video has another type or shape, its images differ in size, or they cannot be read.
    """
    check_channels(channels)
    if isinstance(video, str | os.PathLike):
        return read_clip(video, sampler, threads=threads, readers=readers, shrink=shrink)
    if isinstance(video, InputContainer):
        return _from_stream(ContainerStream(video), sampler, shrink)
    if _is_capture(video):
        return _from_stream(CaptureStream(video), sampler, shrink)
    _reject_other_types(video)
    images: Any = video
    if isinstance(images, np.ndarray) and images.ndim != 1:
        images = check_array(images, "the array", 4)
    if hasattr(images, "__len__") and hasattr(images, "__getitem__"):
        return _from_sequence(images, sampler, channels, shrink)
    return _from_stream(IterableStream(images, channels), sampler, shrink)


def _is_capture(video: object) -> TypeGuard["cv2.VideoCapture"]:
    """Return whether it is a `cv2.VideoCapture`, without importing OpenCV: who has one has imported it."""
    capture = getattr(sys.modules.get("cv2"), "VideoCapture", None)
    return capture is not None and isinstance(video, capture)


def _from_sequence(images: Sequence[Any], sampler: Sampler, channels: str, shrink: Shrink) -> Clip:
    total = len(images)
    if not total:
        raise ActionClipError("there are no frames: give at least one RGB image")
    indices = sampler(total)
    chosen = {index: shrink(to_rgb(images[index], channels)) for index in dict.fromkeys(indices)}
    return _clip(chosen, indices, total)


def _from_stream(stream: FrameStream, sampler: Sampler, shrink: Shrink) -> Clip:
    expected = stream.expected
    guess = None if expected is None else set(sampler(expected) if expected else ())
    images, times = _read_to_end(stream, guess, shrink)
    total = len(times)
    if not total:
        raise ActionClipError(stream.empty_message)
    indices = sampler(total)
    if not images.keys() >= set(indices):
        images, times_again = _read_to_end(stream, set(indices), shrink)
        if len(times_again) != total:
            raise stream.restart_error()
    starts_s, duration_s = _timeline(times, stream.rate)
    return _clip(images, indices, total, starts_s, duration_s)


def _read_to_end(
    stream: FrameStream, indices: set[int] | None, shrink: Shrink
) -> tuple[dict[int, RGBImage], list[float | None]]:
    """Return shrunk copies of the frames at `indices`, or of all for None, by number, and the times of all in seconds.

    Raises ActionClipError where these frames are too large, or all are more than MOST_BYTES.
    """
    images: dict[int, RGBImage] = {}
    times: list[float | None] = []
    size = 0
    for number, (convert, time_s) in enumerate(stream.frames()):
        times.append(time_s)
        if indices is not None and number not in indices:
            continue
        images[number] = image = np.array(shrink(convert()))
        height, width, _ = image.shape
        size += image.nbytes
        if indices is not None:
            check_total(len(images), height, width)
        elif size > MOST_BYTES:
            raise ActionClipError(
                f"{stream.name} does not say how many frames are left, and {size / 2**30:.1f} GiB of them, "
                f"{number + 1} of {width} × {height}, have come: {stream.remedy}, or fewer frames"
            )
    return images, times


def _timeline(times: Sequence[float | None], rate: float) -> tuple[list[float], float]:
    """Return when each frame starts, in seconds from the first one, and when the last one ends.

    Where times are missing or do not increase, they are computed from `rate`; ([], 0.0) where that is 0.
    """
    known = [time for time in times if time is not None]
    if len(known) < len(times) or any(later <= time for time, later in pairwise(known)):
        known = [number / rate for number in range(len(times))] if rate else []
    starts_s = [time - known[0] for time in known]
    if len(starts_s) > 1:
        return starts_s, starts_s[-1] + starts_s[-1] / (len(starts_s) - 1)
    return starts_s, 1 / rate if rate else 0.0


def _clip(
    images: Mapping[int, RGBImage],
    indices: Sequence[int],
    total: int,
    starts_s: Sequence[float] = (),
    duration_s: float = 0.0,
) -> Clip:
    if len({image.shape for image in images.values()}) > 1:
        raise ActionClipError("the frames differ in size: give those of one video")
    times_s = tuple(starts_s[index] for index in indices) if starts_s else ()
    return Clip(np.stack([images[index] for index in indices]), tuple(indices), times_s, total, duration_s)


def _reject_other_types(video: object) -> None:
    """Raise ActionClipError for what is neither an array nor an iterable of images, and say what to give instead."""
    refuse_tensor(video, "the video", "(T, H, W, 3)")
    kind = type(video).__name__
    if isinstance(video, int | np.integer):
        raise ActionClipError(
            f"the video is the number {video}: of a camera, read as many frames as are meant from "
            f'cv2.VideoCapture({video}), and give them as a list with channels="bgr"'
        )
    if isinstance(video, bytes | bytearray | memoryview):
        raise ActionClipError(f"the video is {kind}: give a path, or open them, av.open(io.BytesIO(data))")
    if hasattr(video, "read") and hasattr(video, "seek"):
        raise ActionClipError(f"the video is an open file ({kind}): give its path, or open it, av.open(file)")
    if isinstance(video, OutputContainer):
        raise ActionClipError("the container is being written: close it, and give the path of its file")
    if isinstance(video, Image.Image):
        raise ActionClipError("the video is a single PIL image: give it in a list, [image], or the path of its file")
    if isinstance(video, Mapping | Set):
        raise ActionClipError(f"the video is a {kind}, which has no first and last image: give a list of images")
    if not isinstance(video, Iterable) and not hasattr(video, "__getitem__"):
        raise ActionClipError(f"the video is {'None' if video is None else f'a {kind}'}: {_FORMS}")
