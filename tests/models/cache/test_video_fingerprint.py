"""A file's fingerprint: a copy's is the same, that of anything else is another, and some things have none."""

import os
import shutil
import socket
import sys
from pathlib import Path

import numpy as np
import pytest

from action_clip.models.cache.video_bank import video_fingerprint

PART = 64 << 10
SIZES = [1, 1000, PART, PART + 1, 2 * PART + 1, 3 * PART, 3 * PART + 7, 20 * PART]
TIME_NS = 1_700_000_000_123_456_700  # in the steps of 100 ns that Windows has
posix = pytest.mark.skipif(os.name == "nt", reason="there is no such thing on Windows")


def made(path: Path, size: int = 20 * PART, time_ns: int = TIME_NS) -> Path:
    path.write_bytes(np.random.default_rng(size).integers(0, 256, size, np.uint8).tobytes())
    os.utime(path, ns=(0, time_ns))
    return path


def changed(path: Path, at: int) -> None:
    """Change a byte, and nothing else that can be seen."""
    time_ns = path.stat().st_mtime_ns
    with path.open("rb+") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(0, time_ns))


@pytest.mark.parametrize("size", SIZES)
def test_a_copy_with_its_time_is_the_same_file(tmp_path: Path, size: int) -> None:
    path = made(tmp_path / "clip.mp4", size)
    fingerprint = video_fingerprint(path)
    assert fingerprint is not None
    assert fingerprint.isascii()
    assert len(fingerprint) < 80
    shutil.copy2(path, tmp_path / "другое имя.avi")
    assert video_fingerprint(tmp_path / "другое имя.avi") == fingerprint
    path.rename(tmp_path / "moved")
    assert video_fingerprint(str(tmp_path / "moved")) == fingerprint


def test_a_path_that_is_relative_or_a_link_is_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made(tmp_path / "clip.mp4")
    fingerprint = video_fingerprint(path)
    monkeypatch.chdir(tmp_path)
    assert video_fingerprint("clip.mp4") == fingerprint
    if os.name == "posix":
        (tmp_path / "link").symlink_to(path)
        assert video_fingerprint(tmp_path / "link") == fingerprint


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("place", ["first", "in the middle", "last"])
def test_a_change_of_the_head_the_middle_or_the_tail_is_another_file(tmp_path: Path, size: int, place: str) -> None:
    path = made(tmp_path / "clip.mp4", size)
    before = video_fingerprint(path)
    changed(path, {"first": 0, "in the middle": size // 2, "last": size - 1}[place])
    assert video_fingerprint(path) != before


def test_another_time_or_size_is_another_file(tmp_path: Path) -> None:
    path = made(tmp_path / "clip.mp4")
    seen = {video_fingerprint(path)}
    os.utime(path, ns=(0, TIME_NS + 100))
    seen.add(video_fingerprint(path))
    # The parts that are read stay the same: only the size tells these from each other.
    for size in (10, 11):
        path.write_bytes(bytes(size * PART))
        os.utime(path, ns=(0, TIME_NS))
        seen.add(video_fingerprint(path))
    assert len(seen) == 4


def test_a_file_that_grows_is_noticed(tmp_path: Path) -> None:
    path = made(tmp_path / "clip.mp4")
    before = video_fingerprint(path)
    with path.open("ab") as file:
        file.write(b"more")
        file.flush()
        assert video_fingerprint(path) != before


def test_addresses_folders_and_missing_or_empty_files_have_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").write_bytes(b"")
    # Something of that name is there, and still an address is not read from the disk.
    monkeypatch.chdir(tmp_path)
    made(tmp_path / "clip.mp4", 10)
    if os.name == "posix":
        (tmp_path / "http:").mkdir()
        made(tmp_path / "http:" / "clip.mp4", 10)
    for path in ("http://clip.mp4", " HTTPS://example.com/clip.mp4", tmp_path, "missing", "", "a\0b", "empty"):
        assert video_fingerprint(path) is None
    assert video_fingerprint("clip.mp4") is not None


@posix
def test_pipes_and_devices_are_not_waited_for(tmp_path: Path) -> None:
    if sys.platform != "win32":
        os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    names = ["pipe", "link"]
    if len(os.fsencode(tmp_path)) < 90:  # longer names are too long for a socket
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(tmp_path / "socket"))
        names.append("socket")
    for path in (*(str(tmp_path / name) for name in names), "/dev/zero", "/dev/null", "/proc/self/environ"):
        assert video_fingerprint(path) is None


@posix
def test_a_file_that_may_not_be_read_has_none(tmp_path: Path) -> None:
    path = made(tmp_path / "clip.mp4")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    assert video_fingerprint(path) is None


@posix
def test_a_name_that_is_not_unicode(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/clip \xff.mp4"
    try:
        shutil.copy2(os.fsencode(made(tmp_path / "clip.mp4")), name)
    except OSError:
        pytest.skip("this file system has no such names")
    assert video_fingerprint(os.fsdecode(name)) == video_fingerprint(tmp_path / "clip.mp4")
