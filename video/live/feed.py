"""What one connection to a camera or stream gives: frames as they arrive, until it ends or breaks."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


class BrokenError(Exception):
    """The connection is broken, and may be made again; the text is the reason."""


class Pace(NamedTuple):
    """How the frames of a connection come.

    Attributes:
        is_own: they come at any rate, and are shown at their own, by their times.
        is_trusted: their times are right, however long one of them is shown.
    """

    is_own: bool
    is_trusted: bool


AS_THEY_COME = Pace(is_own=False, is_trusted=False)
IN_BURSTS = Pace(is_own=True, is_trusted=False)
"""Segments of a playlist."""
OF_A_FILE = Pace(is_own=True, is_trusted=True)


@dataclass(frozen=True, eq=False)
class LiveFrame:
    """A frame that has arrived, and is not converted yet.

    Attributes:
        convert: returns it as (H, W, 3) uint8 RGB, upright.
        pts_s: its time by the stream's own clock, in seconds; None where the stream has none.
        arrived: when it came, by `time.monotonic`.
    """

    convert: Callable[[], NDArray[np.uint8]]
    pts_s: float | None
    arrived: float


Due = Callable[[float | None, float], float]
"""Returns when a frame is to be shown, by `time.monotonic`: by its time in the stream, and when it arrived."""


class Feed(Protocol):
    """A connection to a camera or stream."""

    pace: Pace

    def frames(self, due: Due) -> Iterator[LiveFrame]:
        """Yield the frames in the order of presentation, until the stream ends.

        Frames that are late are passed over. Raises BrokenError where the connection breaks, ActionClipError where the
        stream cannot be decoded at all.
        """
        ...

    def close(self) -> None:
        """End the connection; what waits for it in another thread ends soon."""
        ...

    def join(self, timeout_s: float) -> None:
        """Wait until its own threads have ended, at most so many seconds."""
        ...
