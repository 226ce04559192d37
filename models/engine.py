"""The engine: several videos are decoded, preprocessed and encoded at once, by threads that each do one core's work.

A worker takes the next video and prepares it, or runs the graphs on clips that are ready, whichever is due. So as many
threads are busy as there are cores, memory is bounded, and a video that stalls holds up one worker, in whose place
another one is started.
"""

import atexit
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, wait
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from threading import Condition, get_ident
from typing import Any, Generic, NamedTuple, TypeVar
from weakref import WeakSet

from action_clip.errors import ActionClipError
from action_clip.models.encoded import Results
from action_clip.models.prediction import Failure
from action_clip.models.video_encoder import name_of
from action_clip.system.interrupts import POLL_S, awaited_at_exit, run_in_thread

V = TypeVar("V")
P = TypeVar("P")
E = TypeVar("E")

_STALLED_S = 5.0
"""Seconds after which the preparation of a video that waits no longer counts as work: another worker is started."""
_COMPUTING = 0.02
"""The processor's part of its time with which it does not wait: on a busy machine everything takes long."""
_MOST_STALLED = 8
"""Most videos for which this is done."""
_CLOSING_S = 0.5
"""Seconds that workers are waited for when the results are no longer wanted."""


@dataclass(frozen=True)
class Ready(Generic[P]):
    """A video that was prepared, and has yet to be encoded."""

    content: P


class Limits(NamedTuple):
    """How much the engine does at a time."""

    workers: int
    """Number of threads."""
    runs: int
    """Most calls of `Stages.encode` at a time."""
    items_per_run: int
    """Most items of one call of `Stages.encode`."""
    pending: int = 1024
    """Most items that are in progress, or whose results wait for a slower one before them."""


@dataclass(frozen=True)
class Stages(Generic[V, P, E]):
    """What the engine does with videos, and how many at a time.

    Attributes:
        prepare: decodes and preprocesses a video, or returns what it was encoded to before. An exception that it raises
            becomes the video's Failure.
        encode: runs the graphs on videos that are ready, and returns a result for each of them.
        close: called when no more results are wanted; makes the calls of `prepare` that are in progress end soon.
        limits: how much of it is done at a time.
    """

    prepare: Callable[[V], Ready[P] | E]
    encode: Callable[[Sequence[P]], Sequence[E]]
    close: Callable[[], None]
    limits: Limits


def as_error(error: Exception) -> ActionClipError:
    """Return the error that a user sees for what preparing a video has raised."""
    if isinstance(error, ActionClipError):
        return error
    if isinstance(error, MemoryError):
        return ActionClipError("there is not enough memory to decode it: give a smaller video")
    failure = ActionClipError(f"something went wrong that should not have ({type(error).__name__}: {error})")
    failure.__cause__ = error
    return failure


def run(videos: Iterable[V], stages: Stages[V, P, E], *, ordered: bool) -> Results[E]:
    """Yield the number of each video, from 0, and its result; in their order where `ordered`, else as they finish.

    Threads are started with the first result that is asked for, and end when the iterator is exhausted, closed or
    collected. Videos are taken from the iterable in one of these threads, a bounded number ahead.

    Raises what `encode` raises, and after the results of the videos before, what the iterable raises.
    """
    with closing(_Pipeline(videos, stages, ordered)) as pipeline:
        pipeline.start()
        while (result := pipeline.next_result()) is not None:
            yield result


class _Preparation:
    """A call of `Stages.prepare`, in the thread that makes this object."""

    def __init__(self) -> None:
        self._thread = get_ident()
        self._began_s = time.monotonic()
        self._computed_s = time.thread_time()

    @property
    def is_stalled(self) -> bool:
        """Whether it has waited for long. Its thread must not have ended."""
        passed_s = time.monotonic() - self._began_s
        if passed_s < _STALLED_S or not hasattr(time, "pthread_getcpuclockid"):  # as on macOS and Windows
            return passed_s >= _STALLED_S
        computed_s = time.clock_gettime(time.pthread_getcpuclockid(self._thread)) - self._computed_s
        return computed_s < _COMPUTING * passed_s


class _Pipeline(Generic[V, P, E]):
    """The state that workers share. All of it is guarded by one condition."""

    def __init__(self, videos: Iterable[V], stages: Stages[V, P, E], ordered: bool) -> None:
        self._videos = iter(videos)
        self._stages = stages
        self._limits = stages.limits
        self._ordered = ordered
        self._changed = Condition()
        self._process = os.getpid()
        self._threads: list[Future[None]] = []
        self._active = 0  # threads that have not ended
        self._is_taking = False  # a worker waits for the iterable
        self._taken = 0
        self._is_exhausted = False
        self._preparing: dict[int, _Preparation] = {}
        self._ready: deque[tuple[int, P]] = deque()
        self._running = 0
        self._results: dict[int, E | Failure] = {}
        self._returned = 0
        self._in_order = 0  # results before this number are there, or were returned
        self._is_stopped = False
        self._videos_error: BaseException | None = None
        self._error: BaseException | None = None
        _pipelines.add(self)

    def start(self) -> None:
        for _ in range(self._limits.workers):
            self._add_worker()

    def close(self) -> None:
        """Let the workers end, and wait for them a moment."""
        # A forked child has none of the threads, which may have held the lock.
        if self._is_stopped or os.getpid() != self._process:
            return
        with self._changed:
            self._is_stopped = True
            self._ready.clear()
            self._results.clear()
            self._changed.notify_all()
        self._stages.close()
        wait(self._threads, _CLOSING_S)

    def next_result(self) -> tuple[int, E | Failure] | None:
        """Return a video's number and result, None after the last one. Raises what workers or the iterable raised."""
        if os.getpid() != self._process:
            raise ActionClipError("these results were begun in another process: begin again in this one")
        with self._changed:
            while not self._available():
                if self._error is not None:
                    raise self._error
                if self._is_exhausted and self._returned == self._taken:
                    if self._videos_error is not None:
                        raise self._videos_error
                    return None
                self._changed.wait(POLL_S)
                if self._may_take() and self._active < self._due_workers():
                    self._add_worker()
            index = self._returned if self._ordered else next(iter(self._results))
            self._returned += 1
            self._changed.notify_all()
            return index, self._results.pop(index)

    def _available(self) -> int:
        """Return how many results could be returned now."""
        return self._in_order - self._returned if self._ordered else len(self._results)

    def _add_worker(self) -> None:
        self._active += 1
        self._threads = [thread for thread in self._threads if not thread.done()]
        self._threads.append(run_in_thread(self._work, awaited_at_exit=False))

    def _due_workers(self) -> int:
        """Return how many threads there should be: more than usual while videos stall."""
        stalled = sum(preparation.is_stalled for preparation in self._preparing.values())
        return self._limits.workers + min(stalled, _MOST_STALLED)

    def _work(self) -> None:
        try:
            while (task := self._next_task()) is not None:
                task()
        except BaseException as error:
            with self._changed:
                self._error = self._error or error
        finally:
            with self._changed:
                self._active -= 1
                self._changed.notify_all()

    def _next_task(self) -> Callable[[], None] | None:
        """Wait for something to do, and return it; None at the end."""
        with self._changed:
            while not (self._is_stopped or self._error or self._active > self._due_workers()):
                takes = self._may_take()
                full = len(self._ready) >= self._limits.items_per_run
                if self._ready and self._running < self._limits.runs and (full or not takes):
                    count = min(len(self._ready), self._limits.items_per_run)
                    self._running += 1
                    return partial(self._encode, [self._ready.popleft() for _ in range(count)])
                if takes:
                    self._is_taking = True
                    return self._take
                if self._is_exhausted and not (self._ready or self._preparing or self._is_taking):
                    return None
                self._changed.wait()
            return None

    def _may_take(self) -> bool:
        """Return whether the next video may be taken now: one worker at a time, and not too far ahead."""
        ahead = self._limits.workers + self._limits.items_per_run
        return (
            not (self._is_taking or self._is_exhausted)
            and self._available() < ahead
            and len(self._ready) < ahead
            and self._taken - self._returned < self._limits.pending
        )

    def _take(self) -> None:
        """Take the next video and prepare it."""
        try:
            video = next(self._videos)
        except BaseException as error:
            with self._changed:
                self._is_taking, self._is_exhausted = False, True
                self._videos_error = None if isinstance(error, StopIteration) else error
                self._changed.notify_all()
            return
        with self._changed:
            index = self._taken
            self._taken += 1
            self._is_taking = False
            self._preparing[index] = _Preparation()
            self._changed.notify_all()
        prepared = self._prepared(video)
        with self._changed:
            del self._preparing[index]
            if isinstance(prepared, Ready):
                self._ready.append((index, prepared.content))
            else:
                self._add({index: prepared})
            self._changed.notify_all()

    def _prepared(self, video: V) -> Ready[P] | E | Failure:
        try:
            return self._stages.prepare(video)
        except Exception as error:
            return Failure(name_of(video), as_error(error))

    def _encode(self, batch: list[tuple[int, P]]) -> None:
        with awaited_at_exit():
            encoded = self._stages.encode([content for _, content in batch])
        with self._changed:
            self._running -= 1
            self._add({index: result for (index, _), result in zip(batch, encoded, strict=True)})
            self._changed.notify_all()

    def _add(self, results: dict[int, E | Failure]) -> None:
        if not self._is_stopped:
            self._results |= results
            while self._in_order in self._results:
                self._in_order += 1


_pipelines: "WeakSet[_Pipeline[Any, Any, Any]]" = WeakSet()


@atexit.register
def _close_all() -> None:
    """End the work for iterators that still exist at Python's exit: a graph that begins to run then would crash."""
    for pipeline in list(_pipelines):
        pipeline.close()
