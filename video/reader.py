"""Reading the frames of a video that a sampler asks for."""

import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from action_clip.errors import ActionClipError
from action_clip.system.interrupts import interruptible
from action_clip.video.decode import SurpriseError, decode_wanted
from action_clip.video.frame_buffer import Canvas
from action_clip.video.keyframes import decode_keyframes, read_index
from action_clip.video.mp4_index import table_of_index
from action_clip.video.packets import PacketTable, fits_memory, scan
from action_clip.video.pixels import most_pixels
from action_clip.video.sampling import Keyframes, Sampler
from action_clip.video.sequential import decode_all
from action_clip.video.source import Origin, Video, locate, opened
from action_clip.video.webp import claimed_frames, decode_animation, is_animation

_log = logging.getLogger("action_clip")

SHORT_PIXELS = 2**30
"""Of a video of which all frames are decoded within seconds: a quarter of a minute of 1080p, two of 640 × 480."""


@dataclass(frozen=True)
class Clip:
    """Some frames of a video, in the order of the sampler's indices."""

    frames: NDArray[np.uint8]
    """(T, H, W, 3) RGB."""
    indices: tuple[int, ...]
    """Which frames of the video these are, from 0 in order of presentation; neighbours of broken ones. Estimates in
    some keyframe clips."""
    times_s: tuple[float, ...]
    """Their presentation times, seconds from the first frame."""
    total_frames: int
    duration_s: float


def read_clip(source: str | os.PathLike[str], sampler: Sampler, *, threads: int | None = None) -> Clip:
    """Return the frames at the indices that `sampler` gives for the number of frames in the video.

    `source` is a file of any container and codec that PyAV reads (a picture is a video of one frame), a
    pipe, or an http(s) URL; `threads` is the number of decoding threads, by default one a core. What each packet
    shows is taken from the index of a large MP4 file; otherwise the packets are read through once without decoding.
    Where their timestamps say what each shows, only the stretches from a keyframe to a wanted frame are decoded,
    without the frames that no other refers to; otherwise everything is. A broken frame gives way to its nearest
    decodable neighbour, with one warning. Frames of another size than the first one returned are brought to its
    size.

    With `Keyframes` as the sampler the frames are the keyframes nearest to those of its rule, an approximation. Where
    an MP4, Matroska or AVI file has an index, that is all that is read: which frames of the video these are is then
    counted from the index where it has every frame, else estimated from time and average rate, and `total_frames`
    likewise. Without an index the keyframes are found by reading through. The frames of the rule itself are returned
    where only decoding everything tells the frames apart, and where a video of up to `SHORT_PIXELS` has fewer keyframes
    there than the rule has frames; for a longer one there is one warning.

    The frames are the same, bit for bit, for any number of threads, however damaged the video is.

    Nothing but the file named is opened, nothing but http(s) for a URL. Ctrl-C ends it at once, whatever it waits for.

    Raises ActionClipError when there is no video to read, for indices outside the video, and for frames that are too
    large.
    """
    with locate(source) as origin:
        return interruptible(lambda: _read(origin, sampler, threads or 0), origin.trouble.stop)


def _read(origin: Origin, sampler: Sampler, threads: int) -> Clip:
    if is_animation(origin):
        return _animation(origin, sampler)
    if isinstance(sampler, Keyframes):
        with suppress(SurpriseError), opened(origin, 1, strict=True) as video:
            clip = _by_index(video, threads, sampler)
            if clip is not None:
                return clip
    for read_table in (scan,) if fits_memory(origin) else (table_of_index, scan):
        with opened(origin, threads) as video:
            table = read_table(video)
            if table is None or not table.is_regular:
                continue
            with suppress(SurpriseError):
                return _by_timestamps(video, table, sampler)
        if threads != 1:
            # What several threads do not decode may be damaged: what one makes of it is the same every time.
            with opened(origin, 1) as video, suppress(SurpriseError):
                return _by_timestamps(video, table, sampler)
    assert table is not None
    return _read_everything(origin, table, threads, sampler)


def _by_index(video: Video, threads: int, sampler: Sampler) -> Clip | None:
    """Return the keyframes nearest to the sampler's frames, as the container's index has them.

    None where the frames themselves are better. Raises SurpriseError when there is no such index or when it is wrong.
    """
    index = read_index(video)
    wanted = _indices(sampler, index.total_frames)
    chosen = [index.nearest(frame) for frame in wanted]
    if _is_better_exact(video, index.total_frames, wanted, chosen):
        return None
    canvas = Canvas([keyframe.time for keyframe in chosen], video.aspect)
    keyframes = sorted(set(chosen))
    shown = dict(zip(keyframes, decode_keyframes(video, index, keyframes, threads, canvas.take), strict=True))
    _tell_of_few(video, wanted, chosen)
    return Clip(
        frames=canvas.frames(),
        indices=tuple(shown[keyframe].number for keyframe in chosen),
        times_s=tuple(shown[keyframe].time_s for keyframe in chosen),
        total_frames=index.total_frames,
        duration_s=index.duration * index.seconds,
    )


def _by_timestamps(video: Video, table: PacketTable, sampler: Sampler) -> Clip:
    """Return the sampler's frames, or the keyframes nearest to them, of a regular table.

    Raises SurpriseError when the video is not as the table says.
    """
    wanted = indices = _indices(sampler, len(table.shown))
    if isinstance(sampler, Keyframes):
        nearest = [table.nearest_keyframe(index) for index in wanted]
        if not _is_better_exact(video, len(table.shown), wanted, nearest):
            indices = nearest
    canvas = Canvas(indices, video.aspect)
    decode_wanted(video, table, set(indices), canvas.take)
    _tell_of_few(video, wanted, indices)
    return _clip(canvas, indices, table.pts[table.shown].tolist(), table)


def _is_better_exact(video: Video, total: int, wanted: Sequence[int], keyframes: Sequence[object]) -> bool:
    """Whether the keyframes are fewer than the frames that they stand for, in a video that is decoded in no time."""
    context = video.stream.codec_context
    return len(set(keyframes)) < len(set(wanted)) and total * context.width * context.height <= SHORT_PIXELS


def _tell_of_few(video: Video, wanted: Sequence[int], keyframes: Sequence[object]) -> None:
    if len(set(keyframes)) < len(set(wanted)):
        _log.warning(
            "%s: it has so few keyframes that %d different frames are looked at instead of %d; the sampling "
            '"uniform" looks at all of them, but takes longer',
            video.origin.name,
            len(set(keyframes)),
            len(set(wanted)),
        )


def _read_everything(origin: Origin, table: PacketTable, threads: int, sampler: Sampler) -> Clip:
    """Decode everything, keeping the frames that will be asked for if each packet shows one."""
    guess = len(table.shown)
    found = decode_all(origin, table, threads, _wanted(sampler, guess))
    if threads != 1 and (found.failures or found.spoilt or len(found.times) != guess):
        # Decoders with several threads report an error late, lose good frames with the bad one, and conceal
        # what is missing now this way, now that.
        guess = len(found.times)
        found = decode_all(origin, table, 1, _wanted(sampler, guess))
    if not found.times:
        raise ActionClipError(
            f"no frame of {origin.name} can be decoded; check that it plays and that its frames have no more than "
            f"{most_pixels()} pixels (ACTION_CLIP_MAX_PIXELS), or convert it to H.264 first"
        )
    times, numbers = found.timeline()
    asked = _indices(sampler, len(times))
    indices = [_nearest(numbers, index) for index in asked]
    replaced = {a for a, index in zip(asked, indices, strict=True) if a != index}
    if replaced:
        _log.warning(
            "%s: %d of the %d frames to look at are broken, their nearest good neighbours are taken instead",
            origin.name,
            len(replaced),
            len(set(asked)),
        )
    needed = {index: number for index in indices if (number := numbers[index]) is not None}
    pictures = found.pictures
    if not pictures.keys() >= set(needed.values()):
        pictures = decode_all(origin, table, 1, set(needed.values()), to_end=False).pictures
    canvas = Canvas(indices)
    for index, number in needed.items():
        canvas.put(index, pictures.pop(number))
    return _clip(canvas, indices, times, table)


def _animation(origin: Origin, sampler: Sampler) -> Clip:
    """Return the sampler's frames of an animated WebP; a broken one ends it."""
    guess = claimed_frames(origin)
    found = decode_animation(origin, _wanted(sampler, guess))
    total = len(found.starts_ms)
    indices = _indices(sampler, total)
    if total != guess:
        found = decode_animation(origin, set(indices))
    canvas = Canvas(indices)
    for index in set(indices):
        canvas.put(index, found.pictures.pop(index))
    times_s = tuple(found.starts_ms[index] / 1000 for index in indices)
    return Clip(canvas.frames(), tuple(indices), times_s, total, found.end_ms / 1000)


def _wanted(sampler: Sampler, total: int) -> set[int]:
    return set(sampler(total)) if total else set()


def _indices(sampler: Sampler, total: int) -> list[int]:
    indices = sampler(total)
    if not indices or not all(0 <= index < total for index in indices):
        raise ActionClipError(f"the sampler gives {indices}, but the video has the frames 0 to {total - 1}")
    return indices


def _nearest(numbers: Sequence[int | None], index: int) -> int:
    good = (i for i, number in enumerate(numbers) if number is not None)
    return min(good, key=lambda i: (abs(i - index), i))


def _clip(canvas: Canvas, indices: Sequence[int], times: Sequence[int | None], table: PacketTable) -> Clip:
    starts_s, duration_s = _seconds(times, table)
    return Clip(canvas.frames(), tuple(indices), tuple(starts_s[index] for index in indices), len(times), duration_s)


def _seconds(times: Sequence[int | None], table: PacketTable) -> tuple[list[float], float]:
    """Return when each frame starts, counted from the first one, and when the last one ends.

    Frames without times, or with times that run backwards, are counted at the average rate instead.
    """
    known = [time for time in times if time is not None]
    if len(known) < len(times) or known != sorted(known):
        return [float(i / table.rate) for i in range(len(times))], float(len(times) / table.rate)
    starts_s = [float((time - known[0]) * table.time_base) for time in known]
    last_duration = int(table.duration[table.pts == known[-1]].max(initial=0))
    # Where frames are reordered, a container's durations are often those between the times of decoding.
    if last_duration and (len(known) == 1 or np.all(np.diff(table.pts) > 0)):
        last_s = float(last_duration * table.time_base)
    else:
        last_s = starts_s[-1] / (len(starts_s) - 1) if starts_s[-1] else float(1 / table.rate)
    return starts_s, starts_s[-1] + last_s
