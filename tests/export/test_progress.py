"""An export says on stderr what it is doing, and that it still does where that takes long."""

import io
import logging
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from checkpoint_files import SIZES
from fault_server import wait_until
from random_checkpoints import openai_state
from random_timesformer import original_state
from tqdm import tqdm

from action_clip.export.progress import ProgressHandler

ROOT = Path(__file__).parents[2]


class Recorder(io.StringIO):
    """A stream in memory, whose lines others look at while it is written."""

    def lines(self) -> list[str]:
        return self.getvalue().splitlines()


@pytest.fixture
def log() -> logging.Logger:
    return logging.Logger("test")


def test_information_has_the_seconds_before_it_and_nothing_else_has(log: logging.Logger) -> None:
    stream = Recorder()
    with ProgressHandler(stream) as handler:
        log.addHandler(handler)
        log.info("reading %s, %.1f MB", "a\x1b[2Jb.pt", 3.25)
        log.warning("graph  rows\ntext   64")
    lines = stream.lines()
    assert re.fullmatch(r" +\d+\.\d s  reading a\\x1b\[2Jb\.pt, 3\.2 MB", lines[0])
    assert lines[1:] == ["graph  rows", "text   64"]


def test_what_takes_long_is_said_again(log: logging.Logger) -> None:
    stream = Recorder()
    with ProgressHandler(stream, silence_s=0.05) as handler:
        log.addHandler(handler)
        log.info("exporting the image graph")
        wait_until(lambda: sum("still exporting the image graph" in line for line in stream.lines()) > 1)
        log.info("comparing")
        wait_until(lambda: "still comparing" in stream.lines()[-1])
    assert all(re.match(r" +\d+\.\d s  ", line) for line in stream.lines())
    assert stream.getvalue().endswith("\n")
    assert "progress" not in [thread.name for thread in threading.enumerate()]
    said = stream.getvalue()
    log.info("after all")
    assert stream.getvalue().startswith(said)


def test_nothing_is_said_again_while_other_things_are_said(log: logging.Logger) -> None:
    stream = Recorder()
    with ProgressHandler(stream, silence_s=3600) as handler:
        log.addHandler(handler)
        for number in range(100):
            log.info("step %d", number)
    assert [line.rpartition("  ")[2] for line in stream.lines()] == [f"step {number}" for number in range(100)]


def test_a_bar_is_not_torn(log: logging.Logger) -> None:
    stream = Recorder()
    with ProgressHandler(stream) as handler, tqdm(total=2, desc="measuring", file=stream) as bar:
        log.addHandler(handler)
        bar.update()
        log.info("exporting")
        bar.update()
    assert re.search(r"[\r\n] +\d+\.\d s  exporting\n", stream.getvalue())


def test_somebody_who_does_not_listen_any_more_stops_nothing(log: logging.Logger) -> None:
    stream = Recorder()
    with ProgressHandler(stream, silence_s=0.01) as handler:
        log.addHandler(handler)
        stream.close()
        log.info("exporting")


@pytest.mark.slow
def test_the_command_says_each_step(tmp_path: Path) -> None:
    checkpoint = tmp_path / "clip.pt"
    torch.save({"model_state_dict": openai_state(SIZES), "fusion_model_state_dict": {}}, checkpoint)
    done = subprocess.run(
        [sys.executable, "-m", "export", str(checkpoint), "--out", str(tmp_path / "out"), "--precision", "fp16"],
        cwd=ROOT, capture_output=True, text=True, encoding="utf-8", timeout=550,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert all(re.match(r" +\d+\.\d s  ", line) for line in lines)
    seconds = [float(line.split()[0]) for line in lines]
    assert seconds == sorted(seconds)
    said = [line.split(" s  ", 1)[1] for line in lines]
    said = [text for text in said if not text.startswith("still ")]
    size = checkpoint.stat().st_size / 1e6
    graphs = [
        step
        for role in ("text", "image", "fusion")
        for step in (
            rf"exporting the {role} graph, [\d,]+ weights",
            rf"turning the {role} graph, \d+\.\d MB, into fp16",
            rf"checking and writing the {role} graph, \d+\.\d MB",
        )
    ]
    steps = [
        "loading PyTorch",
        rf"reading .*clip\.pt, {size:.1f} MB, and building its networks",
        r".*clip\.pt: ActionCLIP, 8 frames of 32×32 pixels, meanP, quickgelu",
        "running PyTorch's networks on the sample's frames",
        *graphs,
        "counting the nodes that onnxruntime runs",
        *(f"comparing the {role} graph with PyTorch" for role in ("text", "image", "fusion")),
    ]
    assert len(said) == len(steps)
    for text, step in zip(said, steps, strict=True):
        assert re.fullmatch(step, text)
    # What is printed for others to read is what it was: tables and how to go on.
    assert done.stdout.startswith("nodes ")
    assert done.stdout.endswith(f"wrote {tmp_path / 'out'}: action-clip --model {tmp_path / 'out'} --video …\n")
    assert " s  " not in done.stdout


@pytest.mark.slow
def test_an_error_is_the_last_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "export", str(tmp_path / "none.pt"), "--out", str(tmp_path / "out")],
        cwd=ROOT, capture_output=True, text=True, encoding="utf-8", timeout=550,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1].startswith(f"there is no checkpoint {tmp_path / 'none.pt'}: ")
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no shell of this kind")
def test_an_export_without_stderr(tmp_path: Path) -> None:
    torch.save({"model_state": original_state("joint_space_time")}, tmp_path / "video.pyth")
    command = f'"{sys.executable}" -m export timesformer "{tmp_path}/video.pyth" --out "{tmp_path}/out" 2>&-'
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", timeout=550)
    assert done.returncode == 0
    assert done.stdout.startswith("nodes ")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["video.onnx"]


def test_nothing_is_said_where_nothing_was_logged() -> None:
    """As in a program that has handlers of its own."""
    stream, passed = Recorder(), threading.Event()
    with ProgressHandler(stream, silence_s=0.01):
        passed.wait(0.2)
    assert stream.getvalue() == ""
