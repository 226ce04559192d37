"""What is asked about videos: the model and its labels, as the options say."""

import argparse
from collections.abc import Sequence
from typing import Any, NamedTuple

from action_clip.commands.arguments import DEFAULT_TOP_K, OWN_TEXTS
from action_clip.commands.samples import LABELS, SAMPLE_LABELS
from action_clip.errors import ActionClipError
from action_clip.models import AVERAGES, DEFAULT_MODEL
from action_clip.models.actionclip import ActionClip
from action_clip.models.catalog.specs import ModelSpec
from action_clip.models.classmap import read_classmap
from action_clip.models.closed_set import ClosedSetModel
from action_clip.models.loading import load
from action_clip.models.model_graphs import FoundModel
from action_clip.tokenizer.prompts import read_labels, read_prompts, warn_about_lists


class Question(NamedTuple):
    """A model, and the arguments of `classify` and `classify_as_completed`, or of `timelines`, besides the videos."""

    model: ActionClip | ClosedSetModel
    labels: list[str] | None
    """None for a closed set."""
    how: dict[str, Any]
    prompts: Sequence[str] | None
    """Of --prompts."""
    classmap: dict[int, str] | None
    """Of --classmap."""
    against: dict[str, Any]
    """How labels are scored: `none` and `multi_label`, as for `ActionClip.labels`; {} without these options."""
    threshold: float
    """The probability from which a label is taken to happen, by default: what was measured for the model with these
    options; 0 without them."""

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
    labels = _labels(options, found.spec) if isinstance(model, ActionClip) else None
    return Question(
        model,
        labels,
        _how(options, labels),
        prompts,
        classmap,
        _against(options, found.spec),
        _threshold(options, found.spec),
    )


def _how(options: argparse.Namespace, labels: list[str] | None) -> dict[str, Any]:
    top_k = options.top_k or (len(labels or ()) if options.multi_label else DEFAULT_TOP_K)
    if options.window is not None:
        return {"top_k": top_k, "window": options.window, "stride": options.stride}
    how = {"top_k": top_k, "sampling": options.sampling, "seed": options.seed or 0}
    return how | {"views": options.views} if options.views else how


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
    for option in ("none", "multi_label"):
        if getattr(options, option):
            raise ActionClipError(
                f"{options.model} is a closed-set model, whose probabilities are of its own classes and of no other "
                f"texts: leave out --{option.replace('_', '-')}, or choose a zero-shot model, such as {DEFAULT_MODEL} "
                "or nano"
            )
    if options.average != AVERAGES[0]:
        raise ActionClipError(f"--average is over prompts, and {found.name} has none: leave it out")


def _against(options: argparse.Namespace, spec: ModelSpec) -> dict[str, Any]:
    if not options.none and not options.multi_label:
        return {}
    chosen = [text for text in options.none if text != OWN_TEXTS]
    warn_about_lists(chosen)
    own = spec.none_texts if OWN_TEXTS in options.none or not chosen else ()
    return {"none": [*own, *chosen], "multi_label": options.multi_label}


def _threshold(options: argparse.Namespace, spec: ModelSpec) -> float:
    if options.multi_label or spec.is_multi_label:
        return spec.multi_label_threshold
    return spec.none_threshold if options.none else 0.0


def _labels(options: argparse.Namespace, spec: ModelSpec) -> list[str]:
    warn_about_lists(options.text)
    labels = [*options.text, *(read_labels(options.desc_file, before=options.text) if options.desc_file else ())]
    return labels or list(spec.classes or (LABELS if options.video else read_labels(SAMPLE_LABELS)))
