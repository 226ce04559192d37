"""Running the graphs of a model on preprocessed clips."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from action_clip.errors import ActionClipError
from action_clip.models.model_graphs import ModelGraphs
from action_clip.models.scoring import normalized


@dataclass(frozen=True, eq=False)
class EncodedClips:
    """Features of N clips.

    Attributes:
        features: (N, D) float32, L2-normalised.
        frame_features: (N, T, D) float32 as the image graph gives them, where it sees each frame alone: the fusion
            graph makes features of any T of them. None where frames attend to each other.
        logits: (N, C) float32 over the C classes of a closed set; (N, 0) of a zero-shot model.
        timings_s: seconds of each graph.
    """

    features: NDArray[np.float32]
    frame_features: NDArray[np.float32] | None
    logits: NDArray[np.float32]
    timings_s: dict[str, float]


def encode_frames(graphs: ModelGraphs, clips: NDArray[np.float32]) -> EncodedClips:
    """Run the image graph on every frame, and the fusion graph on the frame features of each clip.

    Args:
        graphs: of a zero-shot model.
        clips: (N, T, 3, S, S) float32.
    """
    timings: dict[str, float] = {}
    with timed(timings, "image"):
        frame_features = graphs["image"](clips.reshape(-1, *clips.shape[2:])).reshape(*clips.shape[:2], -1)
    with timed(timings, "fusion"):
        features = normalized(graphs["fusion"](frame_features))
    return EncodedClips(
        features=features,
        frame_features=None if graphs.spec.temporal else frame_features,
        logits=np.empty((len(clips), 0), np.float32),
        timings_s=timings,
    )


def encode_whole_clips(graphs: ModelGraphs, clips: NDArray[np.float32]) -> EncodedClips:
    """Run the video graph on whole clips.

    Args:
        graphs: of a closed-set model.
        clips: (N, T, 3, S, S) float32.
    """
    graph, classes = graphs["video"], len(graphs.spec.classes)
    # Graphs declare frames first, (N, T, 3, S, S), or channels first, (N, 3, T, S, S).
    if graph.shape[1:2] == (3,) and graph.shape[2:3] != (3,):
        clips = clips.swapaxes(1, 2)
    timings: dict[str, float] = {}
    with timed(timings, "video"):
        logits, features = graph.outputs(clips, 2)
    if logits.shape != (len(clips), classes) or features.ndim != 2 or len(features) != len(clips):
        raise ActionClipError(
            f"the graph {graph.path.name} gives logits of the shape {logits.shape} and features of {features.shape}, "
            f"not ({len(clips)}, {classes}) and ({len(clips)}, D): export it again"
        )
    if not np.isfinite(logits).all():
        raise ActionClipError(f"the graph {graph.path.name} gives logits that are not finite: export it again")
    return EncodedClips(normalized(features), None, logits, timings)


@contextmanager
def timed(timings: dict[str, float], stage: str) -> Iterator[None]:
    """Put the seconds that the block takes under the name of the stage."""
    began = perf_counter()
    yield
    timings[stage] = perf_counter() - began
