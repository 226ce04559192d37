"""The options of `action-clip train --fine-tune`, which --help shows without importing PyTorch."""

import argparse

from action_clip.commands.arguments import integer_from, nonempty, number
from action_clip.export.choices import ACTIVATIONS, FUSIONS
from action_clip.training.finetune.sizes import SIZES

STRATEGIES = ("no_freeze", "freeze", "freeze_unfreeze", "unfreeze_milestones")
"""Which weights are trained when; the names of Lightning Flash."""
AUGMENTATIONS = ("official", "crops", "none")
FLIPS = ("auto", "always", "never")
PRECISIONS = ("auto", "32", "bf16", "16")
DEVICES = ("auto", "cpu", "cuda", "mps")
CHECKPOINT_LR, SCRATCH_LR = 5e-6, 5e-4
"""Learning rates of the towers: ActionCLIP's, and CLIP's own (ViT-B)."""
FUSION_RATIO = 10
"""The fusion's learning rate is so many times the towers', as in ActionCLIP."""
WARM_UP_SHARE = 10
"""One in so many epochs warms up, as in ActionCLIP: 5 of 50."""
_EPOCHS, _BATCH_SIZE, _WEIGHT_DECAY = 50, 64, 0.2
_MOST_FRAMES = 1024
"""As export takes them."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of fine-tuning to the parser, which has --out and the options of data."""
    _add_beginning(parser)
    _add_recipe(parser)
    _add_running(parser)


def _add_beginning(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what it begins with")
    add = group.add_argument
    beginning = group.add_mutually_exclusive_group().add_argument
    beginning(
        "--checkpoint",
        metavar="FILE",
        type=nonempty,
        help="a checkpoint that export reads: official ActionCLIP, mmaction2's, a CLIP (file or folder); or a model of "
        "the catalog, whose checkpoint is downloaded",
    )
    beginning("--scratch", metavar="SIZE", choices=SIZES, help=f"random weights: {', '.join(SIZES)}")
    add(
        "--fusion",
        choices=FUSIONS,
        help="the fusion, from features of frames to those of their clip (default: the checkpoint's; Transf for a CLIP "
        "and from scratch)",
    )
    add(
        "--frames",
        metavar="T",
        type=integer_from(1, _MOST_FRAMES),
        help="of a clip (default: what the weights ask for, else 8)",
    )
    add("--activation", choices=ACTIVATIONS, help="where the checkpoint does not say it")
    add(
        "--trust", action="store_true", help="let the checkpoint run code while it is read; only if you know its source"
    )
    add("--prompts", metavar="FILE", type=nonempty, help="prompt templates, one a line (default: ActionCLIP's 16)")


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("the recipe").add_argument
    add("--epochs", metavar="N", type=integer_from(1), default=_EPOCHS, help="default: %(default)s")
    add(
        "--batch-size",
        metavar="N",
        type=integer_from(2),
        default=_BATCH_SIZE,
        help="clips in a step, on all devices together; those that are left over wait for the next epoch (default: "
        "%(default)s, or all clips where there are fewer)",
    )
    rate = number(least=0, most=1e6, above=True)
    add(
        "--lr",
        metavar="RATE",
        type=rate,
        help=f"learning rate of the towers (default: {CHECKPOINT_LR:g}, from scratch {SCRATCH_LR:g})",
    )
    add("--image-lr", metavar="RATE", type=rate, help="another one for the image tower")
    add("--fusion-lr", metavar="RATE", type=rate, help=f"that of the fusion (default: {FUSION_RATIO} times --lr)")
    add("--weight-decay", metavar="X", type=number(least=0), default=_WEIGHT_DECAY, help="default: %(default)s")
    add(
        "--warm-up",
        metavar="EPOCHS",
        type=number(least=0),
        help=f"epochs in which the rates rise from 0; then they fall along a cosine (default: one in {WARM_UP_SHARE})",
    )
    add(
        "--strategy",
        choices=STRATEGIES,
        default="no_freeze",
        help="no_freeze trains everything; freeze, the fusion alone; freeze_unfreeze, the towers too from an epoch on; "
        "unfreeze_milestones, first their last layers, then all (default: %(default)s)",
    )
    add(
        "--unfreeze-at",
        metavar="EPOCH",
        type=integer_from(1),
        nargs="+",
        help="after how many epochs: one number for freeze_unfreeze, two for unfreeze_milestones",
    )
    add(
        "--unfreeze-layers",
        metavar="N",
        type=integer_from(1),
        help="how many layers of each tower unfreeze_milestones begins with",
    )
    add(
        "--augmentation",
        choices=AUGMENTATIONS,
        default="official",
        help="how frames are changed at random. official: crops of several scales, other colours, grey, RandAugment; "
        "crops: without the others, where colours matter; none: the centre (default: %(default)s)",
    )
    add(
        "--flip",
        choices=FLIPS,
        default="auto",
        help="mirror half of the clips; auto: unless a class names left or right (default: %(default)s)",
    )
    add(
        "--patience",
        metavar="N",
        type=integer_from(1),
        help="stop early, after so many epochs without a better accuracy on the clips for validation",
    )


def _add_running(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("how it runs").add_argument
    add(
        "--resume",
        action="store_true",
        help="go on with the training in --out, ended in any way, after its last whole epoch; with the same options "
        "it comes to the same losses",
    )
    add("--device", choices=DEVICES, default="auto", help="default: a GPU where PyTorch finds one, else the CPU")
    add(
        "--devices",
        metavar="N",
        type=integer_from(1),
        help="so many GPUs of this machine, which share each batch (default: all of them; on the CPU 1)",
    )
    add(
        "--precision",
        choices=PRECISIONS,
        default="auto",
        help="of the computation; weights are kept in 32 bits (default: bf16 on a GPU that has it, 16 on others, 32 on "
        "the CPU)",
    )
    add(
        "--workers",
        metavar="N",
        type=integer_from(0),
        help="processes that decode clips; 0: the one that trains (default: one a core where a GPU computes, else 0)",
    )
    add("--no-export", action="store_true", help="write no graphs at the end: action-clip export makes them later")
