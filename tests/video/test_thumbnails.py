"""Thumbnails: small together, the same pictures, and untouched where they are small."""

from pathlib import Path

import numpy as np
import pytest
from make_videos import number_in, numbered, write_video
from numpy.typing import NDArray
from PIL import Image

from action_clip import ActionClipError
from action_clip.video.thumbnails import MOST_BYTES, keyframe_thumbnail, thumbnail, thumbnails


def smooth(count: int, height: int, width: int) -> NDArray[np.uint8]:
    """A few soft blobs, enlarged."""
    blobs = np.random.default_rng(0).integers(0, 256, (count, 6, 8, 3), np.uint8)
    enlarged = [Image.fromarray(blob).resize((width, height), Image.Resampling.BICUBIC) for blob in blobs]
    return np.stack([np.asarray(picture) for picture in enlarged])


@pytest.mark.parametrize("shape", [(8, 1080, 1920), (8, 1920, 1080), (16, 720, 1280), (2, 2160, 3840), (1, 3000, 3000)])
@pytest.mark.parametrize("threads", [1, 3])
def test_frames_become_small_and_stay_the_same_pictures(shape: tuple[int, int, int], threads: int) -> None:
    frames = smooth(*shape)
    small = thumbnails(frames, threads)
    count, height, width, _ = small.shape
    assert count == shape[0]
    assert 0.98 * MOST_BYTES < small.nbytes <= MOST_BYTES
    assert abs(width / height - shape[2] / shape[1]) < 0.01 * shape[2] / shape[1]
    for frame, reduced in zip(frames, small, strict=True):
        expected = Image.fromarray(frame).resize((width, height), Image.Resampling.BOX)
        assert np.abs(reduced.astype(int) - np.asarray(expected, int)).max() <= 3


def test_small_frames_stay_as_they_are() -> None:
    frames = smooth(8, 360, 480)
    assert thumbnails(frames) is frames


@pytest.mark.parametrize(("height", "width"), [(20, 20_000), (20_000, 20), (1080, 1920)])
def test_a_picture_stays_one_picture_in_memory(height: int, width: int) -> None:
    small = thumbnails(np.broadcast_to(smooth(1, height, width), (8, height, width, 3)))
    assert small.shape[0] == 8
    assert small.strides[0] == 0
    assert small.nbytes <= MOST_BYTES


def test_a_single_thumbnail_has_the_whole_frame_in_its_shape() -> None:
    for height, width, small in (
        (960, 1600, (96, 160)),
        (400, 100, (160, 40)),
        (3, 5000, (1, 160)),
        (90, 60, (90, 60)),
    ):
        frame = np.zeros((height, width, 3), np.uint8)
        frame[:, width // 2 :] = 200
        found = thumbnail(frame)
        assert found.shape == (*small, 3)
        assert found[:, : small[1] // 2 - 1].max() == 0
        assert found[:, small[1] // 2 + 1 :].min() == 200


def test_a_keyframe_thumbnail_is_the_keyframe_nearest_to_the_middle(tmp_path: Path) -> None:
    options = {"g": "30", "sc_threshold": "0"}
    video = write_video(tmp_path / "a.mp4", [numbered(number, 640, 384) for number in range(100)], options=options)
    found = keyframe_thumbnail(video)
    assert (found.shape, number_in(found)) == ((96, 160, 3), 60)  # of 0, 30, 60 and 90
    (tmp_path / "b.mp4").write_text("not a video")
    with pytest.raises(ActionClipError, match=r"b\.mp4 cannot be read"):
        keyframe_thumbnail(tmp_path / "b.mp4")
