"""Every kind of video gives the frames that its path gives, and what is none is refused in words of its own."""

import io
import re
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import av
import cv2
import numpy as np
import pytest
from make_videos import (
    break_packets,
    moving,
    numbered,
    numbers_in,
    with_edits,
    write_audio,
    write_numbered,
    write_video,
)
from numpy.typing import NDArray
from PIL import Image, ImageSequence

import action_clip.video.inputs
from action_clip.errors import ActionClipError
from action_clip.video.inputs import read_frames
from action_clip.video.reader import Clip, read_clip
from action_clip.video.sampling import make_sampler

UNIFORM = make_sampler("uniform", 8, 0)
COUNT = 40
CHOSEN = [2, 7, 12, 17, 22, 27, 32, 37]
Images = NDArray[np.uint8]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second and a half of numbered frames with B-frames."""
    return write_numbered(tmp_path_factory.mktemp("inputs") / "clip.mp4", COUNT, options={"bf": "2"})


@pytest.fixture(scope="module")
def expected(clip: Path) -> Clip:
    return read_clip(clip, UNIFORM)


@pytest.fixture(scope="module")
def images(clip: Path) -> Images:
    """All frames of the clip."""
    return read_clip(clip, lambda total: list(range(total))).frames


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of 40 frames of which the first 20 are shown, which its count does not say."""
    folder = tmp_path_factory.mktemp("cut")
    return with_edits(write_numbered(folder / "whole.mp4", COUNT), folder / "cut.mp4", [(20, 0)])


class Numbers:
    """An iterable, but no iterator, that may be wrong about its length."""

    def __init__(self, images: Images, length: int) -> None:
        self._images, self._length = images, length

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Images]:
        return iter(list(self._images))


class Lazy:
    """A sequence that notes which of its images are asked for."""

    def __init__(self, images: Images) -> None:
        self._images = images
        self.asked: list[int] = []

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Images:
        self.asked.append(index)
        image: Images = self._images[index]
        return image


def in_one_buffer(images: Images) -> Iterator[Images]:
    """Each image in the same array, as decoders give them that are given one to write to."""
    buffer = np.empty_like(images[0])
    for image in images:
        buffer[:] = image
        yield buffer


def error_of(video: Any, **options: Any) -> str:
    with pytest.raises(ActionClipError) as caught:
        read_frames(video, UNIFORM, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    "form",
    [
        np.asarray,
        np.asfortranarray,
        list,
        tuple,
        deque,
        iter,
        lambda images: iter(list(images)),
        lambda images: (image for image in images),
        lambda images: map(np.copy, images),
        in_one_buffer,
        Lazy,
        lambda images: Numbers(images, COUNT),
        lambda images: Numbers(images, 3 * COUNT),
        lambda images: Numbers(images, 0),
        lambda images: [image.tolist() if index not in CHOSEN else image for index, image in enumerate(images)],
        lambda images: [Image.fromarray(image) for image in images],
        lambda images: (Image.fromarray(image) for image in images),
        lambda images: [Image.fromarray(image) if index % 2 else image for index, image in enumerate(images)],
        lambda images: np.array([Image.fromarray(image) for image in images] + [None], object)[:-1],
    ],
    ids=[
        "array",
        "Fortran array",
        "list",
        "tuple",
        "deque",
        "array iterator",
        "list iterator",
        "generator",
        "map",
        "one buffer",
        "lazy sequence",
        "iterable",
        "iterable that claims more",
        "iterable that claims nothing",
        "list with nested lists",
        "PIL images",
        "generator of PIL images",
        "PIL images and arrays",
        "array of objects",
    ],
)
def test_images_in_every_form(form: Callable[[Images], Any], images: Images, expected: Clip) -> None:
    found = read_frames(form(images), UNIFORM)
    np.testing.assert_array_equal(found.frames, expected.frames)
    assert found.indices == expected.indices == tuple(CHOSEN)
    assert (found.total_frames, found.times_s, found.duration_s) == (COUNT, (), 0.0)


@pytest.mark.parametrize("form", [np.asarray, list, lambda images: (image for image in images)])
def test_bgr_arrays(form: Callable[[Images], Any], images: Images, expected: Clip) -> None:
    bgr = np.ascontiguousarray(images[..., ::-1])
    np.testing.assert_array_equal(read_frames(form(bgr), UNIFORM, channels="bgr").frames, expected.frames)


def test_what_says_itself_how_its_colours_are_arranged_is_believed(clip: Path) -> None:
    colours = np.zeros((8, 16, 16, 3), np.uint8)
    colours[..., 0] = 255
    pictures = [Image.fromarray(image) for image in colours]
    np.testing.assert_array_equal(read_frames(pictures, UNIFORM, channels="bgr").frames, colours)
    assert numbers_in(read_frames(clip, UNIFORM, channels="bgr").frames) == CHOSEN
    np.testing.assert_array_equal(read_frames(clip, UNIFORM, channels="bgr").frames, read_frames(clip, UNIFORM).frames)


def test_a_path_is_read_as_a_path(clip: Path, expected: Clip) -> None:
    for path in (clip, str(clip)):
        found = read_frames(path, UNIFORM, threads=1)
        np.testing.assert_array_equal(found.frames, expected.frames)
        assert (found.indices, found.times_s) == (expected.indices, expected.times_s)


def test_of_sequences_only_the_chosen_images_are_looked_at(images: Images, expected: Clip) -> None:
    lazy = Lazy(images)
    read_frames(cast(Any, lazy), UNIFORM)
    assert lazy.asked == CHOSEN
    others: list[Any] = [image if index in CHOSEN else "no image" for index, image in enumerate(images)]
    np.testing.assert_array_equal(read_frames(others, UNIFORM).frames, expected.frames)
    np.testing.assert_array_equal(read_frames(iter(others), UNIFORM).frames, expected.frames)


def test_fewer_images_than_are_chosen_are_repeated(images: Images) -> None:
    for few in (images[:3], list(images[:3]), (image for image in images[:3])):
        found = read_frames(few, UNIFORM)
        assert found.indices == (0, 0, 0, 1, 1, 1, 2, 2)
        np.testing.assert_array_equal(found.frames, images[[0, 0, 0, 1, 1, 1, 2, 2]])


def test_arrays_are_not_changed_and_not_kept(images: Images) -> None:
    own = images.copy()
    found = read_frames(own, UNIFORM)
    own[:] = 0
    np.testing.assert_array_equal(found.frames, images[CHOSEN])


def test_keyframes_of_images_are_the_frames_of_the_rule(images: Images) -> None:
    found = read_frames(images, make_sampler("keyframes", 8, 0))
    assert found.indices == tuple(CHOSEN)


def test_a_memory_mapped_array(images: Images, expected: Clip, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    np.testing.assert_array_equal(read_frames(mapped, UNIFORM).frames, expected.frames)


def test_an_iterator_of_unknown_length_is_kept_up_to_a_limit(images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(action_clip.video.inputs, "MOST_BYTES", 8 * images[0].nbytes)
    assert read_frames((image for image in images[:8]), UNIFORM).total_frames == 8
    assert read_frames(iter(list(images)), UNIFORM).total_frames == COUNT  # list iterators know it

    def endless() -> Iterator[Images]:
        while True:
            yield images[0]

    assert error_of(endless()) == (
        "the iterable of images does not say how many frames are left, and 0.0 GiB of them, 9 of 160 × 96, have come: "
        "give a list, or fewer frames"
    )


def test_an_iterator_that_is_wrong_about_its_length(images: Images) -> None:
    class Wrong:
        def __init__(self) -> None:
            self._images = iter(images)

        def __iter__(self) -> "Wrong":
            return self

        def __next__(self) -> Images:
            image: Images = next(self._images)
            return image

        def __length_hint__(self) -> int:
            return 100

    assert error_of(Wrong()) == (
        "the iterable of images says that there are 100 frames, another number came, and it cannot be read a second "
        "time: give a list"
    )


def test_an_iterable_that_changes(images: Images) -> None:
    class Changing(Numbers):
        def __iter__(self) -> Iterator[Images]:
            self._images = self._images[:-1]
            return super().__iter__()

    assert error_of(Changing(images, 100)) == (
        "the iterable of images says that there are 100 frames, another number came, and it cannot be read a second "
        "time: give a list"
    )


def test_what_an_iterator_raises_is_not_hidden(images: Images) -> None:
    def broken() -> Iterator[Images]:
        yield images[0]
        raise TypeError("the decoder's own")

    with pytest.raises(TypeError, match="the decoder's own"):
        read_frames(broken(), UNIFORM)


def test_an_animation_opened_by_pillow(tmp_path: Path) -> None:
    pictures = [Image.fromarray(numbered(number)) for number in range(20)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=50)
    with Image.open(tmp_path / "a.gif") as animation:
        found = read_frames(ImageSequence.Iterator(animation), UNIFORM)
    assert numbers_in(found.frames) == list(found.indices) == list(read_clip(tmp_path / "a.gif", UNIFORM).indices)


def test_a_capture_gives_the_frames_of_its_path(clip: Path, expected: Clip) -> None:
    capture = cv2.VideoCapture(str(clip))
    for channels in ("rgb", "bgr"):  # it is BGR whatever is said
        found = read_frames(capture, UNIFORM, channels=channels)
        assert found.indices == expected.indices
        np.testing.assert_allclose(found.frames.astype(int), expected.frames.astype(int), atol=3)
        np.testing.assert_allclose(found.times_s, expected.times_s, atol=1e-6)
        assert found.duration_s == pytest.approx(expected.duration_s)
        assert capture.isOpened()  # it stays the caller's
        capture.set(cv2.CAP_PROP_POS_FRAMES, 0)


def test_the_colours_of_a_capture_are_turned_round(tmp_path: Path) -> None:
    red = np.broadcast_to(np.array([220, 30, 30], np.uint8), (96, 160, 3))
    path = write_video(tmp_path / "red.mp4", [np.ascontiguousarray(red)] * 9)
    found = read_frames(cv2.VideoCapture(str(path)), UNIFORM)
    np.testing.assert_allclose(found.frames.mean(axis=(0, 1, 2)), [220, 30, 30], atol=6)


def test_a_capture_is_read_from_where_it_stands(clip: Path) -> None:
    capture = cv2.VideoCapture(str(clip))
    for _ in range(20):
        assert capture.read()[0]
    found = read_frames(capture, UNIFORM)
    assert (found.total_frames, found.indices) == (20, tuple(UNIFORM(20)))
    assert numbers_in(found.frames) == [20 + index for index in UNIFORM(20)]
    np.testing.assert_allclose(found.times_s, [index / 25 for index in UNIFORM(20)], atol=1e-6)
    assert not capture.read()[0]
    assert error_of(capture) == (
        "the capture has no frame left: go back, set(cv2.CAP_PROP_POS_FRAMES, 0), or open it again"
    )


@pytest.mark.parametrize("skipped", [0, 5])
@pytest.mark.parametrize("kind", ["capture", "container"])
def test_a_count_that_is_wrong_is_corrected(cut: Path, kind: str, skipped: int) -> None:
    left = 20 - skipped
    if kind == "capture":
        capture = cv2.VideoCapture(str(cut))
        assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == COUNT
        for _ in range(skipped):
            capture.grab()
        found = read_frames(capture, UNIFORM)
    else:
        with av.open(str(cut)) as container:
            assert container.streams.video[0].frames == COUNT
            frames = container.decode(video=0)
            for _ in range(skipped):
                next(frames)
            found = read_frames(container, UNIFORM)
    assert (found.total_frames, found.indices) == (left, tuple(UNIFORM(left)))
    assert numbers_in(found.frames) == [skipped + index for index in UNIFORM(left)]


def test_a_capture_without_a_count_is_taken_for_a_camera(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "raw.h264", 9)
    assert error_of(cv2.VideoCapture(str(path))) == (
        "the capture does not say how many frames it has, as those of cameras and live streams do not: read as many as "
        'are meant, and give them as a list with channels="bgr"; of a file, give the path'
    )


def test_a_capture_that_is_not_open(tmp_path: Path, clip: Path) -> None:
    released = cv2.VideoCapture(str(clip))
    released.release()
    for capture in (cv2.VideoCapture(), cv2.VideoCapture(str(tmp_path / "absent.mp4")), released):
        assert error_of(capture) == (
            "the capture is not open: check the file or the camera that it was made with, or give the file's path"
        )


def test_the_chosen_frames_of_a_stream_are_bounded(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACTION_CLIP_MAX_PIXELS", "2000")
    assert error_of(cv2.VideoCapture(str(clip))) == (
        "3 frames of 160 × 96 are too many at once; look at fewer, make them smaller, or set ACTION_CLIP_MAX_PIXELS "
        "higher"
    )


@pytest.mark.parametrize("codec", ["libx264", "libvpx-vp9", "mpeg4"])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
def test_a_container_gives_the_frames_of_its_path(tmp_path: Path, codec: str, name: str) -> None:
    if (codec, name) == ("libvpx-vp9", "a.avi"):
        codec = "mjpeg"
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = write_video(tmp_path / name, moving(30), codec, pix_fmt=pix_fmt)
    expected = read_clip(path, UNIFORM)
    with av.open(str(path), "r") as container:
        found = read_frames(container, UNIFORM)
        container.seek(0)  # it stays open
        assert next(container.decode(video=0)).width == 160
    np.testing.assert_array_equal(found.frames, expected.frames)
    assert (found.indices, found.total_frames) == (expected.indices, expected.total_frames)
    np.testing.assert_allclose(found.times_s, expected.times_s, atol=1e-9)
    assert found.duration_s == pytest.approx(expected.duration_s, abs=0.002)


def test_a_container_of_a_turned_video_and_its_frames(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", moving(20), rotation=90)
    expected = read_clip(path, UNIFORM)
    assert expected.frames.shape == (8, 160, 96, 3)
    with av.open(str(path)) as container:
        np.testing.assert_array_equal(read_frames(container, UNIFORM).frames, expected.frames)
    with av.open(str(path)) as container:
        np.testing.assert_array_equal(read_frames(container.decode(video=0), UNIFORM).frames, expected.frames)
    turned = read_frames(cv2.VideoCapture(str(path)), UNIFORM)
    np.testing.assert_allclose(turned.frames.astype(int), expected.frames.astype(int), atol=3)


def test_a_container_of_variable_rate_has_its_times(tmp_path: Path) -> None:
    times = [0, 40, 80, 500, 540, 1000, 1040, 1080, 2000]
    path = write_video(tmp_path / "a.mkv", moving(9), times=times)
    expected = read_clip(path, UNIFORM)
    with av.open(str(path)) as container:
        found = read_frames(container, UNIFORM)
    assert found.times_s == pytest.approx(expected.times_s)
    assert found.times_s == pytest.approx([times[index] / 1000 for index in UNIFORM(9)])
    assert read_frames(cv2.VideoCapture(str(path)), UNIFORM).times_s == pytest.approx(expected.times_s)


@pytest.mark.parametrize("skipped", [1, 13])
def test_a_container_is_read_from_where_it_stands(clip: Path, skipped: int) -> None:
    with av.open(str(clip)) as container:
        frames = container.decode(video=0)
        for _ in range(skipped):
            next(frames)
        found = read_frames(container, UNIFORM)
        again = error_of(container)
    left = COUNT - skipped
    assert (found.total_frames, found.indices) == (left, tuple(UNIFORM(left)))
    assert numbers_in(found.frames) == [skipped + index for index in UNIFORM(left)]
    assert again == "the container has no video frame left: go back, seek(0), or open it again"


def test_a_container_in_memory_and_one_without_a_count(tmp_path: Path, clip: Path, expected: Clip) -> None:
    with av.open(io.BytesIO(clip.read_bytes()), "r") as container:
        np.testing.assert_array_equal(read_frames(container, UNIFORM).frames, expected.frames)
    raw = write_numbered(tmp_path / "raw.h264", 20)
    with av.open(str(raw)) as container:
        assert (container.duration, container.streams.video[0].frames) == (None, 0)
        found = read_frames(container, UNIFORM)
    assert found.indices == tuple(UNIFORM(20))
    assert numbers_in(found.frames) == UNIFORM(20)


class Pipe(io.RawIOBase):
    """A file that can only be read on."""

    def __init__(self, content: bytes) -> None:
        self._file = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)


@pytest.mark.parametrize("skipped", [0, 50])
def test_a_container_that_cannot_go_back_need_not_when_its_count_is_right(tmp_path: Path, skipped: int) -> None:
    faststart = {"movflags": "faststart"}
    # Larger than what FFmpeg has in its memory.
    path = write_video(tmp_path / "a.mp4", moving(120), options={"crf": "4"}, container_options=faststart)
    indices = [skipped + index for index in UNIFORM(120 - skipped)]
    with av.open(Pipe(path.read_bytes()), "r") as container:
        frames = container.decode(video=0)
        for _ in range(skipped):
            next(frames)
        found = read_frames(container, UNIFORM)
    np.testing.assert_array_equal(found.frames, read_clip(path, lambda _: indices).frames)


def test_a_container_that_cannot_go_back_and_has_a_wrong_count(tmp_path: Path) -> None:
    times = [*range(0, 4760, 40), 7960]
    late = write_video(tmp_path / "a.mkv", moving(120), times=times, options={"crf": "4"})
    with av.open(Pipe(late.read_bytes()), "r") as container:
        assert error_of(container) == (
            "the container says that there are 200 frames, another number came, and it cannot be read a second time: "
            "give the file's path"
        )


def test_a_damaged_container(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_video(tmp_path / "a.mp4", moving(30), options={"bf": "0", "g": "5"})
    break_packets(path, [12])
    with av.open(str(path)) as container:
        assert error_of(container) == (
            "the video of the container cannot be decoded (Invalid data found when processing input): give the file's "
            "path, as what is damaged is passed over there"
        )
    path = write_video(tmp_path / "b.mp4", moving(30), options={"bf": "0", "g": "5"})
    break_packets(path, [10], header=300)
    with av.open(str(path)) as container:
        read_frames(container, UNIFORM)
    assert caplog.messages == ["1 frames of the container are damaged: read by the file's path, they are replaced"]


def test_containers_that_have_no_video_to_read(tmp_path: Path, clip: Path) -> None:
    with av.open(str(clip)) as closed:
        pass
    assert error_of(closed) == "the container is closed: open it again, av.open, or give the path"
    for cover in (None, numbered(1)):
        with av.open(str(write_audio(tmp_path / f"{cover is None}.mp4", cover))) as container:
            assert error_of(container) == (
                "the container has no video stream that PyAV can decode: give that of a video"
            )
    with av.open(str(tmp_path / "new.mp4"), "w") as output:
        assert error_of(output) == "the container is being written: close it, and give the path of its file"


IMAGE = np.zeros((48, 60, 3), np.uint8)
GREY = "it is grey; make three channels of it"
SCALED = "give whole numbers from 0 to 255; of values from 0 to 1, (255 * array).round().astype('uint8')"
FORMS = "give a path, an address, an array (T, H, W, 3), a list of images, a cv2.VideoCapture or a PyAV container"


@pytest.mark.parametrize(
    ("video", "message"),
    [
        (np.zeros((8, 48, 60, 3)), f"the array is float64 (8, 48, 60, 3), not uint8 (T, H, W, 3): {SCALED}"),
        (
            np.zeros((8, 48, 60, 3), np.int64),
            "the array is int64 (8, 48, 60, 3), not uint8 (T, H, W, 3): give whole numbers from 0 to 255, "
            "array.astype('uint8')",
        ),
        (
            np.zeros((8, 3, 48, 60), np.uint8),
            "the array is uint8 (8, 3, 48, 60), not uint8 (T, H, W, 3): its channels come first; put them last, "
            "np.moveaxis(array, 1, -1)",
        ),
        (
            np.zeros((3, 8, 48, 60), np.float32),
            "the array is float32 (3, 8, 48, 60), not uint8 (T, H, W, 3): its channels come first; put them last, "
            "np.moveaxis(array, 0, -1)",
        ),
        (
            np.zeros((3, 48, 60), np.uint8),
            "the array is uint8 (3, 48, 60), not uint8 (T, H, W, 3): its channels come first; put them last, "
            "np.moveaxis(array, 0, -1)",
        ),
        (
            IMAGE,
            "the array is uint8 (48, 60, 3), not uint8 (T, H, W, 3): it is a single image; give it in a list, [array]",
        ),
        (
            np.zeros((8, 48, 60), np.uint8),
            f"the array is uint8 (8, 48, 60), not uint8 (T, H, W, 3): {GREY}, np.stack([array] * 3, axis=-1)",
        ),
        (
            np.zeros((8, 48, 60, 1), np.uint8),
            f"the array is uint8 (8, 48, 60, 1), not uint8 (T, H, W, 3): {GREY}, np.repeat(array, 3, axis=-1)",
        ),
        (
            np.zeros((8, 48, 60, 4), np.uint8),
            "the array is uint8 (8, 48, 60, 4), not uint8 (T, H, W, 3): it has an alpha channel; leave it out, "
            "array[..., :3]",
        ),
        (
            np.zeros((2, 8, 48, 60, 3), np.uint8),
            "the array is uint8 (2, 8, 48, 60, 3), not uint8 (T, H, W, 3): it has more than one video; give one at a "
            "time",
        ),
        (
            np.zeros((8, 0, 60, 3), np.uint8),
            "the array is uint8 (8, 0, 60, 3), not uint8 (T, H, W, 3): give RGB images",
        ),
        (np.array(5), "the array is int64 (), not uint8 (T, H, W, 3): give RGB images"),
        (np.zeros((0, 48, 60, 3), np.uint8), "there are no frames: give at least one RGB image"),
        ([], "there are no frames: give at least one RGB image"),
        (
            iter(()),
            "there are no frames: give at least one RGB image, and an iterator that was not read before",
        ),
        ([IMAGE, IMAGE[:40]], "the frames differ in size: give those of one video"),
        (
            ["a.mp4", "b.mp4"],
            "the list has the path a.mp4, not an image: classify one video at a time, a call for each path; where "
            "these are pictures, open them first, PIL.Image.open(path)",
        ),
        (
            np.array(["a.mp4", "b.mp4"]),
            "the list has the path a.mp4, not an image: classify one video at a time, a call for each path; where "
            "these are pictures, open them first, PIL.Image.open(path)",
        ),
        (
            [None, IMAGE],
            "a frame is None, which cv2.imread and VideoCapture.read return where there is nothing to read: check the "
            "file's name, or leave the frame out",
        ),
        (
            [np.zeros((3, 48, 60), np.uint8)],
            "a frame is uint8 (3, 48, 60), not uint8 (H, W, 3): its channels come first; put them last, "
            "np.moveaxis(array, 0, -1)",
        ),
        (
            [np.zeros((8, 48, 60, 3), np.uint8)],
            "a frame is uint8 (8, 48, 60, 3), not uint8 (H, W, 3): it has more than one video; give one at a time",
        ),
        ([IMAGE / 255], f"a frame is float64 (48, 60, 3), not uint8 (H, W, 3): {SCALED}"),
        ([1, 2, 3], "a frame is int64 (), not uint8 (H, W, 3): give RGB images"),
        (b"\0\1", "the video is bytes: give a path, or open them, av.open(io.BytesIO(data))"),
        (bytearray(2), "the video is bytearray: give a path, or open them, av.open(io.BytesIO(data))"),
        (
            io.BytesIO(b"\0"),
            "the video is an open file (BytesIO): give its path, or open it, av.open(file)",
        ),
        (
            0,
            "the video is the number 0: of a camera, read as many frames as are meant from cv2.VideoCapture(0), and "
            'give them as a list with channels="bgr"',
        ),
        (
            Image.fromarray(IMAGE),
            "the video is a single PIL image: give it in a list, [image], or the path of its file",
        ),
        ({"a": IMAGE}, "the video is a dict, which has no first and last image: give a list of images"),
        ({1, 2}, "the video is a set, which has no first and last image: give a list of images"),
        (None, f"the video is None: {FORMS}"),
        (1.5, f"the video is a float: {FORMS}"),
        (lambda: [IMAGE], f"the video is a function: {FORMS}"),
    ],
)
def test_what_is_no_video_is_refused(video: Any, message: str) -> None:
    assert error_of(video) == message


def test_a_size_that_differs_in_a_generator() -> None:
    assert error_of(image for image in (IMAGE, IMAGE[:, :40])) == "the frames differ in size: give those of one video"


def test_wrong_channels(clip: Path) -> None:
    for video in (clip, [IMAGE]):
        assert error_of(video, channels="RGBA") == "channels is 'RGBA': choose rgb or bgr"


@pytest.mark.parametrize("kind", ["tensor", "list"])
def test_tensors(kind: str) -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.zeros((8, 48, 60, 3), dtype=torch.uint8)
    name, layout = ("the video", "(T, H, W, 3)") if kind == "tensor" else ("a frame", "(H, W, 3)")
    assert error_of(tensor if kind == "tensor" else list(tensor)) == (
        f"{name} is a PyTorch tensor: give a NumPy array, uint8 {layout}, as tensor.cpu().numpy() makes it, after "
        "tensor.movedim(-3, -1) where the channels come first"
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: np.zeros((8, 3, 48, 60), np.uint8),
        lambda: np.zeros((3, 8, 48, 60), np.uint8),
        lambda: np.zeros((8, 48, 60), np.uint8),
        lambda: np.zeros((8, 48, 60, 1), np.uint8),
        lambda: np.zeros((8, 48, 60, 4), np.uint8),
        lambda: np.zeros((8, 48, 60, 3)),
        lambda: np.zeros((8, 48, 60, 3), np.int16),
        lambda: np.zeros((48, 60, 3), np.uint8),
    ],
)
def test_the_code_in_a_message_mends_the_array(make: Callable[[], Images]) -> None:
    array_ = make()
    code = re.search(r"(np\.\w+\(.*\)|\[array\]|array\[.*\]|(?:\(255.*|array)\.astype\('uint8'\))$", error_of(array_))
    assert code is not None
    mended = eval(code[0], {"np": np, "array": array_})
    assert read_frames(mended, UNIFORM).frames.shape == (8, 48, 60, 3)


def test_neither_opencv_nor_pytorch_is_loaded_for_the_check() -> None:
    program = (
        "import sys, numpy, action_clip; from action_clip.video.inputs import read_frames; "
        "read_frames(numpy.zeros((2, 9, 9, 3), numpy.uint8), lambda total: [0]); "
        "print([name for name in ('cv2', 'torch') if name in sys.modules])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def rgb_of(image: Image.Image) -> Images:
    (rgb,) = read_frames([image], lambda total: [0]).frames
    return cast(Images, rgb)


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "I;16", "I"]
)
def test_pictures_of_every_mode(mode: str) -> None:
    grey = np.zeros((40, 60), np.uint8)
    grey[:, 30:] = 255
    if mode.startswith("I"):
        image = Image.fromarray(grey.astype({"I": np.int32, "I;16": np.uint16}[mode]) * 257)
    else:
        image = Image.fromarray(grey).convert("RGB").convert(mode)
    assert image.mode == mode
    expected = np.repeat(grey[..., None], 3, axis=-1)
    np.testing.assert_allclose(rgb_of(image).astype(int), expected.astype(int), atol=2)


@pytest.mark.parametrize(
    ("mode", "reason"), [("F", "its values may have any range"), ("La", "conversion from La to L not supported")]
)
def test_pictures_that_cannot_become_rgb(mode: str, reason: str) -> None:
    assert error_of([Image.new(mode, (40, 30))]) == (
        f"a PIL image of the mode {mode} cannot become RGB ({reason}): convert or repair it first"
    )


def test_what_is_transparent_is_white() -> None:
    image = Image.new("RGBA", (40, 30), (200, 0, 0, 0))
    image.paste((200, 0, 0, 255), (0, 0, 20, 30))
    rgb = rgb_of(image)
    assert rgb[0, 0].tolist() == [200, 0, 0]
    assert rgb[0, -1].tolist() == [255, 255, 255]


def test_a_photograph_is_upright_as_by_its_path(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(numbered(5)).save(tmp_path / "a.jpg", exif=exif, quality=95)
    with Image.open(tmp_path / "a.jpg") as image:
        rgb = rgb_of(image)
    assert rgb.shape == (160, 96, 3)
    np.testing.assert_allclose(rgb.astype(int), read_clip(tmp_path / "a.jpg", UNIFORM).frames[0].astype(int), atol=4)


def test_a_picture_whose_file_is_cut(tmp_path: Path) -> None:
    Image.fromarray(moving(1)[0]).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:-2000])
    with Image.open(tmp_path / "b.png") as image:
        message = error_of([image])
    assert message.startswith("a PIL image of the mode RGB cannot become RGB (")
    assert message.endswith("): convert or repair it first")
