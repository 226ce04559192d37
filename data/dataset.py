"""A data set: clips with their labels, groups and splits."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from action_clip.errors import ActionClipError

SPLITS = ("train", "val", "test")
"""The names of splits."""


@dataclass(frozen=True)
class Example:
    """A clip with its labels.

    Attributes:
        video: path or URL of its file.
        labels: indices in `Dataset.classes`, ascending, at least one; several where the data have them.
        group: examples with the same one stay on the same side of a split; None where it is alone.
        split: one of SPLITS, where the data say so.
        start_s, end_s: the part of a longer file that is meant, in seconds; None: from its beginning, to its end.
        problem: a sentence where the data name a file that is not there. Such an example counts like one that cannot be
            read.
    """

    video: str
    labels: tuple[int, ...]
    group: str | None = None
    split: str | None = None
    start_s: float | None = None
    end_s: float | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Dataset:
    """Clips with labels.

    Attributes:
        name: of the folder or file.
        classes: the labels as texts, as zero-shot models take them: see `data.classes.readable`.
        examples: the clips, also those whose files are missing.
        names: the classes as the data write them.
    """

    name: str
    classes: tuple[str, ...]
    examples: tuple[Example, ...]
    names: tuple[str, ...]

    def __len__(self) -> int:
        """The number of examples."""
        return len(self.examples)

    @property
    def is_multi_label(self) -> bool:
        """Whether a clip has several labels."""
        return any(len(example.labels) > 1 for example in self.examples)

    @property
    def missing(self) -> tuple[str, ...]:
        """A sentence for each listed clip whose file is not there."""
        return tuple(example.problem for example in self.examples if example.problem is not None)

    @property
    def splits(self) -> tuple[str, ...]:
        """Those of SPLITS that have examples."""
        present = {example.split for example in self.examples}
        return tuple(split for split in SPLITS if split in present)

    @property
    def counts(self) -> tuple[int, ...]:
        """The number of examples of each class."""
        counts = [0] * len(self.classes)
        for example in self.examples:
            for label in example.labels:
                counts[label] += 1
        return tuple(counts)

    def taken(self, indices: Sequence[int]) -> "Dataset":
        """Return the data set of the examples with these indices, in this order, with the same classes."""
        return replace(self, examples=tuple(self.examples[index] for index in indices))

    def part(self, split: str) -> "Dataset":
        """Return the examples of a split, with the same classes.

        Raises:
            ActionClipError: there are none.
        """
        part = self.taken([index for index, example in enumerate(self.examples) if example.split == split])
        if not part.examples:
            has = f"it has {' and '.join(self.splits)}" if self.splits else "it has no splits of its own"
            raise ActionClipError(f"{self.name} has no clips for {split} ({has}): choose another split")
        return part
