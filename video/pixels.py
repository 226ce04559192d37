"""A decoded frame of any pixel format to upright RGB."""

from typing import cast

import av
import numpy as np
from av.sidedata.sidedata import SideData
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from errors import ActionClipError


def upright_rgb(frame: VideoFrame) -> NDArray[np.uint8]:
    """Return the frame as (H, W, 3) uint8 RGB, turned as its display matrix says.

    Matrix and range of the colours are those the stream declares (BT.601, limited, where it declares none).
    What is transparent shows white, the page that GIF and PNG are mostly seen on. The array may be a view of what
    the decoder made: copy, do not write. Raises ActionClipError for a pixel format that has no way to RGB.
    """
    has_alpha = frame.format.name == "pal8" or any(part.is_alpha for part in frame.format.components)
    try:
        pixels = frame.to_ndarray(format="rgba" if has_alpha else "rgb24", threads=1)
    except (av.FFmpegError, ValueError) as error:
        raise ActionClipError(
            f"pixels of the format {frame.format.name} cannot become RGB; convert the video to yuv420p first"
        ) from error
    rgb = np.asarray(pixels, np.uint8)
    if has_alpha:
        alpha = rgb[..., 3:].astype(np.uint16)
        rgb = ((rgb[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    return _turn(rgb, frame)


def _turn(rgb: NDArray[np.uint8], frame: VideoFrame) -> NDArray[np.uint8]:
    """Apply the frame's display matrix, as the nearest of the eight turns and mirrorings of a rectangle."""
    try:
        matrix = cast(SideData | None, frame.side_data.get("DISPLAYMATRIX"))
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
