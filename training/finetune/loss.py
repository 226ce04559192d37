"""ActionCLIP's loss: the KL divergence between similarities and which texts fit which clips, in both directions.

B: clips in a batch, and texts, one of each clip. C: classes. D: length of features.
"""

from torch import Tensor
from torch.nn import functional

SHARPNESS = 10.0
"""The label matrix times this, through a softmax, is the distribution that similarities should have."""


def label_matrix(labels: Tensor, chosen: Tensor) -> Tensor:
    """Return which texts fit which clips, (B, B) float32: 1 where clip i has the class of text k, else 0.

    Args:
        labels: (B, C) bool, the classes of each clip.
        chosen: (B,) int64, the class of each text.
    """
    return labels[:, chosen].float()


def contrastive_loss(videos: Tensor, texts: Tensor, scale: Tensor, matrix: Tensor) -> Tensor:
    """Return the mean of both directions' loss, a number.

    Args:
        videos, texts: features, (B, D), of any length.
        scale: the learned factor of cosines.
        matrix: as `label_matrix` returns it.
    """
    # In single precision whatever the networks compute in, as the published code's sums need it.
    cosines = functional.normalize(videos.float(), dim=1) @ functional.normalize(texts.float(), dim=1).T
    similarities = scale.float() * cosines
    return (_divergence(similarities, matrix) + _divergence(similarities.T, matrix.T)) / 2


def _divergence(similarities: Tensor, matrix: Tensor) -> Tensor:
    """Return the mean over the rows of KL(target ‖ softmax of the similarities)."""
    target = (SHARPNESS * matrix).softmax(1)
    return functional.kl_div(similarities.log_softmax(1), target, reduction="batchmean")
