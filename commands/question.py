"""What is asked about videos: the model and its labels, as the options say."""

import argparse
from collections.abc import Sequence
from typing import Any, NamedTuple

from action_clip.commands.samples import LABELS, SAMPLE_LABELS
from action_clip.errors import ActionClipError
from action_clip.models import AVERAGES, DEFAULT_MODEL
from action_clip.models.actionclip import ActionClip
from action_clip.models.classmap import read_classmap
from action_clip.models.loading import load
from action_clip.models.model_graphs import FoundModel
from action_clip.models.timesformer import TimeSformer
from action_clip.tokenizer.prompts import read_labels, read_prompts, warn_about_lists


class Question(NamedTuple):
    """A model, and the other arguments of its `classify` and `classify_as_completed`, besides the videos."""

    model: ActionClip | TimeSformer
    labels: list[str] | None
    """None for a closed set."""
    how: dict[str, Any]
    prompts: Sequence[str] | None
    """Of --prompts."""
    classmap: dict[int, str] | None
    """Of --classmap."""

    @property
    def arguments(self) -> tuple[list[str], ...]:
        """The positional arguments after the videos."""
        return () if self.labels is None else (self.labels,)


def question(options: argparse.Namespace, found: FoundModel, *, prepack: bool) -> Question:
    """Load the model, and read the files of labels, prompts and classes.

    Args:
        options: of the command.
        found: the model.
        prepack: as for ActionClip.

    Raises:
        ActionClipError: one of them is not usable, or an option is for the other kind of model.
    """
    _check_kind(options, found)
    prompts = read_prompts(options.prompts) if options.prompts else None
    classmap = read_classmap(options.classmap) if options.classmap else None
    model = load(
        found,
        device=options.device,
        threads=options.threads,
        cache=not (options.no_cache or options.benchmark),
        prepack=prepack,
        prompts=prompts,
        average=options.average,
        classmap=classmap,
    )
    how = {"top_k": options.top_k, "sampling": options.sampling, "seed": options.seed or 0}
    if options.views:
        how["views"] = options.views
    return Question(model, _labels(options) if isinstance(model, ActionClip) else None, how, prompts, classmap)


def _check_kind(options: argparse.Namespace, found: FoundModel) -> None:
    """Raise ActionClipError where an option is for the other kind of model."""
    if found.spec.kind == ActionClip.kind:
        if options.classmap:
            raise ActionClipError(f"--classmap is for closed-set models, {found.name} takes labels: use --desc_file")
        return
    for option in ("text", "desc_file", "prompts"):
        if getattr(options, option):
            raise ActionClipError(
                f"{options.model} is a closed-set model, it knows its own classes and no other labels: leave out "
                f"--{option}, or choose a zero-shot model, such as {DEFAULT_MODEL} or nano"
            )
    if options.average != AVERAGES[0]:
        raise ActionClipError(f"--average is over prompts, and {found.name} has none: leave it out")


def _labels(options: argparse.Namespace) -> list[str]:
    warn_about_lists(options.text)
    labels = [*options.text, *(read_labels(options.desc_file, before=options.text) if options.desc_file else ())]
    return labels or (list(LABELS) if options.video else read_labels(SAMPLE_LABELS))
