"""Preprocessing against the plain chain of the official code, on real decoded frames."""

from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
from make_videos import Picture, write_video
from numpy.typing import NDArray
from PIL import Image

from action_clip.errors import ActionClipError
from action_clip.video.preprocess import clip_tensor
from action_clip.video.reader import read_clip

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def plain_chain(frame: Picture, size: int, resize: int) -> NDArray[np.float32]:
    """Resize the whole picture, crop, scale, normalise: step by step, with nothing saved."""
    height, width, _ = frame.shape
    resized = (resize, int(resize * height / width)) if width < height else (int(resize * width / height), resize)
    picture = Image.fromarray(frame).resize(resized, Image.Resampling.BICUBIC)
    left, top = round((resized[0] - size) / 2), round((resized[1] - size) / 2)
    levels = np.asarray(picture.crop((left, top, left + size, top + size)), np.float32) / np.float32(255)
    normalised = (levels - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return np.asarray(normalised.transpose(2, 0, 1), np.float32)


def textured(width: int, height: int, seed: int) -> Picture:
    """Return a picture with edges, gradients and noise of every size."""
    generator = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3), np.float64)
    for cells in (2, 7, 31, 120):
        noise = generator.integers(0, 256, (min(cells, height), min(cells, width), 3), np.uint8)
        picture += np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.NEAREST)) / 4
    return picture.astype(np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("width", "height"),
    [
        (1920, 1080),
        (1080, 1920),  # portrait
        (320, 240),
        (641, 361),  # odd
        (256, 256),  # nothing to resize
        (257, 399),
        (100, 60),  # tiny: enlarged
        (33, 17),
        (1000, 40),  # extreme
        (37, 900),
        (3840, 400),
    ],
)
def test_equals_the_plain_chain_on_decoded_frames(tmp_path: Path, width: int, height: int) -> None:
    pictures = [textured(width, height, seed) for seed in range(2)]
    path = write_video(tmp_path / "clip.mkv", pictures, "mjpeg", pix_fmt="yuvj444p", options={"qscale": "3"})
    frames = read_clip(path, lambda total: list(range(total))).frames
    assert frames.shape == (2, height, width, 3)
    tensor = clip_tensor(frames, 224, MEAN, STD)
    assert tensor.shape == (2, 3, 224, 224)
    assert tensor.dtype == np.float32
    expected = np.stack([plain_chain(frame, 224, 256) for frame in frames])
    assert np.array_equal(tensor, expected)


def test_other_sizes_and_another_short_side() -> None:
    frames = textured(300, 200, 1)[None]
    for size, resize in ((224, 224), (336, 384), (1, 256), (17, 18)):
        tensor = clip_tensor(frames, size, MEAN, STD, resize)
        expected = plain_chain(frames[0], size, resize)
        assert np.array_equal(tensor[0], expected)


@pytest.mark.slow
def test_hundreds_of_sizes() -> None:
    """Pillow decides by the size which of its two passes comes first."""
    generator = np.random.default_rng(4)
    wide = generator.integers(8, 420, 150)
    sizes = [(272, 640), (381, 828), *((side, int(side * generator.uniform(1, 3))) for side in wide)]
    crops = cycle([(224, 256), (224, 256), (224, 256), (56, 64)])
    for size, (crop, resize) in zip((size for pair in sizes for size in (pair, pair[::-1])), crops, strict=False):
        frame = generator.integers(0, 256, (size[1], size[0], 3), np.uint8)
        tensor = clip_tensor(frame[None], crop, MEAN, STD, resize)
        assert np.array_equal(tensor[0], plain_chain(frame, crop, resize)), (size, resize)


def test_several_threads_change_nothing() -> None:
    frames = np.stack([textured(300, 200, seed) for seed in range(5)])
    assert np.array_equal(clip_tensor(frames, 224, MEAN, STD, threads=3), clip_tensor(frames, 224, MEAN, STD))


def test_values_by_hand() -> None:
    frames = np.zeros((1, 256, 256, 3), np.uint8)
    frames[..., 0], frames[..., 2] = 255, 51
    tensor = clip_tensor(frames, 224, (0.5, 0.25, 0.0), (0.5, 0.125, 0.1))
    assert np.allclose(tensor[0, 0], 1.0, atol=1e-6)
    assert np.allclose(tensor[0, 1], -2.0, atol=1e-6)
    assert np.allclose(tensor[0, 2], 2.0, atol=1e-6)


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((0, 10, 10, 3), np.uint8),
        np.zeros((10, 10, 3), np.uint8),
        np.zeros((1, 10, 10, 4), np.uint8),
        np.zeros((1, 3, 10, 10), np.uint8),
        np.zeros((1, 0, 10, 3), np.uint8),
        np.zeros((1, 10, 10, 3), np.float32),
    ],
)
def test_other_arrays_are_refused(frames: NDArray[np.uint8]) -> None:
    with pytest.raises(ActionClipError, match=r"^frames are .*give one or more as \(T, H, W, 3\) RGB"):
        clip_tensor(frames, 224, MEAN, STD)


def test_pictures_that_are_lines_are_refused() -> None:
    clip_tensor(np.zeros((1, 3, 2999, 3), np.uint8), 224, MEAN, STD)
    for shape in ((1, 3, 3001, 3), (1, 3001, 3, 3)):
        with pytest.raises(ActionClipError, match=r"^frames of \d+ × \d+ pixels are too narrow; cut them"):
            clip_tensor(np.zeros(shape, np.uint8), 224, MEAN, STD)


def test_a_crop_larger_than_the_picture_is_refused() -> None:
    with pytest.raises(ActionClipError, match="crop of 300 pixels does not fit a short side of 256"):
        clip_tensor(np.zeros((1, 10, 10, 3), np.uint8), 300, MEAN, STD)
