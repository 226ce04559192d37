"""What `action-clip ray` reads and writes: videos at addresses, Parquet files of paths, the folder of answers."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from action_clip import ActionClipError

pytest.importorskip("pyarrow", reason="pyarrow is not installed")
pytest.importorskip("ray.data", reason="Ray is not installed")

import pyarrow
import pyarrow.parquet
from fsspec.implementations.local import LocalFileSystem as FsspecLocalFileSystem
from pyarrow.fs import FSSpecHandler, LocalFileSystem, PyFileSystem, SubTreeFileSystem

from action_clip.commands.ray import storage
from action_clip.commands.ray.inputs import find_videos
from action_clip.commands.ray.output import Held, Output, check_run, part_name, write_part
from action_clip.commands.ray.storage import local_copy

SETTINGS = {"--model": "nano", "the labels": ["eating", "running"], "--top-k": 5}


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that s3://bucket/ is, in place of a server."""
    folder = tmp_path / "bucket"
    folder.mkdir()
    files = SubTreeFileSystem(str(tmp_path), LocalFileSystem())

    def file_system(root: str) -> tuple[Any, str]:
        if not root.startswith("s3://"):
            raise pyarrow.ArrowInvalid(f"Unrecognized filesystem type in URI: {root}")
        return files, root.removeprefix("s3://").partition("?")[0]

    monkeypatch.setattr(storage, "_file_system", file_system)
    return folder


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"video " + name.encode())


def write_paths(path: Path, values: Mapping[str, Any]) -> None:
    pyarrow.parquet.write_table(pyarrow.table(values), path)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("s3://bucket/a.mp4", ["a.mp4"]),
        ("s3://bucket/", ["a.mp4", "deep/er/c.MKV", "deep/my clip%20.mp4"]),
        ("s3://bucket", ["a.mp4", "deep/er/c.MKV", "deep/my clip%20.mp4"]),
        ("s3://bucket/deep", ["deep/er/c.MKV", "deep/my clip%20.mp4"]),
        ("s3://bucket/*/*.mp4", ["deep/my clip%20.mp4"]),
        ("s3://bucket/**/*.mp4", ["a.mp4", "deep/my clip%20.mp4"]),
        ("s3://bucket/[a-c].*", ["a.mp4", "b.txt"]),
        ("s3://bucket/deep/**", ["deep/er/c.MKV", "deep/my clip%20.mp4"]),
    ],
)
def test_files_folders_and_patterns_at_an_address(bucket: Path, address: str, expected: list[str]) -> None:
    write(bucket, "a.mp4", "b.txt", "deep/my clip%20.mp4", "deep/er/c.MKV", ".hidden.mp4", ".hidden/d.mp4")
    found = find_videos([address], "path")
    assert found == {f"s3://bucket/{name}": f"s3://bucket/{name}" for name in expected}


def test_an_addresss_options_stay_with_each_video(bucket: Path) -> None:
    write(bucket, "a.mp4")
    address = "s3://bucket/a.mp4?endpoint_override=localhost:9000"
    assert find_videos(["s3://bucket/?endpoint_override=localhost:9000"], "path") == {address: address}


def test_names_of_all_kinds_come_once_and_without_secrets(
    bucket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(bucket, "a.mp4")
    write(tmp_path, "here/b.mp4", "here/not.txt")
    (tmp_path / "list").write_text("s3://bucket/a.mp4\nhttps://user:secret@host/c.mp4?token=hidden\nhere/b.mp4\n")
    monkeypatch.chdir(tmp_path)
    found = find_videos(["here", "@list", "s3://bucket/*", (tmp_path / "here" / "b.mp4").as_uri()], "path")
    assert found == {
        str(tmp_path / "here" / "b.mp4"): str(tmp_path / "here" / "b.mp4"),
        "s3://bucket/a.mp4": "s3://bucket/a.mp4",
        "https://user:***@host/c.mp4?token=***": "https://user:secret@host/c.mp4?token=hidden",
    }


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
def test_a_name_that_is_not_unicode_is_escaped_in_the_output_alone(tmp_path: Path) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4")
    try:
        Path(name).write_bytes(b"")
    except OSError:
        pytest.skip("no such names here")
    assert find_videos([str(tmp_path)], "path") == {f"{tmp_path}/caf\\udce9.mp4": name}


def test_a_parquet_file_of_paths(bucket: Path, tmp_path: Path) -> None:
    write_paths(bucket / "clips.parquet", {"path": ["x.mp4", "s3://bucket/y.mp4", "x.mp4"], "id": [1, 2, 3]})
    assert find_videos(["s3://bucket/clips.parquet"], "path") == {
        "x.mp4": "s3://bucket/x.mp4",
        "s3://bucket/y.mp4": "s3://bucket/y.mp4",
    }
    (tmp_path / "tables.parquet").mkdir()
    write_paths(tmp_path / "tables.parquet" / "1.parquet", {"file": pyarrow.array(["a.mp4"]).dictionary_encode()})
    write_paths(
        tmp_path / "tables.parquet" / "2.parquet", {"file": ["/b.mp4", "http://host/c.mp4", "file:///d%20.mp4"]}
    )
    assert find_videos([str(tmp_path / "tables.parquet")], "file") == {
        "a.mp4": str(tmp_path / "tables.parquet" / "a.mp4"),
        "/b.mp4": "/b.mp4",
        "http://host/c.mp4": "http://host/c.mp4",
        "file:///d%20.mp4": "/d .mp4",
    }


def test_videos_that_would_have_the_same_name_in_the_output_are_said(
    bucket: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for day in ("monday", "tuesday"):
        (tmp_path / day).mkdir()
        write_paths(tmp_path / day / "clips.parquet", {"path": ["a.mp4"]})
    with pytest.raises(ActionClipError) as caught:
        find_videos([str(tmp_path / "*day" / "clips.parquet")], "path")
    assert str(caught.value) == (
        f"a.mp4 is {tmp_path}/monday/a.mp4 in one Parquet file of paths and {tmp_path}/tuesday/a.mp4 in another: do "
        "one of them into another folder"
    )
    urls = [f"https://host/c.mp4?token={token}" for token in "1223"]
    assert find_videos(urls, "path") == {"https://host/c.mp4?token=***": urls[0]}
    assert [record.getMessage() for record in caplog.records] == [
        "2 addresses are left out: they differ from others in a password or token alone"
    ]


@pytest.mark.parametrize(
    ("name", "column", "sentence"),
    [
        ("s3://bucket/none.mp4", "path", "there is no video at s3://bucket/none.mp4"),
        ("s3://bucket/*.avi", "path", r"there is no video at s3://bucket/\*.avi"),
        ("s3://bucket/none.parquet", "path", "there is no file s3://bucket/none.parquet"),
        ("s3://bucket/clips.parquet", "file", "has no column file: name one of path, id, gap, rank with --path-column"),
        (
            "s3://bucket/clips.parquet",
            "id",
            "the column id of s3://bucket/clips.parquet is list<.*>, not text: name one of paths with --path-column",
        ),
        ("s3://bucket/clips.parquet", "rank", "the column rank of s3://bucket/clips.parquet is int64, not text"),
        ("s3://bucket/none/all.parquet", "path", "there is no Parquet file in the folder s3://bucket/none/all.parquet"),
        ("https://host/clips.parquet", "path", "at https://host/clips.parquet only videos are read"),
        ("s3://bucket/clips.parquet", "gap", "has empty cells"),
        ("s3://bucket/text.parquet", "path", "s3://bucket/text.parquet cannot be read"),
        ("nothing://host/a.mp4", "path", "nothing://host/a.mp4 cannot be read .*Unrecognized filesystem"),
    ],
)
def test_inputs_that_cannot_be_used(bucket: Path, name: str, column: str, sentence: str) -> None:
    table = {"path": ["x.mp4", "y.mp4"], "id": pyarrow.array([[1.0], [2.0]]), "gap": ["x", None], "rank": [1, 2]}
    write_paths(bucket / "clips.parquet", table)
    (bucket / "none" / "all.parquet").mkdir(parents=True)
    write(bucket, "text.parquet")
    with pytest.raises(ActionClipError, match=sentence):
        find_videos([name], column)


def test_a_copy_has_the_content_ending_and_time_of_the_original(bucket: Path, tmp_path: Path) -> None:
    write(bucket, "a.mp4", "b.gz")
    os.utime(bucket / "a.mp4", ns=(1, 1_700_000_000_000_000_000))
    copy = local_copy("s3://bucket/a.mp4", tmp_path)
    assert (copy.suffix, copy.read_bytes()) == (".mp4", b"video a.mp4")
    assert copy.stat().st_mtime_ns == 1_700_000_000_000_000_000
    assert local_copy("s3://bucket/b.gz", tmp_path).read_bytes() == b"video b.gz"
    with pytest.raises(ActionClipError, match=r"there is no video s3://bucket/c\.mp4"):
        local_copy("s3://bucket/c.mp4", tmp_path)


def rows(*paths: str, error: str | None = None) -> list[dict[str, Any]]:
    if error is not None:
        return [{"path": path, "error": error} for path in paths]
    answer = {
        "label": "eating",
        "probability": 0.75,
        "labels": ["eating", "running"],
        "probabilities": [0.75, 0.25],
        "features": np.array([0.6, 0.8], np.float32),
        "duration_s": 2.0,
    }
    return [{"path": path, **answer} for path in paths]


@pytest.mark.parametrize("where", ["here", "s3://bucket/answers"])
def test_an_output_holds_what_was_written(bucket: Path, tmp_path: Path, where: str) -> None:
    name = str(tmp_path / "answers") if where == "here" else where
    folder = tmp_path / "answers" if where == "here" else bucket / "answers"
    output = Output(name)
    with output.opened(SETTINGS):
        assert output.held() == Held(frozenset(), frozenset())
        write_part(output.place, rows("a", "b"))
        write_part(output.place, [*rows("c"), *rows("d", error="it is damaged")])
        write_part(output.place, rows("e", error="it is damaged"))
        write_part(output.place, rows("a", "b"))  # again, in place of the first
    with Output(name).opened(SETTINGS):
        assert output.held() == Held(frozenset("abcde"), frozenset("de"))
    table = pyarrow.parquet.read_table(folder).sort_by("path")
    assert table.schema.field("features").type == pyarrow.list_(pyarrow.float32())
    assert table["path"].to_pylist() == ["a", "b", "c", "d", "e"]
    assert table["features"].to_pylist() == [[np.float32(0.6), np.float32(0.8)]] * 3 + [None] * 2
    assert table["probabilities"].to_pylist() == [[0.75, 0.25]] * 3 + [None] * 2
    assert table["error"].to_pylist() == [None] * 3 + ["it is damaged"] * 2

    output.forget_failed()
    assert output.held() == Held(frozenset("abc"), frozenset())
    assert len(pyarrow.parquet.read_table(folder)) == 3
    assert len([*folder.glob("part-*")]) == 2


def test_a_damaged_file_and_drafts_are_removed_and_other_files_are_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output = Output(str(tmp_path))
    with output.opened(SETTINGS):
        write_part(output.place, rows("a"))
        write_part(output.place, rows("b"))
    damaged = tmp_path / part_name(["b"])
    damaged.write_bytes(damaged.read_bytes()[:-20])
    draft = tmp_path / f".{part_name(['c'])}.0123.tmp"
    foreign, merged = tmp_path / "report.parquet", tmp_path / "merged.parquet"
    for file in (draft, foreign):
        file.write_bytes(b"something")
    write_paths(merged, {"path": ["d"], "error": [None]})
    with output.opened(SETTINGS):
        assert output.held().paths == {"a"}
    assert (damaged.exists(), draft.exists(), foreign.read_bytes(), merged.exists()) == (
        False,
        False,
        b"something",
        True,
    )
    assert sorted(record.getMessage() for record in caplog.records) == [
        f"{merged} is no file of answers, and is left alone",
        f"{damaged} was damaged: its videos are done again",
        f"{foreign} is no file of answers, and is left alone",
    ]


def test_a_file_that_cannot_be_read_at_the_moment_is_kept(tmp_path: Path) -> None:
    class SilentServer(FsspecLocalFileSystem):  # type: ignore[misc]
        def open(self, *arguments: object, **named: object) -> None:
            raise TimeoutError("it does not answer")

    output = Output(str(tmp_path))
    with output.opened(SETTINGS):
        write_part(output.place, rows("a"))
        output.place = output.place._replace(filesystem=PyFileSystem(FSSpecHandler(SilentServer())))
        with pytest.raises(ActionClipError, match=r"part-.* cannot be read \(it does not answer\)"):
            output.held()
    assert len([*tmp_path.glob("part-*")]) == 1


def test_workers_of_a_run_that_was_killed_write_nothing_into_the_next_one(tmp_path: Path) -> None:
    output = Output(str(tmp_path))
    with output.opened(SETTINGS) as killed:
        check_run(output.place, killed)
    with output.opened(SETTINGS) as latest:
        check_run(output.place, latest)
        with pytest.raises(ActionClipError, match=f"another run has begun to write {tmp_path}, and this one ends"):
            check_run(output.place, killed)


def test_nothing_is_left_of_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    output = Output(str(tmp_path))
    (tmp_path / part_name(["a"]) / "in the way").mkdir(parents=True)
    with pytest.raises(
        ActionClipError, match=rf"cannot write {part_name(['a'])} in {tmp_path} \(.*\): check its rights"
    ):
        write_part(output.place, rows("a"))
    assert [path.name for path in tmp_path.iterdir()] == [part_name(["a"])]


def test_an_output_of_other_options_says_which(tmp_path: Path) -> None:
    with Output(str(tmp_path)).opened(SETTINGS):
        pass
    other = {"--model": "nano", "the labels": ["eating"], "--top-k": 3}
    with (
        pytest.raises(ActionClipError) as caught,
        Output(str(tmp_path)).opened(other),
    ):
        pass
    assert str(caught.value) == (
        f'{tmp_path} was made with other options (the labels was ["eating", "running"] and is ["eating"]; --top-k was '
        "5 and is 3): give the same ones, or name another folder"
    )


def test_folders_that_are_no_outputs_are_left_alone(bucket: Path, tmp_path: Path) -> None:
    def refused(name: str, sentence: str) -> None:
        with pytest.raises(ActionClipError, match=sentence), Output(name).opened(SETTINGS):
            pass

    write(bucket, "holiday/beach.mp4", "file")
    refused("s3://bucket/holiday", "s3://bucket/holiday has files, .* it is no output of this command")
    refused("https://host/answers", "at https://host/answers only videos are read")
    refused("s3://bucket/file", "the output s3://bucket/file is a file: name a folder")
    refused(str(bucket / "file" / "in it"), "cannot write .*file/in it")
    write(bucket, "damaged/_action_clip.json")
    refused(str(bucket / "damaged"), "is damaged or of another version of this program")
    assert sorted(path.name for path in bucket.rglob("*")) == [
        "_action_clip.json",
        "beach.mp4",
        "damaged",
        "file",
        "holiday",
    ]


def test_two_runs_do_not_write_the_same_output(tmp_path: Path) -> None:
    with (
        Output(str(tmp_path)).opened(SETTINGS),
        pytest.raises(ActionClipError, match=r"another run writes .*: wait until it ends"),
        Output(str(tmp_path)).opened(SETTINGS),
    ):
        pass
