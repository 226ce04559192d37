"""Converting decoded frames of any pixel format to upright RGB, and limits on the number of pixels."""

import os
from fractions import Fraction
from typing import cast

import av
import numpy as np
from av.sidedata.sidedata import SideData, Type
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image

from action_clip.errors import ActionClipError
from action_clip.video.colour import is_hdr, to_sdr
from action_clip.video.deinterlace import deinterlaced

MOST_PIXELS = 2**26
"""Most pixels of a frame, unless ACTION_CLIP_MAX_PIXELS sets another limit: twice 8K UHD."""
_FRAMES = 16  # 32 of 8K UHD
"""Most frames of the largest size in a clip; of smaller ones, as many as have the same number of pixels."""
_ROWS = 64

SQUARE = Fraction(1)
_ALMOST_SQUARE = Fraction(1, 100)
"""Differences from 1 up to this come from rounded sides, and are ignored."""
_WIDEST = 4
"""Largest ratio of a pixel's sides that is believed: no camera or disc has a larger one."""
_MISREAD = ("image2", "jpeg_pipe", "png_pipe", "apng")
"""Formats of pictures whose dots per inch FFmpeg takes the wrong way round; other viewers ignore these."""
PYAV = int(av.__version__.partition(".")[0])
_UNKNOWN, _BT2020 = 2, 9
_MATRICES = {3: _UNKNOWN, 10: _BT2020, 255: _UNKNOWN}
"""Replacements, by numbers of H.273, for colour matrices that FFmpeg cannot convert: reserved, constant luminance."""

if "EXIF" not in Type.__members__:
    # PyAV up to 18 lists no side data at all where it does not know one kind, as the EXIF beside the display matrix of
    # a photograph. Here such a kind gets a name, as in PyAV 19.
    def _named(kind: type[Type], value: int) -> Type:
        member = object.__new__(kind)
        member._name_ = f"UNKNOWN_{value}"
        member._value_ = value  # type: ignore[assignment]
        return member

    Type._missing_ = classmethod(_named)  # type: ignore[assignment, method-assign]


def pixel_aspect(stream: VideoStream) -> Fraction:
    """Return the width of a stream's pixels over their height: 1 where it states none, or no plausible one."""
    is_misread = stream.container.format.name in _MISREAD
    aspect = (not is_misread and stream.sample_aspect_ratio) or SQUARE
    is_sane = abs(aspect - 1) > _ALMOST_SQUARE and 1 <= max(aspect, 1 / aspect) <= _WIDEST
    return Fraction(aspect) if is_sane else SQUARE


def most_pixels() -> int:
    """Return how many pixels a frame may have, which bounds memory whatever a file claims.

    Measured at 2**26 pixels: a picture (PNG, JPEG 2000, WebP, TIFF) takes up to 1 GB, eight frames (H.264, GIF, APNG)
    up to 4 GB, of which 1.6 GB are the clip; refusing a larger one takes below 0.3 GB. Raises ActionClipError where
    ACTION_CLIP_MAX_PIXELS is not such a number.
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
    """Raise ActionClipError where `frames` frames of this size have more pixels together than a clip may have."""
    if frames * width * height > _FRAMES * most_pixels():
        raise ActionClipError(
            f"{frames} frames of {width} × {height} are too many at once; look at fewer, make them smaller, or set "
            "ACTION_CLIP_MAX_PIXELS higher"
        )


def upright_rgb(frame: VideoFrame, aspect: Fraction = SQUARE) -> NDArray[np.uint8]:
    """Return the frame as players show it: (H, W, 3) uint8 RGB, turned as its display matrix says.

    Colours are converted with the matrix and range that the stream declares (BT.601, limited, where it declares none);
    HLG and PQ become BT.709. Transparent pixels are blended with white, as most viewers show GIF and PNG. Interlaced
    frames are deinterlaced, and pixels `aspect` times as wide as high are resized to square ones. The array may be a
    view of the decoder's memory: do not write to it, and copy it to keep it.

    Raises ActionClipError for a pixel format that cannot be converted to RGB, and for more than `most_pixels()`.
    """
    width = max(1, round(frame.width * aspect))
    check_size("the video", max(width, frame.width), frame.height)
    rgb = _rgb(frame)
    if rgb.shape[2] == 4:
        rgb = on_white(rgb)
    if frame.interlaced_frame and _is_yuv(frame):
        rgb = deinterlaced(rgb)
    if width != frame.width:
        rgb = np.asarray(Image.fromarray(rgb).resize((width, frame.height), Image.Resampling.BICUBIC))
    return _turn(rgb, frame)


def _is_yuv(frame: VideoFrame) -> bool:
    """Return whether a frame is YUV: an interlaced PNG, which is RGB, only stores its pixels in another order."""
    return not frame.format.is_rgb and len(frame.format.components) > 2


def _rgb(frame: VideoFrame) -> NDArray[np.uint8]:
    """Return (H, W, 3) uint8 RGB, or (H, W, 4) RGBA where the pixel format has alpha. Raises as `upright_rgb` does."""
    has_alpha = frame.format.name == "pal8" or any(part.is_alpha for part in frame.format.components)
    declared = frame.colorspace
    frame.colorspace = _MATRICES.get(declared, declared)
    try:
        if _ends_the_process(frame):
            raise ValueError(frame.format.name)
        if is_hdr(frame):
            deep = frame.to_ndarray(format="rgba64le" if has_alpha else "rgb48le", threads=1)
            return to_sdr(np.asarray(deep, np.uint16), frame)
        return np.asarray(frame.to_ndarray(format="rgba" if has_alpha else "rgb24", threads=1), np.uint8)
    except (av.FFmpegError, ValueError) as error:
        raise ActionClipError(
            f"pixels of the format {frame.format.name} with colours of kind {declared} cannot become RGB; convert the "
            "video to yuv420p in BT.709 first"
        ) from error


def _ends_the_process(frame: VideoFrame) -> bool:
    """Return whether an assertion in FFmpeg's scaler would end the process at this frame."""
    is_lone_row = frame.format.name.startswith("bayer_") and frame.height < 2
    return is_lone_row or (frame.format.name.startswith("yaf32") and PYAV < 19)


def on_white(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (H, W, 3) uint8 RGB for (H, W, 4) uint8 RGBA with straight alpha, blended with white."""
    rgb = np.empty((*rgba.shape[:2], 3), np.uint8)
    for top in range(0, len(rgba), _ROWS):  # a few rows at a time, as numbers of 16 bits take much memory
        rows = rgba[top : top + _ROWS]
        alpha = rows[..., 3:].astype(np.uint16)
        rgb[top : top + _ROWS] = (rows[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255
    return rgb


def clockwise_turn(frame: VideoFrame) -> int:
    """Return by how many degrees, 0 to 270, `upright_rgb` turns the frame clockwise, after any mirroring."""
    a, b, c, d = _display_matrix(frame)
    if abs(a) + abs(d) < abs(b) + abs(c):
        return 90 if c < 0 else 270
    return 180 if d < 0 else 0


def _turn(rgb: NDArray[np.uint8], frame: VideoFrame) -> NDArray[np.uint8]:
    """Apply the frame's display matrix, as the nearest of the eight turns and mirrorings of a rectangle."""
    a, b, c, d = _display_matrix(frame)
    if abs(a) + abs(d) < abs(b) + abs(c):
        rgb, a, d = rgb.swapaxes(0, 1), c, b
    return rgb[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def _display_matrix(frame: VideoFrame) -> tuple[int, int, int, int]:
    """Return a, b, c and d of x' = a x + c y and y' = b x + d y, by which a frame becomes upright."""
    # Read from a copy: PyAV 18 frees a frame whose side data was read only at the next garbage collection. A decoder
    # would reuse its memory at varying times, and parts that it cannot decode keep the old content of their memory.
    copy = frame.reformat(16, 16, "gray", interpolation="POINT", threads=1)
    matrix = cast(SideData | None, copy.side_data.get("DISPLAYMATRIX"))
    if matrix is None:
        return 1, 0, 0, 1
    a, b, _, c, d, *_ = np.frombuffer(bytes(matrix), np.int32).tolist()  # in the order a b u c d v x y w
    return a, b, c, d
