"""The video bank: what is written is read bit for bit, by threads, processes and children; it is bounded; no error."""

import logging
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from new_process import forget

import action_clip.models.cache.blob_file
import action_clip.models.cache.video_bank
from action_clip import ActionClipError
from action_clip.models.cache.text_feature_file import TextFeatureFile
from action_clip.models.cache.video_bank import KnownVideo, VideoBank, video_bank
from action_clip.models.store.home import VIDEO_BANK, home

ROOT = Path(__file__).parents[3]
MOST = 1 << 30
PATIENCE_S = 120.0


def video(number: int, width: int = 512, frames: int = 8) -> KnownVideo:
    """One of many."""
    rng = np.random.default_rng(number)
    return KnownVideo(
        features=rng.normal(size=width).astype(np.float32),
        frame_features=rng.normal(size=(frames, width)).astype(np.float32),
        logits=np.empty(0, np.float32),
        indices=tuple(range(number, number + frames)),
        times_s=tuple((number + index) / 29.97 for index in range(frames)),
        total_frames=number + 300,
        duration_s=number / 3,
    )


def assert_same(found: KnownVideo | None, expected: KnownVideo) -> None:
    """That it is the same, bit for bit."""
    assert found is not None
    for one, other in (
        (found.features, expected.features),
        (found.frame_features, expected.frame_features),
        (found.logits, expected.logits),
    ):
        if other is None:
            assert one is None
        else:
            assert one is not None
            assert one.dtype == np.float32
            assert one.shape == other.shape
            assert one.tobytes() == other.tobytes()
    assert [type(index) for index in found.indices] == [int] * len(expected.indices)
    assert (found.indices, found.times_s) == (expected.indices, expected.times_s)
    assert (found.total_frames, found.duration_s) == (expected.total_frames, expected.duration_s)


def known(path: Path, numbers: Iterator[int] | range, most: int = MOST) -> list[int]:
    """Which of these videos a new process finds, each as it was written."""
    bank = VideoBank(path, most)
    found = []
    for number in numbers:
        if (record := bank.read(f"video {number}")) is not None:
            assert_same(record, video(number))
            found.append(number)
    bank.close()
    return found


def filled(path: Path, numbers: range, most: int = MOST) -> VideoBank:
    bank = VideoBank(path, most)
    for number in numbers:
        bank.write(f"video {number}", video(number))
    bank.flush()
    return bank


KINDS = {
    "zero-shot": video(3),
    "frames see each other": KnownVideo(video(3).features, None, video(3).logits, (0, 5), (0.0, 0.25), 10, 0.5),
    "a closed set": KnownVideo(video(3).features, None, np.full(400, -1e30, np.float32), (7,) * 8, (0.5,) * 8, 9, 1.5),
    "without times": KnownVideo(video(3).features, video(4).frame_features, video(3).logits, (0,) * 8, (), 1, 0.0),
    "small": KnownVideo(
        np.float32([-0.0]), np.float32([[1e-45], [3.4e38]]), np.empty(0, np.float32), (2**40, 0), (1e-300, -1.0), 0, 1e9
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
        np.int64(expected.total_frames),
        np.float64(expected.duration_s),
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
    for number in range(100):
        clock.now += 0.25
        bank.write(f"video {number}", video(number))
        on_disk.append(len(known(path, range(100))))
    assert on_disk[0] == 1
    lost = [number + 1 - count for number, count in enumerate(on_disk)]
    assert max(lost) <= 10
    writes = sum(one != other for one, other in pairwise(on_disk))
    assert 8 <= writes <= 25
    clock.now += 60
    bank.write("video 100", video(100))  # after a long one, at once
    assert known(path, range(101)) == list(range(101))


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


def test_a_read_is_no_write(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
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


IN_ANOTHER = """
import os, sys, threading, time
sys.path[:0] = ["tests", "tests/models/cache"]
from pathlib import Path
from test_video_bank import MOST, VideoBank, video
path = Path(sys.argv[1])
bank = VideoBank(path, MOST)
"""
WRITER = """
for number in range(10_000):
    bank.write(f"video {number}", video(number))
    if number % 20 == 19:
        bank.flush()
        print(number, flush=True)
"""
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
stop.set()
for thread in threads:
    thread.join()
bank.close()
print(codes == [41] * 20 or codes)
"""


def running(script: str, path: Path, **options: Any) -> "subprocess.Popen[str]":
    command = [sys.executable, "-W", "ignore", "-c", IN_ANOTHER + script, str(path)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


@pytest.mark.skipif(sys.platform == "win32", reason="nothing forks there")
def test_children_use_it_while_threads_of_their_parent_do(tmp_path: Path) -> None:
    with running(FORKS, tmp_path / "bank") as process:
        out, err = process.communicate(timeout=PATIENCE_S)
    assert (out, err) == ("True\n", "")
    assert known(tmp_path / "bank", range(30)) == list(range(21))
    assert_same(VideoBank(tmp_path / "bank", MOST).read("the parent's"), video(77))


@pytest.mark.parametrize("lines", [1, 2, 5])
def test_a_process_that_was_killed_while_it_wrote(tmp_path: Path, caplog: pytest.LogCaptureFixture, lines: int) -> None:
    path = tmp_path / "bank"
    with running(WRITER, path) as process:
        assert process.stdout is not None
        for _ in range(lines):
            assert process.stdout.readline()
        process.kill()
    assert known(path, range(20 * lines)) == list(range(20 * lines))
    filled(path, range(20_000, 20_010))
    assert known(path, range(20_000, 20_010)) == list(range(20_000, 20_010))
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert caplog.records == []


@pytest.mark.skipif(os.name == "nt", reason="there is no such limit on Windows")
def test_a_disk_that_is_full(tmp_path: Path) -> None:
    import resource

    path, most = tmp_path / "bank", 2 << 20
    # As on a full disk, and without a signal, which Python ignores.
    limit = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))}
    with running(WRITER.replace("10_000", "400") + "assert bank.read('video 3') is not None", path, **limit) as process:
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert out.count("\n") == 20
    assert err.count("\n") == 1
    assert err.startswith(f"the video bank {path} cannot be used (")
    assert err.endswith(
        "): videos are encoded anew in every run, until it is moved away or ACTION_CLIP_HOME names another folder\n"
    )
    written = known(path, range(400))
    assert 40 <= len(written) < 200
    assert written == list(range(len(written)))


def truncated(size: int) -> Any:
    return lambda path: os.truncate(path, size)


def flipped(seed: int) -> Any:
    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        bit = int(np.random.default_rng(seed).integers(8 * len(content)))
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)

    return damage


def by_sql(statement: str) -> Any:
    def damage(path: Path) -> None:
        with closing(sqlite3.connect(path)) as database, database:
            database.execute(statement)

    return damage


def as_label_bank(path: Path) -> None:
    path.unlink()
    TextFeatureFile(path, "a").write({"eating": np.eye(1, 512, dtype=np.float32)[0]})


def overwritten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100] + b"no page of a database" * 400)


DAMAGES = {
    **{f"cut to {size}": truncated(size) for size in (0, 1, 50, 99, 100, 512, 4095, 4096, 20_000, 300_000)},
    **{f"a bit flipped, {seed}": flipped(seed) for seed in range(40)},
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "overwritten": overwritten,
    "a record of another": by_sql("UPDATE videos SET record = (SELECT record FROM videos WHERE key = 'video 5')"),
    "a record of zeros": by_sql("UPDATE videos SET record = zeroblob(length(record))"),
    "records that are cut off": by_sql("UPDATE videos SET record = substr(record, 1, length(record) - 4)"),
    "texts for records": by_sql("UPDATE videos SET record = 'text'"),
    "keys exchanged": by_sql("UPDATE videos SET key = 'video ' || (100 - CAST(substr(key, 7) AS INTEGER))"),
    "texts for times": by_sql("UPDATE videos SET used = 'long ago'"),
    "a column renamed": by_sql("ALTER TABLE videos RENAME COLUMN seal TO checksum"),
    "another mark": by_sql("PRAGMA application_id = 77"),
    "a label bank": as_label_bank,
    "another log": by_sql("PRAGMA journal_mode = WAL"),
}


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("intact") / "bank"
    filled(path, range(40))
    return path.read_bytes()


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_file_is_rebuilt_and_gives_no_wrong_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, intact: bytes, kind: str
) -> None:
    path = tmp_path / "bank"
    path.write_bytes(intact)
    DAMAGES[kind](path)
    bank = VideoBank(path, MOST)
    for number in range(41, 61):
        bank.read(f"video {number}")
    for number in range(40):
        if (found := bank.read(f"video {number}")) is None:
            bank.write(f"video {number}", video(number))
        else:
            assert_same(found, video(number))
    bank.close()
    assert len(caplog.records) <= 1
    assert all(record.message.startswith(f"the video bank {path} was damaged (") for record in caplog.records)
    caplog.clear()
    forget()
    found = known(path, range(40))
    # Where damage was found late, what was read before it is not written again until it is asked for again.
    assert len(found) >= 1
    filled(path, range(40))
    assert known(path, range(40)) == list(range(40))
    assert caplog.records == []


def record_of(path: Path) -> bytes:
    with closing(sqlite3.connect(path)) as database:
        return bytes(database.execute("SELECT record FROM videos").fetchone()[0])


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record[:-1],
        lambda record: record + b"\0\0\0\0",
        lambda record: record[:20],
        lambda record: b"",
        lambda record: b"\2" + record[1:],  # a later version
        lambda record: record[:4] + (-2).to_bytes(4, "little", signed=True) + record[8:],
        lambda record: record[:4] + (2**31 - 1).to_bytes(4, "little") + record[8:],
        lambda record: record[:-4] + np.float32(np.nan).tobytes(),
    ],
)
def test_a_record_that_is_not_exactly_right_is_damage_although_its_checksum_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, change: Any
) -> None:
    path = tmp_path / "bank"
    bank = filled(path, range(1))
    record = change(record_of(path))
    with closing(sqlite3.connect(path)) as database, database:
        seal = bank._file._seal("video 0", record)
        database.execute("UPDATE videos SET record = ?, seal = ?", (record, seal))
    assert bank.read("video 0") is None
    [said] = caplog.records
    assert said.message.startswith(f"the video bank {path} was damaged (a record ")
    assert not path.exists()


FOREIGN = {
    "a folder": Path.mkdir,
    "a text": lambda path: path.write_text("this is no database\n" * 1000),
    "another program's": by_sql("CREATE TABLE videos (key, record)"),
}
if sys.platform != "win32":
    FOREIGN["a pipe"] = os.mkfifo


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_not_the_programs_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str) -> None:
    path = tmp_path / "bank"
    FOREIGN[kind](path)
    before = path.read_bytes() if path.is_file() else b""
    for _ in range(2):
        bank = filled(path, range(3))
        assert bank.read("video 1") is None
    assert (path.read_bytes() if path.is_file() else b"") == before
    assert os.listdir(tmp_path) == ["bank"]
    [record] = caplog.records
    assert record.message.startswith(f"the video bank {path} cannot be used (")


def test_other_layouts_files_stay_as_they_are(tmp_path: Path, intact: bytes) -> None:
    others = {tmp_path / "video_bank-0.sqlite3": intact, tmp_path / "video_bank-2.sqlite3": b"of a later version"}
    for path, content in others.items():
        path.write_bytes(content)
        os.utime(path, (0, 0))
    bank = filled(tmp_path / VIDEO_BANK, range(3))
    assert bank.read("video 5") is None
    assert known(tmp_path / VIDEO_BANK, range(9)) == [0, 1, 2]
    assert {path: path.read_bytes() for path in others} == others


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
