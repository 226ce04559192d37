"""What a reader returns: some frames of a video, together or one after the other."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Clip:
    """Some frames of a video, in the order in which their indices were given."""

    frames: NDArray[np.uint8]
    """(T, H, W, 3) RGB."""
    indices: tuple[int, ...]
    """Their numbers in the video, from 0 in order of presentation. Where a neighbour replaces a broken frame, it is the
    neighbour's; in some clips of keyframes it is an estimate."""
    times_s: tuple[float, ...]
    """Their presentation times, seconds from the first frame."""
    total_frames: int
    duration_s: float


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of a video."""

    image: NDArray[np.uint8]
    """(H, W, 3) RGB."""
    index: int
    """Which frame of the video it is, from 0 in order of presentation."""
    time_s: float
    """Its presentation time, seconds from the first frame."""
