"""Saving the sheet of `--save`, a picture of the prediction; OpenCV 5 draws it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from action_clip.errors import ActionClipError
from action_clip.system.files import check_target, write_file

if TYPE_CHECKING:
    from action_clip.models.prediction import Prediction

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp")


def check_path(path: str | os.PathLike[str]) -> None:
    """Raise ActionClipError where no sheet can be saved at `path`: unknown extension, missing folder, no permission."""
    if Path(path).suffix.lower() not in EXTENSIONS:
        raise ActionClipError(
            f"cannot save the sheet {os.fspath(path)}: the name must end in one of {', '.join(EXTENSIONS)}"
        )
    check_target(path)


def save_sheet(path: str | os.PathLike[str], prediction: Prediction) -> None:
    """Draw the sheet of `prediction` and save it at `path`, whole or not at all, as its extension says.

    Raises ActionClipError as `check_path` does, when writing fails, and as `check_drawable` does.
    """
    check_path(path)
    check_drawable(path, prediction)
    from action_clip.output.drawing import encoded_sheet

    write_file(path, encoded_sheet(prediction, Path(path).suffix.lower()))


def check_drawable(path: str | os.PathLike[str], prediction: Prediction) -> None:
    """Raise ActionClipError, which names the sheet `path`, where it cannot be drawn.

    OpenCV is too old or cannot be loaded, or the prediction has no thumbnails.
    """
    if not prediction.frames.size:
        raise ActionClipError(
            f"cannot save the sheet {os.fspath(path)}: the prediction has no thumbnails, as those of several videos; "
            "classify the video alone"
        )
    problem = f"cannot save the sheet {os.fspath(path)}, which takes OpenCV 5.0 or newer"
    remedy = "pip install --upgrade opencv-python"
    try:
        import cv2
    except Exception as error:  # whatever an OpenCV for another NumPy, or a damaged one, raises
        raise ActionClipError(
            f"{problem}, and it cannot be loaded ({error}): {remedy}, and for a system library (lib….so) see "
            "docs/troubleshooting.md"
        ) from error
    if not hasattr(cv2, "FontFace"):  # older than 5.0
        # pip can leave an empty folder of a removed OpenCV, which is then an empty package.
        version = getattr(cv2, "__version__", "none, but a folder of its name")
        raise ActionClipError(f"{problem}, and this is {version}: {remedy}")
