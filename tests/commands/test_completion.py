"""What a shell gets to know: the code that it evaluates, and the words that fit."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from in_process import run

from action_clip import main
from action_clip.command import SUBCOMMANDS

ROOT = Path(__file__).parents[2]


def completions(line: str, folder: Path) -> list[str]:
    """What argcomplete proposes for the last word of the line, as a shell asks for it."""
    pytest.importorskip("argcomplete")
    environment = {
        **os.environ,
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(folder / "completions"),
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
    }
    command = [sys.executable, str(ROOT / "action_clip.py")]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return (folder / "completions").read_text().split("\n")


def test_options_and_their_values(tmp_path: Path) -> None:
    assert [word.strip() for word in completions("action-clip --desc", tmp_path)] == ["--desc_file"]
    assert completions("action-clip --format ", tmp_path) == ["text", "json", "csv", "srt", "vtt"]
    assert [word.strip() for word in completions("action-clip --model na", tmp_path)] == ["nano"]


def test_videos_and_subcommands(tmp_path: Path) -> None:
    (tmp_path / "exported.mp4").touch()
    assert set(completions("action-clip ex", tmp_path)) == {"export", "exported.mp4"}
    assert [word.strip() for word in completions("action-clip --video exp", tmp_path)] == ["exported.mp4"]


def test_the_options_of_a_subcommand(tmp_path: Path) -> None:
    words = completions("action-clip export --", tmp_path)
    assert "--precision" in words
    assert "--desc_file" not in words
    assert completions("action-clip export --precision ", tmp_path) == ["fp32", "fp16", "int8"]
    (tmp_path / "vit.pt").touch()
    assert set(completions("action-clip export vit-b-16-", tmp_path)) == {"vit-b-16-8f", "vit-b-16-16f", "vit-b-16-32f"}
    assert [word.strip() for word in completions("action-clip export vit.", tmp_path)] == ["vit.pt"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_code_is_of_the_shell(capsys: pytest.CaptureFixture[str], shell: str) -> None:
    pytest.importorskip("argcomplete")
    assert main(["--completion", shell]) == 0
    code = capsys.readouterr().out
    assert {"bash": "complete -o", "zsh": "#compdef action-clip", "fish": "complete --command action-clip"}[
        shell
    ] in code


def test_a_missing_package_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "argcomplete.shell_integration", None)
    assert main(["--completion", "bash"]) == 1
    assert capsys.readouterr() == (
        "",
        "action_clip: error: completion needs argcomplete, the package of the extra [completion]: "
        "pip install argcomplete\n",
    )


def test_a_shell_that_asks_in_vain_starts_nothing(tmp_path: Path) -> None:
    (tmp_path / "argcomplete.py").write_text("raise ImportError")
    done = subprocess.run(
        [sys.executable, str(ROOT / "action_clip.py")],
        env={
            **os.environ,
            "_ARGCOMPLETE": "1",
            "COMP_LINE": "action-clip ",
            "COMP_POINT": "12",
            "PYTHONPATH": str(tmp_path),
        },
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")


def test_the_help_names_every_subcommand(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert [name for name in SUBCOMMANDS if f"`{name}`" not in out and f"`action-clip {name}`" not in out] == []
