"""Encoding data sets: through the engine and the video bank; what cannot be read is listed, counted and left out."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from make_videos import moving, numbered, write_video
from small_models import random_closed_model, random_model, save_closed_model, save_model

from action_clip import ActionClip, ActionClipError, TimeSformer
from action_clip.data.dataset import Example
from action_clip.data.encoding import encode_dataset, video_input
from action_clip.data.loading import load_dataset
from action_clip.models.encoded import EncodedVideo
from action_clip.video.reader import VideoReader
from action_clip.video.span import Span


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of two clips each."""
    for label, first in (("left", 0), ("right", 20)):
        (tmp_path / "clips" / label).mkdir(parents=True)
        for clip in range(2):
            write_video(tmp_path / "clips" / label / f"{clip}.mp4", moving(40)[first + clip : first + clip + 12])
    return tmp_path / "clips"


@pytest.fixture
def zero_shot(tmp_path: Path) -> Path:
    return save_model(random_model(0, 4, transformer=False), tmp_path / "zero-shot", frames=4)


def test_features_are_those_of_each_video_in_order(folder: Path, zero_shot: Path) -> None:
    with ActionClip(zero_shot) as model:
        encoded = encode_dataset(model, load_dataset(str(folder)))
        for example, features in zip(encoded.dataset.examples, encoded.features, strict=True):
            np.testing.assert_array_equal(features, model.encode_video(example.video).features)
    assert encoded.features.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(encoded.features, axis=1), 1, atol=1e-6)
    assert encoded.rows.tolist() == [0, 1, 2, 3]
    assert (encoded.logits.shape, encoded.failures) == ((4, 0), {})
    assert encoded.readable == encoded.dataset


def test_a_closed_set_has_logits(folder: Path, tmp_path: Path) -> None:
    closed = save_closed_model(random_closed_model(0, 4), tmp_path / "closed")
    with TimeSformer(closed) as model:
        dataset = load_dataset(str(folder))
        encoded = encode_dataset(model, dataset, views="2x1")
        one = model.encode_video(dataset.examples[2].video, views="2x1")
    assert encoded.logits.shape == (4, 7)
    np.testing.assert_array_equal(encoded.logits[2], one.logits)
    np.testing.assert_array_equal(encoded.features[2], one.features)


def test_clips_that_are_known_are_not_decoded_again(
    folder: Path, zero_shot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = load_dataset(str(folder))
    with ActionClip(zero_shot) as model:
        first = encode_dataset(model, dataset)

    def decode(*_: object, **__: object) -> None:
        raise AssertionError("a clip is decoded again")

    monkeypatch.setattr("action_clip.video.inputs.read_clip", decode)
    with ActionClip(zero_shot) as model:
        again = encode_dataset(model, dataset)
    assert again.failures == {}
    np.testing.assert_array_equal(first.features, again.features)


def test_what_cannot_be_read_is_listed_and_counted(
    folder: Path, zero_shot: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "left" / "0.mp4").write_bytes(b"no video")
    dataset = load_dataset(str(folder))
    absent = replace(dataset.examples[3], problem="line 9 of x.csv names y.mp4, which is not in z")
    dataset = replace(dataset, examples=(*dataset.examples[:3], absent))
    counted: list[int] = []
    with ActionClip(zero_shot) as model, caplog.at_level(logging.ERROR, "action_clip"):
        encoded = encode_dataset(model, dataset, count=counted.append)
    assert encoded.rows.tolist() == [1, 2]
    assert encoded.features.shape == (2, 16)
    assert [example.video for example in encoded.readable.examples] == [each.video for each in dataset.examples[1:3]]
    assert set(encoded.failures) == {0, 3}
    assert str(folder / "left" / "0.mp4") in encoded.failures[0]
    assert encoded.failures[3] == absent.problem
    assert caplog.messages == [
        f"error: {absent.problem}",
        f"error: {encoded.failures[0]}",
        "2 of 4 clips cannot be read",
    ]
    assert len(counted) == 4
    assert counted[-1] == 2


def test_nothing_that_can_be_read(folder: Path, zero_shot: Path) -> None:
    for clip in folder.rglob("*.mp4"):
        clip.write_bytes(b"no video")
    with (
        ActionClip(zero_shot) as model,
        pytest.raises(ActionClipError, match="none of the 4 clips of clips can be read"),
    ):
        encode_dataset(model, load_dataset(str(folder)))


def test_a_part_of_a_longer_file(tmp_path: Path, zero_shot: Path) -> None:
    """Frames 10 to 19 of 30, at ten a second, are those of a clip that was cut out."""
    long, cut = tmp_path / "long.mp4", tmp_path / "cut.mp4"
    frames = [numbered(number) for number in range(30)]
    for path, part in ((long, frames), (cut, frames[10:20])):
        write_video(path, part, "libx264rgb", pix_fmt="rgb24", rate=10, options={"qp": "0"})
    examples = [Example(str(cut), (0,)), Example(str(long), (0,), start_s=1.0, end_s=2.0)]
    span = video_input(examples[1])
    assert isinstance(span, Span)
    assert len(span) == 10
    with VideoReader(cut) as reader:
        np.testing.assert_array_equal(np.stack(list(span)), reader.frames_at(range(10)).frames)
    with ActionClip(zero_shot) as model:
        whole, cut_out = model.encode_many(map(video_input, examples))
    assert isinstance(whole, EncodedVideo)
    assert isinstance(cut_out, EncodedVideo)
    np.testing.assert_array_equal(whole.features, cut_out.features)


@pytest.mark.parametrize(
    ("start_s", "end_s", "indices"),
    [
        (0.0, None, range(30)),
        (2.5, None, range(25, 30)),
        (2.5, 99.0, range(25, 30)),
        (0.0, 0.01, range(1)),
        (0.95, 1.2, range(9, 12)),
    ],
)
def test_the_frames_of_a_part(tmp_path: Path, start_s: float, end_s: float | None, indices: range) -> None:
    write_video(tmp_path / "v.mp4", [numbered(number) for number in range(30)], rate=10)
    span = Span(tmp_path / "v.mp4", start_s, end_s)
    with VideoReader(tmp_path / "v.mp4") as reader:
        np.testing.assert_array_equal(np.stack(list(span)), reader.frames_at(indices).frames)


def test_a_part_beyond_the_end_is_a_clip_that_cannot_be_read(tmp_path: Path, zero_shot: Path) -> None:
    write_video(tmp_path / "v.mp4", moving(10), rate=10)
    dataset = load_dataset(_table(tmp_path, "v.mp4,a,0,\nv.mp4,b,5,6\n"))
    with ActionClip(zero_shot) as model:
        encoded = encode_dataset(model, dataset)
    assert encoded.failures == {1: f"{tmp_path / 'v.mp4'}: it has 1 s, and no frames from 5 s on"}


def _table(folder: Path, rows: str) -> str:
    (folder / "clips.csv").write_text(f"file,label,start,end\n{rows}", "utf-8")
    return str(folder / "clips.csv")
