"""Videos of numbered frames: the number is in the pixels, in blocks that survive compression."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image

Picture = NDArray[np.uint8]

ROWS, COLUMNS = 2, 5  # ten bits
DARK, LIGHT = 40, 215


def numbered(number: int, width: int = 160, height: int = 96) -> Picture:
    """Return an RGB picture that shows `number` (0 to 1023) as ten blocks."""
    bits = [(number >> bit) & 1 for bit in range(ROWS * COLUMNS)]
    blocks = np.where(np.array(bits).reshape(ROWS, COLUMNS), LIGHT, DARK).astype(np.uint8)
    rows = np.arange(height) * ROWS // height
    columns = np.arange(width) * COLUMNS // width
    return np.ascontiguousarray(np.repeat(blocks[rows][:, columns, None], 3, axis=2))


def number_in(picture: Picture) -> int:
    """Return the number that a picture shows; fail where it is not clear."""
    height, width, _ = picture.shape
    number = 0
    for bit in range(ROWS * COLUMNS):
        row, column = divmod(bit, COLUMNS)
        y, x = (2 * row + 1) * height // (2 * ROWS), (2 * column + 1) * width // (2 * COLUMNS)
        level = float(picture[y - 3 : y + 4, x - 3 : x + 4].mean())
        assert not 90 < level < 165, f"block {bit} is neither dark nor light: {level}"
        number |= (level > 127) << bit
    return number


def numbers_in(pictures: Iterable[Picture]) -> list[int]:
    """Return the numbers that the pictures show."""
    return [number_in(picture) for picture in pictures]


@contextmanager
def same_priority() -> Iterator[None]:
    """Undo what SVT-AV1 does to root's threads: real-time priority, which processes that they start would inherit."""
    if not hasattr(os, "sched_setscheduler"):
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


def moving(count: int) -> list[Picture]:
    """Return pictures of a texture that moves, so that each frame is made of others."""
    texture = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    large = np.asarray(Image.fromarray(texture).resize((480, 360), Image.Resampling.BICUBIC))
    return [np.ascontiguousarray(large[2 * i : 2 * i + 96, 3 * i : 3 * i + 160]) for i in range(count)]


def write_video(
    path: Path,
    pictures: Sequence[Picture],
    codec: str = "libx264",
    *,
    pix_fmt: str = "yuv420p",
    rate: int = 25,
    times: Sequence[int] | None = None,
    options: Mapping[str, str] | None = None,
    container_options: Mapping[str, str] | None = None,
    rotation: int | None = None,
    mirrored: bool = False,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write the pictures as a video; `times` counts milliseconds and makes the rate variable."""
    with same_priority(), av.open(str(path), "w", options=dict(container_options or {})) as container:
        container.metadata.update(metadata or {})
        stream = container.add_stream(codec, rate=rate, options=dict(options or {}))
        assert isinstance(stream, VideoStream)
        stream.height, stream.width, _ = pictures[0].shape
        stream.pix_fmt = pix_fmt
        if rotation is not None:
            stream.set_display_rotation(rotation, hflip=mirrored)
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format={3: "rgb24", 4: "rgba"}[picture.shape[2]])
            frame.pts = index if times is None else times[index]
            frame.time_base = Fraction(1, rate) if times is None else Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_numbered(path: Path, count: int, codec: str = "libx264", **how: object) -> Path:
    """Write a video of the numbers 0 to count - 1; see write_video for the rest."""
    return write_video(path, [numbered(number) for number in range(count)], codec, **how)  # type: ignore[arg-type]


def copy_packets(source: Path, target: Path, *, skip: int = 0, shift: int = 0) -> Path:
    """Copy the video stream without its first `skip` packets, each `shift` units of time later."""
    with av.open(str(source)) as reading, av.open(str(target), "w") as writing:
        stream = reading.streams.video[0]
        copy = writing.add_stream_from_template(stream)
        for index, packet in enumerate(reading.demux(stream)):
            if packet.dts is None or packet.pts is None or index < skip:
                continue
            packet.pts += shift
            packet.dts += shift
            packet.stream = copy
            writing.mux(packet)
    return target


def claim_keyframes(source: Path, target: Path) -> Path:
    """Copy the video stream, telling of every packet that it is a keyframe."""
    with av.open(str(source)) as reading, av.open(str(target), "w") as writing:
        stream = reading.streams.video[0]
        copy = writing.add_stream_from_template(stream)
        for packet in reading.demux(stream):
            if packet.size:
                packet.is_keyframe = True
                packet.stream = copy
                writing.mux(packet)
    return target


def with_edits(source: Path, target: Path, edits: Sequence[tuple[int, int]]) -> Path:
    """Copy an MP4 file of 25 frames a second with an edit list: stretches of (frames, the first of them).

    The first may be -1, for a stretch that shows nothing.
    """
    content = bytearray(source.read_bytes())
    old = content.index(b"elst") + 12  # past version, flags and count: duration, media time, rate
    start = int.from_bytes(content[old + 4 : old + 8])
    content = content.replace(b"edts", b"free")
    entries = ((count * 40, start + first * 512 if first >= 0 else -1) for count, first in edits)
    elst = b"".join(length.to_bytes(4) + time.to_bytes(4, signed=True) + b"\0\1\0\0" for length, time in entries)
    elst = (16 + len(elst)).to_bytes(4) + b"elst" + bytes(4) + len(edits).to_bytes(4) + elst
    edts = (8 + len(elst)).to_bytes(4) + b"edts" + elst
    at = content.index(b"mdia") - 4
    content[at:at] = edts
    for kind in (b"moov", b"trak"):
        size = content.index(kind) - 4
        content[size : size + 4] = (int.from_bytes(content[size : size + 4]) + len(edts)).to_bytes(4)
    target.write_bytes(content)
    return target


def split_hidden_frames(source: Path, target: Path) -> Path:
    """Copy an AV1 video, giving each frame that is decoded but not shown a packet of its own."""
    with same_priority(), av.open(str(source)) as reading, av.open(str(target), "w") as writing:
        stream = reading.streams.video[0]
        copy = writing.add_stream("libsvtav1", rate=25, options={"preset": "12"})
        copy.width, copy.height, copy.pix_fmt = stream.width, stream.height, "yuv420p"
        for packet in reading.demux(stream):
            parts = list(_frames_of(bytes(packet)))
            for index, data in enumerate(parts):
                part = av.Packet(data)
                part.stream = copy
                part.time_base = packet.time_base
                assert packet.pts is not None
                part.pts = part.dts = packet.pts - 2 * (len(parts) - 1 - index)
                part.is_keyframe = packet.is_keyframe and index == 0
                writing.mux(part)
    return target


def _frames_of(unit: bytes) -> Iterable[bytes]:
    """Split an AV1 temporal unit after each frame (AV1 specification, 5.3: open bitstream units with a size)."""
    start = at = 0
    while at < len(unit):
        kind, position = unit[at] >> 3 & 15, at + 1 + (unit[at] >> 2 & 1)
        size = shift = 0
        while True:
            size |= (unit[position] & 127) << shift
            position, shift = position + 1, shift + 7
            if unit[position - 1] < 128:
                break
        at = position + size
        if kind in (3, 6):  # a frame header that shows an earlier frame, a frame
            yield unit[start:at]
            start = at


def write_palettes(path: Path, count: int) -> Path:
    """Write a video of numbers in two colours, whose palette is turned round every eight frames."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("rawvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "pal8"
        for index in range(count):
            turned = index // 8 % 2
            palette = np.full((256, 4), 255, np.uint8)
            palette[turned, 1:], palette[1 - turned, 1:] = DARK, LIGHT
            cells = (numbered(index)[..., 0] == LIGHT).astype(np.uint8) ^ np.uint8(turned)
            frame = av.VideoFrame.from_ndarray((cells, palette), format="pal8")  # type: ignore[arg-type]
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def break_packets(path: Path, positions: Iterable[int], *, header: int = 0) -> None:
    """Overwrite the video packets at `positions` (in decoding order), with noise after a `header` of bytes.

    Without a header nothing can be decoded; with one, decoders show something.
    """
    with av.open(str(path)) as container:
        packets = [(bytes(packet), packet.pos or 0) for packet in container.demux(video=0)]
    content = bytearray(path.read_bytes())
    for position in positions:
        data, near = packets[position]
        start = content.index(data, near)
        noise = np.random.default_rng(position).bytes(len(data) - header)
        content[start + header : start + len(data)] = noise if header else b"\xff" * len(data)
    path.write_bytes(content)


def damage(source: Path, target: Path, seed: int, *, count: int = 6) -> Path:
    """Copy a file with `count` wrong bytes in each of `count` of its video packets."""
    random = np.random.default_rng(seed)
    with av.open(str(source)) as container:
        packets = [(bytes(packet), packet.pos or 0) for packet in container.demux(video=0) if packet.size]
    content = bytearray(source.read_bytes())
    for position in random.choice(len(packets), count, replace=False):
        data, near = packets[position]
        start = content.index(data, near)
        for at in random.integers(start, start + len(data), count):
            content[at] = random.integers(256)
    target.write_bytes(content)
    return target


def write_audio(path: Path, cover: Picture | None = None) -> Path:
    """Write a second of sound, with or without a cover picture."""
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=44100)
        picture = None
        if cover is not None:
            picture = container.add_stream("mjpeg", rate=1)
            assert isinstance(picture, VideoStream)
            picture.height, picture.width, _ = cover.shape
            picture.pix_fmt = "yuvj420p"
            picture.disposition = av.stream.Disposition.attached_pic
            frame = av.VideoFrame.from_ndarray(cover, format="rgb24")
            container.mux(picture.encode(frame))
            container.mux(picture.encode(None))
        frames = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), format="fltp", layout="mono")
        frames.sample_rate = 44100
        container.mux(sound.encode(frames))
        container.mux(sound.encode(None))
    return path
