"""Animated WebP, by Pillow: PyAV reads it from 19 on, and Pillow shows the same frames with every version."""

import io
import os
from collections.abc import Collection, Generator

import numpy as np
from PIL import Image, ImageOps

from action_clip.errors import ActionClipError
from action_clip.video.ffmpeg_file import read_all
from action_clip.video.pixels import check_size, check_total, on_white
from action_clip.video.sequential import DecodedFrames
from action_clip.video.source import VideoSource

_HEAD = 30
_ANIMATED = 2  # among the flags of the file's first chunk
_MOST_BYTES = 2**28
_LEAST_MS = 100
"""How long frames are shown that would be shown for no time, as browsers do."""


def is_animation(source: VideoSource) -> bool:
    """Whether a file is an animated WebP; ActionClipError where it cannot be read."""
    head = _read(source, _HEAD)
    return len(head) == _HEAD and head[:4] + head[8:16] == b"RIFFWEBPVP8X" and bool(head[20] & _ANIMATED)


def claimed_frames(source: VideoSource) -> int:
    """Return how many frames an animation says that it has; ActionClipError where it is none, or too large."""
    with _image(source) as image:
        return getattr(image, "n_frames", 1)


def decode_animation(
    source: VideoSource, result: DecodedFrames, requested: Collection[int]
) -> Generator[None, None, None]:
    """Add the frames of an animation, up to one that is broken, to `result`, one after the other; times are in ms.

    Raises ActionClipError where there is none at all, or the pictures requested are too large.
    """
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
                result.pictures[number] = on_white(np.asarray(ImageOps.exif_transpose(image).convert("RGBA")))
                check_total(len(result.pictures), image.height, image.width)
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
