"""Many frames of a video in stretches, which several threads decode at once: each begins at a keyframe where it can.

Where decoding cannot begin anew, as between two keyframes that are far apart or in a video without regular timestamps,
stretches are parts of one stream of frames, and the threads that decode them take turns.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from threading import Condition, Event

from action_clip.errors import ActionClipError
from action_clip.system.interrupts import POLL_S
from action_clip.video.clip import Frame
from action_clip.video.seeking import StrategyError

Open = Callable[[int, int], Iterator[Frame]]
"""A function from two places in a list of indices to an iterator over the frames between them."""


class _Stream:
    """The frames between two places of a list of indices, in order, which several stretches take in turns."""

    def __init__(self, start: Open, end: int, stop: Event) -> None:
        """Decode nothing yet: `start` does, when the first frame is taken. `stop` ends all waiting."""
        self._start = start
        self._end = end
        self._stop = stop
        self._changed = Condition()
        self._due: set[int] = set()
        self._is_taking = False
        self._frames: Iterator[Frame] = iter(())
        self._at = -1

    def announce(self, first: int) -> None:
        """Let the stretches after the one from place `first` on wait for it, until `release`."""
        with self._changed:
            self._due.add(first)

    def release(self, first: int) -> None:
        """Let no other stretch wait for this one any longer."""
        with self._changed:
            self._due.discard(first)
            self._changed.notify_all()

    def take(self, stretch: int, first: int, end: int) -> Generator[Frame, None, None]:
        """Yield the frames from place `first` to place `end` when it is the turn of the stretch from place `stretch`.

        Raises StrategyError where they cannot be decoded in this way, and ActionClipError where reading fails.
        """
        with self._changed:
            while self._is_taking or any(other < stretch for other in self._due):
                if self._stop.is_set():
                    raise ActionClipError("the video was closed; open it again")
                self._changed.wait(POLL_S)
            self._is_taking = True
        at, self._at = self._at, -1  # until the frames are taken without an error
        try:
            if not 0 <= at <= first:
                self._frames, at = self._start(first, self._end), first
            while at < end:
                frame = next(self._frames, None)
                if frame is None:
                    raise StrategyError("there are fewer frames than timestamps promise")
                at += 1
                if at > first:
                    yield frame
            if at == self._end:
                next(self._frames, None)  # lets it end, and its decoder be used again
            self._at = at
        finally:
            with self._changed:
                self._is_taking = False
                self._changed.notify_all()


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
            stream.announce(self._first)
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


def stretches(
    indices: Sequence[int], starts: Sequence[int], most: int, first_way: Open, other_ways: Open, stop: Event
) -> Iterator[Stretch]:
    """Yield stretches of frames, in order.

    Args:
        indices: of the frames, ascending.
        starts, most: as for `cut`.
        first_way: decodes the frames between two places, or raises StrategyError.
        other_ways: decodes them otherwise.
        stop: ends all waiting of stretches.
    """
    rest = _Stream(other_ways, len(indices), stop)
    for places in cut(starts, len(indices), most):
        stream = _Stream(first_way, places[-1][1], stop)
        for first, end in places:
            stream.announce(first)
            yield Stretch(tuple(indices[first:end]), first, (stream, rest))
