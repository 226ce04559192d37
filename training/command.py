"""`action-clip train`: a model of the user's own classes from clips of them: see --help."""

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from action_clip.command import reported
from action_clip.commands import arguments as common
from action_clip.commands.data import add_data_options
from action_clip.models.catalog.validators import HEADS
from action_clip.system.terminal import ArgumentParser
from action_clip.training.heads import AUTO

FINE_TUNE = "--fine-tune"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, 1 after an error, 130 after Ctrl-C; argparse exits with 2."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = build_fine_tune_parser() if FINE_TUNE in arguments else build_parser()
    options = parser.parse_args(arguments)
    options.command = shlex.join(["action-clip", "train", *arguments])
    return reported(partial(_run, options), options)


def build_parser() -> ArgumentParser:
    """Return the parser of training on features; the table of options in docs/train.md is made from it."""
    parser = ArgumentParser(
        prog="action-clip train",
        description="Train a model on clips of your own classes: a head on the features of a model that is there.",
        epilog=f"`action-clip train {FINE_TUNE} --help` is about training a whole network with PyTorch. The heads are "
        "compared by cross-validation: in five parts of the clips, or where a class has few with each left out once.",
        allow_abbrev=False,
    )
    add = _add_common(parser)
    add("--overwrite", action="store_true", help="replace FOLDER where it has a model that this command made")
    add(
        "--head",
        choices=(AUTO, *HEADS),
        default=AUTO,
        help="linear: a linear probe, logistic regression; mean: the nearest mean of a class; tip-adapter: a cache of "
        "the clips beside the texts of the classes, which still takes other labels; zero-shot: the texts alone; auto: "
        "the best of these by cross-validation (default: %(default)s)",
    )
    add("--curve", action="store_true", help="also show how right each head is with 1, 2, 4, 8 and 16 clips a class")
    common.add_options(parser, "the model", ("model", "prompts", "device", "threads", "no_cache"))
    common.add_options(parser, "other", ("quiet", "debug"))
    return parser


def build_fine_tune_parser() -> ArgumentParser:
    """Return the parser of fine-tuning; the table of options in docs/fine-tune.md is made from it."""
    from action_clip.training.finetune import add_options

    parser = ArgumentParser(
        prog=f"action-clip train {FINE_TUNE}",
        description="Train a whole network on clips with PyTorch, by ActionCLIP's recipe.",
        allow_abbrev=False,
    )
    _add_common(parser)
    add_options(parser)
    common.add_options(parser, "other", ("quiet", "debug"))
    return parser


def _add_common(parser: ArgumentParser) -> Callable[..., Any]:
    """Add what both kinds of training have, and return the function that adds an option about what is made."""
    add_data_options(parser)
    add: Callable[..., Any] = parser.add_argument_group("what is made").add_argument
    add("--out", metavar="FOLDER", type=common.nonempty, required=True, help="the folder that is made")
    add(FINE_TUNE, action="store_true", help="train a whole network, with options of its own")
    return add


def _run(options: argparse.Namespace) -> int:
    if options.fine_tune:
        from action_clip.training.finetune import fine_tune

        return fine_tune(options)
    from action_clip.training.heads.train import train

    return train(options)
