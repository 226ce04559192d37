"""Packets that wait to be decoded: their memory is bounded, and no stream that cannot wait is held up."""

import threading
from threading import Event
from typing import Any

import av
import pytest

from action_clip.video.live import packets
from action_clip.video.live.packets import PacketQueue

Packet: Any = av.Packet


def sizes(queue: PacketQueue, count: int) -> list[tuple[int, bool]]:
    found = [queue.get() for _ in range(count)]
    return [(each.packet.size, each.is_after_gap) for each in found if each is not None]


def test_in_order_to_the_end() -> None:
    queue = PacketQueue(Event(), drops=True)
    for size in (3, 1, 2):
        queue.put(Packet(size), 0.0)
    queue.end(None)
    assert sizes(queue, 3) == [(3, False), (1, False), (2, False)]
    assert queue.get() is None


def test_an_error_comes_after_the_packets_before_it() -> None:
    queue = PacketQueue(Event(), drops=True)
    queue.put(Packet(3), 0.0)
    queue.end(ValueError("broken"))
    assert sizes(queue, 1) == [(3, False)]
    with pytest.raises(ValueError, match="broken"):
        queue.get()


def test_large_packets_of_a_stream_that_cannot_wait_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packets, "_MOST_BYTES", 100)
    queue = PacketQueue(Event(), drops=True)
    for size in (40, 41, 42, 43, 1000):  # one that is too large alone is kept alone
        queue.put(Packet(size), 0.0)
    queue.end(None)
    assert sizes(queue, 1) == [(1000, True)]
    assert queue.get() is None


def test_a_file_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packets, "_MOST_PACKETS", 2)
    queue = PacketQueue(Event(), drops=False)

    def read() -> None:
        for size in range(1, 21):
            queue.put(Packet(size), 0.0)
        queue.end(None)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    assert sizes(queue, 20) == [(size, False) for size in range(1, 21)]
    thread.join(20)
    assert queue.get() is None


def test_stopping_ends_all_waiting() -> None:
    stop = Event()
    queue = PacketQueue(stop, drops=True)
    threading.Timer(0.05, stop.set).start()
    assert queue.get() is None
