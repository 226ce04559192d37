"""What is written twice must be the same."""

import re
from argparse import ArgumentParser
from pathlib import Path

import pytest

from docs.options import parsers, with_table

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("document", "parser"), parsers().items(), ids=lambda value: getattr(value, "name", ""))
def test_the_options_in_the_documents_are_the_commands(document: Path, parser: ArgumentParser) -> None:
    text = document.read_text("utf-8")
    assert with_table(text, parser) == text, "run python -m docs.options"
    assert re.search(r"^\| `(-v`, `--video` `VIDEO|SOURCE)` \|", text, re.MULTILINE)


def test_the_files_that_documents_link_to_exist() -> None:
    for document in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text("utf-8"))
        assert links or document.name == "architecture.md"
        assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.usefixtures("towhee")
def test_the_pipeline_in_the_readme_says_what_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, shown = re.findall(
        r"```python\n([^`]*towhee[^`]*)```\n\n```\n([^`]*)```", (ROOT / "README.md").read_text("utf-8")
    )[0]
    monkeypatch.chdir(ROOT)
    exec(code, {})
    assert capsys.readouterr().out == shown
