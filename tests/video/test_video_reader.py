"""A reader: one video, opened once and read many times, and the strategies by which it finds frames."""

import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from make_videos import break_packets, copy_packets, damage, moving, numbered, numbers_in, write_numbered, write_video
from PIL import Image
from servers import ranges, serving

import action_clip.video.decoders
import action_clip.video.keyframes
import action_clip.video.packets
import action_clip.video.pixels
import action_clip.video.seeking
import action_clip.video.sequential
import action_clip.video.source
import action_clip.video.strategies
import action_clip.video.webp
from action_clip.errors import ActionClipError
from action_clip.video.reader import VideoReader, read_clip
from action_clip.video.sampling import make_sampler

eight = make_sampler("uniform", 8, 0)
keyframes = make_sampler("keyframes", 4, 0)
GROUPS = {"g": "20", "keyint_min": "20", "sc_threshold": "0", "bf": "2"}


def every(total: int) -> list[int]:
    """Ask for all frames."""
    return list(range(total))


def three(total: int, first: int) -> list[int]:
    """Ask for some frames near each other."""
    return [min(index, total - 1) for index in (first, first + 3, first + 9)]


def mp4(folder: Path) -> Path:
    return write_numbered(folder / "clip.mp4", 60, options=GROUPS)


def hevc(folder: Path) -> Path:
    return write_numbered(folder / "clip.mkv", 60, "libx265", options={"x265-params": "log-level=none:keyint=20"})


def raw(folder: Path) -> Path:
    return write_numbered(folder / "clip.h264", 60, options=GROUPS)


def animation(folder: Path) -> Path:
    first, *others = (Image.fromarray(numbered(number)) for number in range(60))
    first.save(folder / "clip.webp", save_all=True, append_images=others, duration=40, lossless=True)
    return folder / "clip.webp"


def broken(folder: Path) -> Path:
    path = write_numbered(folder / "clip.avi", 60, "mjpeg", pix_fmt="yuvj420p")
    break_packets(path, [22])
    return path


BY_INDEX = "seeking by the MP4 index"
BY_SCAN = "seeking by a scan of all packets"
SEQUENTIAL = "sequential decoding"
WEBP = "animated WebP"
KEYFRAMES = "keyframes of the container's index"


@pytest.mark.parametrize("make", [mp4, hevc, raw, animation, broken])
def test_what_a_video_says_of_itself(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    with VideoReader(make(tmp_path)) as video:
        assert len(video) == 60
        assert video.times_s == pytest.approx([index / 25 for index in range(60)], abs=0.001)
        assert video.duration_s == pytest.approx(2.4, abs=0.002)
        assert video.rate == pytest.approx(25, rel=0.001)
        assert video.size == (160, 96)
        assert video.rotation == 0


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(("turned", "clockwise"), [(0, 0), (90, 270), (180, 180), (270, 90)])
def test_the_size_is_that_of_an_upright_frame(tmp_path: Path, turned: int, clockwise: int, mirrored: bool) -> None:
    path = write_video(tmp_path / "clip.mp4", [numbered(1)], rotation=turned, mirrored=mirrored)
    with VideoReader(path) as video:
        assert video.size == ((160, 96) if clockwise in (0, 180) else (96, 160))
        if not mirrored:
            assert video.rotation == clockwise
        assert video.rotation % 90 == 0


@pytest.mark.parametrize(
    ("make", "kept_bytes", "uniform", "keyframe"),
    [
        (mp4, 2**30, BY_SCAN, KEYFRAMES),
        (mp4, 0, BY_INDEX, KEYFRAMES),
        (hevc, 0, BY_SCAN, KEYFRAMES),
        (raw, 2**30, SEQUENTIAL, SEQUENTIAL),
        (animation, 2**30, WEBP, WEBP),
        (broken, 0, SEQUENTIAL, KEYFRAMES),
    ],
)
def test_the_strategy_that_answers(
    tmp_path: Path,
    make: Callable[[Path], Path],
    kept_bytes: int,
    uniform: str,
    keyframe: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(action_clip.video.packets, "CACHED_BYTES", kept_bytes)
    with VideoReader(make(tmp_path), threads=2) as video:
        answered = [video.strategy]
        with caplog.at_level(logging.DEBUG, "action_clip"):
            video.clip(lambda _: [7, 22, 22, 52])
        answered.append(video.strategy)
        assert caplog.records[-1].getMessage().endswith(f": {uniform}")
        video.clip(make_sampler("keyframes", 3, 0))
        answered.append(video.strategy)
    assert answered == [None, uniform, keyframe]


def test_strategies_are_tried_in_order(tmp_path: Path) -> None:
    with VideoReader(mp4(tmp_path), threads=2) as video:
        names = [strategy.name for strategy in video.strategies]
    one = ", with one thread"
    assert names == [WEBP, KEYFRAMES, BY_INDEX, BY_INDEX + one, BY_SCAN, BY_SCAN + one, SEQUENTIAL]


@pytest.mark.parametrize("kept_bytes", [2**30, 0])
@pytest.mark.parametrize("make", [mp4, hevc, raw, animation, broken])
def test_many_uses_give_what_one_gives(
    tmp_path: Path, make: Callable[[Path], Path], kept_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(action_clip.video.packets, "CACHED_BYTES", kept_bytes)
    path = make(tmp_path)
    samplers = [eight, keyframes, every, make_sampler("random", 5, 1), lambda _: [59, 3, 3]]
    alone = [read_clip(path, sampler) for sampler in samplers]
    with VideoReader(path) as video:
        for order in (range(5), (4, 2, 0, 1, 3)):
            for number in order:
                clip = video.clip(samplers[number])
                assert np.array_equal(clip.frames, alone[number].frames)
                assert (clip.indices, clip.times_s, clip.total_frames, clip.duration_s) == (
                    alone[number].indices,
                    alone[number].times_s,
                    alone[number].total_frames,
                    alone[number].duration_s,
                )
        clip = video.frames_at(np.array([40, 3, 3]))  # type: ignore[arg-type]
        assert clip.indices == (40, 3, 3)
        assert numbers_in(clip.frames) == [40, 3, 3]
        assert numbers_in(frame.image for frame in video.frames_between(0.4, 0.8, 25)) == list(range(10, 20))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("clip.mp4", "libx264", {"g": "20", "bf": "3"}),
        ("clip.mp4", "libx265", {"x265-params": "log-level=none:keyint=20"}),
        ("clip.webm", "libvpx", {"g": "20"}),
        ("clip.avi", "mpeg4", {"bf": "2", "g": "20"}),
        ("clip.avi", "mjpeg", {}),
    ],
)
def test_what_was_read_before_changes_nothing_of_damage(
    tmp_path: Path, name: str, codec: str, options: dict[str, str]
) -> None:
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    whole = write_video(tmp_path / name, moving(60), codec, pix_fmt=pix_fmt, options=options)
    for seed in range(4):
        path = damage(whole, tmp_path / f"damaged-{name}", seed)
        samplers = [partial(three, first=first) for first in (0, 17, 23, 44)]
        alone = [read_clip(path, sampler, threads=1) for sampler in samplers]
        with VideoReader(path, threads=1) as video:
            for number in (2, 0, 3, 1, 2):
                clip = video.clip(samplers[number])
                assert clip.indices == alone[number].indices
                assert np.array_equal(clip.frames, alone[number].frames)


@pytest.mark.parametrize("make", [mp4, raw])
def test_a_video_is_opened_and_read_through_once(
    tmp_path: Path, make: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = 0
    scanned = 0
    open_video, scan = action_clip.video.source.open_video, action_clip.video.packets.scan

    def count_open(*arguments: object, **options: object) -> object:
        nonlocal opened
        opened += 1
        return open_video(*arguments, **options)  # type: ignore[arg-type]

    def count_scan(*arguments: object) -> object:
        nonlocal scanned
        scanned += 1
        return scan(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(action_clip.video.decoders, "open_video", count_open)
    monkeypatch.setattr(action_clip.video.decoders, "scan", count_scan)
    with VideoReader(make(tmp_path), threads=2) as video:
        for first in range(20):
            assert numbers_in(video.frames_at([first, first + 9]).frames) == [first, first + 9]
    assert (opened, scanned) == (1, 1)


def test_what_has_come_from_a_url_is_kept(tmp_path: Path) -> None:
    content = write_numbered(tmp_path / "clip.mp4", 60, container_options={"movflags": "faststart"}).read_bytes()
    with serving(ranges(content)) as (address, asked), VideoReader(address) as video:
        for first in range(10):
            assert numbers_in(video.frames_at([first]).frames) == [first]
        assert len(list(video.frames_between(0, 9, 25))) == 60
        assert len(asked) == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_read_many_times(tmp_path: Path) -> None:
    content = mp4(tmp_path).read_bytes()
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(content,))
    writer.start()
    with VideoReader(tmp_path / "pipe") as video:
        assert [numbers_in(video.frames_at([index]).frames) for index in (3, 50, 7)] == [[3], [50], [7]]
    writer.join()


@pytest.mark.parametrize("indices", [[], [60], [-1], [3, 99]])
def test_frames_that_a_video_has_not(tmp_path: Path, indices: list[int]) -> None:
    with (
        VideoReader(mp4(tmp_path)) as video,
        pytest.raises(
            ActionClipError, match=r"^the frames \[.*\] are asked for, but the video has the frames 0 to 59$"
        ),
    ):
        video.frames_at(indices)


def test_a_stretch(tmp_path: Path) -> None:
    with VideoReader(mp4(tmp_path)) as video:
        for (start_s, end_s, rate), expected in {
            (0, 1, 25): list(range(25)),
            (0, 99, 5): list(range(0, 60, 5)),
            (0.02, 0.5, 10): [0, 3, 5, 8, 10],
            (2.3, 2.4, 50): [57, 58, 58, 59, 59],
            (1, 1.0001, 1): [25],
            (2.39, float("inf"), 1): [59],
        }.items():
            frames = list(video.frames_between(start_s, end_s, rate))
            assert numbers_in(frame.image for frame in frames) == expected
            assert [frame.index for frame in frames] == expected
            assert [frame.time_s for frame in frames] == [video.times_s[index] for index in expected]
        assert frames[0].image.shape == (96, 160, 3)


@pytest.mark.parametrize("name", ["clip.mkv", "clip.mp4", "clip.avi", "clip.ts"])
@pytest.mark.parametrize("rate", [24, 30, 60])
def test_rounded_times_repeat_and_miss_nothing(tmp_path: Path, name: str, rate: int) -> None:
    path = write_numbered(tmp_path / name, 90, rate=rate, options={"bf": "0"})
    with VideoReader(path) as video:
        assert [frame.index for frame in video.frames_between(0, 99, rate)] == list(range(90))


def test_a_frame_that_is_shown_for_long_comes_repeatedly(tmp_path: Path) -> None:
    first, *others = (Image.fromarray(numbered(number)) for number in range(3))
    first.save(tmp_path / "clip.gif", save_all=True, append_images=others, duration=[100, 600, 300], loop=0)
    with VideoReader(tmp_path / "clip.gif") as video:
        frames = list(video.frames_between(0, 9, 10))
    assert numbers_in(frame.image for frame in frames) == [0] + 6 * [1] + 3 * [2]
    assert len({id(frame.image) for frame in frames}) == 3


@pytest.mark.parametrize(
    "stretch", [(-1, 2, 3), (2, 2, 3), (0, 1, 0), (0, 1, float("inf")), (float("nan"), 1, 1), (0, 1, float("nan"))]
)
def test_a_stretch_without_frames(tmp_path: Path, stretch: tuple[float, float, float]) -> None:
    with VideoReader(mp4(tmp_path)) as video:
        with pytest.raises(ActionClipError, match=r"^there are no frames from .* give a start of 0 or more"):
            video.frames_between(*stretch)
        with pytest.raises(ActionClipError, match=r"clip.mp4 has 2.400 s, and no frames from 2.5 s on$"):
            video.frames_between(2.5, 9, 1)


@pytest.mark.parametrize("make", [mp4, raw, hevc, animation])
def test_a_stretch_is_decoded_as_it_is_asked_for(
    tmp_path: Path, make: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("action_clip.video.reader._BATCH_PIXELS", 160 * 96)
    decoded = 0
    upright_rgb, on_white = action_clip.video.pixels.upright_rgb, action_clip.video.pixels.on_white

    def count(convert: Callable[..., object]) -> Callable[..., object]:
        def counting(*arguments: object) -> object:
            nonlocal decoded
            decoded += 1
            return convert(*arguments)

        return counting

    with VideoReader(make(tmp_path)) as video:
        expected = video.frames_at(range(0, 60, 5))
        monkeypatch.setattr(action_clip.video.seeking, "upright_rgb", count(upright_rgb))
        monkeypatch.setattr(action_clip.video.sequential, "upright_rgb", count(upright_rgb))
        monkeypatch.setattr(action_clip.video.webp, "on_white", count(on_white))
        frames = video.frames_between(0, 99, 5)
        for number, frame in enumerate(frames):
            assert np.array_equal(frame.image, expected.frames[number])
            assert decoded <= number + 4
            if number == 6:  # what is read meanwhile does not disturb it
                assert numbers_in(video.frames_at([59, 2]).frames) == [59, 2]
                decoded = number + 1
        assert number == 11


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg4"])
def test_a_stretch_of_a_damaged_video(tmp_path: Path, codec: str) -> None:
    options = {"x265-params": "log-level=none:keyint=20"} if codec == "libx265" else {"g": "20", "bf": "2"}
    whole = write_video(tmp_path / "clip.mp4", moving(60), codec, options=options)
    for seed in range(4):
        path = damage(whole, tmp_path / "damaged.mp4", seed)
        streams = []
        for before in ([], [50, 3, 21]):
            with VideoReader(path, threads=1) as video:
                for index in before:
                    video.frames_at([min(index, len(video) - 1)])
                streams.append(list(video.frames_between(0, 99, 25)))
                assert len(streams[-1]) == len(video)
        for one, other in zip(*streams, strict=True):
            assert (one.index, one.time_s) == (other.index, other.time_s)
            assert np.array_equal(one.image, other.image)


def test_a_stretch_with_a_broken_frame(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = broken(tmp_path)
    with VideoReader(path) as video:
        frames = list(video.frames_between(0.8, 1, 25))
        assert video.strategy == SEQUENTIAL
    assert [frame.index for frame in frames] == numbers_in(frame.image for frame in frames) == [20, 21, 21, 23, 24]
    assert "1 of the" in caplog.text


def test_a_stretch_in_which_the_size_changes(tmp_path: Path) -> None:
    small = write_video(tmp_path / "a.h264", [numbered(number) for number in range(10)])
    large = write_video(tmp_path / "b.h264", [numbered(number, 320, 240) for number in range(10, 20)])
    (tmp_path / "clip.h264").write_bytes(small.read_bytes() + large.read_bytes())
    with VideoReader(tmp_path / "clip.h264") as video:
        images = [frame.image for frame in video.frames_between(0, 9, 25)]
        assert video.size == (160, 96)
    assert numbers_in(images) == list(range(20))
    assert {image.shape for image in images} == {(96, 160, 3)}


def test_timestamps_that_promise_more_frames_than_there_are(tmp_path: Path) -> None:
    whole = write_numbered(tmp_path / "whole.mkv", 60, options={"g": "20", "bf": "0"})
    path = copy_packets(whole, tmp_path / "clip.mkv")
    break_packets(path, [59, 58], header=5)
    with VideoReader(path) as video:
        clip = video.frames_at([len(video) - 1, 3])
        assert clip.frames.shape == (2, 96, 160, 3)
        assert numbers_in(clip.frames[1:]) == [3]


@pytest.mark.parametrize("make", [mp4, hevc, raw])
def test_several_threads(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    with VideoReader(make(tmp_path)) as video, ThreadPoolExecutor(4) as pool:
        clips = pool.map(lambda first: video.frames_at([first, first + 7]), range(40))
        streams = pool.map(lambda start: list(video.frames_between(start / 5, 99, 5)), range(4))
        assert [numbers_in(clip.frames) for clip in clips] == [[first, first + 7] for first in range(40)]
        assert [[frame.index for frame in stream] for stream in streams] == [
            list(range(start, 60, 5)) for start in (0, 5, 10, 15)
        ]


def test_a_closed_reader(tmp_path: Path) -> None:
    with VideoReader(mp4(tmp_path)) as video:
        stream = video.frames_between(0, 9, 25)
        assert next(stream).index == 0
    for use in (lambda: video.frames_at([0]), lambda: video.clip(eight), lambda: list(stream), lambda: video.rotation):
        with pytest.raises(ActionClipError, match=r"^the reader of .*clip.mp4 is closed; open the video again$"):
            use()
    video.close()


def test_closing_while_another_thread_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, closed = threading.Event(), threading.Event()
    read_index = action_clip.video.keyframes.read_index

    def slow(video: action_clip.video.source.Video) -> object:
        reading.set()
        assert closed.wait(60)
        return read_index(video)

    monkeypatch.setattr(action_clip.video.strategies, "read_index", slow)
    video = VideoReader(mp4(tmp_path))
    with ThreadPoolExecutor(1) as pool:
        clip = pool.submit(video.clip, keyframes)
        assert reading.wait(60)
        video.close()
        closed.set()
        with pytest.raises(ActionClipError, match=r"^the reader of .*clip.mp4 was closed"):
            clip.result()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
@pytest.mark.parametrize("where", ["file", "url", "pipe"])
def test_a_forked_child_has_a_reader_of_its_own(tmp_path: Path, where: str) -> None:
    content = write_numbered(tmp_path / "clip.mkv", 60, options=GROUPS).read_bytes()
    with serving(ranges(content)) as (address, _):
        source: Path | str = tmp_path / "clip.mkv"
        if where == "url":
            source = address
        elif where == "pipe":
            source = tmp_path / "pipe"
            os.mkfifo(source)
            threading.Thread(target=source.write_bytes, args=(content,)).start()
        with VideoReader(source, threads=2) as video:
            stream = video.frames_between(0, 9, 25)
            assert next(stream).index == 0
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    with video:
                        ok = numbers_in(video.frames_at([41, 5]).frames) == [41, 5]
                    stream = iter(())
                    code = 0 if ok else 2
                finally:
                    os._exit(code)
            assert [frame.index for frame in stream] == list(range(1, 60))
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert numbers_in(video.frames_at([7]).frames) == [7]
