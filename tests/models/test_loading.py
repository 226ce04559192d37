"""Loading models of either kind, and the options of each."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_models import CLASSES, random_closed_model, random_model, save_closed_model, save_model

import action_clip.models.catalog.model_directory
from action_clip import ActionClip, ActionClipError, ActionClipOperator, Prediction, TimeSformer, load
from action_clip.models.catalog.model_directory import read_model_directory
from action_clip.models.catalog.specs import ModelSpec, catalog
from action_clip.models.model_graphs import find_model


@pytest.fixture(scope="module")
def zero_shot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(random_model(1, 8, True), tmp_path_factory.mktemp("zero-shot"), frames=8)


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_closed_model(random_closed_model(1, frames=4), tmp_path_factory.mktemp("closed"))


def test_every_model_of_the_catalog_is_an_object_of_its_class() -> None:
    loaded = {spec.name: type(load(spec.name)) for spec in catalog()}
    assert loaded.pop("timesformer_k400_8x224") is TimeSformer
    assert set(loaded.values()) == {ActionClip}
    assert load("nano").spec.name == "nano"
    assert load("clip_vit_b16").spec.name == "vit-b-16-8f"
    assert load().spec.name == "vit-32-8f"


def test_the_graphs_of_a_folder_decide_its_class(zero_shot: Path, closed: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (9, 48, 60, 3), dtype=np.uint8)
    answers: list[Prediction] = []
    for folder, labels in ((zero_shot, [["drinking", "eating"]]), (str(closed), [])):
        model = load(folder)
        assert type(model) is (ActionClip if labels else TimeSformer)
        answers.append(model.classify(frames, *labels, top_k=2))
    assert [answer.model for answer in answers] == ["small", "small-closed"]
    assert [answer.labels for answer in answers] == [("drinking", "eating"), CLASSES]
    assert [len(answer.ranked) for answer in answers] == [2, 2]


def test_options_are_those_of_the_class(zero_shot: Path, closed: Path) -> None:
    one = load(zero_shot, average="embeddings", threads=1)
    assert isinstance(one, ActionClip)
    assert one.average == "embeddings"
    classmap = {f"class {index}": index for index in range(7)}
    other = load(closed, classmap=classmap)
    assert isinstance(other, TimeSformer)
    assert other.classes == tuple(classmap)
    with pytest.raises(TypeError, match="spin"):
        load(zero_shot, spin=True)  # type: ignore[call-arg]


def test_options_of_the_other_kind_are_refused(zero_shot: Path, closed: Path) -> None:
    def refused(model: Path, **options: Any) -> str:
        with pytest.raises(ActionClipError) as caught:
            load(model, **options)
        return str(caught.value)

    labels = f"classmap is for closed-set models, and {zero_shot} takes labels: leave it out"
    assert refused(zero_shot, classmap={"eating": 0}) == labels
    assert refused(closed, average="embeddings") == f"average is over prompts, and {closed} has none: leave it out"
    assert refused(closed, prompts=["{}"]) == (
        f"{closed} is a closed-set model, it knows its own classes and no other labels: leave out prompts, "
        "or choose a zero-shot model, such as vit-32-8f or nano"
    )
    # What is left at its default is for both.
    assert isinstance(load(closed, average="probabilities", prompts=None), TimeSformer)
    assert isinstance(load(zero_shot, classmap=None), ActionClip)


def test_a_model_is_found_once(zero_shot: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[Path] = []

    def watched(folder: Path) -> tuple[ModelSpec, dict[str, Path]]:
        looked_at.append(folder)
        return read_model_directory(folder)

    monkeypatch.setattr(action_clip.models.catalog.model_directory, "read_model_directory", watched)
    load(zero_shot)
    assert looked_at == [zero_shot]
    load(find_model(zero_shot))
    assert looked_at == [zero_shot] * 2


def test_a_class_refuses_models_of_the_other_kind(zero_shot: Path, closed: Path) -> None:
    with pytest.raises(ActionClipError) as caught:
        TimeSformer(zero_shot)
    assert str(caught.value) == "small is a zero-shot model, not closed-set: use action_clip.load"
    with pytest.raises(ActionClipError, match="small-closed is a closed-set model, not zero-shot: use action_clip"):
        ActionClip(closed)
    with pytest.raises(ActionClipError, match="timesformer_k400_8x224 is a closed-set model, not zero-shot"):
        ActionClipOperator("timesformer_k400_8x224")


def test_a_zero_shot_model_asks_for_labels(zero_shot: Path) -> None:
    model = load(zero_shot)
    with pytest.raises(ActionClipError) as caught:
        model.classify("missing.mp4")
    assert str(caught.value) == "small is a zero-shot model: give the labels to choose from"


@pytest.mark.parametrize("name", ["vit-99", "timesformer", "x" * 5000, "a\0b"])
def test_an_unknown_name_is_an_error_that_lists_the_models(name: str) -> None:
    with pytest.raises(ActionClipError) as caught:
        load(name)
    assert f"there is no model or folder '{name}': the models are vit-32-8f, nano, " in str(caught.value)
    assert str(caught.value).endswith("timesformer_k400_8x224")


@pytest.mark.parametrize("model", [None, 3, b"nano"])
def test_what_is_neither_a_name_nor_a_path_is_an_error(model: Any) -> None:
    with pytest.raises(ActionClipError, match=f"the model is a {type(model).__name__}: give its name or its folder"):
        load(model)
