"""The exporter's interface to TimeSformer."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from action_clip.errors import ActionClipError
from action_clip.export.graphs import BATCH, to_onnx
from action_clip.export.source_model import ExportOptions, SourceModel, sample_clip, spec_of_export
from action_clip.export.timesformer.checkpoints import TimeSformerCheckpoint, assemble_timesformer, read_timesformer
from action_clip.models.catalog.specs import ModelSpec, kinetics_400


class TimeSformerModel(SourceModel):
    """A TimeSformer, which is exported to one graph, from frames to logits and features."""

    def __init__(self, checkpoint: TimeSformerCheckpoint) -> None:
        self._checkpoint = checkpoint
        self._network = assemble_timesformer(checkpoint)
        self.layout, self.sha256 = checkpoint.layout, checkpoint.sha256
        self.networks = {"video": self._network}

    def spec(self, name: str, licence: str) -> ModelSpec:
        preprocessing = self._checkpoint.preprocessing
        size = self._network.image_size
        return spec_of_export(
            "closed-set",
            name,
            licence,
            frames=self._network.frames,
            image_size=size,
            resize=max(preprocessing.resize or size, size),
            mean=preprocessing.mean,
            std=preprocessing.std,
            uniform="linspace",
            classes=self._class_names(),
        )

    def _class_names(self) -> tuple[str, ...]:
        """Return the checkpoint's class names; if it has none, Kinetics-400's for 400 classes, else numbered ones."""
        if self._checkpoint.class_names is not None:
            return self._checkpoint.class_names
        count = self._network.head.out_features
        if count == len(kinetics_400()):
            return kinetics_400()
        return tuple(f"class {number}" for number in range(count))

    def details(self) -> dict[str, str]:
        return {"attention": self._network.attention}

    def graph(self, role: str) -> onnx.ModelProto:
        network = self._network
        clips = torch.zeros(2, network.frames, 3, network.image_size, network.image_size)
        return to_onnx(network, "frames", clips, {0: BATCH}, ("logits", "features"))

    def examples(self) -> dict[str, list[NDArray[Any]]]:
        clip = sample_clip(self.spec("", ""))
        clips = np.stack([clip, clip[..., ::-1], clip[::-1]])
        return {"video": [clips[:2], clips, clips[:1]]}


def timesformer_model(source: Path, options: ExportOptions) -> TimeSformerModel:
    """Return the TimeSformer of a checkpoint.

    Raises:
        ActionClipError: an option that a TimeSformer does not have, or another number of frames than its own; and as
            read_timesformer and assemble_timesformer.
    """
    checkpoint = read_timesformer(source, trust=options.trust)
    if checkpoint.frames is None:  # where the weights determine the frames, assemble_timesformer uses those
        checkpoint = replace(checkpoint, frames=options.frames)
    model = TimeSformerModel(checkpoint)
    for option in ("fusion", "activation"):
        if getattr(options, option) is not None:
            raise ActionClipError(f"a TimeSformer has no --{option} to choose: leave it out")
    frames = model.spec("", "").frames
    if options.frames not in (None, frames):
        raise ActionClipError(
            f"the checkpoint is for {frames} frames, not {options.frames}: give another checkpoint or leave out "
            "--frames"
        )
    return model
