"""Whole videos in windows, by the engine: frames are decoded and encoded in stretches, and windows are made of these.

Each frame is decoded and encoded once, however windows overlap.
"""

import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from action_clip.errors import ActionClipError
from action_clip.models.encoded import EncodedClips, Results, Steps, timed
from action_clip.models.engine import Limits, Ready, Stages, as_error, run
from action_clip.models.heads import with_head
from action_clip.models.known_videos import KnownVideos
from action_clip.models.model_graphs import ModelGraphs
from action_clip.models.prediction import Failure
from action_clip.models.video_encoder import name_of
from action_clip.models.windows import EncodedWindows, Spacing, WindowedVideo
from action_clip.system.interrupts import run_in_thread
from action_clip.video.preprocess import cropped, normalised
from action_clip.video.reader import VideoReader
from action_clip.video.stretches import Stretch

VideoPath = str | os.PathLike[str]

_MOST_FRAMES = 24
"""Most frames of a stretch: more than those of ten seconds between two keyframes, two a second."""
_FRAMES_A_CORE = 4
"""Frames that a core encodes at a time: more take more memory, and are no faster."""
_TENSORS_PER_WORKER = 2
"""Most stretches that wait for a slower one before them as tensors, where frames are not encoded alone."""


@dataclass(frozen=True, eq=False)
class _Part:
    """What the engine takes: some frames of a video."""

    number: int
    """Of the video."""
    video: VideoPath
    windows: WindowedVideo
    stretch: Stretch


@dataclass(frozen=True, eq=False)
class _Unreadable:
    """What the engine takes for a video that cannot be opened."""

    number: int
    name: str | None
    error: ActionClipError


_Item = _Part | _Unreadable


@dataclass(frozen=True, eq=False)
class _Rows:
    """What the frames of a part were encoded to, (N, …), a row each."""

    rows: NDArray[np.float32]
    timings_s: dict[str, float]


@dataclass(frozen=True, eq=False)
class _Decoded:
    """The frames of a part, ready for the graphs."""

    part: _Part
    key: str | None
    """In the video bank; None where it is not kept there."""
    pixels: NDArray[np.uint8]
    """(N, S, S, 3): a quarter of the memory of a tensor."""
    timings_s: dict[str, float]


class _Preprocessing(threading.local):
    """What a thread has spent on it since it began with a part."""

    seconds = 0.0


class WindowEncoder:
    """Encodes whole videos with one model and one spacing of windows, once."""

    def __init__(
        self, graphs: ModelGraphs, clip_graphs: ModelGraphs, steps: Steps, spacing: Spacing, limits: Limits
    ) -> None:
        """Choose the model.

        Args:
            graphs: run on frames, in the engine's threads.
            clip_graphs: run on clips, in the caller's thread.
            steps: what they do.
            spacing: of the windows.
            limits: of the engine, for clips.
        """
        self._graphs = graphs
        self._clip_graphs = clip_graphs
        self._steps = steps
        self._spacing = spacing
        self._limits = limits
        self._known = KnownVideos(graphs, "frames", 0)
        self._readers: set[VideoReader] = set()
        self._is_closed = False
        self._has_started = False
        self._preprocessing = _Preprocessing()

    def encode(self, videos: Iterable[VideoPath]) -> Results[EncodedWindows]:
        """Yield the number of each video, from 0, and its windows, some at a time and in order; or a Failure, once.

        Args:
            videos: files or URLs.

        Raises ActionClipError where the graphs are not available or cannot run.
        """
        parts: deque[_Item] = deque()
        self._graphs.paths()
        self._known.start()
        stages: Stages[_Item, _Decoded, _Rows] = Stages(
            self._prepared, self._encoded, self._close, self._limits_of_parts()
        )
        results = run(self._parts(videos, parts), stages, ordered=True)
        with closing(results):
            for _, result in results:
                part = parts.popleft()
                if isinstance(part, _Unreadable):
                    yield part.number, Failure(part.name, part.error)
                elif not part.windows.is_over:  # else it has failed before
                    for encoded in self._answer(part.windows, result):
                        yield part.number, encoded

    def _limits_of_parts(self) -> Limits:
        """Return limits for the same number of frames at a time, and with bounded memory for those that wait."""
        limits = self._limits
        per_run = max(limits.items_per_run * self._spacing.frames // _MOST_FRAMES, 1)
        pending = limits.pending if self._steps.frames else limits.workers * _TENSORS_PER_WORKER + per_run
        return limits._replace(items_per_run=per_run, pending=pending)

    def _answer(self, windows: WindowedVideo, result: _Rows | Failure) -> Iterator[EncodedWindows | Failure]:
        """Yield the windows that are complete with the result for the next part of a video, or its Failure."""
        if isinstance(result, Failure):
            windows.is_over = True
            self._end(windows.reader)
            yield Failure(windows.name, result.error)
            return
        windows.add(result.rows, result.timings_s)
        yield from windows.windows(self._encoded_clips, self._graphs.spec.name)
        if windows.is_over:
            self._end(windows.reader)

    def _parts(self, videos: Iterable[VideoPath], parts: deque[_Item]) -> Iterator[_Item]:
        """Open each video and yield its parts, which `parts` gets too."""
        for number, video in enumerate(videos):
            for part in self._parts_of(number, video):
                parts.append(part)
                yield part

    def _parts_of(self, number: int, video: VideoPath) -> Iterator[_Item]:
        try:
            windows, stretches = self._opened(video)
        except Exception as error:
            yield _Unreadable(number, name_of(video), as_error(error))
            return
        for stretch in stretches:
            yield _Part(number, video, windows, stretch)
            if windows.is_over:
                return

    def _opened(self, video: VideoPath) -> tuple[WindowedVideo, Iterator[Stretch]]:
        """Return a video and its frames in stretches. Raises ActionClipError where it cannot be read."""
        if not isinstance(video, str | os.PathLike):
            raise ActionClipError(f"the video is a {type(video).__name__}: for a timeline, name a file or an address")
        reader = VideoReader(video, threads=1)
        self._readers.add(reader)
        if self._is_closed:  # meanwhile
            reader.close()
        stages = ("decode", "preprocess", "image") if self._steps.frames else ("decode", "preprocess")
        try:
            windows = WindowedVideo(reader, name_of(video), self._spacing, self._graphs.spec.uniform, stages)
            # A short video is cut into one for each thread, so that one decodes while another encodes.
            most = max(-(-len(windows.frames) // self._limits.workers), self._spacing.frames)
            return windows, reader.stretches(windows.frames, min(most, _MOST_FRAMES), self._cropped)
        except BaseException:
            self._end(reader)
            raise

    def _prepared(self, part: _Item) -> Ready[_Decoded] | _Rows:
        """Return what the part's frames were encoded to before, else decode and preprocess them."""
        if isinstance(part, _Unreadable):
            raise part.error
        with part.stretch as stretch:
            began = perf_counter()
            key = None if self._steps.frames is None else self._known.key(part.video, stretch.indices)
            known = None if key is None else self._known.find_rows(key)
            if known is not None:
                return _Rows(known, {"decode": perf_counter() - began})
            self._start_graphs()
            return Ready(_Decoded(part, key, *self._pixels(stretch)))

    def _start_graphs(self) -> None:
        """Make the sessions while the first frames are decoded; where all frames are known, not all are needed."""
        if self._limits.workers > 1 and not self._has_started:
            self._has_started = True
            run_in_thread(self._clip_graphs.start)

    def _pixels(self, stretch: Stretch) -> tuple[NDArray[np.uint8], dict[str, float]]:
        """Decode frames and crop them, one after the other; return (N, S, S, 3), and the seconds of both."""
        self._preprocessing.seconds = 0.0
        began = perf_counter()
        pixels = np.stack([frame.image for frame in stretch.frames()])
        both_s, preprocessing_s = perf_counter() - began, self._preprocessing.seconds
        return pixels, {"decode": both_s - preprocessing_s, "preprocess": preprocessing_s}

    def _cropped(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        began = perf_counter()
        pixels = cropped(frame, self._graphs.spec.image_size, self._graphs.spec.resize)
        self._preprocessing.seconds += perf_counter() - began
        return pixels

    def _encoded(self, parts: Sequence[_Decoded]) -> list[_Rows]:
        """Encode the frames of several parts."""
        if self._steps.frames is None:
            return [_Rows(self._normalised(part.pixels), part.timings_s) for part in parts]
        most = self._frames_per_run()
        pixels = np.concatenate([part.pixels for part in parts])
        timings: dict[str, float] = {}
        with timed(timings, "image"):
            runs = (self._normalised(pixels[first : first + most]) for first in range(0, len(pixels), most))
            rows = np.concatenate([self._steps.frames(self._graphs, frames) for frames in runs])
        ends = np.cumsum([len(part.pixels) for part in parts])
        results = []
        for decoded, own in zip(parts, np.split(rows, ends[:-1]), strict=True):
            part = decoded.part
            if decoded.key is not None:
                self._known.add_rows(decoded.key, part.video, part.stretch.indices, own)
            results.append(_Rows(own, decoded.timings_s | {"image": timings["image"] * len(own) / len(rows)}))
        return results

    def _frames_per_run(self) -> int:
        """Return how many frames the image graph is given at a time: on a GPU, those of as many clips as it takes."""
        clips = self._limits.items_per_run
        return clips * self._spacing.frames if clips > 1 else self._graphs["image"].batch or _FRAMES_A_CORE

    def _normalised(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return normalised(pixels, self._graphs.spec.mean, self._graphs.spec.std)

    def _encoded_clips(self, rows: NDArray[np.float32]) -> EncodedClips:
        return with_head(self._clip_graphs, self._steps.clips(self._clip_graphs, rows))

    def _end(self, reader: VideoReader) -> None:
        """Close a reader: what is in progress fails soon."""
        self._readers.discard(reader)
        reader.close()

    def _close(self) -> None:
        """Make what is in progress fail soon, and write to the disk what is kept."""
        self._is_closed = True
        for reader in list(self._readers):
            reader.close()
        self._known.flush()
