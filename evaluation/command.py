"""`action-clip evaluate`: how good a model, or answers made elsewhere, are on labelled clips: see --help."""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from functools import partial

from action_clip.command import reported
from action_clip.commands import arguments as common
from action_clip.commands.classify import note_stand_in
from action_clip.commands.data import add_data_options, dataset_of, files_of
from action_clip.commands.models import chosen_model
from action_clip.commands.progress import progress
from action_clip.commands.targets import check_written
from action_clip.data.dataset import SPLITS, Dataset
from action_clip.data.requirements import require_scikit_learn
from action_clip.errors import ActionClipError
from action_clip.evaluation.answers import Answers
from action_clip.models import AVERAGES
from action_clip.models.actionclip import ActionClip
from action_clip.models.model_graphs import FoundModel
from action_clip.output.stdout import write_stdout
from action_clip.output.writers import save_text
from action_clip.system.files import check_target
from action_clip.system.terminal import ArgumentParser, json_escaped
from action_clip.tokenizer.prompts import read_prompts
from action_clip.video.views import ONE_VIEW, parse_views

_FOR_MODELS = ("model", "prompts", "average", "views", "device", "threads", "no_cache")
"""The options that predictions in a file have no use for."""
_LOG = logging.getLogger("action_clip")
_FRAMES = 8
"""Frames of a clip on a page, where no model tells which were looked at."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, 1 after an error, also of a clip, 130 after Ctrl-C."""
    parser = build_parser()
    options = parser.parse_args(sys.argv[1:] if arguments is None else arguments)
    if options.predictions is not None:
        for name in _FOR_MODELS:
            if getattr(options, name) != parser.get_default(name):
                parser.error(f"--{name.replace('_', '-')} is about a model, and --predictions are there: leave out one")
    try:
        options.views = str(parse_views(options.views or ONE_VIEW))
    except ActionClipError as error:
        parser.error(f"--{error}")
    return reported(partial(_run, options), options)


def build_parser() -> ArgumentParser:
    """Return the parser; the table of options in docs/evaluate.md is made from it."""
    parser = ArgumentParser(
        prog="action-clip evaluate",
        description="Say how good a model is on clips whose labels are known: zero-shot, the labels are the choices.",
        epilog="The exit code is 0, 1 when something went wrong, also where clips cannot be read, 2 for wrong "
        "arguments.",
        allow_abbrev=False,
    )
    add_data_options(parser)
    add = parser.add_argument_group("what is evaluated").add_argument
    add(
        "--split",
        choices=SPLITS,
        help="which clips (default: val, else test, else all)",
    )
    add(
        "--predictions",
        metavar="FILE",
        type=common.nonempty,
        help="answers instead of a model: what --format json or csv writes for several videos, or a label or scores "
        "for each video, made elsewhere",
    )
    common.add_options(parser, "the model", ("model", "prompts", "average", "views", "device", "threads", "no_cache"))
    add = parser.add_argument_group("the answer").add_argument
    add(
        "--top-k",
        metavar="K",
        type=common.integer_from(1),
        default=5,
        help="also how often the right label is among the first K (default: %(default)s)",
    )
    add("--format", choices=("text", "json"), default="text", help="default: %(default)s, tables; json has everything")
    add("--output", metavar="FILE", type=common.nonempty, help="write it to a file instead of stdout")
    add(
        "--report",
        metavar="PAGE.html",
        type=common.nonempty,
        help="also write a page: the figures, the confusion matrix, the worst classes, a reliability diagram, and the "
        "clips behind errors with their frames",
    )
    common.add_options(parser, "other", ("quiet", "debug"))
    return parser


def _run(options: argparse.Namespace) -> int:
    """Evaluate and return the exit code."""
    require_scikit_learn()
    found = chosen_model(options.model) if options.predictions is None else None
    if options.report is not None:
        from action_clip.output.report.page import check_path

        check_path(options.report)
    if options.output is not None:
        check_target(options.output)
    dataset = _chosen(dataset_of(options), options.split)
    check_written(
        {"--output": options.output, "--report": options.report},
        {
            "--data": [*files_of(options), *(example.video for example in dataset.examples)],
            "--classes": [options.classes],
            "--prompts": [options.prompts],
            "--predictions": [options.predictions],
        },
        None if found is None else found.spec,
    )
    answers = _answers(options, found, dataset)
    from action_clip.evaluation.metrics import evaluate
    from action_clip.evaluation.tables import as_dict, as_text

    evaluation = evaluate(answers, top_k=options.top_k, seed=options.seed)
    if options.format == "json":
        text = json_escaped(json.dumps(as_dict(evaluation), ensure_ascii=False)) + "\n"
    else:
        text = as_text(evaluation)
    if options.output is None:
        write_stdout(text)
    else:
        save_text(text, options.output)
    if found is not None:
        note_stand_in(found.spec)
    if options.report is not None:
        from action_clip.evaluation.report.page import save_page
        from action_clip.video.sampling import make_sampler

        frames = (_FRAMES, "segments") if found is None else (found.spec.frames, found.spec.uniform)
        save_page(evaluation, options.report, make_sampler("uniform", frames[0], 0, frames[1]))
    return int(bool(answers.failures))


def _chosen(dataset: Dataset, split: str | None) -> Dataset:
    """Return the clips of a split, by default those that are not for training, if the data tell them apart."""
    if split is not None:
        return dataset.part(split)
    chosen = next((each for each in ("val", "test") if each in dataset.splits), None)
    return dataset if chosen is None else dataset.part(chosen)


def _answers(options: argparse.Namespace, found: FoundModel | None, dataset: Dataset) -> Answers:
    if found is None:
        from action_clip.evaluation.prediction_files import read_answers

        answers = read_answers(options.predictions, dataset)
        for sentence in answers.failures.values():
            _LOG.error("error: %s", sentence)
        if answers.failures:
            _LOG.error("%d of %d clips have no answer", len(answers.failures), len(answers))
        return answers
    from action_clip.evaluation.model_answers import answers_of
    from action_clip.models.loading import load

    if found.spec.kind != ActionClip.kind and options.average != AVERAGES[0]:
        raise ActionClipError(f"--average is over prompts, and {found.name} has none: leave it out")
    prompts = read_prompts(options.prompts) if options.prompts else None
    with (
        load(
            found,
            device=options.device,
            threads=options.threads,
            cache=not options.no_cache,
            prompts=prompts,
            average=options.average,
        ) as model,
        progress(len(dataset), 0, beside_answers=False) as bar,
    ):
        return answers_of(model, dataset, views=options.views, count=bar.count)
