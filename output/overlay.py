"""Ranked labels with bars over a picture of any size: an annotated video's frames, and the window of `--show`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from action_clip.output.lettering import REGULAR, SEMIBOLD, drawable, fit, put_text, text_width

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
_BAR = 0.16
_PADDING = 0.6
_MOST_HEIGHT = 0.6
"""Of the picture's height: what labels may take."""

_SHADE = 88
"""Of 255: how much of the picture shows through the panel."""
_INK = (255, 255, 255)
_TRACK = (96, 96, 96)
_FIRST = (64, 156, 255)
_OTHERS = (172, 200, 232)


@dataclass(frozen=True)
class _Row:
    """A label as it is drawn: its name and percentage, and the length of its bar in pixels."""

    name: str
    percent: str
    filled: int


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
        self._bar_height = max(2, round(self._size * _BAR))
        self._width = min(round(self._size * _WIDTH), width - 2 * self._margin)
        self._inner = max(1, self._width - 2 * self._padding)
        self.most_rows = max(1, (round(height * _MOST_HEIGHT) - self._padding) // self._row_height)
        self._entries: Sequence[Ranked] = ()
        self._rows: list[_Row] = []

    def draw(self, picture: NDArray[np.uint8], entries: Sequence[Ranked]) -> None:
        """Draw the first of the entries, as many as fit, into the picture, (H, W, 3) uint8 RGB, in place.

        Of a BGR picture give the view `picture[..., ::-1]`. Characters that no face has are drawn as "?".
        """
        if entries != self._entries:
            self._entries = entries
            self._rows = [self._row(position, entry) for position, entry in enumerate(entries[: self.most_rows])]
        if not self._rows:
            return
        height = self._row_height * len(self._rows) + self._padding
        panel = picture[self._margin : self._margin + height, self._margin : self._margin + self._width]
        panel[...] = (panel.astype(np.uint16) * _SHADE) >> 8
        for position, row in enumerate(self._rows):
            self._draw_row(panel, position, row)

    def _row(self, position: int, entry: Ranked) -> _Row:
        weight = _weight(position)
        percent = f"{entry.probability:.1%}"
        taken = text_width(percent, self._size, weight) + self._size
        if taken > self._inner / 2:
            percent, taken = "", 0
        name = fit(drawable(entry.label)[0], self._inner - taken, self._size, weight)
        return _Row(name, percent, round(self._inner * min(max(entry.probability, 0.0), 1.0)))

    def _draw_row(self, panel: NDArray[np.uint8], position: int, row: _Row) -> None:
        weight = _weight(position)
        left, right = self._padding, self._padding + self._inner
        baseline = self._row_height * position + round(self._size * _BASELINE)
        put_text(panel, row.name, (left, baseline), self._size, _INK, weight)
        percent_width = text_width(row.percent, self._size, weight)
        put_text(panel, row.percent, (right - percent_width, baseline), self._size, _INK, weight)
        bottom = self._row_height * (position + 1) + self._padding // 2
        bar = panel[bottom - self._bar_height : bottom]
        bar[:, left:right] = _TRACK
        bar[:, left : left + row.filled] = _OTHERS if position else _FIRST


def _weight(position: int) -> int:
    return REGULAR if position else SEMIBOLD
