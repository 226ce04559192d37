"""Loading a model of any kind by its name or folder."""

from collections.abc import Iterable

from action_clip.errors import ActionClipError
from action_clip.models import AVERAGES, DEFAULT_MODEL
from action_clip.models.actionclip import ActionClip
from action_clip.models.classmap import ClassMap
from action_clip.models.closed_set import ClosedSetModel
from action_clip.models.model_graphs import ModelName, find_model
from action_clip.models.timesformer import TimeSformer


def load(
    model: ModelName = DEFAULT_MODEL,
    *,
    device: str = "auto",
    threads: int | None = None,
    cache: bool = True,
    prepack: bool = True,
    prompts: Iterable[str] | None = None,
    average: str = AVERAGES[0],
    classmap: ClassMap | None = None,
) -> ActionClip | ClosedSetModel:
    """Return the model of that name or folder.

    It is an ActionClip for a zero-shot one, a TimeSformer for a closed-set one, and its base class ClosedSetModel where
    `action-clip train` made a closed set of a model's features.

    Args:
        model: a name from the catalog, a folder that `action-clip export` or `action-clip train` made, or what
            `find_model` returns.
        device, threads, cache, prepack: as for both classes.
        prompts, average: for a zero-shot model, as for ActionClip.
        classmap: for a closed-set model, as for ClosedSetModel.

    Raises:
        ActionClipError: unknown model, an option with a wrong value, or one of the other kind of model.
    """
    found = find_model(model)
    if found.spec.kind == ActionClip.kind:
        if classmap is not None:
            raise ActionClipError(f"classmap is for closed-set models, and {found.name} takes labels: leave it out")
        return ActionClip(
            found, device=device, threads=threads, prompts=prompts, average=average, cache=cache, prepack=prepack
        )
    if prompts is not None:
        raise ActionClipError(
            f"{found.name} is a closed-set model, it knows its own classes and no other labels: leave out prompts, "
            f"or choose a zero-shot model, such as {DEFAULT_MODEL} or nano"
        )
    if average != AVERAGES[0]:
        raise ActionClipError(f"average is over prompts, and {found.name} has none: leave it out")
    kind = ClosedSetModel if found.spec.head else TimeSformer
    return kind(found, device=device, threads=threads, classmap=classmap, cache=cache, prepack=prepack)
