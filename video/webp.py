"""Decoding animated WebP with Pillow: PyAV reads it from version 19 on only."""

import io
import os
from collections.abc import Collection, Generator

import numpy as np
from PIL import Image

from action_clip.errors import ActionClipError
from action_clip.video.ffmpeg_file import read_all
from action_clip.video.pixels import check_size, on_white
from action_clip.video.sequential import DecodedFrames
from action_clip.video.source import VideoSource

_HEAD = 30  # bytes, up to the end of the animation's size in pixels
_ANIMATED = 2  # among the flags of the file's first chunk
_MOST_BYTES = 2**28
_LEAST_MS = 100
"""Duration in ms of a frame whose own is 0, as in browsers."""


def is_animation(source: VideoSource) -> bool:
    """Return whether a file is an animated WebP. Raises ActionClipError where it cannot be read."""
    head = _read(source, _HEAD)
    return len(head) == _HEAD and head[:4] + head[8:16] == b"RIFFWEBPVP8X" and bool(head[20] & _ANIMATED)


def claimed_frames(source: VideoSource) -> int:
    """Return the number of frames that an animation states.

    Raises ActionClipError where it cannot be read as one, or is too large.
    """
    with _image(source) as image:
        return getattr(image, "n_frames", 1)


def repetitions(source: VideoSource) -> int:
    """Return how many times an animation is played, 0 for ever. Raises ActionClipError where it cannot be read."""
    with _image(source) as image:
        return int(image.info.get("loop", 0))


def decode_animation(
    source: VideoSource, result: DecodedFrames, requested: Collection[int]
) -> Generator[None, None, None]:
    """Decode an animation up to its first broken frame, and add one frame to `result` at each step.

    Args:
        source: the animation.
        result: receives the times, in ms from the first frame, and the pictures requested, (H, W, 3) uint8 RGB.
        requested: the numbers of the frames whose pictures are kept.

    Raises:
        ActionClipError: the first frame cannot be decoded, or the pictures requested are too large together.
        StoppedError: reading is to end.
    """
    from PIL import ImageOps

    with _image(source) as image:
        for number in range(getattr(image, "n_frames", 1)):
            source.status.check()
            try:
                image.seek(number)
                image.load()
            except (EOFError, OSError, ValueError) as error:
                if number == 0:
                    raise _unreadable(source, error) from error
                return
            result.times.append(result.end)
            result.end += image.info.get("duration") or _LEAST_MS
            if number in requested:
                result.keep(number, on_white(np.asarray(ImageOps.exif_transpose(image).convert("RGBA"))))
            yield


def _image(source: VideoSource) -> Image.Image:
    data = _read(source, _MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise ActionClipError(f"{source.name} has more than {_MOST_BYTES >> 20} MiB; convert it to mp4 first")
    width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
    check_size(source.name, width, height)
    try:
        return Image.open(io.BytesIO(data), formats=["WEBP"])
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _unreadable(source, error) from error


def _read(source: VideoSource, size: int) -> bytes:
    file = source.open()
    try:
        file.seek(0, os.SEEK_SET)
        return read_all(file, size)
    finally:
        file.close()
        source.check()


def _unreadable(source: VideoSource, error: Exception) -> ActionClipError:
    return ActionClipError(f"{source.name} cannot be read as an animation ({error}); give a whole webp or gif file")
