"""What is saved beside the answer: where one of these fails, the answer stays, and so do the others."""

import argparse
import logging
import os
from collections.abc import Callable, Sequence

from action_clip.commands.progress import frames
from action_clip.errors import ActionClipError
from action_clip.models.prediction import Prediction, Window
from action_clip.output.saving import makes_video
from action_clip.system.terminal import sentence

_LOG = logging.getLogger("action_clip")


def all_saved(*works: Callable[[], None]) -> bool:
    """Do all of these, and return whether none failed; stderr says what did, and why."""
    done = True
    for work in works:
        try:
            work()
        except ActionClipError as error:
            _LOG.error("error: %s", sentence(error))
            done = False
    return done


def save(options: argparse.Namespace, video: str | os.PathLike[str], answer: Prediction | Sequence[Window]) -> None:
    """Save what --save names: the sheet, or the video with the labels of the answer, with a progress bar.

    Raises ActionClipError where that fails.
    """
    if not makes_video(options.save):
        from action_clip.output.sheet import save_sheet

        assert isinstance(answer, Prediction)
        save_sheet(options.save, answer)
        return
    from action_clip.output.annotated import save_video

    with frames() as count:
        save_video(options.save, video, answer, threads=options.threads, progress=count)
