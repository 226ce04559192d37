"""The progress bar of several videos on stderr, where that is a terminal."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from action_clip.system.terminal import no_progress_bars

if TYPE_CHECKING:
    from tqdm import tqdm


class Progress:
    """Counts videos; without a bar, where there is to be none."""

    def __init__(self, bar: "tqdm[Any] | None", *, beside_answers: bool = False) -> None:
        self._bar = bar
        self._failed = 0
        self._beside_answers = beside_answers

    def count(self, failed: int, videos: int = 1) -> None:
        """Count more videos; `failed` of all so far have failed."""
        if self._bar is not None:
            self._bar.update(videos)
            if failed != self._failed:
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


@contextmanager
def progress(total: int, done: int, *, beside_answers: bool) -> Iterator[Progress]:
    """Yield the count of videos; log messages come above its bar.

    Args:
        total: number of videos.
        done: how many of them were done before.
        beside_answers: whether answers go to the same terminal.
    """
    if no_progress_bars() or sys.stderr is None or not sys.stderr.isatty():
        yield Progress(None)
        return
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    with (
        tqdm(total=total, initial=done, unit="video", dynamic_ncols=True, leave=False) as bar,
        logging_redirect_tqdm([logging.getLogger("action_clip")]),
    ):
        yield Progress(bar, beside_answers=beside_answers)
