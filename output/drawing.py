"""The sheet of `--save`: a picture of the frames that were looked at and of the top labels with bars."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from action_clip.errors import ActionClipError
from action_clip.output.bars import Bar, Palette, Place, draw_bar
from action_clip.output.captions import counted, duration, ranking, title
from action_clip.output.lettering import SEMIBOLD, drawable, fit, note_undrawable, put_text, text_width

if TYPE_CHECKING:
    from action_clip.models.prediction import Prediction, Ranked

# Full colour resolution in JPEG and lossless WebP (a quality above 100) keep small text crisp.
_FULL_COLOUR = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 94, *_FULL_COLOUR]
_ENCODINGS = {".png": [], ".jpg": _JPEG, ".jpeg": _JPEG, ".webp": [cv2.IMWRITE_WEBP_QUALITY, 101]}

# Lengths in pixels, colours in BGR. _INNER + _GAP divides evenly by almost every number of columns.
WIDTH = 1400
_MARGIN = 34
_INNER = WIDTH - 2 * _MARGIN
_GAP = 12
_CAPTION = 30
_MOST_COLUMNS = 8
_GRID_HEIGHT = 960
_PICTURE_HEIGHT = 620
_CELL_WIDTH_LEAST = 150
_ENLARGED_AT_MOST = 2.0
_BAR_ROW = 46
_BAR = 24
_MOST_BARS = 20
_PERCENT_COLUMN = 110

_PAPER = (255, 255, 255)
_INK = (40, 32, 26)
_GREY = (128, 114, 107)
_PALETTE = Palette(ink=_INK, track=(247, 243, 240), first=(222, 100, 36), others=(240, 188, 150))


def encoded_sheet(prediction: Prediction, extension: str) -> bytes:
    """Return the sheet of `prediction` as the bytes of a file with one of output.sheet.EXTENSIONS.

    Raises ActionClipError when OpenCV cannot encode it.
    """
    with _one_thread():
        # cv2.imwrite cannot open names outside the local code page on Windows; encoding in memory can.
        encoded, data = cv2.imencode(extension, draw_sheet(prediction), _ENCODINGS[extension])
    if not encoded:
        raise ActionClipError(f"OpenCV cannot encode the sheet as {extension}; use .png instead")
    return data.tobytes()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let OpenCV use one thread instead of its pool, which has one for each core: drawing takes milliseconds."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def draw_sheet(prediction: Prediction) -> NDArray[np.uint8]:
    """Return the sheet as a BGR picture, (height, WIDTH, 3) uint8.

    Labels with characters that no typeface has get their number, a note in the picture and a logged warning.
    """
    entries = prediction.ranked[:_MOST_BARS]
    heading = title(prediction.video)
    names, undrawable = _names(entries)
    if drawable(heading)[1]:
        undrawable.append(heading)
    grid = _Grid.of(*prediction.frames.shape[:3])
    bars_top = 130 + grid.height + 24
    height = bars_top + 40 + _BAR_ROW * len(entries) + (30 if undrawable else 0) + 22
    sheet = np.full((height, WIDTH, 3), _PAPER, np.uint8)

    _draw_heading(sheet, heading, prediction)
    _draw_frames(sheet, 130, grid, prediction)
    _draw_bars(sheet, bars_top, prediction, names)
    if undrawable:
        note = "? is a character that no typeface here has; [n] is the label's place in the list, from 0."
        put_text(sheet, note, (_MARGIN, height - 24), 17, _GREY)
        note_undrawable("the sheet", undrawable)
    return sheet


def _names(entries: Sequence[Ranked]) -> tuple[list[str], list[str]]:
    """Return the labels as they are drawn, and those labels that cannot be drawn completely."""
    names = []
    undrawable = []
    for entry in entries:
        name, damaged = drawable(entry.label)
        if damaged:
            undrawable.append(entry.label)
            name = f"[{entry.index}] {name}"
        names.append(name)
    return names, undrawable


def _draw_heading(sheet: NDArray[np.uint8], heading: str, prediction: Prediction) -> None:
    facts = [drawable(prediction.model)[0], counted(len(prediction.frames), "frame")]
    if prediction.duration_s is not None:
        facts.append(duration(prediction.duration_s))
    put_text(sheet, fit(drawable(heading)[0], _INNER, 34, SEMIBOLD), (_MARGIN, 66), 34, _INK, SEMIBOLD)
    put_text(sheet, fit("  ·  ".join(facts), _INNER, 21), (_MARGIN, 102), 21, _GREY)


@dataclass(frozen=True)
class _Grid:
    """The layout of the frames: `columns` cells in a row, in each a picture of (picture_height, picture_width)."""

    rows: int
    columns: int
    picture_width: int
    picture_height: int

    @property
    def cell_width(self) -> int:
        return max(self.picture_width, _CELL_WIDTH_LEAST)

    @property
    def row_height(self) -> int:
        return self.picture_height + _CAPTION + _GAP

    @property
    def height(self) -> int:
        return self.rows * self.row_height

    @classmethod
    def of(cls, count: int, height: int, width: int) -> _Grid:
        """Return the grid with the largest pictures for `count` frames of (height, width) and few empty cells."""

        def with_columns(columns: int) -> _Grid:
            cell = (_INNER - (columns - 1) * _GAP) / columns
            scale = min(cell / width, _PICTURE_HEIGHT / height, _ENLARGED_AT_MOST)
            return cls(-(-count // columns), columns, max(1, round(width * scale)), max(1, round(height * scale)))

        def score(grid: _Grid) -> float:
            share = count / (grid.rows * grid.columns)
            return grid.picture_width * grid.picture_height * share**6

        grids = [with_columns(columns) for columns in range(1, min(count, _MOST_COLUMNS) + 1)]
        return max((grid for grid in grids if grid.height <= _GRID_HEIGHT), key=score, default=grids[-1])


def _draw_frames(sheet: NDArray[np.uint8], top: int, grid: _Grid, prediction: Prediction) -> None:
    is_reduced = grid.picture_width < prediction.frames.shape[2]
    pairs = zip(prediction.frames, prediction.frame_indices, strict=True)
    for position, (frame, index) in enumerate(pairs):
        row, column = divmod(position, grid.columns)
        left = _MARGIN + column * (grid.cell_width + _GAP)
        x = left + (grid.cell_width - grid.picture_width) // 2
        y = top + row * grid.row_height
        sheet[y : y + grid.picture_height, x : x + grid.picture_width] = cv2.resize(
            cv2.cvtColor(frame, cv2.COLOR_RGB2BGR),
            (grid.picture_width, grid.picture_height),
            interpolation=cv2.INTER_AREA if is_reduced else cv2.INTER_CUBIC,
        )
        baseline = y + grid.picture_height + 21
        number = f"frame {index}" if grid.cell_width >= 200 else f"#{index}"
        time = duration(prediction.frame_times_s[position]) if prediction.frame_times_s else ""
        put_text(sheet, time, (left, baseline), 17, _INK)
        right = left + grid.cell_width - text_width(number, 17)
        if left + text_width(time, 17) + _GAP <= right:
            put_text(sheet, number, (right, baseline), 17, _GREY)


def _draw_bars(sheet: NDArray[np.uint8], top: int, prediction: Prediction, names: Sequence[str]) -> None:
    put_text(sheet, ranking(len(names), len(prediction.labels)), (_MARGIN, top + 16), 19, _GREY)

    column = min(560, max(200, *(text_width(name, 23, SEMIBOLD) for name in names)))
    start = _MARGIN + column + 24
    end = WIDTH - _MARGIN - _PERCENT_COLUMN
    for position, (name, entry) in enumerate(zip(names, prediction.ranked, strict=False)):
        middle = top + 40 + position * _BAR_ROW + _BAR_ROW // 2
        track = slice(middle - _BAR // 2, middle + _BAR // 2), slice(start, end)
        bar = Bar(name, f"{entry.probability:.1%}", entry.probability, is_first=position == 0)
        bar = replace(bar, name=fit(name, column, 23, bar.weight))
        draw_bar(sheet, bar, Place(_MARGIN, WIDTH - _MARGIN, middle + 8, 23, track), _PALETTE)
