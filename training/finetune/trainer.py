"""The training itself: epochs of steps on one device or several, and the accuracy on the clips for validation."""

import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from tqdm import tqdm

from action_clip.data.dataset import Dataset
from action_clip.errors import ActionClipError
from action_clip.models.scoring import LabelBank, score
from action_clip.system.terminal import no_progress_bars
from action_clip.tokenizer.bpe import default_tokenizer
from action_clip.tokenizer.prompts import fill_prompts
from action_clip.training.finetune.clips import (
    EpochBatches,
    TrainingClip,
    TrainingClips,
    ValidationClip,
    ValidationClips,
)
from action_clip.training.finetune.loss import contrastive_loss, label_matrix
from action_clip.training.finetune.schedule import Strategy, rate_factor
from action_clip.training.finetune.towers import Towers

T = TypeVar("T")

_LOG = logging.getLogger("action_clip")
_TEXTS_AT_ONCE = 256
_TOP = 5


class Schedule(NamedTuple):
    """What changes from epoch to epoch."""

    epochs: int
    warm_up: float
    """In epochs."""
    strategy: Strategy


class Texts(NamedTuple):
    """The classes in every prompt."""

    classes: tuple[str, ...]
    prompts: tuple[str, ...]
    tokens: Tensor
    """(P · C, L) int64; class c in prompt p is row p · C + c."""


class Accuracy(NamedTuple):
    """On the clips for validation; those that cannot be read count as wrong."""

    top1: float
    top5: float


class _Batch(NamedTuple):
    pixels: Tensor
    labels: Tensor
    chosen: Tensor
    prompts: Tensor
    failures: dict[int, str]


def make_texts(classes: Sequence[str], prompts: Sequence[str]) -> Texts:
    """Return the classes in every prompt. Raises ActionClipError where one is too long for the networks."""
    texts = fill_prompts(prompts, classes)
    tokens = torch.from_numpy(default_tokenizer().encode(texts, [*classes] * len(prompts)))
    return Texts(tuple(classes), tuple(prompts), tokens)


class Trainer:
    """The networks in training.

    Attributes:
        failures: sentences on examples that could not be read, by their index among the clips for training.
    """

    def __init__(
        self,
        fabric: Fabric,
        towers: Towers,
        optimiser: torch.optim.AdamW,
        texts: Texts,
        schedule: Schedule,
        clips: TrainingClips,
        batches: EpochBatches,
        validation_clips: ValidationClips | None,
        workers: int,
    ) -> None:
        """`workers`: processes that decode clips; 0: this one."""
        self._fabric = fabric
        self._towers = towers
        self._texts = texts
        self._schedule = schedule
        self._batches = batches
        self._loader = _loader(clips, workers, fabric, batch_sampler=batches, collate_fn=_collated)
        self._validation_loader = None
        if validation_clips is not None:
            own = range(fabric.global_rank, len(validation_clips), fabric.world_size)
            size = -(-batches.batch_size // fabric.world_size)
            self._validation_loader = _loader(
                validation_clips, workers, fabric, sampler=own, batch_size=size, collate_fn=list
            )
        self._raw_optimiser = optimiser
        self._module = fabric.setup_module(towers)
        prepared = fabric.setup_optimizers(optimiser)
        assert not isinstance(prepared, tuple)
        self._optimiser = prepared
        self._trained_layers: int | None = None
        self.failures: dict[int, str] = {}

    @property
    def steps(self) -> int:
        """The number of steps in an epoch."""
        return len(self._batches)

    def train(self, epoch: int, note: Callable[[int, float], None]) -> float:
        """Train for an epoch, from 0, and return the mean loss of its steps.

        Args:
            epoch: which one.
            note: is called after each step with its number from the beginning, and its loss.

        Raises:
            ActionClipError: the loss or a weight is no longer a finite number, no clip can be read, or the device's
                memory is full.
        """
        self._choose_weights(epoch)
        self._batches.epoch = epoch
        losses = []
        title = f"epoch {epoch + 1}/{self._schedule.epochs}"
        is_shown = self._fabric.is_global_zero
        bar = tqdm(
            total=self.steps, desc=title, unit="step", leave=False, disable=no_progress_bars() if is_shown else True
        )
        with bar, _enough_memory():
            for step, batch in enumerate(self._loader):
                self._set_rates(epoch + step / self.steps)
                losses.append(self._step(batch, f"epoch {epoch + 1}, step {step + 1}"))
                self._report(batch.failures)
                note(epoch * self.steps + step, losses[-1])
                bar.set_postfix(loss=f"{losses[-1]:.3f}", refresh=False)
                bar.update()
        if not all(bool(torch.isfinite(weight).all()) for weight in self._towers.parameters()):
            raise _not_finite("a weight", f"the last step of epoch {epoch + 1}")
        return float(np.mean(losses))

    def rates(self) -> list[float]:
        """Return the learning rates of the last step: of the text tower, the image tower, and a fusion with weights."""
        return [float(group["lr"]) for group in self._raw_optimiser.param_groups]

    def validate(self, dataset: Dataset, logit_scale: float) -> Accuracy:
        """Return the accuracy on the clips for validation, by the official evaluation.

        Args:
            dataset: their labels; of several the answer may be any.
            logit_scale: the factor of cosines in the evaluation.
        """
        assert self._validation_loader is not None
        fabric = self._fabric
        hits = torch.zeros(2, device=fabric.device)
        self._towers.eval()
        with torch.inference_mode(), fabric.autocast(), _enough_memory():
            bank = LabelBank(self._texts.classes, self._text_features(), logit_scale)
            for batch in self._validation_loader:
                hits += torch.tensor(self._hits(batch, dataset, bank), device=fabric.device)
        self._towers.train()
        return Accuracy(*(count / len(dataset) for count in _summed(fabric, hits).tolist()))

    def _hits(self, batch: Sequence[ValidationClip], dataset: Dataset, bank: LabelBank) -> list[int]:
        """Return of how many clips the first answer, and one of the first five, is right."""
        # Negative, to be apart from the clips for training.
        self._report({-1 - clip.example: clip.failure for clip in batch if clip.pixels is None})
        labels = [dataset.examples[clip.example].labels for clip in batch if clip.pixels is not None]
        if not labels:
            return [0, 0]
        pixels = torch.stack([clip.pixels for clip in batch if clip.pixels is not None])
        features = _unit(self._towers.videos(pixels.to(self._fabric.device)))
        ranking = np.argsort(-score(features, bank).probabilities, axis=1, kind="stable")
        right = [np.isin(ranked[:_TOP], own) for ranked, own in zip(ranking, labels, strict=True)]
        return [sum(bool(each[0]) for each in right), sum(bool(each.any()) for each in right)]

    def _choose_weights(self, epoch: int) -> None:
        layers = self._schedule.strategy.trained_layers(epoch)
        if layers != self._trained_layers:
            self._schedule.strategy.apply(self._towers, epoch)
            self._module = self._fabric.setup_module(self._towers)  # several devices exchange what is trained
            self._trained_layers = layers

    def _set_rates(self, epoch: float) -> None:
        factor = rate_factor(epoch, self._schedule.epochs, self._schedule.warm_up)
        for group in self._raw_optimiser.param_groups:
            group["lr"] = group["base_rate"] * factor

    def _step(self, batch: _Batch, where: str) -> float:
        if not batch.pixels.numel():
            count, first = len(batch.failures), next(iter(batch.failures.values()))
            raise ActionClipError(f"none of the {count} clips for training can be read; the first: {first}")
        device = self._fabric.device
        rows = self._texts.tokens[batch.prompts * len(self._texts.classes) + batch.chosen]
        tokens = rows[:, : int(rows.argmax(1).max()) + 1]  # the end of text has the largest id
        videos, texts, scale = self._module(batch.pixels.to(device), tokens.to(device))
        labels, chosen = batch.labels.to(device), batch.chosen.to(device)
        videos, texts = (_gathered(self._fabric, features) for features in (videos, texts))
        labels, chosen = (_gathered(self._fabric, values) for values in (labels, chosen))
        loss = contrastive_loss(videos, texts, scale, label_matrix(labels, chosen))
        value = float(loss.detach())
        if not math.isfinite(value):
            raise _not_finite("the loss", where)
        self._fabric.backward(loss)
        self._optimiser.step()
        self._optimiser.zero_grad()
        return value

    def _text_features(self) -> NDArray[np.float32]:
        """Return the features of every class in every prompt, (P, C, D), L2-normalised."""
        tokens = self._texts.tokens
        tokens = tokens[:, : int(tokens.argmax(1).max()) + 1].to(self._fabric.device)
        features = [_unit(self._towers.text(part)) for part in torch.split(tokens, _TEXTS_AT_ONCE)]
        return np.concatenate(features).reshape(len(self._texts.prompts), len(self._texts.classes), -1)

    def _report(self, failures: dict[int, str]) -> None:
        for index, sentence in failures.items():
            if index not in self.failures:
                self.failures[index] = sentence
                _LOG.error("error: %s", sentence)


def _loader(clips: TorchDataset[T], workers: int, fabric: Fabric, **how: Any) -> DataLoader[T]:
    # Not forked: a child would have the parent's locks, but none of the threads that hold them.
    context = "spawn" if workers else None
    pinned = fabric.device.type == "cuda"
    return DataLoader(
        clips,
        num_workers=workers,
        multiprocessing_context=context,
        persistent_workers=workers > 0,
        pin_memory=pinned,
        **how,
    )


def _collated(clips: Sequence[TrainingClip]) -> _Batch:
    return _Batch(
        torch.stack([clip.pixels for clip in clips]),
        torch.stack([clip.labels for clip in clips]),
        torch.tensor([clip.chosen for clip in clips]),
        torch.tensor([clip.prompt for clip in clips]),
        {index: sentence for clip in clips for index, sentence in clip.failures.items()},
    )


def _unit(features: Tensor) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = functional.normalize(features.float(), dim=-1).cpu().numpy()
    return unit


def _gathered(fabric: Fabric, values: Tensor) -> Tensor:
    """Return the values of all devices, one after the other, (B, …), through which gradients flow."""
    if fabric.world_size == 1:
        return values
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # that Fabric calls what PyTorch will rename
        gathered = fabric.all_gather(values, sync_grads=values.requires_grad)
    assert isinstance(gathered, Tensor)
    return gathered.flatten(0, 1)


def _summed(fabric: Fabric, values: Tensor) -> Tensor:
    summed = fabric.all_reduce(values, reduce_op="sum")
    assert isinstance(summed, Tensor)
    return summed


def _not_finite(what: str, where: str) -> ActionClipError:
    return ActionClipError(
        f"{what} is no longer a finite number ({where}): train with a lower --lr, or with --precision 32"
    )


@contextmanager
def _enough_memory() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ActionClipError(
            "the device's memory is full: give a smaller --batch-size, or --precision bf16"
        ) from error
