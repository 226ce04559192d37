"""Clips for training and for validation, as PyTorch's data loaders take them: decoded, cropped, not yet normalised."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from action_clip.data.dataset import Example
from action_clip.errors import ActionClipError
from action_clip.system.addresses import display_name
from action_clip.system.terminal import sentence
from action_clip.training.finetune.augmentation import augmented
from action_clip.video.preprocess import cropped, reduced
from action_clip.video.reader import VideoReader
from action_clip.video.sampling import UNIFORM_RULES, Sampler, random_indices
from action_clip.video.span import frames_of_span

_OF_CLIPS, _OF_ORDER = 1, 2
"""The first numbers of seeds: numpy takes those that differ only in zeros at the end for the same."""


@dataclass(frozen=True)
class ClipShape:
    """What the networks take."""

    frames: int
    """Of a clip, T."""
    image_size: int
    """Side S of a frame, in pixels."""
    resize: int
    """Shorter side of a frame before it is cropped, in pixels."""
    uniform: str
    """The rule for frames at evaluation, one of UNIFORM_RULES."""


class TrainingClip(NamedTuple):
    """A clip as it is trained on."""

    pixels: Tensor
    """(T, S, S, 3) uint8 RGB; empty where no example at all can be read."""
    labels: Tensor
    """(C,) bool: its classes."""
    chosen: int
    """The one of these that its text names."""
    prompt: int
    """The prompt that this is put into."""
    failures: dict[int, str]
    """Examples in whose place it stands, by their index, with the reason why each cannot be read."""


class TrainingClips(TorchDataset[TrainingClip]):
    """Clips by (epoch, index): frames, class, prompt and augmentation are drawn from seed, epoch and index alone.

    In the place of an example that cannot be read stands another one.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        shape: ClipShape,
        *,
        classes: int,
        prompts: int,
        augmentation: str,
        may_flip: bool,
        seed: int,
    ) -> None:
        """`classes`, `prompts`: how many; `augmentation`: one of options.AUGMENTATIONS."""
        self._examples = examples
        self._shape = shape
        self._classes, self._prompts = classes, prompts
        self._augmentation, self._may_flip = augmentation, may_flip
        self._seed = seed

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, key: tuple[int, int]) -> TrainingClip:
        """Return the clip of an epoch and an example."""
        epoch, index = key
        random = np.random.default_rng((_OF_CLIPS, self._seed, epoch, index))
        failures: dict[int, str] = {}
        labels = torch.zeros(self._classes, dtype=torch.bool)
        for candidate in (index, *random.permutation(len(self)).tolist()):
            if candidate in failures:
                continue
            example = self._examples[candidate]
            rule = partial(random_indices, count=self._shape.frames, seed=int(random.integers(2**31)))
            try:
                frames = read_frames(example, rule, self._shape.resize)
            except ActionClipError as error:
                failures[candidate] = sentence(error)
                continue
            labels[list(example.labels)] = True
            chosen = example.labels[random.integers(len(example.labels))]
            prompt = int(random.integers(self._prompts))
            pixels = torch.from_numpy(self._changed(frames, random))
            return TrainingClip(pixels, labels, chosen, prompt, failures)
        # Not an error yet: out of another process it would come with its traceback as text.
        return TrainingClip(torch.empty(0, dtype=torch.uint8), labels, 0, 0, failures)

    def _changed(self, frames: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
        size = self._shape.image_size
        if self._augmentation != "none":
            recolour = self._augmentation == "official"
            return augmented(frames, size, random, recolour=recolour, may_flip=self._may_flip)
        pixels = np.stack([cropped(frame, size, self._shape.resize) for frame in frames])
        is_flipped = random.random() < 0.5 and self._may_flip
        return np.ascontiguousarray(pixels[:, :, ::-1]) if is_flipped else pixels


class ValidationClip(NamedTuple):
    """A clip as it is evaluated."""

    example: int
    """Its index."""
    pixels: Tensor | None
    """(T, S, S, 3) uint8 RGB; None where it cannot be read."""
    failure: str
    """The reason why it cannot be read, or ""."""


class ValidationClips(TorchDataset[ValidationClip]):
    """Clips by the index of their example, with the frames and the crop of the official evaluation."""

    def __init__(self, examples: Sequence[Example], shape: ClipShape) -> None:
        self._examples = examples
        self._shape = shape

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> ValidationClip:
        shape = self._shape
        rule = partial(UNIFORM_RULES[shape.uniform], count=shape.frames)
        try:
            frames = read_frames(self._examples[index], rule, shape.resize)
        except ActionClipError as error:
            return ValidationClip(index, None, sentence(error))
        pixels = np.stack([cropped(frame, shape.image_size, shape.resize) for frame in frames])
        return ValidationClip(index, torch.from_numpy(pixels), "")


def read_frames(example: Example, rule: Sampler, resize: int) -> NDArray[np.uint8]:
    """Return the frames of an example that a rule chooses, (T, H, W, 3) uint8 RGB, the shorter side `resize` at most.

    Raises ActionClipError where they cannot be read.
    """
    if example.problem is not None:
        raise ActionClipError(example.problem)
    shrink = partial(reduced, resize=resize)
    try:
        with VideoReader(example.video, threads=1) as video:
            if example.start_s is None and example.end_s is None:
                return video.clip(rule, shrink).frames
            span = frames_of_span(video, example.start_s or 0.0, example.end_s)
            return video.clip(lambda _: [span[index] for index in rule(len(span))], shrink).frames
    except ActionClipError as error:
        name, text = display_name(example.video), str(error)
        raise ActionClipError(text if name in text else f"{name}: {text}") from error


class EpochBatches:
    """The batches of an epoch, keys of TrainingClips: every example at most once, in an order of the epoch's own.

    Those that are left over after the last whole batch wait for the next epoch. Several devices share each batch.
    """

    def __init__(self, count: int, batch_size: int, seed: int, *, rank: int = 0, devices: int = 1) -> None:
        """`count`: examples; `rank`: which of the devices this is; each gets its part of each batch."""
        self._count, self._seed = count, seed
        self.batch_size = batch_size
        self._rank, self._devices = rank, devices
        self.epoch = 0

    def __len__(self) -> int:
        return self._count // self.batch_size

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = np.random.default_rng((_OF_ORDER, self._seed, self.epoch)).permutation(self._count).tolist()
        share = self.batch_size // self._devices
        for batch in range(len(self)):
            start = batch * self.batch_size + self._rank * share
            yield [(self.epoch, index) for index in order[start : start + share]]
