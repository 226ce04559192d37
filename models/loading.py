"""One way in for all models."""

import os
from typing import Any

from action_clip.models.actionclip import DEFAULT_MODEL, ActionClip
from action_clip.models.model import find_model
from action_clip.models.timesformer import TimeSformer

CLASSES: dict[str, type[ActionClip] | type[TimeSformer]] = {model.kind: model for model in (ActionClip, TimeSformer)}


def load(model: str | os.PathLike[str] = DEFAULT_MODEL, **options: Any) -> ActionClip | TimeSformer:
    """The model of that name or folder, as an object of the class for its kind.

    Args:
        model: a name from the catalog, or a folder with exported graphs.
        options: keyword arguments of that class.

    Raises:
        ActionClipError: unknown model, or an option with a wrong value.
        TypeError: an option that the class does not have.
    """
    return CLASSES[find_model(model)[0].kind](model, **options)
