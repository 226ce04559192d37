"""The timeline of a video as a page shows it: bands of segments, and the curves of the labels that matter most."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from action_clip.output.report.text import shown

if TYPE_CHECKING:
    from action_clip.models.prediction import Window
    from action_clip.models.segments import Segment

MOST_CURVES = 8
"""As many as there are colours, --curve-0 to --curve-7 in style.css."""


@dataclass(frozen=True)
class Band:
    """A segment, and where it is drawn.

    Attributes:
        start, width: in percent of the timeline.
        lane: from 0, of bands that may overlap.
        curve: number of its label's curve and colour; None for a label without one.
    """

    segment: Segment
    start: float
    width: float
    lane: int
    curve: int | None


@dataclass(frozen=True)
class Timeline:
    """What happens when in a video.

    Attributes:
        bands: its segments.
        lanes: number of lanes of bands, at least 1.
        labels: of the curves.
        windows: beginning, end, most probable label and its probability, of each window.
        data: for the script that draws the curves.
    """

    bands: Sequence[Band]
    lanes: int
    labels: Sequence[str]
    windows: Sequence[tuple[float, float, str, float]]
    data: dict[str, Any]


def timeline(windows: Sequence[Window], segments: Sequence[Segment]) -> Timeline:
    """Return the timeline of a video; `windows` are all of its windows, at least one, and `segments` those of them."""
    first = windows[0].prediction
    chosen = _chosen(windows, segments)
    end_s = windows[-1].end_s or 1.0
    curves = {index: number for number, index in enumerate(chosen)}
    lanes = _lanes(segments) if first.is_multi_label else {}
    bands = [
        Band(
            segment,
            100 * segment.start_s / end_s,
            100 * (segment.end_s - segment.start_s) / end_s,
            lanes.get(segment.index, 0),
            curves.get(segment.index),
        )
        for segment in segments
    ]
    values = np.array([window.prediction.probabilities[chosen] for window in windows]).round(4)
    labels = [shown(first.labels[index]) for index in chosen]
    return Timeline(
        bands=bands,
        lanes=max(len(lanes), 1),
        labels=labels,
        windows=[_best(window) for window in windows],
        data={
            "end": round(end_s, 6),
            "times": [round((window.start_s + window.end_s) / 2, 6) for window in windows],
            "labels": labels,
            "values": values.T.tolist(),
        },
    )


def _chosen(windows: Sequence[Window], segments: Sequence[Segment]) -> list[int]:
    """Return the indices of the labels that get a curve: those that happen longest, then the most probable ones."""
    totals: dict[int, float] = defaultdict(float)
    for segment in segments:
        totals[segment.index] += segment.end_s - segment.start_s
    highest = np.max([window.prediction.probabilities for window in windows], axis=0)
    by_time = sorted(totals, key=lambda index: (-totals[index], index))
    by_height = np.argsort(-highest, kind="stable").tolist()
    return list(dict.fromkeys([*by_time, *by_height]))[:MOST_CURVES]


def _lanes(segments: Sequence[Segment]) -> dict[int, int]:
    """Return the lane of each label, by the beginning of its first segment."""
    return {index: lane for lane, index in enumerate(dict.fromkeys(segment.index for segment in segments))}


def _best(window: Window) -> tuple[float, float, str, float]:
    best = window.prediction.ranked[0]
    return window.start_s, window.end_s, best.label, best.probability
