"""Labels with bars over pictures: what is drawn is found again in the pixels."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from action_clip.models.prediction import Ranked
from action_clip.output.lettering import SEMIBOLD, put_text, text_width
from action_clip.output.overlay import Overlay

FIRST, OTHERS, TRACK = (64, 156, 255), (172, 200, 232), (96, 96, 96)


def ranked(**probabilities: float) -> list[Ranked]:
    return [Ranked(rank, rank - 1, *entry) for rank, entry in enumerate(probabilities.items(), start=1)]


def grey(width: int, height: int) -> NDArray[np.uint8]:
    return np.full((height, width, 3), 120, np.uint8)


def bars(picture: NDArray[np.uint8]) -> list[tuple[float, bool]]:
    """Which share of each bar is filled, from the top, and whether it has the first one's colour."""
    first, others, track = (exactly(picture, colour) for colour in (FIRST, OTHERS, TRACK))
    rows = (first | others | track).sum(axis=1)
    whole = rows.max()
    starts = np.flatnonzero((rows == whole) & (np.roll(rows, 1) < whole))
    return [(float(1 - track[start].sum() / whole), bool(first[start].any())) for start in starts]


def exactly(picture: NDArray[np.uint8], colour: tuple[int, int, int]) -> NDArray[np.bool_]:
    return np.asarray((picture == colour).all(axis=2))


@pytest.mark.parametrize(("width", "height"), [(320, 240), (1920, 1080), (3840, 2160), (1080, 1920), (64, 64)])
def test_bars_are_as_long_as_labels_are_probable(width: int, height: int) -> None:
    picture = grey(width, height)
    overlay = Overlay(width, height)
    overlay.draw(picture, ranked(running=0.6, walking=0.25))
    found = bars(picture)
    assert [is_first for _, is_first in found] == [True, False][: overlay.most_rows]
    assert [share for share, _ in found] == pytest.approx([0.6, 0.25][: overlay.most_rows], abs=0.02)


@pytest.mark.parametrize(("width", "height", "size"), [(320, 240, 12), (1920, 1080, 43), (3840, 2160, 86)])
def test_letters_grow_with_the_picture_and_stand_out(width: int, height: int, size: int) -> None:
    picture = grey(width, height)
    Overlay(width, height).draw(picture, ranked(**{"مشي 走路": 0.6}))
    card = np.full((2 * size, text_width("مشي 走路", size, SEMIBOLD) + size, 3), 120 * 88 >> 8, np.uint8)
    put_text(card, "مشي 走路", (size // 2, int(1.4 * size)), size, (255, 255, 255), SEMIBOLD)
    ink = np.argwhere((card > 200).all(axis=2))
    (top, left), (bottom, right) = ink.min(axis=0), ink.max(axis=0)
    card = card[top : bottom + 1, left : right + 1]
    _, likeness, _, _ = cv2.minMaxLoc(cv2.matchTemplate(picture, card, cv2.TM_CCOEFF_NORMED))
    assert likeness > 0.999


def test_the_picture_stays_as_it_was_beside_the_panel() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    before = picture.copy()
    Overlay(640, 480).draw(picture, ranked(running=0.6))
    changed = np.argwhere((picture != before).any(axis=2))
    (top, left), (bottom, right) = changed.min(axis=0), changed.max(axis=0)
    assert 0 < top < 20
    assert 0 < left < 20
    assert bottom < 80
    assert right < 440


def test_as_many_labels_as_fit_are_drawn() -> None:
    entries = ranked(**{f"label {i}": 0.01 for i in range(100)})
    overlay = Overlay(320, 240)
    assert 4 <= overlay.most_rows <= 6
    picture = grey(320, 240)
    overlay.draw(picture, entries)
    assert len(bars(picture)) == overlay.most_rows
    assert (picture[160:] == 120).all()


def test_other_labels_are_drawn_when_they_change_and_the_same_ones_the_same() -> None:
    overlay = Overlay(640, 480)
    pictures = []
    for entries in (ranked(running=0.6), ranked(running=0.6), ranked(walking=0.6), ranked(running=0.6)):
        pictures.append(grey(640, 480))
        overlay.draw(pictures[-1], entries)
    assert np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])
    assert np.array_equal(pictures[0], pictures[3])


def test_a_bgr_picture_is_drawn_through_a_view() -> None:
    rgb, bgr = grey(640, 480), grey(640, 480)
    Overlay(640, 480).draw(rgb, ranked(running=0.6))
    Overlay(640, 480).draw(bgr[..., ::-1], ranked(running=0.6))
    assert np.array_equal(rgb, bgr[..., ::-1])
    assert not np.array_equal(rgb, bgr)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (2, 1), (16, 16), (16, 1000), (1000, 16), (17, 31), (4096, 2)])
def test_tiny_pictures_are_drawn_too(width: int, height: int) -> None:
    picture = grey(width, height)
    Overlay(width, height).draw(picture, ranked(running=0.6, walking=0.4))
    assert picture.shape == (height, width, 3)
    if min(width, height) >= 16:
        assert (picture != 120).any()


@pytest.mark.parametrize(
    "label", ["a very long label " * 1000, "\u200b", "two\nlines", "\udcff", "𓀀", "", "[(<&%"], ids=ascii
)
def test_any_label_is_drawn_as_one_line(label: str) -> None:
    picture = grey(640, 480)
    Overlay(640, 480).draw(picture, [Ranked(1, 0, label, 1.5)])
    letters = np.asarray((picture[:40] > 220).all(axis=2))
    assert letters[:, :250].any() or not label
    assert letters[:, 300:].any(), "the percentage"
    assert (picture[80:] == 120).all()


def test_nothing_is_drawn_without_labels() -> None:
    picture = grey(640, 480)
    Overlay(640, 480).draw(picture, [])
    assert (picture == 120).all()
