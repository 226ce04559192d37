"""Features and a label bank → probabilities."""

import numpy as np
from numpy.typing import NDArray

from action_clip.errors import ActionClipError


def score(video: NDArray[np.float32], bank: NDArray[np.float32], logit_scale: float) -> NDArray[np.float64]:
    """Probabilities of the labels, (labels,) float64 with sum 1.

    Softmax over the labels of `logit_scale` times the cosine, for each prompt, then the mean over the prompts
    (ActionCLIP, arXiv 2109.08472).

    Args:
        video: (D,), L2-normalised.
        bank: (prompts, labels, D), L2-normalised.

    Raises:
        ActionClipError: the two D differ.
    """
    if bank.shape[-1] != len(video):
        raise ActionClipError(
            f"the text graph gives {bank.shape[-1]} numbers and the fusion graph {len(video)}: they are not one model's"
        )
    # As one matrix: numpy multiplies a stack of them many times slower.
    logits = logit_scale * (bank.reshape(-1, len(video)) @ video).reshape(bank.shape[:2]).astype(np.float64)
    probabilities: NDArray[np.float64] = softmax(logits).mean(axis=0)
    return probabilities


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over the last axis."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities: NDArray[np.float64] = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return probabilities


def normalized(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Features of length 1, (…, D); ActionClipError where one has no direction."""
    lengths = np.linalg.norm(features, axis=-1, keepdims=True)
    if not np.isfinite(lengths).all() or not lengths.all():
        raise ActionClipError("the graphs returned features that are zero or not finite: download or export them again")
    normalized: NDArray[np.float32] = features / lengths
    return normalized
