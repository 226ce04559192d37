"""The page of an evaluation: its content, and in Chromium what a user does with it."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from in_process import run
from make_videos import number_in, numbered, write_video
from PIL import Image
from small_models import random_model, save_model

from action_clip import ActionClipError
from action_clip.data.dataset import Dataset, Example
from action_clip.evaluation.answers import Answers
from action_clip.evaluation.metrics import evaluate
from action_clip.evaluation.report import page as page_module
from action_clip.evaluation.report.page import save_page
from action_clip.video.sampling import make_sampler

if TYPE_CHECKING:
    from playwright.sync_api import Browser

EVIL = "<b onmouseover=\"document.title='evil'\">run</b>"
CLASSES = ("jump", EVIL, "walk")
SCORES = (
    (0.1, 0.7, 0.2),  # 0: taken for the second class
    (0.2, 0.8, 0.0),  # 1: too, and surer
    (0.1, 0.9, 0.0),  # 2: right
    (0.3, 0.3, 0.4),  # 3: taken for the third
    (float("nan"),) * 3,  # 4: cannot be read
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A video for each clip, whose frames show numbers of its own."""
    for clip in range(len(SCORES)):
        pictures = [numbered(100 * clip + frame, 640, 384) for frame in range(16)]
        write_video(tmp_path / f"clip {clip}.mp4", pictures)
    return tmp_path


def answers(folder: Path, right: Sequence[tuple[int, ...]] = ((0,), (0,), (1,), (1,), (2,))) -> Answers:
    examples = tuple(Example(str(folder / f"clip {clip}.mp4"), labels) for clip, labels in enumerate(right))
    dataset = Dataset("data", CLASSES, examples, CLASSES)
    return Answers(dataset, "small", CLASSES, tuple(right), np.array(SCORES), {4: "<i>it</i> is broken"}, views="1x1")


def written(folder: Path, **others: Sequence[tuple[int, ...]]) -> Path:
    save_page(evaluate(answers(folder, **others), top_k=2), folder / "page.html", make_sampler("uniform", 4, 0))
    return folder / "page.html"


class Text(HTMLParser):
    """The text of a page between tags, without scripts and styles."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.tags: list[str] = []
        self._hidden = False
        self.feed(page.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._hidden = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.parts.append(data)

    @property
    def line(self) -> str:
        return " ".join(" ".join(self.parts).split())


def test_what_is_on_the_page(folder: Path) -> None:
    text = Text(written(folder)).line
    assert "small on data 5 clips 3 of 3 labels views 1x1 1 of these has no answer and counts as wrong." in text
    assert re.search(r"top-1 20\.0% [\d.]+% – [\d.]+% 25\.0%", text)
    assert re.search(r"top-2 40\.0% [\d.]+% – [\d.]+% 50\.0%", text)
    assert f"Worst classes jump 0.0% of 2 walk 0.0% of 1 {EVIL} 50.0% of 2 All 3 classes" in text
    assert "2 clips clip 1.mp4 answer 80.0%; right label 20.0%, place 2 clip 0.mp4" in text
    assert f"jump → {EVIL} 2 clips" in text
    assert f"{EVIL} → walk 1 clip clip 3.mp4 answer 40.0%; right label 30.0%, place 3" in text
    assert text.endswith("clip 4.mp4 <i>it</i> is broken")
    assert "80.0% – 86.7% " not in text, "no answer is in this bin"


def test_the_frames_of_errors_are_those_that_are_looked_at(folder: Path) -> None:
    page = written(folder).read_text("utf-8")
    strips = re.findall(r'<div class="strip">(.*?)</div>', page)
    files = [[base64.b64decode(jpeg) for jpeg in re.findall(r"base64,(.*?)\"", strip)] for strip in strips]
    numbers = [[number_in(np.asarray(Image.open(io.BytesIO(file)))) for file in frames] for frames in files]
    looked_at = [1, 5, 9, 13]
    assert numbers == [[100 * clip + frame for frame in looked_at] for clip in (1, 0, 3)]


def test_a_page_of_many_errors_has_frames_of_the_first_ones(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "MOST_CLIPS", 2)
    page = written(folder).read_text("utf-8")
    assert page.count('<div class="strip">') == 2
    assert "The last 1 are without frames." in page
    assert page.count('<figure class="wrong">') == 3


def test_the_matrix_has_the_labels_with_most_errors(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "MOST_LABELS", 2)
    page = written(folder).read_text("utf-8")
    matrix = page[page.index('<table class="confusion">') : page.index("</table></div>")]
    assert re.findall(r'<th scope="row"><bdi>(\w+)', matrix) == ["jump"]
    assert "2 of 3 labels are here" in page


def test_clips_with_several_labels_have_no_matrix(folder: Path) -> None:
    text = Text(written(folder, right=((0, 2), (0,), (1,), (1, 0), (2,)))).line
    assert "mean average precision" in text
    assert "No mean per class: clips have several labels." in text
    assert "Confusion matrix" not in text
    assert "Reliability" not in text
    assert f"jump , walk → {EVIL} 1 clip clip 0.mp4 answer 70.0%; right label 20.0%, place 2" in text


@pytest.mark.slow
def test_in_a_browser_numbers_lead_to_clips_and_names_do_nothing(folder: Path, chromium: Browser) -> None:
    page = chromium.new_page(viewport={"width": 700, "height": 800})
    errors: list[str] = []
    requests: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(written(folder).as_uri())
    row = page.locator(".confusion tbody tr").first
    assert row.locator("td").all_inner_texts() == ["", "2", ""]
    row.locator("a").click()
    pair = page.locator(".pair:target")
    assert pair.locator("h3").inner_text() == f"jump → {EVIL} 2 clips"
    assert pair.locator("figcaption a").all_inner_texts() == ["clip 1.mp4", "clip 0.mp4"]
    page.wait_for_function(
        "[...document.querySelectorAll('.pair:target img')].every((image) => image.naturalWidth === 160)"
    )
    # A bar is as high as the right part: of the answers with 85 to 93 %, all.
    pixels = page.evaluate(
        """() => {
          const canvas = document.querySelector(".chart canvas");
          const over = document.querySelector(".u-over").getBoundingClientRect();
          const box = canvas.getBoundingClientRect();
          const scale = canvas.width / box.width;
          const at = (x, y) => {
            const [left, top] = [over.left - box.left + x * over.width, over.top - box.top + (1 - y) * over.height];
            return [...canvas.getContext("2d").getImageData(left * scale, top * scale, 1, 1).data];
          };
          return {right: at(0.9, 0.75), wrong: at(0.77, 0.55), none: at(0.55, 0.85)};
        }"""
    )
    assert {name: pixel[3] for name, pixel in pixels.items()} == {"right": 255, "wrong": 0, "none": 0}
    assert page.evaluate("document.documentElement.scrollWidth") == 700, "only the matrix scrolls"
    page.locator(".confusion bdi").nth(1).hover()
    assert page.title() == "small on data"
    assert errors == []
    assert [url for url in requests if not url.startswith(("file:///", "data:"))] == []
    page.close()


def test_the_command_writes_the_page_after_the_answer(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    model = str(save_model(random_model(1, 4, transformer=False), tmp_path / "model", frames=4))
    (folder / "clips.csv").write_text(
        "file,label\n" + "".join(f"clip {clip}.mp4,{label}\n" for clip, label in enumerate("aabbc")), "utf-8"
    )
    arguments = ("evaluate", "--data", str(folder / "clips.csv"), "--model", model, "--report")
    code, out, _ = run(capsys, *arguments, str(tmp_path / "page.html"))
    assert code == 0
    top_1 = re.search(r"^top-1 +([\d.]+) %", out, re.MULTILINE)
    assert top_1 is not None
    text = Text(tmp_path / "page.html").line
    assert f"top-1 {top_1[1]}%" in text
    code, out, err = run(capsys, *arguments, str(tmp_path / "page.txt"))
    assert (code, out) == (1, "")
    assert "the name must end in .html or .htm" in err


def test_a_page_that_cannot_be_written(folder: Path) -> None:
    with pytest.raises(ActionClipError, match="there is no folder"):
        save_page(evaluate(answers(folder)), folder / "no" / "page.html", make_sampler("uniform", 4, 0))
