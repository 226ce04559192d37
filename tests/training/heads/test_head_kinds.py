"""Heads: what they compute is what scikit-learn and the papers' formulas say, in numpy and as graphs."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from feature_clouds import SIZE, clouds
from numpy.typing import NDArray

from action_clip.models.scoring import LabelBank, normalized, score, softmax
from action_clip.training.heads.examples import Examples
from action_clip.training.heads.figures import fitted_with
from action_clip.training.heads.functions import Affine, Cache
from action_clip.training.heads.kinds import ClassMean, Head, Linear, TipAdapter, ZeroShot, heads_for

CLASSES = ("archery", "bowling", "climbing")


def bank(prompts: int = 2) -> LabelBank:
    embeddings = np.random.default_rng(5).normal(size=(prompts, len(CLASSES), SIZE)).astype(np.float32)
    return LabelBank(CLASSES, normalized(embeddings), logit_scale=7.0)


def run_graph(function: Affine | Cache, features: NDArray[np.float32]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(function.graph().SerializeToString(), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {session.get_inputs()[0].name: features})
    return np.asarray(logits)


def scaled(features: NDArray[np.float32], train: NDArray[np.float32]) -> NDArray[np.float32]:
    """As the linear head's docstring says: moved to the mean, mean squared length 1."""
    rows, known = features.astype(np.float64), train.astype(np.float64)
    mean = known.mean(axis=0)
    return np.asarray((rows - mean) / np.sqrt(((known - mean) ** 2).sum(axis=1).mean()), np.float32)


def fitted_reference(rows: NDArray[np.float32], labels: NDArray[np.generic], strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # of old versions, about the options that they give to SciPy
        return LogisticRegression(C=strength, max_iter=1000).fit(rows, labels)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("strength", [0.1, 10.0, 1000.0])
def test_the_linear_head_is_scikit_learns_logistic_regression(classes: int, strength: float) -> None:
    train, test = clouds(0, 20, classes, spread=0.3), clouds(1, 10, classes, spread=0.3).features
    fitted = fitted_with(Linear(), train, {"C": strength})
    reference = fitted_reference(scaled(train.features, train.features), train.labels, strength)
    expected = reference.decision_function(scaled(test, train.features))
    logits = run_graph(fitted.function, test)
    assert logits.shape == (10 * classes, classes)
    if classes == 2:  # scikit-learn has one number, the difference of both
        np.testing.assert_allclose(logits[:, 1] - logits[:, 0], expected, atol=1e-5, rtol=1e-5)
    else:
        np.testing.assert_allclose(logits, expected, atol=1e-5, rtol=1e-5)
    probabilities = reference.predict_proba(scaled(test, train.features))
    np.testing.assert_allclose(fitted.probabilities(test), probabilities, atol=1e-5)


def test_several_classes_a_clip_are_each_against_the_rest() -> None:
    one = clouds(0, 20, spread=0.3)
    both = one.membership.copy()
    both[:30:3, 1] = True
    both[::7, 2] = True
    train, test = Examples(one.features, both, is_multi_label=True), clouds(1, 10).features
    fitted = fitted_with(Linear(), train, {"C": 10.0})
    rows = scaled(train.features, train.features)
    for label in range(3):
        reference = fitted_reference(rows, both[:, label], 10.0)
        expected = reference.decision_function(scaled(test, train.features))
        np.testing.assert_allclose(run_graph(fitted.function, test)[:, label], expected, atol=1e-5, rtol=1e-5)
        own = reference.predict_proba(scaled(test, train.features))[:, 1]
        np.testing.assert_allclose(fitted.probabilities(test)[:, label], own, atol=1e-5)


def test_the_nearest_mean_is_that_of_the_cosine() -> None:
    train, test = clouds(0, 4, spread=0.4), clouds(1, 10, spread=0.4).features
    fitted = fitted_with(ClassMean(), train, {"scale": 20.0})
    means = np.stack([train.features[4 * label : 4 * label + 4].mean(axis=0) for label in range(3)])
    cosines = test @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T
    np.testing.assert_allclose(run_graph(fitted.function, test), 20 * cosines, atol=1e-5)
    np.testing.assert_allclose(fitted.probabilities(test), softmax(20 * cosines.astype(np.float64)), atol=1e-5)


def test_tip_adapter_is_the_papers_formula() -> None:
    """Logits = scale · f Wᵀ + α · exp(-β (1 - f Fᵀ)) L, of each prompt, whose softmax is averaged."""
    train, test, texts = clouds(0, 4, spread=0.4), clouds(1, 10, spread=0.4).features, bank()
    alpha, beta = 2.5, 5.5
    fitted = fitted_with(TipAdapter(texts), train, {"alpha": alpha, "beta": beta})
    affinities = test.astype(np.float64) @ train.features.astype(np.float64).T
    cache = np.exp(-beta + beta * affinities) @ train.membership
    expected = np.mean([softmax(7.0 * test @ words.T + alpha * cache) for words in texts.embeddings], axis=0)
    np.testing.assert_allclose(run_graph(fitted.function, test), alpha * cache, rtol=1e-5)
    np.testing.assert_allclose(fitted.probabilities(test), expected, atol=1e-6)


def test_zero_shot_is_the_texts_alone() -> None:
    train, test, texts = clouds(0, 4), clouds(1, 10).features, bank()
    fitted = fitted_with(ZeroShot(texts), train, {})
    np.testing.assert_array_equal(fitted.probabilities(test), score(test, texts).probabilities)
    assert not run_graph(fitted.function, test).any()


@pytest.mark.parametrize("head", [Linear(), ClassMean(), TipAdapter(bank())], ids=lambda head: str(head.name))
def test_classes_that_lie_apart_are_told_apart(head: Head) -> None:
    train, test = clouds(0, 5), clouds(1, 30)
    settings: Sequence[object] = head.settings
    right = [fitted.probabilities(test.features).argmax(axis=1) == test.labels for fitted in _all(head, train)]
    assert len(right) == len(settings)
    assert max(each.mean() for each in right) == 1
    for fitted in _all(head, train):
        np.testing.assert_allclose(fitted.probabilities(test.features).sum(axis=1), 1, atol=1e-9)


def _all(head: Head, train: Examples) -> list:  # type: ignore[type-arg]
    return list(head.fitted(train, head.settings))


@pytest.mark.parametrize("head", [Linear(), ClassMean(), TipAdapter(bank())], ids=lambda head: str(head.name))
@pytest.mark.parametrize("missing", [1, 2])
def test_a_class_without_clips_in_a_fold_is_not_answered(head: Head, missing: int) -> None:
    """But by the texts, which know it."""
    train, test = clouds(0, 5), clouds(1, 10).features
    some = train.taken(np.flatnonzero(train.labels < 3 - missing))
    for fitted in head.fitted(some, head.settings):
        answers = set(fitted.probabilities(test).argmax(axis=1).tolist())
        assert isinstance(head, TipAdapter) or answers <= set(range(3 - missing))


def test_which_heads_a_model_can_have() -> None:
    def names(texts: LabelBank | None, is_multi_label: bool) -> list[str]:
        return [head.name for head in heads_for(texts, is_multi_label=is_multi_label)]

    assert names(bank(), False) == ["zero-shot", "mean", "tip-adapter", "linear"]
    assert names(None, False) == ["mean", "linear"]
    assert names(bank(), True) == ["zero-shot", "linear"]
    assert names(None, True) == ["linear"]


def test_the_graphs_take_any_number_of_clips(tmp_path: Path) -> None:
    train = clouds(0, 4)
    for head in (Linear(), TipAdapter(bank())):
        function = fitted_with(head, train, head.default).function
        for count in (1, 5):
            np.testing.assert_allclose(
                run_graph(function, train.features[:count]), function(train.features[:count]), rtol=1e-4, atol=1e-5
            )
