"""The answer on a terminal: bars and columns, whatever the labels and however wide."""

import re
from dataclasses import replace

import numpy as np
import pytest
import wcwidth

from action_clip.models.prediction import Prediction
from action_clip.output.terminal_writer import TerminalWriter, terminal_writer

LABELS = ("playing piano", "走路", "e\u0301te\u0301", "👨‍👩‍👧 waving", "an \x1b[2J escape", "run  fast")
PREDICTION = Prediction(
    labels=LABELS,
    similarities=np.zeros(6),
    probabilities=np.array([0.5, 0.25, 0.125, 0.0625, 0.0325, 0.03]),
    top_k=6,
    video_features=np.zeros(4, np.float32),
    frame_indices=(0, 2, 5),
    model="nano",
    video="clips/пример.mp4",
    duration_s=62.25,
    frame_times_s=(0.0, 0.5, 1.25),
    frames=np.zeros((3, 4, 6, 3), np.uint8),
    timings_s={"decode": 0.25},
)


def lines(
    prediction: Prediction = PREDICTION, columns: int = 80, unicode: bool = True, bold: bool = False
) -> list[str]:
    text = TerminalWriter(columns, unicode=unicode, bold=bold).text(prediction)
    assert text.endswith("\n")
    return text.splitlines()


def test_a_line_about_the_video_and_a_bar_a_label() -> None:
    assert lines(replace(PREDICTION, top_k=3)) == [
        "пример.mp4 · 1:02.2, 3 frames looked at · nano · top 3 of 6 labels",
        "playing piano   50.0%  ████████████████████",
        "走路            25.0%  ██████████",
        "e\u0301te\u0301             12.5%  █████",
    ]


def test_without_unicode_bars_are_ascii_and_labels_are_as_they_are() -> None:
    assert lines(replace(PREDICTION, top_k=2), unicode=False) == [
        "пример.mp4 - 1:02.2, 3 frames looked at - nano - top 2 of 6 labels",
        "playing piano   50.0%  ####################",
        "走路            25.0%  ##########",
    ]


def test_only_the_best_is_bold() -> None:
    plain = lines()
    assert lines(bold=True) == [plain[0], f"\x1b[1m{plain[1]}\x1b[0m", *plain[2:]]


@pytest.mark.parametrize("unicode", [True, False])
@pytest.mark.parametrize("columns", [13, 20, 27, 40, 80, 200, 1000])
def test_no_line_reaches_the_last_column_and_percentages_are_aligned(columns: int, unicode: bool) -> None:
    long = replace(PREDICTION, labels=(*LABELS[:5], "走路" * 200), video="a" * 300 + ".mp4")
    for prediction in (PREDICTION, long):
        shown = lines(prediction, columns, unicode)
        assert max(map(wcwidth.width, shown)) < columns
        rows = [line for line in shown if "%" in line]
        assert len(rows) == 6
        assert len({wcwidth.width(line[: line.index("%")]) for line in rows}) == 1


def test_long_labels_are_cut_between_characters() -> None:
    assert lines(replace(PREDICTION, labels=("walking slowly along the river", *LABELS[1:]), top_k=2), 40)[2:] == [
        "walking slowly alo…   50.0%  █████",
        "走路                  25.0%  ██▌",
    ]
    assert lines(replace(PREDICTION, labels=("走" * 30, *LABELS[1:]), top_k=1), 40, unicode=False)[2] == (
        f"{'走' * 8}...   50.0%  #####"
    )


def test_where_there_is_no_room_for_bars_there_are_none() -> None:
    assert lines(replace(PREDICTION, top_k=2), 20)[-2:] == ["playing pi…   50.0%", "走路          25.0%"]


def test_the_heading_takes_as_many_lines_as_it_needs() -> None:
    assert lines(columns=40)[:2] == ["пример.mp4 · 1:02.2, 3 frames looked at", "nano · 6 labels"]
    assert lines(replace(PREDICTION, duration_s=None), columns=20)[:3] == [
        "пример.mp4",
        "3 frames looked at",
        "nano · 6 labels",
    ]


def test_names_do_not_steer_the_terminal() -> None:
    steering = replace(
        PREDICTION, labels=("a\x1b[2J\n\u202eb", "c\x9b"), probabilities=np.array([0.5, 0.5]), similarities=np.zeros(2)
    )
    shown = lines(replace(steering, video="clips/\x1b[2J\r.mp4", model="m\x07"), bold=True)
    assert re.findall(r"[^ -~█▌·]", "\n".join(shown).replace("\x1b[1m", "").replace("\x1b[0m", "")) == ["\n", "\n"]
    assert r"\x1b[2J\r.mp4" in shown[0]
    assert r"a\x1b[2J \u202eb" in shown[1]


@pytest.mark.parametrize(
    ("environment", "unicode"),
    [
        ({"LANG": "en_US.UTF-8"}, True),
        ({"LC_ALL": "de_DE.utf8@euro", "LANG": "C"}, True),
        ({"LC_CTYPE": "UTF-8"}, True),
        ({"LANG": "C"}, False),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, False),  # as Python sets it
        ({"LC_ALL": "C", "LANG": "en_US.UTF-8"}, False),
        ({"LANG": "ru_RU.KOI8-R"}, False),
        ({}, False),
    ],
)
def test_the_locale_says_whether_bars_are_ascii(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], unicode: bool
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert terminal_writer().unicode is unicode


@pytest.mark.parametrize(
    ("environment", "bold"),
    [
        ({"TERM": "xterm-256color"}, True),
        ({"TERM": "xterm-256color", "NO_COLOR": ""}, True),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
        ({}, False),
    ],
)
def test_bold_is_for_terminals_that_understand_it(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], bold: bool
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("TERM", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert terminal_writer().bold is bold


def test_the_width_is_the_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "57")
    assert terminal_writer().columns == 57
