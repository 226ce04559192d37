"""What a page shows of one video: its answer, or why there is none, reduced to what is shown."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from action_clip.output.captions import counted, duration, ranking, title
from action_clip.output.report.curves import Timeline, timeline
from action_clip.output.report.links import Link, link
from action_clip.output.report.page import picture
from action_clip.system.terminal import sentence

if TYPE_CHECKING:
    from action_clip.models.prediction import Failure, Prediction, Window
    from action_clip.models.segments import Segment

    Join = Callable[[Iterable[Window]], Iterable[Segment]]

_MOST_LABELS = 10
"""Most labels that a row has."""


@dataclass(frozen=True)
class Entry:
    """A label with a bar.

    Attributes:
        value: length of the bar, from 0 to 1: a probability, or a part of the video's time.
        text: the number that is shown.
    """

    label: str
    value: float
    text: str


@dataclass(frozen=True)
class Look:
    """A frame that was looked at."""

    jpeg: bytes
    index: int
    time_s: float | None


@dataclass(frozen=True)
class Item:
    """One video on a page.

    Attributes:
        name: its path or address, without password or token; "" where frames were given.
        link: to it.
        facts: about it and its answer, for a heading.
        entries: labels, highest first.
        duration_s: its length in seconds; None where it is not known.
        start_s: when its first frame is shown, in seconds on the clock of players.
        error: why there is no answer, or not for all of it, in one sentence.
        thumbnail: a frame of it, as JPEG.
        looks: the frames that were looked at, of one video alone.
        timeline: what happens when, with --window.
    """

    name: str
    link: Link | None
    facts: Sequence[str]
    entries: Sequence[Entry]
    duration_s: float | None
    error: str | None = None
    start_s: float = 0.0
    thumbnail: bytes | None = None
    looks: Sequence[Look] = ()
    timeline: Timeline | None = None

    @property
    def title(self) -> str:
        """Name of the file, or last part of the address."""
        return title(self.name or None)


def of_prediction(prediction: Prediction, page: str | os.PathLike[str]) -> Item:
    """Return the item of a video that has one answer; `page` is the path of the page."""
    small = prediction.thumbnail
    if small is None and prediction.frames.size:
        from action_clip.video.thumbnails import thumbnail

        small = thumbnail(prediction.frames[len(prediction.frames) // 2])
    return Item(
        name=prediction.video or "",
        link=link(prediction.video, page),
        facts=_facts(prediction, f"{counted(len(prediction.frame_indices), 'frame')} looked at"),
        entries=[
            Entry(entry.label, min(max(entry.probability, 0.0), 1.0), f"{entry.probability:.1%}")
            for entry in prediction.ranked[:_MOST_LABELS]
        ],
        duration_s=prediction.duration_s,
        thumbnail=None if small is None else picture(small),
    )


def looks(prediction: Prediction) -> list[Look]:
    """Return the frames that were looked at, of a prediction that has them."""
    times = prediction.frame_times_s or (None,) * len(prediction.frames)
    return [
        Look(picture(frame), index, time_s)
        for frame, index, time_s in zip(prediction.frames, prediction.frame_indices, times, strict=True)
    ]


def of_failure(failure: Failure, page: str | os.PathLike[str]) -> Item:
    """Return the item of a video that has no answer."""
    error = sentence(failure.error)
    return Item(failure.video or "", link(failure.video, page), (), (), None, error)


def of_windows(windows: Sequence[Window], failure: Failure | None, join: Join, page: str | os.PathLike[str]) -> Item:
    """Return the item of a video in windows, at least one; `failure` is what ended them early."""
    first = windows[0].prediction
    segments = list(join(windows))
    where = link(first.video, page)
    return Item(
        name=first.video or "",
        link=where,
        facts=_facts(first, f"{counted(len(windows), 'window')} of {duration(windows[0].end_s - windows[0].start_s)}"),
        entries=_totals(segments, windows[-1].end_s),
        duration_s=first.duration_s,
        error=None if failure is None else sentence(failure.error),
        start_s=start_s(first.video, where),
        thumbnail=_keyframe(first.video) if where is not None and where.is_file else None,
        timeline=timeline(windows, segments),
    )


def _facts(prediction: Prediction, looked_at: str) -> list[str]:
    length = [] if prediction.duration_s is None else [duration(prediction.duration_s)]
    labels = ranking(len(prediction.ranked), len(prediction.labels))
    return [*length, looked_at, prediction.model, labels]


def _totals(segments: Iterable[Segment], end_s: float) -> list[Entry]:
    """Return the labels that happen with the time that each of them takes, longest first."""
    totals: dict[str, float] = defaultdict(float)
    for segment in segments:
        totals[segment.label] += segment.end_s - segment.start_s
    longest = sorted(totals.items(), key=lambda item: -item[1])[:_MOST_LABELS]
    return [Entry(label, min(total_s / end_s, 1.0) if end_s else 1.0, duration(total_s)) for label, total_s in longest]


def start_s(video: str | None, where: Link | None) -> float:
    """Return when the first frame of a video in a file is shown: later than 0 where its sound begins before."""
    from action_clip.errors import ActionClipError
    from action_clip.video.reader import VideoReader

    if video is None or where is None or not where.is_file:
        return 0.0
    try:
        with VideoReader(video, threads=1) as reader, reader.original() as original:
            return float(original.start_s)
    except ActionClipError:
        return 0.0


def _keyframe(video: str | None) -> bytes | None:
    """Return the thumbnail of a video in a file; None where it cannot be read."""
    from action_clip.errors import ActionClipError
    from action_clip.video.thumbnails import keyframe_thumbnail

    assert video is not None
    try:
        return picture(keyframe_thumbnail(video))
    except ActionClipError:
        return None
