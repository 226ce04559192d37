"""Packets between the thread that drains a stream and the one that decodes it, in bounded memory."""

from __future__ import annotations  # PyAV subscripts Packet in its stubs only

from collections import deque
from dataclasses import dataclass
from threading import Condition, Event

from av.packet import Packet
from av.video.stream import VideoStream

_MOST_BYTES = 64 << 20
"""Most bytes of packets that wait: seconds of any compressed video, two frames of raw 4K."""
_MOST_PACKETS = 1024
_POLL_S = 0.2


@dataclass(frozen=True, eq=False)
class Arrival:
    """A packet, and when it arrived by `time.monotonic`; `is_after_gap`: packets before it were passed over."""

    packet: Packet[VideoStream]
    arrived: float
    is_after_gap: bool


class PacketQueue:
    """Packets in order. Where there are too many, either `put` waits, or those that wait are dropped."""

    def __init__(self, stop: Event, *, drops: bool) -> None:
        """`stop` ends all waiting; `drops`: the stream cannot wait, so the oldest packets are dropped."""
        self._stop = stop
        self._drops = drops
        self._changed = Condition()
        self._waiting: deque[Arrival] = deque()
        self._bytes = 0
        self._is_over = False
        self._error: BaseException | None = None

    def put(self, packet: Packet[VideoStream], arrived: float) -> None:
        """Add a packet."""
        with self._changed:
            has_dropped = False
            while self._waiting and self._is_full(packet.size) and not self._stop.is_set():
                if self._drops:
                    self._waiting.clear()
                    self._bytes, has_dropped = 0, True
                else:
                    self._changed.wait(_POLL_S)
            self._waiting.append(Arrival(packet, arrived, has_dropped))
            self._bytes += packet.size
            self._changed.notify_all()

    def _is_full(self, size: int) -> bool:
        return self._bytes + size > _MOST_BYTES or len(self._waiting) >= _MOST_PACKETS

    def end(self, error: BaseException | None) -> None:
        """Let `get` return None, or raise the error, after the last packet."""
        with self._changed:
            self._is_over, self._error = True, error
            self._changed.notify_all()

    def get(self) -> Arrival | None:
        """Return the next packet; None at the end, and when waiting was stopped. Raises the error of `end`."""
        with self._changed:
            while not self._waiting and not self._is_over and not self._stop.is_set():
                self._changed.wait(_POLL_S)
            if self._stop.is_set():
                return None
            if self._waiting:
                arrival = self._waiting.popleft()
                self._bytes -= arrival.packet.size
                self._changed.notify_all()
                return arrival
            if self._error is not None:
                raise self._error
            return None
