"""Whole videos in windows: these, or segments of them, are written as they come."""

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from itertools import chain, groupby
from operator import itemgetter

from action_clip.commands.answers import Sink, report_failure
from action_clip.commands.progress import Minutes, minutes
from action_clip.commands.question import Question
from action_clip.commands.videos import ListedVideo
from action_clip.models.prediction import Failure, Window
from action_clip.models.segments import Segment, segments
from action_clip.output.stdout import is_terminal
from action_clip.output.timelines import TimelineForm

Keep = Callable[[int, Window | Failure], None]
"""Takes each window of the video at a place, or what ended its windows early."""


def write_timelines(
    options: argparse.Namespace,
    asked: Question,
    videos: Sequence[ListedVideo],
    form: TimelineForm,
    sink: Sink,
    keep: Keep = lambda *_: None,
) -> int:
    """Write the windows, or segments, of the videos that have no answer yet; return how many failed.

    `keep` is called with each result too, before it is written.
    """
    answered = sink.answered(videos)
    places = [place for place in range(len(videos)) if place not in answered]
    names = (videos[place].name for place in places)
    failed = 0
    with (
        minutes(len(places), beside_answers=options.output is None and is_terminal()) as bar,
        closing(asked.model.timelines(names, *asked.arguments, **(asked.against | asked.how))) as results,
    ):
        for number, of_one in groupby(results, key=itemgetter(0)):
            place = places[number]
            video, windows = videos[place], _Windows(of_one, bar, partial(keep, place))
            has_begun = False
            for text in _texts(windows, options, asked.threshold, form):
                has_begun = True
                with bar.undisturbed():
                    sink.write(text, video, failed=False, more=True)
            failure = windows.failure
            if failure is not None:
                failed += 1
                bar.show_failed(failed)
                report_failure(video, failure.error)
            ending = "" if failure is None else form.failure(failure, has_begun)
            if failure is None or has_begun or ending:
                with bar.undisturbed():
                    sink.write(ending, video, failed=failure is not None)
    return failed


class _Windows:
    """An iterator over the windows of one video.

    Attributes:
        failure: what ended them early.
    """

    def __init__(
        self,
        results: Iterable[tuple[int, Window | Failure]],
        bar: Minutes,
        keep: Callable[[Window | Failure], None],
    ) -> None:
        """`results` are those of one video, with its number; `keep` gets each, and the bar shows which were taken."""
        self.failure: Failure | None = None
        self._results = results
        self._bar = bar
        self._keep = keep

    def __iter__(self) -> Iterator[Window]:
        for number, result in self._results:
            self._keep(result)
            if isinstance(result, Failure):
                self.failure = result
                return
            yield result
            self._bar.reach(number, result)
            if result.end_s == result.prediction.duration_s:  # else the next video would be waited for
                return


def _texts(
    windows: Iterable[Window], options: argparse.Namespace, threshold: float, form: TimelineForm
) -> Iterator[str]:
    """Yield what is written for the windows of one video; `threshold` is the one where none is chosen."""
    rest = iter(windows)
    first = next(rest, None)
    if first is None:
        return
    parts: Iterator[Window | Segment] = chain([first], rest)
    if options.segments:
        parts = joining(options, threshold)(chain([first], rest))
    yield from form.texts(first.prediction, parts)


def joining(options: argparse.Namespace, threshold: float) -> Callable[[Iterable[Window]], Iterator[Segment]]:
    """Return what joins the windows of a video as the options say; `threshold` is the one where none is chosen."""
    return partial(
        segments,
        threshold=threshold if options.threshold is None else options.threshold,
        min_duration=options.min_duration or 0.0,
        switching_cost=options.switching_cost,
    )
