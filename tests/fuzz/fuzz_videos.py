"""Videos and pictures of many formats, read as the program reads them."""

import io
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
from av.video.stream import VideoStream
from PIL import Image

from action_clip.errors import ActionClipError
from action_clip.video.reader import Clip, read_clip
from action_clip.video.sampling import make_sampler

FRAMES = 12
COUNT = 4
SIDES = (48, 32)
GROUP = {"g": "4", "bf": "2"}
# As the default bound would, but within what a fuzzer waits and has memory for.
os.environ["ACTION_CLIP_MAX_PIXELS"] = str(2**20)


def encoded(
    container: str,
    codec: str,
    pix_fmt: str = "yuv420p",
    options: Mapping[str, str] = GROUP,
    *,
    flags: str = "",
    sides: tuple[int, int] = SIDES,
) -> bytes:
    """A video of a moving block."""
    with (
        tempfile.TemporaryDirectory() as folder,
        av.open(f"{folder}/video", "w", format=container, options={"movflags": flags} if flags else {}) as writing,
    ):
        stream = writing.add_stream(codec, rate=25, options=dict(options))
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = sides
        stream.pix_fmt = pix_fmt
        for number in range(FRAMES):
            picture = np.full((sides[1], sides[0], 3), 40, np.uint8)
            picture[4:20, number : number + 16] = 200
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number
            writing.mux(stream.encode(frame))
        writing.mux(stream.encode(None))
        writing.close()
        return Path(folder, "video").read_bytes()


def _picture(kind: str, mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", SIDES, (200, 100, 50)).convert(mode).save(file, kind)
    return file.getvalue()


def _animation() -> bytes:
    file = io.BytesIO()
    images = [Image.new("RGBA", SIDES, (20 * number, 100, 50, 200)) for number in range(FRAMES)]
    images[0].save(file, "WEBP", save_all=True, append_images=images[1:])
    return file.getvalue()


def seeds() -> list[bytes]:
    """Containers with an index and without, codecs with frames in order and not, colours and fields, pictures."""
    return [
        encoded("mp4", "libx264"),
        encoded("mp4", "libx264", flags="faststart"),
        encoded("mp4", "libx264", flags="frag_keyframe+empty_moov"),
        encoded("mov", "mpeg4"),
        encoded("matroska", "libx264"),
        encoded("webm", "libvpx", options={"g": "4"}),
        encoded("webm", "libvpx-vp9", "yuva420p", {"g": "4", "cpu-used": "8"}),
        encoded("mp4", "libx264", options=GROUP | {"x264-params": "tff=1:transfer=smpte2084:sar=16/11"}),
        encoded("avi", "mpeg4", options={"g": "4"}),
        encoded("avi", "mjpeg", "yuvj420p", {}),
        encoded("mpegts", "mpeg2video"),
        encoded("mpegts", "libx264"),
        encoded("h264", "libx264"),
        encoded("flv", "flv", options={"g": "4"}),
        encoded("gif", "gif", "rgb8", {}),
        encoded("apng", "apng", "rgb24", {}),
        *(_picture(kind) for kind in ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "JPEG2000", "TGA", "PPM")),
        _picture("PNG", "P"),
        _animation(),
    ]


def check(clip: Clip) -> None:
    """Raise AssertionError where it is none."""
    assert clip.frames.shape[0] == COUNT
    assert clip.frames.shape[3] == 3
    assert clip.frames.dtype == np.uint8
    assert len(clip.indices) == len(clip.times_s) == COUNT
    assert all(0 <= index < clip.total_frames for index in clip.indices)
    assert np.isfinite(clip.times_s).all()
    assert np.isfinite(clip.duration_s)


def target(data: bytes) -> None:
    """Read it with either sampling, as a file whose name says nothing and as one that says what it may be."""
    for name in ("video", "video.tga"):
        Path(name).write_bytes(data)
        for kind in ("uniform", "keyframes"):
            with suppress(ActionClipError):
                check(read_clip(name, make_sampler(kind, COUNT, 0), threads=2))
