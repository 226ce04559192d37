"""The table of options in the README, made from the command's own parser: `python -m docs.options` writes it."""

from pathlib import Path

from action_clip import build_parser

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- options: written by python -m docs.options -->\n", "<!-- end of options -->\n"


def table() -> str:
    """Markdown, the same with every version of Python (argparse's own layout is not)."""
    parser = build_parser()
    formatter = parser._get_formatter()
    lines = ["| option | |", "| --- | --- |"]
    for action in parser._actions:
        name = ", ".join(f"`{option}`" for option in action.option_strings)
        if action.choices:
            name += f" `{{{','.join(map(str, action.choices))}}}`"
        elif action.nargs != 0:
            name += f" `{action.metavar or action.dest.upper()}`"
        lines.append(f"| {name} | {formatter._expand_help(action)} |")
    return "\n".join(lines) + "\n"


def with_table(readme: str) -> str:
    """The README with the table as it is now."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + table() + END + after


if __name__ == "__main__":
    README.write_text(with_table(README.read_text("utf-8")), "utf-8")
