"""Whatever is in the place of the video bank: no wrong answer, no error, and the next run finds an intact file."""

import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from known_videos import MOST, assert_same, filled, known, running, video
from new_process import forget

from action_clip.models.cache.blob_file import BlobFile
from action_clip.models.cache.text_feature_file import TextFeatureFile
from action_clip.models.cache.video_bank import VideoBank
from action_clip.models.store.home import VIDEO_BANK

PATIENCE_S = 120.0
WRITER = """
for number in range(10_000):
    bank.write(f"video {number}", video(number))
    if number % 20 == 19:
        bank.flush()
        print(number, flush=True)
"""


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
    # Where damage was found late, what was read before it is not written again until it is asked for again.
    assert known(path, range(40)) != []
    filled(path, range(40))
    assert known(path, range(40)) == list(range(40))
    assert caplog.records == []


@pytest.mark.parametrize("call", ["read", "write"])
def test_a_file_that_another_process_has_just_rebuilt_is_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, intact: bytes, call: str
) -> None:
    path = tmp_path / "bank"
    path.write_bytes(intact)
    overwritten(path)
    connect = BlobFile._connect
    calls: list[str] = []

    def connected(file: BlobFile[Any]) -> sqlite3.Connection:
        if calls:
            path.write_bytes(intact)
        calls.append(call)
        return connect(file)

    with monkeypatch.context() as patch:
        patch.setattr(BlobFile, "_connect", connected)
        if call == "read":
            assert_same(VideoBank(path, MOST).read("video 3"), video(3))
        else:
            filled(path, range(50, 51))
    assert calls == [call] * 2
    assert known(path, range(60)) == [*range(40), *([50] if call == "write" else [])]
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
