"""Features of made-up clips, which lie around a point of their class."""

import numpy as np

from action_clip.models.scoring import normalized
from action_clip.training.heads.examples import Examples

SIZE = 12


def clouds(seed: int, count: int, classes: int = 3, spread: float = 0.05) -> Examples:
    """So many clips of each class, near a point of its own, all of them far from the origin as CLIP's features are."""
    random = np.random.default_rng(seed)
    points = np.random.default_rng(9).normal(size=(classes, SIZE)) * 0.3 + 1
    labels = np.repeat(np.arange(classes), count)
    features = normalized((points[labels] + spread * random.normal(size=(len(labels), SIZE))).astype(np.float32))
    return Examples(features, np.eye(classes, dtype=bool)[labels], is_multi_label=False)
