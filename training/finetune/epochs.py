"""A training from epoch to epoch: the accuracy and a checkpoint after each, until it is over."""

import logging
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from lightning_fabric import Fabric
from tqdm import tqdm

from action_clip.data.dataset import Dataset
from action_clip.export.clip.official import official_content
from action_clip.system.terminal import printable
from action_clip.training.finetune.beginning import Beginning
from action_clip.training.finetune.clips import ClipShape, EpochBatches, TrainingClips, ValidationClips
from action_clip.training.finetune.devices import on_first
from action_clip.training.finetune.run_folder import TRAINING, RunFolder, StepLog
from action_clip.training.finetune.schedule import Strategy
from action_clip.training.finetune.settings import Settings
from action_clip.training.finetune.towers import Towers, make_optimiser
from action_clip.training.finetune.trainer import Accuracy, Schedule, Texts, Trainer

_LOG = logging.getLogger("action_clip")
Epoch = dict[str, Any]
"""What is known of a whole epoch: its number from 1, mean loss, learning rates, and accuracy if there is any."""


class Training:
    """Networks, what they are trained with, and how far they are.

    Attributes:
        history: the whole epochs.
    """

    def __init__(
        self,
        fabric: Fabric,
        folder: RunFolder,
        settings: Settings,
        beginning: Beginning,
        strategy: Strategy,
        texts: Texts,
        training: Dataset,
        validation: Dataset | None,
        workers: int,
    ) -> None:
        """`fabric`: launched; `workers`: processes that decode clips for this one."""
        networks = beginning.networks
        self._fabric, self._folder, self._settings = fabric, folder, settings
        self._networks = networks
        self._towers = Towers(networks, beginning.log_scale)
        self._optimiser = make_optimiser(
            self._towers, settings.lr, settings.image_lr, settings.fusion_lr, settings.weight_decay
        )
        self._training, self._validation = training, validation
        shape = ClipShape(networks.frames, networks.image.image_size, networks.resize, networks.checkpoint.uniform)
        self._trainer = Trainer(
            fabric,
            self._towers,
            self._optimiser,
            texts,
            Schedule(settings.epochs, settings.warm_up, strategy),
            TrainingClips(
                training.examples,
                shape,
                classes=len(training.classes),
                prompts=len(settings.prompts),
                augmentation=settings.augmentation,
                may_flip=settings.may_flip,
                seed=settings.seed,
            ),
            EpochBatches(
                len(training),
                settings.batch_size,
                settings.seed,
                rank=fabric.global_rank,
                devices=fabric.world_size,
            ),
            None if validation is None else ValidationClips(validation.examples, shape),
            workers,
        )
        self.history: list[Epoch] = []

    def go_on(self, content: Mapping[str, Any]) -> None:
        """Take over from a checkpoint how far the training is; its weights are there already."""
        self._optimiser.load_state_dict(content["optimizer_state_dict"])
        training = content[TRAINING]
        self._fabric.strategy.precision.load_state_dict(training["precision"])
        self.history = list(training["history"])

    @property
    def best(self) -> Epoch:
        """The first of the epochs with the highest accuracy; without clips for validation the last one."""
        return self.history[-1] if self._validation is None else max(self.history, key=lambda epoch: epoch["top1"])

    @property
    def is_over(self) -> bool:
        """Whether all epochs are done, or too many without a better one."""
        done, patience = len(self.history), self._settings.patience
        if done >= self._settings.epochs:
            return True
        return patience is not None and done > 0 and done - self.best["epoch"] >= patience

    def run(self) -> None:
        """Train until it is over. Raises ActionClipError as `Trainer.train`, or where a file cannot be written."""
        if self.is_over:
            return
        steps = None
        if self._fabric.is_global_zero:
            steps = StepLog(self._folder.path, len(self.history) * self._trainer.steps)
        try:
            while not self.is_over:
                self._run_epoch(steps)
        finally:
            if steps is not None:
                steps.close()

    def _run_epoch(self, log: StepLog | None) -> None:
        number = len(self.history)

        def note(step: int, loss: float) -> None:
            if log is not None:
                log.write(step, loss=loss, rate=self._trainer.rates()[0])

        loss = self._trainer.train(number, note)
        epoch: Epoch = {"epoch": number + 1, "loss": loss, "rates": self._trainer.rates()}
        accuracy = self._accuracy()
        if accuracy is not None:
            epoch |= accuracy._asdict()
            if log is not None:
                log.write((number + 1) * self._trainer.steps - 1, **accuracy._asdict())
        self.history.append(epoch)
        on_first(self._fabric, self._save)
        if log is not None:
            log.flush()
        self._say(described(epoch, self._settings.epochs))

    def _accuracy(self) -> Accuracy | None:
        if self._validation is None:
            return None
        return self._trainer.validate(self._validation, self._networks.logit_scale)

    def _save(self) -> None:
        content = self._content()
        # First the best one: whatever ends the process in between, going on makes the same again.
        if self._validation is not None and self.best is self.history[-1]:
            self._folder.save(self._folder.best, content)
        self._folder.save(self._folder.last, content)
        self._folder.write_log(self.history)
        self._folder.write_labels(self._training.classes)

    def _content(self) -> dict[str, Any]:
        return {
            "epoch": len(self.history),
            **official_content(self._networks, float(self._towers.logit_scale.detach()), self._settings.prompts),
            "optimizer_state_dict": self._optimiser.state_dict(),
            TRAINING: {
                "settings": asdict(self._settings),
                "history": self.history,
                "precision": self._fabric.strategy.precision.state_dict(),
            },
        }

    def report_failures(self) -> None:
        """Say how many clips could not be read, if any."""
        clips = len(self._training) + (0 if self._validation is None else len(self._validation))
        if failed := len(self._trainer.failures):
            _LOG.error("%d of %d clips cannot be read", failed, clips)

    def _say(self, line: str) -> None:
        if sys.stderr is not None and self._fabric.is_global_zero and _LOG.isEnabledFor(logging.WARNING):
            tqdm.write(printable(line), file=sys.stderr)


def described(epoch: Epoch, epochs: int) -> str:
    """Return an epoch in words."""
    text = f"epoch {epoch['epoch']}/{epochs}: loss {epoch['loss']:.4f}"
    return text if "top1" not in epoch else f"{text}, top-1 {epoch['top1']:.1%}, top-5 {epoch['top5']:.1%}"
