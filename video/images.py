"""One image of any kind as (H, W, 3) uint8 RGB, and the checks of arrays, whose messages say how to correct them."""

import os
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray
from PIL import Image

from action_clip.errors import ActionClipError
from action_clip.system.addresses import display_name
from action_clip.video.pixels import on_white, upright_rgb

RGBImage = NDArray[np.uint8]


def to_rgb(image: Any, channels: str = "rgb") -> RGBImage:
    """Return the image as (H, W, 3) uint8 RGB; the array may be a view of it.

    Args:
        image: an array (H, W, 3) of uint8; a PIL image of any mode, turned as its EXIF says, on white where it is
            transparent; or a frame of PyAV, turned upright.
        channels: the order in arrays, "rgb" or "bgr"; Towhee's frames state theirs in `mode`.

    Raises:
        ActionClipError: it is something else, or cannot be converted.
    """
    if isinstance(image, Image.Image):
        return check_array(_of_pil(image), "a frame", 3)
    if isinstance(image, VideoFrame):
        return upright_rgb(image)
    if image is None:
        raise ActionClipError(
            "a frame is None, which cv2.imread and VideoCapture.read return where there is nothing to read: check the "
            "file's name, or leave the frame out"
        )
    if isinstance(image, str | os.PathLike):
        raise ActionClipError(
            f"the list has the path {display_name(os.fspath(image))}, not an image: classify one video at a time, a "
            "call for each path; where these are pictures, open them first, PIL.Image.open(path)"
        )
    refuse_tensor(image, "a frame", "(H, W, 3)")
    array = check_array(as_array(image), "a frame", 3)
    # NumPy's own arrays in files have a `mode`, too.
    mode = (not isinstance(image, np.memmap) and getattr(image, "mode", None)) or channels.upper()
    if mode not in ("RGB", "BGR"):
        raise ActionClipError(f"a frame is {mode}: give RGB images")
    return array[..., ::-1] if mode == "BGR" else array


def as_array(value: Any) -> NDArray[Any]:
    """Return `np.asarray(value)`. Raises ActionClipError where that fails, as for ragged lists."""
    try:
        return np.asarray(value)
    except Exception as error:  # whatever an array of another library, or a list of lists, raises
        raise ActionClipError(f"the frames cannot be read as an array ({error}): give numpy arrays") from error


def check_array(array: NDArray[Any], name: str, dimensions: int) -> RGBImage:
    """Return the array if it is uint8 RGB: (H, W, 3) for 3 `dimensions`, (T, H, W, 3) for 4.

    Raises ActionClipError otherwise; the message begins with `name` and says how to convert the array.
    """
    is_rgb = array.ndim == dimensions and array.shape[-1] == 3 and array.dtype == np.uint8
    if not is_rgb or 0 in array.shape[-3:]:
        layout = "(T, H, W, 3)" if dimensions == 4 else "(H, W, 3)"
        remedy = _remedy(array, dimensions)
        raise ActionClipError(f"{name} is {array.dtype} {array.shape}, not uint8 {layout}: {remedy}")
    return array


def refuse_tensor(value: object, name: str, layout: str) -> None:
    """Raise ActionClipError for a PyTorch tensor, which may be on another device and mostly has channels first."""
    if type(value).__module__.partition(".")[0] == "torch":
        raise ActionClipError(
            f"{name} is a PyTorch tensor: give a NumPy array, uint8 {layout}, as tensor.cpu().numpy() makes it, after "
            "tensor.movedim(-3, -1) where the channels come first"
        )


def _remedy(array: NDArray[Any], dimensions: int) -> str:
    """Return advice on how to convert the array to uint8 RGB with this many dimensions, for an error message."""
    shape = array.shape
    channel_axis = next((axis for axis in (array.ndim - 3, 0) if array.ndim > 2 and shape[axis] == 3), None)
    if 0 in shape or array.ndim < 2:
        return "give RGB images"
    if array.ndim > dimensions:
        return "it has more than one video; give one at a time"
    if shape[-1] != 3 and channel_axis is not None:
        return f"its channels come first; put them last, np.moveaxis(array, {channel_axis}, -1)"
    if array.ndim < dimensions and (shape[-1] != 3 or array.ndim == 2):
        return "it is grey; make three channels of it, np.stack([array] * 3, axis=-1)"
    if array.ndim < dimensions:
        return "it is a single image; give it in a list, [array]"
    if shape[-1] == 4:
        return "it has an alpha channel; leave it out, array[..., :3]"
    if shape[-1] == 1:
        return "it is grey; make three channels of it, np.repeat(array, 3, axis=-1)"
    if shape[-1] == 3 and np.issubdtype(array.dtype, np.floating):
        return "give whole numbers from 0 to 255; of values from 0 to 1, (255 * array).round().astype('uint8')"
    if shape[-1] == 3:
        return "give whole numbers from 0 to 255, array.astype('uint8')"
    return "give RGB images"


def _of_pil(image: Image.Image) -> RGBImage:
    from PIL import ImageOps

    try:
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I"):  # grey of 16 bits, also where Pillow keeps it in 32
            grey = np.clip(np.asarray(upright), 0, 65535) >> 8
            return np.stack([grey.astype(np.uint8)] * 3, axis=-1)
        if upright.mode == "F":
            raise ValueError("its values may have any range")
        if upright.has_transparency_data:
            return on_white(np.asarray(upright.convert("RGBA")))
        return np.asarray(upright.convert("RGB"))
    except Exception as error:  # whatever a damaged file, read only now, makes Pillow raise
        raise ActionClipError(
            f"a PIL image of the mode {image.mode} cannot become RGB ({error}): convert or repair it first"
        ) from error
