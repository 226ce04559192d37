"""The clock of a live stream, by made-up arrivals."""

import pytest

from action_clip.video.live.clock import StreamClock
from action_clip.video.live.feed import AS_THEY_COME, IN_BURSTS, OF_A_FILE, Pace


def clock_of(pace: Pace) -> StreamClock:
    clock = StreamClock()
    clock.begin(pace)
    return clock


def times(clock: StreamClock, *frames: tuple[float | None, float]) -> list[float]:
    return [round(clock.time_s(pts_s, arrived), 3) for pts_s, arrived in frames]


def test_times_are_those_of_the_stream_whenever_it_arrives() -> None:
    clock = clock_of(AS_THEY_COME)
    assert times(clock, (7.0, 100.0), (7.5, 100.0), (8.0, 101.3)) == [0.0, 0.5, 1.0]
    assert clock.due(8.5, 101.4) == 101.4


def test_without_times_those_of_arrival_count() -> None:
    assert times(clock_of(AS_THEY_COME), (None, 5.0), (None, 5.25), (None, 5.25)) == [0.0, 0.25, 0.251]


@pytest.mark.parametrize("pts_s", [0.0, 1000.0])
def test_times_that_jump_go_on_by_the_time_that_has_passed(pts_s: float) -> None:
    """The first frames come together, 2 s late: the clock counts from when they were taken."""
    clock = clock_of(AS_THEY_COME)
    assert times(clock, (10.0, 52.0), (11.0, 52.0), (12.0, 52.0), (13.0, 53.0)) == [0.0, 1.0, 2.0, 3.0]
    assert times(clock, (pts_s, 57.0), (pts_s + 0.5, 57.5)) == [7.0, 7.5]


def test_a_pause_of_the_stream_is_no_jump() -> None:
    assert times(clock_of(AS_THEY_COME), (0.0, 50.0), (20.0, 70.0), (20.5, 70.5)) == [0.0, 20.0, 20.5]


def test_another_connection_goes_on_by_the_time_that_has_passed() -> None:
    clock = clock_of(AS_THEY_COME)
    assert times(clock, (3.0, 50.0), (4.0, 51.0)) == [0.0, 1.0]
    clock.begin(AS_THEY_COME)
    assert times(clock, (0.0, 60.0), (1.0, 61.0)) == [10.0, 11.0]


def test_a_file_is_due_by_its_own_times() -> None:
    clock = clock_of(OF_A_FILE)
    assert clock.due(9.0, 50.0) == 50.0
    assert times(clock, (9.0, 50.0), (9.5, 50.1), (60.0, 50.1)) == [0.0, 0.5, 51.0]
    assert clock.due(9.5, 50.1) == 50.5
    assert clock.due(60.0, 50.1) == 101.0


def test_what_comes_in_bursts_is_due_when_the_slowest_of_it_is_in_time() -> None:
    clock = clock_of(IN_BURSTS)
    assert times(clock, (0.0, 50.0), (0.5, 50.0), (1.0, 50.0)) == [0.0, 0.5, 1.0]
    assert clock.due(1.0, 50.0) == 51.0
    assert times(clock, (1.5, 52.5), (2.0, 52.5)) == [1.5, 2.0]
    assert clock.due(1.5, 52.5) == 52.5
    assert clock.due(2.0, 52.5) == 53.0
