"""A label with its probability and a bar, as sheets, annotated videos and the window of `--show` have them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from action_clip.output.lettering import REGULAR, SEMIBOLD, Colour, put_text, text_width


@dataclass(frozen=True)
class Palette:
    """Colours, in the order of the picture's channels."""

    ink: Colour
    track: Colour
    first: Colour
    """Of the bar of the most probable label."""
    others: Colour


@dataclass(frozen=True)
class Place:
    """Where a label is drawn, in pixels: its texts from `left` to `right` on a baseline, and the track of its bar."""

    left: int
    right: int
    baseline: int
    size: int
    """Of the font."""
    bar: tuple[slice, slice]
    """Rows and columns."""


@dataclass(frozen=True)
class Bar:
    """A label as it is drawn: its name, as long as fits, its percentage, and the share of the track that is filled."""

    name: str
    percent: str
    share: float
    is_first: bool

    @property
    def weight(self) -> int:
        """The weight of the face: the most probable label stands out."""
        return SEMIBOLD if self.is_first else REGULAR


def draw_bar(picture: NDArray[np.uint8], bar: Bar, place: Place, palette: Palette) -> None:
    """Draw a label into the picture, (H, W, 3) uint8."""
    put_text(picture, bar.name, (place.left, place.baseline), place.size, palette.ink, bar.weight)
    right = place.right - text_width(bar.percent, place.size, bar.weight)
    put_text(picture, bar.percent, (right, place.baseline), place.size, palette.ink, bar.weight)
    track = picture[place.bar]
    track[...] = palette.track
    filled = round(track.shape[1] * min(max(bar.share, 0.0), 1.0))
    track[:, :filled] = palette.first if bar.is_first else palette.others
