"""The folder under which the program stores files: models, hashes, caches."""

import logging
import os
from pathlib import Path

from action_clip.errors import ActionClipError

# The names have the versions of the layouts: versions of the program with other layouts use other files.
LABEL_BANK, VIDEO_BANK = "label_bank-3.sqlite3", "video_bank-1.sqlite3"
HASHES = "hashes-3.jsonl"
_log = logging.getLogger("action_clip")


class NoHomeError(ActionClipError):
    """The user has no home folder, and ACTION_CLIP_HOME is not set."""


def home() -> Path:
    """Return the folder for all stored files: ACTION_CLIP_HOME, or one in the user's cache folder.

    Raises NoHomeError where the user has no home folder, ActionClipError where ACTION_CLIP_HOME cannot be expanded.
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
    if str(folder).startswith("~"):  # not expanded: no HOME, and a user without an entry in the user database
        raise NoHomeError("this user has no home folder to keep anything in: set ACTION_CLIP_HOME to a folder")
    return folder


def cache_home() -> Path | None:
    """Return home() for caches; None, after a warning, where the user has no home folder."""
    try:
        return home()
    except NoHomeError as error:
        warn_once(str(error), "nothing is kept between runs: %s", error)
        return None


_warned: dict[object, object] = {}


def warn_once(topic: object, text: str, *arguments: object) -> None:
    """Log a warning, once in each process for each topic."""
    mine = object()
    if _warned.setdefault(topic, mine) is mine:  # atomic: of several threads, one logs it
        _log.warning(text, *arguments)
