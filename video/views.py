"""Views of a video: its clips, each from a stretch of it, and the crops of their frames.

The published code of ActionCLIP (github sallymmx/ActionCLIP) evaluates one view, and its evaluation (test.py) takes any
number of them: each run of T frames that its dataset returns is a clip. Several clips are its dataset's frames for
`clips` · T segments, and three crops are where its transforms (transforms_ss.py, GroupFCSample) put them.
"""

import re
from typing import NamedTuple

from action_clip.errors import ActionClipError

ONE_VIEW = "1x1"
"""The text for one clip, and the centre of its frames."""
MOST_CLIPS = 50
"""Most clips of a video: with 32 frames each, its resized frames take some 600 MB."""
_CROPS = (1, 3)


class Views(NamedTuple):
    """Which views of a video are encoded: each crop of each clip, crop by crop."""

    clips: int = 1
    """From so many equal stretches of the video."""
    crops: int = 1
    """1: the centre of the frames; 3: the ends and the middle of their longer side."""

    def __str__(self) -> str:
        return f"{self.clips}x{self.crops}"

    @property
    def total(self) -> int:
        """Number of views."""
        return self.clips * self.crops


def parse_views(text: object) -> Views:
    """Return the views that a text such as "10x3" names. Raises ActionClipError where it names none."""
    numbers = re.fullmatch(r"([0-9]{1,6})x([0-9]{1,6})", text) if isinstance(text, str) else None
    if numbers is None:
        raise ActionClipError(f'views is {text!r}: give the number of clips, an x and the number of crops, as "10x3"')
    views = Views(*map(int, numbers.groups()))
    if not 1 <= views.clips <= MOST_CLIPS:
        raise ActionClipError(f"views is {text!r}, of {views.clips} clips: give from 1 to {MOST_CLIPS}")
    if views.crops not in _CROPS:
        raise ActionClipError(
            f"views is {text!r}, of {views.crops} crops: give 1, the centre of frames, or 3, along their longer side"
        )
    return views
