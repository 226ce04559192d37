"""What videos and clips are encoded to: features, for any number of questions."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from action_clip.models.prediction import Failure
from action_clip.models.scoring import normalized
from action_clip.video.views import ONE_VIEW

if TYPE_CHECKING:
    from collections.abc import Callable

    from action_clip.models.model_graphs import ModelGraphs
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

    def __len__(self) -> int:
        """N."""
        return len(self.features)

    def part(self, first: int, end: int) -> "EncodedClips":
        """Return the clips from number `first` to `end`, not included, without timings."""
        rows = slice(first, end)
        frames = None if self.frame_features is None else self.frame_features[rows]
        return EncodedClips(self.features[rows], frames, self.logits[rows], {})


def joined(runs: Sequence[EncodedClips]) -> EncodedClips:
    """Return the clips of several runs of the same graphs as those of one."""
    frames = [run.frame_features for run in runs if run.frame_features is not None]
    timings_s: dict[str, float] = {}
    for run in runs:
        add_timings(timings_s, run.timings_s)
    return EncodedClips(
        features=np.concatenate([run.features for run in runs]),
        frame_features=np.concatenate(frames) if frames else None,
        logits=np.concatenate([run.logits for run in runs]),
        timings_s=timings_s,
    )


def add_timings(timings_s: dict[str, float], more_s: Mapping[str, float]) -> None:
    """Add the seconds of each stage to those of `timings_s`."""
    for stage, seconds in more_s.items():
        timings_s[stage] = timings_s.get(stage, 0.0) + seconds


@contextmanager
def timed(timings: dict[str, float], stage: str) -> Iterator[None]:
    """Store the seconds that the block takes as `timings[stage]`."""
    began = perf_counter()
    yield
    timings[stage] = perf_counter() - began


@dataclass(frozen=True)
class Steps:
    """The two steps from preprocessed frames to the features of clips.

    Attributes:
        frames: runs on frames, (N, 3, S, S), each alone, and returns a row for each; None where frames of a clip see
            each other.
        clips: runs on the rows of clips, (N, T, …), or on their frames.
    """

    frames: "Callable[[ModelGraphs, NDArray[np.float32]], NDArray[np.float32]] | None"
    clips: "Callable[[ModelGraphs, NDArray[np.float32]], EncodedClips]"


@dataclass(frozen=True, eq=False)
class EncodedVideo:
    """Features of one video, from one view of it or several; `predict` uses them, any number of times.

    Attributes:
        by_view: what each of V views was encoded to: `features` (V, D) and so on, crop by crop and, of each crop, clip
            by clip.
        clip: the indices and times of the sampled frames, clip by clip, and these as thumbnails (see Prediction) where
            they were asked for.
        video: the path or URL; None where frames were given instead.
        model: name of the model.
        timings_s: seconds of each stage so far.
        views: clips x crops.
        thumbnail: as in Prediction.
    """

    by_view: EncodedClips = field(repr=False)
    clip: "Clip" = field(repr=False)
    video: str | None
    model: str
    timings_s: dict[str, float]
    views: str = field(default=ONE_VIEW, repr=False)
    thumbnail: NDArray[np.uint8] | None = field(default=None, repr=False)

    @property
    def features(self) -> NDArray[np.float32]:
        """(D,) float32, L2-normalised: of the only view, or of the mean of several."""
        features = self.by_view.features
        return features[0] if len(features) == 1 else normalized(features.mean(axis=0))

    @property
    def frame_features(self) -> NDArray[np.float32] | None:
        """(V · T, D) float32, those of all views; or None: as in EncodedClips."""
        frames = self.by_view.frame_features
        return None if frames is None else frames.reshape(-1, frames.shape[-1])

    @property
    def logits(self) -> NDArray[np.float32]:
        """(C,) float32, the mean over the views; C = 0 for a zero-shot model."""
        mean: NDArray[np.float32] = self.by_view.logits.mean(axis=0)
        return mean


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


def of_one(results: Results[T]) -> Iterator[T]:
    """Yield the results of a single video, and raise the error of a Failure."""
    with closing(results):
        for _, result in results:
            if isinstance(result, Failure):
                raise result.error
            yield result
