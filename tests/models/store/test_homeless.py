"""Nowhere to keep anything: the answer is the same, and one note says which variable helps."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from stand_in import without_notice

from action_clip import main
from action_clip.models.cache.feature_memory import MEMORY
from action_clip.models.store.home import LABEL_BANK

ROOT = Path(__file__).parents[3]
# What a container does whose user id is in no list of users.
NAMELESS = """
import pwd, sys
def getpwuid(number): raise KeyError(number)
pwd.getpwuid = getpwuid
sys.path.insert(0, sys.argv.pop(1))
from action_clip import main
sys.exit(main(sys.argv[1:]))
"""
NO_HOME = "this user has no home folder to keep anything in: set ACTION_CLIP_HOME to a folder\n"
NANO = ("--model", "nano", "--text", "eating", "--text", "drinking")


@pytest.fixture
def answer(capsys: pytest.CaptureFixture[str]) -> str:
    assert main(NANO) == 0
    return capsys.readouterr().out


def nameless(folder: Path, *arguments: str, **environment: str) -> tuple[int, str, str]:
    """Exit code, output and errors of the command."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH") if name in os.environ}
    command = [sys.executable, "-c", NAMELESS, str(ROOT), *arguments]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**kept, "ORT_DISABLE_TELEMETRY": "1", **environment},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    assert os.listdir(folder) == []
    return done.returncode, done.stdout, without_notice(done.stderr)


posix = pytest.mark.skipif(os.name == "nt", reason="there, every user has a home")


@pytest.mark.slow
@posix
@pytest.mark.parametrize("environment", [{}, {"HOME": ""}])
def test_a_user_without_name_and_home(tmp_path: Path, answer: str, environment: dict[str, str]) -> None:
    note = f"action_clip: nothing is kept between runs: {NO_HOME}"
    assert nameless(tmp_path, *NANO, **environment) == (0, answer, note)
    assert nameless(tmp_path, *NANO, "--no-cache", **environment) == (0, answer, "")


@posix
def test_what_a_user_without_home_cannot_have(tmp_path: Path) -> None:
    assert nameless(tmp_path, "--model", "vit-32-8f") == (1, "", f"action_clip: error: {NO_HOME}")
    assert nameless(tmp_path, "--model", "vit-32-8f", "--verify") == (1, "", f"action_clip: error: {NO_HOME}")
    code, out, err = nameless(tmp_path, "--list-models")
    assert (code, err) == (0, "")
    assert "vit-32-8f" in out


@pytest.mark.slow
@posix
def test_a_home_is_enough(tmp_path: Path, answer: str) -> None:
    home, folder = tmp_path / "home", tmp_path / "folder"
    home.mkdir()
    folder.mkdir()
    assert nameless(folder, *NANO, HOME=str(home)) == (0, answer, "")
    assert nameless(folder, *NANO, ACTION_CLIP_HOME=str(home / "kept")) == (0, answer, "")
    assert (home / "kept" / LABEL_BANK).exists()


@pytest.mark.parametrize("place", ["a file", "a file/below"])
def test_a_home_that_cannot_be_written(
    tmp_path: Path, answer: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (tmp_path / "a file").write_bytes(b"of the user")
    monkeypatch.setenv("ACTION_CLIP_HOME", str(tmp_path / place))
    MEMORY.clear()
    assert main(NANO) == 0
    out, err = capsys.readouterr()
    assert out == answer
    assert without_notice(err).count("\n") == 1
    assert "labels are encoded anew in every run" in err
    assert "ACTION_CLIP_HOME names another folder" in err
    assert (tmp_path / "a file").read_bytes() == b"of the user"
