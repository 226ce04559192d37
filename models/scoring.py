"""Scoring: from features and a label bank to similarities and probabilities."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from action_clip.errors import ActionClipError

# Similarities that are computed at a time: bounds the memory, at 8 bytes each, for any number of videos.
_BLOCK = 1 << 22


@dataclass(frozen=True, eq=False)
class LabelBank:
    """The text features of labels, made once by `ActionClip.labels` and used for any number of videos.

    Attributes:
        labels: L labels, in the order of the embeddings.
        embeddings: (P, L, D) float32, L2-normalised, for each of P prompts; P = 1 where embeddings are averaged.
        logit_scale: the model's factor for cosines before the softmax.
        model: name of the model whose text graph gave the embeddings; "" where it is not known.
        timings_s: "text": seconds that making it took.
    """

    labels: tuple[str, ...]
    embeddings: NDArray[np.float32] = field(repr=False)
    logit_scale: float
    model: str = ""
    timings_s: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise ActionClipError where the shape of the embeddings does not fit the labels."""
        shape = self.embeddings.shape
        if len(shape) != 3 or shape[1] != len(self.labels) or 0 in shape:
            raise ActionClipError(
                f"a label bank of {len(self.labels)} labels has embeddings of the shape {shape}: "
                f"give (prompts, {len(self.labels)}, D)"
            )


class Scores(NamedTuple):
    """Similarities and probabilities of L labels, float64: (L,) for one video, (N, L) for N videos."""

    similarities: NDArray[np.float64]
    """Mean cosine over the prompts; of a closed set, the logits."""
    probabilities: NDArray[np.float64]
    """From 0 to 1; their sum over the labels is 1."""


def score(features: NDArray[np.float32], bank: LabelBank) -> Scores:
    """Compare one video, or several, with the labels of a bank.

    The probabilities are the softmax over the labels of the logit scale times the cosine, for each prompt, then the
    mean over the prompts (ActionCLIP, arXiv 2109.08472).

    Args:
        features: (D,) or (N, D), L2-normalised, as `encode_video` and `encode_clips` return them.
        bank: made by the same model.

    Returns:
        Similarities and probabilities, (L,) or (N, L) each.

    Raises:
        ActionClipError: the features have another shape or type, or `bank` is no LabelBank.
    """
    if not isinstance(bank, LabelBank):
        raise ActionClipError(f"the bank is a {type(bank).__name__}: make one with the model's labels()")
    if not isinstance(features, np.ndarray):
        raise ActionClipError(f"the features are a {type(features).__name__}: give an array, (D,) or (N, D)")
    prompts, labels, size = bank.embeddings.shape
    if features.ndim not in (1, 2):
        raise ActionClipError(f"the features are {features.shape}: give (D,) of a video or (N, D) of several")
    if features.shape[-1] != size:
        raise ActionClipError(
            f"the text graph gives {size} numbers and the fusion graph {features.shape[-1]}: they are not one model's"
        )
    rows = np.atleast_2d(features)
    similarities = np.empty((len(rows), labels))
    probabilities = np.empty((len(rows), labels))
    step = max(_BLOCK // (prompts * labels), 1)
    # As one matrix: numpy multiplies a stack of matrices many times slower.
    texts = bank.embeddings.reshape(-1, size)
    for first in range(0, len(rows), step):
        block = slice(first, first + step)
        cosines = (texts @ rows[block].T).T.reshape(-1, prompts, labels).astype(np.float64)
        similarities[block] = cosines.mean(axis=1)
        probabilities[block] = softmax(bank.logit_scale * cosines).mean(axis=1)
    shape = (*features.shape[:-1], labels)
    return Scores(similarities.reshape(shape), probabilities.reshape(shape))


def score_logits(logits: NDArray[np.float32]) -> Scores:
    """Return the logits of a closed set, (C,) or (N, C), as similarities, and their softmax as probabilities."""
    similarities = logits.astype(np.float64)
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
