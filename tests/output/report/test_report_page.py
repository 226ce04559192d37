"""What a page has: the texts, links, pictures and data in it."""

import base64
import io
import json
import os
import re
import signal
import subprocess
import sys
from functools import partial
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from predictions import failure, picture, prediction, windows

from action_clip import ActionClipError, Failure, Prediction, save_report, segments
from action_clip.output.report.links import link
from action_clip.output.report.page import FOLDER, write_page
from action_clip.output.report.text import shown

PALETTES = re.findall(r":root \{(.*?)\}", (FOLDER / "style.css").read_text("utf-8"), re.DOTALL)


def text_of(page: Path) -> str:
    """The text between the tags of a page's body, on one line."""
    body = re.sub(r"<(script|style)\b.*?</\1>", " ", page.read_text("utf-8").partition("<body>")[2], flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", body)).split())


def pictures_in(page: Path) -> list[Image.Image]:
    found = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page.read_text("utf-8"))
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in found]


def curves_in(page: Path) -> list[dict[str, object]]:
    found = re.findall(r'<script type="application/json" class="curves">(.*?)</script>', page.read_text("utf-8"))
    return [json.loads(data) for data in found]


def test_one_video_has_its_frames_with_times_and_its_labels(tmp_path: Path) -> None:
    frames = [picture(level, 45, 80) for level in (20, 120, 220)]
    save_report(tmp_path / "a.html", prediction("x/clip.mp4", {"eating": 0.25, "läuft": 0.75}, frames=np.stack(frames)))
    assert text_of(tmp_path / "a.html") == (
        "clip.mp4 8.00 s 3 frames looked at small 2 labels läuft 75.0% eating 25.0% Frames looked at "
        "0.40 s frame 10 0.80 s frame 20 1.20 s frame 30"
    )
    found = pictures_in(tmp_path / "a.html")
    assert [image.size for image in found] == [(80, 45)] * 3
    assert [image.convert("L").getpixel((40, 20)) for image in found] == pytest.approx([20, 120, 220], abs=2)


def test_frames_without_times_and_a_name_are_numbered(tmp_path: Path) -> None:
    frames = np.stack([picture(9)] * 3)
    one = prediction(None, {"eating": 1.0}, frames=frames, frame_times_s=(), duration_s=None)
    save_report(tmp_path / "a.html", one)
    text = text_of(tmp_path / "a.html")
    assert text.startswith("decoded frames 3 frames looked at small")
    assert text.endswith("Frames looked at frame 10 frame 20 frame 30")
    assert "nan" not in text.lower()
    save_report(tmp_path / "a.html", [one, one])
    assert "nan" not in text_of(tmp_path / "a.html").lower()


def test_several_videos_have_a_thumbnail_each(tmp_path: Path) -> None:
    with_frames = prediction("b.mp4", {"a": 1.0}, frames=np.stack([picture(10, 400, 300)] * 3))
    first = prediction("a.mp4", {"a": 1.0}, thumbnail=picture(200))
    results: list[Prediction | Failure] = [first, with_frames, failure("c.mp4", "is broken")]
    save_report(tmp_path / "a.html", iter(results))
    found = pictures_in(tmp_path / "a.html")
    assert [image.size for image in found] == [(160, 90), (120, 160)]
    assert text_of(tmp_path / "a.html").endswith("3 c.mp4 c.mp4 is broken – –")


def test_a_timeline_has_curves_of_the_labels_that_matter_and_segments(tmp_path: Path) -> None:
    labels = {f"label {number}": [0.01 * number] * 4 for number in range(12)}
    labels["label 0"] = [0.9, 0.9, 0.0, 0.0]
    found = windows("a.mp4", labels)
    save_report(tmp_path / "a.html", found, join=partial(segments, threshold=0.5))
    [data] = curves_in(tmp_path / "a.html")
    assert data["labels"] == ["label 0", *(f"label {number}" for number in range(11, 4, -1))]
    assert data["times"] == [1.0, 2.0, 3.0, 4.0]
    assert data["end"] == 5.0
    values = data["values"]
    assert isinstance(values, list)
    assert values[:2] == [[0.9, 0.9, 0.0, 0.0], [0.11] * 4]
    html = (tmp_path / "a.html").read_text("utf-8")
    assert html.count('class="band ') == 1
    assert "left:0.0%;width:50.0%;--lane:0" in html
    assert text_of(tmp_path / "a.html").endswith("0:00:03.0 0:00:05.0 label 11 11.0%")


def test_labels_that_happen_together_have_lanes(tmp_path: Path) -> None:
    found = windows("a.mp4", {"a": [0.9, 0.9, 0.0], "b": [0.0, 0.9, 0.9]}, is_multi_label=True)
    save_report(tmp_path / "a.html", found)
    html = (tmp_path / "a.html").read_text("utf-8")
    assert re.findall(r"--lanes?:\d", html) == ["--lanes:2", "--lane:0", "--lane:1"]


def test_a_video_that_ends_early_has_its_windows_and_the_reason(tmp_path: Path) -> None:
    found = windows("a.mp4", {"a": [0.9], "b": [0.1]})
    save_report(tmp_path / "a.html", [*found, failure("a.mp4", "ends too early")])
    assert "a.mp4 ends too early" in text_of(tmp_path / "a.html")
    assert len(curves_in(tmp_path / "a.html")) == 1
    save_report(tmp_path / "a.html", [*found, failure("b.mp4", "is broken"), *found])
    assert "3 videos, 1 failed" in text_of(tmp_path / "a.html")


def test_links_are_relative_to_the_page_and_escaped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("videos", "a:b").mkdir(parents=True)
    Path("pages").mkdir()
    video = os.path.join("videos", "a:b", 'ü #?%"<.mp4')
    Path(video).write_bytes(b"")
    found = link(video, os.path.join("pages", "a.html"))
    assert found is not None
    assert found.address == "../videos/a%3Ab/%C3%BC%20%23%3F%25%22%3C.mp4"
    Path("folder").symlink_to(tmp_path / "videos" / "a:b")
    through = link(os.path.join("folder", "..", "a:b", 'ü #?%"<.mp4'), "a.html")
    assert through is not None
    assert through.address == "videos/a%3Ab/%C3%BC%20%23%3F%25%22%3C.mp4"


@pytest.mark.parametrize(
    "video", ["javascript:alert(1)", "data:text/html,x", "rtsp://a/b", "http://a/?token=***", "gone", None]
)
def test_there_are_no_links_to_anything_else(tmp_path: Path, video: str | None) -> None:
    assert link(video, tmp_path / "a.html") is None
    save_report(tmp_path / "a.html", [prediction(video, {"a": 1.0}), prediction(video, {"a": 1.0})])
    assert "<a " not in (tmp_path / "a.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a  b\n c", "a b c"),
        ("\u200b", r"\u200b"),
        ("\u200b \u2060", r"\u200b\x20\u2060"),
        ("\u3164\ufe0f", r"\u3164\ufe0f"),
        ("  ", r"\x20\x20"),
        ("", '""'),
        ("a\0\x1b[31m\u202e\ud800", r"a\x00\x1b[31m\u202e\ud800"),
        ("👩‍👧 ❤️ שלום", "👩‍👧 ❤️ שלום"),
    ],
)
def test_names_are_shown_on_one_line_and_never_as_nothing(text: str, expected: str) -> None:
    assert shown(text) == expected


def luminance(colour: str) -> float:
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted([luminance(one), luminance(other)], reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def mixed(one: str, other: str, part: float) -> str:
    pairs = [(int(one[place : place + 2], 16), int(other[place : place + 2], 16)) for place in (1, 3, 5)]
    return "#" + "".join(f"{round(part * first + (1 - part) * second):02x}" for first, second in pairs)


@pytest.mark.parametrize("palette", PALETTES, ids=["light", "dark"])
def test_texts_and_curves_have_enough_contrast(palette: str) -> None:
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", palette))
    curves = [colour for name, colour in colours.items() if name.startswith("curve-")]
    assert len(set(curves)) == 8
    backgrounds = [colours[name] for name in ("paper", "soft", "bar", "band")]
    backgrounds += [mixed(curve, colours["paper"], 0.22) for curve in curves]
    assert min(contrast(colours["ink"], background) for background in backgrounds) >= 4.5
    others = [colours[name] for name in ("grey", "accent", "alarm")] + curves
    assert min(contrast(colour, colours["paper"]) for colour in others) >= 4.5
    assert contrast(colours["grey"], colours["soft"]) >= 4.5


@pytest.mark.parametrize("name", ["a.pdf", "html", "missing/a.html"])
def test_other_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ActionClipError, match=r"name must end in .html or .htm|there is no folder"):
        save_report(tmp_path / name, prediction("a.mp4", {"a": 1.0}))
    assert [*tmp_path.iterdir()] == []


def test_other_results_and_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ActionClipError, match="there are no results"):
        save_report(tmp_path / "a.html", [])
    with pytest.raises(ActionClipError, match="a result is a str: give predictions, failures or windows"):
        save_report(tmp_path / "a.html", "clip.mp4")  # type: ignore[arg-type]
    assert [*tmp_path.iterdir()] == []


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("before")
    (tmp_path / "broken.html").write_text('{% extends "page.html" %}{% block body %}{{ 1 / 0 }}{% endblock %}')
    with pytest.raises(ZeroDivisionError):
        write_page(tmp_path / "a.html", "broken.html", {"title": "a"}, folder=tmp_path)
    assert (tmp_path / "a.html").read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "broken.html"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals are others there")
def test_a_process_that_is_terminated_leaves_no_part_of_a_page(tmp_path: Path) -> None:
    (tmp_path / "endless.html").write_text('{% extends "page.html" %}{% block body %}{{ wait() }}{% endblock %}')
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom action_clip.output.report.page import write_page\n"
        "wait = lambda: (print('begun', flush=True), time.sleep(600))\n"
        "write_page('a.html', 'endless.html', {'title': 'a', 'wait': wait}, folder=Path())"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=tmp_path, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        assert len(list(tmp_path.glob(".*.tmp"))) == 1
        process.terminate()
    assert process.returncode == -signal.SIGTERM
    assert [path.name for path in tmp_path.iterdir()] == ["endless.html"]


def test_a_page_is_the_same_for_the_same_results(tmp_path: Path) -> None:
    results: list[Prediction] = [prediction(f"{number}.mp4", {"b": 0.5, "a": 0.5}) for number in range(3)]
    save_report(tmp_path / "a.html", results)
    save_report(tmp_path / "b.html", results)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_what_is_put_into_pages_does_not_end_its_element() -> None:
    for path in [*FOLDER.glob("*.js"), *FOLDER.glob("uplot/*.js")]:
        assert not re.search(r"</script|<!--", path.read_text("utf-8"), re.IGNORECASE), path
    for path in [*FOLDER.glob("*.css"), *FOLDER.glob("uplot/*.css")]:
        assert "</style" not in path.read_text("utf-8").lower(), path
