"""Where the answers for several videos go: stdout, a pipe or a file, in the order of the videos or as they finish."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO, Protocol

from action_clip.commands.resume import Settings, resumable_output
from action_clip.commands.videos import ListedVideo
from action_clip.errors import ActionClipError
from action_clip.models.prediction import Failure, Prediction
from action_clip.output.stdout import write_stdout
from action_clip.output.writers import Form
from action_clip.system.addresses import display_name
from action_clip.system.files import open_stream, writing

_LOG = logging.getLogger("action_clip")


class Sink(Protocol):
    """Takes what is written for each video."""

    def answered(self, videos: Sequence[ListedVideo]) -> set[int]:
        """Return the places of the videos that it has an answer for from an earlier run: none, unless it is a file."""
        return set()

    def write(self, text: str, video: ListedVideo, *, failed: bool, more: bool = False) -> None:
        """Write it now, whole; `more`: another part of the same answer follows.

        Raises ActionClipError where it cannot be written.
        """


class Answers:
    """Writes the answers for these videos to a sink, in the form's order.

    Attributes:
        answered: the places of the videos that the sink has an answer for already.
    """

    def __init__(self, form: Form, sink: Sink, videos: Sequence[ListedVideo]) -> None:
        self.answered = sink.answered(videos)
        self._form = form
        self._sink = sink
        self._videos = videos
        self._waiting: dict[int, tuple[str, bool]] = {}
        self._next = 0

    def add(self, place: int, result: Prediction | Failure) -> None:
        """Write the answer for the video at this place; or later, if others come before it.

        Raises ActionClipError where it cannot be written.
        """
        if place in self.answered:
            return
        failed = isinstance(result, Failure)
        text = self._form.failure(result) if isinstance(result, Failure) else self._form.answer(result)
        if not self._form.in_order:
            self._sink.write(text, self._videos[place], failed=failed)
            return
        self._waiting[place] = text, failed
        while self._next in self._waiting or self._next in self.answered:
            if self._next not in self.answered:
                text, failed = self._waiting.pop(self._next)
                self._sink.write(text, self._videos[self._next], failed=failed)
            self._next += 1


class StdoutSink(Sink):
    """Writes to stdout."""

    def __init__(self, head: str, *, separator: str, styled: bool) -> None:
        """`head` comes before the first answer, `separator` between two; `styled` is as for `write_stdout`."""
        self._head = head
        self._between = ""
        self._separator = separator
        self._styled = styled

    def write(self, text: str, video: ListedVideo, *, failed: bool, more: bool = False) -> None:
        """Write it, unless it is ""; the head in any case."""
        before, self._head = self._head, ""
        if text:
            before += self._between
            self._between = self._separator
        if before + text:
            write_stdout(before + text, styled=self._styled)


class StreamSink(Sink):
    """Writes to a device, a pipe, or a file that is open already."""

    def __init__(self, head: str, path: str, stream: BinaryIO) -> None:
        self._before = head
        self._path = path
        self._stream = stream

    def write(self, text: str, video: ListedVideo, *, failed: bool, more: bool = False) -> None:
        """Write it. Raises ActionClipError where it cannot be written."""
        with writing(self._path):
            self._stream.write((self._before + text).encode("utf-8", errors="backslashreplace"))
            self._stream.flush()
        self._before = ""


def report_failure(video: ListedVideo, error: ActionClipError) -> None:
    """Say on stderr, in one sentence, which video failed and why."""
    name, text = display_name(video.name), str(error)
    if name in text:
        _LOG.error("error: %s", text)
    else:
        _LOG.error("error: %s: %s", name, text)


@contextmanager
def file_sink(path: str, head: str, settings: Callable[[], Settings], *, resume: bool) -> Iterator[Sink]:
    """Yield the sink for --output; the arguments, and errors, are those of `resumable_output`."""
    with writing(path):
        stream = open_stream(path)
    if stream is None:
        with resumable_output(path, settings, head, resume=resume) as output:
            yield output
        return
    try:
        if resume:
            raise ActionClipError(f"{path} is no file, and cannot be read to go on with it: leave out --resume")
        yield StreamSink(head, path, stream)
    finally:
        with writing(path):
            stream.close()
