"""Files of few bytes that claim to be large take little memory and time, and end in one sentence."""

import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from make_videos import numbered, numbers_in, write_numbered, write_video
from PIL import Image

import action_clip.video.mp4_boxes
import action_clip.video.packets
import action_clip.video.source
from action_clip.errors import ActionClipError
from action_clip.video.pixels import MOST_PIXELS, most_pixels
from action_clip.video.reader import read_clip
from action_clip.video.sampling import make_sampler
from action_clip.video.source import Video, VideoSource, _threads, opened

ROOT = Path(__file__).parents[2]
eight = make_sampler("uniform", 8, 0)

# In a process of its own, for its memory; what it had before is what imports take.
CODE = """
import resource, sys
from action_clip.errors import ActionClipError
from action_clip.video.reader import read_clip
from action_clip.video.sampling import make_sampler

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (2**20 if sys.platform == "darwin" else 2**10)

before = peak()
for kind in ("uniform", "keyframes"):
    try:
        print(read_clip(sys.argv[1], make_sampler(kind, 8, 0)).frames.shape)
    except ActionClipError as error:
        print(error)
print(peak() - before)
"""


def read_in_child(path: Path) -> tuple[list[str], int]:
    """Return the sentence, or the shape, for either sampling, and how many MiB it took."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        check=True,
    )
    assert done.stderr == ""
    *lines, size_mib = done.stdout.splitlines()
    assert len(lines) == 2
    return lines, int(size_mib)


def png(folder: Path, width: int = 16000, height: int = 16000) -> Path:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(width // 8 + 1)) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    signature = b"\x89PNG\r\n\x1a\n"
    (folder / "bomb.png").write_bytes(signature + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    return folder / "bomb.png"


def gif(folder: Path, width: int = 16000, height: int = 16000, frames: int = 12) -> Path:
    """A large buffer of which each frame changes a single pixel."""
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    control = b"\x21\xf9\4\0\x0a\0\0\0"
    picture = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\2\2\x44\1\0"
    (folder / "bomb.gif").write_bytes(screen + (control + picture) * frames + b";")
    return folder / "bomb.gif"


def by_pillow(name: str, **how: object) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        Image.new("L", (9000, 9000)).save(folder / name, **how)  # type: ignore[arg-type]
        return folder / name

    return write


def animation(folder: Path) -> Path:
    """An animated WebP with the largest buffer there is, for pictures of a pixel."""
    path = folder / "bomb.webp"
    dot = Image.new("L", (1, 1))
    dot.save(path, save_all=True, append_images=[Image.new("L", (1, 1), 255)] * 11)
    content = bytearray(path.read_bytes())
    content[24:30] = b"\xff\x3f\0" * 2
    path.write_bytes(content)
    return path


def h264(folder: Path) -> Path:
    large = np.zeros((8200, 8200, 3), np.uint8)
    return write_video(folder / "bomb.mp4", [large], options={"preset": "ultrafast", "threads": "1"})


BOMBS = {
    "png": png,
    "gif": gif,
    "largest gif": lambda folder: gif(folder, 65535, 65535),
    "tiff": by_pillow("bomb.tif", compression="tiff_lzw"),
    "jpeg": by_pillow("bomb.jpg", quality=1),
    "jpeg 2000": by_pillow("bomb.jp2"),
    "webp": by_pillow("bomb.webp", quality=1, method=0),
    "animation": animation,
    "h264": h264,
}


@pytest.mark.skipif(os.name == "nt", reason="no resource module here")
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] * (kind in ("jpeg 2000", "h264", "webp"))) for kind in BOMBS]
)
def test_pictures_that_are_too_large(tmp_path: Path, kind: str) -> None:
    path = BOMBS[kind](tmp_path)
    for line in read_in_child(path)[0]:
        assert "ACTION_CLIP_MAX_PIXELS" in line
        assert f"{MOST_PIXELS} pixels" in line
    assert read_in_child(path)[1] < 300


@pytest.mark.skipif(os.name == "nt", reason="no resource module here")
def test_a_picture_is_held_once(tmp_path: Path) -> None:
    """24 million pixels: eight copies of them alone would be 550 MiB."""
    lines, size_mib = read_in_child(png(tmp_path, 6000, 4000))
    assert lines == ["(8, 4000, 6000, 3)"] * 2
    assert size_mib < 400


def test_a_frame_that_grows_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = write_video(tmp_path / "a.h264", [numbered(number) for number in range(10)])
    large = write_video(tmp_path / "b.h264", [numbered(number, 1600, 960) for number in range(10, 12)])
    path = tmp_path / "clip.h264"
    path.write_bytes(small.read_bytes() + large.read_bytes())
    monkeypatch.setenv("ACTION_CLIP_MAX_PIXELS", str(160 * 96 * 2))
    with pytest.raises(ActionClipError, match="the video has frames of 1600 × 960, more than 30720 pixels"):
        read_clip(path, lambda total: list(range(total)))
    monkeypatch.setattr(action_clip.video.source, "_ALIGNMENT", 0)  # FFmpeg itself does not decode them
    clip = read_clip(path, lambda total: list(range(total)))
    assert clip.frames.shape[1:] == (96, 160, 3)
    assert set(numbers_in(clip.frames)) == set(range(10))


def test_the_bound_is_settable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_numbered(tmp_path / "clip.mp4", 3)
    monkeypatch.setenv("ACTION_CLIP_MAX_PIXELS", str(160 * 96))
    assert read_clip(path, eight).total_frames == 3
    monkeypatch.setenv("ACTION_CLIP_MAX_PIXELS", str(160 * 96 - 1))
    with pytest.raises(
        ActionClipError,
        match=r"clip.mp4 has frames of 160 × 96, more than 15359 pixels; make them smaller, or set ACTION_CLIP_MAX",
    ):
        read_clip(path, eight)


@pytest.mark.parametrize("chosen", ["many", "0", "-1", "1e9", "²", "9" * 5000, str(2**31)])
def test_a_bound_is_a_number(tmp_path: Path, chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACTION_CLIP_MAX_PIXELS", chosen)
    with pytest.raises(ActionClipError, match=r"^ACTION_CLIP_MAX_PIXELS is '.*': make it a number of pixels"):
        read_clip(write_numbered(tmp_path / "clip.mp4", 3), eight)
    monkeypatch.setenv("ACTION_CLIP_MAX_PIXELS", "")
    assert most_pixels() == MOST_PIXELS


@pytest.mark.parametrize("sizes", [[(160, 96)] * 20, [(160, 96), *[(96, 80)] * 40]])
def test_too_many_frames_at_once(tmp_path: Path, sizes: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [write_video(tmp_path / "part.h264", [numbered(0, *size)]).read_bytes() for size in sizes]
    (tmp_path / "clip.h264").write_bytes(b"".join(parts))
    monkeypatch.setenv("ACTION_CLIP_MAX_PIXELS", str(160 * 96))
    with pytest.raises(ActionClipError, match=r"frames of \d+ × \d+ are too many at once; look at fewer"):
        read_clip(tmp_path / "clip.h264", lambda total: list(range(total)))


def test_large_frames_are_decoded_by_few_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(action_clip.video.source, "usable_cores", lambda: 20)
    assert [_threads(0, pixels) for pixels in (0, 1920 * 1080, 7680 * 4320)] == [16, 16, 8]
    assert _threads(24, 1920 * 1080) == 24
    assert _threads(24, 7680 * 4320) == 8
    assert _threads(24, 2**26) == 4
    assert _threads(1, 2**31) == _threads(24, 2**31) == 1


def ints(*numbers: int) -> bytes:
    return struct.pack(f">{len(numbers)}I", *numbers)


def box(kind: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return ints(8 + len(content)) + kind + content


def track(tables: bytes, edits: bytes = b"", handler: bytes = b"vide") -> bytes:
    matrix = ints(0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    if handler == b"vide":
        sizes = struct.pack(">HH", 64, 64) + ints(0x480000, 0x480000, 0)
        entry = box(b"mp4v", bytes(6), b"\0\1", bytes(16), sizes, b"\0\1", bytes(32), b"\0\x18\xff\xff")
        header = box(b"vmhd", bytes(12))
    else:
        entry = box(b"sowt", bytes(6), b"\0\1", bytes(8), struct.pack(">HHHHI", 1, 16, 0, 0, 8000 << 16))
        header = box(b"smhd", bytes(8))
    description = box(b"stsd", ints(0, 1), entry)
    data = box(b"dinf", box(b"dref", ints(0, 1), box(b"url ", ints(1))))
    media = box(b"mdhd", ints(0, 0, 0, 1000, 1000, 0)) + box(b"hdlr", bytes(8), handler, bytes(12), b"x\0")
    information = box(b"minf", header, data, box(b"stbl", description, tables))
    head = box(b"tkhd", ints(7, 0, 0, 1, 0, 1000), bytes(16), matrix, ints(64 << 16, 64 << 16))
    return box(b"trak", head, edits, box(b"mdia", media, information))


def movie(*parts: bytes) -> bytes:
    header = box(b"mvhd", ints(0, 0, 0, 1000, 1000, 0x10000), bytes(12), bytes(36), bytes(24), ints(2))
    return box(b"ftyp", b"isom", ints(512), b"isommp41") + box(b"moov", header, *parts)


def tables(samples: int, duration: int = 40) -> bytes:
    times = box(b"stts", ints(0, 1, samples, duration))
    sizes = box(b"stsz", ints(0, 1, samples))
    return times + sizes + box(b"stsc", ints(0, 1, 1, samples, 1)) + box(b"stco", ints(0, 1, 40))


def edit_list(count: int, duration: int) -> bytes:
    return box(b"edts", box(b"elst", ints(0, count), ints(duration, 0, 0x10000) * count))


def fragment(samples: int) -> bytes:
    run = box(b"trun", ints(0, samples))
    return box(b"moof", box(b"mfhd", ints(0, 1)), box(b"traf", box(b"tfhd", ints(0x20000, 1)), run))


NO_TABLES = b"".join(box(kind, ints(0, 0, 0)) for kind in (b"stts", b"stsz", b"stsc", b"stco"))
EXTENDS = box(b"mvex", box(b"trex", ints(0, 1, 1, 40, 1, 0)))
CLAIMS = {
    "samples of one size": movie(track(tables(80_000_000))),
    "in each track": movie(*[track(tables(10_000_000))] * 8),
    "edits of all samples": movie(track(tables(10_000), edit_list(10_000, 400_000))),
    "samples of a fragment": movie(track(NO_TABLES), EXTENDS) + fragment(80_000_000),
    "samples of many fragments": movie(track(NO_TABLES), EXTENDS) + fragment(10_000_000) * 8,
    "deeper": movie(box(b"udta", track(tables(80_000_000)))),
    "beyond its end": movie(track(tables(80_000_000)))[:-200],
    "ten digits": movie(track(tables(2**32 - 1))),
}


@pytest.mark.skipif(os.name == "nt", reason="no resource module here")
@pytest.mark.parametrize("kind", CLAIMS)
def test_an_index_that_claims_millions(tmp_path: Path, kind: str) -> None:
    (tmp_path / "bomb.mp4").write_bytes(CLAIMS[kind] + box(b"mdat", bytes(10_000)))
    lines, size_mib = read_in_child(tmp_path / "bomb.mp4")
    for line in lines:
        assert "bomb.mp4" in line
    assert size_mib < 300


def test_claims_that_can_be(tmp_path: Path) -> None:
    """An hour of PCM sound, which has no entry for each sample; a hundred edits."""
    path = tmp_path / "clip.mp4"
    for content in (
        movie(track(tables(48_000 * 3600, 1), handler=b"soun")),
        movie(track(tables(100_000), edit_list(100, 400))),
        movie(track(tables(2**20))),
    ):
        path.write_bytes(content + box(b"mdat", bytes(100)))
        with path.open("rb", buffering=0) as file:
            action_clip.video.mp4_boxes.check_sample_counts("clip", file, whole=True)


def test_more_packets_than_a_video_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_numbered(tmp_path / "clip.mkv", 40)
    monkeypatch.setattr(action_clip.video.packets, "MOST_PACKETS", 40)
    assert read_clip(path, eight).total_frames == 40
    monkeypatch.setattr(action_clip.video.packets, "MOST_PACKETS", 39)
    with pytest.raises(ActionClipError, match=r"clip.mkv has more than 39 frames; cut it into parts"):
        read_clip(path, eight)


def test_small_packets_are_not_kept_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_numbered(tmp_path / "clip.mkv", 40)
    expected = read_clip(path, eight)
    for most, kept in ((40, 40), (39, None)):
        monkeypatch.setattr(action_clip.video.packets, "CACHED_PACKETS", most)
        with opened(VideoSource("clip", path), 1) as container:
            table = action_clip.video.packets.scan(container)
        assert (table.cached and len(table.cached)) == kept
        assert np.array_equal(read_clip(path, eight).frames, expected.frames)


def streams(folder: Path) -> Path:
    """As many as FFmpeg lets pass, and more."""
    (folder / "bomb.mp4").write_bytes(movie(*[track(tables(1))] * 1200) + box(b"mdat", bytes(100)))
    return folder / "bomb.mp4"


def sparse(folder: Path) -> Path:
    with (folder / "bomb.mp4").open("wb") as file:
        file.truncate(100 * 2**30)
    return folder / "bomb.mp4"


def extradata(folder: Path) -> Path:
    path = write_numbered(folder / "bomb.mkv", 10)
    content = path.read_bytes()
    at = content.index(b"\x63\xa2") + 2  # CodecPrivate, whose size of a byte becomes 200 MB
    path.write_bytes(content[:at] + b"\x1b\xeb\xc2\0" + content[at + 1 :])
    return path


@pytest.mark.skipif(os.name == "nt", reason="no resource module here")
@pytest.mark.parametrize("make", [streams, sparse, extradata])
def test_much_of_something_else(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    path = make(tmp_path)
    lines, size_mib = read_in_child(path)
    for line in lines:
        assert "bomb" in line or line == "(8, 16, 16, 3)"
    assert size_mib < 400


def test_a_decoder_that_cannot_be_opened() -> None:
    """PyAV 19 then has another error for the second packet than for the first."""

    def decode(_: object) -> None:
        raise ValueError("cannot decode unknown codec")

    stream = SimpleNamespace(codec_context=SimpleNamespace(decode=decode))
    container = Video(VideoSource("clip"), None, stream)  # type: ignore[arg-type]
    with pytest.raises(av.FFmpegError, match="unknown codec"):
        container.decode(None)


@pytest.mark.parametrize("kind", [b"trun", b"stsz", b"elst", b"stts", b"hdlr", b"trak"])
def test_boxes_that_are_cut(tmp_path: Path, kind: bytes) -> None:
    for size in range(12):
        content = movie(track(NO_TABLES + box(kind, bytes(size))), box(kind, bytes(size)), EXTENDS)
        (tmp_path / "clip.mp4").write_bytes(content + box(b"moof", box(b"traf", box(kind, bytes(size)))))
        with pytest.raises(ActionClipError, match=r"clip\.mp4"):
            read_clip(tmp_path / "clip.mp4", eight)
