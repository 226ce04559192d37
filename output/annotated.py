"""An annotated video: a copy of a video that shows in each frame the most probable labels at its time."""

from __future__ import annotations

import logging
import os
from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import av
import numpy as np

from action_clip.errors import ActionClipError
from action_clip.output.lettering import drawable, note_undrawable
from action_clip.output.overlay import Overlay
from action_clip.output.saving import check_path
from action_clip.output.video_file import KINDS, Kind, Pictures, VideoFile
from action_clip.system.cores import usable_cores
from action_clip.system.files import replacing, writing
from action_clip.system.interrupts import interruptible, terminable
from action_clip.video.reader import Frame, VideoReader

if TYPE_CHECKING:
    from action_clip.models.prediction import Prediction, Ranked, Window

_LOG = logging.getLogger("action_clip")
Progress = Callable[[int, int], None]


def save_video(
    path: str | os.PathLike[str],
    video: str | os.PathLike[str],
    answer: Prediction | Sequence[Window],
    *,
    threads: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Save a copy of `video` in which each frame shows its most probable labels with bars, whole or not at all.

    The copy has the frames as players show them, upright and in standard dynamic range, with their times, and the
    sound: copied, or encoded anew where the container cannot hold its codec. A GIF has no sound.

    Args:
        path: its ending, one of .mp4, .mkv, .webm and .gif, says what is written.
        video: path or http(s) URL.
        answer: for the video; or its windows, of which each frame shows the one whose middle is nearest to its time.
        threads: number of threads that decode and encode; None: one a core.
        progress: called with the number of frames that are done, and of all, from a thread.

    Raises:
        ActionClipError: the ending is another one, there are no windows, the video cannot be read, or writing fails.
    """
    check_path(path, [video])
    kind = KINDS.get(Path(path).suffix.lower())
    if kind is None:
        raise ActionClipError(
            f"cannot save the video {os.fspath(path)}: the name must end in one of {', '.join(KINDS)}"
        )
    labels = TimedLabels(answer)
    stop = Event()
    with (
        writing(path),
        VideoReader(video, threads=threads) as reader,
        terminable(),
        replacing(path) as draft,
    ):
        writer = _Writer(draft, kind, reader, labels, threads or usable_cores())
        try:
            interruptible(lambda: writer.write(stop, progress or (lambda done, total: None)), stop)
        except (av.FFmpegError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ActionClipError(f"cannot write {os.fspath(path)}: {reason}; name another file") from error


class TimedLabels:
    """The most probable labels at each time of a video."""

    def __init__(self, answer: Prediction | Sequence[Window]) -> None:
        """Take the same ones for all of it, or those of windows. Raises ActionClipError where there are none."""
        windows = answer if isinstance(answer, Sequence) else ()
        self.ranked = [window.prediction.ranked for window in windows]
        middles_s = [(window.start_s + window.end_s) / 2 for window in windows]
        if not isinstance(answer, Sequence):
            self.ranked = [answer.ranked]
        elif not windows:
            raise ActionClipError("there are no windows to show in the video: give those of the whole video")
        self._changes_s = [(before + after) / 2 for before, after in pairwise(middles_s)]

    def at(self, time_s: float) -> Sequence[Ranked]:
        """Return the labels of the window whose middle is nearest to a time in seconds from the first frame."""
        return self.ranked[bisect_right(self._changes_s, time_s)]


class _DamagedSoundError(Exception):
    """The container refuses packets of sound."""


class _Writer:
    """Writes the copy of one video."""

    def __init__(self, path: Path, kind: Kind, reader: VideoReader, labels: TimedLabels, threads: int) -> None:
        self._path = path
        self._kind = kind
        self._reader = reader
        self._labels = labels
        self._threads = threads

    def write(self, stop: Event, progress: Progress) -> None:
        """Write all of it, unless `stop` is set before. Raises ActionClipError, and FFmpegError where writing fails."""
        try:
            self._write(stop, progress)
        except _DamagedSoundError:
            _LOG.warning("the sound is damaged: it is encoded anew, as far as it can be decoded")
            self._write(stop, progress, copy_sound=False)

    def _write(self, stop: Event, progress: Progress, *, copy_sound: bool = True) -> None:
        frames = self._reader.every_frame()
        first = next(frames)
        height, width, _ = first.image.shape
        overlay = Overlay(width, height)
        if copy_sound:
            self._note_undrawable(overlay)
        times_s = self._reader.times_s
        ends_s = (*times_s[1:], self._reader.duration_s)
        with self._reader.original() as original:
            pictures = Pictures(width, height, self._reader.rate, ends_s[-1] - times_s[-1])
            file = VideoFile(self._path, self._kind, original, pictures, self._threads, copy_sound=copy_sound)
            try:
                for number, (time_s, end_s) in enumerate(zip(times_s, ends_s, strict=True)):
                    frame: Frame | None = first if number == 0 else next(frames, None)
                    if stop.is_set() or frame is None:
                        return
                    picture = np.array(frame.image, order="C")  # the same one may come again, for a broken frame
                    overlay.draw(picture, self._labels.at(time_s))
                    file.add(picture, time_s, end_s - time_s)
                    progress(number + 1, len(times_s))
                file.finish()
            except ValueError as error:  # FFmpeg's for what it cannot use; full disks are an OSError
                if file.copies_sound and isinstance(error, av.FFmpegError):
                    raise _DamagedSoundError from error
                raise
            finally:
                with suppress(ValueError):  # again
                    file.close()

    def _note_undrawable(self, overlay: Overlay) -> None:
        shown = dict.fromkeys(entry.label for ranked in self._labels.ranked for entry in ranked[: overlay.most_rows])
        if undrawable := [label for label in shown if drawable(label)[1]]:
            note_undrawable("the video", undrawable)
