"""What is written twice must be the same."""

import re
import tomllib
from pathlib import Path

from docs.options import README, with_table

ROOT = Path(__file__).parents[2]


def test_the_options_in_the_readme_are_the_commands() -> None:
    readme = README.read_text("utf-8")
    assert with_table(readme) == readme, "run python -m docs.options"
    assert "| `-v`, `--video` `VIDEO` |" in readme


def test_pep_723_names_what_requirements_txt_names() -> None:
    script = (ROOT / "action_clip.py").read_text("utf-8")
    block = re.match(r"# /// script\n(.*?)# ///\n", script, re.DOTALL)
    assert block
    metadata = tomllib.loads(re.sub(r"^# ?", "", block[1], flags=re.MULTILINE))
    lines = (ROOT / "requirements.txt").read_text("utf-8").splitlines()
    assert metadata["dependencies"] == [line for line in lines if line and not line.startswith("#")]
    assert metadata["requires-python"] == ">=3.11"


def test_the_files_that_the_readme_links_to_exist() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README.read_text("utf-8"))
    assert "LICENSE" in links
    assert [link for link in links if not (ROOT / link).exists()] == []
