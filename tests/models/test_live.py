"""Live video in windows: the answers of a file at its own rate are those of its timeline, and what is left out."""

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from make_videos import moving, number_in, write_numbered, write_video
from small_models import random_closed_model, random_model, save_closed_model, save_model

from action_clip import ActionClip, ActionClipError, LiveTimeline, LiveWindow, TimeSformer, Window
from action_clip.models.live import _Entry, _Grid, _Part
from action_clip.models.windows import Spacing
from action_clip.video.live import containers
from action_clip.video.live.stream import GridFrame

LABELS = ["drinking", "riding a bicycle", "playing the drums"]
T = 4
PATIENCE_S = 60.0


@pytest.fixture(autouse=True)
def _never_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy this machine is, no frame is passed over."""
    monkeypatch.setattr(containers, "MOST_LATE_S", 1e9)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(random_model(1, T, True), tmp_path_factory.mktemp("model"), frames=T)


@pytest.fixture
def model(folder: Path) -> ActionClip:
    return ActionClip(folder, cache=False)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """38 frames of 40 ms."""
    return write_video(tmp_path_factory.mktemp("video") / "clip.mp4", moving(38))


def assert_those_of(answers: list[LiveWindow], timeline: list[Window], left_out: int) -> None:
    """Each answer is that of the same window of a file; those that are not there were counted."""
    expected = {round(window.start_s, 6): window for window in timeline}
    assert answers
    assert len(answers) + left_out == len(expected)
    for answer in answers:
        window = expected[round(answer.start_s, 6)]
        assert answer.end_s == pytest.approx(window.end_s)
        assert answer.prediction.frame_indices == window.prediction.frame_indices
        assert answer.prediction.frame_times_s == pytest.approx(window.prediction.frame_times_s)
        np.testing.assert_allclose(answer.prediction.probabilities, window.prediction.probabilities, atol=1e-6)
        assert answer.prediction.duration_s is None
        assert answer.latency_s >= 0


def test_a_file_at_its_own_rate_has_the_answers_of_its_timeline(model: ActionClip, video: Path) -> None:
    timeline = list(model.timeline(video, LABELS, window=0.4))
    with model.watch(video, LABELS, window=0.4) as watched:
        answers = list(watched)
    assert_those_of(answers, timeline, watched.left_out)
    assert timeline[-1].end_s - timeline[-1].start_s < 0.4  # the last window ends with the video
    assert answers[-1].end_s == pytest.approx(1.52)
    assert {*answers[0].prediction.timings_s} >= {"decode", "preprocess", "image", "fusion", "score"}


def test_graphs_that_see_whole_clips(tmp_path: Path, video: Path) -> None:
    closed = TimeSformer(save_closed_model(random_closed_model(1, frames=T), tmp_path), cache=False)
    timeline = list(closed.timeline(video, window=0.4, stride=0.3))
    with closed.watch(video, window=0.4, stride=0.3) as watched:
        answers = list(watched)
    assert_those_of(answers, timeline, watched.left_out)


def test_labels_are_a_bank_with_none_of_these(model: ActionClip, video: Path) -> None:
    bank = model.labels(LABELS, none=["an empty room"])
    with model.watch(video, bank, window=0.4, top_k=4) as watched:
        answer = next(watched)
    assert {entry.label for entry in answer.prediction.ranked} == {*LABELS, "none of these"}


def test_as_a_dictionary_an_answer_has_its_time_with_a_zone(model: ActionClip, video: Path) -> None:
    with model.watch(video, LABELS, window=0.4) as watched:
        answer = next(watched)
    found = answer.to_dict()
    assert list(found)[:3] == ["time", "start_s", "end_s"]
    time = datetime.fromisoformat(found["time"])
    assert time.tzinfo is not None
    assert abs((datetime.now(UTC) - time).total_seconds()) < PATIENCE_S
    assert found["latency_s"] == pytest.approx(answer.latency_s, abs=1e-6)


def test_the_newest_picture(model: ActionClip, tmp_path: Path) -> None:
    with model.watch(write_numbered(tmp_path / "a.mp4", 20), LABELS, window=0.4) as watched:
        answer = next(watched)
        picture = watched.picture
    assert picture is not None
    assert number_in(picture) >= answer.prediction.frame_indices[-1]


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name in ("live", "packets")]


def ended(stop: Callable[[LiveTimeline], object], model: ActionClip, video: Path) -> int:
    """How many answers came before the end that `stop` made after the first."""
    with model.watch(video, LABELS, window=0.2) as watched:
        next(watched)
        stop(watched)
        count = sum(1 for _ in watched)
    for thread in threading.enumerate():
        if thread.name in ("live", "packets"):
            thread.join(PATIENCE_S)
    assert threads() == []
    return count


def test_stopping(model: ActionClip, video: Path) -> None:
    assert ended(LiveTimeline.stop, model, video) == 0
    assert ended(LiveTimeline.close, model, video) == 0


def test_stopping_from_another_thread(model: ActionClip, video: Path) -> None:
    ended(lambda watched: threading.Timer(0.05, watched.stop).start(), model, video)


def test_what_cannot_be_watched(model: ActionClip, video: Path) -> None:
    for source in (None, True, 1.5, ""):
        with pytest.raises(ActionClipError, match="cannot be watched: give the number of a camera"):
            model.watch(source, LABELS)  # type: ignore[arg-type]
    with pytest.raises(ActionClipError, match="the camera 99 cannot be opened"):
        model.watch(99, LABELS)
    with pytest.raises(ActionClipError, match="the stride is -1"):
        model.watch(video, LABELS, stride=-1)
    assert threads() == []


def test_an_address_of_a_live_stream_is_no_video(model: ActionClip) -> None:
    with pytest.raises(ActionClipError, match=r"rtsp://me:\*\*\*@camera/1 is a live stream, which has no end: .*watch"):
        model.classify("rtsp://me:secret@camera/1", LABELS)


SPACING = Spacing(window_s=4.0, frames=4, stride=2)


def frame_at(step: int, steps: int = 1) -> GridFrame:
    pixels = np.zeros((1, 1, 3), np.uint8)
    return GridFrame(range(step, step + steps), step, float(step), float(step), datetime.now(UTC), pixels, {})


def grid_with(*steps: int) -> _Grid:
    grid = _Grid(SPACING, "segments")
    for step in steps:
        grid.add(frame_at(step))
    return grid


def taken(grid: _Grid, *, for_frames: bool = False) -> tuple[int, list[int]] | int | None:
    """A window's number and the indices of its frames; or the index of a frame that is to be encoded."""
    found = grid.wait(for_frames=for_frames)
    if isinstance(found, _Part):
        return found.number, [entry.frame.index for entry in found.entries]
    return found.frame.index if isinstance(found, _Entry) else None


def test_windows_are_answered_in_order_where_there_is_time() -> None:
    grid = grid_with(0, 1, 2, 3)
    assert taken(grid) == (0, [0, 1, 2, 3])
    grid.add(frame_at(4))
    assert taken(grid, for_frames=True) == 2  # the oldest that is not encoded
    grid.add(frame_at(5))
    assert taken(grid, for_frames=True) == (1, [2, 3, 4, 5])
    assert grid.left_out == 0


def test_where_there_is_none_the_newest_is_answered() -> None:
    grid = grid_with(*range(11))
    assert taken(grid) == (3, [6, 7, 8, 9])
    assert grid.left_out == 3
    grid.add(frame_at(11))
    assert taken(grid) == (4, [8, 9, 10, 11])
    assert grid.left_out == 3


def test_frames_that_are_not_answered_take_no_memory() -> None:
    grid = grid_with(*range(1000))
    assert len(grid._entries) <= SPACING.frames + SPACING.stride
    interrupted = grid_with(*(step for step in range(1000) if step % 4 != 3))
    assert len(interrupted._entries) <= SPACING.frames + SPACING.stride
    assert interrupted.left_out == 0


def test_windows_with_an_interruption_have_no_answer() -> None:
    grid = grid_with(0, 1, 2, 3, 4, 20, 21, 22, 23, 24)
    grid.end(None, 25.0)
    assert taken(grid) == (10, [20, 21, 22, 23])
    assert taken(grid) == (11, [22, 22, 23, 24])
    assert taken(grid) is None
    assert grid.left_out == 1  # the first one


def test_a_frame_that_is_shown_for_longer_is_in_several_steps() -> None:
    grid = _Grid(SPACING, "segments")
    grid.add(frame_at(0, steps=3))
    grid.add(frame_at(3))
    found = grid.wait(for_frames=True)
    assert isinstance(found, _Part)
    assert [entry.frame.index for entry in found.entries] == [0, 0, 0, 3]
    assert found.entries[0] is found.entries[2]


def test_the_last_window_ends_with_the_stream() -> None:
    grid = grid_with(0, 1, 2, 3, 4)
    assert taken(grid) == (0, [0, 1, 2, 3])
    grid.end(None, 4.7)
    found = grid.wait(for_frames=False)
    assert isinstance(found, _Part)
    assert (found.number, found.end_s) == (1, 4.7)
    assert taken(grid) is None
    whole = grid_with(0, 1, 2, 3)
    whole.end(None, 4.0)
    assert taken(whole) == (0, [0, 1, 2, 3])
    assert taken(whole) is None


def test_the_error_that_ends_a_stream_comes_after_its_windows() -> None:
    grid = grid_with(0, 1, 2, 3)
    grid.end(ActionClipError("too narrow"), 4.0)
    assert taken(grid) == (0, [0, 1, 2, 3])
    with pytest.raises(ActionClipError, match="too narrow"):
        grid.wait(for_frames=False)


def test_windows_that_are_left_out_are_noted_once_if_that_goes_on(
    model: ActionClip, video: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """While a graph runs, six more steps come, and with them two windows besides the one that is answered next."""
    came = threading.Semaphore(0)
    add, end = _Grid.add, _Grid.end

    def adding(grid: _Grid, frame: GridFrame) -> None:
        add(grid, frame)
        came.release(len(frame.steps))

    def ending(grid: _Grid, error: BaseException | None, duration_s: float) -> None:
        end(grid, error, duration_s)
        came.release(1000)

    monkeypatch.setattr(_Grid, "add", adding)
    monkeypatch.setattr(_Grid, "end", ending)
    steps = model._steps
    assert steps.frames is not None
    frames = steps.frames

    def slow(*arguments: Any) -> Any:
        for _ in range(6):
            came.acquire(timeout=PATIENCE_S)
        return frames(*arguments)

    monkeypatch.setattr(model, "_steps", replace(steps, frames=slow))
    with model.watch(video, LABELS, window=0.2) as watched:
        answers = list(watched)
    assert len(answers) + watched.left_out == 14
    assert watched.left_out >= 6
    assert answers[-1].start_s == pytest.approx(1.3)  # the newest
    assert [message for message in caplog.messages if "are left out" in message] == [
        f"{video}: windows come faster than they can be answered, and some are left out: give a longer --stride or a "
        "faster model"
    ]
