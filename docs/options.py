"""The tables of options in the documents, made from the commands' own parsers: `python -m docs.options` writes them."""

from argparse import ArgumentParser
from pathlib import Path

import action_clip.commands.arguments
import action_clip.commands.ray.command
import action_clip.evaluation.command
import action_clip.export.command
import action_clip.training.command

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- options: written by python -m docs.options -->\n", "<!-- end of options -->\n"


def parsers() -> dict[Path, ArgumentParser]:
    """Return the parser of each document that has a table of options, by the document's path."""
    return {
        ROOT / "docs" / "command-line.md": action_clip.commands.arguments.build_parser(),
        ROOT / "docs" / "evaluate.md": action_clip.evaluation.command.build_parser(),
        ROOT / "docs" / "export.md": action_clip.export.command.build_parser(),
        ROOT / "docs" / "fine-tune.md": action_clip.training.command.build_fine_tune_parser(),
        ROOT / "docs" / "scale.md": action_clip.commands.ray.command.build_parser(),
        ROOT / "docs" / "train.md": action_clip.training.command.build_parser(),
    }


def table(parser: ArgumentParser) -> str:
    """Return a parser's options as a Markdown table, which unlike --help is the same with every version of Python."""
    formatter = parser._get_formatter()
    lines = ["| option | |", "| --- | --- |"]
    for action in parser._actions:
        name = ", ".join(f"`{option}`" for option in action.option_strings)
        if action.choices:
            name += f" `{{{','.join(map(str, action.choices))}}}`"
        elif action.nargs != 0:
            name += f" `{action.metavar or action.dest.upper()}`"
        lines.append(f"| {name.strip()} | {formatter._expand_help(action)} |")
    return "\n".join(lines) + "\n"


def with_table(text: str, parser: ArgumentParser) -> str:
    """Return a document's text with its table replaced by that of the parser."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + table(parser) + END + after


if __name__ == "__main__":
    for document, parser in parsers().items():
        document.write_text(with_table(document.read_text("utf-8"), parser), "utf-8")
