"""Answers in files: those that this program writes, and those made elsewhere."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from action_clip import ActionClipError
from action_clip.data.dataset import Dataset
from action_clip.data.loading import load_dataset
from action_clip.evaluation.metrics import evaluate
from action_clip.evaluation.prediction_files import read_answers

CLIPS = ("run/a.mp4", "run/b.mp4", "walk_fast/c.mp4", "jump/d.mp4")


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Clips of the classes jump, run and walk fast, in this order: d, a, b, c."""
    for name in CLIPS:
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).touch()
    return load_dataset(str(tmp_path / "data"))


def write(folder: Path, text: str, name: str = "answers") -> str:
    (folder / name).write_text(text, "utf-8")
    return str(folder / name)


def ranked(video: str, *pairs: tuple[str, float]) -> str:
    """A line as --format json writes it, with the fields that matter."""
    predictions = [{"rank": n, "index": 0, "label": label, "probability": p} for n, (label, p) in enumerate(pairs, 1)]
    return json.dumps({"video": video, "class_count": 3, "predictions": predictions}) + "\n"


def test_the_json_lines_of_this_program(dataset: Dataset, tmp_path: Path) -> None:
    """Two labels of each video are there, and one video failed."""
    path = write(
        tmp_path,
        ranked(str(tmp_path / "data" / "run" / "a.mp4"), ("run", 0.7), ("jump", 0.2))
        + ranked(os.path.relpath(tmp_path / "data" / "run" / "b.mp4"), ("walk fast", 0.5), ("run", 0.3))
        + ranked("elsewhere/c.mp4", ("walk fast", 0.6), ("run", 0.3))
        + json.dumps({"video": "d.mp4", "error": "it is broken"}),
    )
    answers = read_answers(path, dataset)
    assert answers.choices == ("jump", "run", "walk fast")
    nan = np.nan
    np.testing.assert_array_equal(answers.scores, [[nan] * 3, [0.2, 0.7, nan], [nan, 0.3, 0.5], [nan, 0.3, 0.6]])
    assert answers.failures == {0: "it is broken"}
    assert answers.are_probabilities
    result = evaluate(answers, top_k=2)
    assert {name: figure.value for name, figure in result.figures.items()} == {
        "top_1": 0.5,
        "top_2": 0.75,
        "mean_per_class": pytest.approx((0 + 0.5 + 1) / 3),
    }
    assert result.calibration is not None
    assert evaluate(answers, top_k=5).not_computed == {"top_5": "there are 3 labels"}


def test_the_csv_of_this_program(dataset: Dataset, tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "video,rank,index,label,probability\n"
        "a.mp4,1,1,run,0.7\na.mp4,2,0,jump,0.2\nb.mp4,1,1,run,0.9\nb.mp4,2,0,jump,0.1\nc.mp4,,,,\n",
    )
    answers = read_answers(path, dataset)
    np.testing.assert_array_equal(answers.scores[1:3], [[0.2, 0.7, np.nan], [0.1, 0.9, np.nan]])
    assert answers.failures == {
        0: f"{path} has no prediction for {tmp_path / 'data' / 'jump' / 'd.mp4'}",
        3: f"{path} has no answer for c.mp4",
    }


ELSEWHERE = {
    "scores": '{"video": "a", "scores": {"run": 3, "walk_fast": 1.5, "jump": -2}}\n',
    "a list": '[{"file": "a.mp4", "scores": {"Run": 3, "walk fast": 1.5, "jump": -2}}]',
    "a table": "file,jump,run,Walk Fast\na.mp4,-2,3,1.5\n",
}


@pytest.mark.parametrize("text", ELSEWHERE.values(), ids=list(ELSEWHERE))
def test_scores_made_elsewhere(dataset: Dataset, tmp_path: Path, text: str) -> None:
    answers = read_answers(write(tmp_path, text), dataset)
    assert answers.choices == ("jump", "run", "walk fast")
    assert answers.scores[1].tolist() == [-2, 3, 1.5]
    assert not answers.are_probabilities
    assert set(answers.failures) == {0, 2, 3}


@pytest.mark.parametrize("text", ['{"video": "a.mp4", "label": "run"}', "video,prediction\na.mp4,run\n"])
def test_a_label_for_each_video(dataset: Dataset, tmp_path: Path, text: str) -> None:
    result = evaluate(read_answers(write(tmp_path, text), dataset), top_k=2)
    assert result.figures["top_1"].of_answered == 1.0
    assert result.calibration is None
    assert "top_2" in result.figures, "the right label is the first one"


def test_other_labels_may_be_answers(dataset: Dataset, tmp_path: Path) -> None:
    path = write(tmp_path, ranked("a.mp4", ("swim", 0.9), ("run", 0.1)) + ranked("b.mp4", ("run", 0.9), ("swim", 0.1)))
    answers = read_answers(path, dataset)
    assert answers.choices == ("jump", "run", "walk fast", "swim")
    assert evaluate(answers).figures["top_1"].of_answered == 0.5


BAD = {
    "nothing": ("", r"has the columns \(none\)"),
    "a header alone": ("video,label\n", "has no predictions"),
    "other columns": ("name,length\na,3\n", "has the columns 'name', 'length'"),
    "no JSON": ('{"video": \n', "is not JSON with an object a line"),
    "no object": ("[1]", "object 1 of .* is no object"),
    "no video": ('{"label": "run"}', "line 1 of .* has no video"),
    "no answer": ('{"video": "a.mp4"}', "line 1 of .* has neither `predictions` nor `scores` nor `label`"),
    "windows": ('{"start_s": 0, "end_s": 4, "video": "a.mp4", "predictions": []}', "is about a part of a video"),
    "a score that is none": ('{"video": "a.mp4", "scores": {"run": "much"}}', "has 'much' for the score of 'run'"),
    "a score that is not finite": ("file,run,jump\na.mp4,nan,1\n", "has 'nan' for the score of 'run'"),
    "two scores for a label": ('{"video": "a.mp4", "scores": {"run": 1, "Run": 2}}', "has two scores for 'Run'"),
    "two columns for a label": ("file,run,run\na.mp4,1,2\n", "row 2 of .* has two scores for 'run'"),
    "a short row": ("file,run,jump\na.mp4,1\n", "row 2 of .* has 2 cells, and the first row 3"),
    "other videos": ('{"video": "x.mp4", "label": "run"}', "has no prediction for a clip of data, but for x.mp4"),
    "other labels": ('{"video": "a.mp4", "label": "swim"}', "has none of the labels of data, but 'swim'"),
    "a video twice": ('{"video": "a.mp4", "label": "run"}\n' * 2, "line 2 .* and line 1 .* are both about .*a.mp4"),
}


@pytest.mark.parametrize(("text", "message"), BAD.values(), ids=list(BAD))
def test_what_are_no_predictions(dataset: Dataset, tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ActionClipError, match=message):
        read_answers(write(tmp_path, text), dataset)


def test_no_answers_at_all(dataset: Dataset, tmp_path: Path) -> None:
    answers = read_answers(write(tmp_path, '{"video": "a.mp4", "predictions": []}'), dataset)
    assert answers.failures[1].endswith("has no answer")
    with pytest.raises(ActionClipError, match="none of the 4 clips of data has an answer"):
        evaluate(answers)


def test_a_name_that_two_clips_have_is_no_name(tmp_path: Path) -> None:
    for name in ("run/a.mp4", "walk/a.mp4"):
        (tmp_path / "data" / name).parent.mkdir(parents=True)
        (tmp_path / "data" / name).touch()
    dataset = load_dataset(str(tmp_path / "data"))
    path = write(
        tmp_path, f'{{"video": "{tmp_path}/data/walk/a.mp4", "label": "walk"}}\n{{"video": "a.mp4", "label": "x"}}'
    )
    answers = read_answers(path, dataset)
    assert set(answers.failures) == {0}
    assert answers.best.tolist() == [-1, 1]
