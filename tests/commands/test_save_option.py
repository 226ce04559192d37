"""The command with --save: the answer first, then a picture, or the video with the labels of its time."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from in_process import run
from make_videos import moving, numbered, write_video
from numpy.typing import NDArray
from small_models import random_model, save_model
from terminals import on_terminals, screen

from action_clip import ActionClip
from action_clip.errors import ActionClipError
from action_clip.models.prediction import Ranked
from action_clip.output.features import FeatureTable
from action_clip.output.overlay import Overlay
from action_clip.video.reader import VideoReader

SCRIPT = Path(__file__).parents[2] / "action_clip.py"
LABELS = ["eating", "läuft", "走路"]
ASK = ["-t", "eating", "-t", "läuft", "-t", "走路"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_model(random_model(1, 4, False), tmp_path_factory.mktemp("model"), frames=4))


@pytest.fixture
def clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A video of 4 s in the working folder: 10 frames a second."""
    monkeypatch.chdir(tmp_path)
    pictures = [numbered(number * 37 % 1024, 320, 240) for number in range(40)]
    write_video(Path("clip.mp4"), pictures, rate=10)
    return "clip.mp4"


def frames(path: str) -> NDArray[np.uint8]:
    with VideoReader(path) as video:
        return video.frames_at(range(len(video))).frames


def shows(after: NDArray[np.uint8], before: NDArray[np.uint8], entries: tuple[Ranked, ...]) -> bool:
    """Whether a frame shows these labels, on what was there before."""
    expected = before.copy()
    Overlay(before.shape[1], before.shape[0]).draw(expected, entries)
    return float(np.abs(after.astype(int) - expected).mean()) < 2.5


def files() -> list[str]:
    return sorted(os.listdir())


@pytest.mark.parametrize("ending", [".mp4", ".mkv", ".webm", ".gif"])
def test_the_video_shows_the_answer(capsys: pytest.CaptureFixture[str], model: str, clip: str, ending: str) -> None:
    code, out, err = run(capsys, clip, "-m", model, *ASK, "--save", f"out{ending}", "--format", "json", "--top-k", "2")
    assert (code, err) == (0, "")
    assert [entry["label"] for entry in json.loads(out)["predictions"]]
    entries = ActionClip(model, cache=False).classify(clip, LABELS, top_k=2).ranked
    before, after = frames(clip), frames(f"out{ending}")
    assert len(after) == 40
    assert all(shows(after[number], before[number], entries) for number in range(40))
    assert files() == ["clip.mp4", f"out{ending}"]


@pytest.mark.parametrize("how", [["--format", "json"], ["--format", "csv"], [], ["--format", "srt"]])
def test_with_windows_it_shows_those_of_the_time(
    capsys: pytest.CaptureFixture[str], model: str, clip: str, how: list[str]
) -> None:
    command = [clip, "-m", model, *ASK, "--window", "2", *how]
    expected = run(capsys, *command)
    assert run(capsys, *command, "--save", "out.mp4")[0] == 0
    code, out, err = run(capsys, *command, "--save", "out.mp4", "--output", "answer")
    assert (code, out, err) == (0, "", "")
    if how[1:] != ["json"]:  # which has the seconds that it took
        assert Path("answer").read_text("utf-8") == expected[1]
    windows = list(ActionClip(model, cache=False).timeline(clip, LABELS, window=2))
    assert len(windows) == 3
    before, after = frames(clip), frames("out.mp4")
    for number in range(40):
        nearest = min(windows, key=lambda window: abs((window.start_s + window.end_s) / 2 - number / 10 - 1e-6))
        assert shows(after[number], before[number], nearest.prediction.ranked), number


def test_none_of_these_and_labels_by_themselves_are_shown(
    capsys: pytest.CaptureFixture[str], model: str, clip: str
) -> None:
    for options, how in ((["--none=nothing"], {}), (["--none=nothing", "--multi-label"], {"multi_label": True})):
        assert run(capsys, clip, "-m", model, *ASK, *options, "--save", "out.mp4")[0] == 0
        answer = ActionClip(model, cache=False).classify(clip, LABELS, none=["nothing"], **how)  # type: ignore[arg-type]
        assert shows(frames("out.mp4")[5], frames(clip)[5], answer.ranked)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ["--save", "a.avi"],
            1,
            "cannot save a.avi: the name must end in one of .png, .jpg, .jpeg, .webp for a picture,",
        ),
        (["--save", "clip.mp4"], 1, "--save names the same file as --video, clip.mp4, and would overwrite it"),
        (["--save", "a.mp4", "--output", "a.mp4"], 1, "--save names the same file as --output, a.mp4"),
        (["--save", "absent/a.mp4"], 1, "there is no folder absent"),
        (["--save", "a.mp4", "--resume", "--output", "b"], 1, "--save is for one video: name a single file or URL"),
        (
            ["--save", "a.mp4", "--window", "2", "-v", "clip.mp4", "other.mp4"],
            1,
            "--save is for one video: name a single",
        ),
        (
            ["--save", "a.png", "--window", "2"],
            2,
            "--save a.png is a picture of one answer for a whole video: save the",
        ),
        (
            ["--save", "a.JPG", "--window", "2"],
            2,
            "--save a.JPG is a picture of one answer for a whole video: save the",
        ),
    ],
)
def test_what_cannot_be_saved_is_refused_before_any_work(
    capsys: pytest.CaptureFixture[str], model: str, clip: str, arguments: list[str], code: int, message: str
) -> None:
    found, out, err = run(capsys, "-v", clip, "-m", model, *ASK, *arguments)
    assert (found, out) == (code, "")
    assert message in err.splitlines()[-1]
    assert "sheet" not in err.splitlines()[-1]
    assert files() == ["clip.mp4"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_refused_before_it_is_read(capsys: pytest.CaptureFixture[str], model: str, clip: str) -> None:
    os.mkfifo("pipe.mp4")
    for more in ([], ["--window", "2"]):
        code, out, err = run(capsys, "pipe.mp4", "-m", model, *ASK, "--save", "out.mp4", *more)
        assert (code, out) == (1, "")
        assert "pipe.mp4 is a pipe, which can be read only once; write what comes through it to a file" in err


def test_features_that_fail_do_not_keep_the_video_from_being_saved(
    capsys: pytest.CaptureFixture[str], model: str, clip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ActionClipError("cannot write a.npz: the disk is full")

    monkeypatch.setattr(FeatureTable, "save", fail)
    code, out, err = run(capsys, clip, "-m", model, *ASK, "--save", "out.mp4", "--features", "a.npz")
    assert (code, err) == (1, "action_clip: error: cannot write a.npz: the disk is full\n")
    assert "class_count = 3" in out
    assert files() == ["clip.mp4", "out.mp4"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no limit to the size of files here")
@pytest.mark.parametrize("more", [[], ["--window", "2"]])
def test_where_it_cannot_be_written_the_answer_is_there(
    capsys: pytest.CaptureFixture[str], model: str, clip: str, more: list[str]
) -> None:
    write_video(Path(clip), moving(60))
    _, expected, _ = run(capsys, clip, "-m", model, *ASK, *more)
    limit = "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000)); from action_clip import main; "
    command = [clip, "-m", model, *ASK, "--no-cache", "--save", "out.mp4", *more]
    done = subprocess.run(
        [sys.executable, "-c", f"{limit} sys.exit(main({command!r}))"],
        env=os.environ | {"PYTHONPATH": str(SCRIPT.parent)},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
    )
    assert done.returncode == 1
    assert done.stdout == expected
    assert done.stderr == "action_clip: error: cannot write out.mp4: File too large; name another file\n"
    assert files() == ["clip.mp4"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals are others there")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["interrupted", "terminated"])
def test_a_run_that_is_ended_leaves_the_answer_and_no_draft(model: str, clip: str, number: signal.Signals) -> None:
    pictures = [numbered(number, 640, 480) for number in range(4)]
    write_video(Path(clip), pictures * 30, options={"preset": "ultrafast"})
    command = [sys.executable, str(SCRIPT), clip, "-m", model, *ASK, "--no-cache", "--save", "out.gif"]
    with subprocess.Popen([*command, "--output", "answer"]) as process:
        while process.poll() is None and not (Path("answer").exists() and list(Path().glob(".*.tmp"))):
            time.sleep(0.005)
        assert process.poll() is None
        assert "class_count = 3" in Path("answer").read_text("utf-8")
        process.send_signal(number)
        process.wait(timeout=60)
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    assert files() == ["answer", "clip.mp4"]


@pytest.mark.slow
def test_a_terminal_shows_how_many_frames_are_done(model: str, clip: str) -> None:
    command = [clip, "-m", model, *ASK, "--save", "out.mp4"]
    code, shown, _ = on_terminals(command, out_too=False)
    assert code == 0
    assert "/40 [" in shown
    assert not any("frame" in line for line in screen(shown))
    code, shown, _ = on_terminals([*command, "--quiet"], out_too=False)
    assert (code, shown) == (0, "")
