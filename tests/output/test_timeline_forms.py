"""Windows and segments as they are written, character by character; subtitles as players and parsers read them."""

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import srt
import webvtt
from av.subtitles.subtitle import AssSubtitle

from action_clip import ActionClipError, Failure, Prediction, Segment, Window
from action_clip.output.timelines import clock, timeline_form

LABELS = ("eating", "走路, slowly", "=driving", "a\x1b[2J\nb")
PREDICTION = Prediction(
    labels=LABELS,
    probabilities=np.array([0.125, 0.25, 0.5, 0.125]),
    similarities=np.zeros(4),
    top_k=2,
    video_features=np.zeros(4, np.float32),
    frame_indices=(0, 2),
    model="nano",
    video="clips/пример.mp4",
    duration_s=10.5,
    frame_times_s=(0.0, 0.5),
    frames=np.zeros((0, 0, 0, 3), np.uint8),
    timings_s={"score": 0.001},
)
WINDOWS = [Window(0.0, 0.1 + 0.2, PREDICTION), Window(0.1 + 0.2, 10.5, PREDICTION)]
SEGMENTS = [
    Segment(0.0, 2.3456, "eating", 0, 0.75),
    Segment(2.3456, 4000.25, LABELS[1], 1, 0.9876),
    Segment(4000.25, 36000.0, LABELS[2], 2, 1.0),
    Segment(36000.0, 36001.0, LABELS[3], 3, 0.5),
]
FAILURE = Failure("clips/пример.mp4", ActionClipError("it cannot be\nread"))
MARKUP = (
    "<i>a</i> & b",
    "&lt;i&gt; &amp;",
    "{\\an8}top {b} {y:i}c",
    "00:00:01,000 --> 00:00:02,000",
    "a\n\nb\r\n",
    "a\\Nb \\h c",
    "42",
    "走路 <font color=red>",
    "<v Bob>-->",
    "WEBVTT",
    "NOTE x",
    "\x00\x1b[2J\u2028\u202e",
)


def written(name: str, parts: Iterable[Any], *, is_one: bool = True, for_spreadsheets: bool = False) -> str:
    is_segments = isinstance(next(iter(parts), None), Segment)
    form = timeline_form(name, of_segments=is_segments, is_one=is_one, for_spreadsheets=for_spreadsheets)
    return form.head + "".join(form.texts(PREDICTION, parts))


def test_a_window_as_json_is_todays_object_with_its_times() -> None:
    lines = written("json", WINDOWS).splitlines()
    assert [json.loads(line) for line in lines] == [
        {"start_s": 0.0, "end_s": 0.3} | PREDICTION.to_dict(),
        {"start_s": 0.3, "end_s": 10.5} | PREDICTION.to_dict(),
    ]
    assert list(json.loads(lines[0]))[:3] == ["start_s", "end_s", "video"]


def test_windows_as_csv_have_their_times_first() -> None:
    assert written("csv", WINDOWS) == (
        "start_s,end_s,video,rank,index,label,probability\n"
        "0.0,0.3,clips/пример.mp4,1,2,=driving,0.5\n"
        '0.0,0.3,clips/пример.mp4,2,1,"走路, slowly",0.25\n'
        "0.3,10.5,clips/пример.mp4,1,2,=driving,0.5\n"
        '0.3,10.5,clips/пример.mp4,2,1,"走路, slowly",0.25\n'
    )
    assert "\n0.0,0.3,clips/пример.mp4,1,2,'=driving,0.5\n" in written("csv", WINDOWS, for_spreadsheets=True)


def test_segments_as_a_table() -> None:
    assert written("text", SEGMENTS[:2]) == (
        "start      end        label         probability\n"
        "0:00:00.0  0:00:02.3  eating              75.0%\n"
        "0:00:02.3  1:06:40.2  走路, slowly        98.8%\n"
    )
    assert written("text", SEGMENTS, is_one=False).startswith("video = clips/пример.mp4\nstart      end ")


def test_the_table_of_a_longer_video_has_wider_times() -> None:
    form = timeline_form("text", of_segments=True, is_one=True)
    assert "".join(form.texts(replace(PREDICTION, duration_s=36001.0), SEGMENTS[2:])) == (
        "start       end         label         probability\n"
        "1:06:40.2   10:00:00.0  =driving           100.0%\n"
        "10:00:00.0  10:00:01.0  a\\x1b[2J\\nb         50.0%\n"
    )


def test_segments_as_json_and_csv_are_in_seconds() -> None:
    assert written("json", SEGMENTS[:2]) == (
        '{"video": "clips/пример.mp4", "model": "nano", "start_s": 0.0, "end_s": 2.3456, "label": "eating", '
        '"index": 0, "probability": 0.75}\n'
        '{"video": "clips/пример.mp4", "model": "nano", "start_s": 2.3456, "end_s": 4000.25, '
        '"label": "走路, slowly", "index": 1, "probability": 0.9876}\n'
    )
    assert written("csv", SEGMENTS[1:3]) == (
        "start_s,end_s,video,index,label,probability\n"
        '2.3456,4000.25,clips/пример.mp4,1,"走路, slowly",0.9876\n'
        "4000.25,36000.0,clips/пример.mp4,2,=driving,1.0\n"
    )
    assert ",2,'=driving,1.0\n" in written("csv", SEGMENTS[1:3], for_spreadsheets=True)


def test_subtitles_character_by_character() -> None:
    assert written("srt", SEGMENTS[:2]) == (
        "1\n00:00:00,000 --> 00:00:02,346\neating\n\n2\n00:00:02,346 --> 01:06:40,250\n走路, slowly\n\n"
    )
    assert written("vtt", SEGMENTS[:2]) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:02.346\neating\n\n00:00:02.346 --> 01:06:40.250\n走路, slowly\n\n"
    )


@pytest.mark.parametrize("is_one", [True, False])
def test_a_failure_is_written_among_several_videos_alone(is_one: bool) -> None:
    expected = {
        ("text", True, False): "video = clips/пример.mp4\nerror = it cannot be read\n",
        ("text", True, True): "error = it cannot be read\n",
        ("json", True, True): '{"video": "clips/пример.mp4", "error": "it cannot be\\nread"}\n',
        ("json", False, False): '{"video": "clips/пример.mp4", "error": "it cannot be\\nread"}\n',
        ("csv", False, True): ",,clips/пример.mp4,,,,\n",
        ("csv", True, False): ",,clips/пример.mp4,,,\n",
    }
    for (name, of_segments, has_begun), text in expected.items():
        form = timeline_form(name, of_segments=of_segments, is_one=is_one)
        assert form.failure(FAILURE, has_begun) == ("" if is_one else text)


def test_without_segments_there_are_heads_alone() -> None:
    heads = {"text": "", "json": "", "csv": "start_s,end_s,video,index,label,probability\n", "srt": ""}
    for name, head in {**heads, "vtt": "WEBVTT\n\n"}.items():
        form = timeline_form(name, of_segments=True, is_one=True)
        assert form.head == head
    header = "start      end        label         probability\n"
    assert "".join(timeline_form("text", of_segments=True, is_one=True).texts(PREDICTION, [])) == header


@pytest.mark.parametrize(
    ("seconds", "tenths", "thousandths"),
    [
        (0.0, "0:00:00.0", "0:00:00.000"),
        (59.96, "0:01:00.0", "0:00:59.960"),
        (3599.9996, "1:00:00.0", "1:00:00.000"),
        (360000.0, "100:00:00.0", "100:00:00.000"),
    ],
)
def test_times_carry_what_is_rounded_up(seconds: float, tenths: str, thousandths: str) -> None:
    assert clock(seconds, decimals=1) == tenths
    assert clock(seconds, decimals=3) == thousandths


def subtitles(labels: Iterable[str]) -> list[Segment]:
    return [Segment(number, number + 1.0, label, number, 0.5) for number, label in enumerate(labels)]


def test_another_library_reads_srt() -> None:
    found = list(srt.parse(written("srt", subtitles(MARKUP))))
    assert [cue.index for cue in found] == list(range(1, len(MARKUP) + 1))
    assert [cue.start.total_seconds() for cue in found] == list(range(len(MARKUP)))
    assert [cue.end.total_seconds() for cue in found] == list(range(1, len(MARKUP) + 1))
    assert [cue.content for cue in found] == [
        "‹i›a‹/i› & b",
        "&lt;i&gt; &amp;",
        "(/an8)top (b) (y:i)c",
        "00:00:01,000 --› 00:00:02,000",
        "a b",
        "a/Nb /h c",
        "42",
        "走路 ‹font color=red›",
        "‹v Bob›--›",
        "WEBVTT",
        "NOTE x",
        "/x00/x1b[2J /u202e",
    ]


def test_another_library_reads_webvtt() -> None:
    found = webvtt.from_string(written("vtt", subtitles(MARKUP))).captions
    assert [cue.start_in_seconds for cue in found] == list(range(len(MARKUP)))
    assert [cue.end_in_seconds for cue in found] == list(range(1, len(MARKUP) + 1))
    assert [cue.raw_text for cue in found] == [
        "&lt;i&gt;a&lt;/i&gt; &amp; b",
        "&amp;lt;i&amp;gt; &amp;amp;",
        "{\\an8}top {b} {y:i}c",
        "00:00:01,000 --&gt; 00:00:02,000",
        "a b",
        "a\\Nb \\h c",
        "42",
        "走路 &lt;font color=red&gt;",
        "&lt;v Bob&gt;--&gt;",
        "WEBVTT",
        "NOTE x",
        "\\x00\\x1b[2J \\u202e",
    ]


def ffmpeg_texts(path: Path) -> list[tuple[float, str]]:
    """When FFmpeg, which players are made with, shows what: beginnings in seconds, and texts in ASS."""
    found = []
    with av.open(str(path)) as container:
        for packet in container.demux(subtitles=0):
            for subtitle in packet.decode():
                assert isinstance(subtitle, AssSubtitle)
                assert packet.pts is not None
                found.append((float(packet.pts * packet.time_base), subtitle.ass.decode().split(",", 8)[-1]))
    return found


def test_players_show_srt_without_taking_a_label_for_markup(tmp_path: Path) -> None:
    text = written("srt", subtitles(MARKUP))
    (tmp_path / "a.srt").write_text(text, "utf-8")
    assert ffmpeg_texts(tmp_path / "a.srt") == [
        (float(number), cue.content) for number, cue in enumerate(srt.parse(text))
    ]


def test_a_subtitle_lasts_a_millisecond_at_least() -> None:
    text = written("vtt", [Segment(1.0, 1.0, "a", 0, 0.5)])
    assert "00:00:01.000 --> 00:00:01.001\na\n" in text


def test_odd_names_survive_csv() -> None:
    [_, row] = csv.reader(io.StringIO(written("csv", [Segment(0, 1, 'a "b"\nc', 0, 0.5)])))
    assert row == ["0", "1", "clips/пример.mp4", "0", 'a "b"\nc', "0.5"]
