"""Whatever is in the place of the text features' file: features are right, and the next run finds an intact file."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from new_process import forget
from numpy.typing import NDArray
from small_models import random_model, save_model

from action_clip.models.cache.text_feature_cache import space_of
from action_clip.models.cache.text_feature_file import TextFeatureFile
from action_clip.models.label_encoder import LabelEncoder
from action_clip.models.runtime.graph import Graph
from action_clip.models.store.home import LABEL_BANK
from action_clip.tokenizer.prompts import fill_prompts

ROOT = Path(__file__).parents[3]
LABELS = [f"{verb} {things}" for verb in ("eating", "throwing", "juggling") for things in ("plums", "pears", "x", "y")]
PROMPTS = ("{}", "a video of {}", "someone is {}")
COLUMNS = ("space", "text", "vector", "seal", "used")
PAGE = 16384
PATIENCE_S = 120.0
posix = pytest.mark.skipif(os.name == "nt", reason="there is no such thing on Windows")
Damage = Callable[[Path], object]


class CountingGraph(Graph):
    """Counts the texts that it encodes."""

    texts = 0

    def __call__(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        self.texts += len(rows)
        return super().__call__(rows)


class Bench:
    """A text graph, and the file that it makes of LABELS."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        wide = np.random.default_rng(2).normal(size=(16, 512)).astype(np.float32)
        save_model(replace(random_model(1, 8, False), text_out=wide), folder / "model", frames=8)
        self.graph = CountingGraph(folder / "model" / "text.onnx")
        self.patch = patch
        clean = folder / "clean"
        self.expected = self.run(clean)[0]
        TextFeatureFile(clean / LABEL_BANK, space_of("another")).write(
            {text: np.eye(1, 512, dtype=np.float32)[0] for text in fill_prompts(PROMPTS, LABELS)}
        )
        self.file = clean / LABEL_BANK

    def run(self, home: Path) -> tuple[NDArray[np.float32], int]:
        """What a new process makes of LABELS, and how many texts it has to encode."""
        forget()
        self.patch.setenv("ACTION_CLIP_HOME", str(home))
        self.graph.texts = 0
        features = LabelEncoder(self.graph, PROMPTS, "probabilities", cache=True).encode(LABELS, Event())
        return features, self.graph.texts

    def damaged(self, home: Path, damage: Damage) -> Path:
        home.mkdir(parents=True)
        shutil.copy(self.file, home / LABEL_BANK)
        damage(home / LABEL_BANK)
        return home

    def check(self, home: Path, log: pytest.LogCaptureFixture, *, known: bool | None = None) -> None:
        """That the features are the right ones with one sentence at most, and then without one and without work."""
        log.clear()
        features, texts = self.run(home)
        np.testing.assert_allclose(features, self.expected, rtol=0, atol=1e-6)
        assert len(log.records) <= 1
        if known is not None:
            assert (texts == 0) == known
        log.clear()
        features, texts = self.run(home)
        np.testing.assert_allclose(features, self.expected, rtol=0, atol=1e-6)
        assert [record.message for record in log.records] == []
        assert texts == 0


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with pytest.MonkeyPatch.context() as patch:
        yield Bench(tmp_path_factory.mktemp("bench"), patch)


def cut(size: int) -> Damage:
    return lambda path: os.truncate(path, size)


def zeroed(first: int, last: int) -> Damage:
    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[first:last] = bytes(len(content[first:last]))
        path.write_bytes(content)

    return damage


def flipped(seed: int, bits: int, last: int | None = None) -> Damage:
    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        rng = np.random.default_rng(seed)
        for bit in rng.integers(0, 8 * (last or len(content)), bits):
            content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)

    return damage


def copied(seed: int) -> Damage:
    """A page in another's place."""

    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        one, other = np.random.default_rng(seed).choice(len(content) // PAGE, 2, replace=False) * PAGE
        content[one : one + PAGE] = content[other : other + PAGE]
        path.write_bytes(content)

    return damage


def test_the_file_is_as_large_as_the_damages_take_it_to_be(bench: Bench) -> None:
    assert len(bench.file.read_bytes()) > 8 * PAGE
    assert len(bench.file.read_bytes()) % PAGE == 0


@pytest.mark.parametrize(
    "size",
    [0, 1, 15, 16, 50, 71, 72, 99, 100, 101, 512, 4096, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 5 * PAGE, 5 * PAGE + 77],
)
def test_a_file_that_was_cut(bench: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture, size: int) -> None:
    bench.check(bench.damaged(tmp_path / "home", cut(size)), caplog, known=False)


@pytest.mark.parametrize(
    ("first", "last"),
    [(0, 1 << 30), (0, 16), (0, 100), (100, PAGE), (PAGE, 1 << 30), *((i * PAGE, (i + 1) * PAGE) for i in range(9))],
)
def test_a_file_with_zeros_in_it(
    bench: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture, first: int, last: int
) -> None:
    bench.check(bench.damaged(tmp_path / "home", zeroed(first, last)), caplog)


@pytest.mark.parametrize("group", range(8))
def test_a_file_with_bits_flipped(bench: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture, group: int) -> None:
    for seed in range(group * 40, group * 40 + 40):
        # In all of the file, in the header, in the table's description, and many at once.
        bits, last = [(1, None), (1, 100), (1, PAGE), (64, None)][seed % 4]
        bench.check(bench.damaged(tmp_path / str(seed), flipped(seed, bits, last)), caplog)


def test_a_table_whose_description_is_no_text(bench: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def damage(path: Path) -> None:
        content = path.read_bytes()
        assert content.count(b"NOT NULL,") == 5
        path.write_bytes(content.replace(b"NOT NULL,", b"NOT NULL\xac"))

    bench.check(bench.damaged(tmp_path / "home", damage), caplog, known=False)


def test_a_file_with_pages_in_others_places(bench: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for seed in range(30):
        bench.check(bench.damaged(tmp_path / str(seed), copied(seed)), caplog)


Row = tuple[Any, ...]


def swap(path: Path, columns: tuple[str, ...], one: int, other: int) -> None:
    """Exchange these columns of two rows, and leave no others, which might have the same key then."""
    names = ", ".join(columns)
    marks = ", ".join(f"{name} = ?" for name in columns)
    with closing(sqlite3.connect(path)) as bank, bank:
        bank.execute("DELETE FROM features WHERE rowid NOT IN (?, ?)", (one, other))
        rows: list[Row] = [
            bank.execute(f"SELECT {names} FROM features WHERE rowid = ?", (row,)).fetchone() for row in (one, other)
        ]
        aside = tuple(b"" if name == "vector" else f"aside {name}" for name in columns)
        for row, values in ((one, aside), (other, rows[0]), (one, rows[1])):
            bank.execute(f"UPDATE features SET {marks} WHERE rowid = ?", (*values, row))


@pytest.mark.parametrize("columns", [c for size in (1, 2) for c in combinations(COLUMNS, size)])
@pytest.mark.parametrize("of", ["the same space", "another space, the same text", "another space, another text"])
def test_columns_of_two_rows_swapped(
    bench: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture, columns: tuple[str, ...], of: str
) -> None:
    count = len(PROMPTS) * len(LABELS)
    other = {"the same space": 9, "another space, the same text": count + 2}.get(of, count + 7)
    bench.check(bench.damaged(tmp_path / "home", lambda path: swap(path, columns, 2, other)), caplog)


BY_SQL = {
    "a later layout": ["PRAGMA user_version = 99"],
    "a later layout's table": ["ALTER TABLE features ADD COLUMN more", "PRAGMA user_version = 99"],
    "the second layout": [
        "DROP TABLE features",
        "CREATE TABLE features (space, text, vector, crc, PRIMARY KEY (space, text)) WITHOUT ROWID",
        "PRAGMA user_version = 2",
    ],
    "no mark": ["PRAGMA application_id = 0"],
    "another mark": ["PRAGMA application_id = 77"],
    "nothing in it": ["DELETE FROM features"],
    "a trigger": ["CREATE TRIGGER t AFTER INSERT ON features BEGIN DELETE FROM features; END"],
    "texts for vectors": ["UPDATE features SET vector = 'text'"],
    "numbers for texts": ["UPDATE features SET text = rowid"],
    "texts for times": ["UPDATE features SET used = 'long ago'"],
    "a time to come": ["UPDATE features SET used = 9e18"],
    "a log of what is written": ["PRAGMA journal_mode = WAL", "DELETE FROM features"],
}


@pytest.mark.parametrize("kind", BY_SQL)
def test_a_file_changed_by_sqlite(bench: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str) -> None:
    def damage(path: Path) -> None:
        with closing(sqlite3.connect(path)) as bank, bank:
            for statement in BY_SQL[kind]:
                bank.execute(statement)

    bench.check(bench.damaged(tmp_path / "home", damage), caplog)


@pytest.mark.parametrize("feature", ["shorter", "longer", "not finite", "of another length"])
def test_features_that_no_graph_gives(
    bench: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture, feature: str
) -> None:
    values = {
        "shorter": np.eye(1, 100, dtype=np.float32)[0],
        "longer": np.eye(1, 513, dtype=np.float32)[0],
        "not finite": np.full(512, np.nan, np.float32),
        "of another length": np.full(512, 0.5, np.float32),
    }

    def damage(path: Path) -> None:
        with closing(sqlite3.connect(path)) as bank:
            [(space, text)] = bank.execute("SELECT space, text FROM features WHERE rowid = 5")
        TextFeatureFile(path, space).write({text: values[feature]})

    bench.check(bench.damaged(tmp_path / "home", damage), caplog, known=False)
    assert "was damaged" not in caplog.text


@pytest.mark.parametrize("suffix", ["-journal", "-wal", "-shm"])
@pytest.mark.parametrize("content", [b"", b"no journal" * 5000, "another bank's"])
def test_what_a_killed_run_leaves_beside_it(
    bench: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str, content: bytes | str
) -> None:
    def damage(path: Path) -> None:
        beside = path.with_name(path.name + suffix)
        if isinstance(content, bytes):
            beside.write_bytes(content)
            return
        other = bench.damaged(tmp_path / "other", lambda _: None) / LABEL_BANK
        with closing(sqlite3.connect(other, isolation_level=None)) as bank:
            if suffix != "-journal":
                bank.execute("PRAGMA journal_mode = WAL")
            bank.execute("PRAGMA cache_size = 1")
            bank.execute("BEGIN")
            bank.execute("UPDATE features SET vector = zeroblob(2048), used = 0 WHERE rowid % 7")
            shutil.copy(f"{other}{suffix}", beside)

    bench.check(bench.damaged(tmp_path / "home", damage), caplog)


def _another_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as bank, bank:
        bank.execute("CREATE TABLE notes AS SELECT 'of action_clip ' AS note")


FOREIGN: dict[str, Damage] = {
    "a folder": Path.mkdir,
    "a text": lambda path: path.write_text("this is no database\n" * 1000),
    "a short text": lambda path: path.write_text("SQL!"),
    "another program's": _another_database,
}
if sys.platform != "win32":
    FOREIGN["a pipe"] = os.mkfifo


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_not_the_programs_is_left_alone(
    bench: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    FOREIGN[kind](home / LABEL_BANK)
    before = (home / LABEL_BANK).read_bytes() if (home / LABEL_BANK).is_file() else sorted(os.listdir(home))
    for _ in range(2):
        caplog.clear()
        features, _ = bench.run(home)
        np.testing.assert_allclose(features, bench.expected, rtol=0, atol=1e-6)
        [record] = caplog.records
        assert "cannot be used" in record.message
    assert ((home / LABEL_BANK).read_bytes() if (home / LABEL_BANK).is_file() else sorted(os.listdir(home))) == before


WRITER = """
import sys
from pathlib import Path
import numpy as np
from action_clip.models.cache.text_feature_file import TextFeatureFile
bank, numbers = TextFeatureFile(Path(sys.argv[1]), "a"), range(int(sys.argv[2]))
for first in numbers:
    rows = np.eye(300, 512, dtype=np.float32)
    bank.write({f"label {first} {i}": rows[i] for i in range(300)})
    print(first, flush=True)
"""


def writing(path: Path, times: int, **options: Any) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", WRITER, str(path), str(times)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


@pytest.mark.parametrize("lines", [1, 2, 3, 7])
def test_a_process_that_was_killed_while_it_wrote(
    bench: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture, lines: int
) -> None:
    (tmp_path / "home").mkdir()
    path = tmp_path / "home" / LABEL_BANK
    with writing(path, 10_000) as process:
        assert process.stdout is not None
        for _ in range(lines):
            assert process.stdout.readline()
        process.kill()
    known = TextFeatureFile(path, "a").read([f"label {first} {i}" for first in range(lines) for i in range(300)])
    assert len(known) == 300 * lines
    assert caplog.records == []
    bench.check(tmp_path / "home", caplog, known=False)


@posix
@pytest.mark.parametrize("room", ["of a file", "of a disk"])
def test_a_disk_that_is_full(bench: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture, room: str) -> None:
    import resource

    (tmp_path / "home").mkdir()
    path = tmp_path / "home" / LABEL_BANK
    options: dict[str, Any] = {}
    most = 2 << 20
    if room == "of a file":
        options["preexec_fn"] = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    elif subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={most}", "tmpfs", tmp_path / "home"], capture_output=True
    ).returncode:
        pytest.skip("no file system may be mounted here")
    try:
        with writing(path, 10, **options) as process:
            out, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0
        assert out.count("\n") == 10
        assert err.count("\n") == 1
        assert "cannot be used" in err
        written = TextFeatureFile(path, "a").read([f"label {first} {i}" for first in range(10) for i in range(300)])
        assert len(written) % 300 == 0
        assert 300 <= len(written) < 3000
        if room == "of a disk":
            features, _ = bench.run(tmp_path / "home")
            np.testing.assert_allclose(features, bench.expected, rtol=0, atol=1e-6)
            assert len(caplog.records) <= 1
    finally:
        if room == "of a disk":
            subprocess.run(["umount", tmp_path / "home"], check=True)
