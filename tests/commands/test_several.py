"""The command with several videos: what it prints and writes for each, and what a video that fails leaves."""

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
from fault_server import FaultServer
from in_process import run
from PIL import Image
from small_models import random_closed_model, random_model, save_closed_model, save_model
from terminals import on_terminals, screen

from action_clip import ActionClip, TimeSformer
from action_clip.output.writers import FORMATS

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "action_clip.py"
LABELS = ["eating", "läuft"]
ASK = ["-t", "eating", "-t", "läuft"]
HEADER = ["video", "rank", "index", "label", "probability"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_model(random_model(1, 8, True), tmp_path_factory.mktemp("model"), frames=8))


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_closed_model(random_closed_model(1, frames=4), tmp_path_factory.mktemp("closed")))


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Three videos, the second of which is broken, in the folder "clips" of the working folder."""
    monkeypatch.chdir(tmp_path)
    Path("clips").mkdir()
    for number, name in enumerate(("a", "c")):
        write_gif(f"clips/{name}.gif", number)
    Path("clips/b.mp4").write_text("not a video")
    return [os.path.join("clips", name) for name in ("a.gif", "b.mp4", "c.gif")]


def write_gif(path: str, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 40, 40, 3), np.uint8)
    first, *rest = map(Image.fromarray, pixels)
    first.save(path, save_all=True, append_images=rest, duration=100, loop=0)


def single(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    code, out, _ = run(capsys, *arguments)
    assert code == 0
    return out


def rows(text: str) -> list[list[str]]:
    return list(csv.reader(text.splitlines()))


BROKEN = "clips/b.mp4 cannot be read as a video (Invalid data found when processing input); give a whole mp4, mkv, avi "
BROKEN = BROKEN.replace("/", os.sep) + "or gif file"
STDERR = f"action_clip: error: {BROKEN}\naction_clip: 1 of 3 videos failed\n"


def test_text_has_the_seeds_block_for_each_under_a_line_with_its_name(
    capsys: pytest.CaptureFixture[str], model: str, clips: list[str]
) -> None:
    code, out, err = run(capsys, "-m", model, *ASK, "clips")
    blocks = [single(capsys, "-m", model, *ASK, name) for name in (clips[0], clips[2])]
    assert (code, err) == (1, STDERR)
    assert out == (
        f"video = {clips[0]}\n{blocks[0]}video = {clips[1]}\nerror = {BROKEN}\nvideo = {clips[2]}\n{blocks[1]}"
    )


def test_csv_has_one_header_and_a_failed_video_its_name_alone(
    capsys: pytest.CaptureFixture[str], model: str, clips: list[str]
) -> None:
    code, out, err = run(capsys, "-m", model, *ASK, *reversed(clips), "--format", "csv", "--top-k", "1")
    answers = [rows(single(capsys, "-m", model, *ASK, name, "--format", "csv"))[1] for name in (clips[2], clips[0])]
    assert (code, err) == (1, STDERR)
    assert rows(out) == [HEADER, answers[0], [clips[1], "", "", "", ""], answers[1]]


def test_json_has_a_line_for_each(capsys: pytest.CaptureFixture[str], model: str, clips: list[str]) -> None:
    code, out, err = run(capsys, "-m", model, *ASK, "--video", os.path.join("clips", "*.*"), "--format", "json")
    answers = {answer["video"]: answer for answer in map(json.loads, out.splitlines())}
    assert (code, err) == (1, STDERR)
    assert sorted(answers) == clips
    assert answers[clips[1]] == {"video": clips[1], "error": BROKEN}
    for name in (clips[0], clips[2]):
        alone = json.loads(single(capsys, "-m", model, *ASK, name, "--format", "json"))
        assert answers[name].keys() == alone.keys()
        assert answers[name]["predictions"] == alone["predictions"]
        assert answers[name]["frames"] == alone["frames"]


@pytest.mark.parametrize("names", [["ONE"], ["ONE", "ONE"], ["./clips/../ONE"], ["one"], ["o*"], ["@list"], ["-"]])
def test_one_video_by_its_name_is_answered_alone_and_a_collection_with_one_as_several(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, model: str, clips: list[str], names: list[str]
) -> None:
    shutil.copytree("clips", "one", ignore=lambda *_: ["b.mp4", "c.gif"])
    Path("list").write_text("one/a.gif\n")
    if names == ["-"]:
        command = [sys.executable, str(SCRIPT), "-m", model, *ASK, "--video", "-"]
        done = subprocess.run(command, input=b"one/a.gif\0", capture_output=True, check=False)
        code, out, err = done.returncode, done.stdout.decode(), done.stderr.decode()
    else:
        code, out, err = run(capsys, "-m", model, *ASK, *(name.replace("ONE", "one/a.gif") for name in names))
    alone = FORMATS["text"](ActionClip(model).classify("one/a.gif", LABELS))
    assert (code, err) == (0, "")
    if len(names) == 1 and names[0].endswith("ONE"):
        assert out == alone
    else:
        assert out == f"video = {os.path.join('one', 'a.gif') if names[0][0] == 'o' else 'one/a.gif'}\n{alone}"


def test_a_closed_set_answers_for_several(capsys: pytest.CaptureFixture[str], closed: str, clips: list[str]) -> None:
    code, out, _ = run(capsys, "-m", closed, "clips", "--format", "csv", "--top-k", "1")
    best = [TimeSformer(closed, cache=False).classify(name).ranked[0] for name in (clips[0], clips[2])]
    assert code == 1
    assert [row[3] for row in rows(out)[1:]] == [best[0].label, "", best[1].label]


def test_missing_files_of_a_list_and_urls_fail_alone(
    capsys: pytest.CaptureFixture[str], model: str, clips: list[str]
) -> None:
    with FaultServer() as server:
        server.add("/clip.gif?token=secret", Path(clips[0]).read_bytes())
        names = [clips[0], "missing.mp4", f"{server.url}/clip.gif?token=secret", f"{server.url}/none.mp4", "clips"]
        Path("list.txt").write_text("\n".join(names))
        code, out, err = run(capsys, "-m", model, *ASK, "-v", "@list.txt", "--format", "csv", "--top-k", "1")
    shown = [names[0], names[1], f"{server.url}/clip.gif?token=***", names[3], names[4]]
    assert code == 1
    assert [row[0] for row in rows(out)[1:]] == shown
    assert [bool(row[3]) for row in rows(out)[1:]] == [True, False, True, False, False]
    errors = err.splitlines()
    assert errors[-1] == "action_clip: 3 of 5 videos failed"
    assert len(errors) == 4
    for name in (shown[1], shown[3], "clips is a folder, not a video"):
        assert sum(name in error for error in errors) == 1
    assert "secret" not in out + err


def test_nothing_found_is_an_error_before_a_model_is_needed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, clips: list[str]
) -> None:
    monkeypatch.setenv("ACTION_CLIP_OFFLINE", "1")
    Path("empty").mkdir()
    code, out, err = run(capsys, "empty", "--output", "answers.csv")
    assert (code, out) == (1, "")
    assert err.startswith("action_clip: error: there is no video in empty or below it: name a folder with files that ")
    assert err.count("\n") == 1
    assert sorted(os.listdir()) == ["clips", "empty"]


@pytest.mark.skipif(os.name == "nt", reason="file names are Unicode there")
@pytest.mark.parametrize("form", FORMATS)
def test_names_that_are_not_unicode_or_steer_a_terminal(
    capsys: pytest.CaptureFixture[str], model: str, clips: list[str], form: str
) -> None:
    names = [os.fsdecode(b"odd/\xff.gif"), "odd/\x1b[2J\n.gif", "odd/=1+1.gif"]
    Path("odd").mkdir()
    try:
        for name in names:
            shutil.copy(clips[0], name)
    except OSError:
        pytest.skip("this file system has other names only")
    Path("odd/\x1b[3J.mp4").touch()
    options = ["--format", form, "--output", "answers", "--spreadsheet"][: 5 if form == "csv" else 4]
    code, _, err = run(capsys, "-m", model, *ASK, *sorted(names), "odd", *options, "--top-k", "1")
    assert code == 1
    assert "\x1b" not in err
    text = Path("answers").read_text("utf-8")
    assert ("\x1b" in text) == (form == "csv")  # which shows names unchanged
    if form == "json":
        assert {json.loads(line)["video"] for line in text.splitlines()} == {*names, "odd/\x1b[3J.mp4"}
    if form == "csv":
        assert "odd/\\udcff.gif,1," in text
    assert run(capsys, "-m", model, *ASK, *names, *options, "--resume", "--top-k", "1")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--save", "sheet.png"], "--save is for one video: name a single file or URL"),
        (["--benchmark"], "--benchmark is for one video: name a single file or URL"),
        (["--features", "x.csv"], "cannot write features to x.csv: the name must end in .npz or .parquet"),
        (["--features", "no/x.npz"], "cannot write no/x.npz: there is no folder no"),
        (["--output", "clips/a.gif"], "--output names the same file as --video, clips/a.gif, and would overwrite it"),
        (["--output", "list"], "--output names the same file as --video, list, and would overwrite it"),
        (["--features", "x.npz", "--output", "x.npz"], "--features names the same file as --output, x.npz"),
        (["--output", "clips", "--resume"], "cannot write clips: it is a folder"),
        (["--output", "notes", "--resume"], "notes is not to be resumed: there is no notes.resume beside it"),
    ],
)
def test_wrong_targets_are_errors_before_anything_is_done(
    capsys: pytest.CaptureFixture[str], model: str, clips: list[str], arguments: list[str], message: str
) -> None:
    Path("list").write_text("clips/a.gif\n")
    Path("notes").write_text("mine")
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    code, out, err = run(capsys, "-m", model, *ASK, "-v", "clips", "-v", "@list", *arguments)
    assert (code, out) == (1, "")
    assert message in err
    assert err.count("\n") == 1
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


def test_resume_needs_an_output(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "clips", "--resume")
    assert code == 2
    assert "--resume goes on with the file that --output names: name it" in err


@pytest.mark.parametrize("form", FORMATS)
def test_an_output_is_gone_on_with(capsys: pytest.CaptureFixture[str], model: str, clips: list[str], form: str) -> None:
    command = ["-m", model, *ASK, "--output", "answers", "--resume", "--format", form]
    assert run(capsys, *command, clips[0])[0] == 0
    first = Path("answers").read_text("utf-8")
    code, out, err = run(capsys, *command, "clips")
    assert (code, out, err) == (1, "", STDERR)
    assert Path("answers").read_text("utf-8").startswith(first)
    shutil.copy(clips[2], clips[1])
    assert run(capsys, *command, "clips") == (0, "", "")
    answers = Path("answers").read_text("utf-8")
    assert answers.startswith(first)
    assert [answers.count(json.dumps(name)[1:-1] if form == "json" else name) for name in clips] == (
        [2, 2, 2] if form == "csv" else [1, 1, 1]
    )
    assert run(capsys, *command, "clips") == (0, "", "")
    assert Path("answers").read_text("utf-8") == answers


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (["-t", "more"], "was begun with other labels: give the same again"),
        (["--top-k", "1"], "was begun with --top-k 5, not 1"),
        (["--sampling", "random"], "was begun with --sampling uniform, not random"),
        (["--prompts", "prompts"], "was begun with other prompts"),
        (["--average", "embeddings"], "was begun with --average probabilities, not embeddings"),
        (["--format", "csv"], "was begun with --format text, not csv"),
    ],
)
def test_other_options_than_an_output_was_begun_with_are_an_error(
    capsys: pytest.CaptureFixture[str], model: str, clips: list[str], other: list[str], message: str
) -> None:
    command = ["-m", model, *ASK, "--output", "answers", "clips"]
    run(capsys, *command)
    Path("prompts").write_text("someone is {}\n")
    before = Path("answers").read_bytes()
    code, out, err = run(capsys, *command, "--resume", *other)
    assert (code, out) == (1, "")
    assert message in err
    assert Path("answers").read_bytes() == before


def test_another_model_of_the_same_name_is_an_error(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, model: str, clips: list[str]
) -> None:
    run(capsys, "-m", model, *ASK, "--output", "answers", "clips")
    other = save_model(random_model(2, 8, True), tmp_path / "other", frames=8)
    code, _, err = run(capsys, "-m", str(other), *ASK, "--output", "answers", "clips", "--resume")
    assert code == 1
    assert "was begun with other graphs of the model: give the same again" in err


def test_an_output_that_is_no_file_is_written_as_answers_come(model: str, clips: list[str]) -> None:
    if not Path("/dev/stdout").exists():
        pytest.skip("no /dev/stdout")
    command = [sys.executable, str(SCRIPT), "-m", model, *ASK, "clips", "--format", "csv", "--output", "/dev/stdout"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, len(rows(done.stdout))) == (1, 1 + 2 * 2 + 1)
    done = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "/dev/stdout is no file, and cannot be read to go on with it: leave out --resume" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_device_that_takes_nothing_is_named(capsys: pytest.CaptureFixture[str], model: str, clips: list[str]) -> None:
    code, _, err = run(capsys, "-m", model, *ASK, "clips", "--output", "/dev/full")
    assert code == 1
    assert err.splitlines()[-1] == (
        "action_clip: error: cannot write /dev/full: No space left on device; name another file"
    )


@pytest.mark.parametrize("output", ["answers", os.devnull])
def test_after_ctrl_c_only_a_file_is_to_be_resumed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, model: str, clips: list[str], output: str
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ActionClip, "classify_as_completed", interrupted)
    code, _, err = run(capsys, "-m", model, *ASK, "clips", "--output", output)
    assert code == 130
    note = "action_clip: stopped: the same command with --resume goes on with answers\n"
    assert err == (note if output == "answers" else "")


def test_a_reader_that_goes_away_ends_the_run_quietly(model: str, clips: list[str]) -> None:
    for number in range(20):
        shutil.copy(clips[0], f"clips/x{number}.gif")
    command = [sys.executable, str(SCRIPT), "-m", model, *ASK, "--video", "clips/?*.gif", "--format", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 1


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="no signals of this kind")
@pytest.mark.parametrize("form", FORMATS)
def test_killed_and_resumed_it_has_one_answer_for_each(
    capsys: pytest.CaptureFixture[str], model: str, clips: list[str], form: str
) -> None:
    for number in range(40):
        shutil.copy(clips[number % 2 * 2], f"clips/x{number}.gif")
    videos = sorted(map(str, Path("clips").iterdir()))
    options = ["-m", model, *ASK, "clips", "--format", form, "--top-k", "1", "--output", "answers", "--resume"]
    command = [sys.executable, str(SCRIPT), *options]
    kills = 0
    for wanted in (1, 8, 20):
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None and not (
                names_in("answers", form) and len(names_in("answers", form)) > wanted
            ):
                time.sleep(0.005)
            kills += process.poll() is None
            process.send_signal(signal.SIGKILL)
        assert len(set(names_in("answers", form))) == len(names_in("answers", form))
    assert kills  # it may have ended before the last
    shutil.copy(clips[0], clips[1])
    assert run(capsys, *options) == (0, "", "")
    assert sorted(names_in("answers", form)) == videos


def names_in(path: str, form: str) -> list[str]:
    """The videos with an answer, or a failure, in the complete lines of a file."""
    if not Path(path).exists():
        return []
    lines = Path(path).read_text("utf-8").splitlines(keepends=True)
    lines = [line for line in lines if line.endswith("\n")]
    if form == "json":
        return [json.loads(line)["video"] for line in lines]
    if form == "csv":
        return [row[0] for row in csv.reader(lines[1:])]
    return [line.removeprefix("video = ").strip() for line in lines if line.startswith("video = ")]


def test_features_are_those_of_the_model_in_the_order_given(
    capsys: pytest.CaptureFixture[str], model: str, clips: list[str]
) -> None:
    names = [clips[2], clips[1], clips[0]]
    code, out, err = run(capsys, "-m", model, *ASK, *names, "--format", "csv", "--features", "features.npz")
    assert (code, err) == (1, STDERR)
    assert len(rows(out)) == 1 + 2 * 2 + 1
    with np.load("features.npz") as table:
        assert sorted(table.files) == ["features", "model", "videos"]
        assert table["videos"].tolist() == [clips[2], clips[0]]
        assert table["model"] == "small"
        features = table["features"]
    assert features.dtype == np.float32
    alone = ActionClip(model, cache=False)
    expected = [alone.encode_video(name).features for name in (clips[2], clips[0])]
    assert np.allclose(features, expected, atol=1e-6)


def test_features_of_one_video(capsys: pytest.CaptureFixture[str], model: str, clips: list[str]) -> None:
    assert run(capsys, "-m", model, *ASK, clips[0], "--features", "features.npz")[0] == 0
    with np.load("features.npz") as table:
        assert table["videos"].tolist() == [clips[0]]
        expected = ActionClip(model, cache=False).encode_video(clips[0]).features
        assert np.allclose(table["features"], [expected], atol=1e-6)


@pytest.mark.parametrize("form", FORMATS)
def test_features_are_of_all_videos_after_a_resume_too(
    capsys: pytest.CaptureFixture[str], model: str, clips: list[str], form: str
) -> None:
    command = ["-m", model, *ASK, "--output", "answers", "--resume", "--format", form, "--top-k", "1"]
    run(capsys, *command, clips[2])
    first = Path("answers").read_text("utf-8")
    code, _, _ = run(capsys, *command, "clips", "--features", "features.npz")
    assert code == 1
    with np.load("features.npz") as table:
        assert table["videos"].tolist() == [clips[0], clips[2]]
    assert Path("answers").read_text("utf-8").startswith(first)
    assert sorted(names_in("answers", form)) == clips


def test_without_any_features_no_file_is_written(
    capsys: pytest.CaptureFixture[str], model: str, clips: list[str]
) -> None:
    code, _, err = run(capsys, "-m", model, *ASK, clips[1], "missing.mp4", "--features", "features.npz")
    assert code == 1
    assert err.splitlines()[-2:] == [
        "action_clip: error: features.npz is not written: no video has features",
        "action_clip: 2 of 2 videos failed",
    ]
    assert not Path("features.npz").exists()


def test_an_unreadable_folder_makes_the_exit_code_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, model: str, clips: list[str]
) -> None:
    os.unlink(clips[1])
    Path("clips/locked").mkdir()
    listdir = os.listdir

    def refused(path: str = ".") -> list[str]:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refused)
    code, out, err = run(capsys, "-m", model, *ASK, "clips", "--format", "json", "-q")
    locked = os.path.join("clips", "locked")
    assert (code, err) == (
        1,
        f"action_clip: error: the folder {locked} cannot be read (Permission denied): check its rights\n",
    )
    assert len(out.splitlines()) == 2


def test_on_a_terminal_answers_for_people_and_a_bar_that_disturbs_nothing(model: str, clips: list[str]) -> None:
    code, shown, _ = on_terminals(["-m", model, *ASK, "clips", "--top-k", "1"], out_too=True)
    assert code == 1
    assert re.search(r"\d+%\|.*\| [123]/3 \[", shown)
    lines = screen(shown)
    alone = ActionClip(model, cache=False)
    best = [alone.classify(name, LABELS).ranked[0] for name in (clips[0], clips[2])]
    error = next(line for line in lines if line.startswith("action_clip: error:"))
    assert error == f"action_clip: error: {BROKEN}"
    lines.remove(error)
    assert lines[0] == "a.gif · 0.40 s, 8 frames looked at · small · top 1 of 2 labels"
    assert re.fullmatch(rf"{best[0].label} +{best[0].probability:.1%}  █+▌?", lines[1])
    assert lines[2] == ""
    assert lines[3] == "c.gif · 0.40 s, 8 frames looked at · small · top 1 of 2 labels"
    assert re.fullmatch(rf"{best[1].label} +{best[1].probability:.1%}  █+▌?", lines[4])
    assert lines[5:] == ["action_clip: 1 of 3 videos failed", ""]


@pytest.mark.slow
def test_a_bar_while_answers_go_elsewhere_and_none_with_quiet_or_in_a_pipe(
    capsys: pytest.CaptureFixture[str], model: str, clips: list[str]
) -> None:
    command = ["-m", model, *ASK, "clips", "--format", "csv"]
    code, shown, out = on_terminals(command, out_too=False)
    assert (code, out.decode()) == (1, run(capsys, *command)[1])
    assert re.search(r" [123]/3 \[.*1 failed", shown)
    assert screen(shown) == [f"action_clip: error: {BROKEN}", "action_clip: 1 of 3 videos failed", ""]
    code, shown, _ = on_terminals([*command, "--quiet"], out_too=False)
    assert (code, shown.replace("\r\n", "\n")) == (1, STDERR)


@pytest.mark.skipif(os.name == "nt", reason="no signals of this kind")
def test_ctrl_c_ends_it_and_the_file_has_whole_lines(model: str, clips: list[str]) -> None:
    for number in range(40):
        shutil.copy(clips[0], f"clips/x{number}.gif")
    os.unlink(clips[1])
    os.mkfifo("clips/pipe")  # nothing comes through it
    command = [sys.executable, str(SCRIPT), "-m", model, *ASK, "clips", "clips/pipe", "--format", "json"]
    with subprocess.Popen([*command, "--output", "answers"], stderr=subprocess.PIPE) as process:
        while len(names_in("answers", "json")) < 5:
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        err = process.stderr.read().decode()
        assert process.wait() == 130
    assert err == "action_clip: stopped: the same command with --resume goes on with answers\n"
    assert Path("answers").read_text("utf-8").endswith("\n")
