"""From preprocessed clips to their features, through the graphs of a model of any kind."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from action_clip.errors import ActionClipError
from action_clip.models.catalog.specs import ModelSpec
from action_clip.models.encoded import EncodedClips, Steps, timed
from action_clip.models.model_graphs import ModelGraphs
from action_clip.models.scoring import normalized
from action_clip.models.video_encoder import Encode


def encoding_of(spec: ModelSpec) -> tuple[Encode, Steps]:
    """Return what runs the graphs of such a model on clips, in one step and in two."""
    if "video" in spec.video_roles:
        return encode_whole_clips, Steps(None, encode_whole_clips)
    return encode_frames, Steps(None, encode_frames) if spec.temporal else Steps(frame_features, fused)


def encode_frames(graphs: ModelGraphs, clips: NDArray[np.float32]) -> EncodedClips:
    """Run the image graph on every frame, and the fusion graph on the frame features of each clip.

    Args:
        graphs: image and fusion.
        clips: (N, T, 3, S, S) float32.

    Raises:
        ActionClipError: the graphs are not available, or a run fails.
    """
    timings: dict[str, float] = {}
    with timed(timings, "image"):
        rows = frame_features(graphs, clips.reshape(-1, *clips.shape[2:])).reshape(*clips.shape[:2], -1)
    encoded = fused(graphs, rows)
    return replace(
        encoded,
        frame_features=None if graphs.spec.temporal else rows,
        timings_s=timings | encoded.timings_s,
    )


def frame_features(graphs: ModelGraphs, frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run the image graph on frames, (N, 3, S, S) float32, and return (N, D)."""
    return graphs["image"](frames)


def fused(graphs: ModelGraphs, rows: NDArray[np.float32]) -> EncodedClips:
    """Run the fusion graph on the frame features of clips, (N, T, D) float32."""
    timings: dict[str, float] = {}
    with timed(timings, "fusion"):
        features = normalized(graphs["fusion"](rows))
    return EncodedClips(features, None, np.empty((len(rows), 0), np.float32), timings)


def encode_whole_clips(graphs: ModelGraphs, clips: NDArray[np.float32]) -> EncodedClips:
    """Run the video graph on whole clips.

    Args:
        graphs: video.
        clips: (N, T, 3, S, S) float32.

    Raises:
        ActionClipError: the graph is not available, a run fails, or its outputs have other shapes or are not finite.
    """
    graph = graphs["video"]
    # Graphs declare frames first, (N, T, 3, S, S), or channels first, (N, 3, T, S, S).
    if graph.shape[1:2] == (3,) and graph.shape[2:3] != (3,):
        clips = clips.swapaxes(1, 2)
    timings: dict[str, float] = {}
    with timed(timings, "video"):
        logits, features = graph.outputs(clips, 2)
    # With a head, the classes of the model are the head's.
    classes = logits.shape[-1] if graphs.spec.head else len(graphs.spec.classes)
    if logits.shape != (len(clips), classes) or features.ndim != 2 or len(features) != len(clips):
        raise ActionClipError(
            f"the graph {graph.path.name} gives logits of the shape {logits.shape} and features of {features.shape}, "
            f"not ({len(clips)}, {classes}) and ({len(clips)}, D): export it again"
        )
    if not np.isfinite(logits).all():
        raise ActionClipError(f"the graph {graph.path.name} gives logits that are not finite: export it again")
    return EncodedClips(normalized(features), None, logits, timings)
