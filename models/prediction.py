"""The result for one video."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from action_clip.errors import ActionClipError
from action_clip.system.forks import cached_property
from action_clip.video.views import ONE_VIEW

_REPR_LABELS = 3
_REPR_CHARACTERS = 40


@dataclass(frozen=True)
class Ranked:
    """One of the most probable labels: `rank` from 1, `index` in `Prediction.labels`, `probability` from 0 to 1."""

    rank: int
    index: int
    label: str
    probability: float


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """The probabilities of the labels for one video, and what they were computed from.

    Attributes:
        labels: the labels in the order they were given, repeated ones once; or the classes of a closed set. Where
            "none of these" may be the answer, it is the last one.
        probabilities: (labels,) float64, sum 1, unless `is_multi_label`.
        similarities: (labels,) float64, from -1 to 1: cosine of video and label features, mean over the prompts; for
            "none of these" that of its nearest text; for a closed set the logits, which have no bounds.
        top_k: length of `ranked`, at most the number of labels.
        video_features: (D,) float32, L2-normalised; of several views, the mean.
        frame_indices: of the frames that were looked at, from 0, clip by clip; with the sampling "keyframes", they may
            be estimates.
        model: name of the model.
        video: path or URL, without its password or token; None where something else was given.
        duration_s: of the video, in seconds; None where it is not known, as for arrays and images.
        frame_times_s: of these frames, in seconds from the first one; () where they are not known.
        frames: (T, h, w, 3) uint8 RGB, the frames that were looked at, as thumbnails: of 4 MiB together at most; with
            thumbnails=False and among several videos none, (0, 0, 0, 3).
        timings_s: seconds of each stage: decode, preprocess, then image, fusion and text (ActionClip) or video
            (TimeSformer), score.
        none_index: index of "none of these" in `labels`, the last one; None where it is not there.
        is_multi_label: whether each label was scored by itself, against texts that mean something else: then each
            probability is from 0 to 1, and they do not sum to 1.
        views: clips x crops: probabilities and similarities are the means over these.
        thumbnail: (h, w, 3) uint8 RGB, of 160 pixels at most in each direction: a frame near the middle of the video,
            where one was asked for among several videos; else None.
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
    frames: NDArray[np.uint8]
    timings_s: dict[str, float]
    none_index: int | None = None
    is_multi_label: bool = False
    views: str = ONE_VIEW
    thumbnail: NDArray[np.uint8] | None = None

    @cached_property
    def ranked(self) -> tuple[Ranked, ...]:
        """The `top_k` most probable labels, highest first; equally probable ones in the order of `labels`."""
        order = np.argsort(-self.probabilities, kind="stable")[: self.top_k]
        return tuple(
            Ranked(rank, int(index), self.labels[index], float(self.probabilities[index]))
            for rank, index in enumerate(order, start=1)
        )

    def __repr__(self) -> str:
        """Return one line of a few hundred characters at most: best labels, number of labels, video and model."""
        best = [f"{_quoted(entry.label)} {entry.probability:.1%}" for entry in self.ranked[:_REPR_LABELS]]
        if len(best) < len(self.labels):
            best.append(f"… of {len(self.labels)} labels")
        video = "frames" if self.video is None else _quoted(self.video)
        return f"<Prediction {', '.join(best)}; video: {video}; model: {_quoted(self.model)}>"

    def _repr_html_(self) -> str:
        """Return the HTML that Jupyter shows: the sheet that `--save` draws, or a table where OpenCV cannot draw it."""
        from action_clip.output.html import prediction_html

        return prediction_html(self)

    def to_dict(self) -> dict[str, Any]:
        """Return what `--format json` writes: the ranked labels and where they come from, in plain Python types."""
        return {
            "video": self.video,
            "model": self.model,
            "class_count": len(self.labels),
            **({"multi_label": True} if self.is_multi_label else {}),
            "frames": [int(index) for index in self.frame_indices],
            "frame_times_s": [float(time) for time in self.frame_times_s],
            "duration_s": None if self.duration_s is None else float(self.duration_s),
            **({} if self.views == ONE_VIEW else {"views": self.views}),
            "predictions": [asdict(entry) for entry in self.ranked],
            "timings_s": {stage: float(seconds) for stage, seconds in self.timings_s.items()},
        }


@dataclass(frozen=True)
class Window:
    """The answer for a part of a video.

    Attributes:
        start_s, end_s: beginning and end of the part, in seconds from the video's first frame.
        prediction: for its frames; `duration_s` is that of the whole video.
    """

    start_s: float
    end_s: float
    prediction: Prediction

    def to_dict(self) -> dict[str, Any]:
        """Return what `--format json` writes, with times to the microsecond."""
        return {"start_s": round(self.start_s, 6), "end_s": round(self.end_s, 6)} | self.prediction.to_dict()


@dataclass(frozen=True)
class Failure:
    """A video among several that could not be read.

    Attributes:
        video: path or URL, without its password or token; None where frames were given.
        error: says what is wrong with it.
    """

    video: str | None
    error: ActionClipError

    def to_dict(self) -> dict[str, str | None]:
        """Return what `--format json` writes."""
        return {"video": self.video, "error": str(self.error)}


def _quoted(text: str) -> str:
    """Return the text in quotes, without its middle where it is long; control characters are escaped."""
    half = _REPR_CHARACTERS // 2
    return repr(text if len(text) <= _REPR_CHARACTERS else f"{text[:half]}…{text[-half:]}")


def check_top_k(top_k: int) -> None:
    """Raise ActionClipError where `top_k` is no whole number above 0."""
    if not isinstance(top_k, int | np.integer) or top_k < 1:
        raise ActionClipError(f"top_k is {top_k}: give a whole number above 0")
