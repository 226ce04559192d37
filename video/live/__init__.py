"""Live video: cameras, streams of network addresses, and files that are played at their own rate."""

import os
import re

from action_clip.system.addresses import is_live_address

_CAMERA = re.compile(r"\d{1,3}")
_DEVICE = re.compile(r"/dev/video\d+")


def camera_of(source: int | str | os.PathLike[str]) -> int | str | None:
    """Return the number of a camera, or its device on Linux; None where the source names something else.

    A file whose name is a number comes before the camera with this number.
    """
    if isinstance(source, int):
        return source
    name = os.fsdecode(source)
    if _DEVICE.fullmatch(name):
        return name
    return int(name) if _CAMERA.fullmatch(name) and name.isascii() and not os.path.lexists(name) else None


def is_live(name: str) -> bool:
    """Return whether a video of this name has no end: a camera, or an address of a live stream."""
    return is_live_address(name) or camera_of(name) is not None
