"""The parts of a data set that a head is trained on and measured with, and what they must have."""

from dataclasses import replace

import numpy as np

from action_clip.data.classes import shown
from action_clip.data.dataset import Dataset, Example
from action_clip.errors import ActionClipError
from action_clip.training.heads.examples import Examples


def training_parts(dataset: Dataset) -> tuple[Dataset, Dataset | None]:
    """Return the clips for training and those for validation, with the classes that have clips; None: there are none.

    Of data without splits, all clips are for training. Those for testing are left for `evaluate`.

    Raises:
        ActionClipError: there are no clips for training, they have one class, or a class has clips in other splits
            alone.
    """
    known = dataset.part("train") if dataset.splits else dataset
    counts = known.counts
    elsewhere = [
        name for name, all_, own in zip(dataset.names, dataset.counts, counts, strict=True) if all_ and not own
    ]
    if elsewhere:
        others = " or ".join(split for split in dataset.splits if split != "train")
        raise ActionClipError(
            f"{dataset.name} has no clips for training of {shown(elsewhere)}, but for {others}: give some, or take "
            "these away"
        )
    if sum(count > 0 for count in counts) < 2:
        raise ActionClipError(
            f"{dataset.name} has one class, '{dataset.names[int(np.argmax(counts))]}', from which nothing can be told "
            "apart: give clips of another class too"
        )
    present = [label for label, count in enumerate(counts) if count]
    val = dataset.part("val") if "val" in dataset.splits else None
    return _with_classes(known, present), None if val is None else _with_classes(val, present)


def check_classes(dataset: Dataset, examples: Examples) -> None:
    """Raise ActionClipError where a class has no clip among the examples, those that can be read."""
    without = [name for name, clips in zip(dataset.names, examples.membership.T, strict=True) if not clips.any()]
    if without:
        raise ActionClipError(f"none of the clips of {shown(without)} can be read: mend them, or take the class away")


def _with_classes(dataset: Dataset, labels: list[int]) -> Dataset:
    """Return the data set with these of its classes alone, which all its examples have."""
    places = {label: place for place, label in enumerate(labels)}

    def renumbered(example: Example) -> Example:
        return replace(example, labels=tuple(places[label] for label in example.labels))

    return replace(
        dataset,
        classes=tuple(dataset.classes[label] for label in labels),
        names=tuple(dataset.names[label] for label in labels),
        examples=tuple(map(renumbered, dataset.examples)),
    )
