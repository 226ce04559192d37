"""Many frames of a video in stretches, which several threads decode at once: each begins at a keyframe where it can.

Where decoding cannot begin anew, as between two keyframes that are far apart or in a video without regular timestamps,
stretches are parts of one stream of frames, and the threads that decode them take turns.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from threading import Condition, Event
from typing import NamedTuple

from action_clip.errors import ActionClipError
from action_clip.system.interrupts import POLL_S
from action_clip.video.clip import Frame
from action_clip.video.seeking import StrategyError

Open = Callable[[int, int], Iterator[Frame]]
"""A function from two places in a list of indices to a generator of the frames between them."""


class Ways(NamedTuple):
    """How the frames of stretches are decoded. Each may raise StrategyError; then the next one is tried from there."""

    anywhere: tuple[Open, ...]
    """Begin at any keyframe; tried in order."""
    whole: Open
    """Decodes the video from its beginning: tried last, and once for all stretches."""


class _Stream:
    """The frames between two places of a list of indices, in order, which several stretches take in turns.

    A stretch waits until those before it have ended, so that the frames are the same however threads are scheduled.
    """

    def __init__(self, start: Open, first: int | None, end: int, stop: Event) -> None:
        """Decode nothing yet.

        Args:
            start: decodes the frames, from the first one that is taken on.
            first: the place where it begins; None: that of the first frame taken.
            end: the place where it ends, not included.
            stop: ends all waiting.
        """
        self._start = start
        self._first = first
        self._end = end
        self._stop = stop
        self._changed = Condition()
        self._due: set[int] = set()
        self._frames: Iterator[Frame] | None = None
        self._at = 0

    def announce(self, stretch: int) -> None:
        """Let the stretches after the one from place `stretch` on wait for it, until `release`."""
        with self._changed:
            self._due.add(stretch)

    def release(self, stretch: int) -> None:
        """Let no other stretch wait for this one any longer."""
        with self._changed:
            self._due.discard(stretch)
            self._changed.notify_all()

    def take(self, stretch: int, first: int, end: int) -> Generator[Frame, None, None]:
        """Yield the frames from place `first` to place `end` when it is the turn of the stretch from place `stretch`.

        Raises StrategyError where they, or some before them, cannot be decoded in this way, and ActionClipError where
        reading fails.
        """
        self._wait_for(stretch)
        if self._frames is None:
            self._at = first if self._first is None else self._first
            self._frames = self._start(self._at, self._end)
        while self._at < end:
            frame = next(self._frames, None)  # also None after it has raised an error
            if frame is None:
                raise StrategyError("there are fewer frames than timestamps promise")
            self._at += 1
            if self._at > first:
                yield frame
        if self._at == self._end:
            next(self._frames, None)  # lets it end, and its decoder be used again

    def _wait_for(self, stretch: int) -> None:
        """Wait until the stretches before this one have ended."""
        with self._changed:
            while any(other < stretch for other in self._due):
                if self._stop.is_set():
                    raise ActionClipError("the video was closed; open it again")
                self._changed.wait(POLL_S)


@dataclass(frozen=True, eq=False)
class Stretch:
    """Consecutive frames of those that were asked for. Any thread may decode them, once.

    It is a context manager: stretches after it may wait until its block ends.
    """

    indices: tuple[int, ...]
    """Of its frames, ascending."""
    _first: int
    _streams: tuple[_Stream, ...]
    """Each of them has the frames; they are tried in order."""

    def __enter__(self) -> "Stretch":
        return self

    def __exit__(self, *_: object) -> None:
        for stream in self._streams:
            stream.release(self._first)

    def frames(self) -> Iterator[Frame]:
        """Yield the frames, as they are decoded. Raises ActionClipError where reading fails."""
        first, end = self._first, self._first + len(self.indices)
        for stream in self._streams:
            try:
                with closing(stream.take(self._first, first, end)) as frames:
                    for frame in frames:
                        first += 1
                        yield frame
            except StrategyError:
                continue
            return
        raise ActionClipError("some frames of the video cannot be decoded: convert it to H.264 first")


def cut(starts: Sequence[int], total: int, most: int) -> Iterator[list[tuple[int, int]]]:
    """Yield the first and last place, not included, of stretches in lists: those of a list have one stream of frames.

    Args:
        starts: the places where decoding can begin anew, ascending, from 0.
        total: number of places.
        most: frames of a stretch, at most.
    """
    first = 0
    for start, end in pairwise([*starts, total]):
        if end - first > most and start > first:
            yield [(first, start)]
            first = start
        if end - first > most:
            yield [(place, min(place + most, end)) for place in range(first, end, most)]
            first = end
    if first < total:
        yield [(first, total)]


def stretches(indices: Sequence[int], starts: Sequence[int], most: int, ways: Ways, stop: Event) -> Iterator[Stretch]:
    """Yield stretches of frames, in order.

    Args:
        indices: of the frames, ascending.
        starts, most: as for `cut`.
        ways: decode the frames between two places.
        stop: ends all waiting of stretches.
    """
    whole = _Stream(ways.whole, None, len(indices), stop)
    for places in cut(starts, len(indices), most):
        streams = (*(_Stream(way, places[0][0], places[-1][1], stop) for way in ways.anywhere), whole)
        for first, end in places:
            for stream in streams:
                stream.announce(first)
            yield Stretch(tuple(indices[first:end]), first, streams)
