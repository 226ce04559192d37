"""Writing a prediction for a terminal: a heading about the video, then a bar for each label."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from shutil import get_terminal_size
from typing import TYPE_CHECKING

import wcwidth

from action_clip.output.captions import counted, duration, ranking, title
from action_clip.system.terminal import printable

if TYPE_CHECKING:
    from action_clip.models.prediction import Prediction, Ranked

_PERCENTAGE = len("100.0%")
_GAP = 2
_LONGEST_BAR = 40
_SHORTEST_BAR = 10
_SHORTEST_LABEL = 4
_BOLD, _REGULAR = "\x1b[1m", "\x1b[0m"


def terminal_writer() -> TerminalWriter:
    """Return the writer for the terminal of stdout."""
    return TerminalWriter(get_terminal_size().columns, unicode=_has_unicode(), bold=_has_bold())


@dataclass(frozen=True)
class TerminalWriter:
    """Writes predictions as text for a terminal, with the control sequences of bold text and no others.

    Attributes:
        columns: width of the terminal; with at least 13, every line is shorter, so that none is wrapped.
        unicode: whether it shows characters beyond ASCII; labels are written unchanged in any case.
        bold: whether it understands the control sequences of bold text.
    """

    columns: int
    unicode: bool
    bold: bool

    def text(self, prediction: Prediction) -> str:
        """Return the lines for a prediction, each with its end."""
        lines = self._heading(prediction)
        labels = [printable(" ".join(entry.label.split())) for entry in prediction.ranked]
        width, bar_width = self._widths(max(map(wcwidth.width, labels)))
        for label, entry in zip(labels, prediction.ranked, strict=True):
            line = f"{self._fitted(label, width)}{' ' * _GAP}{self._measure(entry, bar_width)}".rstrip()
            lines.append(f"{_BOLD}{line}{_REGULAR}" if self.bold and entry.rank == 1 else line)
        return "".join(f"{line}\n" for line in lines)

    def _heading(self, prediction: Prediction) -> list[str]:
        """Return video, duration, frames, model and number of labels, on as few lines as possible."""
        separator = " · " if self.unicode else " - "
        frames = f"{counted(len(prediction.frame_indices), 'frame')} looked at"
        length = [] if prediction.duration_s is None else [duration(prediction.duration_s)]
        lines = [printable(title(prediction.video))]
        for fact in (
            ", ".join([*length, frames]),
            printable(prediction.model),
            ranking(len(prediction.ranked), len(prediction.labels)),
        ):
            longer = f"{lines[-1]}{separator}{fact}"
            if wcwidth.width(longer) < self.columns:
                lines[-1] = longer
            else:
                lines.append(fact)
        return [self._fitted(line, self.columns - 1).rstrip() for line in lines]

    def _widths(self, longest_label: int) -> tuple[int, int]:
        """Return the widths of labels and of bars, in columns; 0 for bars where the terminal is narrow."""
        space = self.columns - 1 - 2 * _GAP - _PERCENTAGE
        width = min(longest_label, max(space - max(_SHORTEST_BAR, space // 3), _SHORTEST_LABEL))
        bar_width = min(space - width, _LONGEST_BAR)
        if bar_width < _SHORTEST_BAR:
            return min(longest_label, max(space + _GAP, _SHORTEST_LABEL)), 0
        return width, bar_width

    def _measure(self, entry: Ranked, bar_width: int) -> str:
        """Return the percentage and the bar, whose whole width means 100 %."""
        percentage = f"{entry.probability:.1%}".rjust(_PERCENTAGE)
        halves = round(2 * bar_width * entry.probability)
        bar = "█" * (halves // 2) + "▌" * (halves % 2) if self.unicode else "#" * (halves // 2)
        return f"{percentage}{' ' * _GAP}{bar}"

    def _fitted(self, text: str, columns: int) -> str:
        """Return the text in exactly so many columns: padded with spaces, or cut and ended with an ellipsis."""
        if wcwidth.width(text) > columns:
            ellipsis = "…" if self.unicode else "..."
            text = wcwidth.clip(text, 0, max(columns - len(ellipsis), 0)).rstrip() + ellipsis
        return wcwidth.ljust(text, columns)


def _has_unicode() -> bool:
    """Return whether the terminal shows more than ASCII, by the locale."""
    if sys.platform == "win32":
        return True
    # Where the locale is "C", Python sets LC_CTYPE to C.UTF-8 itself.
    category = os.environ.get("LC_CTYPE", "").replace("C.UTF-8", "")
    locale = os.environ.get("LC_ALL") or category or os.environ.get("LANG", "")
    return "utf8" in locale.lower().replace("-", "")


def _has_bold() -> bool:
    """Return whether bold text is wanted (https://no-color.org) and the terminal understands it."""
    if os.environ.get("NO_COLOR"):
        return False
    if sys.platform == "win32":
        import colorama  # tqdm requires it there

        colorama.just_fix_windows_console()
        return True
    return os.environ.get("TERM", "dumb") != "dumb"
