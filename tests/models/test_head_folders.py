"""Folders with a head, as `action-clip train` writes them, or somebody else: what they are, and what is refused."""

import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from make_videos import moving, write_video
from numpy.typing import NDArray
from onnx import helper, parser
from small_models import CLASSES, WIDTH, random_closed_model, random_model, save_closed_model, save_model

from action_clip import ActionClip, ActionClipError, ClosedSetModel, TimeSformer, load
from action_clip.commands.models import verification
from action_clip.models.catalog.model_directory import read_model_directory
from action_clip.models.towhee import ActionClipOperator
from action_clip.training.heads.facts import head_facts, trained_spec
from action_clip.training.heads.folder import write_folder
from action_clip.training.heads.functions import Affine
from action_clip.video.live import containers

NAMES = ("jumping", "standing", "turning")
OPSET = helper.make_opsetid("", 18)


def function(seed: int = 0) -> Affine:
    random = np.random.default_rng(seed)
    return Affine(random.normal(size=(WIDTH, 3)), random.normal(size=3))


def with_head(base: Path, out: Path, head: str, *, is_multi_label: bool = False) -> Path:
    """Write a head on a model's folder."""
    spec, paths = read_model_directory(base)
    new = trained_spec(spec, out, head, NAMES, spec.prompts, is_multi_label=is_multi_label)
    graphs = {role: path for role, path in paths.items() if role != "text" or new.kind == "zero-shot"}
    features = np.random.default_rng(1).normal(size=(4, WIDTH)).astype(np.float32)
    write_folder(out, new, graphs, function(), "# card\n", features)
    return out


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save_model(random_model(1, 4, True), tmp_path / "base", frames=4, prompts=["{}", "a {} person"])


@pytest.fixture
def folder(tmp_path: Path, base: Path) -> Path:
    return with_head(base, tmp_path / "model", "linear")


def frames(seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (9, 48, 64, 3), np.uint8)


def test_a_head_answers_in_place_of_texts(base: Path, folder: Path) -> None:
    model, plain = load(folder), ActionClip(base)
    assert type(model) is ClosedSetModel
    prediction = model.classify(frames())
    features = plain.encode_video(frames()).features
    logits = function()(features[np.newaxis])[0].astype(np.float64)
    np.testing.assert_allclose(prediction.similarities, logits, atol=1e-5)
    np.testing.assert_allclose(prediction.probabilities, np.exp(logits) / np.exp(logits).sum(), atol=1e-6)
    assert (prediction.labels, model.spec.prompts, model.spec.name) == (NAMES, (), "model")
    clips = np.random.default_rng(0).normal(size=(2, 4, 3, 32, 32)).astype(np.float32)
    assert model.encode_clips(clips).logits.shape == (2, 3)
    with pytest.raises(ActionClipError, match="model is a closed-set model, not zero-shot: use"):
        ActionClip(folder)


def test_a_head_in_place_of_the_classes_of_a_closed_set(tmp_path: Path) -> None:
    closed = save_closed_model(random_closed_model(1, 4), tmp_path / "closed")
    folder = with_head(closed, tmp_path / "model", "mean")
    model, plain = load(folder), TimeSformer(closed)
    video = write_video(tmp_path / "clip.mp4", moving(12))
    for kept in (plain, model, plain, model):  # each finds in the video bank what the other has encoded
        prediction = kept.classify(video)
        assert prediction.labels == (NAMES if kept is model else CLASSES)
    encoded = model.encode_video(video)
    assert encoded.logits.shape == (3,)
    np.testing.assert_allclose(encoded.logits, function()(encoded.features[np.newaxis])[0], atol=1e-5)
    with pytest.raises(ActionClipError, match="another model has encoded the video"):
        plain.predict(encoded)
    window = next(iter(model.timeline(video, window=0.2)))
    assert window.prediction.labels == NAMES


def test_each_class_by_itself(tmp_path: Path, base: Path) -> None:
    model = load(with_head(base, tmp_path / "model", "linear", is_multi_label=True))
    prediction = model.classify(frames())
    assert prediction.is_multi_label
    np.testing.assert_allclose(prediction.probabilities, 1 / (1 + np.exp(-prediction.similarities)), atol=1e-12)


def test_a_head_that_adds_to_texts(tmp_path: Path, base: Path) -> None:
    model = load(with_head(base, tmp_path / "model", "tip-adapter"))
    assert isinstance(model, ActionClip)
    assert (model.spec.classes, model.prompts) == (NAMES, ("{}", "a {} person"))
    assert model.classify(frames()).labels == NAMES
    [answer] = model.classify_many([frames()])
    assert not hasattr(answer, "error")
    assert model.labels().labels == NAMES
    assert model.predict(model.encode_video(frames())).labels == NAMES


def test_what_the_base_says_of_itself_is_kept(tmp_path: Path, base: Path) -> None:
    spec, paths = read_model_directory(base)
    spec = replace(spec, none_texts=("nothing", "rain"), temporal="shift", uniform="midpoints", licence="mine")
    new = trained_spec(spec, tmp_path / "model", "zero-shot", NAMES, ["{}!"], is_multi_label=False)
    features = np.ones((1, WIDTH), np.float32)
    write_folder(tmp_path / "model", new, paths, function(), "# card\n", features)
    found, _ = read_model_directory(tmp_path / "model")
    assert (found.none_texts, found.temporal, found.uniform) == (("nothing", "rain"), "shift", "midpoints")
    assert (found.licence, found.prompts, found.logit_scale) == ("mine", ("{}!",), spec.logit_scale)
    assert (found.mean, found.std, found.frames, found.resize) == (spec.mean, spec.std, 4, spec.resize)


@pytest.mark.parametrize("head", ["linear", "tip-adapter"])
def test_a_model_with_a_head_goes_to_other_processes(tmp_path: Path, base: Path, head: str) -> None:
    model = load(with_head(base, tmp_path / "model", head))
    copy = pickle.loads(pickle.dumps(model))
    assert type(copy) is type(model)
    np.testing.assert_array_equal(copy.classify(frames()).probabilities, model.classify(frames()).probabilities)


def test_its_files_are_listed_with_their_hashes(folder: Path) -> None:
    text = verification(str(folder))
    assert [name for name in ("image.onnx", "fusion.onnx", "head.onnx") if str(folder / name) in text] == [
        "image.onnx",
        "fusion.onnx",
        "head.onnx",
    ]


def test_weights_beside_a_graph_come_along(tmp_path: Path, base: Path) -> None:
    path = base / "image.onnx"
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="image.data", size_threshold=100)
    folder = with_head(base, tmp_path / "model", "linear")
    assert (folder / "image.data").read_bytes() == (base / "image.data").read_bytes()
    os.rename(base, tmp_path / "gone")
    assert load(folder).classify(frames()).labels == NAMES


def change(path: Path, **facts: str | None) -> None:
    model = onnx.load(path)
    props = {p.key: p.value for p in model.metadata_props} | facts
    del model.metadata_props[:]
    helper.set_model_props(model, {key: value for key, value in props.items() if value is not None})
    onnx.save(model, path)


def refusal(folder: Path) -> str:
    with pytest.raises(ActionClipError) as caught:
        load(folder, cache=False).classify(frames())
    return str(caught.value)


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"head": "quadratic"}, "which must be one of 'linear', 'mean', 'tip-adapter', 'zero-shot'"),
        ({"head": None}, "lacks the metadata key 'head'"),
        ({"classes": None}, "lacks the metadata key 'classes'"),
        ({"classes": "[]"}, "which must be a list of names"),
        ({"multi_label": "1"}, "which must be true or false"),
        ({"graphs": None}, "lacks the metadata key 'graphs'"),
        ({"graphs": "[]"}, "which must be file names by role"),
        ({"graphs": '{"image": "../base/image.onnx", "fusion": "fusion.onnx"}'}, "a plain file or folder name"),
        ({"graphs": '{"image": "/etc/passwd", "fusion": "fusion.onnx"}'}, "a plain file or folder name"),
        ({"graphs": '{"image": "image.onnx"}'}, "belongs to the graphs head, image, which are no model"),
        ({"graphs": '{"image": "image.onnx", "fusion": "other.onnx"}'}, "other.onnx, the fusion graph that head.onnx"),
        ({"graphs": '{"image": "image.onnx", "fusion": "a.onnx", "soul": "b.onnx"}'}, "which are no model"),
        ({"frames": "1000000000"}, "a whole number from 1 to 1024"),
        ({"resize": "31"}, "has a resize of 31 below its image_size"),
        ({"mean": None}, "lacks the metadata key 'mean'"),
    ],
)
def test_metadata_that_no_head_has(folder: Path, facts: dict[str, str | None], said: str) -> None:
    change(folder / "head.onnx", **facts)
    text = refusal(folder)
    assert said in text
    assert "head.onnx" in text


def test_a_graph_that_is_missing_or_a_second_head(folder: Path) -> None:
    content = (folder / "fusion.onnx").read_bytes()
    (folder / "fusion.onnx").unlink()
    assert "fusion.onnx, the fusion graph that head.onnx belongs to, is missing: put it back" in refusal(folder)
    (folder / "fusion.onnx").write_bytes(content)
    (folder / "another.onnx").write_bytes((folder / "head.onnx").read_bytes())
    assert "has two head graphs, another.onnx and head.onnx: keep one of them" in refusal(folder)


def replaced(folder: Path, text: str) -> None:
    spec, paths = read_model_directory(folder)
    model = helper.make_model(parser.parse_graph(text), opset_imports=[OPSET], ir_version=9)
    helper.set_model_props(model, head_facts(spec, [role for role in paths if role != "head"]))
    onnx.save(model, folder / "head.onnx")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("h (float[N, 16] f) => (float[N, 16] l) { l = Identity(f) }", "gives logits of the shape (1, 16), not (1, 3)"),
        ("h (float[N, 5] f) => (float[N, 5] l) { l = Identity(f) }", "takes (any, 5), not (1, 16)"),
        (
            "h (float[N, 16] f) => (float[N, 3] l) { s = Constant<value_ints=[0]>() e = Constant<value_ints=[3]>() "
            "a = Constant<value_ints=[1]>() c = Slice(f, s, e, a) z = Sub(c, c) l = Log(z) }",
            "gives logits that are not finite: train the model again",
        ),
        ("h (float[N, 16] f) => (float[a, b] l) { l = ReduceMean<keepdims=1>(f) }", "gives logits of the shape (1, 1)"),
        ("h (float[N, 16] f) => (float[N, 3] l) { l = evil.Run(f) }", "cannot be loaded on 'cpu'"),
    ],
)
def test_graphs_that_no_head_has(folder: Path, text: str, said: str) -> None:
    replaced(folder, text)
    assert said in refusal(folder)


def test_a_head_that_differs_when_it_is_read_again_is_not_kept(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Affine, "graph", lambda self, graph=Affine.graph: graph(function(seed=2)))
    with pytest.raises(ActionClipError, match="the logits of the written head differ from what was fitted"):
        with_head(base, tmp_path / "model", "linear")
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


@pytest.mark.parametrize("head", ["linear", "tip-adapter"])
def test_live_video_is_answered_by_the_head(
    tmp_path: Path, base: Path, head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containers, "MOST_LATE_S", 1e9)
    model = load(with_head(base, tmp_path / "model", head))
    video = write_video(tmp_path / "clip.mp4", moving(12))
    with model.watch(video, window=0.4) as watched:
        answer = next(watched)
    [window, *_] = model.timeline(video, window=0.4)
    np.testing.assert_allclose(answer.prediction.probabilities, window.prediction.probabilities, atol=1e-6)
    assert answer.prediction.labels == NAMES


def test_an_operator_has_the_classes_of_the_head(tmp_path: Path, base: Path) -> None:
    folder = with_head(base, tmp_path / "model", "tip-adapter")
    labels, scores, _ = ActionClipOperator(str(folder))(list(frames()))
    ranked = load(folder).classify(frames()).ranked
    assert list(labels) == [entry.label for entry in ranked]
    np.testing.assert_allclose(scores, [entry.probability for entry in ranked], atol=1e-6)
