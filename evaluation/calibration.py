"""Whether probabilities are true: of the answers given with 70 %, are 70 % right?"""

from dataclasses import dataclass

import numpy as np

from action_clip.evaluation.answers import Answers

BINS = 15


@dataclass(frozen=True)
class Bin:
    """The answers whose probability is above `low` and at most `high`: their number, mean probability and right part.

    Without answers, the latter are 0.
    """

    low: float
    high: float
    clips: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """Bins of equal width from 0 to 1, and the expected calibration error.

    That is the mean over the answers of the difference, in their bin, between mean probability and right part.
    """

    error: float
    bins: tuple[Bin, ...]


def calibration(answers: Answers) -> Calibration:
    """Return the calibration of the answers, by the probability of each one's first label (Guo et al. 2017)."""
    answered = answers.answered
    confidences = np.nanmax(answers.scores[answered], axis=1)
    hits = (answers.ranks[answered] < 1).astype(np.float64)
    edges = np.linspace(0, 1, BINS + 1)
    places = np.clip(np.searchsorted(edges, confidences, side="left") - 1, 0, BINS - 1)
    counts = np.bincount(places, minlength=BINS)
    safe = np.maximum(counts, 1)
    mean_confidences = np.bincount(places, confidences, BINS) / safe
    accuracies = np.bincount(places, hits, BINS) / safe
    error = float((counts * np.abs(accuracies - mean_confidences)).sum() / max(counts.sum(), 1))
    return Calibration(
        error,
        tuple(
            Bin(
                float(edges[place]),
                float(edges[place + 1]),
                int(counts[place]),
                float(mean_confidences[place]),
                float(accuracies[place]),
            )
            for place in range(BINS)
        ),
    )
