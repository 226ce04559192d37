"""What heads are trained on: features and the classes that they belong to."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from action_clip.data.dataset import Dataset
from action_clip.data.encoding import EncodedDataset
from action_clip.data.splits import group_numbers


@dataclass(frozen=True, eq=False)
class Examples:
    """Clips as heads see them.

    Attributes:
        features: (N, D) float32, L2-normalised.
        membership: (N, C) bool, the classes of each clip, at least one.
        is_multi_label: whether clips have several classes.
    """

    features: NDArray[np.float32] = field(repr=False)
    membership: NDArray[np.bool_] = field(repr=False)
    is_multi_label: bool

    def __len__(self) -> int:
        """N."""
        return len(self.features)

    @property
    def labels(self) -> NDArray[np.intp]:
        """The class of each clip, (N,); of several, the first one."""
        labels: NDArray[np.intp] = self.membership.argmax(axis=1)
        return labels

    def taken(self, rows: NDArray[np.intp]) -> "Examples":
        """Return the clips in these rows."""
        return Examples(self.features[rows], self.membership[rows], self.is_multi_label)


def examples_of(encoded: EncodedDataset) -> Examples:
    """Return the clips of a data set that can be read."""
    return Examples(encoded.features, membership(encoded.readable), encoded.dataset.is_multi_label)


def membership(dataset: Dataset) -> NDArray[np.bool_]:
    """Return which of the C classes each clip has, (N, C)."""
    belongs = np.zeros((len(dataset), len(dataset.classes)), bool)
    for row, example in enumerate(dataset.examples):
        belongs[row, list(example.labels)] = True
    return belongs


def groups_of_class(dataset: Dataset) -> NDArray[np.intp]:
    """Return the number of groups that have clips of each class, (C,)."""
    groups = group_numbers(dataset)
    belongs = membership(dataset)
    return np.array([len(np.unique(groups[belongs[:, label]])) for label in range(len(dataset.classes))], np.intp)
