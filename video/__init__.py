"""Reading RGB frames from a file, URL or pipe, sampling them, and preprocessing them for a graph."""

import os

from action_clip.errors import ActionClipError

SAMPLINGS = ("uniform", "random", "keyframes")
"""The names of the samplings that `action_clip.video.sampling.make_sampler` makes."""
VIDEO_EXTENSIONS = frozenset(
    {
        *(".3g2", ".3gp", ".asf", ".avi", ".f4v", ".flv", ".gif", ".m2ts", ".m2v", ".m4v", ".mkv", ".mov", ".mp4"),
        *(".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv", ".y4m"),
    }
)
"""Extensions, in lower case, of the files in a folder that are taken for videos."""
CHANNELS = ("rgb", "bgr")
"""The orders of channels in arrays."""


def check_channels(channels: str) -> None:
    """Raise ActionClipError where this is not one of CHANNELS."""
    if channels not in CHANNELS:
        raise ActionClipError(f"channels is {channels!r}: choose {' or '.join(CHANNELS)}")


def is_video_name(name: str) -> bool:
    """Return whether the name ends as those of videos do."""
    return os.path.splitext(name)[1].lower() in VIDEO_EXTENSIONS


def is_video_file(path: str) -> bool:
    """Return whether the name is a video's; also of a link to nothing, which fails later, but not of a pipe."""
    return is_video_name(path) and (os.path.isfile(path) or not os.path.exists(path))
