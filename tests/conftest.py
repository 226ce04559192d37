"""What every test gets: a home of its own, no mirror, no connection to anywhere; and which tests there are."""

import logging
import shutil
import signal
from collections.abc import Generator, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import action_clip.models  # noqa: F401 - before onnxruntime, which it silences

# isort: split
import onnxruntime
import pytest
from fake_providers import Change, Providers, install
from new_process import forget

from action_clip.models.known_videos import KnownVideos

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# What requirements-export.txt, -finetune.txt and -dev.txt add to requirements-test.txt.
FOR_EXPORTING = {
    *("torch", "onnxscript", "safetensors", "tokenizers", "transformers"),
    *("lightning_fabric", "tensorboardX"),
}


def pytest_configure() -> None:
    """Ctrl-C interrupts, here and in the processes that tests start, even where the tests run in the background."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Skip test modules that import, themselves or through others, what only exporting needs and is not installed.

    That nothing else imports it, test_without_torch.py says.
    """
    report = yield
    # The reports of modules that --lf passes over are not pytest's own runner's, and have no call.
    error = report.call.excinfo.value.__cause__ if report.failed else None
    if isinstance(error, ModuleNotFoundError) and error.name in FOR_EXPORTING:
        report.outcome = "skipped"
        report.longrepr = (str(collector.path), 0, f"{error.name} is not installed")
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """File names that are not Unicode, in what was logged, do not reach the process that collects the reports."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests last: most failures show in the first seconds."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


@pytest.fixture(autouse=True)
def _own_home(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config
) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("ACTION_CLIP_HOME", str(home))
    monkeypatch.delenv("ACTION_CLIP_MIRROR", raising=False)
    monkeypatch.delenv("ACTION_CLIP_OFFLINE", raising=False)
    # Warnings that are errors here are in the processes that tests start, too.
    errors = [line for line in pytestconfig.getini("filterwarnings") if line.startswith("error::")]
    monkeypatch.setenv("PYTHONWARNINGS", ",".join(errors))
    # What a process knows of its files: folders of tests that passed are removed, and others get their names.
    forget()
    yield home
    # The command takes the log over; tests that follow must see its messages again.
    log = logging.getLogger("action_clip")
    log.handlers[:] = []
    log.propagate = True
    log.setLevel(logging.NOTSET)


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


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Providers:
    """Give onnxruntime providers, each with what its sessions do, or None where none can be made; → those tried."""

    def providers(**kinds: Change | None) -> list[str]:
        return install(monkeypatch, kinds)

    return providers


@pytest.fixture
def unknown_videos(monkeypatch: pytest.MonkeyPatch) -> None:
    """The video bank has no video: every answer decodes it and runs the graphs."""
    monkeypatch.setattr(KnownVideos, "key", lambda *_: None)


@pytest.fixture(scope="session")
def towhee() -> Any:
    """The package, where it is installed."""
    if find_spec("towhee") is None:
        pytest.skip("towhee is not installed")
    return import_module("towhee")


@pytest.fixture(scope="module")
def chromium() -> Iterator["Browser"]:
    """A browser without a window, for the tests of a module: while it is there, no other event loop runs here."""
    sync_api = pytest.importorskip("playwright.sync_api")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("Chromium is not installed")
    with sync_api.sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=program, args=options, timeout=120_000)
        yield browser
        browser.close()
