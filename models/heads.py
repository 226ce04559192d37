"""The head that was trained on a model's features: from these to logits of its classes."""

from dataclasses import replace

import numpy as np

from action_clip.errors import ActionClipError
from action_clip.models.catalog.specs import HEAD
from action_clip.models.encoded import EncodedClips, timed
from action_clip.models.model_graphs import ModelGraphs


def with_head(graphs: ModelGraphs, encoded: EncodedClips) -> EncodedClips:
    """Return the clips with logits of the model's head, (N, C), in place of its graphs'; without a head, as they are.

    What is kept of videos is what the graphs gave: one encoding serves any number of heads.

    Raises:
        ActionClipError: the head is not available, its run fails, or its logits have another shape or are not finite.
    """
    if not graphs.spec.head:
        return encoded
    graph, shape = graphs[HEAD], (len(encoded), len(graphs.spec.classes))
    timings: dict[str, float] = {}
    with timed(timings, "head"):
        logits = graph(encoded.features)
    if logits.shape != shape:
        raise ActionClipError(
            f"the graph {graph.path.name} gives logits of the shape {logits.shape}, not {shape}: train the model again"
        )
    if not np.isfinite(logits).all():
        raise ActionClipError(f"the graph {graph.path.name} gives logits that are not finite: train the model again")
    return replace(encoded, logits=logits, timings_s=encoded.timings_s | timings)
