"""The answer for one video."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from action_clip.errors import ActionClipError
from action_clip.system.forks import cached_property


@dataclass(frozen=True)
class Ranked:
    """One line of the answer: `rank` from 1, `index` of the label among the labels."""

    rank: int
    index: int
    label: str
    probability: float


@dataclass(frozen=True, eq=False)
class Prediction:
    """The answer for one video.

    Attributes:
        labels: the labels in the order they were given, repeated ones once; or the classes of a closed set.
        probabilities: (labels,) float64, sum 1.
        similarities: (labels,) float64, mean cosine over the prompts; of a closed set, the logits.
        top_k: length of `ranked`, at most the number of labels.
        video_features: (D,) float32, L2-normalised.
        frame_indices: which frames of the video were looked at, from 0; with the sampling "keyframes", about which.
        model: name of the model.
        video: path or URL, without its password or token; None where frames were given.
        duration_s: of the video in seconds; None where frames were given.
        frame_times_s: seconds from the first frame; () where frames were given.
        frames: (T, h, w, 3) uint8 RGB, the frames that were looked at, as thumbnails: of 4 MiB together at most.
        timings_s: seconds of each stage: decode, preprocess, then image, fusion and text (ActionClip) or video
            (TimeSformer), score.
    """

    labels: tuple[str, ...]
    probabilities: NDArray[np.float64]
    similarities: NDArray[np.float64]
    top_k: int
    video_features: NDArray[np.float32]
    frame_indices: tuple[int, ...]
    model: str
    video: str | None
    duration_s: float | None
    frame_times_s: tuple[float, ...]
    frames: NDArray[np.uint8] = field(repr=False)
    timings_s: dict[str, float]

    @cached_property
    def ranked(self) -> tuple[Ranked, ...]:
        """The `top_k` most probable labels, highest first; equal ones in the order they were given."""
        order = np.argsort(-self.probabilities, kind="stable")[: self.top_k]
        return tuple(
            Ranked(rank, int(index), self.labels[index], float(self.probabilities[index]))
            for rank, index in enumerate(order, start=1)
        )


def check_top_k(top_k: int) -> None:
    """Raise ActionClipError where it is no whole number above 0."""
    if not isinstance(top_k, int | np.integer) or top_k < 1:
        raise ActionClipError(f"top_k is {top_k}: give a whole number above 0")
