"""What the clips of a data set are encoded to: through the engine for many videos, and the video bank."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from action_clip.data.dataset import Dataset, Example
from action_clip.errors import ActionClipError
from action_clip.models.encoded import EncodedVideo
from action_clip.models.model import Model
from action_clip.models.prediction import Failure
from action_clip.system.addresses import display_name
from action_clip.video.views import ONE_VIEW

if TYPE_CHECKING:
    from action_clip.video.inputs import VideoInput

_LOG = logging.getLogger("action_clip")


@dataclass(frozen=True, eq=False)
class EncodedDataset:
    """Features of the clips that can be read.

    Attributes:
        dataset: all clips.
        rows: (N,) index of each one's example in `dataset.examples`, ascending.
        features: (N, D) float32, L2-normalised; of several views, of their mean.
        logits: (N, C) float32 of a closed set; (N, 0) of a zero-shot model.
        failures: a sentence for each other example, by its index.
    """

    dataset: Dataset = field(repr=False)
    rows: NDArray[np.intp] = field(repr=False)
    features: NDArray[np.float32] = field(repr=False)
    logits: NDArray[np.float32] = field(repr=False)
    failures: dict[int, str] = field(repr=False)

    @property
    def readable(self) -> Dataset:
        """The data set of the N clips that can be read."""
        return self.dataset.taken(self.rows.tolist())


def encode_dataset(
    model: Model, dataset: Dataset, *, views: str = ONE_VIEW, count: Callable[[int], object] = lambda failed: None
) -> EncodedDataset:
    """Encode the clips of a data set, several at a time; those that the video bank has are not decoded.

    Clips that cannot be read are an error line on stderr each, and one with their number.

    Args:
        model: any.
        dataset: it.
        views: as for `Model.encode_video`.
        count: is called after each clip with the number of those that failed so far, for a progress bar.

    Raises:
        ActionClipError: no clip can be read, or the model's graphs are not available or cannot run.
    """
    features: dict[int, NDArray[np.float32]] = {}
    logits: list[NDArray[np.float32]] = []
    failures: dict[int, str] = {}
    for index, result in encoded_examples(model, dataset, views=views, count=count):
        if isinstance(result, EncodedVideo):
            features[index] = result.features
            logits.append(result.logits)
        else:
            failures[index] = result
    return EncodedDataset(
        dataset=dataset,
        rows=np.array([*features], np.intp),
        features=np.stack([*features.values()]),
        logits=np.stack(logits),
        failures=failures,
    )


def encoded_examples(
    model: Model, dataset: Dataset, *, views: str = ONE_VIEW, count: Callable[[int], object] = lambda failed: None
) -> Iterator[tuple[int, EncodedVideo | str]]:
    """Yield the index of each example and what it is encoded to, or the sentence why it cannot be read.

    Those that can be read come in order.

    Messages, arguments and errors are those of `encode_dataset`.
    """
    present = [index for index, example in enumerate(dataset.examples) if example.problem is None]
    failed = 0
    first = ""

    def reported(sentence: str) -> str:
        nonlocal failed, first
        failed += 1
        first = first or sentence
        _LOG.error("error: %s", sentence)
        count(failed)
        return sentence

    for index, example in enumerate(dataset.examples):
        if example.problem is not None:
            yield index, reported(example.problem)
    results = model.encode_many((video_input(dataset.examples[index]) for index in present), views=views)
    for index, result in zip(present, results, strict=True):
        if isinstance(result, Failure):
            yield index, reported(_sentence(result, dataset.examples[index]))
        else:
            count(failed)
            yield index, result
    if failed == len(dataset):
        raise ActionClipError(f"none of the {failed} clips of {dataset.name} can be read; the first: {first}")
    if failed:
        _LOG.error("%d of %d clips cannot be read", failed, len(dataset))


def video_input(example: Example) -> "VideoInput":
    """Return what a model encodes for an example: its path or URL, or the frames of a part of it."""
    if example.start_s is None and example.end_s is None:
        return example.video
    from action_clip.video.span import Span

    return Span(example.video, example.start_s or 0.0, example.end_s)


def _sentence(failure: Failure, example: Example) -> str:
    """Return why a clip cannot be read, with its name."""
    name, text = display_name(example.video), str(failure.error)
    return text if name in text else f"{name}: {text}"
