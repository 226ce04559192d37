"""Watch live video as the options say: answers are written as they come, until the stream ends or Ctrl-C."""

import argparse
import logging
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from shutil import get_terminal_size
from threading import Lock
from typing import Any

import wcwidth

from action_clip.commands.classify import note_stand_in
from action_clip.commands.question import Question, question
from action_clip.commands.targets import check_targets
from action_clip.models.live import LiveTimeline, LiveWindow
from action_clip.models.model_graphs import FoundModel
from action_clip.models.segments import happening, segments
from action_clip.output.live import LiveForm, change_form, segment_form, status, window_form
from action_clip.output.stdout import is_terminal, write_stdout
from action_clip.system.files import LineFile
from action_clip.system.interrupts import ending_in_order
from action_clip.video.live import is_live

_LOG = logging.getLogger("action_clip")


def watch(options: argparse.Namespace, found: FoundModel) -> int:
    """Answer until the stream ends, Ctrl-C or SIGTERM; return the exit code, 0.

    Raises:
        ActionClipError: options, labels, model or stream are not usable, or an answer cannot be written.
    """
    [source] = options.video
    check_targets(options, found.spec, [] if is_live(source) else [source])
    asked = question(options, found, prepack=True)
    form = _form(options, asked)
    with ExitStack() as resources:
        window = None
        if options.show:
            from action_clip.output.show import LiveView

            window = resources.enter_context(LiveView(source))
        answers = asked.model.watch(source, *asked.arguments, **(asked.against | asked.how))
        resources.enter_context(answers)
        resources.enter_context(ending_in_order(answers.stop))
        line = resources.enter_context(_StatusLine(is_shown=_has_status(options)))
        write = _writer(options, resources, line)
        if window is not None:
            window.follow(answers)
        latencies = array("d")  # small: a stream may have any number of answers
        if form.head:
            write(form.head)
        for text in form.lines(_watched(answers, latencies, line, window)):
            write(text)
        line.clear()
        _report(options, answers, latencies)
    note_stand_in(found.spec)
    return 0


def _form(options: argparse.Namespace, asked: Question) -> LiveForm:
    name = options.format or "text"
    if name != "text" and not options.segments:
        return window_form(name, for_spreadsheets=options.spreadsheet)
    smooth: dict[str, Any] = {
        "threshold": asked.threshold if options.threshold is None else options.threshold,
        "switching_cost": options.switching_cost,
    }
    if not options.segments:
        return change_form(partial(happening, **smooth))
    joined = partial(segments, min_duration=options.min_duration or 0.0, **smooth)
    return segment_form(name, joined, for_spreadsheets=options.spreadsheet)


def _has_status(options: argparse.Namespace) -> bool:
    return options.format in (None, "text") and options.output is None and is_terminal()


def _writer(options: argparse.Namespace, resources: ExitStack, line: "_StatusLine") -> Callable[[str], None]:
    if options.output:
        file = resources.enter_context(LineFile(options.output))
        return file.write
    return line.write


def _watched(
    answers: LiveTimeline, latencies: "array[float]", line: "_StatusLine", window: Any
) -> Iterator[LiveWindow]:
    """Yield the answers, and show each of them."""
    for answer in answers:
        latencies.append(answer.latency_s)
        if window is not None:
            window.answer(answer.prediction)
        yield answer
        line.show(answer)


class _StatusLine:
    """The line of a terminal that is written over with each answer; messages and other lines come above it."""

    def __init__(self, *, is_shown: bool) -> None:
        self._is_shown = is_shown
        self._width = 0
        self._lock = Lock()

    def __enter__(self) -> "_StatusLine":
        _LOG.addFilter(self._make_room)
        return self

    def __exit__(self, *_: object) -> None:
        _LOG.removeFilter(self._make_room)
        self.clear()

    def _make_room(self, _: logging.LogRecord) -> bool:
        self.clear()
        return True

    def show(self, answer: LiveWindow) -> None:
        """Write the answer over the one before."""
        if self._is_shown:
            text = status(answer, get_terminal_size().columns)
            with self._lock:
                write_stdout(f"\r{wcwidth.ljust(text, self._width)}", styled=True)
                self._width = wcwidth.width(text)

    def clear(self) -> None:
        """Leave the line empty."""
        with self._lock:
            if self._width:
                write_stdout(f"\r{' ' * self._width}\r", styled=True)
                self._width = 0

    def write(self, text: str) -> None:
        """Write whole lines to stdout."""
        self.clear()
        write_stdout(text)


def _report(options: argparse.Namespace, answers: LiveTimeline, latencies: Iterable[float]) -> None:
    """Say how many answers were left out and, with --benchmark, how late the others were."""
    late = sorted(latencies)
    if options.benchmark and late and _LOG.isEnabledFor(logging.WARNING):
        from statistics import median

        print(
            f"latency from frame to answer: median {median(late) * 1e3:.0f} ms, worst {late[-1] * 1e3:.0f} ms, of "
            f"{len(late)} answers; {answers.left_out} windows were left out",
            file=sys.stderr,
        )
    elif not late:
        _LOG.warning("there is no answer: %s ended before a window was complete", answers.name)
    elif answers.left_out:
        _LOG.warning("%d windows were left out, and %d answered", answers.left_out, len(late))
