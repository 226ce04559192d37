"""The typefaces of text in pictures (output/fonts): which one has the glyphs of a grapheme cluster."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import regex
import uharfbuzz as hb

FOLDER = Path(__file__).with_name("fonts")
UNITS = 64_000
"""Units of an em in which glyphs are placed."""
REGULAR = 400
SEMIBOLD = 600

_SANS = "NotoSans-Regular.ttf"
_EMOJI = "NotoEmoji-Regular.ttf"
_LAST = ("DroidSansFallbackFull.ttf", _EMOJI, "NotoSansSymbols-Regular.ttf", "NotoSansSymbols2-Regular.ttf")
"""Chinese, Japanese and Korean; what other faces have too is better there."""
_BOLDER = 0.022
"""Of an em: by how much the strokes of a semibold face are wider."""

_SHOWN_AS_EMOJI = regex.compile(r"\p{Emoji_Presentation}|\p{Emoji_Modifier}|\uFE0F")
_WITHOUT_GLYPH = regex.compile(r"[\p{Default_Ignorable_Code_Point}\p{Cc}\p{Cf}]")


def face_of(cluster: str) -> str | None:
    """Return the file name of the face that has all characters of a grapheme cluster; None where none has."""
    characters = _WITHOUT_GLYPH.sub("", cluster)
    names = _names()
    if _SHOWN_AS_EMOJI.search(cluster):
        names = (_EMOJI, *names)
    return next((name for name in names if all(_has(name, character) for character in characters)), None)


@cache
def font(name: str, weight: int = REGULAR) -> hb.Font:
    """Return the face in a file of this name, with UNITS an em; its strokes are wider with SEMIBOLD."""
    made = hb.Font(_face(name))
    made.scale = (UNITS, UNITS)
    if weight > REGULAR:
        made.synthetic_bold = (_BOLDER, _BOLDER, False)
    return made


@cache
def _face(name: str) -> hb.Face:
    return hb.Face(hb.Blob.from_file_path(FOLDER / name))


@cache
def _names() -> tuple[str, ...]:
    """Return the file names of all faces, in the order in which they are asked."""
    others = sorted({path.name for path in FOLDER.glob("*.ttf")} - {_SANS, *_LAST})
    return (_SANS, *others, *_LAST)


@cache
def _has(name: str, character: str) -> bool:
    try:
        return font(name).get_nominal_glyph(ord(character)) is not None
    except ValueError:
        return False
