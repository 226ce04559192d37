"""Random Unicode strings for the tokenizer's tests, the same ones on every machine."""

import random
from collections.abc import Callable

COUNT = 20_000
SEED = 77

# Code points that Unicode 13 or an older version assigned, so that no version of Python, regex or ftfy sees
# them differently: blocks without gaps, or the part of a block before its first gap.
_RANGES: dict[str, list[tuple[int, int]]] = {
    "ascii": [(0x20, 0x7E)],
    "control": [(0x00, 0x1F), (0x7F, 0x9F)],
    "space": [
        *((0x09, 0x0D), (0x1C, 0x20), (0x85, 0x85), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A)),
        *((0x2028, 0x2029), (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000)),
    ],
    "invisible": [
        *((0xAD, 0xAD), (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x2064), (0x206A, 0x206F)),
        *((0xFE00, 0xFE0F), (0xFEFF, 0xFEFF), (0xFFF9, 0xFFFD), (0xE0020, 0xE007F)),
    ],
    "combining": [(0x0300, 0x036F), (0x20D0, 0x20F0)],
    "latin": [(0xA0, 0x024F), (0x0250, 0x02AF), (0x1E00, 0x1EFF)],
    "ligature": [(0xFB00, 0xFB06), (0x0132, 0x0133), (0x01C4, 0x01CC), (0x0149, 0x0149)],
    "greek": [(0x0391, 0x03A1), (0x03A3, 0x03FF), (0x1F00, 0x1F15)],
    "cyrillic": [(0x0400, 0x052F)],
    "armenian": [(0x0531, 0x0556), (0x0561, 0x0587)],
    "hebrew": [(0x05B0, 0x05C7), (0x05D0, 0x05EA)],
    "arabic": [(0x0620, 0x06FF), (0xFE80, 0xFEFC)],
    "devanagari": [(0x0904, 0x097F)],
    "thai": [(0x0E01, 0x0E3A), (0x0E3F, 0x0E5B)],
    "georgian": [(0x10A0, 0x10C5), (0x10D0, 0x10FF), (0x1C90, 0x1CBA)],
    "cherokee": [(0x13A0, 0x13F5), (0xAB70, 0xABBF)],
    "japanese": [(0x3041, 0x3096), (0x3099, 0x30FF), (0xFF66, 0xFF9D)],
    "han": [(0x4E00, 0x9FA5), (0x20000, 0x2A6D6), (0xF900, 0xFA2D)],
    "hangul": [(0xAC00, 0xD7A3), (0x1100, 0x11FF)],
    "fullwidth": [(0xFF01, 0xFF5E), (0xFFE0, 0xFFE6)],
    "number": [(0x2150, 0x2189), (0x2460, 0x249B), (0x0660, 0x0669), (0x0966, 0x096F), (0x2080, 0x2089)],
    "mathematics": [(0x1D400, 0x1D454), (0x1D7CE, 0x1D7FF), (0x2100, 0x214F), (0x2190, 0x22FF)],
    "punctuation": [(0x2010, 0x2027), (0x2030, 0x205E), (0x3001, 0x3020), (0x20A0, 0x20BF)],
    "symbol": [(0x2500, 0x26FF), (0x2701, 0x27BF)],
    "emoji": [
        *((0x1F300, 0x1F64F), (0x1F680, 0x1F6C5), (0x1F910, 0x1F93A), (0x1F1E6, 0x1F1FF)),
        *((0x200D, 0x200D), (0xFE0F, 0xFE0F), (0x1F3FB, 0x1F3FF)),
    ],
    "private": [(0xE000, 0xF8FF)],
    # Those that pair up, do so to an emoji.
    "surrogate": [(0xD83D, 0xD83D), (0xDE00, 0xDE04)],
}
_POOLS = {
    name: "".join(chr(point) for first, last in ranges for point in range(first, last + 1))
    for name, ranges in _RANGES.items()
}
_SCRIPTS = tuple(_POOLS.values())
_WORDS = (
    *("a", "video", "of", "driving", "car", "talking", "phone", "DRIVING", "Surfing", "10-pin", "3.14"),
    *("it's", "I'LL", "we've", "don't", "they're", "I'd", "I'm", "'S", "'\u017f", "'RE", "'Ve"),
    *("naïve", "Straße", "İstanbul", "ΣΊΣΥΦΟΣ", "\u01c5ungla", "\u212a", "\u212b", "\ufb01tness", "café"),
    *("cafe\u0301", "a\u0300\u0301\u0302", "…", "—", "_", "~", "{}", "\r\n", "\ufeff", "\x1b[31mred\x1b[0m"),
    *("<start_of_text>", "<END_OF_TEXT>", "<|endoftext|>", "<end_of_text", "<\u017ftart_of_text>", "</w>"),
    *("👩\u200d👩\u200d👧\u200d👦", "🏃🏽\u200d♀\ufe0f", "🇨🇭", "1\ufe0f\u20e3", "❤\ufe0f", "don’t"),
    *("“quoted”", "x2y", "antidisestablishmentarianism"),
)
_ENTITIES = (
    *("&amp;", "&lt;", "&gt;", "&quot;", "&apos;", "&nbsp;", "&eacute;", "&EACUTE;", "&hellip;", "&shy;"),
    *("&#39;", "&#9;", "&#0;", "&#150;", "&#128512;", "&#x1F600;", "&#xD800;", "&NotEqualTilde;", "&#x;"),
    *("&amp;amp;", "&amp;lt;b&amp;gt;", "&amp;amp;eacute;", "&ampamp;", "&not", "&notit;", "&copy"),
    *("&bogus;", "&", "&;", "&#;", "&lt;end_of_text&gt;"),
)
_WRONG_ENCODINGS = ("latin-1", "cp1252", "cp1251", "cp1250", "mac_roman", "cp437", "iso8859-2")


def random_texts() -> list[str]:
    """Return COUNT different strings of mixed scripts, words, entities, mojibake and control characters."""
    draw = random.Random(SEED).random
    texts: dict[str, None] = {}
    while len(texts) < COUNT:
        texts[_text(draw)] = None
    return list(texts)


# Only random() itself is promised to give the same numbers in every version of Python.
def _pick(draw: Callable[[], float], choices: tuple[str, ...] | str) -> str:
    return choices[int(draw() * len(choices))]


def _run(draw: Callable[[], float]) -> str:
    script = _pick(draw, _SCRIPTS)
    return "".join(_pick(draw, script) for _ in range(1 + int(draw() * 6)))


def _mojibake(draw: Callable[[], float]) -> str:
    text = _pick(draw, _WORDS) if draw() < 0.5 else _run(draw)
    for _ in range(1 + int(draw() * 1.3)):
        encoding = _pick(draw, _WRONG_ENCODINGS)
        text = "".join(_decoded(byte, encoding) for byte in text.encode("utf-8", "replace"))
    return text


def _decoded(byte: int, encoding: str) -> str:
    try:
        return bytes([byte]).decode(encoding)
    except UnicodeDecodeError:
        return chr(byte)


def _text(draw: Callable[[], float]) -> str:
    pieces = []
    for _ in range(1 + int(draw() * 6)):
        kind = draw()
        if kind < 0.45:
            pieces.append(_run(draw))
        elif kind < 0.70:
            pieces.append(_pick(draw, _WORDS))
        elif kind < 0.82:
            pieces.append(_mojibake(draw))
        elif kind < 0.94:
            pieces.append(_pick(draw, _ENTITIES))
        else:
            pieces.append(_pick(draw, _POOLS["space"]))
        if draw() < 0.5:
            pieces.append(" ")
    return "".join(pieces)
