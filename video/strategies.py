"""How frames are found: a list of strategies, tried in order, until one can return the frames."""

import logging
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain

import av
import numpy as np

from action_clip.errors import ActionClipError
from action_clip.system.forks import cached_property
from action_clip.video.clip import Clip, Frame
from action_clip.video.decoders import Decoders
from action_clip.video.frame_buffer import FrameBuffer, Picture, Shrink, unchanged
from action_clip.video.keyframes import decode_keyframes, read_index
from action_clip.video.packets import PacketTable, fits_memory, read_packets
from action_clip.video.pixels import clockwise_turn, most_pixels
from action_clip.video.sampling import Keyframes, Sampler
from action_clip.video.seeking import StrategyError, decode_frames, run_starts, stream_frames
from action_clip.video.sequential import DecodedFrames, Pass, decode_all, decode_packets, stream_all
from action_clip.video.source import Video, VideoSource, opened
from action_clip.video.timeline import Timeline, timeline_of
from action_clip.video.webp import claimed_frames, decode_animation, is_animation

_log = logging.getLogger("action_clip")

SHORT_PIXELS = 2**30
"""Most pixels, of all frames together, of a video that is decoded within seconds: 15 s of 1080p, 2 min of 640 × 480."""


class Strategy(ABC):
    """A way of finding frames. Each method raises StrategyError where another strategy has to be tried."""

    name: str

    def __init__(self, decoders: Decoders) -> None:
        self._decoders = decoders
        self._source = decoders.source

    @abstractmethod
    def timeline(self) -> Timeline:
        """Return when each frame of the video is shown."""

    def rotation(self) -> int:
        """Return by how many degrees the video's first frame is turned clockwise to be upright."""
        with opened(self._source, 1) as video:
            for packet in chain(read_packets(video), [None]):
                with suppress(av.FFmpegError):
                    for frame in video.decode(packet):
                        return clockwise_turn(frame)
        raise StrategyError("no frame can be decoded")

    @abstractmethod
    def clip(self, sampler: Sampler, shrink: Shrink) -> Clip:
        """Return the frames that the sampler chooses, shrunk as they are decoded."""

    def stream(self, indices: Sequence[int], shrink: Shrink = unchanged, *, strict: bool = False) -> Iterator[Frame]:
        """Yield the frames with these indices, shrunk, in ascending order; the last frame for indices beyond the end.

        Several threads may do so at a time with `strict`, where damage that a decoder notices raises StrategyError.
        """
        times_s = self.timeline().times_s
        last = len(times_s) - 1
        counts = Counter(self._decodable([min(index, last) for index in indices]))
        for index, picture in self._decode(counts, strict):
            image = shrink(picture)
            image = np.array(image) if image is picture else image  # it may be the decoder's memory
            yield from [Frame(image, index, times_s[index])] * counts[index]

    def starts(self, indices: Sequence[int]) -> list[int]:
        """Return the places in these ascending indices, from 0, where decoding can begin anew at no cost."""
        self.timeline()
        return [0]

    def _decodable(self, indices: list[int]) -> list[int]:
        """Return `indices` with those of broken frames replaced by those of their nearest good neighbours."""
        return indices

    def _decode(self, requested: Collection[int], strict: bool) -> Iterator[tuple[int, Picture]]:
        """Yield number and picture of the frames requested, in order."""
        raise StrategyError("exact frames are requested, not keyframes")


class IndexedKeyframes(Strategy):
    """The keyframes nearest to the frames of a `Keyframes`, by the container's index: nothing else is read."""

    name = "keyframes of the container's index"

    def timeline(self) -> Timeline:
        """Raise StrategyError: the index may not list every frame."""
        raise StrategyError("every frame is requested, not only keyframes")

    def clip(self, sampler: Sampler, shrink: Shrink) -> Clip:
        """Return the keyframes nearest to the frames of a `Keyframes`; StrategyError for another sampler."""
        if not isinstance(sampler, Keyframes):
            raise StrategyError("exact frames are requested, not keyframes")
        with self._decoders.get(1, strict=True) as video:
            index = read_index(video)
            exact = _checked(sampler, index.total_frames)
            chosen = [index.nearest(frame) for frame in exact]
            if _is_better_exact(video, index.total_frames, exact, chosen):
                raise StrategyError("the video is short and has few keyframes: the frames themselves are better")
            buffer = FrameBuffer([keyframe.time for keyframe in chosen], shrink)
            keyframes = sorted(set(chosen))
            shown = decode_keyframes(video, index, keyframes, self._decoders.threads, buffer.put)
        frames = dict(zip(keyframes, shown, strict=True))
        _warn_of_few_keyframes(self._source.name, exact, chosen)
        return Clip(
            frames=buffer.frames(),
            indices=tuple(frames[keyframe].number for keyframe in chosen),
            times_s=tuple(frames[keyframe].time_s for keyframe in chosen),
            total_frames=index.total_frames,
            duration_s=index.duration * index.seconds,
        )


class Seeking(Strategy):
    """Decoding each frame from the keyframe before it; the packets' timestamps tell which packet shows which frame."""

    def __init__(self, decoders: Decoders, threads: int) -> None:
        """Make the strategy; `threads` is the number of decoding threads, 0 for one a core."""
        super().__init__(decoders)
        self._threads = threads
        if threads != decoders.threads:
            self.name += ", with one thread"

    @abstractmethod
    def _read_table(self) -> PacketTable | None:
        """Return the table of packets, None where there is none."""

    @cached_property
    def _table(self) -> PacketTable:
        table = self._read_table()
        if table is None or not table.is_regular:
            raise StrategyError("nothing tells without doubt which packet shows which frame")
        return table

    @cached_property
    def _timeline(self) -> Timeline:
        return timeline_of(self._table.pts[self._table.shown].tolist(), self._table)

    def timeline(self) -> Timeline:
        """Return when each frame of the video is shown, by the timestamps; nothing is decoded."""
        return self._timeline

    def clip(self, sampler: Sampler, shrink: Shrink) -> Clip:
        """Return the frames that the sampler chooses; for a `Keyframes`, the keyframes nearest to them."""
        table = self._table
        total = len(table.shown)
        with self._decoders.get(self._threads) as video:
            exact = indices = _checked(sampler, total)
            if isinstance(sampler, Keyframes):
                nearest = [table.nearest_keyframe(index) for index in exact]
                if not _is_better_exact(video, total, exact, nearest):
                    indices = nearest
            buffer = FrameBuffer(indices, shrink)
            decode_frames(video, table, set(indices), buffer.put)
        _warn_of_few_keyframes(self._source.name, exact, indices)
        return self._timeline.clip(buffer.frames(), indices)

    def starts(self, indices: Sequence[int]) -> list[int]:
        """Return the places of the first frames after each keyframe from which one of the frames is decoded."""
        firsts = set(run_starts(self._table, indices))
        return [place for place, index in enumerate(indices) if index in firsts]

    def _decode(self, requested: Collection[int], strict: bool) -> Iterator[tuple[int, Picture]]:
        with self._decoders.spare() if strict else opened(self._source, self._threads) as video:
            yield from stream_frames(video, self._table, requested)


class SeekingByIndex(Seeking):
    """Seeking by the index of a large MP4 file: only the index and the packets to be decoded are read."""

    name = "seeking by the MP4 index"

    def _read_table(self) -> PacketTable | None:
        return None if fits_memory(self._source) else self._decoders.indexed


class SeekingByScan(Seeking):
    """Seeking by a table of all packets, which are read through once without being decoded."""

    name = "seeking by a scan of all packets"

    def _read_table(self) -> PacketTable | None:
        return self._decoders.scanned


@dataclass(frozen=True)
class Survey:
    """The frames of a video, as decoding all of it has shown them."""

    timeline: Timeline
    numbers: dict[int, int]
    """From the index of each frame that is not broken to its number in the decoder's output."""

    @cached_property
    def _good(self) -> list[int]:
        return sorted(self.numbers)

    def nearest(self, index: int) -> int:
        """Return the index of the nearest frame that is not broken, the earlier of two."""
        at = bisect_left(self._good, index)
        return min(self._good[max(at - 1, 0) : at + 1], key=lambda good: abs(good - index))


class FromStart(Strategy):
    """Decoding everything from the start. Broken frames are replaced by their nearest good neighbours."""

    _threads = 1
    _survey: Survey | None = None

    @abstractmethod
    def _expected(self) -> int:
        """Return how many frames the file states."""

    @abstractmethod
    def _pass(self) -> Pass:
        """Return the generator function that decodes all frames."""

    @abstractmethod
    def _survey_of(self, result: DecodedFrames) -> Survey:
        """Return the survey of all frames."""

    def timeline(self) -> Timeline:
        """Return when each frame of the video is shown, by decoding everything once."""
        return self._surveyed(None)[0].timeline

    def clip(self, sampler: Sampler, shrink: Shrink) -> Clip:
        """Return the frames that the sampler chooses.

        The first call decodes everything, and keeps the frames chosen for the number of frames that the file states.
        Where the true number leads to others, the video is decoded again.
        """
        survey, pictures = self._surveyed(sampler, shrink)
        indices = self._decodable(_checked(sampler, len(survey.timeline.times_s)))
        numbers = {index: survey.numbers[index] for index in indices}
        if not pictures.keys() >= set(numbers.values()):
            pictures = decode_all(self._pass(), set(numbers.values()), shrink, to_end=False).pictures
        buffer = FrameBuffer(indices)
        for index, number in numbers.items():
            buffer.put(index, pictures.pop(number))
        return survey.timeline.clip(buffer.frames(), indices)

    def _decode(self, requested: Collection[int], strict: bool) -> Iterator[tuple[int, Picture]]:
        survey, _ = self._surveyed(None)
        index_of = {survey.numbers[index]: index for index in requested}
        for number, picture in stream_all(self._pass(), index_of):
            yield index_of[number], picture

    def _surveyed(self, sampler: Sampler | None, shrink: Shrink = unchanged) -> tuple[Survey, dict[int, Picture]]:
        """Return the survey and, where it is made now, the pictures that the sampler chooses for the expected number.

        The pictures are by number in the decoder's output. Raises ActionClipError where no frame can be decoded.
        """
        if self._survey is not None:
            return self._survey, {}
        expected = self._expected()
        result = decode_all(self._pass(), _guess(sampler, expected), shrink)
        if self._threads != 1 and (result.failures or result.corrupt or len(result.times) != expected):
            # Decoders with several threads report an error late, lose good frames with the bad one, and conceal
            # what is missing differently from run to run.
            self._threads = 1
            result = decode_all(self._pass(), _guess(sampler, len(result.times)), shrink)
        if not result.times:
            raise ActionClipError(
                f"no frame of {self._source.name} can be decoded; check that it plays and that its frames have no more "
                f"than {most_pixels()} pixels (ACTION_CLIP_MAX_PIXELS), or convert it to H.264 first"
            )
        self._survey = self._survey_of(result)
        return self._survey, result.pictures

    def _decodable(self, indices: list[int]) -> list[int]:
        survey, _ = self._surveyed(None)
        nearest = [survey.nearest(index) for index in indices]
        if replaced := {index for index, near in zip(indices, nearest, strict=True) if index != near}:
            _log.warning(
                "%s: %d of the %d frames to look at are broken, their nearest good neighbours are taken instead",
                self._source.name,
                len(replaced),
                len(set(indices)),
            )
        return nearest


class AnimatedWebp(FromStart):
    """An animated WebP file, decoded by Pillow; a broken frame ends it."""

    name = "animated WebP"

    def rotation(self) -> int:
        """Return 0; StrategyError for another file."""
        self._check()
        return 0

    def _expected(self) -> int:
        self._check()
        return claimed_frames(self._source)

    def _pass(self) -> Pass:
        return partial(decode_animation, self._source)

    def _survey_of(self, result: DecodedFrames) -> Survey:
        starts_s = tuple(start / 1000 for start in result.times if start is not None)
        return Survey(Timeline(starts_s, result.end / 1000), {index: index for index in range(len(starts_s))})

    def _check(self) -> None:
        if not self._is_animation:
            raise StrategyError("the file is no animated WebP")

    @cached_property
    def _is_animation(self) -> bool:
        return is_animation(self._source)


class Sequential(FromStart):
    """Decoding everything with FFmpeg: right for every file."""

    name = "sequential decoding"

    def __init__(self, decoders: Decoders) -> None:
        super().__init__(decoders)
        self._threads = decoders.threads

    def _expected(self) -> int:
        return len(self._decoders.scanned.shown)

    def _pass(self) -> Pass:
        return partial(decode_packets, self._source, self._decoders.scanned, self._threads)

    def _survey_of(self, result: DecodedFrames) -> Survey:
        times, numbers = result.timeline()
        good = {index: number for index, number in enumerate(numbers) if number is not None}
        return Survey(timeline_of(times, self._decoders.scanned), good)


def make_strategies(source: VideoSource, threads: int) -> tuple[Decoders, list[Strategy]]:
    """Return the strategies in the order in which they are tried, and the decoders that they share.

    Where decoding with several threads fails, the video may be damaged: one thread decodes damage the same every time.
    """
    decoders = Decoders(source, threads)
    attempts = [threads] if threads == 1 else [threads, 1]
    return decoders, [
        AnimatedWebp(decoders),
        IndexedKeyframes(decoders),
        *(SeekingByIndex(decoders, number) for number in attempts),
        *(SeekingByScan(decoders, number) for number in attempts),
        Sequential(decoders),
    ]


def _guess(sampler: Sampler | None, total: int) -> set[int]:
    return set(sampler(total)) if sampler and total else set()


def _checked(sampler: Sampler, total: int) -> list[int]:
    indices = sampler(total)
    if not indices or not all(0 <= index < total for index in indices):
        raise ActionClipError(f"the sampler gives {indices}, but the video has the frames 0 to {total - 1}")
    return indices


def _is_better_exact(video: Video, total: int, exact: Sequence[int], keyframes: Sequence[object]) -> bool:
    """Return whether the keyframes are fewer than the frames that they replace, in a video of up to `SHORT_PIXELS`."""
    context = video.stream.codec_context
    return len(set(keyframes)) < len(set(exact)) and total * context.width * context.height <= SHORT_PIXELS


def _warn_of_few_keyframes(name: str, exact: Sequence[int], keyframes: Sequence[object]) -> None:
    if len(set(keyframes)) < len(set(exact)):
        _log.warning(
            "%s: it has so few keyframes that %d different frames are looked at instead of %d; the sampling "
            '"uniform" looks at all of them, but takes longer',
            name,
            len(set(keyframes)),
            len(set(exact)),
        )
