"""Reading RGB frames from a file, URL or pipe, sampling them, and preprocessing them for a graph."""

from action_clip.errors import ActionClipError

SAMPLINGS = ("uniform", "random", "keyframes")
"""The names of the samplings that `action_clip.video.sampling.make_sampler` makes."""
CHANNELS = ("rgb", "bgr")
"""The orders of channels in arrays."""


def check_channels(channels: str) -> None:
    """Raise ActionClipError where this is not one of CHANNELS."""
    if channels not in CHANNELS:
        raise ActionClipError(f"channels is {channels!r}: choose {' or '.join(CHANNELS)}")
