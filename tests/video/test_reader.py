"""Which frames come out of a video: told by the numbers in the pictures."""

import logging
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from make_videos import (
    Picture,
    break_packets,
    claim_keyframes,
    copy_packets,
    numbered,
    numbers_in,
    split_hidden_frames,
    write_audio,
    write_numbered,
    write_palettes,
    write_video,
)
from PIL import Image

import action_clip.video.packets
import action_clip.video.seeking
import action_clip.video.strategies
from action_clip.errors import ActionClipError
from action_clip.video.packets import SeekError, demux, read_run, scan
from action_clip.video.pixels import upright_rgb
from action_clip.video.reader import Clip, read_clip
from action_clip.video.sampling import Sampler, make_sampler
from action_clip.video.sequential import DecodedFrames, decode_all, decode_packets
from action_clip.video.source import VideoSource, opened

eight = make_sampler("uniform", 8, 0)


def every(total: int) -> list[int]:
    """Ask for all frames."""
    return list(range(total))


def just(*indices: int) -> Sampler:
    """Ask for these frames."""
    return lambda _: list(indices)


def noisy(count: int) -> list[Picture]:
    """Return numbered pictures that take many bytes."""
    noise = np.random.default_rng(0).integers(0, 30, (count, 96, 160, 3), np.uint8)
    return [numbered(number) + noise[number] for number in range(count)]


def plain_pass(path: Path) -> list[Picture]:
    """Decode everything from the start, on one thread."""
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        return [upright_rgb(frame) for frame in container.decode(video=0)]


def refuse_full_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the fallback fail, so that what passes was read by seeking."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("everything was decoded")

    monkeypatch.setattr(action_clip.video.strategies, "decode_all", refuse)


def seek_in_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep no packets in memory, as for a large file."""
    monkeypatch.setattr(action_clip.video.packets, "CACHED_BYTES", 0)


B_FRAMES = {"bf": "3", "g": "40", "sc_threshold": "0"}
VARIABLE = [0, 40, 100, 400, 410, 500, 1000, 1033, 1066, 3000, 3001, 3003, 3100, 3200, 3300, 5000, 5020, 5040]


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "options"),
    [
        ("h264.mp4", "libx264", "yuv420p", B_FRAMES),
        ("h264.mkv", "libx264", "yuv420p", B_FRAMES),
        ("h264.ts", "libx264", "yuv420p", B_FRAMES),
        ("h264.flv", "libx264", "yuv420p", B_FRAMES),
        ("no_pts.avi", "libx264", "yuv420p", B_FRAMES),  # the times in it are those of decoding
        ("no_times.h264", "libx264", "yuv420p", B_FRAMES),
        ("ten_bit.mkv", "libx264", "yuv420p10le", {}),
        ("open_gop.mp4", "libx265", "yuv420p", {"x265-params": "log-level=none:keyint=12:open-gop=1"}),
        ("av1.mp4", "libsvtav1", "yuv420p", {"preset": "12"}),
        ("vp8.webm", "libvpx", "yuv420p", {"g": "12"}),
        ("vp9.webm", "libvpx-vp9", "yuv420p", {"g": "12", "cpu-used": "8", "lag-in-frames": "10"}),
        ("mpeg4.avi", "mpeg4", "yuv420p", {"bf": "2"}),
        ("mpeg2.ts", "mpeg2video", "yuv420p", {"bf": "2"}),
        ("intra.avi", "mjpeg", "yuvj420p", {}),
        ("grey_16_bit.mkv", "ffv1", "gray16le", {}),
        ("rgb_16_bit.mov", "png", "rgb48be", {}),
        ("clip.gif", "gif", "rgb8", {}),
        ("clip.apng", "apng", "rgb24", {}),
    ],
)
def test_containers_and_codecs(
    tmp_path: Path,
    name: str,
    codec: str,
    pix_fmt: str,
    options: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = write_numbered(tmp_path / name, 50, codec, pix_fmt=pix_fmt, options=options)
    in_memory = read_clip(path, eight)
    assert in_memory.total_frames == 50
    assert in_memory.indices == (2, 8, 15, 21, 27, 33, 40, 46)
    assert numbers_in(in_memory.frames) == [2, 8, 15, 21, 27, 33, 40, 46]
    assert in_memory.frames.dtype == np.uint8
    assert in_memory.frames.shape == (8, 96, 160, 3)
    assert in_memory.times_s == pytest.approx([index / 25 for index in in_memory.indices], abs=0.002)
    assert in_memory.duration_s == pytest.approx(2, abs=0.002)
    seek_in_the_file(monkeypatch)
    from_file = read_clip(path, eight, threads=1)
    assert np.array_equal(from_file.frames, in_memory.frames)
    assert (from_file.indices, from_file.times_s) == (in_memory.indices, in_memory.times_s)


def long_gop(folder: Path) -> Path:
    return write_numbered(folder / "clip.mp4", 200, options={"bf": "3", "g": "90", "sc_threshold": "0"})


def recovery_points(folder: Path) -> Path:
    options = {"x264-params": "open-gop=1:keyint=15:bframes=3:b-adapt=0:scenecut=0"}
    return write_numbered(folder / "clip.mkv", 100, options=options)


def variable_rate(folder: Path) -> Path:
    return write_numbered(folder / "clip.mp4", len(VARIABLE), times=VARIABLE, options={"g": "5"})


def late_start(folder: Path) -> Path:
    whole = write_numbered(folder / "whole.ts", 60, options=B_FRAMES)
    return copy_packets(whole, folder / "clip.ts", shift=90000 * 1000)


def edit_list(folder: Path) -> Path:
    """Cut the first 10 frames away by an edit list that begins in the middle of a group of pictures."""
    path = write_numbered(folder / "clip.mp4", 60, options={"g": "20", "bf": "2"})
    content = bytearray(path.read_bytes())
    entry = content.index(b"elst") + 12  # past version, flags and count: duration, media time, rate
    start = int.from_bytes(content[entry + 4 : entry + 8], "big")
    content[entry + 4 : entry + 8] = (start + 10 * 512).to_bytes(4, "big")
    path.write_bytes(content)
    return path


def leading_frames(folder: Path) -> Path:
    """Begin with a keyframe that is followed by frames shown before it, which refer to what is gone."""
    whole = write_numbered(
        folder / "whole.mkv",
        60,
        "libx265",
        options={"x265-params": "log-level=none:keyint=15:min-keyint=15:open-gop=1:bframes=3:b-adapt=0"},
    )
    with av.open(str(whole)) as container:
        keys = [index for index, packet in enumerate(container.demux(video=0)) if packet.is_keyframe]
    return copy_packets(whole, folder / "clip.mkv", skip=keys[1])


def false_keyframes(folder: Path) -> Path:
    whole = write_numbered(folder / "whole.mkv", 60, "msmpeg4", options={"g": "30"})
    return claim_keyframes(whole, folder / "clip.mkv")


def hidden_frames(folder: Path) -> Path:
    options = {"preset": "12", "crf": "20", "svtav1-params": "keyint=20"}
    whole = write_numbered(folder / "whole.mkv", 60, "libsvtav1", options=options)
    return split_hidden_frames(whole, folder / "clip.mkv")


def time_runs_back(folder: Path) -> Path:
    """Join three recordings, the last with times between those of the others."""
    whole = write_numbered(folder / "whole.ts", 30, options={"bf": "0"})
    parts = [copy_packets(whole, folder / "part.ts", shift=90000 * start).read_bytes() for start in (0, 50, 20)]
    (folder / "clip.ts").write_bytes(b"".join(parts))
    return folder / "clip.ts"


def same_times(folder: Path) -> Path:
    times = [index * 40 if index < 10 else index // 2 * 80 for index in range(40)]
    return write_numbered(folder / "clip.mkv", 40, "ffv1", times=times, options={"g": "100"})


def palettes(folder: Path) -> Path:
    return write_palettes(folder / "clip.avi", 40)


def transport_stream(folder: Path) -> Path:
    return write_numbered(folder / "clip.ts", 120, "mpeg2video", options={"bf": "2", "g": "15"})


@pytest.mark.parametrize("make", [long_gop, recovery_points, variable_rate, late_start, edit_list, transport_stream])
def test_seeking_gives_what_one_pass_gives(
    tmp_path: Path, make: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path)
    truth = plain_pass(path)
    refuse_full_decoding(monkeypatch)
    for kept_bytes in (2**30, 0):
        monkeypatch.setattr(action_clip.video.packets, "CACHED_BYTES", kept_bytes)
        for index in {0, 1, 7, len(truth) // 2, len(truth) - 1}:
            clip = read_clip(path, just(index))
            assert clip.total_frames == len(truth)
            assert np.array_equal(clip.frames[0], truth[index])
        for sampler in (eight, make_sampler("random", 5, 1)):
            clip = read_clip(path, sampler, threads=3)
            assert np.array_equal(clip.frames, np.stack([truth[index] for index in clip.indices]))


@pytest.mark.parametrize("make", [leading_frames, false_keyframes, hidden_frames, time_runs_back, same_times, palettes])
def test_what_cannot_be_sought_is_decoded_in_one_pass(
    tmp_path: Path, make: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path)
    truth = plain_pass(path)
    for kept_bytes in (2**30, 0):
        monkeypatch.setattr(action_clip.video.packets, "CACHED_BYTES", kept_bytes)
        for threads in (1, 3):
            for sampler in (eight, just(len(truth) - 1, 20, 0), just(3)):
                clip = read_clip(path, sampler, threads=threads)
                assert clip.total_frames == len(truth)
                assert np.array_equal(clip.frames, np.stack([truth[index] for index in clip.indices]))
                assert list(clip.times_s) == sorted(clip.times_s) or sampler is not eight


def test_a_file_that_changes_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seek_in_the_file(monkeypatch)
    path = write_numbered(tmp_path / "clip.mkv", 60, options={"g": "30", "bf": "0"})
    with opened(VideoSource("clip", path), 1) as opened_video:
        table = scan(opened_video)
        assert len(list(read_run(opened_video, table, 30, 45))) == 16
        sizes = table.size.copy()
        sizes[40] += 1
        for changed in (replace(table, size=sizes), replace(table, pts=table.pts + 7)):
            with pytest.raises(SeekError):
                list(read_run(opened_video, changed, 30, 45))


def test_where_seeking_fails_everything_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise SeekError

    seek_in_the_file(monkeypatch)
    monkeypatch.setattr(action_clip.video.packets, "_seek", fail)
    clip = read_clip(write_numbered(tmp_path / "clip.mp4", 60), eight)
    assert numbers_in(clip.frames) == list(clip.indices) == [3, 10, 18, 25, 33, 40, 48, 55]


def test_an_edit_list_cuts_the_first_frames_away(tmp_path: Path) -> None:
    clip = read_clip(edit_list(tmp_path), every)
    assert numbers_in(clip.frames) == list(range(10, 60))
    assert clip.times_s[0] == 0


def test_times_of_a_variable_rate(tmp_path: Path) -> None:
    clip = read_clip(variable_rate(tmp_path), every)
    assert numbers_in(clip.frames) == list(range(len(VARIABLE)))
    assert clip.times_s == pytest.approx([time / 1000 for time in VARIABLE], abs=1e-4)
    assert clip.duration_s == pytest.approx(5.04 + 5.04 / 17, abs=1e-3)


def test_times_of_a_gif(tmp_path: Path) -> None:
    first, *others = (Image.fromarray(numbered(number)) for number in range(3))
    first.save(tmp_path / "clip.gif", save_all=True, append_images=others, duration=[100, 200, 700], loop=0)
    clip = read_clip(tmp_path / "clip.gif", every)
    assert numbers_in(clip.frames) == [0, 1, 2]
    assert clip.times_s == pytest.approx([0, 0.1, 0.3])
    assert clip.duration_s == pytest.approx(1)


@pytest.mark.parametrize(("codec", "pix_fmt", "most"), [("mjpeg", "yuvj420p", 15), ("libx264", "yuv420p", 160)])
def test_eight_frames_cost_about_eight_frames(
    tmp_path: Path, codec: str, pix_fmt: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_numbered(tmp_path / "clip.mkv", 800, codec, pix_fmt=pix_fmt, options={"g": "20", "bf": "0"})
    runs: list[int] = []

    def counted(*arguments: object) -> object:
        packets = list(read_run(*arguments))  # type: ignore[arg-type]
        runs.append(len(packets))
        return iter(packets)

    monkeypatch.setattr(action_clip.video.seeking, "read_run", counted)
    refuse_full_decoding(monkeypatch)
    seek_in_the_file(monkeypatch)
    clip = read_clip(path, eight)
    assert numbers_in(clip.frames) == list(clip.indices) == [49, 149, 249, 349, 449, 549, 649, 749]
    assert len(runs) == 8
    assert sum(runs) <= most


def test_the_sampler_decides_order_and_repeats(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "clip.mp4", 30)
    clip = read_clip(path, just(29, 3, 3, 0))
    assert clip.indices == (29, 3, 3, 0)
    assert numbers_in(clip.frames) == [29, 3, 3, 0]


@pytest.mark.parametrize("indices", [[0, 30], [-1], []])
def test_indices_outside_the_video_are_refused(tmp_path: Path, indices: list[int]) -> None:
    path = write_numbered(tmp_path / "clip.mp4", 30)
    with pytest.raises(ActionClipError, match="the video has the frames 0 to 29"):
        read_clip(path, just(*indices))


def test_fewer_frames_than_asked_for(tmp_path: Path) -> None:
    one = read_clip(write_numbered(tmp_path / "one.mp4", 1), eight)
    assert numbers_in(one.frames) == [0] * 8
    assert (one.total_frames, one.times_s) == (1, (0.0,) * 8)
    assert one.duration_s == pytest.approx(0.04)
    three = read_clip(write_numbered(tmp_path / "three.mp4", 3), eight)
    assert numbers_in(three.frames) == [0, 0, 0, 1, 1, 1, 2, 2]


@pytest.mark.parametrize("name", ["picture.png", "picture.jpg", "picture.webp", "palette.png"])
def test_a_picture_is_a_video_of_one_frame(tmp_path: Path, name: str) -> None:
    picture = Image.fromarray(numbered(77))
    (picture.convert("P") if name == "palette.png" else picture).save(tmp_path / name)
    clip = read_clip(tmp_path / name, just(0))
    assert numbers_in(clip.frames) == [77]


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_rotation_metadata(tmp_path: Path, rotation: int, mirrored: bool) -> None:
    upright = np.random.default_rng(0).integers(0, 2, (4, 6, 1), np.uint8).repeat(3, 2) * 200 + 20
    upright = upright.repeat(32, 0).repeat(32, 1)
    # What a camera stores: turned back, so that turning it counter-clockwise makes it upright.
    stored = np.rot90(upright[:, ::-1] if mirrored else upright, -rotation // 90)
    stored = np.ascontiguousarray(stored)
    path = write_video(tmp_path / "clip.mp4", [stored] * 3, rotation=rotation, mirrored=mirrored)
    frames = read_clip(path, every).frames
    assert frames.shape == (3, 128, 192, 3)
    assert np.abs(frames[0].astype(int) - upright)[16::32, 16::32].max() < 30


def test_a_turned_photograph(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6  # orientation: to be turned clockwise
    Image.fromarray(np.rot90(numbered(300), 1)).save(tmp_path / "photo.jpg", exif=exif)
    assert numbers_in(read_clip(tmp_path / "photo.jpg", every).frames) == [300]


@pytest.mark.parametrize(("name", "codec"), [("clip.gif", "gif"), ("clip.apng", "apng")])
def test_what_is_transparent_is_white(tmp_path: Path, name: str, codec: str) -> None:
    opaque = Image.fromarray(numbered(5)).convert("RGBA")
    hole = opaque.copy()
    hole.paste((0, 0, 0, 0), (0, 0, 32, 48))
    path = tmp_path / name
    hole.save(path, save_all=True, append_images=[hole] * 3, duration=100, disposal=2)
    frame = read_clip(path, eight).frames[-1]
    assert frame[:44, :28].min() == 255
    assert np.abs(frame[:, 40:].astype(int) - numbered(5)[:, 40:]).max() < 20


def test_a_transparent_palette_entry(tmp_path: Path) -> None:
    picture = Image.new("P", (20, 10), 1)
    picture.putpalette([0, 0, 0, 10, 20, 30])
    picture.putpixel((5, 5), 0)
    picture.save(tmp_path / "icon.png", transparency=0)
    frame = read_clip(tmp_path / "icon.png", every).frames[0]
    assert frame[5, 5].tolist() == [255, 255, 255]
    assert frame[5, 6].tolist() == [10, 20, 30]


def test_half_transparent_shows_half_white(tmp_path: Path) -> None:
    Image.new("RGBA", (20, 10), (200, 100, 0, 51)).save(tmp_path / "glass.png")
    assert read_clip(tmp_path / "glass.png", every).frames[0, 5, 5].tolist() == [244, 224, 204]


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p", "gray"])
def test_odd_sizes(tmp_path: Path, pix_fmt: str) -> None:
    pictures = [numbered(number, 163, 97) for number in range(12)]
    path = write_video(tmp_path / "clip.mkv", pictures, "ffv1", pix_fmt=pix_fmt)
    clip = read_clip(path, every)
    assert clip.frames.shape == (12, 97, 163, 3)
    assert numbers_in(clip.frames) == list(range(12))
    assert np.abs(clip.frames[5].astype(int) - pictures[5])[:, :30].max() < 10


@pytest.mark.parametrize(
    ("colorspace", "color_range", "expected"),
    [
        # Y 200, Cb 90, Cr 160 by the formulas of BT.709 and BT.601
        ("bt709", "tv", (255, 204, 134)),
        ("bt470bg", "tv", (255, 203, 137)),
        ("bt709", "pc", (250, 192, 129)),
        ("bt470bg", "pc", (245, 190, 133)),
    ],
)
def test_declared_colours(tmp_path: Path, colorspace: str, color_range: str, expected: tuple[int, int, int]) -> None:
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv444p"
        stream.options = {"colorspace": colorspace, "color_range": color_range}
        frame = av.VideoFrame(32, 32, "yuv444p")
        for plane, level in zip(frame.planes, (200, 90, 160), strict=True):
            plane.update(bytes([level]) * plane.buffer_size)
        frame.color_range = {"tv": 1, "pc": 2}[color_range]
        frame.colorspace = {"bt709": 1, "bt470bg": 5}[colorspace]
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    pixel = read_clip(path, every).frames[0, 16, 16].astype(int)
    assert np.abs(pixel - expected).max() <= 2


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("b.mkv", "libx264"), ("c.apng", "apng")])
def test_a_cut_file_ends_where_it_is_cut(tmp_path: Path, name: str, codec: str) -> None:
    options = {"movflags": "faststart"} if name.endswith("mp4") else {}
    path = write_video(
        tmp_path / name,
        noisy(100),
        codec,
        pix_fmt="rgb24" if codec == "apng" else "yuv420p",
        container_options=options,
        options={} if codec == "apng" else {"g": "10", "bf": "0", "crf": "20"},
    )
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    clip = read_clip(path, eight)
    assert 40 < clip.total_frames < 60
    assert numbers_in(clip.frames) == list(clip.indices)
    assert clip.duration_s == pytest.approx(clip.total_frames / 25, abs=0.05)


def test_a_recording_that_begins_between_keyframes(tmp_path: Path) -> None:
    whole = write_numbered(tmp_path / "whole.ts", 60, options={"g": "20", "bf": "0", "sc_threshold": "0"})
    clip = read_clip(copy_packets(whole, tmp_path / "clip.ts", skip=5), every)
    numbers = numbers_in(clip.frames)
    assert numbers == list(range(20, 60))
    assert clip.times_s[0] == 0


@pytest.mark.parametrize(("codec", "suffix"), [("libvpx-vp9", "webm"), ("libsvtav1", "mp4"), ("mjpeg", "avi")])
def test_broken_frames_give_way_to_their_neighbours(
    tmp_path: Path,
    codec: str,
    suffix: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    intra = {
        "libvpx-vp9": {"g": "1", "cpu-used": "8", "lag-in-frames": "0"},
        "libsvtav1": {"preset": "12", "svtav1-params": "keyint=1"},
        "mjpeg": {},
    }[codec]
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = write_numbered(tmp_path / f"clip.{suffix}", 20, codec, pix_fmt=pix_fmt, options=intra)
    break_packets(path, [4, 5, 10, 19])
    capfd.readouterr()
    results: list[Clip] = []
    for threads in (None, 1, 4):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "action_clip"):
            results.append(read_clip(path, just(3, 4, 5, 10, 10, 12, 19), threads=threads))
        assert [record.getMessage() for record in caplog.records] == [
            f"{path}: 4 of the 6 frames to look at are broken, their nearest good neighbours are taken instead"
        ]
    for clip in results:
        assert clip.total_frames == 20
        assert clip.indices == (3, 3, 6, 9, 9, 12, 18)
        assert numbers_in(clip.frames) == [3, 3, 6, 9, 9, 12, 18]
        assert clip.times_s == pytest.approx([index / 25 for index in clip.indices], abs=0.002)
    assert capfd.readouterr().err == ""


def test_a_broken_frame_among_the_last(tmp_path: Path) -> None:
    # The decoder's threads report it when they are emptied, and PyAV drops that error with the frames after it.
    path = write_numbered(tmp_path / "clip.webm", 20, "libvpx-vp9", options={"g": "1", "cpu-used": "8"})
    break_packets(path, [18])
    for threads in (1, 4):
        clip = read_clip(path, just(17, 18, 19), threads=threads)
        assert clip.total_frames == 20
        assert numbers_in(clip.frames) == [17, 17, 19]


def test_broken_frames_before_an_edit_list_begins(tmp_path: Path) -> None:
    path = edit_list(tmp_path)
    break_packets(path, [4, 6])
    clip = read_clip(path, every)
    assert clip.total_frames == 50
    assert numbers_in(clip.frames[10:]) == list(range(20, 60))


def test_frames_that_the_decoder_calls_corrupt(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_video(tmp_path / "clip.mp4", noisy(6), options={"g": "1"})
    break_packets(path, [1, 2], header=100)
    assert numbers_in(read_clip(path, every).frames) == [0, 0, 3, 3, 4, 5]
    assert len(caplog.records) == 1


def test_where_broken_frames_belong() -> None:
    by_time = DecodedFrames(times=[0, 10, 30, 40], corrupt={3}, failures=[(20, 2), (30, 2), (50, 4)])
    assert by_time.timeline() == ([0, 10, 20, 30, 40, 50], [0, 1, None, 2, None, None])
    by_place = DecodedFrames(times=[None] * 3, failures=[(None, 1), (None, 1), (None, 3)])
    assert by_place.timeline() == ([None] * 6, [0, None, None, 1, 2, None])
    backwards = DecodedFrames(times=[20, 0, 10], failures=[(5, 1)])
    assert backwards.timeline() == ([20, 5, 0, 10], [0, None, 1, 2])
    assert DecodedFrames(times=[0, 1], corrupt={0, 1}).timeline() == ([0, 1], [0, 1])


def test_decoding_again_ends_with_the_last_requested_frame(tmp_path: Path) -> None:
    source = VideoSource("clip", write_numbered(tmp_path / "clip.mp4", 60))
    with opened(source, 1) as opened_video:
        table = scan(opened_video)
    found = decode_all(partial(decode_packets, source, table, 1), {2, 5}, to_end=False)
    assert sorted(found.pictures) == [2, 5]
    assert 6 <= len(found.times) < 20


def test_broken_frames_that_nobody_asked_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_numbered(tmp_path / "clip.avi", 20, "mjpeg", pix_fmt="yuvj420p")
    break_packets(path, [10])
    clip = read_clip(path, just(2, 9, 11))
    assert numbers_in(clip.frames) == [2, 9, 11]
    assert clip.total_frames == 20
    assert not caplog.records


def test_damage_in_the_middle_gives_the_same_result_every_time(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", noisy(100), options={"g": "25", "bf": "2"})
    break_packets(path, [27, 30, 50, 51, 80], header=100)
    clips = [read_clip(path, every, threads=threads) for threads in (1, 2, 4, 4)]
    assert clips[0].total_frames == 100
    for clip in clips[1:]:
        assert clip.indices == clips[0].indices
        assert np.array_equal(clip.frames, clips[0].frames)
    assert numbers_in(clips[0].frames[:20]) == list(range(20))


def test_no_decodable_frame_is_an_error(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "clip.avi", 5, "mjpeg", pix_fmt="yuvj420p")
    break_packets(path, range(5))
    with pytest.raises(ActionClipError, match=r"^no frame of .*clip.avi can be decoded; check that it plays"):
        read_clip(path, eight)


def test_a_change_of_size(tmp_path: Path) -> None:
    small = write_video(tmp_path / "a.h264", [numbered(number) for number in range(10)])
    large = write_video(tmp_path / "b.h264", [numbered(number, 320, 240) for number in range(10, 20)])
    path = tmp_path / "clip.h264"
    path.write_bytes(small.read_bytes() + large.read_bytes())
    clip = read_clip(path, every)
    assert clip.frames.shape == (20, 96, 160, 3)
    assert numbers_in(clip.frames) == list(range(20))
    assert read_clip(path, just(15, 2)).frames.shape == (2, 240, 320, 3)


def test_metadata_that_is_not_unicode(tmp_path: Path) -> None:
    # Without checksums: with some, FFmpeg 9 does not open what is changed here.
    no_crc = {"write_crc32": "0"}
    path = write_numbered(tmp_path / "clip.mkv", 10, metadata={"title": "PLACEHOLDER"}, container_options=no_crc)
    path.write_bytes(path.read_bytes().replace(b"PLACEHOLDER", b"\xff\xfeLACEHOLDE\xff"))
    assert numbers_in(read_clip(path, every).frames) == list(range(10))


def test_odd_file_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    whole = write_numbered(tmp_path / "clip.mp4", 3)
    for name in ("http:clip.mp4", "a b%03d#?é.mp4", "-clip.mp4"):
        (tmp_path / name).write_bytes(whole.read_bytes())
        assert numbers_in(read_clip(name, every).frames) == [0, 1, 2]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe(tmp_path: Path) -> None:
    content = write_numbered(tmp_path / "clip.mp4", 40, options=B_FRAMES).read_bytes()
    for data in (content, b""):
        pipe = tmp_path / f"pipe{len(data)}"
        os.mkfifo(pipe)
        writer = threading.Thread(target=pipe.write_bytes, args=(data,))
        writer.start()
        if data:
            clip = read_clip(pipe, eight)
            assert numbers_in(clip.frames) == [2, 7, 12, 17, 22, 27, 32, 37]
        else:
            with pytest.raises(ActionClipError, match="nothing came through the pipe"):
                read_clip(pipe, eight)
        writer.join()


def make_text(folder: Path) -> Path:
    (folder / "labels.txt").write_text("drinking\neating\n" * 200)
    return folder / "labels.txt"


def make_noise(folder: Path) -> Path:
    (folder / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(50000))
    return folder / "noise.mp4"


def make_empty(folder: Path) -> Path:
    (folder / "empty.mp4").touch()
    return folder / "empty.mp4"


def make_headless(folder: Path) -> Path:
    content = write_numbered(folder / "whole.mp4", 50).read_bytes()
    (folder / "headless.mp4").write_bytes(content[: len(content) // 2])
    return folder / "headless.mp4"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "missing.mp4", r"^the video .*missing.mp4 does not exist; check its name"),
        (lambda folder: folder, r" is a folder, not a video; name one video file$"),
        (make_empty, r"^the video .*empty.mp4 is empty \(0 bytes\); copy or download it again$"),
        (make_text, r"labels.txt is a text file, not a video; name a video file$"),
        (
            make_noise,
            r"noise.mp4 cannot be read as a video \(.*\); give a whole mp4, mkv, avi or gif file$",
        ),
        (make_headless, r"headless.mp4 cannot be read as a video \(.*\); give a whole mp4"),
        (lambda folder: write_audio(folder / "a.m4a"), r"a.m4a is not a video: it holds no video stream;"),
        (
            lambda folder: write_audio(folder / "b.mp4", numbered(1)),
            r"b.mp4 is not a video: it holds only audio with a cover picture;",
        ),
        (lambda _: Path("/dev/null"), r"^/dev/null is a device, not a video; name a video file$"),
        (lambda _: "a\0b.mp4", r"^the video 'a.*' cannot be opened \(.*embedded null .*\); check its name"),
        (lambda _: "ftp://example.org/a.mp4", r"is neither http nor https; give one of these or a file$"),
    ],
)
def test_what_is_not_a_video(
    tmp_path: Path, make: Callable[[Path], Path | str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = make(tmp_path)
    with pytest.raises(ActionClipError, match=message) as raised:
        read_clip(path, eight)
    assert "\n" not in str(raised.value)
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="everything is readable to root")
def test_an_unreadable_file(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "secret.mp4", 3)
    path.chmod(0)
    with pytest.raises(ActionClipError, match=r"secret.mp4' cannot be opened \(Permission denied\)"):
        read_clip(path, eight)


def test_a_stream_that_begins_in_the_middle(tmp_path: Path) -> None:
    parts = []
    for name, options in (("a.ts", {}), ("b.ts", {"mpegts_start_pid": "512", "tables_version": "5"})):
        path = write_video(tmp_path / name, noisy(100), options={"g": "20", "bf": "0"}, container_options=options)
        parts.append(path.read_bytes())
    (tmp_path / "clip.ts").write_bytes(b"".join(parts))
    for kind in ("uniform", "keyframes"):
        clip = read_clip(tmp_path / "clip.ts", make_sampler(kind, 8, 0))
        assert numbers_in(clip.frames) == list(clip.indices)
        assert clip.total_frames == 100


def test_the_end_that_pyav_18_trips_over() -> None:
    """Where a stream has begun in the middle it looks for it in memory that it has not set."""

    def packets(_: object) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(size=5)
        yield SimpleNamespace(size=0)
        yield SimpleNamespace(size=7)
        raise IndexError

    video = SimpleNamespace(container=SimpleNamespace(demux=packets), stream=None)
    assert [packet.size for packet in demux(video)] == [5, 7]  # type: ignore[arg-type]
