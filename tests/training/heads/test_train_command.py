"""The sub-command train: from clips to a model's folder that answers everywhere, whole or not at all."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from in_process import run
from make_videos import write_video
from small_models import random_closed_model, random_model, save_closed_model, save_model

import action_clip.training.heads.folder
import action_clip.training.heads.train
from action_clip import ActionClip, ActionClipError, ClosedSetModel, TimeSformer, load, score
from action_clip.models.catalog.metadata import read_metadata
from action_clip.models.video_encoder import VideoEncoder

COLOURS = {"blue_thing": (40, 60, 220), "green thing": (40, 200, 60), "red_thing": (220, 50, 40)}
CLASSES = ("blue thing", "green thing", "red thing")


def write_clips(folder: Path, colours: dict[str, tuple[int, int, int]], count: int, seed: int = 0) -> None:
    """So many clips of each colour, each a bit different."""
    random = np.random.default_rng(seed)
    for label, colour in colours.items():
        (folder / label).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            shade = np.clip(np.array(colour) + random.integers(-25, 25, 3), 0, 255)
            pictures = np.clip(shade + random.integers(-20, 20, (4, 48, 64, 3)), 0, 255).astype(np.uint8)
            write_video(folder / label / f"{number}.mp4", [*pictures])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_clips(tmp_path / "data" / "train", COLOURS, 6)
    write_clips(tmp_path / "data" / "val", COLOURS, 2, seed=1)
    return tmp_path / "data"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save_model(random_model(3, 4, transformer=True), tmp_path / "base", frames=4)


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    return save_closed_model(random_closed_model(3, 4), tmp_path / "closed")


def trained(capsys: pytest.CaptureFixture[str], data: Path, base: Path, out: Path, *more: str) -> str:
    """Train, and return what it wrote to stdout."""
    code, text, err = run(capsys, "train", "--data", str(data), "--model", str(base), "--out", str(out), *more)
    assert (code, err) == (0, "")
    return text


def refused(capsys: pytest.CaptureFixture[str], out: Path, *arguments: str) -> str:
    """The sentence; nothing is left."""
    before = sorted(path.name for path in out.parent.iterdir())
    code, text, err = run(capsys, "train", "--out", str(out), *arguments)
    assert (code, text) == (1, "")
    assert err.startswith("action_clip: error: ")
    assert sorted(path.name for path in out.parent.iterdir()) == before
    return err


@pytest.mark.slow
@pytest.mark.parametrize("head", ["linear", "mean"])
def test_a_head_with_classes_of_its_own_answers_everywhere(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path, base: Path, head: str
) -> None:
    out = tmp_path / "colours"
    text = trained(capsys, data, base, out, "--head", head)
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "fusion.onnx", "head.onnx", "image.onnx"]
    lines = [line.split("  ") for line in text.splitlines()]
    assert [line[0] for line in lines[:5]] == ["head", "zero-shot", "mean", "tip-adapter", "linear"]
    [row] = [line for line in text.splitlines() if line.startswith(head)]
    assert row.endswith("taken")
    assert row.count("100.0 %") == 2  # cross-validated and val
    assert text.endswith(f"\nwrote {out}: action-clip --model {out} --video …\n")

    model = load(out)
    assert type(model) is ClosedSetModel
    assert (model.classes, model.spec.name, model.spec.head) == (CLASSES, "colours", head)
    clips = [data / "val" / label / "1.mp4" for label in COLOURS]
    assert [model.classify(clip).ranked[0].label for clip in clips] == list(CLASSES)
    names = [str(clip) for clip in clips]
    code, out_text, _ = run(capsys, "--model", str(out), *names, "--format", "json")
    assert code == 0
    answers = [json.loads(line) for line in out_text.splitlines()]
    labels = {answer["video"]: answer["predictions"][0]["label"] for answer in answers}
    assert [labels[name] for name in names] == list(CLASSES)
    assert answers[0]["timings_s"].keys() >= {"image", "fusion", "head", "score"}
    code, out_text, _ = run(capsys, "--model", str(out), names[1], "--window", "0.2", "--format", "csv")
    assert code == 0
    assert "green thing" in out_text
    code, out_text, _ = run(
        capsys, "evaluate", "--data", str(data), "--split", "val", "--model", str(out), "--format", "json"
    )
    assert code == 0
    assert json.loads(out_text)["figures"]["top_1"]["value"] == 1
    views = model.classify(clips[2], views="2x3")
    assert (views.ranked[0].label, views.views) == ("red thing", "2x3")
    code, _, err = run(capsys, "--model", str(out), names[0], "--text", "a cat")
    assert code == 1
    assert "is a closed-set model, it knows its own classes and no other labels" in err


def test_a_head_on_a_closed_set(capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path, closed: Path) -> None:
    out = tmp_path / "colours"
    text = trained(capsys, data, closed, out)
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "head.onnx", "video.onnx"]
    assert [line.split()[0] for line in text.splitlines()[:3]] == ["head", "mean", "linear"]
    with load(out) as model, TimeSformer(closed) as other:
        clip = data / "val" / "red_thing" / "0.mp4"
        prediction = model.classify(clip)
        assert (prediction.labels, prediction.ranked[0].label) == (CLASSES, "red thing")
        np.testing.assert_array_equal(prediction.video_features, other.classify(clip).video_features)
        assert len(other.classify(clip).labels) == 7


def test_tip_adapter_still_takes_new_labels(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path, base: Path
) -> None:
    out = tmp_path / "colours"
    trained(capsys, data, base, out, "--head", "tip-adapter")
    clip = data / "val" / "blue_thing" / "0.mp4"
    model, plain = load(out), ActionClip(base)
    assert isinstance(model, ActionClip)
    own = model.classify(clip)
    assert (own.labels, own.ranked[0].label) == (CLASSES, "blue thing")
    assert model.classify(clip, CLASSES).probabilities.tolist() == own.probabilities.tolist()
    new = ["a cat", "a dog"]
    for how in ({}, {"none": True}, {"multi_label": True}):
        expected = plain.classify(clip, new, **how)  # type: ignore[arg-type]
        answer = model.classify(clip, new, **how)  # type: ignore[arg-type]
        np.testing.assert_array_equal(answer.probabilities, expected.probabilities)
        assert answer.labels == expected.labels
    # Of both kinds: the logits of the cache are added to those of the labels that it knows.
    mixed = ["a cat", "blue thing"]
    encoded = model.encode_video(clip)
    bank = plain.labels(mixed)
    logits = bank.logit_scale * (bank.embeddings @ encoded.features).astype(np.float64)
    logits[:, 1] += encoded.logits[0]
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model.classify(clip, mixed).probabilities, shares.mean(axis=0), atol=1e-9)
    with pytest.raises(ActionClipError, match="the model has a head of 3 classes: give the logits of the same videos"):
        score(encoded.features, model.labels(mixed))
    code, text, _ = run(capsys, "--model", str(out), str(clip), "--format", "json")
    assert (code, json.loads(text)["class_count"]) == (0, 3)
    [window, *_] = model.timeline(clip, window=0.2)
    assert window.prediction.ranked[0].label == "blue thing"
    code, text, _ = run(
        capsys, "evaluate", "--data", str(data), "--split", "val", "--model", str(out), "--format", "json"
    )
    assert json.loads(text)["figures"]["top_1"]["value"] == 1
    # Among its classes, however the data write them, and those of the data that it does not have.
    (tmp_path / "others").mkdir()
    shutil.copytree(data / "val" / "red_thing", tmp_path / "others" / "Red Thing")
    shutil.copytree(data / "val" / "blue_thing", tmp_path / "others" / "a_cat")
    code, text, _ = run(capsys, "evaluate", "--data", str(tmp_path / "others"), "--model", str(out), "--format", "json")
    content = json.loads(text)
    assert content["labels"] == [*CLASSES, "a cat"]
    assert [each["label"] for each in content["classes"]] == ["red thing", "a cat"]
    best = model.classify(tmp_path / "others" / "Red Thing" / "0.mp4", [*CLASSES, "a cat"]).ranked[0]
    assert (content["answers"][0]["answer"], content["answers"][0]["score"]) == ("red thing", best.probability)
    assert [each["answer"] for each in content["answers"]] == ["red thing"] * 2 + ["blue thing"] * 2
    shutil.rmtree(tmp_path / "others" / "Red Thing")
    shutil.copytree(data / "val" / "red_thing", tmp_path / "others" / "a dog")
    code, text, _ = run(capsys, "evaluate", "--data", str(tmp_path / "others"), "--model", str(out), "--format", "json")
    assert json.loads(text)["labels"] == ["a dog", "a cat"]


def test_the_graphs_are_those_of_the_base_and_videos_are_known_to_both(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    data: Path,
    base: Path,
    monkeypatch: pytest.MonkeyPatch,
    opened: list[Path],
) -> None:
    """A second training decodes nothing, and neither does the model on clips that it was made from."""
    trained(capsys, data, base, tmp_path / "one", "--head", "linear")
    for role in ("image", "fusion"):
        assert (tmp_path / "one" / f"{role}.onnx").read_bytes() == (base / f"{role}.onnx").read_bytes()

    def decoding(*_: object) -> None:
        raise AssertionError("a video is decoded")

    monkeypatch.setattr(VideoEncoder, "decode", decoding)
    opened.clear()
    trained(capsys, data, base, tmp_path / "two", "--head", "tip-adapter", "--curve")
    assert not [path for path in opened if path.name in ("image.onnx", "fusion.onnx", "text.onnx")]
    for folder in ("one", "two"):
        with load(tmp_path / folder) as model:
            assert (
                model.classify(data / "train" / "red_thing" / "3.mp4", thumbnails=False).ranked[0].label == "red thing"
            )


def test_auto_takes_the_best_and_the_card_says_what_was_done(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path, base: Path
) -> None:
    out = tmp_path / "a_model"
    text = trained(capsys, data, base, out, "--curve", "--seed", "3")
    taken = [line.split()[0] for line in text.splitlines() if line.endswith("taken")]
    assert taken == ["mean"]  # the first of those that are all right
    card = (out / "README.md").read_text("utf-8")
    assert card.startswith("# a\\_model\n")
    assert "| mean | 100.0 % (100.0 to 100.0) | 100.0 % (100.0 to 100.0) | scale 64 | taken |" in card
    assert "| class | train | val |\n| --- | --- | --- |\n| blue thing | 6 | 2 |\n" in card
    assert "| head | 1 a class | 2 | 4 |" in card
    assert f"action-clip train --data {data} --model {base} --out {out} --curve --seed 3\n" in card
    assert "The base model is small. Its graphs are in this folder as they were; their licence: none." in card
    assert "train: 18 clips" not in card
    assert "data: 18 clips for training, 6 for validation." in card
    facts = read_metadata(out / "head.onnx")
    assert json.loads(facts["classes"]) == list(CLASSES)
    assert (facts["role"], facts["head"], facts["licence"]) == ("head", "mean", "none")


def test_where_texts_are_best_the_model_has_them_and_the_classes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path, base: Path
) -> None:
    out = tmp_path / "colours"
    trained(capsys, data, base, out, "--head", "zero-shot")
    clip = data / "val" / "red_thing" / "0.mp4"
    with load(out) as model, ActionClip(base) as plain:
        prediction = model.classify(clip)
        assert prediction.labels == CLASSES
        np.testing.assert_array_equal(prediction.probabilities, plain.classify(clip, CLASSES).probabilities)


@pytest.mark.slow
def test_several_labels_a_clip(capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path, base: Path) -> None:
    """Whether it is a warm colour, beside the colour: each class has a probability of its own."""
    table = tmp_path / "table.csv"
    rows = [f"{label}/{number}.mp4,{label}" for label in COLOURS for number in range(6)]
    rows += [f"{label}/{number}.mp4,cold" for label in ("blue_thing", "green thing") for number in range(6)]
    table.write_text("\n".join(["file,label", *rows]))
    out = tmp_path / "colours"
    arguments = ["--clips", str(data / "train"), "--multi-label"]
    text = trained(capsys, table, base, out, *arguments)
    assert [line.split()[0] for line in text.splitlines()[:3]] == ["head", "zero-shot", "linear"]
    assert "cross-validated mAP" in text
    with load(out) as model:
        assert isinstance(model, ClosedSetModel)
        prediction = model.classify(data / "val" / "blue_thing" / "0.mp4")
    assert prediction.is_multi_label
    happens = {label for label, share in zip(prediction.labels, prediction.probabilities, strict=True) if share > 0.5}
    assert happens == {"blue thing", "cold"}
    said = refused(capsys, tmp_path / "no", "--data", str(table), *arguments, "--model", str(base), "--head", "mean")
    assert "clips of table.csv have several labels, and --head mean gives a clip one of them" in said
    said = refused(capsys, tmp_path / "no", "--data", str(table), *arguments, "--model", str(base), "--curve")
    assert "and --curve is about one: leave it out" in said


def test_clips_that_cannot_be_read_are_listed_and_count_as_wrong(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path, base: Path
) -> None:
    broken = data / "train" / "red_thing" / "5.mp4"
    broken.write_bytes(b"no video")
    out = tmp_path / "colours"
    arguments = ("train", "--data", str(data), "--model", str(base), "--out", str(out), "--head", "linear")
    code, text, err = run(capsys, *arguments)
    assert code == 0
    assert str(broken) in err
    assert "1 of 18 clips cannot be read" in err
    [row] = [line for line in text.splitlines() if line.startswith("linear")]
    assert row.split()[1:3] == ["94.4", "%"]  # 17 of 18
    assert "1 clip that cannot be read counts as wrong." in text
    assert "1 of them could not be read." in (out / "README.md").read_text("utf-8")
    for clip in (data / "train" / "red_thing").iterdir():
        clip.write_bytes(b"no video")
    said = refused(capsys, tmp_path / "no", *arguments[1:5])
    assert said.splitlines()[-1].endswith(
        "none of the clips of 'red_thing' can be read: mend them, or take the class away"
    )


def test_features_that_are_not_finite(capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path) -> None:
    broken = random_model(3, 4, transformer=False)
    broken.patches[0] = np.nan
    folder = save_model(broken, tmp_path / "base", frames=4)
    said = refused(capsys, tmp_path / "no", "--data", str(data), "--model", str(folder))
    assert "the graphs returned features that are zero or not finite" in said


def test_one_clip_a_class_is_enough_and_nothing_is_compared(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, base: Path, closed: Path
) -> None:
    write_clips(tmp_path / "data", COLOURS, 1)
    for source, taken in ((base, "tip-adapter"), (closed, "mean")):
        out = tmp_path / taken
        code, text, err = run(
            capsys, "train", "--data", str(tmp_path / "data"), "--model", str(source), "--out", str(out)
        )
        assert code == 0
        assert err == f"action_clip: no clip could be left out to compare the heads with: {taken} is taken\n"
        assert "Each class has one clip, or one group of clips that belong together" in text
        assert [line.split()[0] for line in text.splitlines() if line.endswith("taken")] == [taken]
        with load(out) as trained_model:
            assert trained_model.spec.classes == CLASSES
    with load(tmp_path / "mean") as model:
        clips = [tmp_path / "data" / label / "0.mp4" for label in COLOURS]
        assert [model.classify(clip).ranked[0].label for clip in clips] == list(CLASSES)


def test_what_is_refused_before_anything_is_decoded(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    data: Path,
    base: Path,
    closed: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained(capsys, data, base, tmp_path / "done", "--head", "mean")
    monkeypatch.setattr(action_clip.training.heads.train, "encode_dataset", None)
    common, new = ("--data", str(data), "--model"), tmp_path / "new"
    assert "has a head of 3 classes already: name the model that it was trained from" in refused(
        capsys, new, *common, str(tmp_path / "done")
    )
    for head in ("tip-adapter", "zero-shot"):
        assert f"knows no texts, which --head {head} is about" in refused(
            capsys, new, *common, str(closed), "--head", head
        )
    (tmp_path / "prompts.txt").write_text("a video of {}\n")
    said = refused(capsys, new, *common, str(closed), "--prompts", str(tmp_path / "prompts.txt"))
    assert "--prompts is for zero-shot models" in said
    code, _, err = run(capsys, "train", "--out", str(new / "model"), *common, str(base))
    assert (code, err) == (1, f"action_clip: error: there is no folder {new}: create it first\n")
    (tmp_path / "file").write_text("")
    assert f"{tmp_path / 'file'} is a file: name a folder" in refused(capsys, tmp_path / "file", *common, str(base))
    said = refused(capsys, tmp_path / "done", *common, str(base))
    assert "has a trained model already: name a new folder, or give --overwrite" in said
    assert "is there already, with fusion.onnx in it: name a new folder" in refused(
        capsys, base, *common, str(base), "--overwrite"
    )
    said = refused(capsys, tmp_path / "nano", *common, str(base))
    assert "--model nano is a model that is there already: give the folder another name" in said
    for name in ("red\x1b[31m", "two\nlines", "\udcff"):
        said = refused(capsys, tmp_path / name, *common, str(base))
        assert "has characters that no text shows: name a folder without them" in said
    (tmp_path / "done" / "notes.txt").write_text("mine")
    said = refused(capsys, tmp_path / "done", *common, str(base), "--overwrite")
    assert "is there already, with notes.txt in it: name a new folder" in said
    code, _, err = run(capsys, "train", "--data", str(data), "--out", str(new), "--head", "quadratic")
    assert code == 2
    assert "invalid choice: 'quadratic'" in err


def test_a_model_is_replaced_where_it_may_be(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path, base: Path
) -> None:
    out = tmp_path / "colours"
    out.mkdir()  # an empty folder is as good as none
    trained(capsys, data, base, out, "--head", "tip-adapter")
    shutil.rmtree(data / "train" / "green thing")
    shutil.rmtree(data / "val" / "green thing")
    trained(capsys, data, base, out, "--head", "linear", "--overwrite")
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "fusion.onnx", "head.onnx", "image.onnx"]
    with load(out) as model:
        assert model.spec.classes == ("blue thing", "red thing")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "colours", "data"]


def test_the_command_that_it_tells_can_be_typed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path, base: Path
) -> None:
    out = tmp_path / "my model"
    assert f"action-clip --model '{out}' --video …\n" in trained(capsys, data, base, out, "--head", "mean")
    assert "\naction-clip --model 'my model' --video clip.mp4\n" in (out / "README.md").read_text("utf-8")


def test_a_model_that_another_training_made_meanwhile_stays(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(capsys, data, base, tmp_path / "other", "--head", "mean")
    out = tmp_path / "colours"
    out.mkdir()
    write = action_clip.training.heads.folder.write_folder

    def slow(*arguments: Any, **options: Any) -> None:
        shutil.copytree(tmp_path / "other", out, dirs_exist_ok=True)
        write(*arguments, **options)

    monkeypatch.setattr(action_clip.training.heads.train, "write_folder", slow)
    said = refused(capsys, out, "--data", str(data), "--model", str(base), "--head", "linear")
    assert "colours has a trained model already: name a new folder, or give --overwrite" in said
    assert load(out).spec.head == "mean"


def test_where_it_cannot_be_written_the_old_model_stays(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "colours"
    trained(capsys, data, base, out, "--head", "mean")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    replace = os.replace

    def failing(source: Path, target: Path) -> None:
        if Path(target) == out:
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    arguments = ("--data", str(data), "--model", str(base), "--head", "linear", "--overwrite")
    assert "cannot be written (No space left on device): name another one" in refused(capsys, out, *arguments)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there are no such signals")
@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM", "SIGKILL", "full disk"])
def test_a_training_that_ends_early_leaves_no_model(tmp_path: Path, data: Path, base: Path, how: str) -> None:
    """It ends while graphs are being copied: the process says so, and waits."""
    out = tmp_path / "colours"
    script = f"""if True:
        import errno, shutil, sys, time
        from action_clip import main
        copy = shutil.copyfile
        def copying(source, target):
            with open(source, "rb") as whole, open(target, "wb") as part:
                part.write(whole.read(100))
            if {how == "full disk"}:
                raise OSError(errno.ENOSPC, "No space left on device")
            print("copying", flush=True)
            time.sleep(100)
        shutil.copyfile = copying
        sys.exit(main(["train", "--data", {str(data)!r}, "--model", {str(base)!r}, "--out", {str(out)!r}]))
    """
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    if how != "full disk":
        assert process.stdout.readline() == "copying\n"
        time.sleep(0.1)
        process.send_signal(signal.Signals[how])
    _, err = process.communicate(timeout=60)
    assert process.returncode == {"SIGINT": 130, "SIGTERM": -15, "SIGKILL": -9, "full disk": 1}[how]
    assert not out.exists()
    left = [path for path in tmp_path.iterdir() if path.name.startswith(".train-")]
    assert len(left) == (how == "SIGKILL")
    if how == "full disk":
        assert "cannot be written (No space left on device)" in err
