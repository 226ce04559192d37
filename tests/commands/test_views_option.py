"""The option --views: what it changes in the answers, in what --resume compares, and what is no value of it."""

import json
from pathlib import Path

import numpy as np
import pytest
from in_process import run
from PIL import Image
from small_models import random_model, save_model

from action_clip import ActionClip
from action_clip.commands.samples import SAMPLE_VIDEO

ASK = ["-t", "eating", "-t", "läuft"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_model(random_model(1, 8, True), tmp_path_factory.mktemp("model"), frames=8))


def test_json_says_how_many_views_and_has_the_frames_of_all_clips(
    capsys: pytest.CaptureFixture[str], model: str, tmp_path: Path
) -> None:
    sheet = tmp_path / "sheet.png"
    command = ["-m", model, *ASK, str(SAMPLE_VIDEO), "--format", "json"]
    code, out, err = run(capsys, *command, "--views", "3x3", "--save", str(sheet))
    assert (code, err) == (0, "")
    answer = json.loads(out)
    expected = ActionClip(model).classify(SAMPLE_VIDEO, ["eating", "läuft"], views="3x3")
    assert answer["views"] == "3x3"
    assert answer["frames"] == list(expected.frame_indices)
    assert len(answer["frames"]) == len(answer["frame_times_s"]) == 24
    assert answer["predictions"][0]["probability"] == pytest.approx(expected.probabilities.max(), abs=1e-6)
    with Image.open(sheet) as picture:
        assert picture.width == 1400
    one, explicit = (json.loads(run(capsys, *command, *more)[1]) for more in ([], ["--views", "1x1"]))
    assert "views" not in one
    assert one["predictions"] == explicit["predictions"] != answer["predictions"]


def test_several_videos_and_their_features(capsys: pytest.CaptureFixture[str], model: str, tmp_path: Path) -> None:
    table = tmp_path / "features.npz"
    videos = [str(SAMPLE_VIDEO), str(tmp_path / "missing.mp4")]
    code, out, _ = run(
        capsys, "-m", model, *ASK, *videos, "--format", "json", "--views", "2x1", "--features", str(table)
    )
    assert code == 1
    answers = {each["video"]: each for each in map(json.loads, out.splitlines())}
    assert answers[videos[0]]["views"] == "2x1"
    assert "error" in answers[videos[1]]
    expected = ActionClip(model).encode_video(SAMPLE_VIDEO, views="2x1")
    np.testing.assert_allclose(np.load(table)["features"], [expected.features], atol=1e-6)


def test_an_output_of_other_views_is_not_resumed(
    capsys: pytest.CaptureFixture[str], model: str, tmp_path: Path
) -> None:
    output = tmp_path / "answers.jsonl"
    command = ["-m", model, *ASK, str(SAMPLE_VIDEO), "--output", str(output), "--format", "json", "--resume"]
    assert run(capsys, *command, "--views", "2x3") == (0, "", "")
    before = output.read_bytes()
    for more, shown in ([], "1x1"), (["--views", "2x1"], "2x1"):
        code, out, err = run(capsys, *command, *more)
        assert (code, out) == (1, "")
        assert f"was begun with --views 2x3, not {shown}" in err
    assert run(capsys, *command, "--views", "02x3") == (0, "", "")
    assert output.read_bytes() == before


@pytest.mark.parametrize(
    ("views", "sentence"),
    [
        ("0x3", "--views is '0x3', of 0 clips: give from 1 to 50\n"),
        ("10x2", "--views is '10x2', of 2 crops: give 1, the centre of frames, or 3, along their longer side\n"),
        ("10x", "--views is '10x': give the number of clips, an x and the number of crops, as \"10x3\"\n"),
        ("", "argument --views: it is empty\n"),
    ],
)
@pytest.mark.parametrize("start", [[], ["ray", "--out", "out"]])
def test_wrong_views_exit_2(capsys: pytest.CaptureFixture[str], start: list[str], views: str, sentence: str) -> None:
    code, out, err = run(capsys, *start, "a.mp4", "--views", views)
    assert (code, out) == (2, "")
    assert err.endswith(sentence)
