"""Reports in Chromium: what a user does with them, and what names and labels cannot do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
from fault_server import Fault, FaultServer
from make_videos import write_numbered
from predictions import failure, picture, prediction, windows

from action_clip import Failure, Prediction, Window, save_report

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow

EVIL = "<script>document.title = 'evil'</script><img src=x onerror=\"document.title = 'evil'\">'\"</script>&amp;"
CURVES = {
    "running": [0.9, 0.8, 0.2, 0.1, 0.1, 0.1],
    "drinking": [0.1, 0.2, 0.8, 0.9, 0.2, 0.1],
    EVIL: [0, 0, 0, 0, 0.7, 0.8],
}
Open = Callable[..., "Page"]


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[Open]:
    """Open a page from disk; at the end, no request for anything but it and videos beside it has been made."""
    requests: list[str] = []
    errors: list[str] = []
    contexts = []

    def opened(path: Path, width: int = 1000, height: int = 800, init: str = "", **options: Any) -> Page:
        context = chromium.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.add_init_script(init)
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.set_default_timeout(120_000)
        page.goto(path.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert errors == []
    assert [url for url in requests if not url.startswith(("file:///", "data:"))] == []


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of seven seconds that Chromium plays, with a name that addresses must escape."""
    folder = tmp_path_factory.mktemp("film")
    return write_numbered(
        folder / "a #1 & ü%20?.webm", 70, "libvpx", rate=10, options={"g": "10", "deadline": "realtime"}
    )


@pytest.fixture
def timeline_page(film: Path) -> Path:
    save_report(film.parent / "time.html", windows(str(film), CURVES))
    return film.parent / "time.html"


@pytest.fixture
def table_page(tmp_path: Path) -> Path:
    """Answers for five videos, and two failures."""
    results: list[Prediction | Failure] = [
        prediction("clips/b10.mp4", {"running": 0.9, "drinking": 0.1}, thumbnail=picture(200)),
        failure("clips/broken.mp4", "cannot be read"),
        prediction("clips/b9.mp4", {"running": 0.3, "drinking": 0.7}, duration_s=70.0),
        prediction("clips/a.mp4", {"running": 0.55, "drinking": 0.45}, duration_s=None, frame_times_s=()),
        failure("clips/missing.mp4", "is not there"),
        prediction("clips/é.mp4", {"running": 0.05, "drinking": 0.95}, duration_s=3.0),
        prediction("clips/c.mp4", {"running": 0.5, "drinking": 0.5}),
    ]
    save_report(tmp_path / "many.html", results)
    return tmp_path / "many.html"


def time_of(page: Page) -> float:
    return float(page.evaluate("document.querySelector('video').currentTime"))


def wait_until(page: Page, condition: str) -> None:
    """As page.wait_for_function, which the page's policy forbids."""
    for _ in range(6000):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(20)
    pytest.fail(f"it stays untrue that {condition}")


def names(page: Page) -> list[str]:
    """The videos of the rows that are visible, in their order."""
    return [
        name.removesuffix(".mp4")
        for name in page.locator(".items tbody tr:visible .video > div > bdi").all_text_contents()
    ]


def count(page: Page) -> str:
    return page.locator(".count").inner_text()


def test_a_click_on_a_segment_a_curve_or_a_time_seeks_in_the_video(open_page: Open, timeline_page: Path) -> None:
    page = open_page(timeline_page)
    wait_until(page, "document.querySelector('video').readyState >= 1")
    assert time_of(page) == 0
    page.locator(".band", has_text="drinking").click()
    assert time_of(page) == pytest.approx(2.5)
    assert page.locator(".now").inner_text() == "0:00:02.5 drinking"
    wait_until(page, "!document.querySelector('video').seeking")
    box = page.locator(".u-over").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] * 6 / 7, box["y"] + 20)
    assert time_of(page) == pytest.approx(6, abs=0.05)
    assert page.locator(".band[aria-current=time]").inner_text() == EVIL
    page.locator(".segments").get_by_text("0:00:00.0").click()
    assert time_of(page) == 0
    page.get_by_text("6 windows", exact=True).click()
    page.locator(".windows").get_by_role("link", name="0:00:04.0").click()
    assert time_of(page) == pytest.approx(4)


def with_sound_before(film: Path, path: Path, before_s: int) -> Path:
    """A copy of a film in which silence begins so many seconds before the picture."""
    with av.open(str(film)) as source, av.open(str(path), "w") as container:
        picture = container.add_stream_from_template(source.streams.video[0])
        sound = container.add_stream("libopus", rate=48_000, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 48_000), np.float32), "fltp", "mono")
        silence.sample_rate = 48_000
        for second in range(before_s + 1):
            silence.pts = second * 48_000
            container.mux(sound.encode(silence))
        container.mux(sound.encode(None))
        for packet in source.demux(source.streams.video[0]):
            if packet.pts is not None and packet.dts is not None:
                packet.pts, packet.dts = packet.pts + before_s * 1000, packet.dts + before_s * 1000
                packet.stream = picture
                container.mux(packet)
    return path


def test_times_count_from_the_first_frame_also_where_sound_begins_before(
    open_page: Open, film: Path, tmp_path: Path
) -> None:
    video = with_sound_before(film, tmp_path / "late.webm", before_s=3)
    save_report(tmp_path / "page.html", windows(str(video), CURVES))
    page = open_page(tmp_path / "page.html")
    wait_until(page, "document.querySelector('video').readyState >= 1")
    page.locator(".band", has_text="drinking").click()
    assert time_of(page) == pytest.approx(5.5, abs=0.02)
    wait_until(page, "!document.querySelector('video').seeking")
    assert page.locator(".now").inner_text() == "0:00:02.5 drinking"
    assert str(page.locator(".band").nth(1).get_attribute("href")).startswith("late.webm#t=5.5")
    save_report(tmp_path / "one.html", prediction(str(video), {"running": 1.0}, frames=np.array([picture(9)] * 3)))
    page = open_page(tmp_path / "one.html")
    assert str(page.locator("figcaption a").first.get_attribute("href")).startswith("late.webm#t=3.4")


def test_segments_are_reached_and_opened_with_the_keyboard(open_page: Open, timeline_page: Path) -> None:
    page = open_page(timeline_page)
    wait_until(page, "document.querySelector('video').readyState >= 1")
    page.locator(".band").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")  # there is none
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.activeElement.textContent") == "drinking"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    assert time_of(page) == pytest.approx(2.5)
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.textContent") == EVIL
    assert page.locator(".band[tabindex='0']").count() == 1


def test_curves_have_the_labels_and_values_and_bands_their_colours(open_page: Open, timeline_page: Path) -> None:
    page = open_page(timeline_page)
    box = page.locator(".u-over").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 7 + 1, box["y"] + 50)
    legend = page.locator(".u-legend .u-value").all_inner_texts()
    assert legend == ["0:00:01.0", "90.0%", "0.0%", "10.0%"]
    assert page.locator(".u-legend .u-label").all_inner_texts() == ["time", "running", EVIL, "drinking"]
    colours = page.locator(".band").evaluate_all("all => all.map(one => getComputedStyle(one).borderLeftColor)")
    markers = page.locator(".u-legend .u-marker").evaluate_all(
        "all => all.map(one => getComputedStyle(one).borderLeftColor)"
    )
    assert colours == [markers[1], markers[3], markers[2]]
    assert len(set(colours)) == 3
    bands, over = page.locator(".bands").bounding_box(), page.locator(".u-over").bounding_box()
    assert bands is not None
    assert over is not None
    assert bands["x"] == pytest.approx(over["x"], abs=1)
    assert bands["width"] == pytest.approx(over["width"], abs=2)


def test_segments_of_seconds_within_hours_are_drawn_where_they_are(open_page: Open, tmp_path: Path) -> None:
    turns = [[float(number // 2 % 2 == place) for number in range(1200)] for place in (0, 1)]
    save_report(tmp_path / "page.html", windows("film.mp4", {"a long label": turns[0], "another": turns[1]}, 3.0))
    page = open_page(tmp_path / "page.html")
    left, width = page.locator(".bands").evaluate("one => [one.getBoundingClientRect().left, one.clientWidth]")
    boxes = page.locator(".band").evaluate_all(
        "all => all.map(one => [one.dataset.start, one.dataset.end, one.getBoundingClientRect()])"
    )
    assert len(boxes) > 500
    for start, end, box in boxes:
        assert box["left"] - left == pytest.approx(float(start) / 3603 * width, abs=1)
        assert box["width"] == pytest.approx(max((float(end) - float(start)) / 3603 * width, 4), abs=1)
    assert page.evaluate("document.querySelector('.bands').scrollLeft") == 0
    assert page.locator(".bands").evaluate("one => getComputedStyle(one).overflowX") == "hidden"


@pytest.mark.parametrize(
    ("end_s", "expected"),
    [(2, ["00:00", "00:00.2", "00:00.4"]), (7, ["00:00", "00:01", "00:02"]), (7200, ["00:00", "10:00", "20:00"])],
)
def test_the_times_of_the_axis_are_round(open_page: Open, tmp_path: Path, end_s: int, expected: list[str]) -> None:
    save_report(tmp_path / "page.html", windows("film.mp4", {"running": [0.5] * 3}, end_s / 4))
    page = open_page(
        tmp_path / "page.html",
        init="""
        window.drawn = [];
        const fill = CanvasRenderingContext2D.prototype.fillText;
        CanvasRenderingContext2D.prototype.fillText = function (text, ...place) {
            window.drawn.push(text);
            return fill.call(this, text, ...place);
        };
    """,
    )
    wait_until(page, "window.drawn.length > 0")
    assert [text for text in page.evaluate("window.drawn") if ":" in text][:3] == expected


def test_nothing_moves_away_under_a_click(open_page: Open, timeline_page: Path) -> None:
    page = open_page(timeline_page)
    wait_until(page, "document.querySelector('video').readyState >= 1")
    before = page.locator(".bands").bounding_box()
    page.locator(".band").nth(1).click()
    assert "drinking" in page.locator(".now").inner_text()
    assert page.locator(".bands").bounding_box() == before


def test_a_page_says_that_the_browser_cannot_play_a_video(open_page: Open, tmp_path: Path) -> None:
    video = write_numbered(tmp_path / "clip.avi", 20, "mpeg4")
    save_report(tmp_path / "page.html", windows(str(video), CURVES))
    page = open_page(tmp_path / "page.html")
    page.get_by_text("This browser cannot play the video").wait_for()
    assert page.locator("video").is_hidden()
    page.locator(".band", has_text="drinking").click()
    assert page.locator(".now").inner_text() == "0:00:02.5 drinking"


def test_a_video_at_an_address_is_not_loaded_but_linked_to(open_page: Open, tmp_path: Path) -> None:
    save_report(tmp_path / "page.html", windows("http://127.0.0.1:9/a b.mp4?x=1", CURVES))
    page = open_page(tmp_path / "page.html")
    assert page.locator("video").count() == 0
    link = page.locator(".band").nth(1)
    assert link.get_attribute("href") == "http://127.0.0.1:9/a%20b.mp4?x=1#t=2.5"
    assert link.get_attribute("rel") == "noreferrer noopener"
    save_report(tmp_path / "page.html", windows("http://127.0.0.1:9/a.mp4?token=***", CURVES))
    page = open_page(tmp_path / "page.html")
    assert page.locator("a[href]").count() == 0
    page.locator(".band").nth(1).focus()
    page.keyboard.press("Enter")
    assert page.locator(".now").inner_text() == "0:00:02.5 drinking"


def test_rows_are_sorted_by_any_column_and_failures_come_last(open_page: Open, table_page: Path) -> None:
    page = open_page(table_page)
    given = ["b10", "broken", "b9", "a", "missing", "é", "c"]
    assert names(page) == given
    head = page.locator(".items thead")
    for column, expected in {
        "Video": ["a", "b9", "b10", "broken", "c", "é", "missing"],
        "Labels": ["b9", "é", "b10", "a", "c", "broken", "missing"],
        "#": given,
    }.items():
        head.get_by_role("button", name=column).click()
        assert names(page) == expected
        assert head.locator("th[aria-sort=ascending]").inner_text().startswith(column)
    for column, descending, ascending in [
        ("Probability", "é b10 b9 a c broken missing", "c a b9 b10 é broken missing"),
        ("Length", "b9 b10 c é broken a missing", "é b10 c b9 broken a missing"),
    ]:
        button = head.get_by_role("button", name=column)
        button.focus()
        page.keyboard.press("Enter")
        assert names(page) == descending.split()
        page.keyboard.press("Enter")
        assert names(page) == ascending.split()
        assert head.locator("th[aria-sort=ascending]").count() == 1


def test_rows_are_searched_and_filtered_and_what_is_hidden_is_counted(open_page: Open, table_page: Path) -> None:
    page = open_page(table_page)
    assert count(page) == "7 videos, 2 failed"
    search = page.get_by_label("Search")
    search.fill("B")
    assert names(page) == ["b10", "broken", "b9"]
    assert count(page) == "3 of 7 videos; 1 failure is not shown"
    search.fill("e\N{COMBINING ACUTE ACCENT}")
    assert names(page) == ["é"]
    search.fill("there not")
    assert names(page) == ["missing"]
    page.get_by_role("button", name="Reset").click()
    assert count(page) == "7 videos, 2 failed"
    page.get_by_label("Label").select_option(label="running (3)")
    assert names(page) == ["b10", "a", "c"]
    assert count(page) == "3 of 7 videos; 2 failures are not shown"
    page.get_by_label("Label").select_option(label="any")
    least = page.get_by_label("Probability at least")
    least.fill("60")
    assert page.locator("output").inner_text() == "60%"
    assert names(page) == ["b10", "broken", "b9", "missing", "é"]
    assert count(page) == "5 of 7 videos"
    page.get_by_label("Show").select_option("answered")
    assert names(page) == ["b10", "b9", "é"]
    assert count(page) == "3 of 7 videos; 2 failures are not shown"
    page.get_by_label("Show").select_option("failed")
    assert names(page) == ["broken", "missing"]
    least.focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowLeft")
    assert page.locator("output").inner_text() == "0%"


def test_the_sentence_of_a_failure_is_in_its_row(open_page: Open, table_page: Path) -> None:
    page = open_page(table_page)
    row = page.locator(".items tr.failed").first
    assert row.locator(".labels").text_content() == "clips/broken.mp4 cannot be read"
    assert "NaN" not in str(page.locator("main").text_content())


@pytest.mark.parametrize("kind", ["one", "many", "timeline", "timelines"])
def test_names_and_labels_are_text_whatever_they_contain(open_page: Open, tmp_path: Path, kind: str) -> None:
    odd = "\u2028\N{RIGHT-TO-LEFT OVERRIDE}\0\ud800"
    name = f"{EVIL}{odd}.mp4"
    labels = {EVIL: 0.6, "{{ 7 * 7 }}</style>": 0.3, odd: 0.1, "\u200b\u200d": 0.0}
    one = prediction(name, labels, model=EVIL, frames=picture(9)[None].repeat(3, 0))
    curves = {label: [value] * 4 for label, value in labels.items()}
    results: dict[str, Prediction | list[Any]] = {
        "one": one,
        "many": [one, failure(name, EVIL)],
        "timeline": windows(name, curves, model=EVIL),
        "timelines": [*windows(name, curves), *windows("other.mp4", curves), failure(name, EVIL)],
    }
    save_report(tmp_path / "page.html", results[kind])
    page = open_page(tmp_path / "page.html")
    if kind == "timelines":
        page.get_by_text("When it happens").first.click()
        page.locator(".u-legend").first.wait_for()  # it is drawn a moment later
    text = str(page.locator("main").text_content())
    assert EVIL in text
    assert page.title() != "evil"
    assert page.locator("img[onerror], main script:not([type='application/json'])").count() == 0
    if kind != "many":
        assert "{{ 7 * 7 }}</style>" in text
        assert r"\u202e\x00\ud800" in text
        assert r"\u200b\u200d" in text


def test_a_page_connects_nowhere_and_runs_no_other_scripts(chromium: Browser, table_page: Path) -> None:
    whole = table_page.read_bytes()
    without_policy = re.sub(rb"<meta http-equiv[^>]*>", b"", whole)
    attempts = """async () => {
        const image = new Image();
        const loaded = new Promise((done) => { image.onload = image.onerror = done; });
        image.src = "image";
        await loaded;
        const script = document.createElement("script");
        script.textContent = "window.ran = true";
        document.body.append(script);
        return [await fetch("data").then(() => "loaded", () => "refused"), window.ran ?? "not run"];
    }"""
    with FaultServer() as server, chromium.new_page() as page:
        for path, content, expected in (
            ("/report", whole, ["refused", "not run"]),
            ("/other", without_policy, ["loaded", True]),
        ):
            server.add(path, content, [Fault(headers=(("Content-Type", "text/html"),))])
            page.goto(server.url + path)
            assert page.evaluate(attempts) == expected
    assert [path for path, _ in server.requests] == ["/report", "/other", "/image", "/data"]


def test_without_javascript_a_page_is_a_table(open_page: Open, table_page: Path, timeline_page: Path) -> None:
    page = open_page(table_page, java_script_enabled=False)
    assert names(page) == ["b10", "broken", "b9", "a", "missing", "é", "c"]
    assert page.locator(".controls").is_hidden()
    assert page.get_by_role("button").count() == 0
    assert count(page) == "7 videos, 2 failed"
    assert page.get_by_role("row").count() == 8
    assert page.get_by_role("columnheader").count() == 5
    page = open_page(timeline_page, java_script_enabled=False)
    rows = page.locator(".segments tbody tr").all_inner_texts()
    assert [re.sub(r"\s+", " ", row) for row in rows[:2]] == [
        "0:00:00.0 0:00:02.5 running 85.0%",
        "0:00:02.5 0:00:04.5 drinking 85.0%",
    ]
    href = page.locator(".band").nth(1).get_attribute("href")
    assert href == "a%20%231%20%26%20%C3%BC%2520%3F.webm#t=2.5"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", ["one", "many", "timeline", "timelines"])
def test_pages_fit_a_phone_in_light_and_dark(open_page: Open, tmp_path: Path, kind: str, scheme: str) -> None:
    long = "Donaudampfschifffahrtsgesellschaft" * 5
    labels = {long: 0.6, "short": 0.4}
    one = prediction(f"{long}/{long}.mp4", labels, frames=picture(9, 600, 80)[None].repeat(3, 0))
    timeline: list[Window] = windows(f"{long}.mp4", {long: [0.6] * 9, "short": [0.4] * 9})
    results: dict[str, Prediction | list[Any]] = {
        "one": one,
        "many": [one, failure(long, long)],
        "timeline": timeline,
        "timelines": [*timeline, *windows("other.mp4", {long: [0.1], "short": [0.9]})],
    }
    save_report(tmp_path / "page.html", results[kind])
    page = open_page(tmp_path / "page.html", 360, 640, color_scheme=scheme)
    if kind == "timelines":
        page.get_by_text("When it happens").first.click()
        page.locator(".u-over").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")


def test_timelines_of_several_videos_open_in_their_rows(open_page: Open, film: Path) -> None:
    other = write_numbered(film.parent / "other.mp4", 30, "mpeg4")
    broken: list[Window | Failure] = [
        *windows("gone.mp4", {"running": [0.9], "drinking": [0.1]}),
        failure("gone.mp4", "ends too early"),
    ]
    results: list[Window | Failure] = [
        *windows(str(film), CURVES),
        *windows(str(other), {"running": [0.1], "drinking": [0.9]}),
        *broken,
    ]
    save_report(film.parent / "times.html", results)
    page = open_page(film.parent / "times.html")
    assert count(page) == "3 videos, 1 failed"
    bars = page.locator("tbody tr").first.locator(".bars li")
    assert bars.first.text_content() == "running 2.50 s"
    assert page.locator(".items .video img").count() == 2
    page.get_by_label("Label").select_option(label="drinking (2)")
    page.get_by_label("Part of the video at least").fill("50")
    assert page.locator(".items tbody tr:visible").count() == 1
    page.get_by_role("button", name="Reset").click()
    assert page.locator("tr.failed .error").text_content() == "gone.mp4 ends too early"
    page.get_by_text("When it happens").first.click()
    wait_until(page, "document.querySelector('video').readyState >= 1")
    page.locator(".band", has_text="drinking").first.click()
    assert time_of(page) == pytest.approx(2.5)
    assert page.locator(".uplot").count() == 1


def test_five_thousand_rows(open_page: Open, tmp_path: Path) -> None:
    thumbnail = picture(77)
    results = [
        failure(f"{number}.mp4", "is broken")
        if number % 1000 == 9
        else prediction(
            f"clip {number}.mp4", {"running": number / 5000, "drinking": 1 - number / 5000}, thumbnail=thumbnail
        )
        for number in range(5000)
    ]
    save_report(tmp_path / "page.html", results)
    page = open_page(tmp_path / "page.html")
    assert count(page) == "5,000 videos, 5 failed"
    page.get_by_label("Search").fill("clip 123")
    assert count(page) == "15 of 5,000 videos; 5 failures are not shown"
    page.get_by_label("Search").fill("")
    page.get_by_role("button", name="Video").click()
    page.get_by_role("button", name="Video").click()
    assert page.locator(".items tbody tr").first.locator(".video > div > bdi").text_content() == "clip 4999.mp4"
    page.locator(".items tbody tr").last.scroll_into_view_if_needed()
    assert page.locator(".items tbody tr").last.locator(".error").is_visible()
