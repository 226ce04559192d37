"""The sheet: what it shows is found again in its pixels."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from action_clip.errors import ActionClipError
from action_clip.models.prediction import Prediction
from action_clip.output.drawing import WIDTH, draw_sheet
from action_clip.output.lettering import SEMIBOLD, fit, put_text, text_width
from action_clip.output.sheet import check_path, save_sheet
from action_clip.video.thumbnails import thumbnails

INK = (40, 32, 26)
GREY = (128, 114, 107)
FIRST_BAR = (222, 100, 36)
OTHER_BARS = (240, 188, 150)

Image = NDArray[np.uint8]


def colours(count: int) -> Image:
    """Distinct RGB colours with R > G > B, which no text or bar of the sheet has. (count, 3)"""
    steps = np.arange(count, dtype=np.uint8)
    return np.stack([255 - steps // 8, 100 + steps % 8, steps // 8], axis=1).astype(np.uint8)


def prediction(
    labels: Sequence[str] = ("walking", "running", "eating"),
    probabilities: Sequence[float] | None = None,
    frames: tuple[int, int, int] = (2, 240, 320),
    top_k: int | None = None,
    video: str | None = "clips/walk.mp4",
    times: Sequence[float] | None = None,
) -> Prediction:
    """A prediction for solid frames, `frames` being their number, height and width."""
    scores = np.array(probabilities if probabilities else [2.0**-i for i in range(len(labels))])
    count = frames[0]
    return Prediction(
        labels=tuple(labels),
        probabilities=scores / scores.sum(),
        similarities=scores,
        top_k=top_k or len(labels),
        video_features=np.zeros(4, np.float32),
        frame_indices=tuple(range(3, 3 + 4 * count, 4)),
        model="nano",
        video=video,
        duration_s=None if video is None else 7.25,
        frame_times_s=tuple(i * 0.5 for i in range(count)) if times is None else tuple(times),
        frames=np.broadcast_to(colours(count)[:, None, None], (*frames, 3)).copy(),
        timings_s={},
    )


def where(sheet: Image, colour: Sequence[int]) -> tuple[int, int, int, int]:
    """left, top, right, bottom of the pixels of exactly this BGR colour."""
    exactly = np.array(colour, np.uint8)
    left, top, width, height = cv2.boundingRect(cv2.inRange(sheet, exactly, exactly))
    assert width, f"nothing has the colour {colour}"
    return left, top, left + width, top + height


def shows(sheet: Image, text: str, size: int, colour: tuple[int, int, int], weight: int = 400) -> bool:
    """Whether this text stands in the sheet, pixel for pixel."""
    card = np.full((2 * size, text_width(text, size, weight) + 2 * size, 3), 255, np.uint8)
    put_text(card, text, (size, size + size // 2), size, colour, weight)
    rows, columns = np.nonzero((card < 255).any(axis=2))
    card = card[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    _, _, (x, y), _ = cv2.minMaxLoc(cv2.matchTemplate(sheet, card, cv2.TM_SQDIFF))
    return np.array_equal(sheet[y : y + card.shape[0], x : x + card.shape[1]], card)


@pytest.mark.parametrize(
    ("count", "height", "width"),
    [
        (1, 90, 160),
        (1, 1080, 1920),
        (2, 640, 360),
        (7, 240, 320),
        (8, 240, 320),
        (8, 1280, 720),
        (16, 64, 64),
        (64, 270, 480),
        (64, 480, 270),
        (3, 20, 2000),
        (3, 2000, 20),
    ],
)
def test_every_frame_is_there_once_in_reading_order_with_its_shape(count: int, height: int, width: int) -> None:
    sheet = draw_sheet(prediction(frames=(count, height, width)))
    assert sheet.shape[1] == WIDTH
    assert sheet.dtype == np.uint8
    places = [where(sheet, colour[::-1]) for colour in colours(count)]
    for left, top, right, bottom in places:
        assert 0 <= left < right <= WIDTH
        scale = (right - left) / width
        assert (bottom - top) == pytest.approx(height * scale, abs=max(1.0, 0.5 * height / width))
        assert scale <= 2
    assert places == sorted(places, key=lambda place: (place[1], place[0]))
    assert len({(left, top) for left, top, _, _ in places}) == count
    assert len({(right - left, bottom - top) for left, top, right, bottom in places}) == 1


def test_eight_landscape_frames_fill_two_rows_of_four() -> None:
    sheet = draw_sheet(prediction(frames=(8, 270, 480)))
    places = [where(sheet, colour[::-1]) for colour in colours(8)]
    assert [len({place[i] for place in places}) for i in (0, 1)] == [4, 2]
    assert places[0][0] == WIDTH - places[3][2]


def test_it_names_the_video_the_model_the_times_and_the_frames() -> None:
    sheet = draw_sheet(prediction(frames=(3, 240, 320), times=(0.0, 59.5, 83.26)))
    assert shows(sheet, "walk.mp4", 34, INK, SEMIBOLD)
    assert shows(sheet, "nano  ·  3 frames  ·  7.25 s", 21, GREY)
    for text in ("0.00 s", "59.50 s", "1:23.3"):
        assert shows(sheet, text, 17, INK), text
    for text in ("frame 3", "frame 7", "frame 11"):
        assert shows(sheet, text, 17, GREY), text
    assert not shows(sheet, "frame 12", 17, GREY)


def test_hours_are_shown_as_hours() -> None:
    sheet = draw_sheet(prediction(frames=(1, 240, 320), times=(2 * 3600 + 3 * 60 + 4.5,)))
    assert shows(sheet, "2:03:04", 17, INK)


def test_narrow_frames_keep_short_numbers() -> None:
    sheet = draw_sheet(prediction(frames=(8, 640, 360)))
    assert shows(sheet, "#31", 17, GREY)


def test_where_time_and_number_do_not_both_fit_the_time_is_shown() -> None:
    answer = replace(prediction(frames=(1, 64, 36), times=(45296.0,)), frame_indices=(1_087_104_000,))
    sheet = draw_sheet(answer)
    assert shows(sheet, "12:34:56", 17, INK)
    assert not shows(sheet, "#1087104000", 17, GREY)


def test_a_url_is_shown_by_the_name_of_its_file() -> None:
    video = "https://user:secret@example.org/a/my%20clip.mp4?token=1"
    sheet = draw_sheet(prediction(video=video))
    assert shows(sheet, "my clip.mp4", 34, INK, SEMIBOLD)


def test_decoded_frames_have_numbers_only() -> None:
    sheet = draw_sheet(prediction(video=None, times=()))
    assert shows(sheet, "decoded frames", 34, INK, SEMIBOLD)
    assert shows(sheet, "nano  ·  2 frames", 21, GREY)
    assert shows(sheet, "frame 7", 17, GREY)
    assert not shows(sheet, "0.00 s", 17, INK)


def test_labels_and_probabilities_stand_beside_bars_of_that_length() -> None:
    answer = prediction(("eating", "走路", "пьёт воду"), (0.15, 0.6, 0.25), top_k=2)
    sheet = draw_sheet(answer)
    assert shows(sheet, "走路", 23, INK, SEMIBOLD)
    assert shows(sheet, "60.0%", 23, INK, SEMIBOLD)
    assert shows(sheet, "пьёт воду", 23, INK)
    assert shows(sheet, "25.0%", 23, INK)
    assert shows(sheet, "top 2 of 3 labels", 19, GREY)
    assert not shows(sheet, "eating", 23, INK)
    first, other = where(sheet, FIRST_BAR), where(sheet, OTHER_BARS)
    assert first[0] == other[0]
    assert first[3] < other[1]
    assert (first[2] - first[0]) / (other[2] - other[0]) == pytest.approx(0.6 / 0.25, rel=0.01)


def test_a_long_label_ends_in_an_ellipsis_before_its_bar() -> None:
    label = "a very long label " * 20
    sheet = draw_sheet(prediction((label, "short")))
    left, top, _, bottom = where(sheet, FIRST_BAR)
    assert (sheet[top:bottom, left - 12 : left] == 255).all()
    assert shows(sheet, fit(label, 560, 23, SEMIBOLD), 23, INK, SEMIBOLD)


def test_many_labels_do_not_make_an_endless_picture() -> None:
    labels = [f"label {i}" for i in range(400)]
    sheet = draw_sheet(prediction(labels, [1.0] * 400))
    assert shows(sheet, "top 20 of 400 labels", 19, GREY)
    assert shows(sheet, "label 19", 23, INK)
    assert sheet.shape[0] < 2000


def test_a_label_that_cannot_be_drawn_is_said_to_be_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "action_clip"):
        sheet = draw_sheet(prediction(("бег", "run 𓀀𓀁", "走路")))
    assert [record.getMessage() for record in caplog.records] == [
        "the sheet shows ? for characters that no typeface of this program has, in: run 𓀀𓀁"
    ]
    assert shows(sheet, "[1] run ??", 23, INK)
    assert shows(sheet, "? is a character that no typeface here has", 17, GREY)


def test_labels_that_can_be_drawn_are_drawn_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "action_clip"):
        sheet = draw_sheet(prediction(("бег", "why?", "走路", "चलना", "مشي", "🏃🏽‍♀️ running")))
    assert caplog.records == []
    assert shows(sheet, "مشي", 23, INK)
    assert not shows(sheet, "? is a character", 17, GREY)


def test_a_file_name_that_is_not_unicode_is_shown_as_far_as_it_goes() -> None:
    sheet = draw_sheet(prediction(video="bad\udcff.mp4"))
    assert shows(sheet, "bad?.mp4", 34, INK, SEMIBOLD)


@pytest.mark.parametrize("name", ["a.png", "走路 é.PNG", "a.jpg", "a.jpeg", "a.webp"])
def test_saving_in_the_format_of_the_name(name: str, tmp_path: Path) -> None:
    target = tmp_path / name
    target.write_bytes(b"old")
    answer = prediction()
    save_sheet(target, answer)
    data = target.read_bytes()
    magic = {".png": b"\x89PNG", ".jpg": b"\xff\xd8\xff", ".jpeg": b"\xff\xd8\xff", ".webp": b"RIFF"}
    assert data.startswith(magic[target.suffix.lower()])
    saved = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert saved is not None
    expected = draw_sheet(answer)
    assert saved.shape == expected.shape
    lossless = not data.startswith(b"\xff\xd8")
    difference = np.abs(saved.astype(int) - expected)
    assert difference.max() == 0 if lossless else difference.mean() < 0.5
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("name", ["sheet", "sheet.bmp", "sheet.gif", "-"])
def test_an_unknown_extension_names_the_known_ones(name: str, tmp_path: Path) -> None:
    with pytest.raises(ActionClipError, match=r"\.png, \.jpg, \.jpeg, \.webp"):
        save_sheet(tmp_path / name, prediction())
    assert list(tmp_path.iterdir()) == []


def test_a_path_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ActionClipError, match=r"there is no folder .*absent"):
        check_path(tmp_path / "absent" / "a.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ActionClipError, match="it is a folder"):
        check_path(tmp_path / "folder.png")


@pytest.mark.parametrize(
    ("count", "height", "width"), [(8, 1080, 1920), (8, 720, 720), (3, 1080, 1440), (2, 720, 1280)]
)
def test_thumbnails_look_as_the_frames_do(count: int, height: int, width: int) -> None:
    answer = prediction(frames=(count, height, width))
    blobs = np.random.default_rng(0).integers(0, 256, (count, 12, 20, 3), np.uint8)
    frames = np.stack([cv2.resize(blob, (width, height), interpolation=cv2.INTER_CUBIC) for blob in blobs])
    expected = draw_sheet(replace(answer, frames=frames.astype(np.uint8)))
    found = draw_sheet(replace(answer, frames=thumbnails(frames.astype(np.uint8))))
    assert found.shape == expected.shape
    difference = cv2.absdiff(found, expected)
    assert difference.max() < 40
    assert difference.mean() < 0.5


def test_drawing_leaves_opencvs_threads_as_they_were(tmp_path: Path) -> None:
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(3)
        expected = cv2.getNumThreads()
        save_sheet(tmp_path / "sheet.png", prediction())
        assert cv2.getNumThreads() == expected
    finally:
        cv2.setNumThreads(threads)
