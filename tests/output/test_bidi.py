"""The order of a line's characters, by rules of UAX #9 that examples stand for."""

import pytest
import regex

from action_clip.output.bidi import embedding_levels, visual_order


def shown(text: str) -> str:
    clusters = regex.findall(r"\X", text)
    return "".join(clusters[place] for place in visual_order(embedding_levels(clusters)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("walking 12 (now)", "walking 12 (now)"),
        ("אבג", "גבא"),
        ("go אבג now", "go גבא now"),
        ("אבג go now דה", "הד go now גבא"),
        ("אבג 12-34", "12-34 גבא"),
        ("אבג 12.5%", "12.5% גבא"),
        ("مشي ١٢ 34", "34 ١٢ يشم"),
        ("abc (אבג) def", "abc (גבא) def"),
        ("אבג (abc) 5", "5 )abc( גבא"),  # brackets stand the other way: HarfBuzz mirrors those of odd levels
        ("אבג (abc)", ")abc( גבא"),
        ("a (b ג) d", "a (b ג) d"),
        ("abc אבג (x) דה", "abc גבא (x) הד"),
        ("אבג!", "!גבא"),
        ("go אבג!", "go גבא!"),
    ],
)
def test_characters_come_in_the_order_in_which_they_are_shown(text: str, expected: str) -> None:
    assert shown(text) == expected


def test_brackets_in_a_line_from_right_to_left_are_at_odd_levels() -> None:
    assert embedding_levels("א(b)") == [1, 1, 2, 1]
    assert embedding_levels("a(ב)") == [0, 0, 1, 0]


def test_accents_and_joined_emoji_are_not_torn_apart() -> None:
    family = "👩\u200d👩\u200d👧"
    assert shown(f"אב\u05b7 {family} x") == f"x {family} ב\u05b7א"


def test_a_mark_without_a_letter_has_a_place() -> None:
    assert shown("\u0301 אב") == "בא \u0301"
