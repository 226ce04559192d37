"""The file of text features: what is written is read, by several processes; damage costs a warning, nothing else."""

import multiprocessing
import os
import sqlite3
import time
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import action_clip.models.cache.blob_file
import action_clip.models.cache.text_feature_file
from action_clip.models.cache.text_feature_file import TextFeatureFile
from action_clip.models.store.home import LABEL_BANK

VECTORS = {"eating": np.array([0.6, 0, 0, -0.8], np.float32), "höher ⬆": np.full(4, 0.5, np.float32)}


def vector(number: int) -> NDArray[np.float32]:
    """One of length 1 for each number."""
    return np.array([np.sin(number), np.cos(number)], np.float32)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    TextFeatureFile(tmp_path / "bank", "a").write(VECTORS)
    known = TextFeatureFile(tmp_path / "bank", "a").read(["höher ⬆", "eating", "never seen"])
    assert set(known) == set(VECTORS)
    for text, expected in VECTORS.items():
        np.testing.assert_array_equal(known[text], expected)
        assert known[text].dtype == np.float32


def test_spaces_do_not_see_each_other(tmp_path: Path) -> None:
    TextFeatureFile(tmp_path / "bank", "a").write(VECTORS)
    other = TextFeatureFile(tmp_path / "bank", "b")
    assert other.read(VECTORS) == {}
    other.write({"eating": -VECTORS["eating"]})
    np.testing.assert_array_equal(other.read(["eating"])["eating"], -VECTORS["eating"])
    np.testing.assert_array_equal(TextFeatureFile(tmp_path / "bank", "a").read(["eating"])["eating"], VECTORS["eating"])


def test_many_texts_at_once(tmp_path: Path) -> None:
    bank = TextFeatureFile(tmp_path / "bank", "a")
    many = {f"label {i}": vector(i) for i in range(3000)}
    bank.write(many)
    known = bank.read(many)
    assert len(known) == 3000
    assert all(np.array_equal(known[text], many[text]) for text in many)


def test_a_missing_file_is_empty_and_not_made_by_reading(tmp_path: Path) -> None:
    assert TextFeatureFile(tmp_path / "no" / "bank", "a").read(["eating"]) == {}
    assert not (tmp_path / "no").exists()


def damage(path: Path) -> None:
    """Overwrite all but the beginning, which says whose file it is."""
    path.write_bytes(path.read_bytes()[:100] + b"no page of a database" * 400)


def test_a_damaged_file_is_rebuilt_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "bank"
    bank = TextFeatureFile(path, "a")
    bank.write(VECTORS)
    damage(path)
    assert bank.read(["eating"]) == {}
    [record] = caplog.records
    assert record.message.startswith(f"the label bank {path} was damaged (")
    assert record.message.endswith(") and is being rebuilt")
    bank.write(VECTORS)
    assert set(bank.read(VECTORS)) == set(VECTORS)
    assert len(caplog.records) == 1


def test_damage_found_when_writing_is_repaired_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bank = TextFeatureFile(tmp_path / "bank", "a")
    bank.write(VECTORS)
    damage(tmp_path / "bank")
    bank.write(VECTORS)
    assert set(bank.read(VECTORS)) == set(VECTORS)
    assert "was damaged" in caplog.text


FOREIGN = {
    "no database": ["this is no database"],
    "nearly one": ["SQLite format 3\0 is how one begins"],
    "another table": ["CREATE TABLE notes (text)"],
    "the same name": ["CREATE TABLE features (vector)", "PRAGMA user_version = 1"],
    "two tables": ["CREATE TABLE features (vector)", "CREATE TABLE notes (text)", "PRAGMA user_version = 2"],
    "another program's, empty": ["PRAGMA application_id = 12345"],
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_files_of_other_programs_are_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str) -> None:
    path = tmp_path / "bank"
    if "database" in kind or "nearly" in kind:
        path.write_text(FOREIGN[kind][0] * 100)
    else:
        with sqlite3.connect(path) as connection:
            for statement in FOREIGN[kind]:
                connection.execute(statement)
        connection.close()
    (tmp_path / "bank-journal").write_bytes(b"")
    before = path.read_bytes()
    bank = TextFeatureFile(path, "a")
    assert bank.read(["eating"]) == {}
    bank.write(VECTORS)
    assert bank.read(["eating"]) == {}
    assert path.read_bytes() == before
    [record] = caplog.records
    assert record.message.startswith(f"the label bank {path} cannot be used (")
    assert record.message.endswith(
        "): labels are encoded anew in every run, until it is moved away or ACTION_CLIP_HOME names another folder"
    )


def test_an_endless_view_in_the_tables_place_is_not_queried(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bank = TextFeatureFile(tmp_path / "bank", "a")
    bank.write(VECTORS)
    with sqlite3.connect(tmp_path / "bank") as connection:
        connection.execute("DROP TABLE features")
        connection.execute(
            "CREATE VIEW features AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
            "SELECT 'a' AS space, 'eating' AS text, i AS vector, 0 AS seal, 0 AS used FROM n WHERE i < 0"
        )
    connection.close()
    assert bank.read(["eating"]) == {}
    assert "was damaged (its tables are not those that this program makes)" in caplog.text


def test_a_vector_of_another_text_is_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bank = TextFeatureFile(tmp_path / "bank", "a")
    bank.write(VECTORS)
    with sqlite3.connect(tmp_path / "bank") as connection:
        connection.execute("UPDATE features SET text = 'drinking' WHERE text = 'eating'")
    connection.close()
    assert bank.read(["drinking"]) == {}
    assert "checksum mismatch" in caplog.text


def test_a_changed_vector_is_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bank = TextFeatureFile(tmp_path / "bank", "a")
    bank.write(VECTORS)
    with sqlite3.connect(tmp_path / "bank") as connection:
        connection.execute("UPDATE features SET vector = zeroblob(16) WHERE text = 'eating'")
    connection.close()
    assert bank.read(["eating"]) == {}
    assert "checksum mismatch" in caplog.text
    assert not (tmp_path / "bank").exists()


@pytest.mark.parametrize(
    "damage",
    [
        "ALTER TABLE features RENAME COLUMN seal TO checksum",
        "UPDATE features SET vector = 'text'",
        "UPDATE features SET seal = 1",
    ],
)
def test_damage_of_every_kind_is_rebuilt(tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str) -> None:
    bank = TextFeatureFile(tmp_path / "bank", "a")
    bank.write(VECTORS)
    with sqlite3.connect(tmp_path / "bank") as connection:
        connection.execute(damage)
    connection.close()
    assert bank.read(VECTORS) == {}
    bank.write(VECTORS)
    assert set(bank.read(VECTORS)) == set(VECTORS)
    assert len(caplog.records) == 1
    assert "was damaged" in caplog.text


def test_a_text_that_no_file_can_hold_harms_nothing(tmp_path: Path) -> None:
    bank = TextFeatureFile(tmp_path / "bank", "a")
    bank.write(VECTORS)
    with pytest.raises(UnicodeEncodeError):
        bank.read(["\udcff"])
    assert set(bank.read(VECTORS)) == set(VECTORS)


def test_a_file_that_cannot_be_opened_is_warned_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "bank").mkdir()
    bank = TextFeatureFile(tmp_path / "bank", "a")
    assert bank.read(VECTORS) == {}
    bank.write(VECTORS)
    assert [r.message for r in caplog.records] == [
        f"the label bank {tmp_path / 'bank'} cannot be used (unable to open database file): "
        "labels are encoded anew in every run, until it is moved away or ACTION_CLIP_HOME names another folder"
    ]


def test_a_place_that_cannot_be_written_costs_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("not a folder")
    TextFeatureFile(tmp_path / "file" / "bank", "a").write(VECTORS)
    assert [r.message.startswith("the label bank ") for r in caplog.records] == [True]
    assert "cannot be used" in caplog.text
    assert (tmp_path / "file").read_text() == "not a folder"


def unit(number: int) -> NDArray[np.float32]:
    """One of 512 numbers."""
    row: NDArray[np.float32] = np.eye(1, 512, number % 512, dtype=np.float32)[0]
    return row


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What time it is: the last of these."""
    times = [time.time()]
    monkeypatch.setattr(action_clip.models.cache.blob_file, "time", lambda: times[-1])
    return times


def test_the_file_is_bounded_and_what_was_not_used_for_longest_goes_first(
    tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 2 << 20
    monkeypatch.setattr(action_clip.models.cache.text_feature_file, "MOST_BYTES", most)
    path = tmp_path / "bank"
    bank = TextFeatureFile(path, "a")
    bank.write({f"label {i}": unit(i) for i in range(100)})
    for day in range(1, 40):
        clock.append(clock[0] + 100_000 * day)
        TextFeatureFile(path, f"space {day}").write({f"label {i}": unit(i) for i in range(100)})
        assert set(bank.read(["label 1", "label 99"])) == {"label 1", "label 99"}
        assert path.stat().st_size < most + 100 * 3000
    known = [day for day in range(1, 40) if TextFeatureFile(path, f"space {day}").read(["label 5"])]
    assert len(bank.read([f"label {i}" for i in range(100)])) < 100
    assert 4 <= len(known) <= most / 100 / 2048
    assert known == list(range(40 - len(known), 40))


def test_reading_writes_once_a_day_at_most(tmp_path: Path, clock: list[float]) -> None:
    path = tmp_path / "bank"
    bank = TextFeatureFile(path, "a")
    bank.write(VECTORS)
    contents = [path.read_bytes()]
    for hours in (1, 23, 25, 26, 48, 51):
        clock.append(clock[0] + 3600 * hours)
        assert set(bank.read(VECTORS)) == set(VECTORS)
        contents.append(path.read_bytes())
    changes = [one != other for one, other in pairwise(contents)]
    assert changes == [False, False, True, False, False, True]


def test_what_is_read_need_not_be_writable(
    tmp_path: Path, clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    bank = TextFeatureFile(tmp_path / "bank", "a")
    bank.write(VECTORS)
    clock.append(clock[0] + 200_000)
    with closing(sqlite3.connect(tmp_path / "bank", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # somebody is writing, and takes long
        assert set(bank.read(VECTORS)) == set(VECTORS)
    (tmp_path / "bank").chmod(0o444)
    tmp_path.chmod(0o555)
    try:
        assert set(bank.read(VECTORS)) == set(VECTORS)
    finally:
        tmp_path.chmod(0o755)
    assert caplog.records == []


def earlier(path: Path) -> None:
    """A file of the layout before this one, as its version of the program makes it."""
    with closing(sqlite3.connect(path)) as bank, bank:
        bank.execute(
            "CREATE TABLE features (space TEXT NOT NULL, text TEXT NOT NULL, vector BLOB NOT NULL, crc INTEGER NOT "
            "NULL, PRIMARY KEY (space, text)) WITHOUT ROWID"
        )
        bank.execute("INSERT INTO features VALUES ('a', 'eating', zeroblob(16), 0)")
        bank.execute("PRAGMA user_version = 2")
        bank.execute(f"PRAGMA application_id = {int.from_bytes(b'ActC')}")


@pytest.mark.parametrize(("idle_days", "is_kept"), [(0, True), (59, True), (61, False)])
def test_an_earlier_layouts_file_stays_as_it_is_while_it_may_be_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, idle_days: int, is_kept: bool
) -> None:
    older = tmp_path / "label_bank.sqlite3"
    earlier(older)
    content = older.read_bytes()
    os.utime(older, (0, time.time() - idle_days * 24 * 3600))
    bank = TextFeatureFile(tmp_path / LABEL_BANK, "a")
    assert bank.read(["eating"]) == {}
    bank.write(VECTORS)
    assert set(bank.read(VECTORS)) == set(VECTORS)
    assert (older.read_bytes() if older.exists() else None) == (content if is_kept else None)
    assert caplog.records == []


@pytest.mark.parametrize("content", [b"of the user", b"SQLite format 3\0 is how one begins" * 10])
def test_what_only_has_an_earlier_files_name_stays(tmp_path: Path, content: bytes) -> None:
    older = tmp_path / "label_bank.sqlite3"
    older.write_bytes(content)
    os.utime(older, (0, 0))
    TextFeatureFile(tmp_path / LABEL_BANK, "a").write(VECTORS)
    assert older.read_bytes() == content


def test_rows_with_a_time_in_the_future_are_removed_too(
    tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(action_clip.models.cache.text_feature_file, "MOST_BYTES", 1 << 20)
    now = clock[0]
    clock.append(now + 1e9)
    bank = TextFeatureFile(tmp_path / "bank", "ahead")
    bank.write({f"label {i}": unit(i) for i in range(400)})
    clock.append(now)
    assert set(bank.read(["label 7"])) == {"label 7"}  # which is used now
    others = [TextFeatureFile(tmp_path / "bank", f"space {i}") for i in range(3)]
    for other in others:
        other.write({f"label {i}": unit(i) for i in range(100)})
    assert [len(other.read([f"label {i}" for i in range(100)])) for other in others] == [100, 100, 100]
    assert "label 7" in bank.read([f"label {i}" for i in range(400)])


def test_an_unusable_file_is_warned_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "bank").write_text("this is no database")
    for space in ("a", "b"):
        bank = TextFeatureFile(tmp_path / "bank", space)
        assert bank.read(VECTORS) == {}
        bank.write(VECTORS)
    assert len(caplog.records) == 1
    assert (tmp_path / "bank").read_text() == "this is no database"


def _write_many(path: Path, first: int) -> None:
    for i in range(first, first + 40):
        TextFeatureFile(path, "a").write({f"label {i}": vector(i)})


def test_several_processes_write_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_many, args=(tmp_path / "bank", first)) for first in (0, 40, 80)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    known = TextFeatureFile(tmp_path / "bank", "a").read([f"label {i}" for i in range(120)])
    assert set(known) == {f"label {i}" for i in range(120)}
    assert all(np.array_equal(known[f"label {i}"], vector(i)) for i in range(120))
