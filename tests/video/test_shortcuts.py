"""What is saved when few frames of a long video are read: the same frames, with less decoded and less read."""

from __future__ import annotations  # PyAV subscripts Packet in its stubs only

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import av
import numpy as np
import pytest
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from make_videos import (
    Picture,
    break_packets,
    moving,
    numbered,
    numbers_in,
    with_edits,
    write_numbered,
    write_video,
)
from PIL import Image

import action_clip.video.decoders
import action_clip.video.packets
import action_clip.video.seeking
import action_clip.video.strategies
from action_clip.video.mp4_index import table_of_index
from action_clip.video.packets import PacketTable, scan
from action_clip.video.pixels import upright_rgb
from action_clip.video.reader import read_clip
from action_clip.video.sampling import Sampler, make_sampler
from action_clip.video.source import Video, VideoSource, opened

eight = make_sampler("uniform", 8, 0)
keyframes = make_sampler("keyframes", 4, 0)


def just(*indices: int) -> Sampler:
    """Ask for these frames."""
    return lambda _: list(indices)


def plain_pass(path: Path) -> list[Picture]:
    """Decode everything from the start, on one thread."""
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        return [upright_rgb(frame) for frame in container.decode(video=0)]


def refuse(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Make a function that the reader falls back to fail."""

    def fail(*_: object, **__: object) -> None:
        raise AssertionError(f"{name} was called")

    module = action_clip.video.decoders if name == "scan" else action_clip.video.strategies
    monkeypatch.setattr(module, name, fail)


X264 = "keyint=40:scenecut=0:bframes=3:b-adapt=0:"
X265 = "log-level=none:keyint=40:bframes=4:b-adapt=0:"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "codec", "options", "most"),
    [
        # how many of the 60 frames are decoded for the frames 37 and 58, at most
        ("pyramid.mp4", "libx264", {"x264-params": X264 + "b-pyramid=normal"}, 36),
        ("flat.mkv", "libx264", {"x264-params": X264 + "b-pyramid=none"}, 24),
        ("codes.ts", "libx264", {"x264-params": X264 + "b-pyramid=normal"}, 36),
        ("open.mkv", "libx264", {"x264-params": X264 + "open-gop=1"}, 36),
        ("interlaced.mp4", "libx264", {"x264-params": X264 + "tff=1"}, 36),
        ("forward.mp4", "libx264", {"g": "40", "bf": "0"}, 60),
        ("hevc.mp4", "libx265", {"x265-params": X265 + "b-pyramid=1"}, 42),
        ("layers.mp4", "libx265", {"x265-params": X265 + "temporal-layers=3"}, 60),
        ("mpeg4.mp4", "mpeg4", {"bf": "2", "g": "40"}, 30),
        ("mpeg2.ts", "mpeg2video", {"bf": "2", "g": "40"}, 30),
        ("vp8.webm", "libvpx", {"g": "40"}, 60),
        ("vp9.webm", "libvpx-vp9", {"g": "40", "cpu-used": "8", "lag-in-frames": "10"}, 60),
        ("av1.mp4", "libsvtav1", {"preset": "12", "g": "40"}, 60),
        ("intra.mov", "prores_ks", {}, 60),
    ],
)
def test_what_nothing_refers_to_is_not_decoded(
    tmp_path: Path, name: str, codec: str, options: dict[str, str], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pix_fmt = "yuv422p10le" if codec == "prores_ks" else "yuv420p"
    path = write_video(tmp_path / name, moving(60), codec, pix_fmt=pix_fmt, options=options)
    truth = plain_pass(path)
    refuse(monkeypatch, "decode_all")
    for threads in (1, 2):
        for index in range(60):
            frame = read_clip(path, just(index), threads=threads).frames[0]
            assert np.array_equal(frame, truth[index])
        clip = read_clip(path, eight, threads=threads)
        assert np.array_equal(clip.frames, np.stack([truth[index] for index in clip.indices]))
    decoded = 0
    decode = Video.decode

    def counted(opened_video: Video, packet: Packet[VideoStream] | None) -> list[VideoFrame]:
        nonlocal decoded
        frames = decode(opened_video, packet)
        decoded += len(frames)
        return frames

    monkeypatch.setattr(Video, "decode", counted)
    read_clip(path, just(37, 58))
    assert decoded <= most


@pytest.mark.parametrize(
    ("codec", "extradata", "told"),
    [
        ("h264", b"", True),
        ("mpeg2video", b"", True),
        ("vp9", b"", False),
        ("hevc", b"", False),
        ("hevc", b"\0\0\0\1" + bytes(20), False),
        *(("hevc", b"\1" + bytes(20) + bytes([layers << 3 | 3, 0]), layers == 1) for layers in range(4)),
    ],
)
def test_where_layers_refer_to_each_other_all_is_decoded(codec: str, extradata: bytes, told: bool) -> None:
    context = av.CodecContext.create(codec, "r")
    assert isinstance(context, av.VideoCodecContext)
    if extradata:
        context.extradata = extradata
    assert action_clip.video.seeking._skips_non_reference(context) == told


def test_what_a_decoder_misses_is_decoded_after_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "clip.mp4", moving(40), options={"g": "40", "bf": "2"})
    truth = plain_pass(path)
    refuse(monkeypatch, "decode_all")
    decode = Video.decode
    skipping: list[bool] = []

    def dropping(opened_video: Video, packet: Packet[VideoStream] | None) -> list[VideoFrame]:
        """Lose the frames that come when some may be missing."""
        frames = decode(opened_video, packet)
        skipping.append(opened_video.stream.codec_context.skip_frame == "NONREF")
        return [] if any(skipping) and len(skipping) <= 41 else frames

    monkeypatch.setattr(Video, "decode", dropping)
    assert np.array_equal(read_clip(path, just(39)).frames[0], truth[39])
    assert any(skipping[:41])
    assert not any(skipping[41:])


def tables(path: Path) -> tuple[PacketTable | None, PacketTable]:
    """Return what the index tells and what reading through does."""
    with opened(VideoSource(path.name, path), 1) as opened_video:
        return table_of_index(opened_video), scan(opened_video)


def constant(folder: Path) -> Path:
    return write_numbered(folder / "clip.mp4", 60, options={"g": "20", "bf": "3"})


def without_b_frames(folder: Path) -> Path:
    return write_numbered(folder / "clip.mov", 60, options={"g": "20", "bf": "0"})


def variable(folder: Path) -> Path:
    times = [0, 40, 100, 400, 410, 500, 1000, 1033, 1066, 3000, 3001, 3003]
    return write_numbered(folder / "clip.mp4", 12, times=times, options={"g": "5", "bf": "2"})


def open_groups(folder: Path) -> Path:
    return write_numbered(folder / "clip.mp4", 60, "libx265", options={"x265-params": X265 + "open-gop=1"})


@pytest.mark.parametrize("make", [constant, without_b_frames, variable, open_groups])
def test_the_index_tells_what_reading_through_tells(
    tmp_path: Path, make: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path)
    indexed, scanned = tables(path)
    assert indexed is not None
    for name in (part.name for part in fields(PacketTable) if part.name != "cached"):
        assert np.array_equal(getattr(indexed, name), getattr(scanned, name)), name
    small = read_clip(path, eight)
    monkeypatch.setattr(action_clip.video.packets, "CACHED_BYTES", 0)
    refuse(monkeypatch, "scan")
    large = read_clip(path, eight)
    assert np.array_equal(large.frames, small.frames)
    assert (large.indices, large.times_s, large.duration_s) == (small.indices, small.times_s, small.duration_s)


def edited(folder: Path) -> Path:
    content = bytearray(constant(folder).read_bytes())
    entry = content.index(b"elst") + 12
    start = int.from_bytes(content[entry + 4 : entry + 8])
    content[entry + 4 : entry + 8] = (start + 10 * 512).to_bytes(4)
    (folder / "clip.mp4").write_bytes(content)
    return folder / "clip.mp4"


def rearranged(folder: Path) -> Path:
    return with_edits(constant(folder), folder / "clip.mp4", [(20, 40), (40, 0)])


def fragmented(folder: Path) -> Path:
    return write_numbered(folder / "clip.mp4", 60, container_options={"movflags": "frag_keyframe+empty_moov"})


def cut(folder: Path) -> Path:
    path = write_numbered(folder / "clip.mov", 60, container_options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[:-100])
    return path


def other_codec(folder: Path) -> Path:
    return write_numbered(folder / "clip.mp4", 30, "mpeg4")


def other_format(folder: Path) -> Path:
    return write_numbered(folder / "clip.mkv", 30)


@pytest.mark.parametrize("make", [edited, rearranged, fragmented, cut, other_codec, other_format])
def test_an_index_that_leaves_doubt_is_not_used(
    tmp_path: Path, make: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path)
    assert tables(path)[0] is None
    small = read_clip(path, eight)
    monkeypatch.setattr(action_clip.video.packets, "CACHED_BYTES", 0)
    large = read_clip(path, eight)
    assert np.array_equal(large.frames, small.frames)
    assert large.indices == small.indices


@pytest.mark.parametrize("what", ["pts", "size"])
def test_a_wrong_index_is_found_out(tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(opened_video: Video) -> PacketTable:
        table = table_of_index(opened_video)
        assert table is not None
        return replace(table, **{what: getattr(table, what) + 1})

    path = constant(tmp_path)
    monkeypatch.setattr(action_clip.video.packets, "CACHED_BYTES", 0)
    monkeypatch.setattr(action_clip.video.decoders, "table_of_index", wrong)
    refuse(monkeypatch, "decode_all")
    clip = read_clip(path, eight)
    assert numbers_in(clip.frames) == list(clip.indices) == [3, 10, 18, 25, 33, 40, 48, 55]
    assert clip.times_s[0] == pytest.approx(3 / 25)


GROUPS = {"g": "20", "keyint_min": "20", "sc_threshold": "0", "bf": "2"}


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mov", "clip.mkv", "clip.ts", "clip.h264"])
@pytest.mark.parametrize("threads", [1, 3])
def test_keyframes(tmp_path: Path, name: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_numbered(tmp_path / name, 120, options=GROUPS)
    if not name.endswith(("ts", "h264")):
        refuse(monkeypatch, "scan")
        refuse(monkeypatch, "decode_all")
    clip = read_clip(path, keyframes, threads=threads)
    # The uniform frames are 14, 44, 74, 104; a raw stream has no times and is decoded as a whole.
    expected = [14, 44, 74, 104] if name == "clip.h264" else [20, 40, 80, 100]
    assert numbers_in(clip.frames) == list(clip.indices) == expected
    assert clip.times_s == pytest.approx([index / 25 for index in expected], abs=0.002)
    assert clip.total_frames == 120
    assert clip.duration_s == pytest.approx(4.8, abs=0.05)


def test_keyframes_of_an_avi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_numbered(tmp_path / "clip.avi", 60, "mjpeg", pix_fmt="yuvj420p")
    refuse(monkeypatch, "scan")
    clip = read_clip(path, keyframes)
    assert numbers_in(clip.frames) == list(clip.indices) == [7, 22, 37, 52]


def test_keyframes_of_a_picture_and_a_gif(tmp_path: Path) -> None:
    Image.fromarray(numbered(77)).save(tmp_path / "picture.png")
    assert numbers_in(read_clip(tmp_path / "picture.png", keyframes).frames) == [77] * 4
    clip = read_clip(write_numbered(tmp_path / "clip.gif", 20, "gif", pix_fmt="rgb8"), keyframes)
    assert numbers_in(clip.frames) == list(clip.indices)


def test_a_broken_keyframe_gives_way_to_its_neighbour(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "clip.avi", 60, "mjpeg", pix_fmt="yuvj420p")
    break_packets(path, [22])
    clip = read_clip(path, keyframes)
    assert numbers_in(clip.frames) == list(clip.indices) == [7, 21, 37, 52]
