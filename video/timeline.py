"""When each frame of a video is shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from action_clip.video.clip import Clip
from action_clip.video.packets import PacketTable

LONGEST_GAP_S = Fraction(2**32, 90_000)
"""13 hours: half of what FFmpeg adds to MPEG's timestamps that jump back, as if they had begun anew after 26."""


@dataclass(frozen=True)
class Timeline:
    """When each frame of a video is shown, and when the last one ends, in seconds from the first frame."""

    times_s: tuple[float, ...]
    duration_s: float

    def clip(self, frames: NDArray[np.uint8], indices: list[int]) -> Clip:
        """Return the frames, (T, H, W, 3), with these indices as a clip."""
        times_s = tuple(self.times_s[index] for index in indices)
        return Clip(frames, tuple(indices), times_s, len(self.times_s), self.duration_s)


def timeline_of(times: Sequence[int | None], table: PacketTable) -> Timeline:
    """Return when each frame starts, counted from the first one, and when the last one ends.

    Where times are missing, run backwards or leave out `LONGEST_GAP_S`, they are computed from the average rate.
    """
    known = [time for time in times if time is not None]
    gap = max((after - before for before, after in pairwise(known)), default=0)
    if len(known) < len(times) or known != sorted(known) or gap * table.time_base > LONGEST_GAP_S:
        return Timeline(tuple(float(i / table.rate) for i in range(len(times))), float(len(times) / table.rate))
    unit = table.time_base
    starts_s = tuple((time - known[0]) * unit.numerator / unit.denominator for time in known)
    last_duration = int(table.duration[table.pts == known[-1]].max(initial=0))
    # Where frames are reordered, a container's durations are often differences of decoding times.
    if last_duration and (len(known) == 1 or np.all(np.diff(table.pts) > 0)):
        last_s = float(last_duration * table.time_base)
    else:
        last_s = starts_s[-1] / (len(starts_s) - 1) if starts_s[-1] else float(1 / table.rate)
    return Timeline(starts_s, starts_s[-1] + last_s)
