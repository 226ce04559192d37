"""What --video names: files, folders, patterns, lists, stdin and URLs, each video once and in the order given."""

import io
import logging
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from action_clip.commands.videos import is_one_video, list_videos
from action_clip.errors import ActionClipError


def make(*names: str) -> None:
    for name in names:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.fsencode(name))


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def found(*names: str) -> list[str]:
    return [video.name.replace(os.sep, "/") for video in list_videos(names).videos]


def needs_links() -> None:
    try:
        os.symlink("nothing", "probe")
    except (OSError, NotImplementedError):
        pytest.skip("no symbolic links here")
    os.unlink("probe")


def test_files_and_urls_are_taken_as_they_are_in_the_order_given() -> None:
    make("b.mp4", "a.dat")
    names = ["b.mp4", "https://host/x.mp4?a=*", "missing.mp4", "a.dat", "rtsp://host/[1]", "data:video/mp4;base64,AA"]
    assert found(*names) == names


@pytest.mark.parametrize("folder", ["holiday", "holiday/", "./holiday"])
def test_a_folder_stands_for_the_videos_in_and_below_it(folder: str) -> None:
    videos = ["b.MP4", "d/1.mkv", "d/e/2.gif", "f.webm"]
    others = ["notes.txt", ".hidden.mp4", ".git/3.mp4", "d/.trash/4.mp4", "mp4", "no.mp4.part"]
    make(*(f"holiday/{name}" for name in [*videos, *others]))
    Path("holiday/folder.mp4").mkdir()
    prefix = folder.rstrip("/")
    assert found(folder) == [f"{prefix}/{name}" for name in videos]


def test_a_hidden_folder_can_be_named() -> None:
    make(".hidden/a.mp4")
    assert found(".hidden") == found(".hidden/*") == [".hidden/a.mp4"]
    assert found(".h*/*") == [".hidden/a.mp4"]


def test_names_are_sorted_and_folders_stay_together() -> None:
    make("x/b/2.mp4", "x/b/1.mp4", "x/a.mp4", "x/c.mp4", "x/b.mp4")
    assert found("x") == ["x/a.mp4", "x/b/1.mp4", "x/b/2.mp4", "x/b.mp4", "x/c.mp4"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("c/*.mp4", ["c/a.mp4", "c/b.mp4"]),
        ("c/?.mp4", ["c/a.mp4", "c/b.mp4"]),
        ("c/[!a].mp4", ["c/b.mp4"]),
        ("*/*.mp4", ["c/a.mp4", "c/b.mp4"]),
        ("c/*.dat", ["c/x.dat"]),
        ("c/x*", []),
        ("c/**/*.mp4", ["c/a.mp4", "c/b.mp4", "c/d/e/f.mp4"]),
        ("**/**/f.mp4", ["c/d/e/f.mp4"]),
        ("c/**/e/*", ["c/d/e/f.mp4"]),
        ("c/**", ["c/a.mp4", "c/b.mp4", "c/d/e/f.mp4"]),
        ("c/*", ["c/a.mp4", "c/b.mp4", "c/d/e/f.mp4"]),
        ("**", ["c/a.mp4", "c/b.mp4", "c/d/e/f.mp4"]),
        ("c/d*", ["c/d/e/f.mp4"]),
    ],
)
def test_a_pattern_is_expanded(pattern: str, expected: list[str]) -> None:
    make("c/b.mp4", "c/a.mp4", "c/.h.mp4", "c/x.dat", "c/d/e/f.mp4", "c/d/.h/g.mp4")
    for written in (pattern, os.path.join(os.getcwd(), pattern)):
        if not expected:
            with pytest.raises(ActionClipError, match=r"there is no video that .* matches"):
                list_videos([written])
            continue
        listed = list_videos([written]).videos
        assert [Path(video.name).absolute() for video in listed] == [Path(name).absolute() for name in expected]


def test_a_name_that_exists_wins_over_being_a_pattern_or_a_list() -> None:
    make("clip[1].mp4", "clip1.mp4", "@home.mp4", "home.mp4")
    assert found("clip[1].mp4") == ["clip[1].mp4"]
    assert found("@home.mp4") == ["@home.mp4"]
    assert is_one_video(["clip[1].mp4"])
    assert is_one_video(["@home.mp4"])
    os.unlink("clip[1].mp4")
    assert found("clip[1].mp4") == ["clip1.mp4"]


def test_what_counts_as_one_video() -> None:
    make("a.mp4", "d/a.mp4")
    assert all(is_one_video([name]) for name in ("a.mp4", "missing.mp4", "https://host/*.mp4", "./d/a.mp4"))
    assert not any(is_one_video([name]) for name in ("d", "*.mp4", "@list.txt", "-", "."))
    assert not is_one_video(["a.mp4", "a.mp4"])
    assert is_one_video([])


def test_a_list_has_a_name_a_line() -> None:
    lines = ["# a comment", "", "  a.mp4 ", '"b c.mp4"', "https://host/d.mp4", "#5.mp4", "missing*.mp4", "d"]
    make("d/x.mp4")
    expected = ["a.mp4", "b c.mp4", "https://host/d.mp4", "#5.mp4", "missing*.mp4", "d"]
    for content in (
        "\n".join(lines).encode(),
        "\ufeff".encode() + "\r\n".join(lines).encode(),
        "\n".join(f"\ufeff{line}" for line in lines).encode(),  # joined lists
        "\n".join(lines).encode("utf-16"),
    ):
        Path("list.txt").write_bytes(content)
        listing = list_videos(["@list.txt"])
        assert [video.name for video in listing.videos] == expected
        assert listing.lists == ["list.txt"]


def test_a_list_with_nuls_is_taken_character_by_character() -> None:
    Path("list").write_bytes(b"./ a.mp4\0./# b\n.mp4\0")
    assert found("@list") == ["./ a.mp4", "./# b\n.mp4"]


def test_names_on_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"b.mp4\na.mp4\n")))
    assert found("x.mp4", "-") == ["x.mp4", "b.mp4", "a.mp4"]
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(ActionClipError, match="there is no stdin"):
        list_videos(["-"])
    with os.fdopen(os.open(os.devnull, os.O_WRONLY), "rb") as unreadable:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(unreadable))
        with pytest.raises(ActionClipError, match="the list of videos stdin cannot be read"):
            list_videos(["-"])


def test_a_video_on_stdin_is_told_from_a_list() -> None:
    from action_clip.commands.samples import SAMPLE_VIDEO

    for content in (SAMPLE_VIDEO.read_bytes(), b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2"):
        Path("list").write_bytes(content)
        with pytest.raises(ActionClipError, match="list is no list of videos: write a name a line"):
            list_videos(["@list"])


@pytest.mark.parametrize("name", ["@missing.txt", "@."])
def test_a_list_that_cannot_be_read_is_an_error(name: str) -> None:
    with pytest.raises(
        ActionClipError, match=rf"the list of videos {name[1:]} cannot be read \(.+\): name a text file"
    ):
        list_videos([name])


@pytest.mark.skipif(os.name == "nt", reason="file names are Unicode there")
def test_names_that_are_not_unicode(monkeypatch: pytest.MonkeyPatch) -> None:
    odd = os.fsdecode(b"d/\xff.mp4")
    try:
        make(odd)
    except OSError:
        pytest.skip("this file system has Unicode names only")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"d/\xff.mp4\n")))
    Path("list").write_bytes(b"d/\xff.mp4\0")
    for name in ("d", "d/*.mp4", "-", "@list", odd):
        (video,) = list_videos([name]).videos
        assert os.fsencode(video.name) == b"d/\xff.mp4"
        assert video.file is not None


def test_a_video_named_twice_is_listed_once() -> None:
    make("d/a.mp4", "d/b.mp4")
    os.link("d/a.mp4", "hard.mp4")
    names = ["./d/a.mp4", "d", "d/../d/a.mp4", os.path.abspath("d/b.mp4"), "hard.mp4", "d/*.mp4"]
    assert found(*names) == ["./d/a.mp4", "d/b.mp4"]
    assert found("gone.mp4", "./gone.mp4", "https://h/x", " https://h/x") == ["gone.mp4", "https://h/x"]


def test_links_are_followed_and_circles_end() -> None:
    needs_links()
    make("d/a.mp4", "far/b.mp4", "far/c/d.mp4")
    os.symlink("../far", "d/near")
    os.symlink("..", "far/c/up")
    os.symlink(".", "far/again")
    os.symlink("a.mp4", "d/same.mp4")
    os.symlink("nothing", "d/dangling.mp4")
    expected = ["d/a.mp4", "d/dangling.mp4", "d/near/b.mp4", "d/near/c/d.mp4"]
    assert found("d") == expected
    assert sorted(found("d/**/*.mp4")) == expected


@pytest.mark.skipif(os.name == "nt", reason="no named pipes in folders there")
def test_a_pipe_in_a_folder_is_not_waited_for() -> None:
    make("d/a.mp4")
    os.mkfifo("d/b.mp4")
    assert found("d") == ["d/a.mp4"]
    assert found("d/b.mp4") == ["d/b.mp4"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("empty", "there is no video in empty or below it"),
        ("empty/*.mp4", r"there is no video that empty/\*.mp4 matches"),
        ("nowhere/**/*.mp4", r"there is no video that nowhere/\*\*/\*.mp4 matches"),
        ("@list", "there is no name of a video in list: write one a line"),
    ],
)
def test_nothing_found_says_where(name: str, message: str, caplog: pytest.LogCaptureFixture) -> None:
    make("empty/notes.txt", "a.mp4")
    Path("list").write_text("# nothing\n\n")
    with pytest.raises(ActionClipError, match=message):
        list_videos([name])
    assert caplog.messages == []
    assert found("a.mp4", name) == ["a.mp4"]
    assert len(caplog.messages) == 1
    assert caplog.records[0].levelno == logging.WARNING
    with pytest.raises(ActionClipError, match=f"{message}.*; there is no video in empty"):
        list_videos([name, "empty/."])


@pytest.mark.parametrize("function", ["listdir", "stat"])  # refused without the right to read, and to search
def test_a_folder_that_cannot_be_read_is_named_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, function: str
) -> None:
    make("d/a.mp4", "d/locked/b.mp4", "d/z.mp4")
    original = getattr(os, function)

    def refused(path: str, **options: Any) -> Any:
        # Permissions do not keep every user out.
        if str(path).endswith(("locked", os.path.join("locked", "."))[function == "stat"]):
            raise PermissionError(13, "Permission denied")
        return original(path, **options)

    monkeypatch.setattr(os, function, refused)
    listing = list_videos(["d", "d/**/*.mp4"])
    assert [video.name for video in listing.videos] == [os.path.join("d", "a.mp4"), os.path.join("d", "z.mp4")]
    locked = os.path.join("d", "locked")
    assert listing.unreadable == [f"the folder {locked} cannot be read (Permission denied): check its rights"]
    assert caplog.messages == [f"error: {listing.unreadable[0]}"]


def test_a_name_that_cannot_be_a_path_is_left_to_the_reader() -> None:
    assert found("a\0b.mp4", "a.mp4") == ["a\0b.mp4", "a.mp4"]
