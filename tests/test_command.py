"""The command as it is typed: what it prints, where, and with which exit code."""

import csv
import json
import os
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from urllib.parse import urlsplit

import av
import cv2
import numpy as np
import pytest
from fault_server import FaultServer
from in_process import run
from small_models import CLASSES, random_closed_model, random_model, save_closed_model, save_model
from terminals import environment, new_terminal, shown_on
from test_sample import ACTION

from action_clip import ActionClip, TimeSformer
from action_clip.commands.samples import LABELS, SAMPLE_LABELS
from action_clip.models.catalog.specs import find
from action_clip.models.store.home import LABEL_BANK

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "action_clip.py"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_model(random_model(1, 8, True), tmp_path_factory.mktemp("model"), frames=8))


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_closed_model(random_closed_model(1, frames=4), tmp_path_factory.mktemp("closed")))


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two seconds, 20 frames, each of another grey with noise."""
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.time_base = Fraction(1, 10)
        for number in range(20):
            pixels = np.clip(rng.normal(10 * number, 20, (48, 64, 3)), 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return str(path)


def test_text_is_the_seeds_layout(capsys: pytest.CaptureFixture[str], model: str, video: str) -> None:
    code, out, err = run(capsys, "-m", model, "-v", video, "-t", "drinking", "-t", "eating", "--top-k", "1")
    prediction = ActionClip(model, cache=False).classify(video, ["drinking", "eating"])
    best = prediction.ranked[0]
    assert code == 0
    assert err == ""
    assert out == (
        "=" * 62 + "\n"
        "class_count = 2\n"
        "+ idx = 0\n"
        f"  category = {best.index} [{best.label}]\n"
        f"  prob = {best.probability!r}\n"
        "\n"
        "Script finished successfully.\n"
    )


def test_json_holds_the_whole_answer(capsys: pytest.CaptureFixture[str], model: str, video: str) -> None:
    code, out, _ = run(
        capsys,
        "-m",
        model,
        "-v",
        video,
        "-t",
        "drinking",
        "-t",
        "eating",
        "-t",
        "laughing",
        "--format",
        "json",
    )
    answer = json.loads(out)
    prediction = ActionClip(model, cache=False).classify(video, ["drinking", "eating", "laughing"])
    assert code == 0
    assert list(answer) == [
        "video",
        "model",
        "class_count",
        "frames",
        "frame_times_s",
        "duration_s",
        "predictions",
        "timings_s",
    ]
    assert answer["video"] == video
    assert answer["model"] == "small"
    assert answer["class_count"] == 3
    assert answer["frames"] == [0, 3, 5, 8, 10, 13, 15, 18]
    assert answer["frame_times_s"] == pytest.approx([0.0, 0.3, 0.5, 0.8, 1.0, 1.3, 1.5, 1.8])
    assert answer["duration_s"] == pytest.approx(2.0)
    assert [line["rank"] for line in answer["predictions"]] == [1, 2, 3]
    assert [(line["index"], line["label"], line["probability"]) for line in answer["predictions"]] == [
        (entry.index, entry.label, entry.probability) for entry in prediction.ranked
    ]
    assert set(answer["timings_s"]) == {"decode", "preprocess", "image", "fusion", "text", "score"}


def test_csv_goes_to_a_file(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: str, video: str) -> None:
    target = tmp_path / "answer.csv"
    code, out, _ = run(
        capsys, "-m", model, "-v", video, "-t", "a, b", "-t", "c", "--format", "csv", "--output", str(target)
    )
    assert code == 0
    assert out == ""
    rows = list(csv.reader(target.open(encoding="utf-8")))
    assert rows[0] == ["video", "rank", "index", "label", "probability"]
    assert sorted(row[3] for row in rows[1:]) == ["a, b", "c"]
    assert sum(float(row[4]) for row in rows[1:]) == pytest.approx(1)
    assert os.listdir(tmp_path) == ["answer.csv"]


def test_labels_of_both_sources_in_order(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, model: str, video: str
) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_bytes("\ufeff drinking \n\n  läuft\neating\n".encode())
    code, out, err = run(
        capsys, "-m", model, "-v", video, "--desc_file", str(labels), "-t", "eating", "--format", "json"
    )
    answer = json.loads(out)
    assert code == 0
    assert answer["class_count"] == 3
    assert {line["index"]: line["label"] for line in answer["predictions"]} == {
        0: "eating",
        1: "drinking",
        2: "läuft",
    }
    assert err == "action_clip: labels given more than once are used once: 'eating'\n"


@pytest.mark.parametrize(
    "content", ["id,name\n1,run  fast\n0,jump\n2,Jump\n", '{"Jump": 2, "run  fast": 1, "jump": 0}']
)
def test_labels_with_ids_are_printed_as_they_are_in_the_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, model: str, video: str, content: str
) -> None:
    (tmp_path / "labels").write_text(content)
    options = ["-m", model, "-v", video, "--desc_file", str(tmp_path / "labels"), "--top-k", "9"]
    expected = {(0, "jump"), (1, "run  fast"), (2, "Jump")}
    _, out, err = run(capsys, *options, "--format", "json")
    answer = json.loads(out)["predictions"]
    assert {(line["index"], line["label"]) for line in answer} == expected
    probabilities = {line["label"]: line["probability"] for line in answer}
    assert probabilities["jump"] == pytest.approx(probabilities["Jump"])
    assert err.count("\n") == 1
    assert err.endswith("are the same to the model, and share their probability: 'jump', 'Jump'\n")
    _, out, _ = run(capsys, *options, "--format", "csv")
    assert {(int(row[2]), row[3]) for row in list(csv.reader(out.splitlines()))[1:]} == expected
    _, out, _ = run(capsys, *options)
    assert "  category = 1 [run  fast]\n" in out


def test_ids_that_are_no_indices_and_a_list_in_one_label_are_remarked_upon(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, model: str, video: str
) -> None:
    (tmp_path / "labels").write_text("id,name\n0,jump\n1,wave\n")
    options = ["-m", model, "-v", video, "--desc_file", str(tmp_path / "labels"), "--format", "json"]
    code, out, err = run(capsys, *options, "--text", "running, walking")
    assert code == 0
    assert {(line["index"], line["label"]) for line in json.loads(out)["predictions"]} == {
        (0, "running, walking"),
        (1, "jump"),
        (2, "wave"),
    }
    assert err == (
        "action_clip: one label, not several: 'running, walking'; for several repeat --text\n"
        f"action_clip: the index in the answer is not the id in the labels file {tmp_path / 'labels'}: it counts all "
        "labels from 0, in the order of --text and then of the ids\n"
    )


def test_without_labels_the_ten_built_in_ones(capsys: pytest.CaptureFixture[str], model: str, video: str) -> None:
    _, out, _ = run(capsys, "-m", model, "-v", video, "--format", "json", "--top-k", "100")
    answer = json.loads(out)
    assert answer["class_count"] == 10
    assert [label for _, label in sorted((line["index"], line["label"]) for line in answer["predictions"])] == list(
        LABELS
    )


def test_random_sampling_follows_its_seed(capsys: pytest.CaptureFixture[str], model: str, video: str) -> None:
    def frames(*arguments: str) -> list[int]:
        options = ["--sampling", "random", "--no-cache", "--format", "json"]  # a known video is not sampled again
        code, out, _ = run(capsys, "-m", model, "-v", video, *options, *arguments)
        assert code == 0
        indices: list[int] = json.loads(out)["frames"]
        return indices

    assert frames("--seed", "1") == frames("--seed", "1")
    assert frames("--seed", "0") == frames()
    assert len({tuple(frames("--seed", str(seed))) for seed in range(5)}) > 1
    ticks = [i * 20 // 8 for i in range(9)]
    assert all(low <= index < high for index, low, high in zip(frames("--seed", "3"), ticks, ticks[1:], strict=False))


def test_own_prompts_and_average_change_the_answer(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, model: str, video: str
) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("someone is {}\n{} again\n", encoding="utf-8")

    def probabilities(*arguments: str) -> list[float]:
        _, out, _ = run(capsys, "-m", model, "-v", video, "--format", "json", *arguments)
        return [line["probability"] for line in json.loads(out)["predictions"]]

    plain = probabilities()
    assert probabilities("--prompts", str(prompts)) != plain
    assert probabilities("--average", "embeddings") != plain
    assert probabilities("--threads", "1", "--no-cache") == pytest.approx(plain, abs=1e-6)


def test_no_cache_leaves_nothing_behind(capsys: pytest.CaptureFixture[str], model: str, video: str) -> None:
    home = Path(os.environ["ACTION_CLIP_HOME"])
    run(capsys, "-m", model, "-v", video, "--no-cache")
    assert not (home / LABEL_BANK).exists()
    run(capsys, "-m", model, "-v", video)
    assert (home / LABEL_BANK).exists()


def test_benchmark_shows_every_stage(capsys: pytest.CaptureFixture[str], model: str, video: str) -> None:
    code, out, err = run(capsys, "-m", model, "-v", video, "--benchmark")
    assert code == 0
    assert out.endswith("Script finished successfully.\n")
    assert re.findall(r"^(\w+) +[\d.]+ ms$", err, re.MULTILINE) == [
        "decode", "preprocess", "image", "fusion", "text", "score", "whole",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("__version__ = '4.12.0'", "which takes OpenCV 5.0 or newer, and this is 4.12.0: pip install --upgrade opencv"),
        ("raise ImportError('libGL.so.1: no such file')", "and it cannot be loaded (libGL.so.1: no such file): pip in"),
        ("raise ModuleNotFoundError('No module named cv2')", "and it cannot be loaded (No module named cv2): pip in"),
        ("raise AttributeError('_ARRAY_API not found')", "and it cannot be loaded (_ARRAY_API not found): pip install"),
        ("", "and this is none, but a folder of its name: pip install --upgrade opencv-python"),
    ],
)
@pytest.mark.parametrize("output", [False, True])
def test_without_the_opencv_for_a_sheet_the_answer_comes_all_the_same(
    tmp_path: Path, model: str, video: str, module: str, said: str, output: bool
) -> None:
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "cv2.py").write_text(module)
    command = [sys.executable, str(SCRIPT), "-m", model, "-v", video, "-t", "eating", "--save", "sheet.png"]
    done = subprocess.run(
        [*command, "--output", "answer.txt"] if output else command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "packages")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    answer = (tmp_path / "answer.txt").read_text() if output else done.stdout
    assert "category = 0 [eating]" in answer
    assert done.returncode == 1
    assert done.stderr.startswith("action_clip: error: cannot save the sheet sheet.png, which takes OpenCV 5.0")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "sheet.png").exists()


def test_save_draws_a_sheet(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: str, video: str) -> None:
    code, _, _ = run(capsys, "-m", model, "-v", video, "--save", str(tmp_path / "sheet.png"))
    picture = cv2.imread(str(tmp_path / "sheet.png"))
    assert code == 0
    assert picture is not None
    assert picture.shape[1] == 1400
    assert os.listdir(tmp_path) == ["sheet.png"]


def test_list_models_shows_the_catalog(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--list-models")
    lines = {line.split()[0].rstrip(","): line for line in out.splitlines()}
    assert code == 0
    assert re.search(r"clip_vit_b32 +8 +681 MB +no: downloaded at first use +Kin.*78\.36.*MIT", lines["vit-32-8f"])
    assert re.search(r"nano +8 +\d+ MB +yes .*Apache-2\.0", lines["nano"])
    row = r"clip_vit_b16 +8 +674 MB +no: action-clip export vit-b-16-8f  +Kinetics-400.*81\.09.*MIT"
    assert re.search(row, lines["vit-b-16-8f"])
    assert re.search(r"clip-vit-b-32 +8 +605 MB +no: action-clip export clip-vit-b-32 +not stated +MIT", out)
    row = r"8 +486 MB +no: action-clip export timesformer_k400_8x224  +Kinetics-400, closed set: 77\.9 %.*CC-BY-NC-4\.0"
    assert re.search(row, lines["timesformer_k400_8x224"])


def test_verify_compares_nano_with_the_catalog(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--verify", "-m", "nano")
    assert code == 0
    assert len(re.findall(r"sha256 [0-9a-f]{64}, equal to catalog", out)) == 3


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--version")
    assert code == 0
    assert re.fullmatch(r"action_clip \d+\.\d+\.\d+\n", out)


def test_parsing_arguments_does_without_what_only_classifying_needs() -> None:
    program = (
        "import sys\n"
        "from action_clip.commands.arguments import parse\n"
        "parse([])\n"
        "print({name.partition('.')[0] for name in sys.modules} & {'av', 'cv2', 'numpy', 'onnxruntime', 'requests'})"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("set()\n", "")


@pytest.mark.parametrize("arguments", [["-v", "VIDEO"], ["VIDEO"], ["--text", "eating", "VIDEO"], ["VIDEO", "-t", "a"]])
def test_a_lone_word_is_the_video(
    capsys: pytest.CaptureFixture[str], model: str, video: str, arguments: list[str]
) -> None:
    arguments = [video if word == "VIDEO" else word for word in arguments]
    code, out, err = run(capsys, "-m", model, *arguments, "--format", "json")
    assert (code, err) == (0, "")
    assert json.loads(out)["video"] == video


def test_a_lone_address_is_a_video_too(capsys: pytest.CaptureFixture[str], model: str, video: str) -> None:
    with FaultServer() as server:
        server.add("/clip.mp4", Path(video).read_bytes())
        code, out, err = run(capsys, "-m", model, f"{server.url}/clip.mp4", "--format", "json")
    assert (code, err) == (0, "")
    assert json.loads(out)["duration_s"] == pytest.approx(2.0)


def test_a_subcommand_comes_first(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: str, video: str
) -> None:
    code, out, _ = run(capsys, "export", "--help")
    assert code == 0
    assert "--precision" in out
    code, _, err = run(capsys, "export", "--nosuch")
    assert code == 2
    assert "unrecognized arguments: --nosuch" in err
    monkeypatch.chdir(tmp_path)
    Path("export").write_bytes(Path(video).read_bytes())
    for arguments in (["--video", "export", "-m", model], ["-m", model, "export"], ["./export", "-m", model]):
        code, out, err = run(capsys, *arguments, "--format", "json")
        assert (code, err) == (0, "")
        assert Path(json.loads(out)["video"]).name == "export"


def test_classifying_imports_nothing_of_the_subcommands(model: str, video: str) -> None:
    program = (
        "import sys\n"
        "from action_clip import main\n"
        "code = main(sys.argv[1:])\n"
        "print([name for name in sys.modules if name.startswith('action_clip.export')], file=sys.stderr)\n"
        "sys.exit(code)"
    )
    command = [sys.executable, "-c", program, "-m", model, video]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "[]\n")


@pytest.mark.parametrize(
    ("files", "name"),
    [
        (["my.pt"], "my.pt"),
        (["a model.PTH"], "'a model.PTH'"),
        (["x.safetensors"], "x.safetensors"),
        (["hf/config.json", "hf/model.safetensors"], "hf"),
        (["clip/open_clip_config.json", "clip/open_clip_model.bin"], "clip/"),
    ],
)
@pytest.mark.parametrize("verify", [[], ["--verify"]])
def test_a_checkpoint_is_to_be_exported(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    files: list[str],
    name: str,
    verify: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in map(Path, files):
        file.parent.mkdir(exist_ok=True)
        file.touch()
    model = name.strip("'")
    assert run(capsys, "--model", model, *verify) == (
        1,
        "",
        f"action_clip: error: {model} is a checkpoint, and models run as graphs: run action-clip export {name} "
        "--out FOLDER once, then use --model FOLDER\n",
    )


def test_a_folder_of_graphs_beside_its_checkpoint_is_a_model(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, video: str
) -> None:
    folder = save_model(random_model(1, 8, True), tmp_path, frames=8)
    (folder / "my.pt").touch()
    assert run(capsys, "-m", str(folder), video)[0] == 0


STAND_IN = (
    "the embedded model nano is a stand-in that sees objects, not motion: leave out --model for ActionCLIP itself "
    "(681 MB, downloaded once)"
)


def test_the_embedded_model_says_that_it_is_a_stand_in(capsys: pytest.CaptureFixture[str], model: str) -> None:
    code, _, err = run(capsys, "-m", "nano", "--format", "csv")
    assert (code, err) == (0, f"action_clip: {STAND_IN}\n")
    assert run(capsys, "-m", "nano", "--quiet")[2] == ""
    assert run(capsys, "-m", model)[2] == ""


def test_quiet_leaves_errors_on_stderr(capsys: pytest.CaptureFixture[str], model: str, video: str) -> None:
    twice = ["-t", "eating", "-t", "eating", "-m", model]
    assert run(capsys, *twice, video)[2] == "action_clip: labels given more than once are used once: 'eating'\n"
    code, out, err = run(capsys, *twice, video, "-q", "--benchmark", "--format", "json")
    assert (code, err) == (0, "")
    assert "whole" in json.loads(out)["timings_s"]
    code, _, err = run(capsys, *twice, "missing.mp4", "--quiet")
    assert code == 1
    assert err.startswith("action_clip: error: the video missing.mp4 does not exist")
    assert err.count("\n") == 1


def on_a_terminal(*arguments: str, columns: int = 80, **variables: str) -> tuple[int, str, str]:
    """Exit code, what a terminal of so many columns gets, and stderr, which is none."""
    ours, terminal = new_terminal(columns)
    with subprocess.Popen(
        [sys.executable, str(SCRIPT), *arguments],
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        shown = shown_on(ours, terminal)
        assert process.stderr is not None
        err = process.stderr.read()
    return process.returncode, shown.replace("\r\n", "\n"), err


def test_a_terminal_gets_text_for_people(model: str, video: str) -> None:
    labels = ["-t", "drinking", "-t", "eating", "--top-k", "1"]
    best = ActionClip(model, cache=False).classify(video, ["drinking", "eating"]).ranked[0]
    row = rf"{best.label}   +{best.probability:.1%}  █+▌?"
    code, shown, err = on_a_terminal("-m", model, video, *labels)
    assert (code, err) == (0, "")
    heading = "clip.mp4 · 2.00 s, 8 frames looked at · small · top 1 of 2 labels\n"
    assert re.fullmatch(re.escape(heading) + rf"\x1b\[1m{row}\x1b\[0m\n", shown)
    _, plain, _ = on_a_terminal("-m", model, video, *labels, NO_COLOR="1")
    assert re.fullmatch(re.escape(heading) + rf"{row}\n", plain)
    _, dumb, _ = on_a_terminal("-m", model, video, *labels, columns=40, TERM="dumb", LANG="C", LC_CTYPE="C")
    heading = "clip.mp4 - 2.00 s, 8 frames looked at\nsmall - top 1 of 2 labels\n"
    assert re.fullmatch(re.escape(heading) + row.replace("█+▌?", "#+") + r"\n", dumb)
    assert max(map(len, dumb.splitlines())) < 40


def test_a_format_is_the_same_on_a_terminal_and_in_a_pipe(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, model: str, video: str
) -> None:
    arguments = ["-m", model, video, "-t", "drinking", "-t", "eating"]
    _, piped, _ = run(capsys, *arguments)
    assert piped.startswith("=" * 62 + "\nclass_count = 2\n")
    assert on_a_terminal(*arguments, "--format", "text") == (0, piped, "")
    assert on_a_terminal(*arguments, "--output", str(tmp_path / "answer.txt")) == (0, "", "")
    assert (tmp_path / "answer.txt").read_text("utf-8") == piped


def completed(arguments: list[str], model: str, video: str) -> list[str]:
    """The arguments, with model and video where they have none."""
    defaults = {"-m": model, "-v": video}
    return [*(part for pair in defaults.items() if pair[0] not in arguments for part in pair), *arguments]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-v", "missing.mp4"], "missing.mp4"),
        (["-m", "unknown-model"], "there is no model or folder 'unknown-model'"),
        (["--desc_file", "missing.txt"], "the labels file missing.txt cannot be read"),
        (["--prompts", "missing.txt"], "the prompts file missing.txt cannot be read"),
        (["-t", " "], "a label is blank"),
        (["-t", "word " * 100], "the label 'word word"),
        (["--device", "abacus"], "the device 'abacus' is not there"),
        (["--output", "no/such/folder/x.json"], "there is no folder"),
        (["--save", "sheet.xyz"], "the name must end in one of"),
        (["-v", __file__], "test_command.py cannot be read as a video"),
        (["--output", "x.png", "--save", "x.png"], "--save names the same file as --output, x.png"),
    ],
)
def test_errors_are_one_sentence_and_exit_1(
    capsys: pytest.CaptureFixture[str], model: str, video: str, arguments: list[str], message: str
) -> None:
    code, out, err = run(capsys, *completed(arguments, model, video))
    assert code == 1
    assert out == ""
    assert err.startswith("action_clip: error: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--top-k", "0"], "0 is below 1"),
        (["--top-k", "many"], "'many' is not a whole number"),
        (["-v", ""], "it is empty"),
        (["--desc_file", ""], "it is empty"),
        (["--threads", "-1"], "-1 is below 1"),
        (["--sampling", "clever"], "invalid choice"),
        (["--seed", "3"], "--seed belongs to --sampling random"),
        (["--sampling", "random", "--seed", "-1"], "-1 is below 0"),
        (["--format", "xml"], "invalid choice"),
        (["-i", "folder"], "unrecognized arguments: -i"),
        (
            ["clip.mp4", "drinking", "eating"],
            "there is no file or folder drinking (each label follows --text; the sub-commands are evaluate, export, "
            "ray and train)\n",
        ),
        (["exprot", "x"], "the sub-commands are evaluate, export, ray and train"),
        (["--desc-file=x"], "unrecognized arguments: --desc-file=x (do you mean --desc_file?)\n"),
        (["--topk", "3"], "unrecognized arguments: --topk (do you mean --top-k?)\n"),
        (["clip.mp4", "--xyz"], "unrecognized arguments: --xyz\n"),
        (["--resume"], "--resume goes on with the file that --output names: name it"),
        ([""], "it is empty"),
    ],
)
def test_wrong_arguments_exit_2(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert message in err


def test_debug_shows_the_traceback(model: str) -> None:
    command = [sys.executable, str(SCRIPT), "-m", model, "-v", "missing.mp4"]
    plain = subprocess.run(command, capture_output=True, text=True, check=False)
    debug = subprocess.run([*command, "--debug"], capture_output=True, text=True, check=False)
    assert plain.returncode == 1
    assert debug.returncode == 1
    assert "Traceback" not in plain.stderr
    assert "Traceback" in debug.stderr


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    with subprocess.Popen(
        [sys.executable, str(SCRIPT), "--list-models"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()
        assert process.wait() == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_behind_stdout_is_one_sentence() -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, str(SCRIPT), "--list-models"]
        run = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr == (
        "action_clip: error: the answer cannot be written to stdout (No space left on device): "
        "name a file with --output\n"
    )


def test_an_interrupt_is_quiet(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, model: str, video: str
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    def interrupted_import(*_: object, **__: object) -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:  # as onnxruntime does
            raise ImportError("initialization failed") from error

    for work in (interrupted, interrupted_import):
        monkeypatch.setattr(ActionClip, "classify", work)
        assert run(capsys, "-m", model, "-v", video) == (130, "", "")


def test_the_answer_may_go_through_a_pipe_by_name(model: str, video: str) -> None:
    if not Path("/dev/stdout").exists():
        pytest.skip("no /dev/stdout")
    command = [sys.executable, str(SCRIPT), "-m", model, "-v", video, "--format", "csv", "--output", "/dev/stdout"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith("video,rank,index,label,probability\n")


def test_a_label_too_long_is_found_before_the_download(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, video: str
) -> None:
    monkeypatch.setenv("ACTION_CLIP_OFFLINE", "1")
    code, _, err = run(capsys, "-v", video, "-t", "word " * 100)
    assert code == 1
    assert "the label 'word word" in err


def test_a_video_that_is_missing_is_found_before_the_download(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACTION_CLIP_OFFLINE", "1")
    code, _, err = run(capsys, "-v", "missing.mp4")
    assert code == 1
    assert "the video missing.mp4 does not exist" in err


def test_offline_without_the_model_names_the_way_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, video: str
) -> None:
    monkeypatch.setenv("ACTION_CLIP_OFFLINE", "1")
    code, _, err = run(capsys, "-v", video)
    assert code == 1
    assert "vit-32-8f-image_clip.onnx" in err
    assert os.environ["ACTION_CLIP_HOME"] in err
    assert "https://storage.googleapis.com/ailia-models/action_clip/vit-32-8f-image_clip.onnx" in err
    assert "--model nano" in err


def test_a_model_that_is_not_exported_says_how(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, video: str
) -> None:
    def opened(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr("action_clip.video.reader.read_clip", opened)
    for name in (video, "missing.mp4", "https://host.invalid/clip.mp4"):
        assert run(capsys, "--model", "clip_vit_b16", "-v", name) == (
            1,
            "",
            "action_clip: error: the graphs of vit-b-16-8f are not on this disk yet: run action-clip export "
            "vit-b-16-8f once (it needs pip install 'action-clip[export]', in a clone '.[export]'), "
            "or use --model nano, which needs no "
            "download\n",
        )


def test_an_exported_model_is_used(capsys: pytest.CaptureFixture[str], video: str) -> None:
    folder = Path(os.environ["ACTION_CLIP_HOME"]) / "vit-b-16-16f"
    save_model(random_model(5, 16, True, size=224), folder, frames=16)
    code, out, err = run(capsys, "-m", "vit-b-16-16f", "-v", video, "--format", "json")
    assert (code, err) == (0, "")
    assert json.loads(out)["model"] == "vit-b-16-16f"
    assert len(json.loads(out)["frames"]) == 16
    _, out, _ = run(capsys, "--list-models")
    assert re.search(r"vit-b-16-16f +16 +674 MB +yes +Kinetics-400", out)
    code, out, _ = run(capsys, "--verify", "-m", "vit-b-16-16f")
    assert code == 0
    assert out.count("equal to first use") == 3


def test_a_closed_set_needs_no_labels(capsys: pytest.CaptureFixture[str], closed: str, video: str) -> None:
    code, out, err = run(capsys, "-m", closed, "-v", video)
    prediction = TimeSformer(closed, cache=False, prepack=False).classify(video)
    assert (code, err) == (0, "")
    assert out == (
        "=" * 62
        + "\nclass_count = 7\n"
        + "".join(
            f"+ idx = {entry.rank - 1}\n  category = {entry.index} [{entry.label}]\n  prob = {entry.probability!r}\n"
            for entry in prediction.ranked
        )
        + "\nScript finished successfully.\n"
    )
    assert out.count("+ idx") == 5


def test_the_answer_of_a_closed_set_in_every_format(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, closed: str, video: str
) -> None:
    ranked = TimeSformer(closed, cache=False, prepack=False).classify(video).ranked
    code, out, _ = run(capsys, "-m", closed, "-v", video, "--format", "json")
    answer = json.loads(out)
    assert code == 0
    assert (answer["video"], answer["model"], answer["class_count"]) == (video, "small-closed", 7)
    assert answer["frames"] == [0, 6, 12, 19]
    assert [(line["index"], line["label"], line["probability"]) for line in answer["predictions"]] == [
        (entry.index, entry.label, entry.probability) for entry in ranked
    ]
    assert set(answer["timings_s"]) == {"decode", "preprocess", "video", "score"}

    target = tmp_path / "answer.csv"
    code, out, _ = run(capsys, "-m", closed, "-v", video, "--format", "csv", "--output", str(target), "--top-k", "2")
    assert (code, out) == (0, "")
    rows = list(csv.reader(target.open(encoding="utf-8")))
    assert rows == [
        ["video", "rank", "index", "label", "probability"],
        *([video, str(e.rank), str(e.index), e.label, repr(e.probability)] for e in ranked[:2]),
    ]


@pytest.mark.parametrize(
    "content",
    [
        json.dumps({f"class {index}": index for index in range(7)}),
        json.dumps({index: f"class {index}" for index in range(7)}),
        "\ufeff" + "\n".join(f"class {index}" for index in range(7)),
    ],
    ids=["name to index", "index to name", "one a line"],
)
def test_a_class_map_replaces_the_names(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, closed: str, video: str, content: str
) -> None:
    file = tmp_path / "classes"
    file.write_text(content, encoding="utf-8")
    code, out, err = run(capsys, "-m", closed, "-v", video, "--classmap", str(file), "--format", "json")
    assert (code, err) == (0, "")
    predictions = json.loads(out)["predictions"]
    assert [line["label"] for line in predictions] == [f"class {line['index']}" for line in predictions]
    assert [CLASSES[line["index"]] for line in predictions] == [
        entry.label for entry in TimeSformer(closed, cache=False).classify(video).ranked
    ]


NO_LABELS = (
    "MODEL is a closed-set model, it knows its own classes and no other labels: leave out {}, "
    "or choose a zero-shot model, such as vit-32-8f or nano"
)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-t", "drinking"], NO_LABELS.format("--text")),
        (["--desc_file", str(SAMPLE_LABELS)], NO_LABELS.format("--desc_file")),
        (["--prompts", "prompts.txt"], NO_LABELS.format("--prompts")),
        (["--average", "embeddings"], "--average is over prompts, and MODEL has none: leave it out"),
        (["--classmap", "missing.json"], "the class map missing.json cannot be read"),
        (["--classmap", str(SAMPLE_LABELS)], "the class map has 10 classes, 0 to 9, and the model 7, 0 to 6"),
        (["-v", "missing.mp4"], "the video missing.mp4 does not exist"),
        (["--device", "abacus"], "the device 'abacus' is not there"),
    ],
)
def test_errors_of_a_closed_set_explain(
    capsys: pytest.CaptureFixture[str], closed: str, video: str, arguments: list[str], message: str
) -> None:
    code, out, err = run(capsys, *completed(arguments, closed, video))
    assert (code, out) == (1, "")
    assert err.startswith("action_clip: error: " + message.replace("MODEL", closed))
    assert err.count("\n") == 1


def test_a_class_map_is_for_closed_sets(capsys: pytest.CaptureFixture[str], model: str, video: str) -> None:
    code, out, err = run(capsys, "-m", model, "-v", video, "--classmap", str(SAMPLE_LABELS))
    assert (code, out) == (1, "")
    assert err == f"action_clip: error: --classmap is for closed-set models, {model} takes labels: use --desc_file\n"


def test_everything_else_works_with_a_closed_set(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, closed: str, video: str
) -> None:
    sheet = tmp_path / "sheet.png"
    code, _, err = run(capsys, "-m", closed, "-v", video, "--benchmark", "--save", str(sheet), "--threads", "1")
    assert code == 0
    assert re.findall(r"^(\w+) +[\d.]+ ms$", err, re.MULTILINE) == ["decode", "preprocess", "video", "score", "whole"]
    picture = cv2.imread(str(sheet))
    assert picture is not None
    assert picture.shape[1] == 1400

    random = ["-m", closed, "-v", video, "--sampling", "random", "--no-cache", "--format", "json", "--seed"]
    frames = [json.loads(run(capsys, *random, seed)[1])["frames"] for seed in ("1", "1", "2")]
    assert frames[0] == frames[1] != frames[2]

    code, out, _ = run(capsys, "--verify", "-m", closed)
    assert code == 0
    assert re.fullmatch(r".*video\.onnx\n  sha256 [0-9a-f]{64}, nothing to compare it with\n", out)


def test_timesformer_is_used_once_it_is_exported(capsys: pytest.CaptureFixture[str], video: str) -> None:
    name = "timesformer_k400_8x224"
    assert run(capsys, "--model", name, "-v", video) == (
        1,
        "",
        f"action_clip: error: the graphs of {name} are not on this disk yet: run action-clip export {name} once "
        "(it needs pip install 'action-clip[export]', in a clone '.[export]'), "
        "or use --model nano, which needs no download\n",
    )
    small = random_closed_model(5, frames=8, classes=400, size=224)
    save_closed_model(small, Path(os.environ["ACTION_CLIP_HOME"]) / name, channels_first=True)
    code, out, err = run(capsys, "--model", name, "-v", video, "--format", "json")
    answer = json.loads(out)
    assert (code, err) == (0, "")
    assert (answer["model"], answer["class_count"]) == (name, 400)
    assert answer["frames"] == [0, 2, 5, 8, 10, 13, 16, 19]
    classes = find(name)
    assert classes is not None
    assert [line["label"] for line in answer["predictions"]] == [
        classes.classes[line["index"]] for line in answer["predictions"]
    ]
    _, out, _ = run(capsys, "--list-models")
    assert re.search(rf"{name} +8 +486 MB +yes ", out)
    code, out, _ = run(capsys, "--verify", "-m", name)
    assert code == 0
    assert "video.onnx\n" in out
    assert out.count("equal to first use") == 1


def test_the_default_model_is_downloaded_once_and_used(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, video: str
) -> None:
    # As ailia exported them: 224 pixels, a text graph that takes one prompt of 77 tokens at a time.
    graphs = save_model(random_model(5, 8, True, size=224), tmp_path, frames=8, batch=1, length=77)
    spec = find("vit-32-8f")
    assert spec is not None
    labels = ["-t", "drinking", "-t", "eating", "--format", "json"]
    with FaultServer() as server:
        for file in spec.files:
            path = urlsplit(file.url or "").path
            server.add(f"/copy{path}", (graphs / f"{file.role}.onnx").read_bytes())
        monkeypatch.setenv("ACTION_CLIP_MIRROR", f"{server.url}/copy")
        code, out, err = run(capsys, "-v", video, *labels)
        assert code == 0, err
        assert "downloading vit-32-8f-text_clip.opt.onnx" in err
        assert len(server.requests) == 3
        first = json.loads(out)
    monkeypatch.setenv("ACTION_CLIP_OFFLINE", "1")
    code, out, err = run(capsys, "-m", "clip_vit_b32", "-v", video, *labels)
    again = json.loads(out)
    assert (code, err) == (0, "")
    assert first["model"] == again["model"] == "vit-32-8f"
    assert first["predictions"] == again["predictions"]
    code, out, _ = run(capsys, "--verify")
    assert code == 0
    assert out.count("equal to first use") == 3
    target = Path(os.environ["ACTION_CLIP_HOME"]) / "vit-32-8f" / "vit-32-8f-fusion.onnx"
    target.write_bytes(target.read_bytes() + b"\0")
    code, _, err = run(capsys, "--verify")
    assert code == 1
    assert f"{target} has the sha256" in err


def test_the_sample_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--model", "nano", "--format", "json")
    answer = json.loads(out)
    assert code == 0
    assert Path(answer["video"]).name == "sample.gif"
    labels = SAMPLE_LABELS.read_text("utf-8").split("\n")
    assert answer["class_count"] == 10
    assert answer["predictions"][0]["label"] == ACTION
    assert ACTION in labels
    assert len(set(LABELS) - set(labels)) <= 3
