"""Ctrl-C ends the command within a second with 130 and without a traceback, wherever it is."""

import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO

import onnx
import pytest
from onnx import parser

from action_clip.system import interrupts

ROOT = Path(__file__).parents[2]
# What the machine may be late by; what is interrupted here would take minutes.
PATIENCE_S = 20.0

pytestmark = pytest.mark.skipif(os.name == "nt", reason="no signals of this kind")


def started(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(text: str, stream: IO[str] | None) -> None:
    assert stream is not None
    for line in stream:
        if text in line:
            return
    raise AssertionError(f"never said {text!r}")


def interrupted(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What the process still prints after Ctrl-C, having ended with 130."""
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    return out, err


@pytest.mark.parametrize(
    ("command", "package"),
    [(["action_clip.py", "--model", "nano"], "numpy"), (["-m", "export", "x.pt", "--out", "x"], "torch")],
)
def test_ctrl_c_during_imports(command: list[str], package: str) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"no {package} here")
    # Python prints a line as each import ends, those within a package before the package itself.
    with started("-X", "importtime", *command) as process:
        wait_for(f" {package}.", process.stderr)
        _, err = interrupted(process)
    assert {line.split()[0] for line in err.splitlines()} <= {"import"}


def test_ctrl_c_during_python_code(tmp_path: Path) -> None:
    code = (
        "import time; from action_clip.system import interrupts; from pathlib import Path\n"
        "from action_clip.system.files import draft\n"
        "def main():\n"
        f"    with draft(Path({str(tmp_path / 'draft')!r})) as path:\n"
        "        path.write_text('x')\n"
        "        print('ready', flush=True)\n"
        "        time.sleep(600)\n"
        "interrupts.run(main)\n"
    )
    with started("-c", code) as process:
        wait_for("ready", process.stdout)
        assert os.listdir(tmp_path) == ["draft"]
        assert interrupted(process) == ("", "")
    assert os.listdir(tmp_path) == []


def test_ctrl_c_while_a_graph_runs(tmp_path: Path) -> None:
    text = """endless (float x) => (float y) {
        n = Constant<value_int = 1000000000000>()
        y = Loop(n, , x)<body = one (int64 i, bool go, float a) => (bool on, float b) { on = Identity(go) b = Sin(a) }>
    }"""
    model = onnx.helper.make_model(
        parser.parse_graph(text), opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9
    )
    onnx.save(model, tmp_path / "endless.onnx")
    code = (
        "import numpy, onnxruntime; from action_clip.system import interrupts; from pathlib import Path\n"
        "from action_clip.system.files import draft\n"
        f"session = onnxruntime.InferenceSession({str(tmp_path / 'endless.onnx')!r})\n"
        "def main():\n"
        f"    with draft(Path({str(tmp_path / 'draft')!r})) as path:\n"
        "        path.write_text('x')\n"
        "        print('ready', flush=True)\n"
        "        session.run(None, {'x': numpy.array(1, 'f')})\n"
        "interrupts.run(main)\n"
    )
    with started("-c", code) as process:
        wait_for("ready", process.stdout)
        time.sleep(0.2)  # by then it is mostly in the graph; what is asserted holds before it too
        assert interrupted(process) == ("", "")
    assert os.listdir(tmp_path) == ["endless.onnx"]


def test_ctrl_c_during_a_callback_of_a_library() -> None:
    code = (
        "import ctypes, time\n"
        "from action_clip.system import interrupts\n"
        "def main():\n"
        "    print('ready', flush=True)\n"
        "    ctypes.CFUNCTYPE(None)(lambda: time.sleep(600))()  # what is raised there is only reported\n"
        "    time.sleep(600)\n"
        "interrupts.run(main)\n"
    )
    with started("-c", code) as process:
        wait_for("ready", process.stdout)
        assert interrupted(process) == ("", "")


def test_ctrl_c_more_than_once() -> None:
    code = (
        "import time; from action_clip.system import interrupts\n"
        "def main():\n"
        "    try:\n"
        "        print('ready', flush=True)\n"
        "        time.sleep(600)\n"
        "    finally:\n"
        "        print('cleaning', flush=True)\n"
        "        time.sleep(600)\n"
        "interrupts.run(main)\n"
    )
    with started("-c", code) as process:
        wait_for("ready", process.stdout)
        process.send_signal(signal.SIGINT)
        wait_for("cleaning", process.stdout)
        assert interrupted(process) == ("", "")


def test_the_codes_of_a_command_are_passed_on() -> None:
    for code in (0, 1, 130):
        run = f"from action_clip.system import interrupts; interrupts.run(lambda: {code})"
        assert subprocess.run([sys.executable, "-c", run], cwd=ROOT, check=False).returncode == code


@pytest.mark.parametrize("has_begun", [False, True])
def test_while_a_thread_is_being_started_its_work_is_not_waited_for_when_python_ends(
    monkeypatch: pytest.MonkeyPatch, has_begun: bool
) -> None:
    start, done = threading.Thread.start, threading.Event()

    def interrupted_start(thread: threading.Thread) -> None:
        if has_begun:
            start(thread)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted_start)
        stop = threading.Event()

        def work() -> None:
            stop.wait(PATIENCE_S)
            done.set()

        with pytest.raises(KeyboardInterrupt):
            interrupts.interruptible(work, stop)
    assert stop.is_set()
    assert done.wait(PATIENCE_S if has_begun else 0.1) == has_begun
    deadline = time.monotonic() + PATIENCE_S
    while interrupts._running and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not interrupts._running


@pytest.mark.slow
def test_ctrl_c_is_ignored_in_a_background_job() -> None:
    """As in a script that goes on in the background."""
    ignoring = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); os.execv(sys.executable, sys.argv[1:])"
    )
    with started("-c", ignoring, sys.executable, "-X", "importtime", "action_clip.py", "--model", "nano") as process:
        assert process.stderr is not None
        expected = {" numpy.", " av.", " onnxruntime."}  # two of them are imported at once
        while expected:
            line = process.stderr.readline()
            assert line, f"{expected} were never imported"
            if begun := {package for package in expected if package in line}:
                process.send_signal(signal.SIGINT)
                expected -= begun
        out, _ = process.communicate(timeout=10 * PATIENCE_S)
        assert process.returncode == 0
    assert out.endswith("Script finished successfully.\n")


ENDING = """
import sys, threading
from action_clip.system import interrupts
def main():
    stop = threading.Event()
    with interrupts.ending_in_order(stop.set):
        print("ready", flush=True)
        while not stop.wait(0.05):
            pass
        if "hangs" in sys.argv:
            print("stops", flush=True)
            while True:
                stop.wait(0.05)
        if "lingers" in sys.argv:
            threading.Event().wait(2.5)
        print("stopped", flush=True)
    if "again" in sys.argv:
        print("again", flush=True)
        while True:
            threading.Event().wait(0.05)
    return 0
interrupts.run(main)
"""


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_what_ends_in_order_ends_with_the_code_of_the_command(kind: signal.Signals) -> None:
    with started("-c", ENDING) as process:
        wait_for("ready", process.stdout)
        process.send_signal(kind)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out, err) == (0, "stopped\n", "")


@pytest.mark.slow
def test_what_ends_in_order_has_its_time() -> None:
    """More than what other work has after Ctrl-C."""
    with started("-c", ENDING, "lingers") as process:
        wait_for("ready", process.stdout)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out, err) == (0, "stopped\n", "")


def test_a_thread_that_waits_in_a_library_does_not_hold_up_the_end() -> None:
    code = """
import threading
from action_clip.system import interrupts
def main():
    interrupts.start_unawaited(threading.Thread(target=threading.Event().wait))
    print("said", end="")
    return 1
interrupts.run(main)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S)
    assert (done.returncode, done.stdout, done.stderr) == (1, "said", "")


def test_a_second_ctrl_c_ends_what_does_not_end_in_order() -> None:
    with started("-c", ENDING, "hangs") as process:
        wait_for("ready", process.stdout)
        process.send_signal(signal.SIGINT)
        wait_for("stops", process.stdout)
        assert interrupted(process) == ("", "")


def test_after_what_ended_in_order_ctrl_c_is_as_before() -> None:
    with started("-c", ENDING, "again") as process:
        wait_for("ready", process.stdout)
        process.send_signal(signal.SIGTERM)
        wait_for("again", process.stdout)
        assert interrupted(process) == ("", "")
