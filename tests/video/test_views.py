"""Several views: which frames and which pixels they have, against a plain reading of the official code.

The references below are what these say of it (github sallymmx/ActionCLIP):

* datasets/datasets.py, `_get_val_indices`: the frames for `num_segments` segments of a video;
* test.py, `validate`: each run of T frames that the dataset returns is a clip;
* datasets/transforms_ss.py, `GroupScale`: the short side is resized to 256, bicubically; `fill_fc_fix_offset`: three
  crops, half of the space that is left apart, in whole pixels; `GroupFCSample`: all frames of the first crop first.
"""

from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from make_videos import Picture, numbered, numbers_in, write_video
from numpy.typing import NDArray
from PIL import Image

import action_clip.video.source
from action_clip.errors import ActionClipError
from action_clip.video.inputs import read_frames
from action_clip.video.preprocess import clip_tensor, reduced
from action_clip.video.reader import VideoReader, read_clip
from action_clip.video.sampling import make_sampler
from action_clip.video.views import MOST_CLIPS, Views, parse_views

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SIZES = [
    (1920, 1080),
    (1080, 1920),  # portrait
    (640, 640),  # square
    (641, 361),
    (361, 640),
    (320, 240),
    (256, 256),  # nothing to resize
    (455, 256),  # 231 pixels are left: an odd number
    (257, 399),
    (256, 257),
    (100, 60),  # tiny: enlarged
    (33, 17),
    (1000, 40),
    (37, 900),
]


def dataset_frames(total: int, segments: int) -> list[int]:
    """The official dataset's frames, from 0."""
    if total <= segments:
        return [i * total // segments for i in range(segments)]
    offset = (total / segments - 1) / 2.0
    return [int(i * total / segments + offset) for i in range(segments)]


def official_crops(frame: Picture, size: int, resize: int) -> list[Picture]:
    """The three crops of the whole resized picture, (size, size, 3)."""
    height, width, _ = frame.shape
    scaled = (resize, int(resize * height / width)) if width <= height else (int(resize * width / height), resize)
    picture = Image.fromarray(frame).resize(scaled, Image.Resampling.BICUBIC)
    crops = []
    for place in range(3):
        left, top = round((scaled[0] - size) / 2), round((scaled[1] - size) / 2)
        if scaled[0] >= scaled[1]:
            left = place * ((scaled[0] - size) // 2)
        else:
            top = place * ((scaled[1] - size) // 2)
        crops.append(np.asarray(picture.crop((left, top, left + size, top + size))))
    return crops


def normalised(pixels: Picture) -> NDArray[np.float32]:
    levels = np.asarray(pixels, np.float32) / np.float32(255)
    scaled = (levels - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return np.asarray(scaled.transpose(2, 0, 1), np.float32)


def textured(width: int, height: int, seed: int) -> Picture:
    generator = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3), np.float64)
    for cells in (3, 17, 90):
        noise = generator.integers(0, 256, (min(cells, height), min(cells, width), 3), np.uint8)
        picture += np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.NEAREST)) / 3
    return picture.astype(np.uint8)


@pytest.mark.parametrize("frames", [8, 16, 32])
@pytest.mark.parametrize("clips", [1, 2, 10])
def test_frames_are_those_of_the_official_dataset(frames: int, clips: int) -> None:
    sampler = make_sampler("uniform", clips * frames, 0)
    for total in [*range(1, 400), 997, 7200, 123457]:
        assert sampler(total) == dataset_frames(total, clips * frames)


@pytest.mark.parametrize("frames", [8, 16, 32])
@pytest.mark.parametrize("uniform", ["segments", "midpoints", "linspace"])
def test_each_clip_has_its_frames_from_a_stretch_of_its_own(frames: int, uniform: str) -> None:
    sampler = make_sampler("uniform", 10 * frames, 0, uniform)
    for total in (10 * frames, 10 * frames + 7, 1000, 12345):
        clips = np.array(sampler(total)).reshape(10, frames)
        for number, clip in enumerate(clips):
            assert total * number / 10 - 1 <= clip.min() <= clip.max() <= total * (number + 1) / 10
            assert len(set(clip.tolist())) == frames


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_crops_are_those_of_the_whole_resized_picture(width: int, height: int) -> None:
    frames = np.stack([textured(width, height, seed) for seed in range(2)])
    small = np.stack([reduced(frame, 256) for frame in frames])
    expected = [[normalised(pixels) for pixels in official_crops(frame, 224, 256)] for frame in frames]
    for given, place in product((frames, small), range(3)):
        tensor = clip_tensor(given, 224, MEAN, STD, crop=place)
        assert np.array_equal(tensor, np.stack([crops[place] for crops in expected]))
    assert np.array_equal(clip_tensor(small, 224, MEAN, STD), clip_tensor(frames, 224, MEAN, STD))


def test_crops_of_other_sizes() -> None:
    frame = textured(300, 200, 1)
    for size, resize in ((224, 224), (336, 384), (1, 256), (17, 18), (32, 40)):
        for place, pixels in enumerate(official_crops(frame, size, resize)):
            assert np.array_equal(clip_tensor(frame[None], size, MEAN, STD, resize, crop=place)[0], normalised(pixels))


@pytest.mark.slow
def test_crops_of_hundreds_of_sizes() -> None:
    generator = np.random.default_rng(5)
    for side in generator.integers(8, 420, 120).tolist():
        pair = (side, int(side * generator.uniform(1, 3)))
        for size in (pair, pair[::-1]):
            frame = generator.integers(0, 256, (size[1], size[0], 3), np.uint8)
            for place, pixels in enumerate(official_crops(frame, 56, 64)):
                for given in (frame, reduced(frame, 64)):
                    tensor = clip_tensor(given[None], 56, MEAN, STD, 64, crop=place)
                    assert np.array_equal(tensor[0], normalised(pixels)), (size, place)


def test_the_places_of_crops_by_hand() -> None:
    frame = np.zeros((256, 455, 3), np.uint8)
    frame[..., 0] = np.arange(455) // 2
    frame[..., 1] = np.arange(256)[:, None]
    for place, left in enumerate((0, 115, 230)):  # 231 pixels are left
        red, green, _ = clip_tensor(frame[None], 224, (0, 0, 0), (1, 1, 1), crop=place)[0] * 255
        assert np.allclose(red, np.arange(left, left + 224) // 2, atol=1e-3)
        assert np.allclose(green, np.arange(16, 240)[:, None], atol=1e-3)
    upright = frame.swapaxes(0, 1).copy()
    for place, top in enumerate((0, 115, 230)):
        red, _, _ = clip_tensor(upright[None], 224, (0, 0, 0), (1, 1, 1), crop=place)[0] * 255
        assert np.allclose(red, np.arange(top, top + 224)[:, None] // 2, atol=1e-3)


def test_there_are_three_crops() -> None:
    for crop in (-1, 3):
        with pytest.raises(ActionClipError, match=f"^the crop is {crop}: give 0, 1 or 2"):
            clip_tensor(np.zeros((1, 10, 10, 3), np.uint8), 224, MEAN, STD, crop=crop)


@pytest.mark.parametrize(
    ("text", "views"),
    [("1x1", (1, 1)), ("10x3", (10, 3)), ("10x1", (10, 1)), ("1x3", (1, 3)), (f"{MOST_CLIPS}x3", (MOST_CLIPS, 3))],
)
def test_views(text: str, views: tuple[int, int]) -> None:
    assert parse_views(text) == Views(*views)
    assert str(parse_views(text)) == text
    assert parse_views(text).total == views[0] * views[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0x3", "views is '0x3', of 0 clips: give from 1 to 50"),
        ("51x1", "views is '51x1', of 51 clips: give from 1 to 50"),
        ("10x2", "views is '10x2', of 2 crops: give 1, the centre of frames, or 3, along their longer side"),
        ("10x0", "views is '10x0', of 0 crops"),
        *(
            (text, f'views is {text!r}: give the number of clips, an x and the number of crops, as "10x3"')
            for text in (
                "10x",
                "x3",
                "10",
                "",
                "10x3x1",
                "-1x3",
                "1.5x3",
                "10 x 3",
                "10x3\n",
                "٣x3",
                "9999999x1",
                10,
                None,
            )
        ),
    ],
)
def test_what_names_no_views(text: Any, message: str) -> None:
    with pytest.raises(ActionClipError) as error:
        parse_views(text)
    assert str(error.value).startswith(message)


PICTURES = [textured(320, 240, seed) for seed in range(12)]
CHOSEN = [0, 3, 3, 7, 11]


def as_video(path: Path) -> Path:
    return write_video(path / "clip.mkv", PICTURES, "mpeg4", options={"qscale": "2"})


def as_stream(path: Path) -> Path:
    """A video without timestamps, which is decoded from its start."""
    return write_video(path / "clip.h264", PICTURES)


def as_animation(path: Path) -> Path:
    first, *rest = map(Image.fromarray, PICTURES)
    first.save(path / "clip.webp", save_all=True, append_images=rest, duration=100, lossless=True)
    return path / "clip.webp"


@pytest.mark.parametrize("make", [as_video, as_stream, as_animation])
@pytest.mark.parametrize("threads", [1, 2])
def test_frames_of_a_file_are_shrunk_as_they_are_decoded(
    tmp_path: Path, make: Callable[[Path], Path], threads: int
) -> None:
    path = make(tmp_path)
    whole = read_clip(path, lambda _: CHOSEN, threads=threads)
    small = read_clip(path, lambda _: CHOSEN, threads=threads, shrink=partial(reduced, resize=96))
    assert small.frames.shape == (5, 96, 128, 3)
    np.testing.assert_array_equal(small.frames, [reduced(frame, 96) for frame in whole.frames])
    assert (small.indices, small.times_s) == (whole.indices, whole.times_s)


def test_keyframes_are_shrunk(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", PICTURES, "mpeg4", options={"g": "4", "qscale": "2"})
    with VideoReader(path) as video:
        sampler = make_sampler("keyframes", 3, 0)
        whole, small = video.clip(sampler), video.clip(sampler, partial(reduced, resize=96))
    np.testing.assert_array_equal(small.frames, [reduced(frame, 96) for frame in whole.frames])


def test_frames_of_everything_else_are_shrunk(tmp_path: Path) -> None:
    shrink = partial(reduced, resize=96)
    expected = [reduced(PICTURES[index], 96) for index in CHOSEN]
    for video in (np.stack(PICTURES), PICTURES, iter(PICTURES), (picture for picture in PICTURES)):
        clip = read_frames(video, lambda _: CHOSEN, shrink=shrink)
        np.testing.assert_array_equal(clip.frames, expected)
    path = as_video(tmp_path)
    with av.open(str(path)) as container:
        clip = read_frames(container, lambda _: CHOSEN, shrink=shrink)
    np.testing.assert_array_equal(clip.frames, read_clip(path, lambda _: CHOSEN, shrink=shrink).frames)


def test_each_frame_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The frames of ten clips lie behind one keyframe."""
    pictures = [numbered(number) for number in range(100)]
    path = write_video(tmp_path / "clip.mp4", pictures, "mpeg4", options={"g": "1000"})
    packets = []
    decode = action_clip.video.source.Video.decode

    def noting(self: action_clip.video.source.Video, packet: Any) -> Any:
        packets.append(packet)
        return decode(self, packet)

    monkeypatch.setattr(action_clip.video.source.Video, "decode", noting)
    sampler = make_sampler("uniform", 40, 0)
    clip = read_clip(path, sampler, threads=1, shrink=partial(reduced, resize=96))
    assert numbers_in(clip.frames) == sampler(100)
    assert len(packets) <= 101


def test_what_is_held_of_frames_is_limited_after_they_are_shrunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of frames that are too large together, many more may be looked at where each becomes smaller."""
    path = as_video(tmp_path)
    monkeypatch.setenv("ACTION_CLIP_MAX_PIXELS", str(320 * 240))
    many = [index % 12 for index in range(64)]
    with pytest.raises(ActionClipError, match="64 frames of 320 × 240 are too many at once"):
        read_clip(path, lambda _: many)
    assert len(read_clip(path, lambda _: many, shrink=partial(reduced, resize=96)).frames) == 64
