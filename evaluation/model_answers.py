"""The answers of a model for the clips of a data set."""

from collections.abc import Callable

import numpy as np

from action_clip.data.classes import class_key, shown
from action_clip.data.dataset import Dataset
from action_clip.data.encoding import encoded_examples
from action_clip.errors import ActionClipError
from action_clip.evaluation.answers import Answers
from action_clip.models.actionclip import ActionClip
from action_clip.models.closed_set import ClosedSetModel
from action_clip.models.encoded import EncodedVideo
from action_clip.video.views import ONE_VIEW


def answers_of(
    model: ActionClip | ClosedSetModel,
    dataset: Dataset,
    *,
    views: str = ONE_VIEW,
    count: Callable[[int], object] = lambda failed: None,
) -> Answers:
    """Return what a model answers: a zero-shot one among the classes of the data, another one among its own.

    A zero-shot one that was trained on some of the classes of the data chooses among its own and the others of the
    data. Where clips have several labels, a zero-shot model scores each by itself, against its texts for none.

    Args:
        model: any.
        dataset: its clips are encoded as by `encode_dataset`, which `views` and `count` are for.

    Raises:
        ActionClipError: the data have classes that the model does not know, or one class alone; or as `encode_dataset`.
    """
    if isinstance(model, ActionClip):
        labels, places = _labels(dataset, model.spec.classes)
        check_several(labels, dataset)
        bank = model.labels(labels, multi_label=dataset.is_multi_label)
        choices = bank.labels
    else:
        choices = model.classes
        places = matched(dataset, choices, model.spec.name)
    scores = np.full((len(dataset), len(choices)), np.nan)
    failures: dict[int, str] = {}
    for index, result in encoded_examples(model, dataset, views=views, count=count):
        if not isinstance(result, EncodedVideo):
            failures[index] = result
        elif isinstance(model, ActionClip):
            scores[index] = model.predict(result, bank).probabilities
        else:
            scores[index] = model.predict(result).probabilities
    right = tuple(tuple(places[label] for label in example.labels) for example in dataset.examples)
    return Answers(dataset, model.spec.name, choices, right, scores, failures, views=views)


def _labels(dataset: Dataset, known: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the labels that a zero-shot model with these classes chooses among, and the index of each of the data's.

    They are written as the model has them: its head knows them by this name.
    """
    indices = {class_key(name): index for index, name in enumerate(known)}
    keys = [class_key(name) for name in dataset.names]
    if indices.keys().isdisjoint(keys):
        return dataset.classes, tuple(range(len(keys)))
    others = [text for text, key in zip(dataset.classes, keys, strict=True) if key not in indices]
    for text in others:
        indices[class_key(text)] = len(indices)
    return (*known, *others), tuple(indices[key] for key in keys)


def check_several(classes: tuple[str, ...], dataset: Dataset) -> None:
    """Raise ActionClipError where there is one class, between which and nothing there is no choice."""
    if len(classes) < 2:
        raise ActionClipError(
            f"{dataset.name} has one class, '{classes[0]}', and so any answer would be right: give clips of two "
            "classes or more, or with --classes a file that names others"
        )


def matched(dataset: Dataset, choices: tuple[str, ...], source: str) -> tuple[int, ...]:
    """Return the index in `choices` of each class of the data, by its name; -1 for a class without clips.

    Raises:
        ActionClipError: a class that has clips is none of them.
    """
    indices = {class_key(choice): index for index, choice in enumerate(choices)}
    places = tuple(indices.get(class_key(name), -1) for name in dataset.names)
    counts = dataset.counts
    unknown = [dataset.names[label] for label, place in enumerate(places) if place < 0 and counts[label]]
    if unknown:
        raise ActionClipError(
            f"{len(unknown)} of the {len(places)} classes of {dataset.name} are none of {source}'s {len(choices)}: "
            f"{shown(unknown)}; write them as they are there, such as '{choices[0]}', or take their clips away"
        )
    return places
