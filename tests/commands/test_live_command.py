"""The command with live video: a file at its own rate in place of a camera, and what does not fit to it."""

import csv
import json
import os
import re
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from in_process import run
from make_videos import moving, write_video
from small_models import random_closed_model, random_model, save_closed_model, save_model
from terminals import on_terminals, screen

from action_clip import ActionClip, segments
from action_clip.commands.arguments import parse
from action_clip.video.live import containers

LABELS = ["eating", "läuft"]
ASK = ["-t", "eating", "-t", "läuft"]


@pytest.fixture(autouse=True)
def _never_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy this machine is, no frame is passed over."""
    monkeypatch.setattr(containers, "MOST_LATE_S", 1e9)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_model(random_model(1, 4, False), tmp_path_factory.mktemp("model"), frames=4))


@pytest.fixture
def video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Movement, then a colour, each for 0.8 s, in the working folder."""
    monkeypatch.chdir(tmp_path)
    still = np.full((96, 160, 3), (0, 255, 0), np.uint8)
    return str(write_video(Path("a.mp4"), [*moving(20), *[still] * 20]))


def test_json_has_a_line_for_each_answer(capsys: pytest.CaptureFixture[str], model: str, video: str) -> None:
    code, out, err = run(capsys, video, "--live", "-m", model, *ASK, "--window", "0.4", "--format", "json")
    expected = {round(each.start_s, 6): each for each in ActionClip(model).timeline(video, LABELS, window=0.4)}
    found = [json.loads(line) for line in out.splitlines()]
    left_out = re.search(r"(\d+) windows were left out", err)
    assert code == 0
    assert found
    assert len(found) + int(left_out[1] if left_out else 0) == len(expected)
    for each in found:
        window = expected[each["start_s"]]
        assert each["frames"] == list(window.prediction.frame_indices)
        assert each["predictions"][0]["label"] == window.prediction.ranked[0].label
        assert each["duration_s"] is None
        assert datetime.fromisoformat(each["time"]).tzinfo is not None


def test_csv_into_a_file(capsys: pytest.CaptureFixture[str], model: str, video: str) -> None:
    options = ["--window", "0.5", "--format", "csv", "--top-k", "1", "--output", "out.csv", "-q"]
    Path("out.csv").write_text("what was there before")
    assert run(capsys, video, "--live", "-m", model, *ASK, *options) == (0, "", "")
    with open("out.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["time", "start_s", "end_s", "video", "rank", "index", "label", "probability"]
    assert rows[1:]
    assert all(row[3] == "a.mp4" and row[4] == "1" and row[6] in LABELS for row in rows[1:])


def test_text_has_a_line_for_each_change(capsys: pytest.CaptureFixture[str], model: str, video: str) -> None:
    code, out, _ = run(capsys, video, "--live", "-m", model, *ASK, "--window", "0.4", "--switching-cost", "0")
    assert code == 0
    labels = [line[21:].rsplit("  ", 1)[0] for line in out.splitlines()]
    assert labels
    assert set(labels) <= set(LABELS)
    assert all(before != after for before, after in pairwise(labels))
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  \w+  \d+\.\d%", line) for line in out.splitlines())


def test_an_answer_below_the_threshold_is_none(capsys: pytest.CaptureFixture[str], model: str, video: str) -> None:
    code, out, _ = run(capsys, video, "--live", "-m", model, *ASK, "--window", "0.4", "--threshold", "1")
    assert code == 0
    assert [line[21:] for line in out.splitlines()] == ["-"]


@pytest.mark.slow
def test_segments(capsys: pytest.CaptureFixture[str], model: str, video: str) -> None:
    options = ["--window", "0.4", "--segments", "--format", "json", "--min-duration", "0.01"]
    code, out, err = run(capsys, video, "--live", "-m", model, *ASK, *options)
    found = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert found
    assert [*found[0]] == ["time", "video", "model", "start_s", "end_s", "label", "index", "probability"]
    if "left out" not in err:
        expected = list(segments(ActionClip(model).timeline(video, LABELS, window=0.4)))
        assert [(each["label"], each["end_s"]) for each in found] == [
            (each.label, pytest.approx(each.end_s)) for each in expected
        ]
    code, out, _ = run(capsys, video, "--live", "-m", model, *ASK, *options[:3])
    assert code == 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  0:00:0\d\.\d  \w+  [\d.]+%", out.splitlines()[0])


def test_closed_sets(capsys: pytest.CaptureFixture[str], tmp_path: Path, video: str) -> None:
    closed = str(save_closed_model(random_closed_model(1, frames=4), tmp_path / "closed"))
    code, out, _ = run(capsys, video, "--live", "-m", closed, "--window", "0.4", "--format", "json")
    assert code == 0
    assert len(json.loads(out.splitlines()[0])["predictions"]) == 5


def test_latencies(capsys: pytest.CaptureFixture[str], model: str, video: str) -> None:
    code, _, err = run(capsys, video, "--live", "-m", model, *ASK, "--window", "0.4", "--benchmark")
    assert code == 0
    pattern = r"latency from frame to answer: median \d+ ms, worst \d+ ms, of \d+ answers; \d+ windows were left out"
    assert any(re.fullmatch(pattern, line) for line in err.splitlines())


def test_a_video_that_is_too_short_for_an_answer(capsys: pytest.CaptureFixture[str], model: str, video: str) -> None:
    code, out, err = run(capsys, video, "--live", "-m", model, *ASK, "--window", "100", "--benchmark")
    assert (code, out) == (0, "")
    assert "there is no answer: a.mp4 ended before a window was complete" in err


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="no terminals of this kind")
def test_a_terminal_has_a_status_that_is_gone_at_the_end(model: str, video: str) -> None:
    command = [video, "--live", "-m", model, *ASK, "--window", "0.4", "--switching-cost", "0", "-q"]
    code, shown, _ = on_terminals(command, out_too=True)
    assert code == 0
    assert re.search(r"\r\d\d:\d\d:\d\d +\d+\.\d%  (eating|läuft)", shown)
    *lines, last = screen(shown)
    assert last == ""
    assert lines
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  \w+  \d+\.\d%", line) for line in lines)
    code, shown, out = on_terminals(command, out_too=False)
    assert (code, shown) == (0, "")
    assert b"\r" not in out


def test_a_camera_that_is_not_there(capsys: pytest.CaptureFixture[str], model: str, video: str) -> None:
    Path("out.csv").write_text("kept")
    code, out, err = run(capsys, "99", "-m", model, *ASK, "--format", "csv", "--output", "out.csv")
    assert (code, out) == (1, "")
    assert err.startswith("action_clip: error: the camera 99 cannot be opened")
    assert len(err.splitlines()) == 1
    assert Path("out.csv").read_text() == "kept"


def test_a_password_is_not_shown(capsys: pytest.CaptureFixture[str], model: str) -> None:
    code, out, err = run(capsys, "rtsp://me:secret@127.0.0.1:1/a?token=hidden", "-m", model, *ASK, "--debug")
    assert (code, out) == (1, "")
    assert "rtsp://me:***@127.0.0.1:1/a?token=*** could not be opened (Connection refused)" in err
    assert "secret" not in err
    assert "hidden" not in err


def test_the_video_is_not_written_over(capsys: pytest.CaptureFixture[str], model: str, video: str) -> None:
    code, _, err = run(capsys, video, "--live", "-m", model, *ASK, "--output", video)
    assert code == 1
    assert "names the same file as --video" in err


@pytest.mark.skipif(os.name == "nt", reason="there is always a display")
def test_without_a_display_there_is_no_window(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, model: str, video: str
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    code, out, err = run(capsys, video, "--live", "--show", "-m", model, *ASK)
    assert (code, out) == (1, "")
    assert err.startswith("action_clip: error: no window can be opened (")
    assert err.endswith(": leave out --show, or run it on a desktop\n")


@pytest.mark.parametrize("video", ["0", "/dev/video0", "RTSP://camera/1", "udp://@:5000", "rtmps://host/app"])
def test_cameras_and_streams_are_live_by_their_names(video: str) -> None:
    options = parse(["--video", video])
    assert (options.live, options.window, options.segments) == (True, 4.0, False)
    assert not parse(["--video", "http://host/a.m3u8"]).live


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["1"], "one camera, stream or file is watched at a time"),
        (["a.mp4"], "one camera, stream or file is watched at a time"),
        (["--save", "a.png"], "--save is about recordings, and live video has no end"),
        (["--features", "a.npz"], "--features is about recordings"),
        (["--views", "10x3"], "--views is about recordings"),
        (["--sampling", "random"], "--sampling is about recordings"),
        (["--output", "a.txt", "--resume"], "--resume is about recordings"),
        (["--format", "srt"], "--format srt is about recordings"),
        (["--stride", "5"], "windows of 4 s that begin every 5 s leave out parts"),
        (["--min-duration", "5"], "--min-duration is about segments: add --segments"),
        (["--format", "json", "--threshold", "0.5"], "--threshold is about segments: add --segments"),
        (["--multi-label", "--switching-cost", "1"], "--switching-cost is about one label at a time"),
    ],
)
def test_options_that_do_not_fit(capsys: pytest.CaptureFixture[str], options: list[str], message: str) -> None:
    code, out, err = run(capsys, "--video", "0", *options)
    assert (code, out) == (2, "")
    assert message in err


def test_show_is_for_live_video(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "a.mp4", "--show")
    assert code == 2
    assert "--show is about live video: add --live" in err


def test_a_live_stream_among_others_is_a_sentence(capsys: pytest.CaptureFixture[str], model: str, video: str) -> None:
    Path("list.txt").write_text(f"{video}\nrtsp://me:secret@camera/1\n")
    code, out, err = run(capsys, "@list.txt", "-m", model, *ASK, "--format", "csv")
    assert code == 1
    assert out.count("a.mp4") == 2
    assert "rtsp://me:***@camera/1 is a live stream, which has no end: name it alone with --video" in err
