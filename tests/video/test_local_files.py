"""A local video is the file named and nothing else, whatever is in it and however it is called."""

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from make_videos import numbered, numbers_in, write_numbered
from PIL import Image

import action_clip.video.address
import action_clip.video.source
from action_clip.errors import ActionClipError
from action_clip.video.ffmpeg_file import FFmpegFile, ReadStatus, StoppedError
from action_clip.video.reader import read_clip
from action_clip.video.sampling import make_sampler

ROOT = Path(__file__).parents[2]
STRACE = shutil.which("strace")
eight = make_sampler("uniform", 8, 0)

HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{}\n#EXT-X-ENDLIST\n"
DASH = (
    '<?xml version="1.0"?>\n<!-- a manifest -->\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet><Representation id="1" bandwidth="1">'
    "<BaseURL>{}</BaseURL></Representation></AdaptationSet></Period></MPD>"
)
PLAYLISTS = {
    "list.m3u8": HLS,
    "list.mp4": HLS,
    "list.mpd": DASH,
    "list.ffconcat": "ffconcat version 1.0\nfile {}\n",
    "list.txt": "ffconcat version 1.0\nfile '{}'\n",
    "list.pls": "[playlist]\nFile1={}\n",
    "list.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns={}\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    "list.xml": '<CompositionPlaylist xmlns="http://www.smpte-ra.org/schemas/2067-3/2016"><Id>{}</Id>'
    "</CompositionPlaylist>",
}


def write_playlist(folder: Path, name: str) -> Path:
    """Write a playlist that names a video beside it."""
    write_numbered(folder / "part.ts", 20)
    (folder / name).write_text(PLAYLISTS[name].format("part.ts"))
    return folder / name


@pytest.mark.parametrize("kind", ["uniform", "keyframes"])
@pytest.mark.parametrize("name", PLAYLISTS)
def test_a_playlist_is_no_video(tmp_path: Path, name: str, kind: str) -> None:
    path = write_playlist(tmp_path, name)
    with pytest.raises(ActionClipError, match=f"{name} is a playlist, which names other files; give one of these$"):
        read_clip(path, make_sampler(kind, 8, 0))


def test_subtitles_that_name_their_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("list.sub", "video.sub"):
        write_numbered(tmp_path / "part.ts", 20).replace(tmp_path / name)
    index = "# VobSub index file, v7 (do not modify this line!)\nsize: 720x576\nid: en, index: 0\n"
    (tmp_path / "list.idx").write_text(f"{index}timestamp: 00:00:01:000, filepos: 000000000\n")
    with pytest.raises(ActionClipError, match=r"list.idx is a playlist"):
        read_clip("list.idx", eight)


def write_odd(folder: Path, name: str, number: int) -> Path:
    Image.fromarray(numbered(number)).save(folder / name)
    return folder / name


@pytest.mark.parametrize("name", ["a%d.png", "a%03d.png", "a*.png", "a[12].png", "a{1,2}.png", "a?.png", "a%%.png"])
def test_a_pattern_is_a_name(tmp_path: Path, name: str) -> None:
    for number, other in enumerate(("a1.png", "a2.png", "a001.png", "a0.png"), 1):
        write_odd(tmp_path, other, number)
    if os.name == "nt" and set(name) & set("*?"):
        pytest.skip("no such names here")
    assert numbers_in(read_clip(write_odd(tmp_path, name, 77), eight).frames) == [77] * 8
    (tmp_path / name).unlink()
    with pytest.raises(ActionClipError, match="does not exist"):
        read_clip(tmp_path / name, eight)


@pytest.mark.parametrize(
    "name",
    [
        "concat:one.ts|two.ts",
        "subfile,,start,0,end,0,,:one.ts",
        "pipe:0",
        "-",
        "fd:",
        "data:video/mp4;base64,AAAA",
        "file:one.ts",
        "http:one.ts",
        "crypto:one.ts",
        "async:one.ts",
        "cache:one.ts",
        "tee:one.ts",
        "lavfi:testsrc",
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="no such names here")
def test_a_protocol_is_a_name(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for other in ("one.ts", "two.ts"):
        write_numbered(tmp_path / other, 20)
    with pytest.raises(ActionClipError, match=r"does not exist|neither http nor https"):
        read_clip(name, eight)
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    write_numbered(tmp_path / "whole.mp4", 3).replace(name)
    assert set(numbers_in(read_clip(name, eight).frames)) == {0, 1, 2}


def test_a_picture_that_only_its_name_tells_of(tmp_path: Path) -> None:
    """Targa has no mark of its own."""
    assert numbers_in(read_clip(write_odd(tmp_path, "picture.tga", 7), eight).frames) == [7] * 8


def with_reference(folder: Path) -> Path:
    """A QuickTime file whose data is in another one."""
    content = write_numbered(folder / "clip.mov", 20).read_bytes()
    alias = b"\0\0\0\x0curl \0\0\0\1"
    assert content.count(alias) == 1
    outside = (12 + len(b"part.ts\0")).to_bytes(4) + b"url \0\0\0\0part.ts\0"
    grown = len(outside) - len(alias)
    at = content.index(alias)
    data = bytearray(content[:at] + outside + content[at + len(alias) :])
    for kind in (b"dref", b"dinf", b"minf", b"mdia", b"trak", b"moov"):
        size = data.index(kind) - 4
        data[size : size + 4] = (int.from_bytes(data[size : size + 4]) + grown).to_bytes(4)
    (folder / "clip.mov").write_bytes(data)
    return folder / "clip.mov"


MAKERS: dict[str, Callable[[Path], Path]] = {
    **{name: lambda folder, name=name: write_playlist(folder, name) for name in PLAYLISTS},  # type: ignore[misc]
    "reference": with_reference,
    "pattern": lambda folder: write_odd(folder, "a%d.png", 77),
    "video": lambda folder: write_numbered(folder / "clip.mkv", 20),
    "index": lambda folder: write_numbered(folder / "clip.mp4", 20),
}


@pytest.mark.skipif(STRACE is None, reason="no strace here")
@pytest.mark.parametrize("kind", MAKERS)
def test_nothing_else_is_opened(tmp_path: Path, kind: str) -> None:
    path = MAKERS[kind](tmp_path)
    write_odd(tmp_path, "a1.png", 1)
    log = tmp_path / "strace.log"
    code = (
        "import sys; from contextlib import suppress; from action_clip.errors import ActionClipError\n"
        "from action_clip.video.reader import read_clip; from action_clip.video.sampling import make_sampler\n"
        "for kind in ('uniform', 'keyframes'):\n"
        "    with suppress(ActionClipError):\n"
        "        read_clip(sys.argv[1], make_sampler(kind, 8, 0))\n"
    )
    calls = "trace=open,openat,access,faccessat,stat,newfstatat,readlink,%network"
    command = [str(STRACE), "-f", "-qq", "-s", "4096", "-e", calls, "-o", str(log), sys.executable, "-c", code]
    subprocess.run([*command, str(path)], cwd=ROOT, check=True)
    lines = log.read_text("utf-8", "replace").splitlines()
    assert not [line for line in lines if re.search(r" (socket|connect|bind)\(", line)]
    touched = {found[1] for line in lines if (found := re.search(r'"([^"]*)"', line)) and str(tmp_path) in found[1]}
    assert touched == {str(path)}
    assert not [line for line in lines if '"part.ts' in line or '"video.' in line]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_what_a_file_names_is_refused_even_where_ffmpeg_asks_for_it(tmp_path: Path) -> None:
    clip = write_numbered(tmp_path / "clip.mkv", 8)
    with action_clip.video.source.locate(clip) as source:
        assert source.open_named(f"file:{clip}", 0, {}).read(10) == b""
        with pytest.raises(ActionClipError, match=r"clip\.mkv names other files, which are not opened"):
            source.check()


def test_a_pipe_that_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(action_clip.video.address, "DISK_MARGIN", 2**60)
    os.mkfifo(tmp_path / "pipe")
    over = threading.Event()

    def write() -> None:
        with open(tmp_path / "pipe", "wb") as pipe:
            pipe.write(b"x")
            pipe.flush()
            over.wait(60)  # an endless one

    writer = threading.Thread(target=write)
    writer.start()
    with pytest.raises(ActionClipError, match=r"pipe has to be copied first, and there is no room .* TMPDIR$"):
        read_clip(tmp_path / "pipe", eight)
    over.set()
    writer.join()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_without_a_folder_for_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ActionClipError, match=r"pipe has to be copied first, and there is no room .* TMPDIR$"):
        read_clip(tmp_path / "pipe", eight)


@pytest.mark.parametrize("when", ["before it is opened", "before its size is asked", "between two looks"])
def test_a_file_that_vanishes(tmp_path: Path, when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_numbered(tmp_path / "clip.ts", 20)
    name = {"before it is opened": "open", "before its size is asked": "size", "between two looks": "open"}[when]
    plain = getattr(action_clip.video.source.VideoSource, name)
    looks = 0

    def vanish(source: action_clip.video.source.VideoSource) -> object:
        nonlocal looks
        looks += 1
        if when != "between two looks" or looks == 2:
            path.unlink()
        return plain(source)

    monkeypatch.setattr(action_clip.video.source.VideoSource, name, vanish)
    kind = "keyframes" if when == "between two looks" else "uniform"
    with pytest.raises(ActionClipError, match=r"clip.ts does not exist; check its name and folder$"):
        read_clip(path, make_sampler(kind, 8, 0), threads=2)


class Failing:
    """A file that fails in the middle."""

    def __init__(self, error: Exception) -> None:
        self._error = error
        self.reads = 0

    def read(self, size: int) -> bytes:
        self.reads += 1
        if self.reads > 1:
            raise self._error
        return b"x" * size

    def seek(self, offset: int, whence: int) -> int:
        if offset < 0:
            raise ValueError
        return offset

    def close(self) -> None:
        pass


def test_what_goes_wrong_in_a_file_is_its_end_and_is_remembered() -> None:
    status = ReadStatus()
    file = Failing(KeyError("first"))
    given = FFmpegFile(file, "name", status)
    assert given.seek(-1) == -1
    assert given.read(3) == b"xxx"
    assert given.tell() == 3
    status.check()
    assert given.read(3) == b""
    assert given.read(3) == b""
    assert given.seek(0) == -1
    assert file.reads == 2
    with pytest.raises(KeyError, match="first"):
        status.check()


def test_nothing_is_read_when_nobody_waits() -> None:
    status = ReadStatus()
    status.stop.set()
    file = Failing(KeyError())
    assert FFmpegFile(file, "name", status).read(3) == b""
    assert not file.reads
    with pytest.raises(StoppedError):
        status.check()


def test_a_disk_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_numbered(tmp_path / "clip.mkv", 20)
    monkeypatch.setattr(
        action_clip.video.source, "open", lambda *_, **__: Failing(OSError(5, "Input/output error")), raising=False
    )
    with pytest.raises(ActionClipError, match=r"clip.mkv cannot be read as a video \(Input/output error\)"):
        read_clip(path, eight)


def test_frames_of_a_view_are_equal(tmp_path: Path) -> None:
    """A picture is there once, however often it is asked for."""
    frames = read_clip(write_odd(tmp_path, "picture.png", 9), eight).frames
    assert frames.shape == (8, 96, 160, 3)
    assert np.shares_memory(frames[0], frames[7])
    assert numbers_in(frames) == [9] * 8
