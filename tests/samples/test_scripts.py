"""The batch scripts, with a stand-in for Python that answers for action_clip.py."""

import ast
import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_sample import ACTION

from action_clip.system.terminal import printable

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="the scripts need bash")

# Called as PYTHON action_clip.py OPTION...; notes its arguments, fails for videos with "broken" in the name.
STAND_IN = """#!{python}
import csv, pathlib, sys
program, *options = sys.argv[1:]
if options == ["--version"]:
    sys.exit()
video = next(option for option in options if option.startswith("--video=")).removeprefix("--video=")
with open({notes!r}, "a", encoding="utf-8") as notes:
    print(repr([program, *options]), file=notes)
if sys.stdin.read():
    sys.exit("read what was meant for the script")
if "broken" in video:
    print("Cannot read", ascii(video), file=sys.stderr)
    sys.exit(1)
table = csv.writer(sys.stdout, lineterminator="\\n")
table.writerow(["video", "rank", "index", "label", "probability"])
table.writerow([video, 1, 0, "walking, slowly", 0.75])
"""


class Scripts:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notes = folder / "notes"
        self.stand_in = folder / "stand in"
        self.stand_in.write_text(STAND_IN.format(python=sys.executable, notes=str(self.notes)))
        self.stand_in.chmod(0o755)

    def run(self, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", str(ROOT / "samples" / script), *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHON": str(self.stand_in)},
            input="not for the program\n",
            capture_output=True,
            text=True,
            check=False,
        )

    def calls(self) -> list[list[str]]:
        lines = self.notes.read_text(encoding="utf-8").splitlines() if self.notes.exists() else []
        return [ast.literal_eval(line) for line in lines]

    def table(self, name: str = "out.csv") -> list[list[str]]:
        with (self.folder / name).open(newline="", encoding="utf-8") as file:
            return list(csv.reader(file))


@pytest.fixture
def scripts(tmp_path: Path) -> Scripts:
    return Scripts(tmp_path)


HEADER = ["video", "rank", "index", "label", "probability"]


def answered(video: str) -> list[str]:
    return [video, "1", "0", "walking, slowly", "0.75"]


def failed(video: str) -> list[str]:
    return [video, "", "", "", ""]


def test_a_folder_gives_one_row_a_video_and_stops_for_nothing(scripts: Scripts) -> None:
    folder = scripts.folder / "-clips"
    (folder / "folder.mp4").mkdir(parents=True)
    odd = ["-dash.MP4", "a b.mp4", 'broken "1".mkv', "new\nline.gif", "z*.webm"]
    for name in [*odd, "notes.txt"]:
        (folder / name).touch()
    run = scripts.run("classify_folder.sh", "-clips", "out.csv")
    assert run.returncode == 1
    rows = scripts.table()
    assert rows[0] == HEADER
    expected = [answered(f"-clips/{name}") for name in odd if "broken" not in name]
    assert sorted(rows[1:]) == sorted([*expected, failed('-clips/broken "1".mkv')])
    assert 'Failed: -clips/broken "1".mkv' in run.stderr
    assert "5 videos, 1 failed: out.csv" in run.stderr
    assert run.stdout == ""
    assert not (scripts.folder / "out.csv.part").exists()


@pytest.mark.parametrize("locale", ["C.UTF-8", "C"])
def test_names_do_not_steer_the_terminal(scripts: Scripts, monkeypatch: pytest.MonkeyPatch, locale: str) -> None:
    monkeypatch.setenv("LC_ALL", locale)
    (scripts.folder / "clips").mkdir()
    for number, steering in enumerate(["\x1b[2J", "\x9b2J", "\u202e", "\u2066", "\u200f", "\r"]):
        (scripts.folder / "clips" / f"broken{steering}{number}.mp4").touch()
    run = scripts.run("classify_folder.sh", "clips", "out\x1b[2J.csv")
    assert run.returncode == 1
    assert run.stderr.count("Failed: $'clips/broken\\") == 6
    assert printable(run.stderr, lines=True) == run.stderr
    for name in ("classify_folder.sh", "label_file.sh"):
        wrong = scripts.run(name, "a\u202eb", "out.csv", "c")
        assert wrong.returncode == 2
        assert "$'a\\342\\200\\256b'" in wrong.stderr


@pytest.mark.parametrize("taken", ["labels.txt", "one.mp4", "link.csv"])
def test_nothing_that_is_read_is_written_over(scripts: Scripts, taken: str) -> None:
    for name in ("labels.txt", "one.mp4"):
        (scripts.folder / name).write_text("kept")
    (scripts.folder / "link.csv").symlink_to("labels.txt")
    (scripts.folder / "out.csv.part").symlink_to("one.mp4")
    for out in (taken, "out.csv"):
        run = scripts.run("label_file.sh", "labels.txt", out, "one.mp4", "--", "--model", "nano")
        assert run.returncode == 2
        assert "would be overwritten, and is one of the files to read: name another OUT.csv.\n" in run.stderr
    run = scripts.run("classify_folder.sh", ".", taken, "--desc_file=labels.txt")
    assert run.returncode == 2
    assert [(scripts.folder / name).read_text() for name in ("labels.txt", "one.mp4")] == ["kept", "kept"]


def test_a_folder_without_failures_exits_0_and_passes_options_on(scripts: Scripts) -> None:
    (scripts.folder / "clips").mkdir()
    (scripts.folder / "clips" / "one.mp4").touch()
    run = scripts.run("classify_folder.sh", "clips", "out.csv", "--model", "nano", "--text", "two words")
    assert run.returncode == 0, run.stderr
    assert scripts.table() == [HEADER, answered("clips/one.mp4")]
    program, *options = scripts.calls()[0]
    assert program == str(ROOT / "action_clip.py")
    assert options == [
        *("--model", "nano", "--text", "two words"),
        *("--format", "csv", "--top-k", "1", "--video=clips/one.mp4"),
    ]


def test_a_label_file_and_videos_in_the_order_given(scripts: Scripts) -> None:
    labels = scripts.folder / "my labels.txt"
    labels.write_text("walking\nrunning\n")
    run = scripts.run(
        "label_file.sh", "my labels.txt", "out.csv", "b.mp4", "broken.mp4", "a c.mp4", "--", "--seed", "1"
    )
    assert run.returncode == 1
    assert scripts.table() == [HEADER, answered("b.mp4"), failed("broken.mp4"), answered("a c.mp4")]
    assert scripts.calls()[0][1:4] == ["--seed", "1", "--desc_file=my labels.txt"]
    scripts.notes.unlink()
    assert scripts.run("label_file.sh", "my labels.txt", "out.csv", "b.mp4").returncode == 0
    assert scripts.calls()[0][1:2] == ["--desc_file=my labels.txt"]


@pytest.mark.parametrize("script", ["classify_folder.sh", "label_file.sh"])
def test_help_is_on_stdout_and_wrong_use_exits_2(script: str, scripts: Scripts) -> None:
    shown = scripts.run(script, "--help")
    assert shown.returncode == 0
    assert shown.stdout.startswith(f"Usage: {script} ")
    wrong = scripts.run(script, "one")
    assert wrong.returncode == 2
    assert wrong.stderr == shown.stdout
    assert scripts.run(script, "absent", "out.csv", "a.mp4").returncode == 2
    assert scripts.calls() == []


def test_a_folder_without_videos_exits_1(scripts: Scripts) -> None:
    (scripts.folder / "empty").mkdir()
    run = scripts.run("classify_folder.sh", "empty", "out.csv")
    assert (run.returncode, run.stderr) == (1, "There is no video in empty.\n")


def test_a_table_that_cannot_be_written_stops_before_the_work(scripts: Scripts) -> None:
    (scripts.folder / "labels.txt").write_text("walking\n")
    for out in (".", "absent/out.csv"):
        run = scripts.run("label_file.sh", "labels.txt", out, "a.mp4")
        assert run.returncode == 1
        assert run.stderr == f"Cannot write {out}: name a file in a folder that exists.\n"
    assert scripts.calls() == []


@pytest.mark.parametrize("code", [None, "import packages_of_another_environment"])
def test_an_interpreter_that_cannot_run_the_program_stops_before_the_work(scripts: Scripts, code: str | None) -> None:
    (scripts.folder / "labels.txt").write_text("walking\n")
    scripts.stand_in.unlink()
    if code:
        scripts.stand_in.write_text(f"#!{sys.executable}\n{code}\n")
        scripts.stand_in.chmod(0o755)
    run = scripts.run("label_file.sh", "labels.txt", "out.csv", "a.mp4", "b.mp4")
    reason = "No module named 'packages_of_another_environment'" if code else "No such file or directory"
    assert run.returncode == 1
    assert re.fullmatch(
        rf".*/stand in cannot run action_clip\.py \(.*{reason}\): run 'make sample' once, .*\n", run.stderr
    )
    assert not (scripts.folder / "out.csv").exists()


@pytest.mark.parametrize("environment", ["bin/python", "Scripts/python.exe"])
@pytest.mark.parametrize("script", ["classify_folder.sh", "label_file.sh"])
def test_the_interpreter_is_that_of_an_environment(tmp_path: Path, script: str, environment: str) -> None:
    """The scripts as they are typed after `make sample`, in a checkout that loses one interpreter after the other."""
    samples = shutil.copytree(ROOT / "samples", tmp_path / "checkout" / "samples")
    named, active, made, any_other = places = [
        *(tmp_path / "named", tmp_path / "active" / environment, tmp_path / "checkout" / ".venv" / environment),
        tmp_path / "path" / "python3",
    ]
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(STAND_IN.format(python=sys.executable, notes=f"{place}.notes"))
        place.chmod(0o755)
    variables = {name: value for name, value in os.environ.items() if name not in ("PYTHON", "VIRTUAL_ENV")}
    variables["PATH"] = f"{any_other.parent}{os.pathsep}{os.environ['PATH']}"

    def used(**more: str) -> Path:
        arguments = (
            ["samples", "out.csv"] if script == "classify_folder.sh" else ["samples/labels.txt", "out.csv", "a.mp4"]
        )
        command = ["bash", str(samples / script), *arguments]
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


def test_an_output_of_its_own_is_refused(scripts: Scripts) -> None:
    (scripts.folder / "labels.txt").write_text("walking\n")
    run = scripts.run("label_file.sh", "labels.txt", "out.csv", "a.mp4", "--", "--output=x.csv")
    assert run.returncode == 2
    assert run.stderr == "--output is not for action_clip.py here: the answers go to out.csv.\n"
    assert scripts.calls() == []


def test_with_the_real_program(tmp_path: Path) -> None:
    shutil.copy(ROOT / "samples" / "sample.gif", tmp_path / "a sample.gif")
    (tmp_path / "broken.mp4").write_bytes(b"not a video")

    def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHON": sys.executable}
        command = ["bash", str(ROOT / "samples" / script), *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    labels = str(ROOT / "samples" / "labels.txt")
    folder = run("classify_folder.sh", ".", "folder.csv", "--model", "nano", "--desc_file", labels)
    files = run("label_file.sh", labels, "files.csv", "a sample.gif", "--", "--model", "nano")

    assert folder.returncode == 1
    assert "broken.mp4 cannot be read as a video" in folder.stderr
    assert files.returncode == 0, files.stderr
    with (tmp_path / "folder.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["video"]: row for row in csv.DictReader(file)}
    with (tmp_path / "files.csv").open(newline="", encoding="utf-8") as file:
        answer = next(csv.DictReader(file))
    assert rows["./broken.mp4"]["label"] == ""
    assert rows["./a sample.gif"]["label"] == answer["label"] == ACTION
    assert float(answer["probability"]) > 0.3
