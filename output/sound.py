"""The sound of an annotated video: packets are copied, or encoded anew where its container cannot hold their codec."""

from __future__ import annotations  # PyAV subscripts Packet in its stubs only

import logging
from collections.abc import Collection, Iterable
from contextlib import suppress
from fractions import Fraction
from typing import Protocol, cast

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet

from action_clip.video.original import Original, as_fraction

_LOG = logging.getLogger("action_clip")
_RATE = 48_000
"""Samples a second that every encoder takes."""


class Track(Protocol):
    """A track of sound that is written."""

    def add(self, packet: Packet[AudioStream]) -> None:
        """Write a packet of the original."""

    def close(self) -> None:
        """Write what is left."""


class Sound:
    """All tracks of a video that is written; they are added piece by piece, beside the frames of the same time.

    Attributes:
        has_copies: whether packets of the original, which may be damaged, are written as they are.
    """

    def __init__(self, container: OutputContainer, original: Original, copied: Collection[str], encoder: str) -> None:
        """Add the tracks to the container; a note says how many cannot be kept.

        Args:
            container: that is written.
            original: the video that is copied.
            copied: codecs that the container holds and its players play.
            encoder: encodes others.
        """
        self._packets = original.sound()
        self._next = next(self._packets, None)
        self._tracks: dict[int, Track] = {}
        self.has_copies = False
        for track in original.tracks:
            is_copied = track.codec_context is not None and track.codec.canonical_name in copied
            with suppress(av.FFmpegError, ValueError, AttributeError):
                self._tracks[track.index] = (
                    _Copied(container, track, original.origin_s)
                    if is_copied
                    else _Encoded(container, track, original.origin_s, encoder)
                )
                self.has_copies |= is_copied
        if lost := len(original.tracks) - len(self._tracks):
            _LOG.warning("%d of %d sound tracks cannot be decoded, and are left out", lost, len(original.tracks))

    def add(self, until_s: Fraction | None) -> None:
        """Write what begins up to this time, in seconds from the first of picture and sound; None: all that is left.

        Raises ActionClipError where the original cannot be read, FFmpegError where it cannot be written.
        """
        while self._next is not None and (until_s is None or self._next[1] <= until_s):
            packet, _ = self._next
            track = self._tracks.get(packet.stream_index)
            if track is not None:
                track.add(packet)
            self._next = next(self._packets, None)

    def close(self) -> None:
        """Write what is left. Raises as `add` does."""
        self.add(None)
        for track in self._tracks.values():
            track.close()


class _Copied:
    """A track whose packets are written as they are."""

    def __init__(self, container: OutputContainer, track: AudioStream, origin_s: Fraction) -> None:
        self._container = container
        self._stream = container.add_stream_from_template(track, opaque=True)
        _copy_description(track, self._stream)
        self._origin_s = origin_s

    def add(self, packet: Packet[AudioStream]) -> None:
        offset = round(self._origin_s / as_fraction(packet.time_base))
        assert packet.pts is not None
        assert packet.dts is not None
        packet.pts -= offset
        packet.dts -= offset
        packet.stream = self._stream
        self._container.mux(packet)

    def close(self) -> None:
        """Nothing is left."""


class _Encoded:
    """A track that is decoded and encoded, in mono or stereo."""

    def __init__(self, container: OutputContainer, track: AudioStream, origin_s: Fraction, encoder: str) -> None:
        self._container = container
        self._track = track
        self._origin_s = origin_s
        rates = av.Codec(encoder, "w").audio_rates or ()
        rate = track.rate if track.rate in rates else _RATE
        self._stream = cast(AudioStream, container.add_stream(encoder, rate=rate))
        self._stream.layout = "mono" if track.channels == 1 else "stereo"
        _copy_description(track, self._stream)

        self._resampler: av.AudioResampler | None = None
        self._form: tuple[str, str, int] | None = None
        self._end = 0

    def add(self, packet: Packet[AudioStream]) -> None:
        self._decode(packet)

    def close(self) -> None:
        self._decode(None)
        self._flush()
        self._container.mux(self._stream.encode(None))

    def _decode(self, packet: Packet[AudioStream] | None) -> None:
        try:
            frames = self._track.decode(packet)
        except av.FFmpegError:  # damage: nothing is read here
            return
        for frame in frames:
            if frame.pts is not None and frame.time_base is not None:
                frame.pts -= round(self._origin_s / as_fraction(frame.time_base))
            form = frame.format.name, frame.layout.name, frame.sample_rate
            if form != self._form:  # in broadcasts it changes
                self._flush()
            if self._resampler is None:
                context = self._stream.codec_context
                self._resampler = av.AudioResampler(context.format, self._stream.layout, self._stream.rate)
                self._form = form
            self._resample(frame)

    def _flush(self) -> None:
        if self._resampler is not None:
            self._resample(None)
            self._resampler = None

    def _resample(self, frame: AudioFrame | None) -> None:
        assert self._resampler is not None
        try:
            frames = self._resampler.resample(frame)
        except (av.FFmpegError, ValueError):  # damage: channels that no one has
            self._resampler = None
            return
        self._encode(frames)

    def _encode(self, frames: Iterable[AudioFrame]) -> None:
        for frame in frames:
            # Encoders refuse what overlaps with what was before.
            frame.pts = self._end if frame.pts is None else max(frame.pts, self._end)
            self._end = frame.pts + frame.samples
            self._container.mux(self._stream.encode(frame))


def _copy_description(track: AudioStream, stream: AudioStream) -> None:
    for name in ("language", "title"):
        if name in track.metadata:
            stream.metadata[name] = track.metadata[name]
