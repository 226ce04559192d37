"""What is evaluated: for each clip the scores of all labels that may be the answer, and the right ones."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from action_clip.data.dataset import Dataset


@dataclass(frozen=True, eq=False)
class Answers:
    """The answers for the N clips of a data set.

    Attributes:
        dataset: the clips.
        source: the model, or the file, that the answers are of.
        choices: C labels that may be the answer.
        right: the indices in `choices` of each clip's labels.
        scores: (N, C) float64; NaN where a score is not known, and in the rows of failures. The highest is the answer,
            of equal ones the first.
        failures: a sentence for each clip that has no answer, by its index.
        are_probabilities: whether scores are between 0 and 1 and say how sure the answer is.
        views: clips x crops that were looked at; "" where it is not known.
    """

    dataset: Dataset
    source: str
    choices: tuple[str, ...]
    right: tuple[tuple[int, ...], ...]
    scores: NDArray[np.float64] = field(repr=False)
    failures: dict[int, str] = field(repr=False)
    are_probabilities: bool = True
    views: str = ""

    def __len__(self) -> int:
        """N."""
        return len(self.right)

    @property
    def answered(self) -> NDArray[np.bool_]:
        """(N,) whether a clip has an answer."""
        answered = np.ones(len(self), np.bool_)
        answered[[*self.failures]] = False
        return answered

    @property
    def best(self) -> NDArray[np.intp]:
        """(N,) index in `choices` of each answer; -1 where there is none."""
        known = np.where(np.isnan(self.scores), -np.inf, self.scores)
        return np.where(self.answered, known.argmax(axis=1), -1)

    @property
    def ranks(self) -> NDArray[np.intp]:
        """(N,) place of the first right label among the scores, from 0; of one without a score, and of failures, C."""
        ranks = np.full(len(self), len(self.choices), np.intp)
        columns = np.arange(len(self.choices))
        for index, labels in enumerate(self.right):
            row = self.scores[index]
            for label in labels:
                if not np.isnan(row[label]):
                    above = (row > row[label]) | ((row == row[label]) & (columns < label))
                    ranks[index] = min(ranks[index], np.count_nonzero(above))
        return ranks

    @property
    def depths(self) -> NDArray[np.intp]:
        """(N,) the number of labels whose scores are known."""
        depths: NDArray[np.intp] = np.count_nonzero(~np.isnan(self.scores), axis=1)
        return depths

    @property
    def targets(self) -> NDArray[np.bool_]:
        """(N, C) whether a label is right."""
        targets = np.zeros((len(self), len(self.choices)), np.bool_)
        for index, labels in enumerate(self.right):
            targets[index, list(labels)] = True
        return targets
