"""Results as a model returns them, for tests of what is made of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from action_clip import ActionClipError, Failure, Prediction, Window

NO_FRAMES = np.empty((0, 0, 0, 3), np.uint8)


def prediction(video: str | None, probabilities: Mapping[str, float], **others: Any) -> Prediction:
    """The prediction for a video of 8 s, of which three frames were looked at; `others`: its other attributes."""
    values = np.array([*probabilities.values()], np.float64)
    attributes: dict[str, Any] = {
        "labels": tuple(probabilities),
        "probabilities": values,
        "similarities": values,
        "top_k": min(5, len(values)),
        "video_features": np.ones(4, np.float32) / 2,
        "frame_indices": (10, 20, 30),
        "model": "small",
        "video": video,
        "duration_s": 8.0,
        "frame_times_s": (0.4, 0.8, 1.2),
        "frames": NO_FRAMES,
        "timings_s": {},
    }
    return Prediction(**attributes | others)


def windows(video: str, curves: Mapping[str, Sequence[float]], stride_s: float = 1.0, **others: Any) -> list[Window]:
    """Windows twice as long as the stride, with the probabilities of each label in turn."""
    rows = [*zip(*curves.values(), strict=True)]
    duration_s = (len(rows) + 1) * stride_s
    return [
        Window(
            number * stride_s,
            (number + 2) * stride_s,
            prediction(video, dict(zip(curves, row, strict=True)), duration_s=duration_s, **others),
        )
        for number, row in enumerate(rows)
    ]


def failure(video: str, reason: str) -> Failure:
    """A video that could not be read."""
    return Failure(video, ActionClipError(f"{video} {reason}"))


def picture(level: int, height: int = 90, width: int = 160) -> NDArray[np.uint8]:
    """A picture of one grey."""
    return np.full((height, width, 3), level, np.uint8)
