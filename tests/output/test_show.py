"""The window of live video, where it does not do what it should; tests/commands/test_live_servers.py has real ones."""

from threading import Event
from typing import Any

import numpy as np
import pytest

from action_clip.output import show

HANGS = "import time; print('shown', flush=True); time.sleep(600)"
PATIENCE_S = 60.0


class Answers:
    """In place of a LiveTimeline: one picture, again and again."""

    def __init__(self) -> None:
        self.was_asked = Event()
        self.was_stopped = Event()
        self.stop = self.was_stopped.set

    @property
    def picture(self) -> np.ndarray[Any, Any]:
        self.was_asked.set()
        return np.zeros((480, 640, 3), np.uint8)


def test_a_window_that_hangs_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(show, "_CODE", HANGS)
    monkeypatch.setattr(show, "_CLOSING_S", 0.2)
    answers: Any = Answers()
    with show.LiveView("0") as window:
        window.follow(answers)
        assert answers.was_asked.wait(PATIENCE_S)
    assert answers.was_stopped.wait(PATIENCE_S)
