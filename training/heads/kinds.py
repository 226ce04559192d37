"""The kinds of heads: how each is fitted to clips, and the settings that it is tried with."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from action_clip.models.scoring import LabelBank, normalized, score, score_logits
from action_clip.training.heads.examples import Examples
from action_clip.training.heads.functions import Affine, Cache

Setting = Mapping[str, float]
"""Numbers that are chosen by cross-validation, by their names."""
Probabilities = NDArray[np.float64]
_ABSENT = -1e4
"""The logit of a class without clips, as it occurs among those of a fold."""
_MOST_ITERATIONS = 1000


@dataclass(frozen=True, eq=False)
class FittedHead:
    """A head that can answer.

    Attributes:
        function: from features to logits, as the graph of the model's folder has it.
        bank: the texts that these logits are added to those of; None: the head does without.
        is_multi_label: whether each class is scored by itself.
    """

    function: Affine | Cache
    bank: LabelBank | None = None
    is_multi_label: bool = False

    def probabilities(self, features: NDArray[np.float32]) -> Probabilities:
        """Return the probabilities of the classes, (N, C), for features, (N, D), as the model will give them."""
        logits = self.function(features)
        if self.bank is None:
            return score_logits(logits, is_multi_label=self.is_multi_label).probabilities
        return score(features, self.bank, logits).probabilities


class Head(ABC):
    """A kind of head.

    Attributes:
        name: one of validators.HEADS.
        settings: what it is tried with, the most regular ones first; at least one.
        default: what it has where nothing can be tried.
    """

    name: ClassVar[str]
    settings: ClassVar[Sequence[Setting]]
    default: ClassVar[Setting]

    @abstractmethod
    def fitted(self, examples: Examples, settings: Sequence[Setting]) -> Iterator[FittedHead]:
        """Yield the head as it is fitted to the clips with each of the settings."""


class Linear(Head):
    """A linear probe: logistic regression; where clips have several classes, one for each class against the rest.

    Features are moved to their mean, and scaled to a mean squared length of 1, so that C means the same for any model.
    """

    name = "linear"
    settings: ClassVar[Sequence[Setting]] = tuple({"C": 10.0**exponent} for exponent in range(-1, 4))
    default: ClassVar[Setting] = {"C": 10.0}

    def fitted(self, examples: Examples, settings: Sequence[Setting]) -> Iterator[FittedHead]:
        """As `Head.fitted`."""
        features = examples.features.astype(np.float64)
        mean = features.mean(axis=0)
        spread = float(np.sqrt(np.square(features - mean).sum(axis=1).mean())) or 1.0
        features = ((features - mean) / spread).astype(np.float32)  # with it, fits take two thirds of the time
        targets = examples.membership.T if examples.is_multi_label else [examples.labels]
        count = 2 if examples.is_multi_label else examples.membership.shape[1]
        for setting in settings:
            parts = [_logistic(features, target, count, setting["C"]) for target in targets]
            # Of one class against the rest, the logit is the difference of both.
            columns = [(w[:, 1] - w[:, 0], b[1] - b[0]) for w, b in parts] if examples.is_multi_label else None
            weights = parts[0][0] if columns is None else np.stack([w for w, _ in columns], axis=1)
            bias = parts[0][1] if columns is None else np.array([b for _, b in columns])
            weights = weights / spread
            yield FittedHead(Affine(weights, bias - mean @ weights), is_multi_label=examples.is_multi_label)


def _logistic(
    features: NDArray[np.float32], target: NDArray[np.generic], count: int, strength: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fit a logistic regression, and return weights, (D, count), and bias, (count,), for the logits of `count` classes.

    `strength` is scikit-learn's C, the inverse of that of regularisation.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    present = np.unique(target).astype(np.intp)
    weights, bias = np.zeros((features.shape[1], count)), np.full(count, _ABSENT)
    if len(present) == 1:
        bias[present] = 0.0
        return weights, bias
    model = LogisticRegression(C=strength, max_iter=_MOST_ITERATIONS)
    # The products are small: several threads wait for each other ten times as long as one needs.
    with warnings.catch_warnings(), threadpool_limits(1, user_api="blas"):
        # Of few clips a class, of fits that are near enough, and old versions' of the options that they give to SciPy.
        for kind in (UserWarning, ConvergenceWarning, DeprecationWarning):
            warnings.simplefilter("ignore", kind)
        model.fit(features, target)
    if len(present) == 2:  # one row: the logit of the second class, that of the first being 0
        weights[:, present] = model.coef_.T @ [[-0.5, 0.5]]
        bias[present] = model.intercept_[0] * np.array([-0.5, 0.5])
    else:
        weights[:, present], bias[present] = model.coef_.T, model.intercept_
    return weights, bias


class ClassMean(Head):
    """The nearest class mean, by the cosine; its scale makes probabilities of it."""

    name = "mean"
    settings: ClassVar[Sequence[Setting]] = tuple({"scale": scale} for scale in (4.0, 8.0, 16.0, 32.0, 64.0, 128.0))
    default: ClassVar[Setting] = {"scale": 16.0}

    def fitted(self, examples: Examples, settings: Sequence[Setting]) -> Iterator[FittedHead]:
        """As `Head.fitted`."""
        sums = examples.membership.T.astype(np.float32) @ examples.features
        is_present = np.linalg.norm(sums, axis=1) > 0
        means = np.zeros_like(sums)
        means[is_present] = normalized(sums[is_present])
        bias = np.where(is_present, 0.0, _ABSENT)
        for setting in settings:
            yield FittedHead(Affine(setting["scale"] * means.T, bias))


class TipAdapter(Head):
    """Tip-Adapter without training: texts, and a cache of training clips, of which similar ones vote for their class.

    Its settings are the paper's α, the weight of the cache beside the texts, and β, its sharpness.
    """

    name = "tip-adapter"
    settings: ClassVar[Sequence[Setting]] = tuple(
        {"alpha": alpha, "beta": beta}
        for alpha, beta in product((0.5, 1.0, 2.0, 4.0, 8.0, 16.0), (2.0, 5.5, 15.0, 40.0))
    )
    default: ClassVar[Setting] = {"alpha": 1.0, "beta": 5.5}

    def __init__(self, bank: LabelBank) -> None:
        """`bank` has the texts of the classes."""
        self._bank = replace(bank, head_classes=bank.labels)

    def fitted(self, examples: Examples, settings: Sequence[Setting]) -> Iterator[FittedHead]:
        """As `Head.fitted`."""
        votes = examples.membership.astype(np.float32)
        for setting in settings:
            yield FittedHead(Cache(examples.features, setting["alpha"] * votes, setting["beta"]), self._bank)


class ZeroShot(Head):
    """The texts alone: a head that adds nothing, and has the names of the classes."""

    name = "zero-shot"
    settings: ClassVar[Sequence[Setting]] = ({},)
    default: ClassVar[Setting] = {}

    def __init__(self, bank: LabelBank) -> None:
        """`bank` has the texts of the classes."""
        self._bank = replace(bank, head_classes=bank.labels)

    def fitted(self, examples: Examples, settings: Sequence[Setting]) -> Iterator[FittedHead]:
        """As `Head.fitted`."""
        count = len(self._bank.labels)
        nothing = Affine(np.zeros((examples.features.shape[1], count)), np.zeros(count))
        for _ in settings:
            yield FittedHead(nothing, self._bank)


def heads_for(bank: LabelBank | None, *, is_multi_label: bool) -> tuple[Head, ...]:
    """Return the heads that a model can have: with the texts of the classes, the zero-shot answer comes first.

    Where clips have several classes, the linear head alone scores each class by itself; the texts are for comparison.
    """
    texts = () if bank is None else (ZeroShot(bank),)
    if is_multi_label:
        return (*texts, Linear())
    return (*texts, ClassMean(), *(() if bank is None else (TipAdapter(bank),)), Linear())
