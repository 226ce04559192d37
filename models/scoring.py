"""Scoring: from features and a label bank to similarities and probabilities."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from action_clip.errors import ActionClipError
from action_clip.tokenizer.prompts import NONE_OF_THESE

# Similarities that are computed at a time: bounds the memory, at 8 bytes each, for any number of videos.
_BLOCK = 1 << 22


class Choices(NamedTuple):
    """What may be the answer; the fields are those of a Prediction."""

    labels: tuple[str, ...]
    none_index: int | None = None
    is_multi_label: bool = False


@dataclass(frozen=True, eq=False)
class LabelBank:
    """The text features of labels, made once by `ActionClip.labels` and used for any number of videos.

    Attributes:
        labels: L labels, in the order of the embeddings.
        embeddings: (P, L + K, D) float32, L2-normalised, for each of P prompts; P = 1 where embeddings are averaged.
            Those of the labels, then those of the texts for none.
        logit_scale: the model's factor for cosines before the softmax.
        model: name of the model whose text graph gave the embeddings; "" where it is not known.
        timings_s: "text": seconds that making it took.
        none_texts: K texts that mean something else than the labels; none by default.
        is_multi_label: whether each label is scored by itself against these texts. Otherwise, where there are any, they
            are one more answer together, "none of these".
        head_classes: the classes of the model's head, which adds to the logits of those that are labels here; none by
            default.
    """

    labels: tuple[str, ...]
    embeddings: NDArray[np.float32] = field(repr=False)
    logit_scale: float
    model: str = ""
    timings_s: dict[str, float] = field(default_factory=dict)
    none_texts: tuple[str, ...] = field(default=(), repr=False)
    is_multi_label: bool = field(default=False, repr=False)
    head_classes: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        """Raise ActionClipError where the embeddings do not fit the texts, or multi-label has none to score against."""
        shape, count = self.embeddings.shape, len(self.labels) + len(self.none_texts)
        if len(shape) != 3 or shape[1] != count or 0 in shape:
            others = f" and {len(self.none_texts)} texts for none" if self.none_texts else ""
            raise ActionClipError(
                f"a label bank of {len(self.labels)} labels{others} has embeddings of the shape {shape}: "
                f"give (prompts, {count}, D)"
            )
        if self.is_multi_label and not self.none_texts:
            raise ActionClipError("with multi_label, each label is scored against texts for none: give some")

    @property
    def choices(self) -> Choices:
        """What may be the answer: the labels, and last, where there are texts for none, "none of these"."""
        if self.none_texts and not self.is_multi_label:
            return Choices((*self.labels, NONE_OF_THESE), len(self.labels))
        return Choices(self.labels, is_multi_label=self.is_multi_label)


class Scores(NamedTuple):
    """Similarities and probabilities of L choices, float64: (L,) for one video, (N, L) for N videos."""

    similarities: NDArray[np.float64]
    """Mean cosine over the prompts, for "none of these" that of its nearest text; of a closed set, the logits."""
    probabilities: NDArray[np.float64]
    """From 0 to 1; their sum over the choices is 1, but not where each label is scored by itself."""


def score(features: NDArray[np.float32], bank: LabelBank, logits: NDArray[np.float32] | None = None) -> Scores:
    """Compare one video, or several, with the labels of a bank.

    The probabilities are the softmax over the labels of the logit scale times the cosine, for each prompt, then the
    mean over the prompts (ActionCLIP, arXiv 2109.08472). Texts for none are in the softmax like labels, in the same
    prompts, and the probability of "none of these" is their sum. Where the bank is multi-label, there is a softmax for
    each label, over it and the texts for none alone. Where the model has a head, its logits are added to those of the
    labels that are its classes, before the softmax (Tip-Adapter, arXiv 2207.09519).

    Args:
        features: (D,) or (N, D), L2-normalised, as `encode_video` and `encode_clips` return them.
        bank: made by the same model.
        logits: (C,) or (N, C), the head's, where the model has one: as they are returned with the features. Those of a
            model without one, (0,) or (N, 0), change nothing.

    Returns:
        Similarities and probabilities of the bank's choices, (L,) or (N, L) each.

    Raises:
        ActionClipError: features or logits have another shape or type, or `bank` is no LabelBank.
    """
    if not isinstance(bank, LabelBank):
        raise ActionClipError(f"the bank is a {type(bank).__name__}: make one with the model's labels()")
    if not isinstance(features, np.ndarray):
        raise ActionClipError(f"the features are a {type(features).__name__}: give an array, (D,) or (N, D)")
    prompts, count, size = bank.embeddings.shape
    if features.ndim not in (1, 2):
        raise ActionClipError(f"the features are {features.shape}: give (D,) of a video or (N, D) of several")
    if features.shape[-1] != size:
        raise ActionClipError(
            f"the text graph gives {size} numbers and the fusion graph {features.shape[-1]}: they are not one model's"
        )
    rows = np.atleast_2d(features)
    added = _added(bank, logits, len(rows))
    choices = len(bank.choices.labels)
    similarities = np.empty((len(rows), choices))
    probabilities = np.empty((len(rows), choices))
    step = max(_BLOCK // (prompts * count), 1)
    # As one matrix: numpy multiplies a stack of matrices many times slower.
    texts = bank.embeddings.reshape(-1, size)
    for first in range(0, len(rows), step):
        block = slice(first, first + step)
        cosines = (texts @ rows[block].T).T.reshape(-1, prompts, count).astype(np.float64)
        similarities[block] = _of_choices(cosines.mean(axis=1), bank, np.max)
        probabilities[block] = _probabilities(bank.logit_scale * cosines + added[block, np.newaxis], bank).mean(axis=1)
    shape = (*features.shape[:-1], choices)
    return Scores(similarities.reshape(shape), probabilities.reshape(shape))


def _added(bank: LabelBank, logits: NDArray[np.float32] | None, count: int) -> NDArray[np.float64]:
    """Return what the head adds to the logits of labels and texts for none, (count, L + K).

    Raises ActionClipError where the logits are not those of the bank's model.
    """
    classes, texts = bank.head_classes, len(bank.labels) + len(bank.none_texts)
    if not classes:
        return np.zeros((count, texts))
    rows = np.empty((0, 0), np.float32) if logits is None else np.atleast_2d(logits)
    if rows.shape != (count, len(classes)):
        raise ActionClipError(
            f"the model has a head of {len(classes)} classes: give the logits of the same videos, ({count}, "
            f"{len(classes)}), which encode_video and encode_clips return with the features"
        )
    added = np.zeros((count, texts))
    columns = {name: column for column, name in enumerate(classes)}
    for place, label in enumerate(bank.labels):
        if label in columns:
            added[:, place] = rows[:, columns[label]]
    return added


def _of_choices(
    values: NDArray[np.float64], bank: LabelBank, join: Callable[..., NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Return values of labels and texts for none, (…, L + K), as values of the choices; `join` reduces the latter."""
    labels, none_texts = np.split(values, [len(bank.labels)], axis=-1)
    if bank.choices.none_index is None:
        return labels
    return np.concatenate([labels, join(none_texts, axis=-1, keepdims=True)], axis=-1)


def _probabilities(logits: NDArray[np.float64], bank: LabelBank) -> NDArray[np.float64]:
    """Return the probabilities of the choices by the logits of labels and texts for none, (…, L + K)."""
    if not bank.is_multi_label:
        return _of_choices(softmax(logits), bank, np.sum)
    labels, none_texts = np.split(logits, [len(bank.labels)], axis=-1)
    against = np.logaddexp.reduce(none_texts, axis=-1, keepdims=True)
    return np.asarray(np.exp(-np.logaddexp(0.0, against - labels)))


def score_logits(logits: NDArray[np.float32], *, is_multi_label: bool = False) -> Scores:
    """Return the logits of a closed set, (C,) or (N, C), as similarities, and their softmax as probabilities.

    With `is_multi_label`, each class has a probability of its own, the logistic function of its logit.
    """
    similarities = logits.astype(np.float64)
    if is_multi_label:
        return Scores(similarities, np.asarray(np.exp(-np.logaddexp(0.0, -similarities))))
    return Scores(similarities, softmax(similarities))


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the softmax over the last axis."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities: NDArray[np.float64] = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return probabilities


def normalized(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the features, (…, D), scaled to length 1.

    Raises:
        ActionClipError: features are zero or not finite.
    """
    lengths = np.linalg.norm(features, axis=-1, keepdims=True)
    if not np.isfinite(lengths).all() or not lengths.all():
        raise ActionClipError("the graphs returned features that are zero or not finite: download or export them again")
    normalized: NDArray[np.float32] = features / lengths
    return normalized
