"""The report: a page of one video, of the timeline of one, or of many videos in a table."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from action_clip.errors import ActionClipError
from action_clip.models.prediction import Failure, Prediction, Window
from action_clip.models.segments import segments
from action_clip.output.captions import ranking
from action_clip.output.report.items import Item, looks, of_failure, of_prediction, of_windows, start_s
from action_clip.output.report.page import FOLDER, TABLE, check_path, write_page

if TYPE_CHECKING:
    from action_clip.output.report.items import Join

_UPLOT = FOLDER / "uplot"
_CURVES = (_UPLOT / "uPlot.iife.min.js", FOLDER / "timeline.js")


def save_report(
    path: str | os.PathLike[str],
    results: Prediction | Iterable[Prediction | Failure | Window],
    *,
    join: Join = segments,
) -> None:
    """Write a page that shows results, whole or not at all: one HTML file that has everything in it but the videos.

    Args:
        path: of the page, whose name ends in .html or .htm; links to videos in files are relative to its folder.
        results: the prediction for one video, which is shown with the frames that were looked at; those for several,
            for a table, with thumbnails where they have some; or the windows of a video's timeline, or those of several
            videos, one after the other, each of which a Failure may end.
        join: makes the segments of a video's windows.

    Raises:
        ActionClipError: the page cannot be written, or there are no results, or they are something else.
    """
    report = Report(path, join)
    place, before = 0, None
    for result in [results] if isinstance(results, Prediction) else results:
        if not isinstance(result, Prediction | Failure | Window):
            raise ActionClipError(f"a result is a {type(result).__name__}: give predictions, failures or windows")
        place += not _continues(before, result)
        report.add(place, result)
        before = result
    report.save()


def _continues(before: Prediction | Failure | Window | None, result: Prediction | Failure | Window) -> bool:
    """Return whether a result is about the same video as the window before it."""
    if not isinstance(before, Window) or isinstance(result, Prediction):
        return False
    if isinstance(result, Failure):
        return result.video == before.prediction.video
    return result.prediction.video == before.prediction.video and result.start_s > before.start_s


def _small(window: Window) -> Window:
    """Return a window without what a page does not show: a film may have ten thousands of them."""
    similarities, features = np.empty(0, np.float64), np.empty(0, np.float32)
    kept = replace(window.prediction, similarities=similarities, video_features=features, timings_s={})
    return replace(window, prediction=kept)


class Report:
    """Collects results, reduced to what the page shows of them, and writes the page."""

    def __init__(self, path: str | os.PathLike[str], join: Join = segments) -> None:
        """Collect results for the page `path`, nothing of which is written before `save`.

        Raises ActionClipError where it cannot be written there.
        """
        check_path(path)
        self._path = path
        self._join = join
        self._items: dict[int, Item] = {}
        self._only: Prediction | None = None
        self._windows: list[Window] = []
        self._place = -1
        self._facts: dict[str, None] = {}  # in the order in which they were found
        self._is_multi_label = False

    def add(self, place: int, result: Prediction | Failure | Window) -> None:
        """Add the result for the video at this place, in any order; a video's windows come one after the other."""
        if self._windows and (place != self._place or not isinstance(result, Window)):
            same = place == self._place and isinstance(result, Failure)
            self._end_windows(result if same and isinstance(result, Failure) else None)
            if same:
                return
        if isinstance(result, Window):
            self._place = place
            self._windows.append(_small(result))
        elif isinstance(result, Failure):
            self._items[place] = of_failure(result, self._path)
        else:
            self._only = None if self._items else result
            self._note(result)
            self._items[place] = of_prediction(result, self._path)

    def _end_windows(self, failure: Failure | None) -> None:
        windows, self._windows = self._windows, []
        self._note(windows[0].prediction)
        self._items[self._place] = of_windows(windows, failure, self._join, self._path)

    def _note(self, prediction: Prediction) -> None:
        facts = (prediction.model, ranking(len(prediction.ranked), len(prediction.labels)))
        self._facts |= dict.fromkeys(facts)
        self._is_multi_label = self._is_multi_label or prediction.is_multi_label

    def save(self) -> None:
        """Write the page. Raises ActionClipError where it cannot be written, or nothing was added."""
        if self._windows:
            self._end_windows(None)
        items = [self._items[place] for place in sorted(self._items)]
        if not items:
            raise ActionClipError(f"the report {os.fspath(self._path)} is not written: there are no results")
        if len(items) == 1 and items[0].timeline is not None:
            values = {"title": items[0].title, "item": items[0]}
            write_page(self._path, "one_timeline.html", values, scripts=_CURVES, styles=[_UPLOT / "uPlot.min.css"])
        elif len(items) == 1 and self._only is not None and self._only.frames.size:
            begins_s = start_s(self._only.video, items[0].link)
            item = replace(items[0], looks=looks(self._only), start_s=begins_s)
            write_page(self._path, "one.html", {"title": item.title, "item": item})
        else:
            self._save_table(items)

    def _save_table(self, items: list[Item]) -> None:
        of_time = any(item.timeline for item in items)
        # A video may have several of its labels with --multi-label and in windows; else it has the first one.
        of_all = of_time or self._is_multi_label
        counts = Counter(entry.label for item in items for entry in item.entries[: None if of_all else 1])
        labels = sorted(counts, key=lambda label: (label.lower(), label))
        numbers = {label: number for number, label in enumerate(labels)}
        failed = sum(item.error is not None for item in items)
        values: dict[str, Any] = {
            "title": f"{len(items):,} video{'' if len(items) == 1 else 's'}",
            "items": items,
            "facts": list(self._facts),
            "failed": failed,
            "labels": [(label, number, counts[label]) for label, number in numbers.items()],
            "numbers": numbers,
            "of_time": of_time,
            "of_all": of_all,
        }
        scripts, styles = ([TABLE, *_CURVES], [_UPLOT / "uPlot.min.css"]) if of_time else ([TABLE], [])
        write_page(self._path, "table.html", values, scripts=scripts, styles=styles)
