"""Nothing that a file, a label or a server wrote steers the terminal, or passes for a line of the program's own."""

import csv
import io
import json
import logging
import os
import re
import subprocess
import sys
import unicodedata
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from small_models import random_model, save_model
from terminals import new_terminal, shown_on

from action_clip import main
from action_clip.errors import ActionClipError
from action_clip.models.prediction import Prediction
from action_clip.output.writers import FORMATS, as_csv
from action_clip.system.terminal import ArgumentParser, LogFormatter, json_escaped, printable, sentence

ROOT = Path(__file__).parents[2]
# Clear the screen, the same in eight bits, override the writing direction, isolate, break the line in three ways.
STEERING = "\x1b[2J", "\x9b2J", "\u202e", "\u2066", "\r", "\n", "\u2028", "\x7f", "\x00", "\udc9b"
NAME = "a" + "".join(STEERING) + "b"


def is_safe(text: str) -> bool:
    """Whether a terminal shows the lines of the text and does nothing else."""
    return all(char == "\n" or (char.isprintable() or char in "\u200d") for char in text)


def prediction(label: str, video: str | None = NAME) -> Prediction:
    return Prediction(
        labels=(label,),
        probabilities=np.array([1.0]),
        similarities=np.array([0.3]),
        top_k=1,
        video_features=np.ones(2, np.float32),
        frame_indices=(0,),
        model="small",
        video=video,
        duration_s=1.0,
        frame_times_s=(0.0,),
        frames=np.zeros((1, 2, 2, 3), np.uint8),
        timings_s={},
    )


def test_what_steers_a_terminal_is_shown_as_an_escape() -> None:
    assert printable("\x1b[2J\x9b\u202e\u2066\r\n\u2028\x7f\x00\udc9b") == (
        r"\x1b[2J\x9b\u202e\u2066\r\n\u2028\x7f\x00\udc9b"
    )
    assert printable("a\nb\x1bc", lines=True) == "a\nb\\x1bc"


def test_words_of_any_language_and_emoji_are_left_alone() -> None:
    text = "läuft 跑步 يركض רץ 👨‍👩‍👧 ½ “x” \\n"
    assert printable(text) == text
    assert json_escaped(text) == text


def test_all_control_characters_of_unicode_are_escaped() -> None:
    writing_direction = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}
    marks = "\u061c\u200e\u200f"
    for char in map(chr, range(sys.maxunicode + 1)):
        steers = unicodedata.category(char) in ("Cc", "Zl", "Zp", "Cs") or char in marks
        steers |= unicodedata.bidirectional(char) in writing_direction
        assert (printable(char) != char) == steers, hex(ord(char))
        assert printable(char).isascii() or not steers


def test_the_text_of_an_answer_has_the_labels_on_their_lines() -> None:
    label = "eating]\n  prob = 1.0\n\x1b[2J"
    text = FORMATS["text"](prediction(label))
    assert is_safe(text)
    assert r"  category = 0 [eating]\n  prob = 1.0\n\x1b[2J]" in text.splitlines()
    assert text.count("prob = ") == 2
    assert len(text.splitlines()) == 7


def test_json_escapes_and_says_the_same() -> None:
    text = FORMATS["json"](prediction(NAME))
    assert is_safe(text)
    assert text.count("\n") == 1
    assert json.loads(text)["predictions"][0]["label"] == NAME
    assert json.loads(text)["video"] == NAME


def test_csv_is_data_and_formulas_are_quoted_for_spreadsheets_only() -> None:
    formulas = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "＝1", "a=1", "drinking"]
    for label in formulas:
        plain = list(csv.reader(io.StringIO(FORMATS["csv"](prediction(label, label)))))[1]
        quoted = list(csv.reader(io.StringIO(as_csv(prediction(label, label), for_spreadsheets=True))))[1]
        assert (plain[0], plain[3]) == (label, label)
        shown = label if label in ("a=1", "drinking") else f"'{label}"
        assert (quoted[0], quoted[3]) == (shown, shown)
        assert plain[1:3] == quoted[1:3] == ["1", "0"]


def test_the_log_keeps_names_within_their_line() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LogFormatter("action_clip: %(message)s"))
    log = logging.Logger("test")
    log.addHandler(handler)
    log.warning("%s: %d of %s\nand so on", NAME, 3, Path(NAME.replace("\0", "")))
    assert is_safe(stream.getvalue())
    assert stream.getvalue().count("\n") == 2
    assert r"\x1b[2J" in stream.getvalue()


LONG = "a" * 40_000 + "MIDDLE" + "b" * 40_000
# What each of these takes is said of it, as far as it can be read.
TAKES = [
    "--video",
    "--model",
    "--desc_file",
    "--prompts",
    "--classmap",
    "--output",
    "--save",
    "--device",
    "--top-k",
    "-t",
]


@pytest.mark.parametrize(
    "words", [LONG, "label " * 15_000, "http://127.0.0.1:1/" + LONG, "data:video/mp4;base64," + LONG]
)
@pytest.mark.parametrize("option", [*TAKES, "--format", "--unknown"])
def test_no_line_is_long_whatever_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = save_model(random_model(0, 8, transformer=False), tmp_path / "model", frames=8)
    model = [] if option == "--model" else ["--model", str(folder)]
    with suppress(SystemExit):
        assert main([*model, option, words]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert all(len(line) < 1000 for line in err.splitlines())
    assert "error: " in err.splitlines()[-1]
    assert "MIDDLE" not in err


def test_long_names_are_cut_in_the_middle_and_what_to_do_is_kept() -> None:
    shown = sentence(ActionClipError(f"the file {LONG} is missing; check its name"))
    assert re.fullmatch(r"the file a+…b+ is missing; check its name", shown)
    assert len(shown) < 400
    name = "/".join(["folder"] * 40)
    assert len(name) < 300
    assert sentence(ActionClipError(f"the file {name} is missing")) == f"the file {name} is missing"
    shown = sentence(ActionClipError(f"the labels {'eating, ' * 10_000}are too many; give fewer"))
    assert shown.startswith("the labels eating, eating, ")
    assert shown.endswith("eating, are too many; give fewer")
    assert len(shown) < 1000
    assert len(sentence(ActionClipError("\u202e" * 80_000))) < 1000


def test_wrong_arguments_are_shown_as_what_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        ArgumentParser(prog="x").parse_args([f"--{NAME}"])
    error = capsys.readouterr().err
    assert is_safe(error)
    assert r"unrecognized arguments: --a\x1b[2J" in error


@pytest.mark.parametrize(
    "options", [["--video", NAME], ["--desc_file", NAME], ["--model", NAME], ["--output", f"{NAME}/x"]]
)
@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_errors_are_safe(capsys: pytest.CaptureFixture[str], options: list[str], debug: list[str]) -> None:
    options = [option.replace("\0", "") for option in options]
    model = [] if "--model" in options else ["--model", "nano"]
    assert main([*model, *options, *debug]) == 1
    error = capsys.readouterr().err
    assert is_safe(error)
    assert r"\x1b[2J" in error
    assert error.count("\n") == 1 or debug


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="no terminals of this kind")
@pytest.mark.parametrize("kind", ["text", "json", "csv"])
def test_no_format_steers_a_terminal(tmp_path: Path, kind: str) -> None:
    model = save_model(random_model(1, 8, True), tmp_path / "model", frames=8)
    labels = tmp_path / "labels.txt"
    labels.write_text("a\x1b[2Jb\n\u202ec\nd\x9be\n", encoding="utf-8")
    ours, terminal = new_terminal()
    command = [sys.executable, "action_clip.py", "--model", str(model), "--desc_file", str(labels), "--format", kind]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal) as process:
        shown = shown_on(ours, terminal)
    assert process.returncode == 0
    text = shown.replace("\r\n", "\n")
    assert is_safe(text)
    assert "1b[2J" in text
    assert "202ec" in text


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [[f"--{name}", "http://ann:hidden@host/x"] for name in ("desc_file", "prompts", "model", "output", "save", "video")]
    + [["http://ann:hidden@host/x"], ["--video", " http://ann:hidden@host/x", "--debug"]],
)
def test_no_message_tells_a_password(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setenv("ACTION_CLIP_OFFLINE", "1")
    model = [] if "--model" in arguments else ["--model", "nano"]
    with suppress(SystemExit):
        assert main([*model, *arguments]) == 1
    error = capsys.readouterr().err
    assert error
    assert "hidden" not in error


def test_help_is_shown_where_not_every_letter_can_be() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "action_clip.py", "--help"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--spreadsheet" in done.stdout


@pytest.mark.skipif(os.name == "nt", reason="no shell of this kind")
@pytest.mark.parametrize(
    "arguments",
    ["action_clip.py --nosuch", "action_clip.py --model nano --video missing.mp4 --debug", "-m export --nosuch"],
)
def test_nothing_lands_on_stdout_where_stderr_is_closed(arguments: str) -> None:
    command = f'"{sys.executable}" {arguments} 2>&-'
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (1, 2)
    assert done.stdout == ""
