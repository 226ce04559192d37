"""Splitting data sets: groups stay together, classes are shared out evenly, a seed gives the same on any machine."""

import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from action_clip.data.dataset import Dataset
from action_clip.data.requirements import require_scikit_learn
from action_clip.errors import ActionClipError

Indices = NDArray[np.intp]


def group_numbers(dataset: Dataset) -> Indices:
    """Return the number of each example's group, from 0, (N,); an example without a group is one of its own."""
    numbers: dict[object, int] = {}
    keys = [index if example.group is None else example.group for index, example in enumerate(dataset.examples)]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.intp)


def rarest_labels(dataset: Dataset) -> Indices:
    """Return the label of each example, (N,); of several, the one that the fewest examples have."""
    counts = dataset.counts
    return np.array([min(example.labels, key=counts.__getitem__) for example in dataset.examples], np.intp)


def split_off(dataset: Dataset, share: float, seed: int) -> tuple[Dataset, Dataset]:
    """Return a data set in two parts, of which the second has about that share of each class.

    A group is in one part. A class with two groups or more is in both parts, unless its groups have other classes too;
    a class with one is in the first alone. Which groups go where depends on the seed and the names of files and groups,
    not on their order or folder.

    Args:
        dataset: it.
        share: above 0, below 1.
        seed: another one gives another split.

    Raises:
        ActionClipError: the share is out of range, or every class has one group.
    """
    if not 0 < share < 1:
        raise ActionClipError(f"the share {share:g} is not between 0 and 1: give a part of the clips, such as 0.2")
    chosen = _chosen_groups(dataset, share, seed)
    if not chosen:
        raise ActionClipError(
            f"each class of {dataset.name} has one clip, or one group of clips that belong together, so nothing can be "
            "split off: give more clips"
        )
    numbers = group_numbers(dataset)
    second = np.isin(numbers, list(chosen))
    return dataset.taken(np.flatnonzero(~second).tolist()), dataset.taken(np.flatnonzero(second).tolist())


def with_val_split(dataset: Dataset, share: float, seed: int) -> Dataset:
    """Return the data set in which this share of the training clips is `val`; of data without splits, all are these.

    Raises:
        ActionClipError: it has clips for val already, or as `split_off`.
    """
    if "val" in dataset.splits:
        raise ActionClipError(f"{dataset.name} has clips for val already: leave out --val-split")
    training = [index for index, example in enumerate(dataset.examples) if example.split != "test"]
    train, val = split_off(dataset.taken(training), share, seed)
    test = [example for example in dataset.examples if example.split == "test"]
    marked = [replace(each, split=split) for split, part in (("train", train), ("val", val)) for each in part.examples]
    return replace(dataset, examples=(*marked, *test))


def folds(dataset: Dataset, count: int | None, seed: int) -> Iterator[tuple[Indices, Indices]]:
    """Yield the indices of examples to train on and to test on, for each of `count` folds; None: one a group.

    Groups stay together. There are no more folds than the class with the most groups has, but two at least. A class
    with fewer groups than folds is in that many of them.

    Raises:
        ActionClipError: there is one group, or scikit-learn is not installed.
    """
    require_scikit_learn()
    from sklearn.model_selection import LeaveOneGroupOut, StratifiedGroupKFold

    groups, labels = group_numbers(dataset), rarest_labels(dataset)
    if len(set(groups.tolist())) < 2:
        raise ActionClipError(f"{dataset.name} has one clip, or one group of clips that belong together: give more")
    rows = np.zeros((len(dataset), 0))
    if count is None:
        yield from LeaveOneGroupOut().split(rows, labels, groups)
        return
    groups_of_label = Counter(label for label, _ in {*zip(labels.tolist(), groups.tolist(), strict=True)})
    most = max(groups_of_label.values())
    # Its own shuffling differs among versions; groups of the same size and classes come in the order of their numbers.
    order = _random_order(dataset, seed)
    ranks = {group: rank for rank, group in enumerate(sorted(order, key=order.__getitem__))}
    shuffled = np.array([ranks[group] for group in groups.tolist()])
    # Its warning is of classes with fewer clips than folds.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield from StratifiedGroupKFold(max(min(count, most), 2)).split(rows, labels, shuffled)


def _chosen_groups(dataset: Dataset, share: float, seed: int) -> set[int]:
    """Return the numbers of the groups that are split off: of each class, the rarest first, in a random order."""
    sizes = _sizes(dataset)
    order = _random_order(dataset, seed)
    groups_of_label: dict[int, list[int]] = defaultdict(list)
    for group in sorted(sizes, key=order.__getitem__):
        for label in sizes[group]:
            groups_of_label[label].append(group)
    totals = dataset.counts
    taken = [0] * len(totals)
    chosen: set[int] = set()
    for label in sorted(groups_of_label, key=totals.__getitem__):
        wanted = max(share * totals[label], 1)
        for group in groups_of_label[label]:
            size = sizes[group]
            leaves_some = all(taken[each] + count < totals[each] for each, count in size.items())
            comes_nearer = abs(taken[label] + size[label] - wanted) < abs(taken[label] - wanted) or not taken[label]
            if group not in chosen and leaves_some and comes_nearer:
                chosen.add(group)
                for each, count in size.items():
                    taken[each] += count
    return chosen


def _sizes(dataset: Dataset) -> dict[int, Counter[int]]:
    """Return how many examples of each class each group has."""
    sizes: dict[int, Counter[int]] = defaultdict(Counter)
    for group, example in zip(group_numbers(dataset).tolist(), dataset.examples, strict=True):
        sizes[group].update(example.labels)
    return sizes


def _random_order(dataset: Dataset, seed: int) -> dict[int, int]:
    """Return a random number for each group, which depends on its name, or its file's, and the seed alone."""
    order: dict[int, int] = {}
    for group, example in zip(group_numbers(dataset).tolist(), dataset.examples, strict=True):
        name = os.path.basename(example.video) if example.group is None else example.group
        named = f"{seed} {dataset.names[example.labels[0]]} {name}"
        order.setdefault(group, xxh3_64_intdigest(named.encode(errors="backslashreplace")))
    return order
