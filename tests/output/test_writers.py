"""The three formats, character by character, and the files they are saved to."""

import csv
import io
import json
import os
import stat
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from action_clip.errors import ActionClipError
from action_clip.models.prediction import Prediction
from action_clip.output.writers import FORMATS, save_text
from action_clip.system.files import write_file

PREDICTION = Prediction(
    labels=("eating", "走路, slowly", "driving"),
    probabilities=np.array([0.125, 0.3147339820861816, 0.5602660179138184]),
    similarities=np.array([0.1, 0.2, 0.3]),
    top_k=2,
    video_features=np.zeros(4, np.float32),
    frame_indices=(0, 2, 5),
    model="nano",
    video="clips/пример.mp4",
    duration_s=1.5,
    frame_times_s=(0.0, 0.5, 1.25),
    frames=np.zeros((3, 4, 6, 3), np.uint8),
    timings_s={"decode": 0.25, "score": 0.001},
)


def written(form: str, prediction: Prediction) -> str:
    return FORMATS[form](prediction)


def test_the_formats_are_the_documented_ones() -> None:
    assert list(FORMATS) == ["text", "json", "csv"]


def test_text_is_the_layout_that_scripts_parse() -> None:
    assert written("text", PREDICTION) == (
        "==============================================================\n"
        "class_count = 3\n"
        "+ idx = 0\n"
        "  category = 2 [driving]\n"
        "  prob = 0.5602660179138184\n"
        "+ idx = 1\n"
        "  category = 1 [走路, slowly]\n"
        "  prob = 0.3147339820861816\n"
        "\n"
        "Script finished successfully.\n"
    )


def test_json_is_one_object_on_one_line_with_the_documented_keys_in_order() -> None:
    assert written("json", PREDICTION) == (
        '{"video": "clips/пример.mp4", "model": "nano", "class_count": 3, "frames": [0, 2, 5], '
        '"frame_times_s": [0.0, 0.5, 1.25], "duration_s": 1.5, "predictions": ['
        '{"rank": 1, "index": 2, "label": "driving", "probability": 0.5602660179138184}, '
        '{"rank": 2, "index": 1, "label": "走路, slowly", "probability": 0.3147339820861816}], '
        '"timings_s": {"decode": 0.25, "score": 0.001}}\n'
    )


def test_csv_has_the_documented_header_and_quotes_what_needs_it() -> None:
    assert written("csv", PREDICTION) == (
        "video,rank,index,label,probability\n"
        "clips/пример.mp4,1,2,driving,0.5602660179138184\n"
        'clips/пример.mp4,2,1,"走路, slowly",0.3147339820861816\n'
    )


def test_csv_survives_quotes_and_line_ends_in_names() -> None:
    odd = replace(PREDICTION, video='a "b"\nc.mp4', top_k=1)
    assert list(csv.reader(io.StringIO(written("csv", odd)))) == [
        ["video", "rank", "index", "label", "probability"],
        ['a "b"\nc.mp4', "1", "2", "driving", "0.5602660179138184"],
    ]


def test_decoded_frames_have_no_video_and_no_duration() -> None:
    frames = replace(PREDICTION, video=None, duration_s=None, frame_times_s=(), top_k=1)
    answer = json.loads(written("json", frames))
    assert answer["video"] is None
    assert answer["frame_times_s"] == []
    assert answer["duration_s"] is None
    assert written("csv", frames).splitlines()[1] == ",1,2,driving,0.5602660179138184"


@pytest.mark.parametrize("form", FORMATS)
def test_a_saved_file_replaces_the_old_one_and_is_utf8(form: str, tmp_path: Path) -> None:
    target = tmp_path / "ответ"
    target.write_text("old and longer " * 100, encoding="utf-8")
    save_text(FORMATS[form](PREDICTION), target)
    assert target.read_bytes().decode("utf-8") == written(form, PREDICTION)
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_name_that_is_not_unicode_can_be_saved_and_read_back_from_json(tmp_path: Path) -> None:
    odd = replace(PREDICTION, video="bad\udcff.mp4")
    save_text(FORMATS["json"](odd), tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["video"] == "bad\udcff.mp4"
    save_text(FORMATS["csv"](odd), tmp_path / "a.csv")
    assert "\nbad\\udcff.mp4,1,2,driving," in (tmp_path / "a.csv").read_text(encoding="utf-8")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ActionClipError, match=r"there is no folder .*absent; create it"):
        save_text(FORMATS["text"](PREDICTION), tmp_path / "absent" / "a.txt")


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(ActionClipError, match="it is a folder"):
        save_text(FORMATS["text"](PREDICTION), tmp_path)


def test_a_file_that_cannot_be_created_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ActionClipError, match=r"cannot write .*xxx.*; name another file"):
        save_text(FORMATS["text"](PREDICTION), tmp_path / ("x" * 300))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_a_link_stays_a_link_and_its_target_is_replaced(tmp_path: Path) -> None:
    real, link = tmp_path / "real.csv", tmp_path / "link.csv"
    real.write_text("old")
    link.symlink_to(real)
    save_text(FORMATS["csv"](PREDICTION), link)
    assert link.is_symlink()
    assert real.read_text(encoding="utf-8") == written("csv", PREDICTION)


@pytest.mark.skipif(sys.platform == "win32", reason="no named pipes in folders there")
def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        save_text(FORMATS["csv"](PREDICTION), pipe)
        assert os.read(reader, 10_000).decode() == written("csv", PREDICTION)
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are not modes there")
def test_the_file_gets_the_permissions_that_any_new_file_gets(tmp_path: Path) -> None:
    save_text(FORMATS["text"](PREDICTION), tmp_path / "a")
    (tmp_path / "b").touch()
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
def test_a_replaced_file_keeps_its_mode(tmp_path: Path) -> None:
    target = tmp_path / "private.json"
    target.write_text("old")
    target.chmod(0o600)
    write_file(target, b"new")
    assert target.read_bytes() == b"new"
    assert target.stat().st_mode & 0o777 == 0o600
