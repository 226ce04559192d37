"""Loading weights into networks: shapes are read off the weights; missing and unexpected weights are refused."""

import math

import torch
from torch import Tensor, nn

from action_clip.errors import ActionClipError
from action_clip.export.checkpoint_reading import State, listed
from action_clip.export.transformer import TransformerConfig
from action_clip.models.catalog import validators

# Most layers of a transformer, and most patches in one sequence.
_MOST_LAYERS, _MOST_PATCHES = 256, 16_384
# Width of an attention head, unless the checkpoint states another.
HEAD_WIDTH = 64
# Frames of a clip, where neither the weights nor the user determine their number.
DEFAULT_FRAMES = 8


def transformer_config(state: State, prefix: str, width: int, heads: int) -> TransformerConfig:
    """Return the config of the transformer whose weights' names begin with `prefix`.

    Raises ActionClipError where weights are missing, or the sizes are not those of a known model.
    """
    layers = {name.removeprefix(prefix).split(".")[1] for name in state if name.startswith(f"{prefix}resblocks.")}
    first = f"{prefix}resblocks.0.mlp.c_fc.weight"
    hidden = shape_of(state, first, 2)[0]
    if len(layers) > _MOST_LAYERS:
        raise ActionClipError(f"the checkpoint has {len(layers)} layers: it is not of a model that is known here")
    if heads < 1 or width % heads:
        raise ActionClipError(
            f"a width of {width} cannot be divided among {heads} attention heads: check the checkpoint"
        )
    return TransformerConfig(width, len(layers), heads, hidden)


def image_size(patch: int, positions: int, frames: int = 1) -> int:
    """Return the side of an image, in pixels.

    Args:
        patch: side of a patch, in pixels.
        positions: number of positions: one for each patch, and one for the class token.
        frames: number of frames whose patches are in one sequence.

    Raises:
        ActionClipError: the sizes are not those of a known model.
    """
    side = max(1, math.isqrt(positions - 1))
    size = side * patch
    if side * side * frames > _MOST_PATCHES or size > validators.MOST_PIXELS:
        raise ActionClipError(
            f"the checkpoint takes images of {size} pixels in {side}×{side} patches, {frames} at once: it is not of a "
            "model that is known here"
        )
    return size


def shape_of(state: State, name: str, dimensions: int) -> tuple[int, ...]:
    """Return the shape of a weight. Raises ActionClipError unless it has `dimensions` axes, none of length 0."""
    require(state, (name,))
    shape = tuple(state[name].shape)
    if len(shape) != dimensions or 0 in shape:
        raise ActionClipError(
            f"{name} has the shape {_dimensions(state[name])}, not {dimensions} dimensions: check which model the "
            "checkpoint is of"
        )
    return shape


def require(state: State, names: tuple[str, ...]) -> None:
    """Raise ActionClipError, with their names, where weights are missing."""
    missing = [name for name in names if name not in state]
    if missing:
        raise ActionClipError(f"the checkpoint lacks {', '.join(missing)}: check which model it is of")


@torch.no_grad()
def load_weights(parts: list[tuple[nn.Module, State, str]]) -> None:
    """Load the weights of networks, each with the prefix of its names in messages.

    Raises:
        ActionClipError: weights are missing, left over or of another shape; it names them all.
    """
    missing, left_over, misshapen = [], [], []
    for network, state, prefix in parts:
        own = network.state_dict()
        missing += [prefix + name for name in own if name not in state]
        left_over += [prefix + name for name in state if name not in own]
        misshapen += [
            f"{prefix}{name} {_dimensions(state[name])} instead of {_dimensions(own[name])}"
            for name in own
            if name in state and state[name].shape != own[name].shape
        ]
    faults = [
        f"{what} {listed(names)}"
        for what, names in (("lacks", missing), ("has left over", left_over), ("has", misshapen))
        if names
    ]
    if faults:
        raise ActionClipError(f"the checkpoint {'; it '.join(faults)}: it is not of a model that is known here")
    for network, state, _ in parts:
        # Not copied: the weights are already in float32.
        network.load_state_dict(state, assign=True)
        network.eval().requires_grad_(False)


def _dimensions(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "()"
