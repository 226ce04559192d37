"""Stretches: the frames that a reader returns, for any number of threads; each decoded once; none waits for ever."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from make_videos import break_packets, damage, moving, numbered, numbers_in, write_numbered, write_video
from numpy.typing import NDArray
from PIL import Image
from servers import ranges, serving

import action_clip.video.decoders
import action_clip.video.packets
import action_clip.video.strategies
from action_clip.errors import ActionClipError
from action_clip.video.address import RemoteContent
from action_clip.video.reader import VideoReader
from action_clip.video.sequential import decode_all
from action_clip.video.source import Video, open_video
from action_clip.video.stretches import Stretch, cut

GROUPS = {"g": "20", "keyint_min": "20", "sc_threshold": "0", "bf": "2"}
EVERY_THIRD = range(1, 60, 3)


def pictures(reader: VideoReader, indices: range, most: int, threads: int) -> list[NDArray[np.uint8]]:
    """The frames of all stretches in order, decoded by so many threads."""
    stretches, taking = reader.stretches(indices, most), threading.Lock()
    found: dict[int, NDArray[np.uint8]] = {}

    def work() -> None:
        while True:
            with taking:
                stretch = next(stretches, None)
            if stretch is None:
                return
            with stretch:
                frames = list(stretch.frames())
            assert len(frames) == len(stretch.indices) <= most
            found.update(zip(stretch.indices, (frame.image for frame in frames), strict=True))

    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(work) for _ in range(threads)]:
            done.result(60)
    assert [*found] == sorted(found) or threads > 1
    return [found[index] for index in indices]


def assert_frames_are_those_of_the_reader(path: Path | str, indices: range = EVERY_THIRD, most: int = 4) -> None:
    with VideoReader(path, threads=1) as reader:
        expected = reader.frames_at(indices).frames
    for threads in (1, 3):
        with VideoReader(path, threads=1) as reader:
            for frame, other in zip(pictures(reader, indices, most, threads), expected, strict=True):
                np.testing.assert_array_equal(frame, other)


def h264(folder: Path) -> Path:
    return write_numbered(folder / "clip.mp4", 60, options=GROUPS)


def one_keyframe(folder: Path) -> Path:
    return write_numbered(folder / "clip.mkv", 60, options={"g": "999", "bf": "2"})


def unaware(folder: Path) -> Path:
    return write_numbered(folder / "clip.avi", 60, "mpeg4", options={"g": "20", "bf": "2"})


def without_timestamps(folder: Path) -> Path:
    return write_numbered(folder / "clip.h264", 60, options=GROUPS)


def animation(folder: Path) -> Path:
    first, *others = (Image.fromarray(numbered(number)) for number in range(60))
    first.save(folder / "clip.webp", save_all=True, append_images=others, duration=40, lossless=True)
    return folder / "clip.webp"


def broken(folder: Path) -> Path:
    path = write_numbered(folder / "clip.avi", 60, "mjpeg", pix_fmt="yuvj420p")
    break_packets(path, [22])
    return path


def variable_rate(folder: Path) -> Path:
    times = [40 * number + (300_000 if number > 30 else 0) + number % 3 for number in range(60)]
    return write_numbered(folder / "clip.mkv", 60, options=GROUPS, times=times)


@pytest.mark.parametrize(
    "make",
    [h264, one_keyframe, unaware, without_timestamps, animation, broken, variable_rate],
    ids=lambda f: f.__name__,
)
def test_the_frames_are_those_of_the_reader(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    assert_frames_are_those_of_the_reader(make(tmp_path))


@pytest.mark.parametrize(
    ("name", "codec", "options", "seeds"),
    [
        ("clip.mp4", "libx264", {"g": "20", "bf": "3"}, (14, 15, 17)),
        ("clip.mkv", "libx264", {"g": "999", "bf": "3"}, (1, 2)),
        ("clip.mkv", "mpeg2video", {"bf": "2", "g": "20"}, (4,)),
    ],
)
def test_damage_looks_the_same_for_any_number_of_threads(
    tmp_path: Path, name: str, codec: str, options: dict[str, str], seeds: tuple[int, ...]
) -> None:
    whole = write_video(tmp_path / name, moving(60), codec, options=options)
    for seed in seeds:
        assert_frames_are_those_of_the_reader(damage(whole, tmp_path / f"damaged-{name}", seed, count=2))


def test_damage_that_no_decoder_notices_looks_the_same_for_any_number_of_threads(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "clip.mp4", moving(60), options={"g": "20", "bf": "3"})
    path = damage(whole, tmp_path / "damaged.mp4", 0, count=2)
    results = []
    for threads in (1, 3, 3):
        with VideoReader(path, threads=1) as reader:
            results.append(np.stack(pictures(reader, EVERY_THIRD, 4, threads)))
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """How often each packet was decoded."""
    counts: Counter[int] = Counter()
    decode = Video.decode

    def counting(self: Video, packet: Any) -> Any:
        if packet is not None:
            counts[packet.pts] += 1
        return decode(self, packet)

    monkeypatch.setattr(Video, "decode", counting)
    return counts


@pytest.mark.parametrize("make", [h264, one_keyframe])
def test_no_packet_is_decoded_twice(tmp_path: Path, make: Callable[[Path], Path], decoded: Counter[int]) -> None:
    with VideoReader(make(tmp_path), threads=1) as reader:
        assert numbers_in(pictures(reader, range(60), 7, 3)) == list(range(60))
    assert len(decoded) == 60
    assert set(decoded.values()) == {1}


def test_where_frames_are_far_apart_the_others_are_not_decoded(tmp_path: Path, decoded: Counter[int]) -> None:
    with VideoReader(h264(tmp_path), threads=1) as reader:
        assert numbers_in(pictures(reader, range(1, 60, 20), 2, 1)) == [1, 21, 41]
    assert sum(decoded.values()) < 15


def test_after_damage_nothing_is_decoded_again_and_again(tmp_path: Path, decoded: Counter[int]) -> None:
    path = write_video(tmp_path / "clip.mp4", moving(60), options={"g": "999", "bf": "2"})
    with VideoReader(path, threads=1) as reader:
        expected = reader.frames_at(range(8)).frames
    decoded.clear()
    break_packets(path, [12], header=60)
    with VideoReader(path, threads=1) as reader:
        assert np.array_equal(pictures(reader, range(60), 3, 2)[:8], expected)
    # Refusing damage, concealing it, and from the start, twice each: 20 stretches would be many more.
    assert max(decoded.values()) <= 6


def test_decoders_are_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    def counting(*arguments: Any, **named: Any) -> Video:
        opened.append(open_video(*arguments, **named))
        return opened[-1]

    monkeypatch.setattr(action_clip.video.decoders, "open_video", counting)
    with VideoReader(write_numbered(tmp_path / "clip.mp4", 60, options={"g": "5"}), threads=1) as reader:
        len(reader)
        before = len(opened)
        assert numbers_in(pictures(reader, range(60), 5, 3)) == list(range(60))
        assert 1 <= len(opened) - before <= 3


def test_what_comes_from_a_url_is_read_by_one_thread_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(action_clip.video.packets, "CACHED_URL_BYTES", 0)
    reading, together = threading.Lock(), []
    read = RemoteContent.read

    def watched(self: RemoteContent, at: int, size: int) -> bytes:
        is_alone = reading.acquire(blocking=False)
        together.append(not is_alone)
        try:
            time.sleep(0.005)
            return read(self, at, size)
        finally:
            if is_alone:
                reading.release()

    monkeypatch.setattr(RemoteContent, "read", watched)
    with serving(ranges(h264(tmp_path).read_bytes())) as (address, _):
        assert_frames_are_those_of_the_reader(address)
    assert together
    assert not any(together)


def test_a_stretch_whose_frames_are_not_all_wanted_leaves_the_others_theirs(tmp_path: Path) -> None:
    with VideoReader(one_keyframe(tmp_path), threads=1) as reader:
        first, second, third, *_ = reader.stretches(range(60), 5)
        with first:
            assert numbers_in([next(first.frames()).image]) == [0]
        with second:
            pass
        with third:
            assert numbers_in(frame.image for frame in third.frames()) == [10, 11, 12, 13, 14]


def test_closing_the_reader_ends_what_waits_and_what_decodes(tmp_path: Path) -> None:
    reader = VideoReader(one_keyframe(tmp_path), threads=1)
    first, second, *_ = reader.stretches(range(60), 5)
    errors: list[ActionClipError] = []

    def wait() -> None:
        try:
            with second:
                list(second.frames())
        except ActionClipError as error:
            errors.append(error)

    with first:
        frames = first.frames()
        next(frames)
        waiting = threading.Thread(target=wait)
        waiting.start()
        reader.close()
        waiting.join(60)
        assert not waiting.is_alive()
        with pytest.raises(ActionClipError, match="closed"):
            list(frames)
    assert "closed" in str(errors[0])
    with pytest.raises(ActionClipError, match="is closed; open the video again"):
        reader.stretches(range(60), 5)


def test_closing_the_reader_closes_no_decoder_that_another_thread_uses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would crash. Damage is where the decoders that a reader's methods share are used."""
    path = write_video(tmp_path / "clip.mp4", moving(60), options={"g": "20", "bf": "3"})
    path = damage(path, tmp_path / "damaged.mp4", 14)
    reader = VideoReader(path, threads=1)
    scanning, closed = threading.Event(), threading.Event()
    in_use, close = [], Video.close

    def pause(*arguments: Any) -> Any:
        scanning.set()
        assert closed.wait(60)
        return decode_all(*arguments)

    def watched(self: Video) -> None:
        in_use.append(scanning.is_set() and not closed.is_set())
        close(self)

    stretches = reader.stretches(range(60), 60)
    monkeypatch.setattr(action_clip.video.strategies, "decode_all", pause)
    monkeypatch.setattr(Video, "close", watched)

    def work() -> None:
        with pytest.raises(ActionClipError, match="closed"), next(stretches) as stretch:
            list(stretch.frames())

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(work)
        assert scanning.wait(60)
        reader.close()
        closed.set()
        done.result(60)
    assert not any(in_use)


@pytest.mark.parametrize(
    ("starts", "total", "most", "expected"),
    [
        ([0], 5, 8, [[(0, 5)]]),
        ([0], 9, 4, [[(0, 4), (4, 8), (8, 9)]]),
        ([0, 3, 6, 9], 12, 6, [[(0, 6)], [(6, 12)]]),
        ([0, 2, 9], 12, 4, [[(0, 2)], [(2, 6), (6, 9)], [(9, 12)]]),
        ([0, 4, 8], 12, 4, [[(0, 4)], [(4, 8)], [(8, 12)]]),
        ([0], 0, 4, []),
    ],
)
def test_stretches_are_cut_where_decoding_begins_anew(
    starts: list[int], total: int, most: int, expected: list[list[tuple[int, int]]]
) -> None:
    assert list(cut(starts, total, most)) == expected


def test_stretches_come_as_they_are_asked_for(tmp_path: Path) -> None:
    with VideoReader(h264(tmp_path), threads=1) as reader:
        stretches: Iterator[Stretch] = reader.stretches(range(60), 4)
        assert next(stretches).indices == (0, 1, 2, 3)
        assert next(stretches).indices == (4, 5, 6, 7)
