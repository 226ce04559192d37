"""The sub-command evaluate: a model or predictions on labelled clips, as text and as JSON."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from in_process import run
from make_videos import moving, write_video
from small_models import CLASSES, random_closed_model, random_model, save_closed_model, save_model

from action_clip import ActionClip, TimeSformer

LABELS = ("dancing", "eating")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three clips of two classes."""
    pictures = moving(60)
    for place, (label, clip) in enumerate([("dancing", "a"), ("dancing", "b"), ("eating", "c")]):
        (tmp_path / "data" / label).mkdir(parents=True, exist_ok=True)
        write_video(tmp_path / "data" / label / f"{clip}.mp4", pictures[20 * place : 20 * place + 8])
    return tmp_path / "data"


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(save_model(random_model(1, 4, transformer=False), tmp_path / "model", frames=4))


def evaluated(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, Any]:
    """What `evaluate --format json` writes."""
    got, out, err = run(capsys, "evaluate", "--format", "json", *arguments)
    assert got == code, err
    content: dict[str, Any] = json.loads(out)
    return content


def test_a_zero_shot_model_chooses_among_the_labels(capsys: pytest.CaptureFixture[str], data: Path, model: str) -> None:
    content = evaluated(capsys, "--data", str(data), "--model", model)
    with ActionClip(model) as classifier:
        clips = sorted(data.rglob("*.mp4"))
        predictions = [classifier.classify(clip, LABELS) for clip in clips]
    assert content["labels"] == list(LABELS)
    answers = [entry.ranked[0] for entry in predictions]
    assert content["answers"] == [
        {"video": str(clip), "labels": [clip.parent.name], "answer": answer.label, "score": answer.probability}
        for clip, answer in zip(clips, answers, strict=True)
    ]
    right = [answer.label == clip.parent.name for clip, answer in zip(clips, answers, strict=True)]
    assert content["figures"]["top_1"]["value"] == pytest.approx(sum(right) / 3)
    matrix = np.array(content["confusion"])
    assert matrix.sum() == 3
    assert np.trace(matrix) == sum(right)
    assert (content["clips"], content["answered"], content["views"]) == (3, 3, "1x1")
    assert sum(each["clips"] for each in content["calibration"]["bins"]) == 3


def test_views_are_averaged_as_by_the_command(capsys: pytest.CaptureFixture[str], data: Path, model: str) -> None:
    content = evaluated(capsys, "--data", str(data), "--model", model, "--views", "2x3", "--average", "embeddings")
    with ActionClip(model, average="embeddings") as classifier:
        prediction = classifier.classify(data / "eating" / "c.mp4", LABELS, views="2x3")
    assert content["answers"][2]["score"] == prediction.ranked[0].probability
    assert content["views"] == "2x3"


def test_a_closed_set_chooses_among_its_classes(capsys: pytest.CaptureFixture[str], data: Path, tmp_path: Path) -> None:
    """The classes of the data are matched with the model's by their names, however they are written."""
    folder = str(save_closed_model(random_closed_model(3, 4), tmp_path / "closed"))
    (data / "dancing").rename(data / "Dancing")
    (data / "eating").rename(data / "läuft")
    content = evaluated(capsys, "--data", str(data), "--model", folder)
    with TimeSformer(folder) as classifier:
        prediction = classifier.classify(data / "läuft" / "c.mp4")
    assert content["labels"] == list(CLASSES)
    assert content["answers"][2]["answer"] == prediction.ranked[0].label
    assert [each["label"] for each in content["classes"]] == ["dancing", "läuft"]
    assert content["answers"][0]["labels"] == ["dancing"]


def test_classes_that_a_closed_set_does_not_know(
    capsys: pytest.CaptureFixture[str], data: Path, tmp_path: Path
) -> None:
    folder = str(save_closed_model(random_closed_model(3, 4), tmp_path / "closed"))
    (data / "eating").rename(data / "swimming")
    code, out, err = run(capsys, "evaluate", "--data", str(data), "--model", folder)
    assert (code, out) == (1, "")
    assert "1 of the 2 classes of data are none of small-closed's 7: 'swimming'; write them as they are there" in err


def test_tables_for_people(capsys: pytest.CaptureFixture[str], data: Path, model: str) -> None:
    (data / "eating" / "broken.mp4").write_bytes(b"no video")
    code, out, err = run(capsys, "evaluate", "--data", str(data), "--model", model)
    assert code == 1
    lines = out.splitlines()
    assert lines[0] == "small on data: 4 clips with 2 of 2 labels, views 1x1"
    assert lines[1] == "1 clip without an answer, which counts as wrong"
    content = evaluated(capsys, "--data", str(data), "--model", model, code=1)
    figure = content["figures"]["top_1"]
    (row,) = (line for line in lines if line.startswith("top-1 "))
    assert f"{figure['value']:.1%}".replace("%", " %") in row
    assert f"{figure['of_answered']:.1%}".replace("%", " %") in row
    assert "no top-5: there are 2 labels" in lines
    assert content["not_computed"] == {"top_5": "there are 2 labels"}
    assert f"error: {content['answers'][2]['error']}" in err
    assert "1 of 4 clips cannot be read" in err
    assert str(data / "eating" / "broken.mp4") in content["answers"][2]["error"]
    assert content["classes"][1]["clips"] == 2


def test_which_split_is_evaluated(capsys: pytest.CaptureFixture[str], data: Path, model: str) -> None:
    """val where there is one, else test, else all; or the one that is asked for, or made."""
    arguments = ("--data", str(data.parent / "splits"), "--model", model)
    for split, label in (("train", "dancing"), ("test", "eating")):
        (data.parent / "splits" / split).mkdir(parents=True)
        (data / label).rename(data.parent / "splits" / split / label)
    assert evaluated(capsys, *arguments)["clips"] == 1
    assert evaluated(capsys, *arguments, "--split", "train")["clips"] == 2
    made = evaluated(capsys, *arguments, "--val-split", "0.5")
    assert [answer["labels"] for answer in made["answers"]] == [["dancing"]]
    code, _, err = run(capsys, "evaluate", *arguments, "--split", "val")
    assert code == 1
    assert "splits has no clips for val (it has train and test): choose another split" in err


def test_several_labels_a_clip_are_scored_each_by_itself(
    capsys: pytest.CaptureFixture[str], data: Path, model: str
) -> None:
    table = data / "clips.csv"
    table.write_text("file,labels\na.mp4,dancing|eating\nb.mp4,eating\nc.mp4,reading|dancing\n", "utf-8")
    content = evaluated(capsys, "--data", str(table), "--model", model)
    assert set(content["figures"]) == {"top_1", "mean_average_precision"}
    assert content["confusion"] is None
    with ActionClip(model) as classifier:
        prediction = classifier.classify(data / "eating" / "c.mp4", ["dancing", "eating", "reading"], multi_label=True)
    assert content["answers"][2]["score"] == prediction.ranked[0].probability
    assert content["answers"][2]["labels"] == ["dancing", "reading"]


def test_predictions_of_this_program_give_the_same_figures(
    capsys: pytest.CaptureFixture[str], data: Path, model: str, tmp_path: Path
) -> None:
    answers = str(tmp_path / "answers.jsonl")
    texts = ("--text", "dancing", "--text", "eating")
    assert run(capsys, "--model", model, str(data), *texts, "--format", "json", "--output", answers)[0] == 0
    by_file = evaluated(capsys, "--data", str(data), "--predictions", answers)
    by_model = evaluated(capsys, "--data", str(data), "--model", model)
    for key in ("figures", "not_computed", "confusion", "classes", "answers", "labels"):
        assert by_file[key] == by_model[key]
    assert by_file["calibration"]["error"] == pytest.approx(by_model["calibration"]["error"])


def test_clips_that_predictions_lack_are_named(capsys: pytest.CaptureFixture[str], data: Path, tmp_path: Path) -> None:
    answers = tmp_path / "answers.csv"
    answers.write_text("video,label\na.mp4,dancing\nc.mp4,dancing\n", "utf-8")
    page = tmp_path / "page.html"
    code, out, err = run(capsys, "evaluate", "--data", str(data), "--predictions", str(answers), "--report", str(page))
    assert code == 1
    assert f"error: {answers} has no prediction for {data / 'dancing' / 'b.mp4'}" in err
    assert "1 of 3 clips have no answer" in err
    assert re.search(r"^top-1 +33\.3 % .* 50\.0 %$", out, re.MULTILINE)
    assert "no expected calibration error: the scores are no probabilities" in out
    assert page.read_text("utf-8").count('<div class="strip">') == 1


def test_the_answer_goes_into_a_file(
    capsys: pytest.CaptureFixture[str], data: Path, model: str, tmp_path: Path
) -> None:
    target = tmp_path / "figures.json"
    arguments = ("evaluate", "--data", str(data), "--model", model, "--format", "json")
    assert run(capsys, *arguments, "--output", str(target))[:2] == (0, "")
    assert run(capsys, *arguments)[1] == target.read_text("utf-8")


def test_nothing_that_is_read_is_overwritten(capsys: pytest.CaptureFixture[str], data: Path, model: str) -> None:
    table = data / "clips.csv"
    table.write_text("file,label\na.mp4,dancing\nc.mp4,eating\n", "utf-8")
    code, _, err = run(capsys, "evaluate", "--data", str(table), "--model", model, "--output", str(table))
    assert code == 1
    assert "--output names the same file as --data" in err
    clip = data / "eating" / "c.mp4"
    before = clip.read_bytes()
    code, _, err = run(capsys, "evaluate", "--data", str(data), "--model", model, "--output", str(clip))
    assert code == 1
    assert "--output names the same file as --data" in err
    assert clip.read_bytes() == before
    assert table.read_text("utf-8").startswith("file,label\n")


def test_one_class_is_no_choice(capsys: pytest.CaptureFixture[str], data: Path, model: str) -> None:
    code, _, err = run(capsys, "evaluate", "--data", str(data / "dancing" / ".."), "--model", model, "--top-k", "2")
    assert code == 0
    (data / "eating" / "c.mp4").unlink()
    code, _, err = run(capsys, "evaluate", "--data", str(data), "--model", model)
    assert code == 1
    assert "data has one class, 'dancing', and so any answer would be right" in err
    classes = data.parent / "classes.txt"
    classes.write_text("dancing\nswimming\n", "utf-8")
    content = evaluated(capsys, "--data", str(data), "--model", model, "--classes", str(classes))
    assert content["labels"] == ["dancing", "swimming"]


def test_options_of_models_do_not_go_with_predictions(
    capsys: pytest.CaptureFixture[str], data: Path, model: str
) -> None:
    code, _, err = run(capsys, "evaluate", "--data", str(data), "--predictions", "x", "--model", model)
    assert code == 2
    assert "--model is about a model, and --predictions are there: leave out one" in err


def test_the_python_in_the_document_runs(
    capsys: pytest.CaptureFixture[str], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = Path(__file__).parents[2] / "docs" / "evaluate.md"
    (code,) = re.findall(r"```python\n(.*?)```", document.read_text("utf-8"), re.DOTALL)
    data.rename(data.parent / "clips")
    monkeypatch.chdir(data.parent)
    exec(code, {})
    printed = capsys.readouterr().out
    content = evaluated(capsys, "--data", "clips", "--model", "nano")
    assert printed == f"{content['figures']['top_1']['value']} {np.array(content['confusion'])}\n"


def test_without_scikit_learn_a_sentence_says_what_to_install(
    capsys: pytest.CaptureFixture[str], data: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sklearn", None)
    code, out, err = run(capsys, "evaluate", "--data", str(data), "--model", model)
    assert (code, out) == (1, "")
    assert "this needs scikit-learn, pip install 'action-clip[train]'" in err
