"""Text in pictures, in any script: shaped by HarfBuzz, in the faces of typefaces.py, right to left where it is so."""

from __future__ import annotations

import logging
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from math import ceil

import numpy as np
import regex
import uharfbuzz as hb
from numpy.typing import NDArray

from action_clip.output.bidi import embedding_levels, visual_order
from action_clip.output.typefaces import REGULAR, SEMIBOLD, UNITS, face_of, font

__all__ = ["REGULAR", "SEMIBOLD", "Colour", "drawable", "fit", "note_undrawable", "put_text", "text_width"]

Colour = tuple[int, int, int]

_MOST_CLUSTERS = 500
"""More than fit into a line of any picture."""
_MOST_MARKS = 16
_ABOVE, _BELOW = 1.25, 0.6
"""What text may take above and below its baseline, in ems: piles of accents end there."""
_CLUSTER = regex.compile(r"\X")
_CONTROL = regex.compile(r"[\p{Cc}\p{Bidi_Control}--[\u200E\u200F\u061C]]", regex.VERSION1)
"""Control characters; of those of direction not the marks, which are characters of one direction without a glyph."""
_BLANK = regex.compile(r"[\p{Default_Ignorable_Code_Point}\p{Cc}\p{Cf}\p{Z}\s]*")


def drawable(text: str) -> tuple[str, bool]:
    """Return `text` on one line with "?" for each character that no face has, and whether there were any.

    Text of nothing that can be seen becomes the numbers of its characters.
    """
    if text and _BLANK.fullmatch(text):
        return " ".join(f"U+{ord(character):04X}" for character in text[:_MOST_MARKS]), False
    visible = _CONTROL.sub("", " ".join(text.split()))
    clusters = _CLUSTER.findall(unicodedata.normalize("NFC", visible))
    drawn = ["?" if face_of(cluster) is None else cluster for cluster in clusters]
    return "".join(drawn), drawn != clusters


def note_undrawable(what: str, texts: Iterable[str]) -> None:
    """Log a warning that `what` ("the sheet") shows "?" in these texts."""
    logging.getLogger("action_clip").warning(
        "%s shows ? for characters that no typeface of this program has, in: %s", what, ", ".join(texts)
    )


def text_width(text: str, size: int, weight: int = REGULAR) -> int:
    """Return the width in pixels of drawable `text` at font size `size` (pixels)."""
    return ceil(_line(text, weight).width * size / UNITS)


def fit(text: str, width: int, size: int, weight: int = REGULAR) -> str:
    """Return drawable `text`, cut and ended with an ellipsis where it is wider than `width` pixels."""
    clusters = _CLUSTER.findall(text)
    if len(clusters) <= _MOST_CLUSTERS and text_width(text, size, weight) <= width:
        return text

    def shortened(length: int) -> str:
        return "".join(clusters[:length]).rstrip() + "…"

    lengths = range(min(len(clusters), _MOST_CLUSTERS))
    longest = bisect_right(lengths, width, key=lambda n: text_width(shortened(n), size, weight)) - 1
    return shortened(max(0, longest))


def put_text(
    image: NDArray[np.uint8], text: str, at: tuple[int, int], size: int, colour: Colour, weight: int = REGULAR
) -> None:
    """Draw drawable `text` into the `image`, (H, W, 3), `at` = (left, baseline) in pixels; what is outside is cut off.

    `colour` has the order of the image's channels.
    """
    mask, left, top = _mask(text, size, weight)
    x, y = at[0] + left, at[1] + top
    first_row, first_column = max(0, -y), max(0, -x)
    mask = mask[first_row : max(0, image.shape[0] - y), first_column : max(0, image.shape[1] - x)]
    if not mask.size:
        return
    y, x = y + first_row, x + first_column
    part = image[y : y + mask.shape[0], x : x + mask.shape[1]]
    share = mask[..., None].astype(np.uint16)
    part[...] = (part * (255 - share) + np.array(colour, np.uint16) * share + 127) // 255


@dataclass(frozen=True)
class _Glyph:
    """A glyph of a face, and where it is drawn, in UNITS from the line's left end on the baseline."""

    face: str
    number: int
    x: int
    y: int


@dataclass(frozen=True)
class _Line:
    glyphs: tuple[_Glyph, ...]
    width: int


@lru_cache(maxsize=512)
def _line(text: str, weight: int) -> _Line:
    """Return the glyphs of drawable `text`, from left to right."""
    runs = [run for run in _runs(_CLUSTER.findall(text)[: _MOST_CLUSTERS + 1]) if run.text]
    glyphs = []
    x = 0
    for place in visual_order([run.level for run in runs]):
        run = runs[place]
        buffer = hb.Buffer()
        buffer.add_str(run.text)
        buffer.guess_segment_properties()
        buffer.flags = hb.BufferFlags.REMOVE_DEFAULT_IGNORABLES
        buffer.direction = "rtl" if run.level % 2 else "ltr"
        hb.shape(font(run.face, weight), buffer)
        for glyph, position in zip(buffer.glyph_infos, buffer.glyph_positions, strict=True):
            glyphs.append(_Glyph(run.face, glyph.codepoint, x + position.x_offset, position.y_offset))
            x += position.x_advance
    return _Line(tuple(glyphs), x)


@dataclass(frozen=True)
class _Run:
    """Consecutive characters in one face and one direction."""

    text: str
    face: str
    level: int


def _runs(clusters: Sequence[str]) -> Iterator[_Run]:
    levels = embedding_levels(clusters)
    faces = [face_of(cluster) or face_of("?") or "" for cluster in clusters]
    for (face, level), places in groupby(range(len(clusters)), key=lambda place: (faces[place], levels[place])):
        yield _Run("".join(clusters[place][:_MOST_MARKS] for place in places), face, level)


@lru_cache(maxsize=128)
def _mask(text: str, size: int, weight: int) -> tuple[NDArray[np.uint8], int, int]:
    """Return how much of each pixel the text covers, (h, w) from 0 to 255; its left and top from (left, baseline)."""
    raster = hb.RasterDraw()
    scale = size / UNITS
    for glyph in _line(text, weight).glyphs:
        raster.transform = (scale, 0.0, 0.0, scale, glyph.x * scale, glyph.y * scale)
        raster.draw_glyph(font(glyph.face, weight), glyph.number)
    image = raster.render()
    extents = image.extents
    if not extents.width or not extents.height:
        return np.zeros((0, 0), np.uint8), 0, 0
    rows = np.frombuffer(image.buffer, np.uint8).reshape(extents.height, extents.stride)
    mask = rows[::-1, : extents.width]  # HarfBuzz counts rows upwards
    top = -(extents.y_origin + extents.height)
    above = max(0, -top - ceil(_ABOVE * size))
    below = max(0, top + len(mask) - ceil(_BELOW * size))
    return mask[above : len(mask) - below], extents.x_origin, top + above
