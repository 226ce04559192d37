"""Animated WebP, by Pillow: PyAV reads it from 19 on, and Pillow shows the same frames with every version."""

import io
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from action_clip.errors import ActionClipError
from action_clip.video.clip import Timeline
from action_clip.video.given import read_all
from action_clip.video.pixels import check_size, check_total, on_white
from action_clip.video.source import Origin

_HEAD = 30
_ANIMATED = 2  # among the flags of the file's first chunk
_MOST_BYTES = 2**28
_LEAST_MS = 100
"""How long frames are shown that would be shown for no time, as browsers do."""


@dataclass
class Animation:
    """Frames that were decoded, from the first on."""

    starts_ms: list[int] = field(default_factory=list)
    end_ms: int = 0
    pictures: dict[int, NDArray[np.uint8]] = field(default_factory=dict)
    """(H, W, 3) RGB of those that were asked for."""

    def timeline(self) -> Timeline:
        """Return when they are shown."""
        return Timeline(tuple(start / 1000 for start in self.starts_ms), self.end_ms / 1000)


def is_animation(origin: Origin) -> bool:
    """Whether a file is an animated WebP; ActionClipError where it cannot be read."""
    head = _read(origin, _HEAD)
    return len(head) == _HEAD and head[:4] + head[8:16] == b"RIFFWEBPVP8X" and bool(head[20] & _ANIMATED)


def claimed_frames(origin: Origin) -> int:
    """Return how many frames an animation says that it has; ActionClipError where it is none, or too large."""
    with _image(origin) as image:
        return getattr(image, "n_frames", 1)


def decode_animation(origin: Origin, wanted: Collection[int]) -> Animation:
    """Decode the frames of an animation, up to one that is broken; keep the pictures of those `wanted`.

    Raises ActionClipError where there is none at all, or these pictures are too large.
    """
    found = Animation()
    for _ in _decode_images(found, origin, wanted):
        pass
    return found


def stream_animation(origin: Origin, wanted: Collection[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield number and picture of each frame wanted, in order; ActionClipError as `decode_animation`."""
    found = Animation()
    for _ in _decode_images(found, origin, wanted):
        yield from found.pictures.items()
        found.pictures.clear()


def _decode_images(found: Animation, origin: Origin, wanted: Collection[int]) -> Iterator[None]:
    """Add each frame to `found`, one after the other."""
    with _image(origin) as image:
        for number in range(getattr(image, "n_frames", 1)):
            origin.trouble.check()
            try:
                image.seek(number)
                image.load()
            except (EOFError, OSError, ValueError) as error:
                if number == 0:
                    raise _unreadable(origin, error) from error
                return
            found.starts_ms.append(found.end_ms)
            found.end_ms += image.info.get("duration") or _LEAST_MS
            if number in wanted:
                found.pictures[number] = on_white(np.asarray(ImageOps.exif_transpose(image).convert("RGBA")))
                check_total(len(found.pictures), image.height, image.width)
            yield


def _image(origin: Origin) -> Image.Image:
    data = _read(origin, _MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise ActionClipError(f"{origin.name} has more than {_MOST_BYTES >> 20} MiB; convert it to mp4 first")
    width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
    check_size(origin.name, width, height)
    try:
        return Image.open(io.BytesIO(data), formats=["WEBP"])
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _unreadable(origin, error) from error


def _read(origin: Origin, size: int) -> bytes:
    file = origin.open()
    try:
        file.seek(0, os.SEEK_SET)
        return read_all(file, size)
    finally:
        file.close()
        origin.check()


def _unreadable(origin: Origin, error: Exception) -> ActionClipError:
    return ActionClipError(f"{origin.name} cannot be read as an animation ({error}); give a whole webp or gif file")
