"""The cache of text features: memory first, then the file."""

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from action_clip.models.cache.feature_memory import MEMORY
from action_clip.models.cache.text_feature_cache import TextFeatureCache, space_of
from action_clip.models.store.home import home

EATING = np.array([0.6, 0, 0, -0.8], np.float32)
DRINKING = np.full(4, 0.5, np.float32)


def no_connection(*_: object, **__: object) -> None:
    raise AssertionError("the file was opened")


def test_features_come_from_the_file_once_and_from_memory_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, space = tmp_path / "features", space_of("a")
    TextFeatureCache(path, space).write({"eating": EATING, "drinking": DRINKING})
    MEMORY.clear()
    cache = TextFeatureCache(path, space)
    assert set(cache.read(["eating", "never seen", "eating"])) == {"eating"}
    monkeypatch.setattr(sqlite3, "connect", no_connection)
    np.testing.assert_array_equal(cache.read(["eating"])["eating"], EATING)
    with pytest.raises(AssertionError, match="the file was opened"):
        cache.read(["eating", "drinking"])


def test_what_is_written_is_in_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, space = tmp_path / "features", space_of("a")
    TextFeatureCache(path, space).write({"eating": EATING})
    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", no_connection)
        assert set(TextFeatureCache(path, space).read(["eating"])) == {"eating"}
    MEMORY.clear()
    assert set(TextFeatureCache(path, space).read(["eating"])) == {"eating"}


def test_without_a_file_there_is_only_memory() -> None:
    cache = TextFeatureCache(None, space_of("a"))
    cache.write({"eating": EATING})
    assert set(cache.read(["eating", "drinking"])) == {"eating"}
    assert TextFeatureCache(None, space_of("b")).read(["eating"]) == {}
    assert list(home().iterdir()) == []
    MEMORY.clear()
    assert cache.read(["eating"]) == {}


def test_spaces_differ_in_each_part_and_in_their_order() -> None:
    assert len({space_of("a", "b"), space_of("b", "a"), space_of("ab"), space_of("a", "b", "")}) == 4
