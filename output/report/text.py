"""Names and labels for a page: as text, whatever they contain."""

from __future__ import annotations

import re

from action_clip.system.terminal import printable

_VISIBLE = re.compile(
    # All but white space, and characters that are drawn as nothing: joiners, fillers, selectors, tags, a blank pattern.
    "[^\\s\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


def shown(text: str) -> str:
    r"""Return the text on one line, with escapes for control characters, and for those that change the direction.

    A text of nothing that can be seen is escaped as a whole, as `\u200b`.
    """
    line = " ".join(text.split())
    if not _VISIBLE.search(line):
        return text.encode("unicode_escape").decode("ascii").replace(" ", r"\x20") or '""'
    return printable(line)
