"""Writing a video: pictures of one size with their times, and the sound of the video that they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image

from action_clip.output.sound import Sound
from action_clip.video.original import Original

_CENTISECOND = Fraction(1, 100)
_FINE = Fraction(1, 90_000)
_FINEST = 10**6
"""Most units of time a second that a container is given."""
_FINEST_RATE = 1001
_LEAST_RATE = Fraction(1, 1000)
_BT709 = 1
_LIMITED = 1

# No frame refers to a later one: then times begin where they should, in every player, and the last frame keeps its own.
_H264 = {"crf": "16", "preset": "veryfast", "bf": "0"}
_VP9 = {"crf": "24", "b": "0", "deadline": "realtime", "cpu-used": "6", "row-mt": "1"}


@dataclass(frozen=True)
class Kind:
    """How a video of one kind is written.

    Attributes:
        format: FFmpeg's name of the container.
        codec: the encoder of pictures.
        options: of that encoder.
        sound: the encoder of sound that cannot be copied; None where there is no sound.
        copied: codecs of sound that the container holds and its players play; None: whatever it holds.
        keeps_aspect: whether it says which shape pixels have.
    """

    format: str
    codec: str
    options: Mapping[str, str] = field(default_factory=dict)
    sound: str | None = None
    copied: frozenset[str] | None = None
    keeps_aspect: bool = False


KINDS = {
    ".mp4": Kind(
        "mp4",
        "libx264",
        _H264,
        "aac",
        frozenset({"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"}),
        keeps_aspect=True,
    ),
    ".mkv": Kind("matroska", "libx264", _H264, "aac", keeps_aspect=True),
    ".webm": Kind("webm", "libvpx-vp9", _VP9, "libopus", frozenset({"opus", "vorbis"})),
    ".gif": Kind("gif", "gif"),
}
"""By the ending of the file's name."""


@dataclass(frozen=True)
class Pictures:
    """What is known of the pictures of a video before they come.

    Attributes:
        width, height: of each; their pixels are square.
        rate: how many a second.
        last_s: how many seconds the last one is shown.
    """

    width: int
    height: int
    rate: float
    last_s: float


class VideoFile:
    """A video that is being written. Every method raises FFmpegError where it cannot be."""

    def __init__(
        self, path: Path, kind: Kind, original: Original, pictures: Pictures, threads: int, *, copy_sound: bool = True
    ) -> None:
        """Open the file.

        Args:
            path: of the file.
            kind: of the video.
            original: the video that the pictures come from.
            pictures: that will come.
            threads: of the encoder.
            copy_sound: False: all sound is encoded anew, also that which could be copied.
        """
        self._start_s = original.start_s
        self._size = _stored_size(original, pictures) if kind.keeps_aspect else (pictures.width, pictures.height)
        self._container = av.open(str(path), "w", format=kind.format, container_options=_options(original, pictures))
        self._stream = self._video_stream(kind, original, pictures, threads)
        self._sound: Sound | None = None
        if kind.sound is not None:
            copied = self._container.supported_codecs if kind.copied is None else kind.copied
            self._sound = Sound(self._container, original, copied if copy_sound else (), kind.sound)
        self._palette = _Palette(*self._size) if kind.codec == "gif" else None
        self._last: int | None = None
        self._durations: dict[int, int] = {}

    def _video_stream(self, kind: Kind, original: Original, pictures: Pictures, threads: int) -> VideoStream:
        rate = Fraction(pictures.rate)
        if abs(original.rate - rate) < rate / 50:
            rate = original.rate
        rate = max(rate.limit_denominator(_FINEST_RATE), _LEAST_RATE)
        stream = cast(VideoStream, self._container.add_stream(kind.codec, rate=rate, options=dict(kind.options)))
        stream.width, stream.height = width, height = self._size
        context = stream.codec_context
        context.thread_count = threads
        if kind.codec == "gif":
            stream.pix_fmt = "pal8"
            self._time_base = _CENTISECOND
        else:
            # H.264 has one colour for two columns and rows; VP9 makes do with a half.
            stream.pix_fmt = "yuv444p" if kind.codec == "libx264" and (width % 2 or height % 2) else "yuv420p"
            context.colorspace = context.color_primaries = context.color_trc = _BT709
            context.color_range = _LIMITED
            context.sample_aspect_ratio = Fraction(pictures.width * height, pictures.height * width)
            unit = original.time_base
            self._time_base = unit if unit <= 1 and unit.denominator <= _FINEST else _FINE
        context.time_base = self._time_base
        return stream

    @property
    def copies_sound(self) -> bool:
        """Whether packets of the original are written, which may be damaged so that the container refuses them."""
        return self._sound is not None and self._sound.has_copies

    def add(self, picture: NDArray[np.uint8], time_s: float, duration_s: float) -> None:
        """Write a picture, (H, W, 3) uint8 RGB, and the sound up to its time.

        `time_s` is in seconds from the first picture. Where the container's unit of time leaves none between a picture
        and the one before, it comes a unit later, or, in a GIF, where a unit is long, not at all.
        """
        moment_s = self._start_s + Fraction(time_s)
        moment = round(moment_s / self._time_base)
        if self._last is not None and moment <= self._last:
            if self._palette is not None:
                return
            moment = self._last + 1
        self._last = moment
        self._durations[moment] = max(1, round(Fraction(duration_s) / self._time_base))
        if self._sound is not None:
            self._sound.add(moment_s)
        frame = self._frame(picture)
        frame.pts, frame.time_base = moment, self._time_base
        self._encode(frame if self._palette is None else self._palette.applied(frame))

    def _frame(self, picture: NDArray[np.uint8]) -> VideoFrame:
        height, width, _ = picture.shape
        if (width, height) != self._size:
            picture = np.asarray(Image.fromarray(picture).resize(self._size, Image.Resampling.BICUBIC))
        frame = VideoFrame.from_ndarray(picture, format="rgb24")
        if self._palette is not None:
            return frame
        return frame.reformat(format=self._stream.pix_fmt, dst_colorspace=_BT709, dst_color_range=_LIMITED, threads=1)

    def _encode(self, frame: VideoFrame | None) -> None:
        for packet in self._stream.encode(frame):
            if packet.pts is not None and packet.pts in self._durations:
                packet.duration = self._durations.pop(packet.pts)
            self._container.mux(packet)

    def finish(self) -> None:
        """Write what is left, and close the file."""
        self._encode(None)
        if self._sound is not None:
            self._sound.close()
        self._container.close()

    def close(self) -> None:
        """Close the file, whether it is finished or not."""
        self._container.close()


class _Palette:
    """Gives each picture of a GIF a palette of its own."""

    def __init__(self, width: int, height: int) -> None:
        self._graph = graph = Graph()
        size: dict[str, Any] = {"width": width, "height": height, "format": "rgb24"}
        source = graph.add_buffer(**size, time_base=_CENTISECOND)
        copies = graph.add("split")
        palette = graph.add("palettegen", "stats_mode=single:reserve_transparent=0")
        use = graph.add("paletteuse", "new=1:dither=bayer:bayer_scale=4")
        sink = graph.add("buffersink")
        source.link_to(copies)
        copies.link_to(palette, 0, 0)
        copies.link_to(use, 1, 0)
        palette.link_to(use, 0, 1)
        use.link_to(sink)
        graph.configure()

    def applied(self, frame: VideoFrame) -> VideoFrame:
        """Return the frame in the 256 colours that are the best for it."""
        self._graph.vpush(frame)
        return self._graph.vpull()


def _options(original: Original, pictures: Pictures) -> dict[str, str]:
    """Return the options of containers; each takes those that it knows."""
    return {
        "movflags": "+faststart",
        "loop": "-1" if original.repetitions is None else str(original.repetitions),
        "final_delay": str(min(max(1, round(pictures.last_s * 100)), 65535)),
    }


def _stored_size(original: Original, pictures: Pictures) -> tuple[int, int]:
    """Return width and height of the pictures with pixels of the original's shape, unless they were turned."""
    if original.aspect != 1 and round(original.width * original.aspect) == pictures.width:
        return original.width, pictures.height
    return pictures.width, pictures.height
