"""Which frames of a video are looked at.

Two rules are ActionCLIP's own (github sallymmx/ActionCLIP): the evaluation rule takes the middle of each
of `count` equal segments, the training rule a random frame of each. The evaluation rule of mmaction2's port is half a
frame later. TimeSformer's rule takes evenly spaced frames, with the first and the last one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from action_clip.errors import ActionClipError
from action_clip.video import SAMPLINGS

Sampler = Callable[[int], list[int]]
"""A function from the number of frames in a video to the indices of the frames to look at."""


@dataclass(frozen=True)
class Keyframes:
    """The frames of `rule`, each replaced by the nearest keyframe of the video: approximate, but quick in long videos.

    Where different frames would have the same keyframe, a reader takes the frames themselves if the video is short. Of
    a long video it takes the few keyframes that there are, and logs a warning with their number.

    Called with a number of frames, it returns the indices of `rule`: only a reader knows where keyframes are.
    """

    rule: Sampler

    def __call__(self, total: int) -> list[int]:
        """Return the indices of the rule."""
        return self.rule(total)


def _check(total: int, count: int) -> None:
    if count < 1:
        raise ActionClipError(f"the number of frames to look at is {count}; it must be at least 1")
    if total < 1:
        raise ActionClipError(f"a video of {total} frames has nothing to look at; give one with a frame")


def uniform_indices(total: int, count: int) -> list[int]:
    """Return `count` indices spread evenly over `total` frames, in order.

    The official evaluation rule, with N = total, T = count: `i * N // T` when N <= T (frames repeat), else
    `int(i * N / T + (N / T - 1) / 2)`. Raises ActionClipError when either number is below 1.
    """
    _check(total, count)
    if total <= count:
        return [i * total // count for i in range(count)]
    offset = (total / count - 1) / 2
    return [int(i * total / count + offset) for i in range(count)]


def linspace_indices(total: int, count: int) -> list[int]:
    """Return `count` indices from the first frame to the last, evenly spaced and rounded down.

    PyTorchVideo's uniform temporal subsampling. Raises ActionClipError when either number is below 1.
    """
    _check(total, count)
    return [i * (total - 1) // max(1, count - 1) for i in range(count)]


def midpoint_indices(total: int, count: int) -> list[int]:
    """Return `count` indices, in order: the frame shown in the middle of each of `count` equal parts.

    mmaction2's SampleFrames where it evaluates clips of one frame (test_mode, clip_len 1): with N = total and
    T = count, (i + ½) · N / T rounded down, for N < T as well. Raises ActionClipError when either number is
    below 1.
    """
    _check(total, count)
    interval = total / count  # in floating point, as in mmaction2, to round the same way
    return [int(i * interval + interval / 2) for i in range(count)]


UNIFORM_RULES: dict[str, Callable[..., list[int]]] = {
    "segments": uniform_indices,
    "midpoints": midpoint_indices,
    "linspace": linspace_indices,
}


def random_indices(total: int, count: int, seed: int) -> list[int]:
    """Return `count` indices, in order: one uniformly random frame in each of `count` equal segments.

    The official training rule: segment i runs from `i * N // T` to `(i + 1) * N // T`; when N <= T, every
    frame once and T - N random repeats. The same arguments give the same indices. Raises ActionClipError
    when either number is below 1 or the seed is no whole number from 0.
    """
    _check(total, count)
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise ActionClipError(f"the seed is {seed}; it must be a whole number, 0 or more")
    generator = np.random.default_rng(seed)
    if total <= count:
        repeats = generator.integers(total, size=count - total)
        return sorted([*range(total), *repeats.tolist()])
    ticks = np.arange(count + 1) * total // count
    return [int(i) for i in generator.integers(ticks[:-1], ticks[1:])]


def make_sampler(kind: str, count: int, seed: int, uniform: str = "segments") -> Sampler:
    """Return the sampler called `kind` (one of SAMPLINGS) that takes `count` frames.

    `uniform`, one of UNIFORM_RULES, is the rule of "uniform"; "keyframes" takes the keyframes nearest to the frames of
    that rule. Raises ActionClipError for another kind, for a count below 1 and for a negative seed.
    """
    if kind not in SAMPLINGS:
        raise ActionClipError(f'there is no sampling "{kind}"; choose one of: {", ".join(SAMPLINGS)}')
    sampler: Sampler = partial(UNIFORM_RULES[uniform], count=count)
    if kind == "random":
        sampler = partial(random_indices, count=count, seed=seed)
    elif kind == "keyframes":
        sampler = Keyframes(sampler)
    sampler(1)  # refuses bad numbers now, not after a video was opened
    return sampler
