"""The command with --window: windows and segments as they come, of one video and of many, and going on with them."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from in_process import run
from PIL import Image
from small_models import random_closed_model, random_model, save_closed_model, save_model
from terminals import on_terminals, screen

from action_clip import ActionClip, Segment, TimeSformer, Window, segments
from action_clip.output.timelines import clock

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "action_clip.py"
LABELS = ["eating", "läuft"]
ASK = ["-t", "eating", "-t", "läuft"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_model(random_model(1, 4, False), tmp_path_factory.mktemp("model"), frames=4))


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_closed_model(random_closed_model(1, frames=4), tmp_path_factory.mktemp("closed")))


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Three videos in the folder "clips" of the working folder: 12 s, one that is broken, and 5.5 s."""
    monkeypatch.chdir(tmp_path)
    Path("clips").mkdir()
    write_gif("clips/a.gif", 24)
    Path("clips/b.mp4").write_text("not a video")
    write_gif("clips/c.gif", 11)
    return [os.path.join("clips", name) for name in ("a.gif", "b.mp4", "c.gif")]


def write_gif(path: str, frames: int) -> None:
    """Two pictures a second, each a colour of its own."""
    colours = np.random.default_rng(frames).integers(0, 256, (frames, 1, 1, 3), np.uint8)
    first, *rest = map(Image.fromarray, np.broadcast_to(colours, (frames, 40, 40, 3)).copy())
    first.save(path, save_all=True, append_images=rest, duration=500, loop=0)


def windows(model: str, video: str) -> list[Window]:
    return list(ActionClip(model, cache=False).timeline(video, LABELS, window=2))


def parts(model: str, video: str) -> list[Segment]:
    return list(segments(windows(model, video)))


def table(found: list[Segment]) -> str:
    head = "start      end        label   probability\n"
    return head + "".join(
        f"{clock(each.start_s, decimals=1)}  {clock(each.end_s, decimals=1)}  {each.label:<6}  "
        f"{each.probability:>11.1%}\n"
        for each in found
    )


def rows(text: str) -> list[list[str]]:
    return list(csv.reader(text.splitlines()))


def broken(name: str = "clips/b.mp4") -> str:
    name = name.replace("/", os.sep)
    return (
        f"{name} cannot be read as a video (Invalid data found when processing input); give a whole mp4, mkv, avi or "
        "gif file"
    )


def test_json_has_a_line_for_each_window(capsys: pytest.CaptureFixture[str], model: str, clips: list[str]) -> None:
    code, out, err = run(capsys, clips[2], "-m", model, *ASK, "--window", "2", "--format", "json")
    expected = [window.to_dict() for window in windows(model, clips[2])]
    found = [json.loads(line) for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert [(each["start_s"], each["end_s"]) for each in found] == [(0, 2), (1, 3), (2, 4), (3, 5), (4, 5.5)]
    for each in (*found, *expected):
        del each["timings_s"]
    assert found == expected


def test_csv_has_the_times_of_windows_first(capsys: pytest.CaptureFixture[str], model: str, clips: list[str]) -> None:
    options = ["--window", "2", "--stride", "1.5", "--format", "csv", "--top-k", "1"]
    code, out, err = run(capsys, clips[2], "-m", model, *ASK, *options)
    assert (code, err) == (0, "")
    assert rows(out)[0] == ["start_s", "end_s", "video", "rank", "index", "label", "probability"]
    assert [row[:4] for row in rows(out)[1:]] == [
        ["0.0", "2.0", clips[2], "1"],
        ["1.5", "3.5", clips[2], "1"],
        ["3.0", "5.0", clips[2], "1"],
        ["4.5", "5.5", clips[2], "1"],
    ]


def test_text_is_a_table_of_segments(capsys: pytest.CaptureFixture[str], model: str, clips: list[str]) -> None:
    command = ["-m", model, *ASK, "--window", "2", clips[0]]
    assert run(capsys, *command) == (0, table(parts(model, clips[0])), "")
    smoothed = list(segments(windows(model, clips[0]), switching_cost=3))
    assert run(capsys, *command, "--switching-cost", "3") == (0, table(smoothed), "")
    command += ["--switching-cost", "0"]
    found = list(segments(windows(model, clips[0]), switching_cost=0))
    assert run(capsys, *command) == (0, table(found), "")
    assert len(found) > max(len(smoothed), 2)
    kept = list(segments(windows(model, clips[0]), threshold=0.7, min_duration=1.5, switching_cost=0))
    assert 0 < len(kept) < len(found)
    assert run(capsys, *command, "--threshold", "0.7", "--min-duration", "1.5", "--segments") == (0, table(kept), "")


@pytest.mark.parametrize("form", ["json", "csv", "srt", "vtt"])
def test_segments_in_the_other_formats(
    capsys: pytest.CaptureFixture[str], model: str, clips: list[str], form: str
) -> None:
    found = parts(model, clips[0])
    code, out, err = run(capsys, clips[0], "-m", model, *ASK, "--window", "2", "--format", form, "--segments")
    assert (code, err) == (0, "")
    if form == "json":
        facts = {"video": clips[0], "model": "small"}
        assert [json.loads(line) for line in out.splitlines()] == [facts | each.to_dict() for each in found]
    elif form == "csv":
        assert [row[:2] for row in rows(out)[1:]] == [[str(each.start_s), str(each.end_s)] for each in found]
        assert [row[4] for row in rows(out)[1:]] == [each.label for each in found]
    else:
        assert out.count(" --> ") == len(found)
        assert out.startswith("1\n00:00:00,000 --> " if form == "srt" else "WEBVTT\n\n00:00:00.000 --> ")
    if form in ("srt", "vtt"):
        assert run(capsys, clips[0], "-m", model, *ASK, "--window", "2", "--format", form)[1] == out


def test_a_closed_set_has_windows_too(capsys: pytest.CaptureFixture[str], closed: str, clips: list[str]) -> None:
    code, out, _ = run(capsys, clips[2], "-m", closed, "--window", "2", "--format", "csv", "--top-k", "1")
    best = [each.prediction.ranked[0] for each in TimeSformer(closed, cache=False).timeline(clips[2], window=2)]
    assert code == 0
    assert [row[5] for row in rows(out)[1:]] == [each.label for each in best]


def test_no_segment_leaves_a_head_alone(capsys: pytest.CaptureFixture[str], model: str, clips: list[str]) -> None:
    command = ["-m", model, *ASK, "--window", "2", "--min-duration", "99", clips[0]]
    assert run(capsys, *command, "--format", "vtt") == (0, "WEBVTT\n\n", "")
    assert run(capsys, *command, "--format", "srt", "--output", "a.srt") == (0, "", "")
    assert Path("a.srt").read_text() == ""
    assert run(capsys, *command)[1] == table([])


def test_several_videos_in_text_have_a_block_each(
    capsys: pytest.CaptureFixture[str], model: str, clips: list[str]
) -> None:
    code, out, err = run(capsys, "clips", "-m", model, *ASK, "--window", "2")
    assert code == 1
    assert err == f"action_clip: error: {broken()}\naction_clip: 1 of 3 videos failed\n"
    assert out == (
        f"video = {clips[0]}\n{table(parts(model, clips[0]))}"
        f"video = {clips[1]}\nerror = {broken()}\n"
        f"video = {clips[2]}\n{table(parts(model, clips[2]))}"
    )


def test_several_videos_in_json_and_csv_have_a_line_for_one_that_fails(
    capsys: pytest.CaptureFixture[str], model: str, clips: list[str]
) -> None:
    command = ["clips", "-m", model, *ASK, "--window", "2", "--top-k", "1"]
    code, out, _ = run(capsys, *command, "--format", "json")
    found = [json.loads(line) for line in out.splitlines()]
    assert code == 1
    assert [each["video"] for each in found] == [clips[0]] * 11 + [clips[1]] + [clips[2]] * 5
    assert found[11] == {"video": clips[1], "error": broken()}
    code, out, _ = run(capsys, *command, "--format", "csv")
    assert code == 1
    assert rows(out)[12] == ["", "", clips[1], "", "", "", ""]
    assert [row[2] for row in rows(out)[1:]] == [each["video"] for each in found]
    code, out, _ = run(capsys, *command[:-2], "--format", "csv", "--segments")
    assert ["", "", clips[1], "", "", ""] in rows(out)


def test_one_video_that_fails_is_one_sentence_and_leaves_its_output_alone(
    capsys: pytest.CaptureFixture[str], model: str, clips: list[str]
) -> None:
    Path("a.vtt").write_text("mine")
    command = [clips[1], "-m", model, *ASK, "--window", "2", "--output", "a.vtt", "--format", "vtt"]
    assert run(capsys, *command) == (1, "", f"action_clip: error: {broken()}\n")
    assert Path("a.vtt").read_text() == "mine"


@pytest.mark.parametrize("form", ["srt", "vtt"])
def test_subtitles_are_of_one_video(
    capsys: pytest.CaptureFixture[str], model: str, clips: list[str], form: str
) -> None:
    code, out, err = run(capsys, "clips", "-m", model, *ASK, "--window", "2", "--format", form, "--output", "a")
    assert (code, out) == (1, "")
    assert f"error: --format {form} is for one video: name a single file or URL, and begin anew for each\n" in err
    assert err.count("\n") == 1
    assert not Path("a").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stride", "1"], "--stride is about windows: give their length with --window S"),
        (["--segments"], "--segments is about windows: give their length with --window S"),
        (["--threshold", "0.5"], "--threshold is about windows: give their length with --window S"),
        (["--switching-cost", "1"], "--switching-cost is about windows: give their length with --window S"),
        (
            ["--window", "2", "--switching-cost", "1", "--multi-label"],
            "--switching-cost is about one label at a time: leave it out, or --multi-label",
        ),
        (["--min-duration", "1"], "--min-duration is about windows: give their length with --window S"),
        (["--format", "srt"], "--format srt needs the length of windows: give it with --window S"),
        (["--format", "vtt"], "--format vtt needs the length of windows: give it with --window S"),
        (["--window", "2", "--sampling", "random"], "--sampling is about one answer for a whole video: leave out"),
        (["--window", "2", "--save", "a.png"], "--save a.png is a picture of one answer for a whole video: save the"),
        (["--window", "2", "--features", "a.npz"], "--features is about one answer for a whole video: leave out"),
        (["--window", "2", "--benchmark"], "--benchmark is about one answer for a whole video: leave out"),
        (["--window", "2", "--stride", "2.5"], "windows of 2 s that begin every 2.5 s leave out parts of the video: "),
        (["--window", "2", "--format", "json", "--threshold", "0"], "--threshold is about segments: add --segments"),
        (["--window", "2", "--format", "csv", "--min-duration", "1"], "--min-duration is about segments: add --segm"),
        (["--window", "2", "--top-k", "1"], "--top-k is about windows, and a segment has one label: leave it out, or"),
        (["--window", "0"], "argument --window: 0 is not above 0"),
        (["--window", "-1"], "argument --window: -1 is not above 0"),
        (["--window", "nan"], "argument --window: nan is not a finite number"),
        (["--window", "inf"], "argument --window: inf is not a finite number"),
        (["--window", "4s"], "argument --window: '4s' is not a number"),
        (["--window", "2", "--stride", "0"], "argument --stride: 0 is not above 0"),
        (["--window", "2", "--threshold", "1.5"], "argument --threshold: 1.5 is above 1"),
        (["--window", "2", "--threshold", "-0.5"], "argument --threshold: -0.5 is not from 0"),
        (["--window", "2", "--min-duration", "-1"], "argument --min-duration: -1 is not from 0"),
    ],
)
def test_options_that_do_not_fit_together_are_named(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    code, out, err = run(capsys, "a.mp4", "-m", "nano", *arguments)
    assert (code, out) == (2, "")
    assert message in err.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments", [["--format", "srt"], ["--format", "csv"], ["--segments", "--format", "json"], []]
)
def test_what_was_cut_off_is_taken_out_and_done_again(
    capsys: pytest.CaptureFixture[str], model: str, clips: list[str], arguments: list[str]
) -> None:
    command = ["-m", model, *ASK, "--window", "2", *arguments, "--output", "answers"]
    if "csv" not in arguments:
        command += ["--switching-cost", "0"]
    videos = clips[:1] if "srt" in arguments else ["clips"]
    os.unlink(clips[1])
    assert run(capsys, *command, *videos)[0] == 0
    whole = answers_in("answers")
    written, record = (Path(name).read_bytes() for name in ("answers", "answers.resume"))
    pieces = [json.loads(line) for line in record.splitlines()[1:]]
    assert sum(piece["grows"] for piece in pieces) > 4
    for cut in range(2, len(pieces)):
        lines = record.splitlines(keepends=True)[: 1 + cut]
        Path("answers.resume").write_bytes(b"".join(lines))
        Path("answers").write_bytes(written[: min(size_of(pieces[: cut - 1]) + 1, size_of(pieces[:cut]))])
        assert run(capsys, *command, *videos, "--resume") == (0, "", "")
        assert answers_in("answers") == whole, cut
        assert run(capsys, *command, *videos, "--resume") == (0, "", "")
        assert answers_in("answers") == whole, cut


def answers_in(path: str) -> list[str]:
    """The lines of a file, without the times that were measured."""
    return re.sub(r', "timings_s": \{.*\}', "", Path(path).read_text("utf-8")).splitlines()


def size_of(pieces: list[dict[str, int]]) -> int:
    """How long the file was with these lines in its record, of which those that grow were followed by others."""
    sizes = [
        piece["size"]
        for piece, after in zip(pieces, [*pieces[1:], None], strict=True)
        if after is None or not piece["grows"]
    ]
    return sum(sizes)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="no signals of this kind")
@pytest.mark.parametrize("form", ["json", "vtt"])
def test_killed_and_resumed_it_is_what_it_would_have_been(
    capsys: pytest.CaptureFixture[str], model: str, clips: list[str], form: str
) -> None:
    write_gif("long.gif", 700)
    options = ["long.gif", "-m", model, *ASK, "--window", "2", "--format", form, "--output"]
    assert run(capsys, *options, "expected")[0] == 0
    expected = answers_in("expected")
    kills = 0
    for wanted in (1, 30):
        with subprocess.Popen([sys.executable, str(SCRIPT), *options, "answers", "--resume"]) as process:
            while process.poll() is None and lines_in("answers") <= wanted:
                time.sleep(0.001)
            kills += process.poll() is None
            process.send_signal(signal.SIGKILL)
        assert expected[: lines_in("answers")] == answers_in("answers")[: lines_in("answers")]
    assert kills
    assert run(capsys, *options, "answers", "--resume") == (0, "", "")
    assert answers_in("answers") == expected


def lines_in(path: str) -> int:
    return Path(path).read_bytes().count(b"\n") if Path(path).exists() else 0


@pytest.mark.skipif(os.name == "nt", reason="no named pipes in folders there")
def test_a_video_is_answered_before_the_next_one_is_there(model: str, clips: list[str]) -> None:
    os.mkfifo("pipe.gif")  # nothing comes through it
    command = [sys.executable, str(SCRIPT), clips[0], "pipe.gif", "-m", model, *ASK, "--window", "2"]
    expected = f"video = {clips[0]}\n{table(parts(model, clips[0]))}"
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(len(expected.encode())).decode() == expected
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130


def test_other_windows_than_an_output_was_begun_with_are_an_error(
    capsys: pytest.CaptureFixture[str], model: str, clips: list[str]
) -> None:
    command = [clips[0], "-m", model, *ASK, "--format", "json", "--output", "answers", "--resume"]
    assert run(capsys, *command, "--window", "2")[0] == 0
    before = Path("answers").read_bytes()
    for others, message in (
        ([], "--window 2.0, not none"),
        (["--window", "4"], "--window 2.0, not 4.0"),
        (["--window", "2", "--stride", "2"], "--stride half of it, not 2.0"),
        (["--window", "2", "--segments"], "--segments False, not True"),
        (["--window", "2", "clips"], "the timeline of one video, not of several videos"),
    ):
        code, _, err = run(capsys, *command, *others)
        assert code == 1
        assert f"was begun with {message}: give the same again" in err
    assert Path("answers").read_bytes() == before


def test_a_failed_video_is_tried_again_and_its_windows_replaced(
    capsys: pytest.CaptureFixture[str], model: str, clips: list[str]
) -> None:
    command = ["clips", "-m", model, *ASK, "--window", "2", "--format", "csv", "--output", "answers"]
    assert run(capsys, *command)[0] == 1
    first = Path("answers").read_text("utf-8")
    shutil.copy(clips[2], clips[1])
    assert run(capsys, *command, "--resume") == (0, "", "")
    again = Path("answers").read_text("utf-8")
    without = first.replace(f",,{clips[1]},,,,\n", "")
    assert len(without) < len(first)
    assert again.startswith(without)
    assert [row[2] for row in rows(again.removeprefix(without))] == [clips[1]] * 10


def test_on_a_terminal_there_is_a_bar_of_minutes_and_the_table(model: str, clips: list[str]) -> None:
    code, shown, _ = on_terminals([clips[0], "-m", model, *ASK, "--window", "2"], out_too=True)
    assert code == 0
    assert re.search(r"\d+%\|.*\| 0\.[0-2]/0\.2 min \[", shown)
    assert "\n".join(screen(shown)) == table(parts(model, clips[0]))


def test_among_several_the_bar_shows_how_many_failed(model: str, clips: list[str]) -> None:
    command = ["clips", "-m", model, *ASK, "--window", "2", "--format", "csv"]
    code, shown, out = on_terminals(command, out_too=False)
    assert code == 1
    assert re.search(r"/0\.\d min \[.*1 failed", shown)
    assert screen(shown) == [f"action_clip: error: {broken()}", "action_clip: 1 of 3 videos failed", ""]
    assert len(rows(out.decode())) == 1 + 2 * 11 + 1 + 2 * 5
