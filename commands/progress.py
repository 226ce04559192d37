"""Progress bars on stderr, where that is a terminal: of videos, of the minutes of whole ones, of one's frames."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from action_clip.system.terminal import no_progress_bars

if TYPE_CHECKING:
    from tqdm import tqdm

    from action_clip.models.prediction import Window

_MINUTES = "{l_bar}{bar}| {n:.1f}/{total:.1f} min [{elapsed}<{remaining}{postfix}]"


class _Bar:
    """A progress bar; without one, its methods do nothing."""

    def __init__(self, bar: "tqdm[Any] | None", *, beside_answers: bool = False) -> None:
        self._bar = bar
        self._failed = 0
        self._beside_answers = beside_answers

    def show_failed(self, failed: int) -> None:
        """Show that so many videos have failed so far."""
        if self._bar is not None and failed != self._failed:
            self._failed = failed
            self._bar.set_postfix_str(f"{failed} failed")

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Take the bar away while the block writes answers to the same terminal."""
        if self._bar is None or not self._beside_answers:
            yield
            return
        with self._bar.external_write_mode(file=sys.stdout):
            yield


class Progress(_Bar):
    """Counts videos."""

    def count(self, failed: int, videos: int = 1) -> None:
        """Count more videos; `failed` of all so far have failed."""
        if self._bar is not None:
            self._bar.update(videos)
            self.show_failed(failed)


class Minutes(_Bar):
    """Counts the minutes of whole videos; how many there are is estimated by the videos so far."""

    def __init__(self, bar: "tqdm[Any] | None", videos: int, *, beside_answers: bool = False) -> None:
        super().__init__(bar, beside_answers=beside_answers)
        self._videos = videos
        self._number = -1
        self._before = 0.0
        self._minutes = 0.0

    def reach(self, number: int, window: "Window") -> None:
        """Show that a window of the video with this number, from 0, is done."""
        if self._bar is None:
            return
        if number != self._number:
            self._number = number
            self._before += self._minutes
            self._minutes = (window.prediction.duration_s or 0.0) / 60
            self._bar.total = (self._before + self._minutes) / (number + 1) * self._videos
        self._bar.update(self._before + window.end_s / 60 - self._bar.n)


@contextmanager
def progress(total: int, done: int, *, beside_answers: bool) -> Iterator[Progress]:
    """Yield the count of videos; log messages come above its bar.

    Args:
        total: number of videos.
        done: how many of them were done before.
        beside_answers: whether answers go to the same terminal.
    """
    with _bar(total=total, initial=done, unit="video") as bar:
        yield Progress(bar, beside_answers=beside_answers)


@contextmanager
def minutes(videos: int, *, beside_answers: bool) -> Iterator[Minutes]:
    """Yield the count of the minutes of so many videos; `beside_answers` is as for `progress`."""
    with _bar(total=0, bar_format=_MINUTES) as bar:
        yield Minutes(bar, videos, beside_answers=beside_answers)


@contextmanager
def frames() -> Iterator[Callable[[int, int], None]]:
    """Yield a function that shows how many frames of a video are done, of how many."""
    with _bar(total=0, unit="frame") as bar:

        def show(done: int, total: int) -> None:
            if bar is None:
                return
            if bar.total != total:
                bar.reset(total)
            bar.update(done - bar.n)

        yield show


@contextmanager
def _bar(**options: Any) -> Iterator["tqdm[Any] | None"]:
    """Yield tqdm's bar with these options, or None where there is to be none."""
    if no_progress_bars() or sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    with (
        tqdm(**options, dynamic_ncols=True, leave=False) as bar,
        logging_redirect_tqdm([logging.getLogger("action_clip")]),
    ):
        yield bar
