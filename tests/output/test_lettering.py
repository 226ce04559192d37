"""Text in pictures: what is drawn is compared with the glyphs that HarfBuzz chooses."""

import unicodedata

import numpy as np
import pytest
import uharfbuzz as hb
from numpy.typing import NDArray

from action_clip.output.lettering import REGULAR, SEMIBOLD, _line, drawable, fit, put_text, text_width
from action_clip.output.typefaces import FOLDER, _names, face_of, font

ARABIC, HEBREW, EMOJI = "NotoSansArabic-Regular.ttf", "NotoSansHebrew-Regular.ttf", "NotoEmoji-Regular.ttf"


def drawn(text: str, size: int = 40, weight: int = REGULAR) -> NDArray[np.uint8]:
    """Black text in a white picture that has room for it."""
    picture = np.full((2 * size, text_width(text, size, weight) + 2 * size, 3), 255, np.uint8)
    put_text(picture, text, (size, size + size // 2), size, (0, 0, 0), weight)
    return picture


def glyphs(text: str) -> list[tuple[str, int]]:
    """Face and number of each glyph, from left to right."""
    return [(glyph.face, glyph.number) for glyph in _line(text, REGULAR).glyphs]


def shaped(text: str, face: str, direction: str) -> list[tuple[str, int]]:
    """The same of HarfBuzz alone."""
    buffer = hb.Buffer()
    buffer.add_str(text)
    buffer.guess_segment_properties()
    buffer.direction = direction
    hb.shape(font(face), buffer)
    return [(face, info.codepoint) for info in buffer.glyph_infos]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("naïve café", "naïve café"),
        ("cafe\u0301", "café"),
        ("x\u0301", "x\u0301"),
        ("бег по кругу", "бег по кругу"),
        ("走路 散歩する 걷기", "走路 散歩する 걷기"),
        ("Ελληνικά", "Ελληνικά"),
        ("चलना", "चलना"),
        ("مشي now", "مشي now"),
        ("🏃🏽\u200d♀\ufe0f running", "🏃🏽\u200d♀\ufe0f running"),
        ("two\nlines\tand  tab", "two lines and tab"),
        ("zero\u200bwidth\x00", "zero\u200bwidth"),
        ("turned \u202eround\u202c", "turned round"),
        ("why?", "why?"),
        ("\u200b", "U+200B"),
        (" \u200b\n", "U+0020 U+200B U+000A"),
        ("", ""),
    ],
)
def test_what_a_face_has_is_drawn(text: str, expected: str) -> None:
    assert drawable(text) == (expected, False)


@pytest.mark.parametrize(("text", "expected"), [("𓀀 running", "? running"), ("\udcff", "?"), ("\ue000x", "?x")])
def test_what_no_face_has_becomes_question_marks(text: str, expected: str) -> None:
    assert drawable(text) == (expected, True)


LETTERS = {
    "Latin": "aſßẞđỳ", "Greek": "αωΆ", "Cyrillic": "бѣҐ", "Armenian": "հֆ", "Georgian": "ქჶ", "Hebrew": "את",
    "Arabic": "بڤێ", "Syriac": "ܫ", "Thaana": "ދ", "Devanagari": "चऴ", "Bengali": "বৰ", "Gurmukhi": "ਪ",
    "Gujarati": "જ", "Oriya": "ଓ", "Tamil": "த", "Telugu": "త", "Kannada": "ಕ", "Malayalam": "മ", "Sinhala": "ස",
    "Thai": "ไ", "Lao": "ລ", "Tibetan": "བ", "Burmese": "မ", "Khmer": "ភ", "Ethiopic": "አ", "Cherokee": "Ꮳ",
    "Mongolian": "ᠮ", "Han": "走龘㐀", "Kana": "あヴ", "Hangul": "걷ㅎ", "Bopomofo": "ㄅ", "N’Ko": "ߒ",
    "Tifinagh": "ⵣ", "Symbols": "→✓½€₹“…—·♥",
}  # fmt: skip


@pytest.mark.parametrize("script", LETTERS)
def test_the_scripts_of_the_world_have_faces(script: str) -> None:
    for letter in LETTERS[script]:
        assert face_of(letter), unicodedata.name(letter)
        assert (drawn(letter) < 128).any(), unicodedata.name(letter)


@pytest.mark.slow
def test_all_hangul_and_common_chinese_characters_are_there() -> None:
    assert not [code for code in (*range(0xAC00, 0xD7A4), *range(0x4E00, 0x9FA6)) if not face_of(chr(code))]


def test_arabic_is_joined_and_runs_from_right_to_left() -> None:
    text = "مشي"
    assert glyphs(text) == shaped(text, ARABIC, "rtl")
    assert glyphs(text) != glyphs(text[::-1])
    alone = [shaped(letter, ARABIC, "rtl")[0] for letter in reversed(text)]
    assert not set(glyphs(text)) & set(alone), "letters are not joined"
    assert not np.array_equal(drawn(text), drawn(text[::-1]))


def test_arabic_within_other_text_stands_in_its_order() -> None:
    before, after = (shaped(text, _names()[0], "ltr") for text in ("go ", " up"))
    assert glyphs("go مشي up") == [*before, *shaped("مشي", ARABIC, "rtl"), *after]


def test_zero_width_non_joiners_part_letters_and_are_not_seen() -> None:
    assert glyphs("می\u200cخ") != glyphs("میخ")
    assert face_of("ی\u200c") == ARABIC


def test_brackets_around_hebrew_are_mirrored() -> None:
    sans = _names()[0]
    (opening,), (closing,) = shaped("(", sans, "ltr"), shaped(")", sans, "ltr")
    line = glyphs("רץ (מהר)")
    assert [glyph for glyph in line if glyph in (opening, closing)] == [opening, closing]
    assert line[0] == opening
    assert line[-2:] == shaped("רץ", HEBREW, "rtl")


def test_devanagari_is_reordered_and_forms_ligatures() -> None:
    assert len(glyphs("क्षत्रिय")) < len("क्षत्रिय")
    sign, letter = glyphs("हि")  # the vowel sign is written after the letter, and stands before it
    assert letter == shaped("ह", sign[0], "ltr")[0]


@pytest.mark.parametrize(
    "emoji", ["🏃🏽", "🏃🏽\u200d♀\ufe0f", "👩\u200d👩\u200d👧\u200d👦", "🇳🇴", "1\ufe0f\u20e3", "❤\ufe0f"], ids=ascii
)
def test_an_emoji_of_several_characters_is_one_picture(emoji: str) -> None:
    assert [face for face, _ in glyphs(emoji)] == [EMOJI]
    assert (drawn(emoji) < 128).sum() > 300


def test_signs_that_are_text_too_are_emoji_only_where_that_is_said() -> None:
    assert face_of("3") == _names()[0]
    assert face_of("✈\ufe0f") == EMOJI


def test_semibold_has_more_ink_and_the_same_letters() -> None:
    assert (drawn("走路 مشي walk", 40, SEMIBOLD) < 128).sum() > 1.1 * (drawn("走路 مشي walk") < 128).sum()
    assert 1 <= text_width("walk", 100, SEMIBOLD) / text_width("walk", 100) < 1.15


@pytest.mark.parametrize("width", [10, 60, 200])
@pytest.mark.parametrize(
    "text", ["juggling a soccer ball on a bicycle", "مشي سريع في الشارع الطويل", "👩\u200d👩\u200d👧" * 20]
)
def test_fit_takes_as_much_as_fits_and_cuts_no_character_apart(width: int, text: str) -> None:
    short = fit(text, width, 23)
    assert short.endswith("…")
    assert text.startswith(short[:-1])
    assert text_width(short, 23) <= width or short == "…"
    rest = text[len(short) - 1 :].lstrip()
    following = 5 if rest.startswith("👩") else 2
    assert text_width(text[: len(short) - 1 + following] + "…", 23) > width
    assert rest[0] not in "\u200d"
    assert fit(text, 2000, 23) == text


@pytest.mark.parametrize(
    "text", ["a" * 100_000, "\u0301" * 100_000, "a" + "\u0301" * 100_000, "🏃" * 10_000, "א(" * 10_000]
)
def test_text_without_end_is_cut_at_once(text: str) -> None:
    short = fit(drawable(text)[0], 300, 23)
    assert text_width(short, 23) <= 300


@pytest.mark.parametrize("at", [(-300, 10), (-20, 10), (5, -200), (5, 3), (5, 45), (90, 20), (500, 500)])
def test_what_is_outside_of_the_picture_is_cut_off(at: tuple[int, int]) -> None:
    margin = 600
    large = np.zeros((2 * margin + 40, 2 * margin + 100, 3), np.uint8)
    put_text(large, "running", (at[0] + margin, at[1] + margin), 30, (10, 200, 90))
    small = np.zeros((40, 100, 3), np.uint8)
    put_text(small, "running", at, 30, (10, 200, 90))
    assert np.array_equal(small, large[margin : margin + 40, margin : margin + 100])


def test_colours_are_blended_at_the_edges() -> None:
    picture = np.full((60, 200, 3), (0, 100, 200), np.uint8)
    put_text(picture, "run", (10, 45), 40, (200, 100, 0))
    assert (picture == (200, 100, 0)).all(axis=2).any()
    assert (picture == (0, 100, 200)).all(axis=2).any()
    assert (picture[..., 1] == 100).all()


def test_piles_of_accents_stay_in_their_line() -> None:
    picture = np.zeros((400, 400, 3), np.uint8)
    put_text(picture, "z" + "\u0301" * 200, (200, 200), 20, (255, 255, 255))
    rows = np.flatnonzero(picture.any(axis=(1, 2)))
    assert rows.min() >= 200 - 25
    assert rows.max() <= 200 + 12


def test_every_face_is_named_with_its_licence() -> None:
    readme = (FOLDER / "README.md").read_text("utf-8")
    for name in _names():
        pattern = "NotoSans…-Regular.ttf" if name.startswith("NotoSans") and name.endswith("-Regular.ttf") else name
        assert f"`{pattern}`" in readme, name
    assert "SIL OPEN FONT LICENSE" in (FOLDER / "OFL.txt").read_text("utf-8")
    assert "Apache License" in (FOLDER / "Apache-2.0.txt").read_text("utf-8")
