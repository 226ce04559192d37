"""A decoded frame of any pixel format to upright RGB, and how many pixels may be."""

import os
from typing import cast

import av
import numpy as np
from av.sidedata.sidedata import SideData
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from errors import ActionClipError

MOST_PIXELS = 2**26
"""Of a frame, unless ACTION_CLIP_MAX_PIXELS says otherwise: twice 8K UHD."""
_FRAMES = 16  # 32 of 8K UHD
"""How many of the largest frames a clip may be as large as."""
_ROWS = 64


def most_pixels() -> int:
    """Return how many pixels a frame may have; ActionClipError where ACTION_CLIP_MAX_PIXELS is no such number.

    That bounds memory, whatever a file claims. Measured at 2**26: a picture (PNG, JPEG 2000, WebP, TIFF) takes up to
    1 GB, eight frames (H.264, GIF, APNG) up to 4 GB, of which 1.6 GB are the clip; what is larger, below 0.3 GB.
    """
    chosen = os.environ.get("ACTION_CLIP_MAX_PIXELS", "").strip()
    if not chosen:
        return MOST_PIXELS
    if not chosen.isdecimal() or len(chosen) > 10 or not 0 < int(chosen) < 2**31:
        raise ActionClipError(
            f"ACTION_CLIP_MAX_PIXELS is '{chosen}': make it a number of pixels, such as {MOST_PIXELS}"
        )
    return int(chosen)


def check_size(name: str, width: int, height: int) -> None:
    """Raise ActionClipError where frames of the video `name` have more pixels than they may."""
    if width * height > most_pixels():
        raise ActionClipError(
            f"{name} has frames of {width} × {height}, more than {most_pixels()} pixels; make them smaller, or set "
            "ACTION_CLIP_MAX_PIXELS higher"
        )


def check_total(frames: int, height: int, width: int) -> None:
    """Raise ActionClipError where so many frames of this size are more than a clip may have."""
    if frames * width * height > _FRAMES * most_pixels():
        raise ActionClipError(
            f"{frames} frames of {width} × {height} are too many at once; look at fewer, make them smaller, or set "
            "ACTION_CLIP_MAX_PIXELS higher"
        )


def upright_rgb(frame: VideoFrame) -> NDArray[np.uint8]:
    """Return the frame as (H, W, 3) uint8 RGB, turned as its display matrix says.

    Matrix and range of the colours are those the stream declares (BT.601, limited, where it declares none).
    What is transparent shows white, the page that GIF and PNG are mostly seen on. The array may be a view of what
    the decoder made: copy, do not write. Raises ActionClipError for a pixel format that has no way to RGB, and for
    more than `most_pixels()`.
    """
    check_size("the video", frame.width, frame.height)
    has_alpha = frame.format.name == "pal8" or any(part.is_alpha for part in frame.format.components)
    try:
        pixels = frame.to_ndarray(format="rgba" if has_alpha else "rgb24", threads=1)
    except (av.FFmpegError, ValueError) as error:
        raise ActionClipError(
            f"pixels of the format {frame.format.name} cannot become RGB; convert the video to yuv420p first"
        ) from error
    rgb = np.asarray(pixels, np.uint8)
    if has_alpha:
        rgb = _on_white(rgb)
    return _turn(rgb, frame)


def _on_white(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    rgb = np.empty((*rgba.shape[:2], 3), np.uint8)
    for top in range(0, len(rgba), _ROWS):  # a few rows at a time, as numbers of 16 bits take much memory
        rows = rgba[top : top + _ROWS]
        alpha = rows[..., 3:].astype(np.uint16)
        rgb[top : top + _ROWS] = (rows[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255
    return rgb


def _turn(rgb: NDArray[np.uint8], frame: VideoFrame) -> NDArray[np.uint8]:
    """Apply the frame's display matrix, as the nearest of the eight turns and mirrorings of a rectangle."""
    # Read of a copy: PyAV 18 frees a frame whose side data was read only when Python looks for garbage. Decoders would
    # get their memory back now sooner, now later, and they leave in what they cannot decode what was there before.
    copy = frame.reformat(16, 16, "gray", interpolation="POINT", threads=1)
    try:
        matrix = cast(SideData | None, copy.side_data.get("DISPLAYMATRIX"))
    except ValueError:
        # PyAV cannot list side data with a kind among it that it does not know; then there is only the angle.
        return np.rot90(rgb, round(frame.rotation / 90))
    if matrix is None:
        return rgb
    # x' = a x + c y and y' = b x + d y, in the order a b u c d v x y w
    a, b, _, c, d, *_ = np.frombuffer(bytes(matrix), np.int32).tolist()
    if abs(a) + abs(d) < abs(b) + abs(c):
        rgb, a, d = rgb.swapaxes(0, 1), c, b
    return rgb[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
