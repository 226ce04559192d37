"""What the exporter must know of a model in PyTorch, whichever kind it is."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
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


class Exportable(ABC):
    """A model in PyTorch that is to become graphs."""

    layout: str
    """Whose its checkpoint is, for people."""
    sha256: str
    """Of the checkpoint."""
    networks: Mapping[str, nn.Module]
    """By the role of the graph, set to evaluation."""

    @abstractmethod
    def spec(self, name: str, licence: str) -> ModelSpec:
        """How the model is fed, as the catalog would say it."""

    @abstractmethod
    def details(self) -> dict[str, str]:
        """What else is worth keeping in the graphs' metadata, to tell the model by."""

    @abstractmethod
    def graph(self, role: str) -> onnx.ModelProto:
        """The graph of a role, in float32."""

    @abstractmethod
    def examples(self) -> dict[str, list[NDArray[Any]]]:
        """Inputs of each role's graph, real frames and prompts in several batch sizes and lengths.

        The first of each is for measuring what int8 costs: not many rows, as different as there are.
        """


def sample_clip(spec: ModelSpec) -> NDArray[np.float32]:
    """(T, 3, S, S): the sample video as that model takes it."""
    clip = read_clip(SAMPLE_VIDEO, make_sampler("uniform", spec.frames, 0, spec.uniform))
    return clip_tensor(clip.frames, spec.image_size, spec.mean, spec.std, spec.resize)


def spec_of_export(kind: str, name: str, licence: str, **fed: Any) -> ModelSpec:
    """The ModelSpec of a model that is in no catalog; `fed` are its fields for feeding it.

    Raises:
        ActionClipError: they ask for more frames or pixels than any model does.
    """
    frames, size = fed["frames"], fed["image_size"]
    if frames > validators.MOST_FRAMES or frames * size**2 > validators.MOST_PIXELS_OF_A_CLIP:
        raise ActionClipError(
            f"the checkpoint takes {frames} frames of {size} pixels: it is not of a model that is known here"
        )
    plain: dict[str, Any] = {"uniform": "segments", "logit_scale": 1.0, "prompts": (), "classes": ()}
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
        **(plain | fed),
    )
