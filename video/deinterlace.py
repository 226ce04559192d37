"""Deinterlacing: a frame of two fields, taken at two moments, becomes a picture of one moment."""

import numpy as np
from numpy.typing import NDArray


def deinterlaced(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an interlaced frame, (H, W, 3) uint8, as a new array that shows the moment of its even lines.

    Each value of an odd line is clipped to the range of the two values above and below it. Little is outside that range
    but what moved between the fields, so films in interlaced files stay sharp.
    """
    picture = rgb.copy()
    above = rgb[:-1:2]
    below = rgb[2::2]
    own = picture[1::2]
    below = np.concatenate([below, above[len(below) :]])  # the last line has none below
    np.clip(own, np.minimum(above, below), np.maximum(above, below), out=own)
    return picture
