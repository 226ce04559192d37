"""The figures of the accuracy benchmark, on a table small enough to check by hand."""

import numpy as np
import pytest

from benchmarks.accuracy import accuracy


def test_figures() -> None:
    probabilities = np.zeros((4, 7))
    probabilities[0, :2] = [0.95, 0.05]  # right, sure
    probabilities[1, :2] = [0.05, 0.95]  # wrong, as sure; the right one is second
    probabilities[2] = [0.25, 0.21, 0.16, 0.14, 0.12, 0.08, 0.04]  # the right one is sixth
    probabilities[3] = [0.25, 0.21, 0.16, 0.14, 0.12, 0.08, 0.04]  # the right one is fifth
    figures = accuracy(probabilities, [0, 0, 5, 4])
    assert (figures.clips, figures.labels) == (4, 7)
    assert figures.top1 == 0.25
    assert figures.top5 == 0.75
    assert figures.confidence == pytest.approx(0.6)
    # bin 0.9–1: confidence 0.95, accuracy 0.5; bin 0.2–0.3: confidence 0.25, accuracy 0; half of the clips in each
    assert figures.calibration_error == pytest.approx(0.5 * 0.45 + 0.5 * 0.25)
