"""The clock of a live stream: times of all its connections become seconds since its first frame."""

import math

from action_clip.video.live.feed import Pace

_LONGEST_JUMP_S = 10.0
"""Seconds by which a stream's times may run ahead of the clock from a frame to the next: more is a new beginning."""
_LEAST_S = 0.001


class StreamClock:
    """When frames are shown: in seconds since the first one, and by `time.monotonic`."""

    def __init__(self) -> None:
        self._began: float | None = None
        """When the first frame of all was shown, by `time.monotonic`."""
        self._origin = math.inf
        """When the first frame was taken, as the frame tells that came with the least delay: the first ones may come
        together, late."""
        self._last_s = 0.0
        self._last_arrived = 0.0

    def begin(self, pace: Pace) -> None:
        """Expect the frames of another connection."""
        self._pace = pace
        self._offset_s: float | None = None
        self._delay_s = 0.0

    def due(self, pts_s: float | None, arrived: float) -> float:
        """Return when a frame is to be shown, by `time.monotonic`: when it arrives, or by its time in the stream."""
        if not self._pace.is_own or pts_s is None or self._offset_s is None or self._began is None:
            return arrived
        return max(self._began + self._delay_s + pts_s + self._offset_s, arrived)

    def time_s(self, pts_s: float | None, arrived: float) -> float:
        """Return the time of the next frame, in seconds since the first one of all; times increase.

        Args:
            pts_s: by the stream's own clock; None where it has none.
            arrived: by `time.monotonic`.
        """
        if self._began is None:
            self._began = self._origin = arrived
            time_s = 0.0
        else:
            time_s = self._following(pts_s, arrived)
        if pts_s is not None and self._offset_s is None:
            self._offset_s = time_s - pts_s
        if not self._pace.is_own:
            self._origin = min(self._origin, arrived - time_s)
        elif not self._pace.is_trusted:
            # What comes in bursts is shown so much later that the slowest of them is in time.
            self._delay_s = max(self._delay_s, arrived - self._began - time_s)
        self._last_s, self._last_arrived = time_s, arrived
        return time_s

    def _following(self, pts_s: float | None, arrived: float) -> float:
        by_arrival_s = max(arrived - self._origin, self._last_s + _LEAST_S)
        if pts_s is None or self._offset_s is None:
            return by_arrival_s
        time_s = pts_s + self._offset_s
        waited_s = max(arrived - self._last_arrived, 0.0)
        is_ahead = not self._pace.is_trusted and time_s - self._last_s > waited_s + _LONGEST_JUMP_S
        if time_s <= self._last_s or is_ahead:  # its clock began anew
            time_s = by_arrival_s
            self._offset_s = time_s - pts_s
        return time_s
