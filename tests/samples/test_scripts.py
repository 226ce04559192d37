"""The batch scripts: what they ask of the command, with a stand-in for Python, and what comes of it."""

import csv
import os
import shutil
import subprocess
import sys
from ast import literal_eval
from pathlib import Path

import pytest
from test_sample import ACTION

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="the scripts need bash")

SCRIPTS = pytest.mark.parametrize("script", ["classify_folder.sh", "label_file.sh"])
# Called as PYTHON action_clip.py OPTION...; writes down its arguments.
STAND_IN = """#!{python}
import sys
with open({notes!r}, "w", encoding="utf-8") as notes:
    print(repr(sys.argv[1:]), file=notes)
sys.exit({code})
"""


def run(script: str, *arguments: str, cwd: Path, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(ROOT / "samples" / script), *arguments]
    environment = {**os.environ, "PYTHON": python}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("code", [0, 1])
@pytest.mark.parametrize(
    ("script", "arguments", "expected"),
    [
        (
            "classify_folder.sh",
            ["-my clips", "a b.csv", "--model", "nano", "--text", "two words"],
            ["--output=a b.csv", "--video=-my clips", "--model", "nano", "--text", "two words"],
        ),
        (
            "label_file.sh",
            ["my labels.txt", "-o.csv", "b.mp4", "a c.mp4", "--seed", "1"],
            ["--output=-o.csv", "--desc_file=my labels.txt", "b.mp4", "a c.mp4", "--seed", "1"],
        ),
    ],
)
def test_a_script_is_one_call_of_the_command(
    tmp_path: Path, script: str, arguments: list[str], expected: list[str], code: int
) -> None:
    stand_in = tmp_path / "stand in"
    stand_in.write_text(STAND_IN.format(python=sys.executable, notes=str(tmp_path / "notes"), code=code))
    stand_in.chmod(0o755)
    done = run(script, *arguments, cwd=tmp_path, python=str(stand_in))
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")
    program, *options = literal_eval((tmp_path / "notes").read_text("utf-8"))
    assert program == str(ROOT / "action_clip.py")
    assert options == ["--format", "csv", "--top-k", "1", *expected]


@SCRIPTS
def test_help_is_on_stdout_and_wrong_use_exits_2(tmp_path: Path, script: str) -> None:
    shown = run(script, "--help", cwd=tmp_path, python="no python")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.startswith(f"Usage: {script} ")
    assert shown.stdout.endswith("or python3.\n")
    for arguments in ([], ["one"]):
        wrong = run(script, *arguments, cwd=tmp_path, python="no python")
        assert (wrong.returncode, wrong.stdout, wrong.stderr) == (2, "", shown.stdout)


@pytest.mark.parametrize("environment", ["bin/python", "Scripts/python.exe"])
@SCRIPTS
def test_the_interpreter_is_that_of_an_environment(tmp_path: Path, script: str, environment: str) -> None:
    """The scripts as they are typed after `make sample`, in a checkout that loses one interpreter after the other."""
    samples = shutil.copytree(ROOT / "samples", tmp_path / "checkout" / "samples")
    named, active, made, any_other = places = [
        *(tmp_path / "named", tmp_path / "active" / environment, tmp_path / "checkout" / ".venv" / environment),
        tmp_path / "path" / "python3",
    ]
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(STAND_IN.format(python=sys.executable, notes=f"{place}.notes", code=0))
        place.chmod(0o755)
    variables = {name: value for name, value in os.environ.items() if name not in ("PYTHON", "VIRTUAL_ENV")}
    variables["PATH"] = f"{any_other.parent}{os.pathsep}{os.environ['PATH']}"

    def used(**more: str) -> Path:
        command = ["bash", str(samples / script), "samples", "out.csv", "a.mp4"]
        subprocess.run(command, cwd=samples.parent, env={**variables, **more}, check=True)
        [place] = [place for place in places if Path(f"{place}.notes").exists()]
        Path(f"{place}.notes").unlink()
        return place

    assert used(PYTHON=str(named), VIRTUAL_ENV=str(tmp_path / "active")) == named
    assert used(VIRTUAL_ENV=str(tmp_path / "active")) == active
    assert used() == made
    assert used(VIRTUAL_ENV="") == made
    made.unlink()
    assert used() == any_other


@pytest.mark.slow
def test_with_the_real_program(tmp_path: Path) -> None:
    (tmp_path / "clips" / "more").mkdir(parents=True)
    shutil.copy(ROOT / "samples" / "sample.gif", tmp_path / "clips" / "more" / "a sample.gif")
    (tmp_path / "clips" / "broken.mp4").write_bytes(b"not a video")
    labels = str(ROOT / "samples" / "labels.txt")
    folder = run("classify_folder.sh", "clips", "a.csv", "--model", "nano", "--desc_file", labels, cwd=tmp_path)
    files = run("label_file.sh", labels, "b.csv", "clips", "clips/more/a sample.gif", "--model", "nano", cwd=tmp_path)
    for done in (folder, files):
        assert done.returncode == 1
        assert "broken.mp4 cannot be read as a video" in done.stderr
        assert done.stderr.endswith("action_clip: 1 of 2 videos failed\n")
    tables = []
    for name in ("a.csv", "b.csv"):
        with (tmp_path / name).open(newline="", encoding="utf-8") as file:
            tables.append(list(csv.reader(file)))
    assert tables[0] == tables[1]
    header, broken, answer = tables[0]
    assert header == ["video", "rank", "index", "label", "probability"]
    assert broken == [os.path.join("clips", "broken.mp4"), "", "", "", ""]
    assert answer[:2] == [os.path.join("clips", "more", "a sample.gif"), "1"]
    assert answer[3] == ACTION
    assert float(answer[4]) > 0.3
