"""Text in pictures, in OpenCV's built-in TrueType font; characters that the font lacks become question marks."""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

REGULAR = 400
SEMIBOLD = 600

Colour = tuple[int, int, int]

# OpenCV measures text as laid out in a picture of this size, which is larger than any text.
_UNLIMITED = (1 << 24, 1 << 24)


@cache
def _face() -> cv2.FontFace:
    return cv2.FontFace("sans")


def _raster(character: str) -> NDArray[np.uint8]:
    image = np.zeros((64, 96), np.uint8)
    cv2.putText(image, character, (16, 44), (255,), _face(), 32, REGULAR)
    return image


@cache
def _can_draw(character: str) -> bool:
    if character.isascii():
        return True
    # Lone surrogates crash OpenCV 5.0, accents of their own land beside the letter, and right-to-left scripts
    # come out reversed.
    if unicodedata.category(character) in ("Cs", "Mn", "Me", "Mc"):
        return False
    if unicodedata.bidirectional(character) in ("R", "AL"):
        return False
    return not np.array_equal(_raster(character), _raster("?"))


def drawable(text: str) -> tuple[str, bool]:
    """Return `text` on one line with "?" for each character that the font cannot draw, and whether there were any.

    The font has Latin, Greek, Cyrillic, Chinese, Japanese and Korean letters, and no emoji.
    """
    one_line = unicodedata.normalize("NFC", " ".join(text.split()))
    visible = [char for char in one_line if unicodedata.category(char) not in ("Cc", "Cf")]
    drawn = "".join(char if _can_draw(char) else "?" for char in visible)
    return drawn, drawn != "".join(visible)


def text_width(text: str, size: int, weight: int = REGULAR) -> int:
    """Return the width in pixels of drawable `text` at font size `size` (pixels)."""
    return int(cv2.getTextSize(_UNLIMITED, text, (0, 0), _face(), size, weight)[2])


def fit(text: str, width: int, size: int, weight: int = REGULAR) -> str:
    """Return drawable `text`, cut and ended with an ellipsis where it is wider than `width` pixels."""
    if text_width(text, size, weight) <= width:
        return text

    def shortened(length: int) -> str:
        return text[:length].rstrip() + "…"

    longest = bisect_right(range(len(text)), width, key=lambda n: text_width(shortened(n), size, weight)) - 1
    return shortened(max(0, longest))


def put_text(
    image: NDArray[np.uint8], text: str, at: tuple[int, int], size: int, colour: Colour, weight: int = REGULAR
) -> None:
    """Draw drawable `text` into the BGR `image`, `at` = (left, baseline) in pixels."""
    pixels: Any = image
    cv2.putText(pixels, text, at, colour, _face(), size, weight)
