"""RGB frames to the tensor that an image graph takes, as ActionCLIP's evaluation code makes it."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from hashlib import shake_128
from math import ceil, gcd

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from action_clip.errors import ActionClipError

_MAX_ASPECT = 1000  # resized to a short side of 256, such a picture has 256,000 pixels on the other
_CORNER = 16  # pixels: side of the noise in _vertical_first
_CUBIC_REACH = 2  # Pillow's bicubic kernel reaches two source pixels to each side, times the reduction


def clip_tensor(
    frames: NDArray[np.uint8],
    size: int,
    mean: Sequence[float],
    std: Sequence[float],
    resize: int = 256,
    threads: int = 1,
    crop: int | None = None,
) -> NDArray[np.float32]:
    """Return frames resized, cropped and normalised as ActionCLIP's evaluation code does it.

    Args:
        frames: (T, H, W, 3) uint8 RGB.
        size, resize, crop: as for `cropped`.
        mean, std: as for `normalised`.
        threads: number of frames that are resized at a time.

    Returns:
        (T, 3, size, size) float32.

    Raises:
        ActionClipError: as `cropped`.
    """
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or 0 in frames.shape:
        raise ActionClipError(
            f"frames are {frames.shape} of {frames.dtype}; give one or more as (T, H, W, 3) RGB of uint8"
        )
    with ThreadPoolExecutor(threads) as pool:  # Pillow resizes without holding the interpreter
        pixels = list(pool.map(partial(cropped, size=size, resize=resize, crop=crop), frames))
    return normalised(np.stack(pixels), mean, std)


def cropped(frame: NDArray[np.uint8], size: int, resize: int = 256, crop: int | None = None) -> NDArray[np.uint8]:
    """Return a frame resized and cropped as ActionCLIP's evaluation code does it.

    The short side is resized to `resize` pixels with Pillow's antialiased bicubic filter (the long side is truncated,
    as in torchvision), and the centre is cropped (its position is rounded, as in torchvision). Only the part of a frame
    that the crop depends on is resized.

    The first and the last of three crops are at the ends of the longer side of the resized frame (of a square one, of
    its width), and steps between them are whole pixels, rounded down, as in ActionCLIP's GroupFCSample: so the second
    one may be a pixel from the centre, and the last one a pixel from the end. Those take whole squares of the shorter
    side, which no graph takes; here crops are in its centre. Where frames are portrait, it would leave them; these are
    along the longer side, as in mmaction2's ThreeCrop.

    Args:
        frame: (H, W, 3) uint8 RGB.
        size: side of the crop, in pixels.
        resize: short side of the resized frame, in pixels.
        crop: which of three crops, 0, 1 or 2, from left to right or from top to bottom; None: the centre.

    Returns:
        (size, size, 3) uint8.

    Raises:
        ActionClipError: one side is more than 1,000 times as long as the other; the crop is larger than the resized
            frame, or none of these.
    """
    if not 1 <= size <= resize:
        raise ActionClipError(f"a crop of {size} pixels does not fit a short side of {resize}; take 1 to {resize}")
    if crop not in (None, 0, 1, 2):
        raise ActionClipError(f"the crop is {crop!r}: give 0, 1 or 2, or None for the centre")
    height, width, _ = frame.shape
    if max(height, width) > _MAX_ASPECT * min(height, width):
        raise ActionClipError(
            f"frames of {width} × {height} pixels are too narrow; cut them to 1 : {_MAX_ASPECT} at most"
        )
    resized = _resized_size(width, height, resize)
    left, top = _corner(resized, size, crop)
    columns, rows = _span(width, resized[0], left, size), _span(height, resized[1], top, size)
    passes = [(0, columns), (1, rows)]
    if _vertical_first((width, height), resized):
        passes.reverse()
    picture = Image.fromarray(np.ascontiguousarray(frame[rows.source, columns.source]))
    for axis, span in passes:
        picture = _resize_axis(picture, axis, span)
    return np.asarray(picture)


def normalised(pixels: NDArray[np.uint8], mean: Sequence[float], std: Sequence[float]) -> NDArray[np.float32]:
    """Return pixels as a graph takes them: (value / 255 - mean) / std.

    Args:
        pixels: (T, S, S, 3) uint8 RGB.
        mean: of red, green and blue, from 0 to 1.
        std: standard deviation of red, green and blue, in the same unit.

    Returns:
        (T, 3, S, S) float32.
    """
    # 256 values a channel, computed in float32 as the official code does: exact, and quicker than arithmetic.
    levels = np.arange(256, dtype=np.float32) / np.float32(255)
    table = (levels - np.asarray(mean, np.float32)[:, None]) / np.asarray(std, np.float32)[:, None]
    tensor = np.empty((len(pixels), 3, *pixels.shape[1:3]), np.float32)
    for frame, planes in zip(pixels, tensor, strict=True):
        for channel in range(3):
            np.take(table[channel], frame[..., channel], out=planes[channel])
    return tensor


def reduced(frame: NDArray[np.uint8], resize: int) -> NDArray[np.uint8]:
    """Return a frame, (H, W, 3) uint8 RGB, resized as `clip_tensor` does, whole; itself where that is no smaller.

    `clip_tensor` returns the same for both.
    """
    height, width, _ = frame.shape
    if min(height, width) <= resize:
        return frame
    picture = Image.fromarray(np.ascontiguousarray(frame))
    return np.asarray(picture.resize(_resized_size(width, height, resize), Image.Resampling.BICUBIC))


def _resized_size(width: int, height: int, resize: int) -> tuple[int, int]:
    """Return width and height after resizing the short side to `resize`."""
    short = min(height, width)
    return int(resize * width / short), int(resize * height / short)


def _corner(resized: tuple[int, int], size: int, crop: int | None) -> tuple[int, int]:
    """Return where a crop begins in a resized frame: left and top."""
    corner = [round((length - size) / 2) for length in resized]
    if crop is not None:
        longer = int(resized[1] > resized[0])
        corner[longer] = crop * ((resized[longer] - size) // 2)
    return corner[0], corner[1]


@dataclass(frozen=True)
class _Span:
    """How one axis of the crop is made: which part of the source is resized, and which part of the result it is."""

    source: slice
    """The source pixels that are read, with the margin."""
    box: tuple[int, int]
    """Start and end of the part that is resized, in pixels of `source`: without the margin."""
    resized: int
    """The length of that part after resizing, in pixels."""
    crop: tuple[int, int]
    """Start and end of the crop in the resized part."""


def _span(length: int, resized: int, start: int, size: int) -> _Span:
    """Return which of `length` source pixels the `size` pixels from `start` on depend on after resizing to `resized`.

    The part begins and ends where a source pixel and a resized one begin together: Pillow computes the same
    weights there as for the whole picture, and the same values. It has a margin as wide as the kernel
    reaches.
    """
    common = gcd(length, resized)
    source_step, resized_step = length // common, resized // common
    first, last = start // resized_step, -(-(start + size) // resized_step)
    margin = ceil(_CUBIC_REACH * max(length / resized, 1)) + 1 if length != resized else 0
    begin, end = max(first * source_step - margin, 0), min(last * source_step + margin, length)
    return _Span(
        source=slice(begin, end),
        box=(first * source_step - begin, last * source_step - begin),
        resized=(last - first) * resized_step,
        crop=(start - first * resized_step, start - first * resized_step + size),
    )


def _resize_axis(picture: Image.Image, axis: int, span: _Span) -> Image.Image:
    """Return the picture with one axis, 0 (x) or 1 (y), resized and cut to what the crop shows of it."""
    width, height = picture.size
    size = (span.resized, height) if axis == 0 else (width, span.resized)
    resized = picture.resize(size, Image.Resampling.BICUBIC, _part(picture, axis, span.box))
    return resized.crop(_part(resized, axis, span.crop))


def _part(picture: Image.Image, axis: int, ends: tuple[int, int]) -> tuple[int, int, int, int]:
    width, height = picture.size
    return (ends[0], 0, ends[1], height) if axis == 0 else (0, ends[0], width, ends[1])


@cache
def _vertical_first(size: tuple[int, int], resized: tuple[int, int]) -> bool:
    """Return whether the installed Pillow resizes a whole picture of this (width, height) vertically first.

    Pillow's versions decide this differently, by the sizes alone. So a picture with noise in a corner is resized:
    Pillow rounds to 8 bits between the two passes, and the result depends on their order.
    """
    width, height = min(size[0], _CORNER), min(size[1], _CORNER)
    picture = Image.new("L", size)
    # Of the same bytes every time, and without numpy.random, which is slow to import.
    picture.paste(Image.frombytes("L", (width, height), shake_128().digest(width * height)))
    horizontal = picture.resize((resized[0], size[1]), Image.Resampling.BICUBIC, (0, 0, width, size[1]))
    horizontal_first = horizontal.resize(resized, Image.Resampling.BICUBIC, (0, 0, resized[0], height))
    return picture.resize(resized, Image.Resampling.BICUBIC, (0, 0, width, height)) != horizontal_first
