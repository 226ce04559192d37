"""Shell completion by argcomplete, which is imported only when a shell asks for completions."""

import os
from argparse import ArgumentParser
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any, NoReturn

from action_clip.commands.arguments import build_parser
from action_clip.errors import ActionClipError

REQUEST = "_ARGCOMPLETE"
"""argcomplete's environment variable: set where a shell asks for completions of COMP_LINE, which ends at COMP_POINT."""


def shell_code(shell: str) -> str:
    """Return the code that `shell` evaluates for completion. Raises ActionClipError where argcomplete is missing."""
    try:
        from argcomplete.shell_integration import shellcode
    except ImportError as error:
        raise ActionClipError(
            "completion needs argcomplete, the package of the extra [completion]: pip install argcomplete"
        ) from error
    code: str = shellcode(["action-clip"], shell=shell)
    return f"{code}\n"


def complete(subcommands: Mapping[str, str]) -> NoReturn:
    """Answer the shell's request for completions and end the process; `subcommands` has their modules by name."""
    try:
        import argcomplete
    except ImportError:
        os._exit(1)  # otherwise pressing a key would classify a video
    words = (os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])] + "|").split()
    if len(words) > 2 and words[1] in subcommands:
        os.environ[REQUEST] = "2"  # the sub-command's name stands for the program's
        parser = import_module(subcommands[words[1]]).build_parser()
    else:
        parser = build_parser()
    _add_completers(parser, subcommands)
    argcomplete.autocomplete(parser)
    raise AssertionError  # autocomplete has ended the process


def _add_completers(parser: ArgumentParser, subcommands: Iterable[str]) -> None:
    """Make names of models and sub-commands proposals, besides files, for positional arguments and --model."""
    from argcomplete.completers import FilesCompleter

    from action_clip.models.catalog.specs import catalog

    names = {
        "positional_video": [*subcommands],
        "model": [name for spec in catalog() for name in (spec.name, *spec.aliases)],
        "source": [spec.name for spec in catalog() if spec.checkpoint is not None],
    }
    files = FilesCompleter()
    for action in parser._actions:
        if action.dest in names:

            def completer(prefix: str, dest: str = action.dest, **_: Any) -> list[str]:
                return [*names[dest], *files(prefix)]

            action.completer = completer  # type: ignore[attr-defined]
