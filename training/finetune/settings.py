"""What the losses of a training depend on, which `--resume` must find unchanged."""

import argparse
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from action_clip.data.dataset import Dataset
from action_clip.errors import ActionClipError
from action_clip.training.finetune.options import CHECKPOINT_LR, FUSION_RATIO, SCRATCH_LR, WARM_UP_SHARE

_SIDE = re.compile(r"\b(left|right)\b", re.IGNORECASE)
_OTHER_NAMES = {"may_flip": "--flip", "data": "--data"}


@dataclass(frozen=True)
class Settings:
    """Of a recipe, with all defaults filled in; the names are those of the options."""

    begins_with: str
    """The value of --checkpoint or --scratch."""
    fusion: str | None
    frames: int | None
    activation: str | None
    """These three as the user stated them."""
    epochs: int
    batch_size: int
    lr: float
    image_lr: float
    fusion_lr: float
    weight_decay: float
    warm_up: float
    strategy: str
    unfreeze_at: list[int]
    unfreeze_layers: int | None
    augmentation: str
    may_flip: bool
    patience: int | None
    seed: int
    prompts: list[str]
    data: str
    """A hash of the clips' names and classes."""


def settings_of(
    options: argparse.Namespace, training: Dataset, validation: Dataset | None, prompts: Sequence[str]
) -> Settings:
    """Return the settings that the options and the data mean. Raises ActionClipError where there are too few clips."""
    names = [training.classes[label] for label, count in enumerate(training.counts) if count]
    if len(names) < 2:
        raise ActionClipError(
            f"the clips for training have one class, '{names[0]}': give clips of two classes or more"
            if names
            else "there are no clips for training: put them into a folder for each class"
        )
    if validation is None and options.patience is not None:
        raise ActionClipError("--patience needs clips for validation: give --val-split, such as 0.2")
    lr = options.lr or (SCRATCH_LR if options.scratch else CHECKPOINT_LR)
    sided = [name for name in training.classes if _SIDE.search(name)]
    return Settings(
        begins_with=options.checkpoint or options.scratch or "",
        fusion=options.fusion,
        frames=options.frames,
        activation=options.activation,
        epochs=options.epochs,
        batch_size=min(options.batch_size, len(training)),
        lr=lr,
        image_lr=options.image_lr or lr,
        fusion_lr=options.fusion_lr or FUSION_RATIO * lr,
        weight_decay=options.weight_decay,
        warm_up=options.epochs / WARM_UP_SHARE if options.warm_up is None else options.warm_up,
        strategy=options.strategy,
        unfreeze_at=list(options.unfreeze_at or []),
        unfreeze_layers=options.unfreeze_layers,
        augmentation=options.augmentation,
        may_flip=not sided if options.flip == "auto" else options.flip == "always",
        patience=options.patience,
        seed=options.seed,
        prompts=list(prompts),
        data=_data_hash([training] if validation is None else [training, validation]),
    )


def check_same(saved: Mapping[str, Any], settings: Settings) -> None:
    """Raise ActionClipError where a training that goes on has other settings than before."""
    for name, value in asdict(settings).items():
        before = saved.get(name)
        if before == value or (name == "begins_with" and not value):
            continue
        if name == "data":
            raise ActionClipError(
                "--resume goes on with the same clips, and these are others: give those, or train anew"
            )
        if name == "begins_with":
            raise ActionClipError(f"--resume goes on with what began with {before}, not {value}: leave that out")
        option = _OTHER_NAMES.get(name, f"--{name.replace('_', '-')}")
        raise ActionClipError(
            f"--resume goes on with the same options, and {option} was {before!s:.60}, not {value!s:.60}: give it so"
        )


def _data_hash(datasets: Sequence[Dataset]) -> str:
    """Return a hash of which clips have which classes, whatever folder they are in."""
    facts = [
        (
            dataset.classes,
            [(re.split(r"[/\\]", each.video)[-1], each.labels, each.start_s, each.end_s) for each in dataset.examples],
        )
        for dataset in datasets
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
