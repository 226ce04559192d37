"""The sampling rules against values worked out by hand."""

from fractions import Fraction
from math import floor

import numpy as np
import pytest

from action_clip.errors import ActionClipError
from action_clip.models.catalog.validators import UNIFORM_RULES as NAMED_RULES
from action_clip.video import SAMPLINGS
from action_clip.video.sampling import (
    UNIFORM_RULES,
    Keyframes,
    linspace_indices,
    make_sampler,
    midpoint_indices,
    random_indices,
    uniform_indices,
)


@pytest.mark.parametrize(
    ("total", "count", "expected"),
    [
        # N > T: int(i * N / T + (N / T - 1) / 2)
        (16, 8, [0, 2, 4, 6, 8, 10, 12, 14]),  # offset 0.5
        (24, 8, [1, 4, 7, 10, 13, 16, 19, 22]),  # offset 1
        (9, 8, [0, 1, 2, 3, 4, 5, 6, 7]),  # 0.0625 + i * 1.125
        (20, 8, [0, 3, 5, 8, 10, 13, 15, 18]),  # 0.75 + i * 2.5
        (100, 8, [5, 18, 30, 43, 55, 68, 80, 93]),  # 5.75 + i * 12.5
        (300, 8, [18, 55, 93, 130, 168, 205, 243, 280]),  # 18.25 + i * 37.5
        (10, 3, [1, 4, 7]),  # 1.1667 + i * 3.3333
        (7, 1, [3]),
        (180000, 2, [44999, 134999]),
        # N <= T: i * N // T
        (8, 8, [0, 1, 2, 3, 4, 5, 6, 7]),
        (7, 8, [0, 0, 1, 2, 3, 4, 5, 6]),
        (5, 8, [0, 0, 1, 1, 2, 3, 3, 4]),
        (3, 8, [0, 0, 0, 1, 1, 1, 2, 2]),
        (1, 8, [0] * 8),
        (1, 1, [0]),
    ],
)
def test_uniform_table(total: int, count: int, expected: list[int]) -> None:
    assert uniform_indices(total, count) == expected


@pytest.mark.parametrize(
    ("total", "count", "expected"),
    [
        # i * (N - 1) / (T - 1), rounded down
        (8, 8, [0, 1, 2, 3, 4, 5, 6, 7]),
        (9, 8, [0, 1, 2, 3, 4, 5, 6, 8]),
        (16, 8, [0, 2, 4, 6, 8, 10, 12, 15]),
        (29, 8, [0, 4, 8, 12, 16, 20, 24, 28]),
        (300, 8, [0, 42, 85, 128, 170, 213, 256, 299]),
        (180000, 2, [0, 179999]),
        # fewer frames than are looked at: they repeat
        (5, 8, [0, 0, 1, 1, 2, 2, 3, 4]),
        (2, 8, [0, 0, 0, 0, 0, 0, 0, 1]),
        (1, 8, [0] * 8),
        # one is the first
        (300, 1, [0]),
        (1, 1, [0]),
    ],
)
def test_linspace_table(total: int, count: int, expected: list[int]) -> None:
    assert linspace_indices(total, count) == expected


def test_linspace_is_exact_from_the_first_frame_to_the_last() -> None:
    for total in [*range(1, 60), 997, 123457, 10**9]:
        for count in (2, 3, 8, 16, 96):
            indices = linspace_indices(total, count)
            assert indices == [floor(Fraction(i * (total - 1), count - 1)) for i in range(count)]
            assert (indices[0], indices[-1]) == (0, total - 1)


@pytest.mark.parametrize(
    ("total", "count", "expected"),
    [
        # (i + ½) · N / T, rounded down
        (16, 8, [1, 3, 5, 7, 9, 11, 13, 15]),
        (9, 8, [0, 1, 2, 3, 5, 6, 7, 8]),  # 0.5625 + i * 1.125
        (20, 8, [1, 3, 6, 8, 11, 13, 16, 18]),  # 1.25 + i * 2.5
        (100, 8, [6, 18, 31, 43, 56, 68, 81, 93]),  # 6.25 + i * 12.5
        (300, 8, [18, 56, 93, 131, 168, 206, 243, 281]),  # 18.75 + i * 37.5
        (7, 1, [3]),
        # fewer frames than are looked at: they repeat, by the same rule
        (8, 8, [0, 1, 2, 3, 4, 5, 6, 7]),
        (7, 8, [0, 1, 2, 3, 3, 4, 5, 6]),  # 0.4375 + i * 0.875
        (5, 8, [0, 0, 1, 2, 2, 3, 4, 4]),  # 0.3125 + i * 0.625
        (3, 8, [0, 0, 0, 1, 1, 2, 2, 2]),  # 0.1875 + i * 0.375
        (1, 8, [0] * 8),
        (1, 1, [0]),
    ],
)
def test_midpoint_table(total: int, count: int, expected: list[int]) -> None:
    assert midpoint_indices(total, count) == expected


def test_midpoints_are_mmaction2s() -> None:
    """Of any numbers, as SampleFrames(clip_len=1, num_clips=count, test_mode=True) computes them, with NumPy."""
    for total in [*range(1, 200), 997, 123457, 10**8 + 1]:
        for count in (1, 2, 3, 7, 8, 10, 16, 25, 32):
            interval = total / float(count)
            expected = np.mod(np.arange(count) * interval + interval / 2.0, total).astype(np.int32)
            assert midpoint_indices(total, count) == expected.tolist()


def test_random_takes_one_frame_of_each_segment() -> None:
    # 21 frames in 8 segments begin at 0, 2, 5, 7, 10, 13, 15, 18.
    ticks = [0, 2, 5, 7, 10, 13, 15, 18, 21]
    seen = [random_indices(21, 8, seed) for seed in range(300)]
    for place in range(8):
        assert {indices[place] for indices in seen} == set(range(ticks[place], ticks[place + 1]))


def test_random_takes_each_frame_of_a_short_video_and_repeats_some() -> None:
    repeated = set()
    for seed in range(100):
        indices = random_indices(5, 8, seed)
        assert len(indices) == 8
        assert indices == sorted(indices)
        assert set(indices) == set(range(5))
        repeated |= {index for index in indices if indices.count(index) > 1}
    assert repeated == set(range(5))
    assert random_indices(8, 8, 3) == list(range(8))


def test_random_is_repeatable_and_depends_on_the_seed() -> None:
    assert random_indices(300, 8, 7) == random_indices(300, 8, 7)
    assert len({tuple(random_indices(300, 8, seed)) for seed in range(10)}) == 10


def test_samplers_by_name() -> None:
    assert SAMPLINGS == ("uniform", "random", "keyframes")
    assert make_sampler("uniform", 8, 5)(100) == uniform_indices(100, 8)
    assert make_sampler("random", 8, 5)(100) == random_indices(100, 8, 5)
    assert make_sampler("uniform", 8, 5, "linspace")(100) == linspace_indices(100, 8)
    assert make_sampler("uniform", 8, 5, "midpoints")(100) == midpoint_indices(100, 8)
    assert make_sampler("random", 8, 5, "linspace")(100) == random_indices(100, 8, 5)
    keyframes = make_sampler("keyframes", 8, 5, "linspace")
    assert isinstance(keyframes, Keyframes)
    assert keyframes(100) == linspace_indices(100, 8)  # of frames that are decoded already
    assert tuple(UNIFORM_RULES) == NAMED_RULES
    with pytest.raises(ActionClipError, match='no sampling "dense"; choose one of: uniform, random, keyframes'):
        make_sampler("dense", 8, 0)


@pytest.mark.parametrize(
    ("kind", "count", "seed", "message"),
    [("uniform", 0, 0, "is 0; it must be at least 1"), ("random", -1, 0, "is -1"), ("random", 8, -1, "seed")],
)
def test_bad_numbers_are_refused_at_once(kind: str, count: int, seed: int, message: str) -> None:
    with pytest.raises(ActionClipError, match=message):
        make_sampler(kind, count, seed)


def test_a_video_without_frames_is_refused() -> None:
    with pytest.raises(ActionClipError, match="video of 0 frames"):
        uniform_indices(0, 8)
    with pytest.raises(ActionClipError, match="video of 0 frames"):
        linspace_indices(0, 8)
    with pytest.raises(ActionClipError, match="video of 0 frames"):
        midpoint_indices(0, 8)
