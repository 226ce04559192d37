"""What a copy of a video keeps besides its frames: the unit of times, the shape of pixels, the sound, repetitions."""

from __future__ import annotations  # PyAV subscripts Packet in its stubs only

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, cast

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard
from PIL import Image

from action_clip.video.ffmpeg_file import read_all
from action_clip.video.packets import clock
from action_clip.video.pixels import SQUARE
from action_clip.video.source import VideoSource, open_container, open_video, read_failure
from action_clip.video.timeline import LONGEST_GAP_S
from action_clip.video.webp import is_animation, repetitions

_MILLISECOND = Fraction(1, 1000)
_HEAD = 1 << 16  # bytes of a GIF or an APNG, in which it says how often it is played


@dataclass
class Original:
    """A video that is copied.

    Attributes:
        time_base: the unit of the frames' times, in seconds.
        rate: frames a second, as the container has it; 0 where it has none.
        origin_s: where the first of picture and sound begins, on the clock of the packets.
        start_s: when the first frame is shown, in seconds from there.
        aspect: width of the stored pixels over their height; frames that a reader returns have square ones.
        width: of the stored frames, before they are turned and their pixels made square; 0 where it is not known.
        repetitions: the number in an animation that says how often it is played, 0 for ever; None for once.
        tracks: the sound.
    """

    time_base: Fraction = _MILLISECOND
    rate: Fraction = Fraction(0)
    origin_s: Fraction = Fraction(0)
    start_s: Fraction = Fraction(0)
    aspect: Fraction = SQUARE
    width: int = 0
    repetitions: int | None = 0
    tracks: Sequence[AudioStream] = ()
    packets: Iterable[Packet[AudioStream]] = ()

    def sound(self) -> Iterator[tuple[Packet[AudioStream], Fraction]]:
        """Yield the packets of all tracks, once, and when each begins, in seconds from `origin_s`.

        Those without times follow the one before, as do those whose clock begins anew, in joined or damaged files.
        Raises ActionClipError when the connection or the disk fails.
        """
        clocks = {track.index: _SoundClock(as_fraction(track.time_base)) for track in self.tracks}
        for packet in self.packets:
            time = clocks[packet.stream_index].time_of(packet)
            packet.pts = packet.dts = time  # no codec of sound reorders packets
            yield packet, time * as_fraction(packet.time_base) - self.origin_s


class _SoundClock:
    """The times of a track's packets, each later than that of the one before."""

    def __init__(self, unit: Fraction) -> None:
        self._longest_gap = LONGEST_GAP_S / unit
        self._shift = 0
        self._last: int | None = None
        self._end = 0

    def time_of(self, packet: Packet[AudioStream]) -> int:
        known = packet.pts if packet.pts is not None else packet.dts
        time = self._end if known is None else known + self._shift
        if self._last is not None and not self._last < time <= self._end + self._longest_gap:
            after = max(self._end, self._last + 1)
            self._shift += after - time
            time = after
        self._last, self._end = time, time + (packet.duration or 0)
        return time


@contextmanager
def opened_original(source: VideoSource) -> Iterator[Original]:
    """Yield what a copy of the video keeps. Raises ActionClipError where it cannot be read."""
    if is_animation(source):
        yield Original(repetitions=repetitions(source))
        return
    with closing(open_video(source, 1)) as video:
        stream = video.stream
        time_base, rate = map(as_fraction, clock(stream))
        kind, start_s = video.container.format.name, (stream.start_time or 0) * time_base
        width, aspect = stream.codec_context.width, video.aspect
    with closing(source.open()) as file, closing(open_container(source, file)) as container:
        tracks = [track for track in container.streams.audio if track.time_base]
        starts_s = [(track.start_time or 0) * as_fraction(track.time_base) for track in tracks]
        origin_s = min([start_s, *starts_s])
        yield Original(
            time_base,
            rate,
            origin_s,
            start_s - origin_s,
            aspect,
            width,
            _repetitions(source) if kind in ("gif", "apng") else 0,
            tracks,
            _packets(source, container, tracks),
        )


def as_fraction(ratio: Any) -> Fraction:
    """Return a ratio of PyAV, which from version 19 on has a type of its own, as a fraction."""
    return Fraction(ratio.numerator, ratio.denominator)


def _packets(
    source: VideoSource, container: InputContainer, tracks: Sequence[AudioStream]
) -> Iterator[Packet[AudioStream]]:
    """Yield the packets of the tracks that hold data; a damaged file ends where it can no longer be read."""
    if not tracks:
        return
    for stream in container.streams:
        if stream not in tracks:
            stream.discard = Discard.all
    try:
        for packet in container.demux(list(tracks)):
            source.check()
            if packet.size:
                yield cast("Packet[AudioStream]", packet)
    except IndexError:  # as in packets.demux
        return
    except av.FFmpegError as error:
        source.check()
        if source.is_url or isinstance(error, OSError):
            raise read_failure(source, error) from error


def _repetitions(source: VideoSource) -> int | None:
    with closing(source.open()) as file:
        head = io.BytesIO(read_all(file, _HEAD))
    try:
        with Image.open(head, formats=["GIF", "PNG"]) as image:
            return image.info.get("loop")
    except (OSError, ValueError, SyntaxError):
        return 0
