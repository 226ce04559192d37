"""Training a head on the features of a model, as the options say: clips in, a model's folder out."""

import argparse
import logging
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from shlex import quote

from action_clip.commands.data import dataset_of
from action_clip.commands.models import chosen_model
from action_clip.commands.progress import progress
from action_clip.data.dataset import Dataset
from action_clip.data.encoding import EncodedDataset, encode_dataset
from action_clip.data.requirements import require_scikit_learn
from action_clip.errors import ActionClipError
from action_clip.models.actionclip import ActionClip
from action_clip.models.catalog.specs import ModelSpec
from action_clip.models.closed_set import ClosedSetModel
from action_clip.models.loading import load
from action_clip.models.model_graphs import FoundModel
from action_clip.models.scoring import LabelBank
from action_clip.models.store.installation import fetch
from action_clip.output.stdout import write_stdout
from action_clip.system.terminal import printable
from action_clip.tokenizer.prompts import read_prompts
from action_clip.training.heads import AUTO
from action_clip.training.heads.card import card
from action_clip.training.heads.curve import curve
from action_clip.training.heads.examples import Examples, examples_of
from action_clip.training.heads.facts import WITH_TEXTS, trained_spec
from action_clip.training.heads.figures import Figures, compared, fitted_with, with_val
from action_clip.training.heads.folder import check_place, write_folder
from action_clip.training.heads.kinds import heads_for
from action_clip.training.heads.parts import check_classes, training_parts
from action_clip.training.heads.report import Report, as_text
from action_clip.training.heads.validation import left_out, make_folds

_USUAL = ("tip-adapter", "mean", "linear")
"""The heads that are taken where they cannot be compared, the first one that the model can have."""
_LOG = logging.getLogger("action_clip")


def train(options: argparse.Namespace) -> int:
    """Train a head, write the model's folder, print the figures, and return the exit code, 0.

    Raises:
        ActionClipError: options, data, model or folder are not usable.
    """
    # Everything that can be checked now is checked before clips are encoded.
    folder = Path(options.out)
    check_place(folder, overwrite=options.overwrite)
    _require_packages()
    found = chosen_model(options.model)
    _check_base(options, found.spec)
    known, val = training_parts(dataset_of(options))
    _check_labels(options, known)
    with _loaded(options, found) as model:
        bank = model.labels(known.classes, multi_label=known.is_multi_label) if isinstance(model, ActionClip) else None
        encoded, encoded_val = _encoded(model, known, val)
        spec, graphs = model.spec, found.paths or fetch(found.spec, keep=not options.no_cache)
    examples = examples_of(encoded)
    check_classes(known, examples)
    report = _report(options, spec, bank, encoded, encoded_val, examples)
    chosen = report.chosen
    fitted = fitted_with(chosen.head, examples, chosen.setting)
    prompts = model.prompts if isinstance(model, ActionClip) else ()
    new = trained_spec(spec, folder, chosen.head.name, known.classes, prompts, is_multi_label=fitted.is_multi_label)
    text = card(report, new, options.command, date.today().isoformat())
    roles = {role: path for role, path in graphs.items() if role in spec.video_roles or new.kind == ActionClip.kind}
    some = encoded.features[:16]
    write_folder(folder, new, roles, fitted.function, text, some, overwrite=options.overwrite)
    write_stdout(as_text(report))
    write_stdout(printable(f"\nwrote {folder}: action-clip --model {quote(str(folder))} --video …\n", lines=True))
    return 0


def _require_packages() -> None:
    require_scikit_learn()
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise ActionClipError(
            f"{error}: this needs onnx, pip install 'action-clip[train]', or in a clone pip install -r "
            "requirements-train.txt"
        ) from error


def _check_base(options: argparse.Namespace, base: ModelSpec) -> None:
    """Raise ActionClipError where the model can have no head, or not the one that is asked for."""
    if base.head:
        raise ActionClipError(
            f"{options.model} has a head of {len(base.classes)} classes already: name the model that it was trained "
            "from, which its README.md says"
        )
    if base.kind == ActionClip.kind:
        return
    if options.head in WITH_TEXTS:
        raise ActionClipError(
            f"{options.model} is a closed-set model and knows no texts, which --head {options.head} is about: choose "
            "linear or mean, or a zero-shot model"
        )
    if options.prompts:
        raise ActionClipError(f"--prompts is for zero-shot models, and {options.model} knows no texts: leave it out")


def _check_labels(options: argparse.Namespace, known: Dataset) -> None:
    """Raise ActionClipError where clips have several labels, and an option cannot do with that."""
    if not known.is_multi_label:
        return
    if options.head not in (AUTO, "linear"):
        raise ActionClipError(
            f"clips of {known.name} have several labels, and --head {options.head} gives a clip one of them: choose "
            "linear, which scores each label by itself"
        )
    if options.curve:
        raise ActionClipError(f"clips of {known.name} have several labels, and --curve is about one: leave it out")


def _loaded(options: argparse.Namespace, found: FoundModel) -> ActionClip | ClosedSetModel:
    prompts = read_prompts(options.prompts) if options.prompts else None
    cache = not options.no_cache
    return load(found, device=options.device, threads=options.threads, cache=cache, prompts=prompts)


def _encoded(
    model: ActionClip | ClosedSetModel, known: Dataset, val: Dataset | None
) -> tuple[EncodedDataset, EncodedDataset | None]:
    total = len(known) + (0 if val is None else len(val))
    with progress(total, 0, beside_answers=False) as bar:
        encoded = encode_dataset(model, known, count=bar.count)
        return encoded, None if val is None else encode_dataset(model, val, count=bar.count)


def _report(
    options: argparse.Namespace,
    base: ModelSpec,
    bank: LabelBank | None,
    encoded: EncodedDataset,
    val: EncodedDataset | None,
    examples: Examples,
) -> Report:
    """Compare the heads, and choose one."""
    heads = heads_for(bank, is_multi_label=examples.is_multi_label)
    readable = encoded.readable
    folds = make_folds(readable, options.seed)
    figures = compared(heads, encoded, examples, folds, options.seed)
    if val is not None:
        figures = [with_val(each, examples, val, options.seed) for each in figures]
    points = {}
    if options.curve:
        points = curve(figures, examples, readable, None if val is None else examples_of(val), options.seed)
    return Report(
        base=base,
        train=encoded.dataset,
        val=None if val is None else val.dataset,
        unreadable=(len(encoded.failures), 0 if val is None else len(val.failures)),
        left_out=left_out(readable, folds),
        folds=len(folds),
        figures=figures,
        chosen=_chosen(options.head, figures, is_multi_label=examples.is_multi_label),
        curve=points,
        is_multi_label=examples.is_multi_label,
    )


def _chosen(head: str, figures: Sequence[Figures], *, is_multi_label: bool) -> Figures:
    """Return the figures of the head that is taken: the one of that name, or with "auto" the best one.

    Of equally right ones, that is the first: the simplest.
    """
    by_name = {each.head.name: each for each in figures}
    if head != AUTO:
        return by_name[head]
    if is_multi_label:
        return by_name["linear"]  # the texts would need --multi-label
    if any(each.cross_validated is None for each in figures):
        name = next(name for name in _USUAL if name in by_name)
        _LOG.warning("no clip could be left out to compare the heads with: %s is taken", name)
        return by_name[name]
    return max(figures, key=lambda each: each.cross_validated.value if each.cross_validated else 0.0)
