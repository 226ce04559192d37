"""The video bank: what is written is read bit for bit, by threads, processes and children; it is bounded; no error."""

import logging
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from known_videos import MOST, ROOT, assert_same, filled, known, running, video

import action_clip.models.cache.blob_file
import action_clip.models.cache.video_bank
from action_clip import ActionClipError
from action_clip.models.cache.video_bank import KnownVideo, VideoBank, video_bank
from action_clip.models.store.home import VIDEO_BANK, home

PATIENCE_S = 120.0
KINDS = {
    "zero-shot": video(3),
    "frames see each other": KnownVideo(video(3).features, None, video(3).logits, (0, 5), (0.0, 0.25), 10, 0.5),
    "a closed set": KnownVideo(video(3).features, None, np.full(400, -1e30, np.float32), (7,) * 8, (0.5,) * 8, 9, 1.5),
    "without times": KnownVideo(video(3).features, video(4).frame_features, video(3).logits, (0,) * 8, (), 1, 0.0),
    "frames of another width": KnownVideo(
        video(3).features, np.ones((8, 100), np.float32), np.ones(3, np.float32), (1,) * 8, (0.5,) * 8, 9, 1.5
    ),
    "small": KnownVideo(
        np.array([-0.0], np.float32),
        np.array([[1e-45], [3.4e38]], np.float32),
        np.empty(0, np.float32),
        (2**40, 0),
        (1e-300, -1.0),
        0,
        1e9,
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_read_again_bit_for_bit(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "new" / "bank"
    bank = VideoBank(path, MOST)
    bank.write("a key", KINDS[kind])
    assert_same(bank.read("a key"), KINDS[kind])
    bank.flush()
    for reader in (bank, VideoBank(path, MOST)):
        assert_same(reader.read("a key"), KINDS[kind])
        assert reader.read("another key") is None


def test_arrays_of_another_memory_layout_and_kind_are_the_same_numbers(tmp_path: Path) -> None:
    expected = video(1)
    assert expected.frame_features is not None
    given = KnownVideo(
        np.repeat(expected.features, 2)[::2],
        np.asfortranarray(expected.frame_features),
        expected.logits,
        tuple(np.array(expected.indices)),
        tuple(np.array(expected.times_s)),
        expected.total_frames,
        expected.duration_s,
    )
    bank = VideoBank(tmp_path / "bank", MOST)
    bank.write("a", given)
    assert_same(bank.read("a"), expected)
    bank.close()
    found = VideoBank(tmp_path / "bank", MOST).read("a")
    assert_same(found, expected)
    assert found is not None
    found.features[0] = 7  # it is the caller's own


def test_the_later_of_two_records_counts(tmp_path: Path) -> None:
    bank = VideoBank(tmp_path / "bank", MOST)
    for number in (1, 2):
        bank.write("a", video(number))
        assert_same(bank.read("a"), video(number))
        bank.flush()
        assert_same(VideoBank(tmp_path / "bank", MOST).read("a"), video(number))


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", ["features", "frame_features", "logits", "times_s", "duration_s"])
def test_numbers_that_are_not_finite_are_not_kept(tmp_path: Path, number: float, place: str) -> None:
    good = KnownVideo(video(1).features, video(1).frame_features, np.ones(3, np.float32), (1, 2), (0.0, 1.0), 3, 1.0)
    parts: dict[str, Any] = {name: getattr(good, name) for name in good.__dataclass_fields__}
    if place == "duration_s":
        parts[place] = number
    elif place == "times_s":
        parts[place] = (0.0, number)
    else:
        parts[place] = parts[place].copy()
        parts[place].flat[-1] = number
    bank = filled(tmp_path / "bank", range(3))
    bank.write("a", KnownVideo(**parts))
    bank.flush()
    assert bank.read("a") is None
    assert known(tmp_path / "bank", range(3)) == [0, 1, 2]


def test_a_missing_file_is_empty_and_not_made_by_reading(tmp_path: Path) -> None:
    bank = VideoBank(tmp_path / "no" / "bank", MOST)
    assert bank.read("a") is None
    bank.flush()
    bank.close()
    assert list(tmp_path.iterdir()) == []


class Clock:
    """What time it is, for the file and for the bank."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = time.time()
        patch.setattr(action_clip.models.cache.blob_file, "time", lambda: self.now)
        patch.setattr(action_clip.models.cache.video_bank, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_writes_reach_the_disk_every_few_seconds(tmp_path: Path, clock: Clock) -> None:
    """So that killed processes lose little, and fast ones do not wait for the disk at each video."""
    path = tmp_path / "bank"
    bank = VideoBank(path, MOST)
    on_disk = []
    for number in range(40):
        clock.now += 0.25
        bank.write(f"video {number}", video(number))
        on_disk.append(len(known(path, range(40))))
    assert on_disk[0] == 1
    lost = [number + 1 - count for number, count in enumerate(on_disk)]
    assert max(lost) <= 10
    writes = sum(one != other for one, other in pairwise(on_disk))
    assert 3 <= writes <= 10
    clock.now += 60
    bank.write("video 40", video(40))  # after a long one, at once
    assert known(path, range(41)) == list(range(41))


def test_many_at_once_do_not_wait_in_memory(tmp_path: Path, clock: Clock) -> None:
    bank = VideoBank(tmp_path / "bank", MOST)
    for number in range(600):
        bank.write(f"video {number}", video(number))
    assert len(known(tmp_path / "bank", range(600))) >= 600 - (8 << 20) // 16384


def test_reading_writes_once_an_hour_at_most(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "bank"
    filled(path, range(20))
    contents = [path.read_bytes()]
    start = clock.now
    for seconds in (60, 3000, 4000, 4001, 7000, 9000):
        clock.now = start + seconds
        assert known(path, range(20)) == list(range(20))
        contents.append(path.read_bytes())
    changed = [one != other for one, other in pairwise(contents)]
    assert changed == [False, False, True, False, False, True]


def test_a_read_is_no_write(tmp_path: Path, clock: Clock) -> None:
    """Of a hundred videos that were last used long ago, few reads write anything."""
    path = tmp_path / "bank"
    filled(path, range(100))
    clock.now += 100_000
    bank = VideoBank(path, MOST)
    contents = {path.read_bytes()}
    for number in range(100):
        clock.now += 0.1
        assert bank.read(f"video {number}") is not None
        contents.add(path.read_bytes())
    bank.flush()
    contents.add(path.read_bytes())
    assert 2 <= len(contents) <= 10


@pytest.mark.slow
def test_it_is_bounded_and_what_was_not_used_for_longest_goes_first(tmp_path: Path, clock: Clock) -> None:
    path, most = tmp_path / "bank", 2 << 20
    bank = filled(path, range(50), most)
    sizes = []
    for number in range(50, 400):
        clock.now += 4000
        bank.write(f"video {number}", video(number))
        assert bank.read("video 7") is not None
        sizes.append(path.stat().st_size)
    bank.flush()
    assert max(sizes) <= most + 40_000
    left = known(path, range(400))
    assert left == [7, *range(401 - len(left), 400)]
    assert 0.8 * most / 18_000 < len(left) < most / 16_384


@pytest.mark.slow
def test_a_smaller_bound_makes_the_file_smaller(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "bank"
    for number in range(200):
        clock.now += 10
        filled(path, range(number, number + 1))
    assert path.stat().st_size > 3 << 20
    clock.now += 10
    filled(path, range(200, 201), 1 << 20)
    assert path.stat().st_size <= 1 << 20
    left = known(path, range(201))
    assert left == list(range(201 - len(left), 201))
    assert len(left) > 40


def test_a_bound_that_holds_nothing_keeps_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    filled(tmp_path / "bank", range(20), 1)
    assert known(tmp_path / "bank", range(20)) == []
    assert (tmp_path / "bank").stat().st_size < 100_000
    assert caplog.records == []


def test_threads_share_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(action_clip.models.cache.video_bank, "_EVERY_S", 0.01)
    bank = VideoBank(tmp_path / "bank", MOST)

    def work(first: int) -> None:
        for number in range(first, first + 30):
            bank.write(f"video {number}", video(number))
            for other in (number, first, 10_000):
                if (found := bank.read(f"video {other}")) is not None:
                    assert_same(found, video(other))

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(work, range(0, 180, 30))) == [None] * 6
    bank.flush()
    assert known(tmp_path / "bank", range(200)) == list(range(180))


def test_a_flush_in_the_middle_of_a_flush_does_not_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the garbage collector closes there an iterator of results that nothing refers to."""
    bank = VideoBank(tmp_path / "bank", MOST)

    def flushing(_: Path) -> bool:
        bank.flush()
        return True

    monkeypatch.setattr(action_clip.models.cache.video_bank, "_is_writable", flushing)
    thread = threading.Thread(target=bank.write, args=("video 1", video(1)), daemon=True)
    thread.start()
    thread.join(10)
    assert known(tmp_path / "bank", range(3)) == [1]


def _write_many(path: Path, first: int) -> None:
    bank = VideoBank(path, MOST)
    for number in range(first, first + 40):
        bank.write(f"video {number}", video(number))
        if number % 5 == 0:
            bank.flush()
        bank.read(f"video {first}")
    bank.close()


def test_several_processes_write_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_many, args=(tmp_path / "bank", first)) for first in (0, 40, 80)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(PATIENCE_S)
        assert writer.exitcode == 0
    assert known(tmp_path / "bank", range(130)) == list(range(120))


# A child is made again and again while other threads write and read, and does the same.
FORKS = """
bank.write("video 0", video(0))
bank.flush()
stop = threading.Event()

def work(first):
    for number in range(first, first + 10_000):
        if stop.is_set():
            return
        bank.write(f"video {number}", video(number))
        bank.flush()
        bank.read("video 0")

threads = [threading.Thread(target=work, args=(first,)) for first in (100_000, 200_000, 300_000)]
for thread in threads:
    thread.start()
codes = []
for number in range(1, 21):
    bank.write("the parent's", video(77))
    child = os.fork()
    if not child:
        assert bank._waiting == {}
        bank.write(f"video {number}", video(number))
        bank.close()
        os._exit(40 + (bank.read("video 0") is not None and bank.read(f"video {number}") is not None))
    for _ in range(600):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        time.sleep(0.1)
    else:
        os.kill(child, 9)
        os.waitpid(child, 0)
        status = 9
    codes.append(os.waitstatus_to_exitcode(status))
    if status == 9:
        break
stop.set()
for thread in threads:
    thread.join()
bank.close()
print(codes == [41] * 20 or codes)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="nothing forks there")
def test_children_use_it_while_threads_of_their_parent_do(tmp_path: Path) -> None:
    with running(FORKS, tmp_path / "bank") as process:
        out, err = process.communicate(timeout=PATIENCE_S)
    assert (out, err) == ("True\n", "")
    assert known(tmp_path / "bank", range(30)) == list(range(21))
    assert_same(VideoBank(tmp_path / "bank", MOST).read("the parent's"), video(77))


def test_a_bank_that_cannot_be_written_is_read(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "home" / "bank"
    filled(path, range(5))
    before = path.read_bytes()
    clock.now += 100_000
    path.chmod(0o444)
    path.parent.chmod(0o555)
    # The superuser may write everywhere.
    monkeypatch.setattr(os, "access", lambda *_: False)
    try:
        bank = VideoBank(path, MOST)
        assert_same(bank.read("video 3"), video(3))
        bank.write("video 9", video(9))
        assert known(path, range(5)) == list(range(5))
        if os.stat(path.parent).st_uid:
            bank.flush()
            assert path.read_bytes() == before
        assert known(path, range(9, 10)) == []
    finally:
        path.parent.chmod(0o755)
    assert caplog.records == []


def test_a_home_that_is_a_file_costs_nothing_but_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("not a folder")
    bank = filled(tmp_path / "file" / "bank", range(5))
    assert bank.read("video 3") is None
    assert (tmp_path / "file").read_text() == "not a folder"
    assert caplog.records == []


def test_a_file_that_another_process_holds_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "bank"
    filled(path, range(5))
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(filled, path, range(5, 10))
            time.sleep(0.3)
            assert not writing.done()
            other.execute("ROLLBACK")
            writing.result(PATIENCE_S)
    assert known(path, range(10)) == list(range(10))
    assert caplog.records == []


def test_the_users_bank_is_one_in_the_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bank = video_bank()
    assert bank is not None
    assert video_bank() is bank
    assert bank.path == home() / VIDEO_BANK
    bank.write("video 1", video(1))
    bank.close()
    assert known(home() / VIDEO_BANK, range(3)) == [1]
    monkeypatch.setenv("ACTION_CLIP_HOME", str(tmp_path))
    other = video_bank()
    assert other is not None
    assert other.read("video 1") is None


def test_without_a_home_there_is_none(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.delenv("ACTION_CLIP_HOME")
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: Path("~/.cache/action_clip"))
    assert video_bank() is None
    assert video_bank() is None
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1
    assert "nothing is kept between runs" in caplog.text


@pytest.mark.parametrize(("chosen", "kept"), [("", 200), ("  ", 200), ("0.002", 100), ("1e-3", 50), (" 7 ", 200)])
def test_the_users_bound_holds(monkeypatch: pytest.MonkeyPatch, chosen: str, kept: int) -> None:
    monkeypatch.setenv("ACTION_CLIP_CACHE_GB", chosen)
    bank = video_bank()
    assert bank is not None
    for number in range(200):
        bank.write(f"video {number}", video(number))
        if number % 5 == 4:
            bank.flush()
    left = len(known(bank.path, range(200)))
    assert 0.8 * kept < left <= 1.2 * kept


@pytest.mark.parametrize("chosen", ["0", "-1", "nan", "inf", "-inf", "2 GB", "two", "1e300", "0x10", "1,5"])
def test_a_bound_that_is_no_number_above_zero_is_an_error(monkeypatch: pytest.MonkeyPatch, chosen: str) -> None:
    monkeypatch.setenv("ACTION_CLIP_CACHE_GB", chosen)
    with pytest.raises(ActionClipError) as error:
        video_bank()
    assert str(error.value) == (f"ACTION_CLIP_CACHE_GB is '{chosen}': make it a number of gigabytes above 0, such as 2")


def test_importing_it_imports_no_sqlite() -> None:
    code = "import sys, action_clip.models.cache.video_bank; print('sqlite3' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
