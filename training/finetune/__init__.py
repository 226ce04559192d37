"""Fine-tuning whole networks with PyTorch, by ActionCLIP's recipe (M. Wang et al., 2021, arXiv 2109.08472).

Its published code, github.com/sallymmx/ActionCLIP, decides where the paper is silent.
"""

import argparse

from action_clip.errors import ActionClipError
from action_clip.training.finetune.options import add_options

__all__ = ["add_options", "fine_tune"]


def fine_tune(options: argparse.Namespace) -> int:
    """Train as `add_options` describes, and return the exit code 0.

    Raises:
        ActionClipError: the data, the checkpoint, an option or the folder is not usable; a package is missing; or the
            loss is no longer a number.
    """
    try:
        import lightning_fabric  # noqa: F401 as the two below: whether they are there
        import tensorboardX  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        raise ActionClipError(
            f"fine-tuning needs PyTorch and what trains with it ({error}): pip install 'action-clip[finetune]', or in "
            "a clone pip install -r requirements-finetune.txt"
        ) from error
    from action_clip.training.finetune.run import run

    return run(options)
