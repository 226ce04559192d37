"""What is written twice must be the same."""

import json
import re
import shutil
from argparse import ArgumentParser
from pathlib import Path

import pytest

from action_clip import ActionClip
from action_clip.commands.samples import SAMPLE_LABELS, SAMPLE_VIDEO
from action_clip.output.terminal_writer import TerminalWriter
from action_clip.output.writers import FORMATS
from action_clip.tokenizer.prompts import read_labels
from docs.options import parsers, with_table

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("document", "parser"), parsers().items(), ids=lambda value: getattr(value, "name", ""))
def test_the_options_in_the_documents_are_the_commands(document: Path, parser: ArgumentParser) -> None:
    text = document.read_text("utf-8")
    assert with_table(text, parser) == text, "run python -m docs.options"
    assert re.search(r"^\| `(-v`, `--video` `VIDEO|SOURCE|VIDEO|--data` `DATA)` \|", text, re.MULTILINE)


def test_the_files_that_documents_link_to_exist() -> None:
    for document in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text("utf-8"))
        assert links or document.name == "architecture.md"
        assert [link for link in links if not (document.parent / link).exists()] == []


def test_the_headings_that_documents_link_to_exist() -> None:
    for document in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        links = re.findall(r"\]\(([^)#:]*)#([^)]*)\)", document.read_text("utf-8"))
        targets = [(document.parent / path if path else document, name) for path, name in links]
        assert [(path.name, name) for path, name in targets if name not in anchors(path)] == []


def anchors(document: Path) -> list[str]:
    """The names that GitHub gives the headings of a document."""
    headings = re.findall(r"^#+ (.*)$", document.read_text("utf-8"), re.MULTILINE)
    return [re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings]


def test_the_thresholds_in_the_documents_are_the_models() -> None:
    spec = ActionClip("nano").spec
    none, multi_label = spec.none_threshold, spec.multi_label_threshold
    text = (ROOT / "docs" / "command-line.md").read_text("utf-8")
    assert f"with `--none` {none} and with `--multi-label` {multi_label} for `nano`" in text
    assert f"for nano {none} or {multi_label}, as measured" in text


def test_the_answer_in_the_readme_is_that_of_a_terminal() -> None:
    prediction = ActionClip("nano").classify(SAMPLE_VIDEO, read_labels(SAMPLE_LABELS))
    shown = TerminalWriter(80, unicode=True, bold=False).text(prediction)
    assert f"```\n{shown}```\n" in (ROOT / "README.md").read_text("utf-8")


def test_the_layout_and_the_keys_in_the_documents_are_the_writers() -> None:
    text = (ROOT / "docs" / "command-line.md").read_text("utf-8")
    prediction = ActionClip("nano").classify(SAMPLE_VIDEO, read_labels(SAMPLE_LABELS))
    layout = re.findall(r"```\n(=.*?)\n…\n(.*?)```", text, re.DOTALL)
    assert len(layout) == 1
    written = FORMATS["text"](prediction)
    probability = re.compile(r"(prob = 0\.\d{4})\d*")
    assert probability.sub(r"\1", written).startswith(probability.sub(r"\1", layout[0][0]))
    assert written.endswith(layout[0][1])
    keys = "".join(re.findall(r"^\| (`[^|]*`) \| [^|]*\|$", text[text.index("`--format json`") :], re.MULTILINE)[:6])
    assert re.findall(r"`(\w+)`", keys) == list(json.loads(FORMATS["json"](prediction)))


@pytest.mark.parametrize("document", ["README.md", pytest.param("docs/python.md", marks=pytest.mark.slow)])
def test_the_python_in_the_documents_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, document: str
) -> None:
    shutil.copytree(ROOT / "samples", tmp_path / "samples")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / document).read_text("utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)  # some of it writes files
    exec("".join(blocks), {})
    assert capsys.readouterr().out.startswith("1. playing piano: 9")


@pytest.mark.usefixtures("towhee")
def test_the_pipeline_in_the_documents_says_what_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, shown = re.findall(
        r"```python\n([^`]*towhee[^`]*)```\n\n```\n([^`]*)```", (ROOT / "docs" / "pipelines.md").read_text("utf-8")
    )[0]
    monkeypatch.chdir(ROOT)
    exec(code, {})
    assert capsys.readouterr().out == shown


def test_no_table_in_the_documents_is_torn_apart() -> None:
    for document in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        tables = re.findall(r"(?:^\|.*\n)+", document.read_text("utf-8"), re.MULTILINE)
        assert [table for table in tables if "\n| ---" not in table] == [], document.name
