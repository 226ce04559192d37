"""What a Prediction shows of itself: in a line, in a notebook, as plain data."""

import base64
import json
import os
import pickle
import re
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from action_clip.models.prediction import Prediction
from action_clip.output.drawing import draw_sheet
from action_clip.output.html import _table
from action_clip.output.writers import FORMATS

ROOT = Path(__file__).parents[2]
LABELS = ("eating", '<b>cooking</b> & "frying"', "driving", "走路")
PREDICTION = Prediction(
    labels=LABELS,
    probabilities=np.array([0.125, 0.25, 0.5625, 0.0625]),
    similarities=np.array([0.18, 0.2, 0.3, -0.1]),
    top_k=3,
    video_features=np.zeros(4, np.float32),
    frame_indices=(np.int64(0), 2, 5),  # type: ignore[arg-type]
    model="nano",
    video="clips/<i>.mp4",
    duration_s=np.float64(1.5),
    frame_times_s=(np.float64(0.0), 0.5, 1.25),
    frames=np.random.default_rng(0).integers(0, 256, (3, 40, 60, 3), np.uint8),
    timings_s={"decode": np.float64(0.25), "score": 0.001},
)
FRAMES = replace(PREDICTION, video=None, duration_s=None, frame_times_s=())


def test_the_repr_is_a_line_with_the_best_labels() -> None:
    assert repr(PREDICTION) == (
        "<Prediction 'driving' 56.2%, '<b>cooking</b> & \"frying\"' 25.0%, 'eating' 12.5%, … of 4 labels; "
        "video: 'clips/<i>.mp4'; model: 'nano'>"
    )
    assert repr(replace(FRAMES, top_k=1)) == "<Prediction 'driving' 56.2%, … of 4 labels; video: frames; model: 'nano'>"
    one = replace(FRAMES, labels=("eating",), probabilities=np.array([1.0]), similarities=np.array([0.1]), top_k=1)
    assert repr(one) == "<Prediction 'eating' 100.0%; video: frames; model: 'nano'>"


def test_the_repr_of_anything_is_short_and_cannot_steer_a_terminal() -> None:
    name = "\x1b[2J\udcff\u202e\n" * 100
    odd = replace(PREDICTION, labels=(name, *LABELS[1:]), video=name, model=name)
    odd = replace(odd, probabilities=np.array([0.7, 0.1, 0.1, 0.1]))
    assert repr(odd).isprintable()
    assert "…" in repr(odd)
    assert len(repr(odd)) < 1000
    long = replace(PREDICTION, labels=tuple("word " * 100 + str(i) for i in range(4)), video="folder/" * 100 + "a.mp4")
    assert repr(long) == (
        "<Prediction 'word word word word …ord word word word 2' 56.2%, "
        "'word word word word …ord word word word 1' 25.0%, "
        "'word word word word …ord word word word 0' 12.5%, … of 4 labels; "
        "video: 'folder/folder/folder…/folder/folder/a.mp4'; model: 'nano'>"
    )


def test_a_dict_is_what_json_says() -> None:
    answer = PREDICTION.to_dict()
    assert list(answer.items()) == [
        ("video", "clips/<i>.mp4"),
        ("model", "nano"),
        ("class_count", 4),
        ("frames", [0, 2, 5]),
        ("frame_times_s", [0.0, 0.5, 1.25]),
        ("duration_s", 1.5),
        (
            "predictions",
            [
                {"rank": 1, "index": 2, "label": "driving", "probability": 0.5625},
                {"rank": 2, "index": 1, "label": '<b>cooking</b> & "frying"', "probability": 0.25},
                {"rank": 3, "index": 0, "label": "eating", "probability": 0.125},
            ],
        ),
        ("timings_s", {"decode": 0.25, "score": 0.001}),
    ]
    assert json.loads(json.dumps(answer)) == answer
    assert json.loads(FORMATS["json"](PREDICTION)).items() <= answer.items()
    json.dumps(FRAMES.to_dict())
    assert (FRAMES.to_dict()["duration_s"], FRAMES.to_dict()["frame_times_s"]) == (None, [])


@pytest.mark.parametrize("prediction", [PREDICTION, FRAMES], ids=["video", "frames"])
def test_a_notebook_shows_the_sheet(prediction: Prediction) -> None:
    html = prediction._repr_html_()
    image = re.fullmatch(
        r'<img style="max-width: 100%" alt="([^"<>]*)" src="data:image/png;base64,([A-Za-z0-9+/=]*)">', html
    )
    assert image is not None
    assert "&lt;b&gt;cooking&lt;/b&gt; &amp; &quot;frying&quot;" in image[1]
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(image[2]), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    np.testing.assert_array_equal(picture, draw_sheet(prediction))


@pytest.mark.parametrize(
    "module",
    ["raise ImportError('libGL.so.1: cannot open shared object file')", "__version__ = '4.11.0'", ""],
    ids=["no libGL", "OpenCV 4", "an empty folder"],
)
def test_without_opencv_a_notebook_shows_a_table(tmp_path: Path, module: str) -> None:
    (tmp_path / "cv2.py").write_text(module)
    (tmp_path / "prediction.pickle").write_bytes(pickle.dumps(PREDICTION))
    program = (
        "import pickle, sys, action_clip; prediction = pickle.load(open(sys.argv[1], 'rb')); "
        "sys.stdout.buffer.write(prediction._repr_html_().encode())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "prediction.pickle")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )
    left = '<td style="text-align: left">'
    assert (done.stdout, done.stderr) == (
        "<table><caption>clips/&lt;i&gt;.mp4 · nano · 4 labels</caption><tr><th>label</th><th>probability</th></tr>"
        f"<tr>{left}driving</td><td>56.2%</td></tr>"
        f"<tr>{left}&lt;b&gt;cooking&lt;/b&gt; &amp; &quot;frying&quot;</td><td>25.0%</td></tr>"
        f"<tr>{left}eating</td><td>12.5%</td></tr></table>",
        "",
    )


def test_the_table_has_no_odd_characters() -> None:
    odd = replace(PREDICTION, labels=("a\u202eb", *LABELS[1:]), video="bad\udcff.mp4", top_k=4)
    table = _table(odd)
    table.encode("utf-8")
    assert r"bad\udcff.mp4" in table
    assert r">a\u202eb<" in table


def test_copies_are_equal_in_content_and_none_equals_another() -> None:
    assert PREDICTION.ranked  # what is computed once does not stand in the way
    for copy in (pickle.loads(pickle.dumps(PREDICTION)), deepcopy(PREDICTION)):
        assert copy != PREDICTION
        assert PREDICTION == PREDICTION
        assert len({copy, PREDICTION}) == 2
        assert copy.to_dict() == PREDICTION.to_dict()
        assert repr(copy) == repr(PREDICTION)
        for name in ("probabilities", "similarities", "video_features", "frames"):
            np.testing.assert_array_equal(getattr(copy, name), getattr(PREDICTION, name))
