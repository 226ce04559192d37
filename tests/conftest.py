"""What every test gets: a home of its own, no mirror, no connection to anywhere."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnxruntime
import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests last: most failures show in the first seconds."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("ACTION_CLIP_HOME", str(home))
    monkeypatch.delenv("ACTION_CLIP_MIRROR", raising=False)
    monkeypatch.delenv("ACTION_CLIP_OFFLINE", raising=False)
    yield home
    # The command takes the log over; tests that follow must see its messages again.
    log = logging.getLogger("action_clip")
    log.handlers[:] = []
    log.propagate = True


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that sessions are made of, in order."""
    make = onnxruntime.InferenceSession
    paths = []

    def watched(path: Path, *arguments: Any, **named: Any) -> Any:
        paths.append(path)
        return make(path, *arguments, **named)

    monkeypatch.setattr(onnxruntime, "InferenceSession", watched)
    return paths
