"""The command with --report: a page beside the answers, which come first."""

import base64
import io
import json
import os
import re
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from in_process import run
from make_videos import number_in, write_numbered
from PIL import Image
from small_models import random_model, save_model

ASK = ["-t", "eating", "-t", "läuft"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_model(random_model(1, 4, False), tmp_path_factory.mktemp("model"), frames=4))


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the working folder: clips/a.mp4 and c.webm, of numbered frames, and b.mp4, which is broken."""
    monkeypatch.chdir(tmp_path)
    Path("clips").mkdir()
    write_numbered(Path("clips/a.mp4"), 100, options={"g": "10", "sc_threshold": "0"})
    Path("clips/b.mp4").write_text("not a video")
    write_numbered(Path("clips/c.webm"), 50, "libvpx", options={"deadline": "realtime"})


def page_text(name: str) -> str:
    _, _, body = Path(name).read_text("utf-8").partition("<body>")
    body = re.sub(r"<(script|style)\b.*?</\1>", " ", body, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", body)).split())


def numbers(name: str) -> list[int]:
    """The numbers that the pictures of a page show."""
    found = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', Path(name).read_text("utf-8"))
    return [number_in(np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))) for data in found]


def test_one_video_is_shown_with_the_frames_that_were_looked_at(
    capsys: pytest.CaptureFixture[str], model: str, clips: None
) -> None:
    code, out, err = run(capsys, "-m", model, *ASK, "clips/a.mp4", "--format", "json", "--report", "page.html")
    answer = json.loads(out)
    assert (code, err) == (0, "")
    assert numbers("page.html") == answer["frames"] == [12, 37, 62, 87]
    best = answer["predictions"][0]
    assert page_text("page.html").startswith(
        f"a.mp4 4.00 s 4 frames looked at {answer['model']} 2 labels {best['label']} {best['probability']:.1%}"
    )
    assert 'href="clips/a.mp4"' in Path("page.html").read_text("utf-8")


def test_several_videos_are_a_table_with_thumbnails_known_or_not(
    capsys: pytest.CaptureFixture[str], model: str, clips: None
) -> None:
    for frames in ([62, 30], [50, 0]):  # the middle one of those looked at; then the keyframe nearest to the middle
        code, out, err = run(capsys, "-m", model, *ASK, "clips", "--format", "csv", "--report", "page.html")
        assert code == 1
        assert out.count("\n") == 6
        assert "1 of 3 videos failed" in err
        assert numbers("page.html") == frames
        text = page_text("page.html")
        assert "3 videos, 1 failed" in text
        assert f"b.mp4 {os.path.join('clips', 'b.mp4')} clips/b.mp4 cannot be read as a video" in text


@pytest.mark.parametrize("form", ["text", "json", "csv", "vtt"])
def test_a_timeline_has_segments_as_the_options_say_in_any_format(
    capsys: pytest.CaptureFixture[str], model: str, clips: None, form: str
) -> None:
    ask = [*ASK, "clips/a.mp4", "--window", "1", "--min-duration", "0.9", "--switching-cost", "0"]
    code, out, err = run(capsys, "-m", model, *ask, "--format", form, "--report", "page.html")
    assert (code, err) == (0, "")
    assert out
    _, expected, _ = run(capsys, "-m", model, *ask, "--format", "json", "--segments")
    segments = [json.loads(line) for line in expected.splitlines()]
    html = Path("page.html").read_text("utf-8")
    starts = [float(start) for start in re.findall(r'class="band [^"]*" data-start="([\d.]+)"', html)]
    assert starts == [segment["start_s"] for segment in segments]
    assert segments
    assert '<video controls playsinline preload="metadata" src="clips/a.mp4">' in html
    assert "7 windows" in page_text("page.html")


def test_timelines_of_several_videos_have_a_row_each(
    capsys: pytest.CaptureFixture[str], model: str, clips: None
) -> None:
    code, _, err = run(capsys, "-m", model, *ASK, "clips", "--window", "1", "--report", "page.html")
    assert code == 1
    assert err.endswith("1 of 3 videos failed\n")
    assert "3 videos, 1 failed" in page_text("page.html")
    assert Path("page.html").read_text("utf-8").count('class="curves"') == 2
    assert numbers("page.html") == [50, 0]


def test_a_single_video_that_fails_in_windows_has_its_reason(
    capsys: pytest.CaptureFixture[str], model: str, clips: None
) -> None:
    code, out, _ = run(capsys, "-m", model, *ASK, "clips/b.mp4", "--window", "1", "--report", "page.html")
    assert (code, out) == (1, "")
    assert "clips/b.mp4 cannot be read as a video" in page_text("page.html")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--report", "page.pdf"], "cannot write the report page.pdf: the name must end in .html or .htm"),
        (["--report", "clips/page.html", "--output", "./clips/page.html"], "--report names the same file as --output"),
        (["--report", "clips/page.html", "--video", "clips/page.html"], "--report names the same file as --video"),
        (["--report", "none/page.html"], "there is no folder none"),
    ],
)
def test_pages_that_cannot_be_written_are_refused_before_the_work(
    capsys: pytest.CaptureFixture[str], model: str, clips: None, arguments: list[str], message: str
) -> None:
    Path("clips/page.html").write_text("before")
    code, out, err = run(capsys, "-m", model, *ASK, "clips/a.mp4", *arguments)
    assert (code, out) == (1, "")
    assert message in err
    assert Path("clips/page.html").read_text() == "before"


def test_a_report_of_answers_that_were_given_before_is_refused(capsys: pytest.CaptureFixture[str], model: str) -> None:
    code, _, err = run(capsys, "-m", model, "a.mp4", "--output", "a.csv", "--resume", "--report", "page.html")
    assert code == 2
    assert "--report shows the answers of one run, and --resume leaves out earlier ones: leave out --resume" in err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no device that is full")
def test_a_report_that_fails_leaves_answer_features_and_sheet_and_the_other_way_round(
    capsys: pytest.CaptureFixture[str], model: str, clips: None
) -> None:
    for name in ("full.html", "full.png"):
        Path(name).symlink_to("/dev/full")
    ask = ["-m", model, *ASK, "clips/a.mp4", "--format", "csv"]
    for save, report in (("sheet.png", "full.html"), ("full.png", "page.html")):
        code, out, err = run(capsys, *ask, "--save", save, "--report", report, "--features", "features.npz")
        assert code == 1
        assert out.startswith("video,rank")
        full = save if save.startswith("full") else report
        assert err == f"action_clip: error: cannot write {full}: No space left on device; name another file\n"
    assert Path("sheet.png").stat().st_size > 1000
    assert numbers("page.html") == [12, 37, 62, 87]
    assert Path("features.npz").stat().st_size > 100
    code, _, err = run(capsys, *ask, "clips/c.webm", "--report", "full.html", "--features", "several.npz")
    assert code == 1
    assert "cannot write full.html: No space left on device" in err
    assert Path("several.npz").exists()
