"""The interface of a PyTorch model of any kind to the exporter."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from torch import nn

from action_clip.commands.samples import SAMPLE_VIDEO
from action_clip.errors import ActionClipError
from action_clip.models.catalog import validators
from action_clip.models.catalog.specs import ModelSpec
from action_clip.video.preprocess import clip_tensor
from action_clip.video.reader import read_clip
from action_clip.video.sampling import make_sampler


@dataclass(frozen=True)
class ExportOptions:
    """The user's statements about a checkpoint."""

    fusion: str | None = None
    """The fusion that the checkpoint must have, one of choices.FUSIONS; None: any."""
    frames: int | None = None
    """Frames of a clip, where the weights allow several numbers."""
    activation: str | None = None
    """One of choices.ACTIVATIONS, where the checkpoint does not say it."""
    licence: str = "not stated"
    trust: bool = False
    """Whether reading the checkpoint may run code that it contains."""


class SourceModel(ABC):
    """A PyTorch model that is exported."""

    layout: str
    """Name of its checkpoint's layout: "OpenAI CLIP", …"""
    sha256: str
    """Hash of the checkpoint."""
    networks: Mapping[str, nn.Module]
    """The network of each graph, by its role, in evaluation mode."""

    @abstractmethod
    def spec(self, name: str, licence: str) -> ModelSpec:
        """Return the model's data as the catalog would have them, preprocessing in particular."""

    @abstractmethod
    def details(self) -> dict[str, str]:
        """Return metadata of the graphs besides the spec, on the kind of network."""

    @abstractmethod
    def graph(self, role: str) -> onnx.ModelProto:
        """Return the graph of a role, in float32."""

    @abstractmethod
    def examples(self) -> dict[str, list[NDArray[Any]]]:
        """Return inputs of each role's graph: real frames and prompts in several batch sizes and lengths.

        The first of each role is used to measure the loss of int8: a few rows, as diverse as possible.
        """


def sample_clip(spec: ModelSpec) -> NDArray[np.float32]:
    """Return the sample video, preprocessed for that model: (T, 3, S, S) float32."""
    clip = read_clip(SAMPLE_VIDEO, make_sampler("uniform", spec.frames, 0, spec.uniform))
    return clip_tensor(clip.frames, spec.image_size, spec.mean, spec.std, spec.resize)


def spec_of_export(kind: str, name: str, licence: str, **fields: Any) -> ModelSpec:
    """Return the ModelSpec of a model that is not in the catalog.

    Args:
        kind: as in the catalog.
        name: the model's name.
        licence: the licence of its weights.
        fields: the other fields of ModelSpec on preprocessing, prompts and classes.

    Raises:
        ActionClipError: more frames or pixels than any known model takes.
    """
    frames, size = fields["frames"], fields["image_size"]
    if frames > validators.MOST_FRAMES or frames * size**2 > validators.MOST_PIXELS_OF_A_CLIP:
        raise ActionClipError(
            f"the checkpoint takes {frames} frames of {size} pixels: it is not of a model that is known here"
        )
    defaults: dict[str, Any] = {"uniform": "segments", "logit_scale": 1.0, "prompts": (), "classes": ()}
    return ModelSpec(
        name=name,
        aliases=(),
        kind=kind,
        description="exported from a checkpoint",
        licence=licence,
        accuracy="not stated",
        citation="",
        size=0,
        folder=None,
        checkpoint=None,
        files=(),
        **(defaults | fields),
    )
