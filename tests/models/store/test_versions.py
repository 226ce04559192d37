"""Versions of the program with other layouts, by turns in one home()."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
from small_models import random_model, save_model

from action_clip import ActionClip
from action_clip.models.cache.feature_memory import MEMORY
from action_clip.models.store.home import home

FRAMES = np.zeros((8, 40, 40, 3), np.uint8)


def test_what_another_version_keeps_stays_as_it_is(tmp_path: Path, opened: list[Path]) -> None:
    model = save_model(random_model(1, 8, True), tmp_path / "model", frames=8)
    # As the version before the layouts' numbers were in the names, which takes what else it finds there for older.
    remembered = {str(path): [path.stat().st_size, path.stat().st_mtime_ns, "0" * 64] for path in model.iterdir()}
    (home() / "hashes.json").write_text(json.dumps(remembered, indent=1))
    (home() / "hashes-2.json").write_text(json.dumps(remembered, indent=1))
    with closing(sqlite3.connect(home() / "label_bank.sqlite3")) as bank, bank:
        bank.execute("CREATE TABLE features (space, text, vector, crc, PRIMARY KEY (space, text)) WITHOUT ROWID")
        bank.execute("INSERT INTO features VALUES ('a', 'eating', 'vector', 0)")
        bank.execute("PRAGMA user_version = 2")
        bank.execute(f"PRAGMA application_id = {int.from_bytes(b'ActC')}")
    others = {path: path.read_bytes() for path in home().iterdir()}
    answers = []
    for _ in range(2):
        MEMORY.clear()
        opened.clear()
        answers.append(ActionClip(model).classify(FRAMES, ["eating", "drinking"]).probabilities)
    assert {path: path.read_bytes() for path in others} == others
    np.testing.assert_array_equal(answers[0], answers[1])
    assert not [path for path in opened if path.parent == model]
