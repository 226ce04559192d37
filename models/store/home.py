"""The folder that everything is kept in."""

import logging
import os
from pathlib import Path

from action_clip.errors import ActionClipError

# With the numbers of their layouts: versions of the program that have others keep files of their own beside these.
LABEL_BANK, HASHES = "label_bank-3.sqlite3", "hashes-3.jsonl"
_log = logging.getLogger("action_clip")


class NoHomeError(ActionClipError):
    """There is no folder of the user's to keep anything in."""


def home() -> Path:
    """The folder that everything is kept in: ACTION_CLIP_HOME, or the user's cache folder.

    Raises NoHomeError where the user has none, ActionClipError where ACTION_CLIP_HOME is none.
    """
    if chosen := os.environ.get("ACTION_CLIP_HOME"):
        try:
            return Path(chosen).expanduser().absolute()
        except RuntimeError as error:
            raise ActionClipError(f"ACTION_CLIP_HOME is '{chosen}': name a folder that can be made") from error
    from platformdirs import user_cache_path

    try:
        folder = user_cache_path("action_clip", appauthor=False)
    except RuntimeError:
        folder = Path("~")
    if str(folder).startswith("~"):  # which nothing stands for: no HOME, and a user without a name
        raise NoHomeError("this user has no home folder to keep anything in: set ACTION_CLIP_HOME to a folder")
    return folder


def cache_home() -> Path | None:
    """home() for what only saves time; None, and a note, where the user has none."""
    try:
        return home()
    except NoHomeError as error:
        warn_once(str(error), "nothing is kept between runs: %s", error)
        return None


_warned: dict[object, object] = {}


def warn_once(topic: object, text: str, *arguments: object) -> None:
    """Warn of what is wrong with what is kept, once a process for each topic."""
    mine = object()
    if _warned.setdefault(topic, mine) is mine:  # in one step: of threads with the same to say, one says it
        _log.warning(text, *arguments)
