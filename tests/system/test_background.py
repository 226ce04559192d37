"""Work beside other work: at once or after it, its result after the block, and it stops when the block fails."""

import signal
import threading
from concurrent.futures import Future
from threading import Event, current_thread

import pytest
from fault_server import wait_until

import action_clip.system.background
from action_clip.system import interrupts
from action_clip.system.background import run_in_background
from action_clip.system.interrupts import interruptible

PATIENCE_S = 60.0


@pytest.mark.parametrize("concurrent", [False, True])
def test_the_result_is_there_after_the_block(concurrent: bool) -> None:
    with run_in_background(lambda _: "done", concurrent=concurrent) as future:
        pass
    assert future.done()
    assert future.result(timeout=0) == "done"


def test_work_runs_while_the_block_does() -> None:
    from_work, from_block = Event(), Event()

    def work(_: Event) -> bool:
        from_work.set()
        return from_block.wait(PATIENCE_S)

    with run_in_background(work, concurrent=True) as future:
        assert from_work.wait(PATIENCE_S)
        from_block.set()
    assert future.result(timeout=0) is True


def test_work_without_concurrency_runs_after_the_block_and_in_its_thread() -> None:
    order = []

    def work(_: Event) -> threading.Thread:
        order.append("work")
        return current_thread()

    with run_in_background(work, concurrent=False) as future:
        assert not future.done()
        order.append("block")
    assert order == ["block", "work"]
    assert future.result(timeout=0) is current_thread()


def test_an_error_in_the_block_is_raised_and_stops_the_work() -> None:
    stopped = []

    def work(stop: Event) -> None:
        stopped.append(stop.wait(PATIENCE_S))

    before = set(threading.enumerate())
    with pytest.raises(ValueError, match="the block failed"), run_in_background(work, concurrent=True):
        raise ValueError("the block failed")
    assert stopped == [True]
    wait_until(lambda: not set(threading.enumerate()) - before)


def test_after_an_error_in_the_block_no_work_is_begun() -> None:
    begun: list[Event] = []
    with pytest.raises(ValueError, match="the block failed"), run_in_background(begun.append, concurrent=False):
        raise ValueError("the block failed")
    assert begun == []


def test_no_stop_without_an_error() -> None:
    ended = Event()
    stops = []

    def work(stop: Event) -> None:
        ended.wait(PATIENCE_S)
        stops.append(stop.is_set())

    with run_in_background(work, concurrent=True):
        ended.set()
    assert stops == [False]


@pytest.mark.parametrize("concurrent", [False, True])
def test_an_error_in_the_work_is_raised_by_its_result(concurrent: bool) -> None:
    def work(_: Event) -> None:
        raise ValueError("the work failed")

    with run_in_background(work, concurrent=concurrent) as future:
        pass
    with pytest.raises(ValueError, match="the work failed"):
        future.result(timeout=0)


def test_an_error_of_the_block_is_raised_before_one_of_the_work() -> None:
    def work(_: Event) -> None:
        raise ValueError("the work failed")

    with pytest.raises(ValueError, match="the block failed"), run_in_background(work, concurrent=True):
        raise ValueError("the block failed")


def test_an_interrupt_after_the_block_stops_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[bool] = []
    waiting = Event()
    wait_for = interrupts.wait_for

    def noticed(future: Future[None]) -> None:
        waiting.set()
        wait_for(future)

    def work(stop: Event) -> None:
        waiting.wait(PATIENCE_S)
        signal.raise_signal(signal.SIGINT)
        stopped.append(stop.wait(PATIENCE_S))

    monkeypatch.setattr(action_clip.system.background, "wait_for", noticed)
    with pytest.raises(KeyboardInterrupt), run_in_background(work, concurrent=True):
        pass
    wait_until(lambda: stopped)
    assert stopped == [True]


@pytest.mark.parametrize("where", ["in the block", "after the block", "alone"])
def test_an_interrupt_does_not_wait_for_work_that_goes_on(where: str) -> None:
    """As a session does that is being made."""
    begun, go_on = Event(), Event()

    def work(_: Event) -> None:
        begun.set()
        if where != "in the block":
            signal.raise_signal(signal.SIGINT)
        go_on.wait()

    def wait() -> None:
        if where == "alone":
            interruptible(lambda: work(Event()))
            return
        with run_in_background(work, concurrent=True):
            begun.wait(PATIENCE_S)
            if where == "in the block":
                signal.raise_signal(signal.SIGINT)

    try:
        with pytest.raises(KeyboardInterrupt):
            wait()
        assert begun.is_set()
    finally:
        go_on.set()


def test_work_alone_returns_and_raises_what_it_does() -> None:
    assert interruptible(current_thread) is not current_thread()
    with pytest.raises(TimeoutError, match="of its own"):
        interruptible(fails)


def fails() -> None:
    raise TimeoutError("of its own")


def test_work_in_a_thread_stays_there() -> None:
    threads: list[threading.Thread] = []
    thread = threading.Thread(target=lambda: threads.append(interruptible(current_thread)))
    thread.start()
    thread.join()
    assert threads == [thread]
