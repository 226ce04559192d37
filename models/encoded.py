"""What videos and clips are encoded to: features, for any number of questions."""

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from action_clip.models.prediction import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from action_clip.video.clip import Clip

T = TypeVar("T")
A = TypeVar("A")
Results = Generator[tuple[int, T | Failure], None, None]
"""Pairs of a video's number, from 0, and its result. Closing it ends the work, so a generator around it closes it."""

NO_FRAMES = np.empty((0, 0, 0, 3), np.uint8)
"""Stands for thumbnails that were not asked for."""


@dataclass(frozen=True, eq=False)
class EncodedClips:
    """Features of N clips.

    Attributes:
        features: (N, D) float32, L2-normalised.
        frame_features: (N, T, D) float32, the image graph's output, where it sees each frame alone: any T of them are
            an input of the fusion graph. None where frames attend to each other.
        logits: (N, C) float32 over the C classes of a closed set; (N, 0) for a zero-shot model.
        timings_s: seconds of each graph.
    """

    features: NDArray[np.float32] = field(repr=False)
    frame_features: NDArray[np.float32] | None = field(repr=False)
    logits: NDArray[np.float32] = field(repr=False)
    timings_s: dict[str, float]


@dataclass(frozen=True, eq=False)
class EncodedVideo:
    """Features of one video, from one clip of it; `predict` uses them, any number of times.

    Attributes:
        features: (D,) float32, L2-normalised.
        frame_features: (T, D) float32, or None: as in EncodedClips.
        logits: (C,) float32; C = 0 for a zero-shot model.
        clip: the indices and times of the sampled frames, and these as thumbnails (see Prediction) where they were
            asked for.
        video: the path or URL; None where frames were given instead.
        model: name of the model.
        timings_s: seconds of each stage so far.
    """

    features: NDArray[np.float32] = field(repr=False)
    frame_features: NDArray[np.float32] | None = field(repr=False)
    logits: NDArray[np.float32] = field(repr=False)
    clip: "Clip" = field(repr=False)
    video: str | None
    model: str
    timings_s: dict[str, float]


def answered(results: Results[T], answer: "Callable[[T], A]") -> Results[A]:
    """Yield the number of each video, and what `answer` returns for its result; a Failure stays."""
    with closing(results):
        for number, result in results:
            yield number, result if isinstance(result, Failure) else answer(result)


def in_order(results: Results[T]) -> Iterator[T | Failure]:
    """Yield results that come in the order of the videos, without their numbers."""
    with closing(results):
        for _, result in results:
            yield result
