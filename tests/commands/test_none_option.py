"""--none and --multi-label as they are typed: what they take, what they answer, and what goes on with it."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from in_process import run
from PIL import Image
from small_models import random_closed_model, random_model, save_closed_model, save_model

from action_clip import ActionClip
from action_clip.commands.arguments import OWN_TEXTS, parse
from action_clip.commands.ray.command import build_parser as ray_parser

ASK = ["-t", "eating", "-t", "drinking"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_model(random_model(1, 4, True), tmp_path_factory.mktemp("model"), frames=4))


@pytest.fixture
def videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    names = ["a.gif", "b.gif"]
    for seed, name in enumerate(names):
        pixels = np.random.default_rng(seed).integers(0, 256, (4, 40, 40, 3), np.uint8)
        first, *rest = map(Image.fromarray, pixels)
        first.save(name, save_all=True, append_images=rest, duration=100, loop=0)
    return names


@pytest.mark.parametrize(
    ("arguments", "none", "videos"),
    [
        (["clip.mp4", "--none"], [OWN_TEXTS], ["clip.mp4"]),
        (["--none", "clip.mp4", "-t", "run"], [OWN_TEXTS], ["clip.mp4"]),
        (["-t", "run", "--none", "clip.MP4", "b.mkv"], [OWN_TEXTS], ["clip.MP4", "b.mkv"]),
        (["--none", "-v", "clip.mp4"], [OWN_TEXTS], ["clip.mp4"]),
        (["--none", "--", "-clip.mp4"], [OWN_TEXTS], ["-clip.mp4"]),
        (["--none", "-"], [OWN_TEXTS], ["-"]),
        (["--none", "@list"], [OWN_TEXTS], ["@list"]),
        (["--none", "https://host/video"], [OWN_TEXTS], ["https://host/video"]),
        (["--none", "clips/"], [OWN_TEXTS], ["clips/"]),
        (["clip.mp4", "--none", "sitting"], ["sitting"], ["clip.mp4"]),
        (["--none", "sitting", "clip.mp4", "--none", "a wall"], ["sitting", "a wall"], ["clip.mp4"]),
        (["--none", "sitting / lying", "--none"], ["sitting / lying", OWN_TEXTS], []),
        (["--none=clip.mp4", "b.mp4"], ["clip.mp4"], ["b.mp4"]),
        (["--none=-", "--multi-label"], ["-"], []),
        (["b.mp4"], [], ["b.mp4"]),
    ],
)
def test_what_follows_none(arguments: Sequence[str], none: list[str], videos: list[str]) -> None:
    options = parse(arguments)
    assert (options.none, options.video) == (none, videos)
    assert options.multi_label is ("--multi-label" in arguments)


def test_a_pattern_after_none_that_fits_videos_names_them(videos: list[str]) -> None:
    options = parse(["--none", "?.gif"])
    assert (options.none, options.video) == ([OWN_TEXTS], ["?.gif"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--none", "a"], "a after --none may be a video or a text for it: write --none=a for the text, or --none "),
        (["--none", "what?"], "what? after --none may be a video or a text for it: write --none=what? for the text"),
        (["--none", "running/walking"], "running/walking after --none may be a video or a text for it: write --none="),
        (["--none", ""], "argument --none: it is empty"),
        (["--none="], "argument --none: it is empty"),
        (["-t", "--none", "x"], "argument -t/--text: expected one argument"),
    ],
)
def test_words_after_none_that_are_not_clear(
    capsys: pytest.CaptureFixture[str], videos: list[str], arguments: list[str], message: str
) -> None:
    Path("a").mkdir()
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert message in err


def test_ray_has_the_same_options(capsys: pytest.CaptureFixture[str], videos: list[str]) -> None:
    given = ["b.gif", "--out", "out", *ASK, "--none", "--none", "a wall", "--multi-label"]
    options = ray_parser().parse_args(given)
    assert (options.none, options.multi_label, options.videos) == ([OWN_TEXTS, "a wall"], True, ["b.gif"])
    Path("a").mkdir()
    assert run(capsys, "ray", "--out", "out", *ASK, "--none", "a")[0] == 2


def test_none_of_these_is_the_last_label(capsys: pytest.CaptureFixture[str], model: str, videos: list[str]) -> None:
    prediction = ActionClip(model, cache=False).classify("a.gif", ["eating", "drinking"], none=True)
    code, out, err = run(capsys, "-m", model, *ASK, "--none", "a.gif", "--format", "json")
    answer = json.loads(out)
    assert (code, err, answer["class_count"]) == (0, "", 3)
    assert [(entry["index"], entry["label"], entry["probability"]) for entry in answer["predictions"]] == [
        (entry.index, entry.label, entry.probability) for entry in prediction.ranked
    ]
    assert {entry["label"]: entry["index"] for entry in answer["predictions"]} == {
        "eating": 0,
        "drinking": 1,
        "none of these": 2,
    }
    code, out, _ = run(capsys, "-m", model, *ASK, "a.gif", "--none")
    assert "class_count = 3\n" in out
    assert "  category = 2 [none of these]\n" in out


def test_chosen_texts_alone_and_beside_the_models_own(
    capsys: pytest.CaptureFixture[str], model: str, videos: list[str]
) -> None:
    recogniser = ActionClip(model, cache=False)
    for given, none in (
        (["--none", "a wall"], ["a wall"]),
        (["--none", "a wall", "--none", "the sky"], ["a wall", "the sky"]),
        (["--none", "a wall", "--none"], [*recogniser.spec.none_texts, "a wall"]),
    ):
        _, out, _ = run(capsys, "-m", model, *ASK, *given, "-v", "a.gif", "--format", "json")
        expected = recogniser.classify("a.gif", ["eating", "drinking"], none=none).to_dict()
        assert json.loads(out)["predictions"] == expected["predictions"]


def test_multi_label_reports_every_label(capsys: pytest.CaptureFixture[str], model: str, videos: list[str]) -> None:
    labels = [f"label {number}" for number in range(7)]
    ask = [word for label in labels for word in ("-t", label)]
    code, out, _ = run(capsys, "-m", model, *ask, *videos, "--multi-label", "--format", "json")
    answers = {answer["video"]: answer for answer in map(json.loads, out.splitlines())}
    assert (code, set(answers)) == (0, set(videos))
    recogniser = ActionClip(model, cache=False)
    for video, answer in answers.items():
        expected = recogniser.classify(video, labels, multi_label=True, top_k=7)
        assert answer["multi_label"] is True
        assert (answer["class_count"], answer["predictions"]) == (7, expected.to_dict()["predictions"])
    _, out, _ = run(capsys, "-m", model, *ask, "a.gif", "--multi-label", "--top-k", "2", "--format", "csv")
    assert len(out.splitlines()) == 3


def test_a_closed_set_has_no_place_for_others(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, videos: list[str]
) -> None:
    closed = str(save_closed_model(random_closed_model(1, frames=4), tmp_path / "closed"))
    for option in ("--none", "--multi-label"):
        code, out, err = run(capsys, "-m", closed, "a.gif", option)
        assert (code, out) == (1, "")
        assert "is a closed-set model, whose probabilities are of its own classes and of no other texts" in err
        assert f"leave out {option}, or choose a zero-shot model" in err


def test_resume_goes_on_with_the_same_texts_only(
    capsys: pytest.CaptureFixture[str], model: str, videos: list[str]
) -> None:
    command = ["-m", model, *ASK, "--output", "answers", "--format", "json", *videos, "--none"]
    assert run(capsys, *command)[0] == 0
    before = Path("answers").read_text()
    assert run(capsys, *command, "--resume")[0] == 0
    assert Path("answers").read_text() == before
    for other in (["--none", "a wall"], ["--multi-label", "--top-k", "5"]):
        code, _, err = run(capsys, *command, "--resume", *other)
        assert code == 1
        assert "answers was begun with other labels: give the same again" in err
    code, _, err = run(capsys, *command[:-1], "--resume")
    assert code == 1
    assert "answers was begun with other labels" in err
    assert Path("answers").read_text() == before
