"""The answer "none of these" and labels that are scored by themselves: by hand, and the same on every way to them."""

import pickle
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from small_models import SmallModel, random_model, save_model

from action_clip import ActionClip, ActionClipError, LabelBank, Prediction, score
from action_clip.tokenizer.bpe import default_tokenizer
from action_clip.tokenizer.prompts import DEFAULT_NONE_TEXTS, fill_prompts

LABELS = ["drinking", "riding a bicycle", "playing the drums"]
OTHERS = ["nothing", "a wall"]
PROMPTS = ["{}", "a video of {}"]
SCALE = 10.0


@pytest.fixture(scope="module")
def small() -> SmallModel:
    return random_model(1, 4, True)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, small: SmallModel) -> ActionClip:
    folder = save_model(small, tmp_path_factory.mktemp("model"), frames=4, prompts=PROMPTS, scale=SCALE)
    return ActionClip(folder, cache=False)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve frames of noise, ten a second."""
    path = tmp_path_factory.mktemp("video") / "noise.gif"
    pixels = np.random.default_rng(0).integers(0, 256, (12, 40, 40, 3), np.uint8)
    first, *rest = map(Image.fromarray, pixels)
    first.save(path, save_all=True, append_images=rest, duration=100, loop=0)
    return path


def exponentials(small: SmallModel, texts: Sequence[str], features: NDArray[np.float32]) -> NDArray[np.float64]:
    """exp(scale · cosine) of one video by hand, (prompts, texts)."""
    rows = small.text(default_tokenizer().encode(fill_prompts(PROMPTS, texts))).astype(np.float64)
    cosines = rows @ features / np.linalg.norm(rows, axis=1)
    return np.asarray(np.exp(SCALE * cosines).reshape(len(PROMPTS), -1))


def test_none_of_these_has_the_joint_probability_of_its_texts(
    model: ActionClip, small: SmallModel, video: Path
) -> None:
    encoded = model.encode_video(video)
    prediction = model.predict(encoded, LABELS, none=OTHERS, top_k=9)
    shares = exponentials(small, [*LABELS, *OTHERS], encoded.features)
    shares = (shares / shares.sum(axis=1, keepdims=True)).mean(axis=0)
    assert prediction.labels == (*LABELS, "none of these")
    np.testing.assert_allclose(prediction.probabilities, [*shares[:3], shares[3:].sum()], atol=1e-5)
    assert prediction.probabilities.sum() == pytest.approx(1)
    assert (prediction.none_index, prediction.is_multi_label, prediction.top_k) == (3, False, 4)

    own = [model.predict(encoded, [text]).similarities[0] for text in (*LABELS, *OTHERS)]
    np.testing.assert_allclose(prediction.similarities, [*own[:3], max(own[3:])], atol=1e-6)
    assert prediction.to_dict()["class_count"] == 4
    assert {entry["index"] for entry in prediction.to_dict()["predictions"]} == {0, 1, 2, 3}
    assert "multi_label" not in prediction.to_dict()


def test_each_label_by_itself_is_compared_with_the_texts_alone(
    model: ActionClip, small: SmallModel, video: Path
) -> None:
    encoded = model.encode_video(video)
    prediction = model.predict(encoded, LABELS, none=OTHERS, multi_label=True)
    values = exponentials(small, [*LABELS, *OTHERS], encoded.features)
    own, others = values[:, :3], values[:, 3:].sum(axis=1, keepdims=True)
    np.testing.assert_allclose(prediction.probabilities, (own / (own + others)).mean(axis=0), atol=1e-5)
    assert prediction.labels == tuple(LABELS)
    assert (prediction.none_index, prediction.is_multi_label) == (None, True)
    assert prediction.to_dict()["multi_label"] is True
    np.testing.assert_allclose(prediction.similarities, model.predict(encoded, LABELS).similarities, atol=1e-6)

    # A label's probability does not depend on which other labels there are.
    alone = model.predict(encoded, LABELS[1:2], none=OTHERS, multi_label=True)
    assert alone.probabilities[0] == pytest.approx(prediction.probabilities[1], abs=1e-7)


def test_averaged_embeddings_have_one_softmax(model: ActionClip, small: SmallModel, video: Path) -> None:
    mean = ActionClip(model._graphs.name, cache=False, average="embeddings")
    encoded = mean.encode_video(video)
    rows = small.text(default_tokenizer().encode(fill_prompts(PROMPTS, [*LABELS, *OTHERS])))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).reshape(len(PROMPTS), -1, rows.shape[1]).mean(axis=0)
    shares = np.exp(SCALE * (rows @ encoded.features) / np.linalg.norm(rows, axis=1))
    expected = [*shares[:3], shares[3:].sum()] / shares.sum()
    np.testing.assert_allclose(mean.predict(encoded, LABELS, none=OTHERS).probabilities, expected, atol=1e-5)


@pytest.mark.parametrize("how", [{"none": OTHERS}, {"none": OTHERS, "multi_label": True}], ids=["none", "multi-label"])
def test_every_way_gives_the_same(model: ActionClip, video: Path, how: dict[str, Any]) -> None:
    bank = model.labels(LABELS, **how)
    expected = model.classify(video, bank)
    answers: list[object] = [
        model.classify(video, LABELS, **how),
        model.predict(model.encode_video(video), bank),
        *model.classify_many([video], LABELS, **how),
        *model.classify_many([video], bank),
        *(result for _, result in model.classify_as_completed([video], LABELS, **how)),
    ]
    for answer in answers:
        assert isinstance(answer, Prediction)
        assert (answer.labels, answer.none_index, answer.is_multi_label) == (
            expected.labels,
            expected.none_index,
            expected.is_multi_label,
        )
        np.testing.assert_array_equal(answer.probabilities, expected.probabilities)
    windows = list(model.timeline(video, LABELS, window=0.4, **how))
    assert len(windows) > 2
    for window, same in zip(windows, model.timeline(video, bank, window=0.4), strict=True):
        answer = window.prediction
        assert (answer.labels, answer.none_index, answer.is_multi_label) == (
            expected.labels,
            expected.none_index,
            expected.is_multi_label,
        )
        np.testing.assert_allclose(answer.probabilities, same.prediction.probabilities, atol=1e-6)
        np.testing.assert_allclose(answer.probabilities, score(answer.video_features, bank).probabilities, atol=1e-6)


def test_many_rows_are_scored_as_one_by_one(model: ActionClip, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(2).normal(size=(7, 16)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    for multi_label in (False, True):
        bank = model.labels(LABELS, none=OTHERS, multi_label=multi_label)
        monkeypatch.setattr("action_clip.models.scoring._BLOCK", 20)  # two rows
        together = score(rows, bank)
        assert together.probabilities.shape == together.similarities.shape == (7, 3 if multi_label else 4)
        for row, similarities, probabilities in zip(rows, *together, strict=True):
            alone = score(row, bank)
            np.testing.assert_allclose(alone.similarities, similarities, atol=1e-6)
            np.testing.assert_allclose(alone.probabilities, probabilities, atol=1e-6)


def test_a_sharp_scale_gives_certain_answers_and_no_warning(model: ActionClip) -> None:
    bank = replace(model.labels(LABELS, none=OTHERS, multi_label=True), logit_scale=1e200)
    with np.errstate(all="raise", under="ignore"):
        probabilities = score(bank.embeddings[0, 0], replace(bank, embeddings=bank.embeddings[:1])).probabilities
        against = score(bank.embeddings[0, 3], replace(bank, embeddings=bank.embeddings[:1])).probabilities
    assert probabilities[0] == 1
    assert against.tolist() == [0, 0, 0]


def test_true_is_the_models_own_list(model: ActionClip, video: Path) -> None:
    assert model.spec.none_texts == DEFAULT_NONE_TEXTS
    assert model.labels(LABELS, none=True).none_texts == DEFAULT_NONE_TEXTS
    assert model.labels(LABELS, multi_label=True).none_texts == DEFAULT_NONE_TEXTS
    for nothing in (None, False):
        bank = model.labels(LABELS, none=nothing)
        assert (bank.none_texts, bank.choices.labels) == ((), tuple(LABELS))
        assert model.classify(video, LABELS, none=nothing).none_index is None


def test_a_label_does_not_also_stand_for_something_else(
    model: ActionClip, video: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("WARNING", logger="action_clip"):
        for _ in range(2):
            prediction = model.classify(video, ["Dancing", "reading", "a  wall"], none=["dancing", "a wall", "nothing"])
    assert prediction.labels == ("Dancing", "reading", "a  wall", "none of these")
    expected = model.classify(video, ["Dancing", "reading", "a  wall"], none=["nothing"])
    np.testing.assert_allclose(prediction.probabilities, expected.probabilities, atol=1e-6)
    assert caplog.messages == [
        "texts for none that are labels do not also stand for something else: 'dancing', 'a wall'"
    ]


@pytest.mark.parametrize(
    ("labels", "none", "message"),
    [
        (LABELS, "nothing", r"the texts for none are one string, 'nothing': give a list of strings"),
        (LABELS, [], r"the list of texts for none is empty: give at least one"),
        (LABELS, ["x", " "], r"a text for none is blank"),
        (LABELS, [1], r"the texts for none are not all strings"),
        (LABELS, 3, r"the texts for none are 3: give a list of strings, or True"),
        (LABELS, ["x" * 3000], r"the text for none 'x+'… has 3000 characters"),
        (LABELS, ["very " * 80], r"'very .* makes, in its prompt, \d+ tokens"),
        (LABELS, ["\udcff"], r"the text for none '\\udcff' is not valid Unicode"),
        (LABELS, LABELS[:1], r"each text for none is a label too: give others"),
        ([*LABELS, "none of these"], OTHERS, r"'none of these' is the answer that .* give the label another name"),
    ],
)
def test_texts_that_are_not_usable(model: ActionClip, labels: Sequence[str], none: Any, message: str) -> None:
    with pytest.raises(ActionClipError, match=message):
        model.labels(labels, none=none)


def test_a_label_may_have_the_name_of_an_answer_that_there_is_not(model: ActionClip) -> None:
    assert model.labels(["none of these", "x"]).choices.none_index is None
    assert model.labels(["none of these", "x"], multi_label=True).choices.labels == ("none of these", "x")


@pytest.mark.parametrize("how", [{"none": True}, {"none": OTHERS}, {"multi_label": True}])
def test_a_bank_has_its_own_texts(model: ActionClip, video: Path, how: dict[str, Any]) -> None:
    with pytest.raises(ActionClipError, match="a label bank has its own none and multi_label: give them to labels"):
        model.classify(video, model.labels(LABELS), **how)


def test_a_bank_must_fit(model: ActionClip) -> None:
    bank = model.labels(LABELS, none=OTHERS)
    with pytest.raises(
        ActionClipError, match=r"3 labels and 1 texts for none has embeddings .* give \(prompts, 4, D\)"
    ):
        replace(bank, none_texts=("nothing",))
    with pytest.raises(ActionClipError, match="each label is scored against texts for none: give some"):
        replace(model.labels(LABELS), is_multi_label=True)


def test_a_generator_of_texts_and_pickled_banks_and_answers(model: ActionClip, video: Path) -> None:
    def texts() -> Iterable[str]:
        yield from OTHERS

    bank: LabelBank = pickle.loads(pickle.dumps(model.labels(LABELS, none=texts())))
    assert bank.none_texts == tuple(OTHERS)
    prediction = model.classify(video, bank)
    copy = pickle.loads(pickle.dumps(prediction))
    assert (copy.labels, copy.none_index) == (prediction.labels, 3)
    assert "of 4 labels" in repr(copy)
