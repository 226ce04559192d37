"""Ranked labels with bars over a picture of any size: an annotated video's frames, and the window of `--show`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from action_clip.output.bars import Bar, Palette, Place, draw_bar
from action_clip.output.lettering import drawable, fit, text_width

if TYPE_CHECKING:
    from action_clip.models.prediction import Ranked

_LEAST_SIZE = 12
_SIZE = 1 / 25
"""Of a picture's shorter side: the font size."""
_WIDTH = 22.0
"""Of the font size: the panel's width."""
_ROW = 2.0
"""Of the font size: the height of a label with its bar."""
_BASELINE = 1.3
_BAR_HEIGHT = 0.16
_PADDING = 0.6
_MOST_HEIGHT = 0.6
"""Of the picture's height: what labels may take."""

_SHADE = 88
"""Of 255: how much of the picture shows through the panel."""
_PALETTE = Palette(ink=(255, 255, 255), track=(96, 96, 96), first=(64, 156, 255), others=(172, 200, 232))


class Overlay:
    """Draws labels with bars at the top left of pictures of one size, on a darkened panel.

    Attributes:
        most_rows: how many labels fit, at least 1.
    """

    def __init__(self, width: int, height: int) -> None:
        """Lay the panel out for pictures of this size, in pixels."""
        self._size = max(_LEAST_SIZE, round(min(width, height) * _SIZE))
        self._margin = min(round(self._size * _PADDING), min(width, height) // 16)
        self._padding = round(self._size * _PADDING)
        self._row_height = round(self._size * _ROW)
        self._bar_height = max(2, round(self._size * _BAR_HEIGHT))
        self._width = min(round(self._size * _WIDTH), width - 2 * self._margin)
        self._inner = max(1, self._width - 2 * self._padding)
        self.most_rows = max(1, (round(height * _MOST_HEIGHT) - self._padding) // self._row_height)
        self._entries: Sequence[Ranked] = ()
        self._bars: list[Bar] = []

    def draw(self, picture: NDArray[np.uint8], entries: Sequence[Ranked]) -> None:
        """Draw the first of the entries, as many as fit, into the picture, (H, W, 3) uint8 RGB, in place.

        Of a BGR picture give the view `picture[..., ::-1]`. Characters that no face has are drawn as "?".
        """
        if entries != self._entries:
            self._entries = entries
            self._bars = [self._bar(entry, position == 0) for position, entry in enumerate(entries[: self.most_rows])]
        if not self._bars:
            return
        height = self._row_height * len(self._bars) + self._padding
        panel = picture[self._margin : self._margin + height, self._margin : self._margin + self._width]
        panel[...] = (panel.astype(np.uint16) * _SHADE) >> 8
        for position, bar in enumerate(self._bars):
            draw_bar(panel, bar, self._place(position), _PALETTE)

    def _bar(self, entry: Ranked, is_first: bool) -> Bar:
        """Return a label with its percentage, where there is room for both."""
        bar = Bar("", f"{entry.probability:.1%}", entry.probability, is_first)
        taken = text_width(bar.percent, self._size, bar.weight) + self._size
        if taken > self._inner / 2:
            bar, taken = replace(bar, percent=""), 0
        return replace(bar, name=fit(drawable(entry.label)[0], self._inner - taken, self._size, bar.weight))

    def _place(self, position: int) -> Place:
        left, right = self._padding, self._padding + self._inner
        baseline = self._row_height * position + round(self._size * _BASELINE)
        bottom = self._row_height * (position + 1) + self._padding // 2
        return Place(left, right, baseline, self._size, (slice(bottom - self._bar_height, bottom), slice(left, right)))
