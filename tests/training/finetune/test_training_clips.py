"""Clips for training and validation: which frames, classes and prompts, and what stands for a clip that is broken."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from make_videos import number_in, write_numbered

from action_clip.data.dataset import Example
from action_clip.errors import ActionClipError
from action_clip.training.finetune.clips import ClipShape, EpochBatches, TrainingClips, ValidationClips, read_frames
from action_clip.video.sampling import uniform_indices

SHAPE = ClipShape(frames=4, image_size=96, resize=96, uniform="segments")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_numbered(tmp_path_factory.mktemp("video") / "40.mp4", 40))


def training(examples: list[Example], **how: Any) -> TrainingClips:
    defaults: dict[str, Any] = {"classes": 3, "prompts": 4, "augmentation": "none", "may_flip": False, "seed": 1}
    return TrainingClips(examples, SHAPE, **(defaults | how))


def middle(pixels: torch.Tensor) -> list[int]:
    """The numbers that wider frames show in their whole height: three of the five columns."""
    return [int(frame.float().mean()) for frame in pixels]


def test_a_clip_follows_from_seed_epoch_and_index(video: str) -> None:
    examples = [Example(video, (0,)), Example(video, (1,))]
    clips = training(examples, augmentation="official")
    first, again = clips[0, 0], training(examples, augmentation="official")[0, 0]
    assert torch.equal(first.pixels, again.pixels)
    assert (first.prompt, first.chosen) == (again.prompt, again.chosen)
    assert first.pixels.shape == (4, 96, 96, 3)
    for other in (clips[1, 0], clips[0, 1], training(examples, augmentation="official", seed=2)[0, 0]):
        assert not torch.equal(first.pixels, other.pixels)


def test_frames_are_random_within_each_part(video: str) -> None:
    seen = [
        [number_in(frame) for frame in read_frames(Example(video, (0,)), rule, 96)]
        for rule in (lambda total: [0, 11, 29, 39], lambda total: uniform_indices(total, 4))
    ]
    assert seen == [[0, 11, 29, 39], [4, 14, 24, 34]]
    clips = training([Example(video, (0,))])
    looks = {tuple(middle(clips[epoch, 0].pixels)) for epoch in range(6)}
    assert len(looks) > 3


def test_a_part_of_a_video(video: str) -> None:
    part = Example(video, (0,), start_s=0.4, end_s=0.8)  # of 25 frames a second: 10 to 19
    assert [number_in(frame) for frame in read_frames(part, lambda total: [0, total - 1], 96)] == [10, 19]
    with pytest.raises(ActionClipError, match=r"40\.mp4: it has 1\.6 s, and no frames from 2 s on"):
        read_frames(Example(video, (0,), start_s=2.0), lambda total: [0], 96)


def test_a_text_names_one_of_the_classes(video: str) -> None:
    clips = training([Example(video, (0, 2))])
    found = [clips[epoch, 0] for epoch in range(40)]
    assert all(clip.labels.tolist() == [True, False, True] for clip in found)
    assert set(Counter(clip.chosen for clip in found)) == {0, 2}
    assert set(Counter(clip.prompt for clip in found)) == {0, 1, 2, 3}


def test_half_of_the_clips_are_mirrored_where_they_may(video: str) -> None:
    one = [Example(video, (0,))]
    flipped = [
        not torch.equal(training(one, may_flip=True)[epoch, 0].pixels, training(one)[epoch, 0].pixels)
        for epoch in range(30)
    ]
    assert 5 < sum(flipped) < 25
    epoch = flipped.index(True)
    assert torch.equal(training(one, may_flip=True)[epoch, 0].pixels, training(one)[epoch, 0].pixels.flip(2))


def test_another_clip_stands_for_one_that_is_broken(video: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    examples = [
        Example(str(broken), (0,)),
        Example("none.mp4", (1,), problem="row 3 names none.mp4"),
        Example(video, (2,)),
    ]
    clips = training(examples)
    clip = clips[0, 0]
    assert clip.chosen == 2
    assert clip.labels.tolist() == [False, False, True]
    assert set(clip.failures) <= {0, 1}
    assert str(broken) in clip.failures[0]
    assert clips[0, 1].failures[1] == "row 3 names none.mp4"
    assert clips[0, 2].failures == {}
    none = training(examples[:2])[0, 1]
    assert none.pixels.numel() == 0
    assert set(none.failures) == {0, 1}


def test_validation_looks_at_the_frames_of_the_official_evaluation(video: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    clips = ValidationClips([Example(video, (0,)), Example(str(broken), (1,))], SHAPE)
    frames = read_frames(Example(video, (0,)), lambda total: [4, 14, 24, 34], 96)
    assert clips[0].pixels is not None
    assert np.array_equal(clips[0].pixels.numpy(), frames[:, :, 32:128])
    assert (clips[0].failure, clips[1].pixels) == ("", None)
    assert str(broken) in clips[1].failure


def test_batches_have_every_example_once_and_another_order_each_epoch() -> None:
    batches = EpochBatches(11, 4, seed=3)
    orders = []
    for epoch in range(3):
        batches.epoch = epoch
        found = list(batches)
        assert [len(batch) for batch in found] == [4, 4]
        keys = [key for batch in found for key in batch]
        assert {key[0] for key in keys} == {epoch}
        assert len({index for _, index in keys}) == 8
        orders.append([index for _, index in keys])
    assert len({tuple(order) for order in orders}) == 3
    batches.epoch = 0
    assert [index for batch in batches for _, index in batch] == orders[0]
    shares = [EpochBatches(11, 4, seed=3, rank=rank, devices=2) for rank in range(2)]
    for batch, first, second in zip(batches, *shares, strict=True):
        assert [*first, *second] == batch
