"""Answers of live video as they are written, character by character."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest

from action_clip import LiveWindow, Prediction, Segment
from action_clip.output.live import LiveForm, change_form, segment_form, status, window_form

LABELS = ("eating", "走路, slowly", "=a\x1b[2J\nb")
ZONE = timezone(timedelta(hours=-3, minutes=-30))
BEGAN = datetime(2026, 3, 4, 23, 59, 55, 250_400, ZONE)


def answer(number: int, *probabilities: float) -> LiveWindow:
    """A window of 4 s that begins 2 s after the one before."""
    prediction = Prediction(
        labels=LABELS,
        probabilities=np.array(probabilities),
        similarities=np.zeros(3),
        top_k=2,
        video_features=np.zeros(4, np.float32),
        frame_indices=(0, 2),
        model="nano",
        video="rtsp://me:***@camera/1",
        duration_s=None,
        frame_times_s=(0.0, 0.5),
        frames=np.zeros((0, 0, 0, 3), np.uint8),
        timings_s={"score": 0.001},
    )
    start_s = 2.0 * number
    return LiveWindow(start_s, start_s + 4, prediction, BEGAN + timedelta(seconds=start_s + 4), 0.12345678)


ANSWERS = [answer(0, 0.5, 0.25, 0.25), answer(1, 0.25, 0.5, 0.25), answer(2, 0.1, 0.1, 0.8)]
SEGMENTS = [Segment(0.0, 3.0, LABELS[0], 0, 0.5), Segment(3.0, 8.0, LABELS[2], 2, 0.65)]


def written(form: LiveForm) -> str:
    return form.head + "".join(form.lines(iter(ANSWERS)))


def joined(answers: Iterable[LiveWindow]) -> Iterator[Segment]:
    assert list(answers) == ANSWERS
    return iter(SEGMENTS)


def test_json_has_a_line_for_each_answer() -> None:
    lines = written(window_form("json", for_spreadsheets=False)).splitlines()
    assert [json.loads(line) for line in lines] == [each.to_dict() for each in ANSWERS]
    first = json.loads(lines[0])
    assert first["time"] == "2026-03-04T23:59:59.250-03:30"
    assert (first["start_s"], first["end_s"], first["latency_s"]) == (0.0, 4.0, 0.123457)
    assert first["duration_s"] is None


def test_csv_has_the_time_first() -> None:
    rows = list(csv.reader(io.StringIO(written(window_form("csv", for_spreadsheets=True)))))
    assert rows[0] == ["time", "start_s", "end_s", "video", "rank", "index", "label", "probability"]
    assert rows[1] == [
        "2026-03-04T23:59:59.250-03:30",
        "0.0",
        "4.0",
        "rtsp://me:***@camera/1",
        "1",
        "0",
        "eating",
        "0.5",
    ]
    assert rows[5][5:] == ["2", "'=a\x1b[2J\nb", "0.8"]
    assert len(rows) == 7


@pytest.mark.parametrize("name", ["json", "csv"])
def test_a_line_is_written_as_soon_as_its_answer_is_there(name: str) -> None:
    lines = window_form(name, for_spreadsheets=False).lines(iter([ANSWERS[0]]))
    assert next(lines)


def changes(*happening: tuple[int, ...]) -> Callable[[Iterable[LiveWindow]], Iterator[Any]]:
    return lambda answers: zip(answers, happening, strict=True)


def test_text_has_a_line_where_the_answer_changes() -> None:
    assert written(change_form(changes((0,), (0,), (2,)))) == (
        "2026-03-04 23:59:59  eating  50.0%\n2026-03-05 00:00:03  =a\\x1b[2J b  80.0%\n"
    )


def test_several_labels_or_none_may_happen() -> None:
    assert written(change_form(changes((), (), (0, 2)))) == (
        "2026-03-04 23:59:59  -\n2026-03-05 00:00:03  eating  10.0%, =a\\x1b[2J b  80.0%\n"
    )


def test_segments_have_the_time_at_which_they_began() -> None:
    assert written(segment_form("text", joined, for_spreadsheets=False)) == (
        "2026-03-04 23:59:55  0:00:03.0  eating  50.0%\n2026-03-04 23:59:58  0:00:05.0  =a\\x1b[2J b  65.0%\n"
    )
    found = [json.loads(line) for line in written(segment_form("json", joined, for_spreadsheets=False)).splitlines()]
    assert found[1] == {
        "time": "2026-03-04T23:59:58.250-03:30",
        "video": "rtsp://me:***@camera/1",
        "model": "nano",
        **SEGMENTS[1].to_dict(),
    }
    rows = list(csv.reader(io.StringIO(written(segment_form("csv", joined, for_spreadsheets=True)))))
    assert rows[0] == ["time", "start_s", "end_s", "video", "index", "label", "probability"]
    assert rows[2][0] == "2026-03-04T23:59:58.250-03:30"
    assert rows[2][4:] == ["2", "'=a\x1b[2J\nb", "0.65"]


def test_without_answers_there_are_no_segments() -> None:
    form = segment_form("json", joined, for_spreadsheets=False)
    assert list(form.lines(iter([]))) == []


def test_the_status_fits_its_terminal() -> None:
    assert status(ANSWERS[0], 80) == "23:59:59   50.0%  eating"
    assert status(ANSWERS[2], 80) == "00:00:03   80.0%  =a\\x1b[2J b"
    assert status(ANSWERS[1], 21) == "00:00:01   50.0%  走"
    longer = replace(ANSWERS[0].prediction, labels=("x" * 200, *LABELS[1:]))
    assert len(status(replace(ANSWERS[0], prediction=longer), 80)) == 79
