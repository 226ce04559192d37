"""Smoothing over time against trying all sequences of labels, and that it waits for a bounded number of parts."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import count, islice, pairwise, product

import numpy as np
import pytest
from numpy.typing import NDArray

import action_clip.models.smoothing
from action_clip.models.smoothing import smoothed

Row = NDArray[np.float64]


def steps(rows: Iterable[Row | Sequence[float]], cost: float) -> Iterator[tuple[Row | Sequence[float], int]]:
    return smoothed(rows, lambda row: np.log(np.array(row, np.float64)), cost)


def path(rows: Iterable[Row | Sequence[float]], cost: float) -> list[int]:
    return [label for _, label in steps(rows, cost)]


@pytest.mark.parametrize("cost", [0.0, 0.3, 1.0, 2.5, 100.0])
def test_no_other_sequence_is_more_probable(cost: float) -> None:
    for seed in range(10):
        rows = np.random.default_rng(seed).dirichlet([0.5] * 3, 6)
        logs = np.log(rows)

        def worth(labels: Sequence[int], logs: NDArray[np.float64] = logs) -> float:
            changes = sum(one != other for one, other in pairwise(labels))
            return float(sum(logs[place, label] for place, label in enumerate(labels)) - cost * changes)

        found = path(rows, cost)
        assert worth(found) == pytest.approx(max(map(worth, product(range(3), repeat=6))))


def test_without_a_cost_each_part_has_its_best_label() -> None:
    rows = np.random.default_rng(7).dirichlet([1] * 5, 40)
    assert path(rows, 0) == rows.argmax(axis=1).tolist()


def test_one_part_that_differs_is_passed_over_and_a_change_is_kept() -> None:
    rows = [[0.9, 0.1]] * 3 + [[0.4, 0.6]] + [[0.9, 0.1]] * 3 + [[0.1, 0.9]] * 4
    assert path(rows, 1.0) == [0] * 7 + [1] * 4


def test_each_part_comes_with_its_label() -> None:
    rows = np.random.default_rng(8).dirichlet([1] * 3, 12)
    assert [row for row, _ in steps(rows.tolist(), 2.0)] == rows.tolist()
    assert path([], 2.0) == []
    assert path([[1.0]], 2.0) == [0]


def test_parts_come_while_others_do() -> None:
    taken = []

    def endless(row: Sequence[float]) -> Iterator[Sequence[float]]:
        for number in count():
            taken.append(number)
            yield row

    assert [label for _, label in islice(steps(endless([0.98, 0.02]), 2.0), 5)] == [0] * 5
    assert len(taken) <= 8


def test_a_bounded_number_of_parts_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(action_clip.models.smoothing, "_MOST_UNDECIDED", 4)
    taken = []

    def endless() -> Iterator[Sequence[float]]:
        for number in count():
            taken.append(number)
            yield [0.5, 0.5]

    assert [label for _, label in islice(steps(endless(), 2.0), 5)] == [0] * 5
    assert len(taken) <= 10
    assert path([[0.5, 0.5]] * 20, 2.0) == [0] * 20
