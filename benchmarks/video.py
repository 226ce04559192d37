"""Long videos, and contestants that read frames of them.

1080p H.264 of 10 s, 10 min and 2 h, a keyframe every 250 frames, about 3 Mbit/s.
"""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from action_clip.video.sampling import Keyframes, Sampler
from benchmarks.contestants import VIDEO_LENGTHS_S
from benchmarks.inputs import Inputs

RATE = 25
WIDTH, HEIGHT = 1920, 1080
KEYFRAME_EVERY = 250
MASTER_S = 20

Reader = Callable[[Path, Sampler, int], NDArray[np.uint8]]
"""A function from a file, a rule and a number of threads to the frames that the rule chooses, (T, H, W, 3) uint8 RGB.

It raises ImportError where the reader is not installed."""


def make_videos(inputs: Inputs, count: int = len(VIDEO_LENGTHS_S)) -> dict[str, Path]:
    """Return the paths of the `count` shortest videos by length; missing ones are made: 3 GB, about two minutes."""
    inputs.videos.mkdir(parents=True, exist_ok=True)
    paths = {length: inputs.video(length) for length in [*VIDEO_LENGTHS_S][:count]}
    missing = [length for length, path in paths.items() if not path.exists()]
    if missing:
        master = inputs.videos / "master.mp4"
        whole(master, _encode)
        for length in missing:
            whole(paths[length], partial(_repeat, master, VIDEO_LENGTHS_S[length] * RATE))
        master.unlink()
    return paths


def whole(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` write a file under another name, and give it its own when it is complete."""
    part = path.with_suffix(".part.mp4")
    write(part)
    part.replace(path)


def _encode(path: Path) -> None:
    """Write MASTER_S seconds of a textured picture that moves, with noise."""
    import av

    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[: HEIGHT + 512, : WIDTH + 512]
    texture = (128 + 60 * np.sin(rows / 23 + np.cos(columns / 61) * 3) + 50 * np.sin(columns / 7)).astype(np.uint8)
    noises = generator.integers(0, 6, (16, HEIGHT * 3 // 2, WIDTH), np.uint8)
    with av.open(str(path), "w") as container:
        options = {"preset": "fast", "b": "3000000", "g": str(KEYFRAME_EVERY), "keyint_min": str(KEYFRAME_EVERY)}
        stream = container.add_stream("libx264", rate=RATE, options=options | {"sc_threshold": "0"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(MASTER_S * RATE):
            planes = np.empty((HEIGHT * 3 // 2, WIDTH), np.uint8)
            y, x = number * 3 % 512, number * 5 % 512
            planes[:HEIGHT] = texture[y : y + HEIGHT, x : x + WIDTH]
            planes[HEIGHT:] = 100 + number % 50
            top, left = number * 7 % (HEIGHT - 300), number * 11 % (WIDTH - 400)
            planes[top : top + 300, left : left + 400] = texture[300:600, 200:600][::-1]
            frame = av.VideoFrame.from_ndarray(planes + noises[number % len(noises)], format="yuv420p")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _repeat(master: Path, frames: int, path: Path) -> None:
    """Write a video of `frames` frames, a whole number of groups of pictures, by repeating the master's packets."""
    import av

    with av.open(str(master)) as reading, av.open(str(path), "w") as writing:
        source = reading.streams.video[0]
        copy = writing.add_stream_from_template(source)
        contents = [(bytes(k), k.pts, k.dts, k.duration, k.is_keyframe) for k in reading.demux(source) if k.size]
        assert source.time_base is not None
        span = round(MASTER_S / source.time_base)
        for number in range(frames):
            repeat, position = divmod(number, len(contents))
            data, pts, dts, duration, is_keyframe = contents[position]
            assert pts is not None
            assert dts is not None
            packet = av.Packet(data)
            packet.stream, packet.time_base = copy, source.time_base
            packet.pts, packet.dts, packet.duration = pts + repeat * span, dts + repeat * span, duration
            packet.is_keyframe = is_keyframe
            writing.mux(packet)


def exact_frames(path: Path, rule: Sampler, threads: int) -> NDArray[np.uint8]:
    """Return the frames that the rule chooses, read by this program."""
    from action_clip.video.reader import read_clip

    return read_clip(path, rule, threads=threads).frames


def keyframes(path: Path, rule: Sampler, threads: int) -> NDArray[np.uint8]:
    """Return the keyframes nearest to the frames that the rule chooses, read by this program."""
    return exact_frames(path, Keyframes(rule), threads)


def torchcodec(path: Path, rule: Sampler, threads: int) -> NDArray[np.uint8]:
    """Return the frames that the rule chooses, read by torchcodec."""
    try:
        decoders = import_module("torchcodec.decoders")
    except (OSError, RuntimeError) as error:  # torchcodec finds no FFmpeg, or another PyTorch
        raise ImportError(f"torchcodec cannot be loaded: {error}") from error

    decoder = decoders.VideoDecoder(path, seek_mode="exact", num_ffmpeg_threads=threads, dimension_order="NHWC")
    return cast(NDArray[np.uint8], decoder.get_frames_at(rule(len(decoder))).data.numpy())


def decord(path: Path, rule: Sampler, threads: int) -> NDArray[np.uint8]:
    """Return the frames that the rule chooses, read by decord."""
    reader = import_module("decord").VideoReader(str(path), num_threads=threads)
    return cast(NDArray[np.uint8], reader.get_batch(rule(len(reader))).asnumpy())
