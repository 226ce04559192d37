"""The command: it runs a sub-command, or classifies. Errors become one sentence on stderr and an exit code."""

import argparse
import errno
import io
import logging
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module

from action_clip.errors import ActionClipError
from action_clip.system.addresses import redacted
from action_clip.system.terminal import LogFormatter, printable, sentence

SUBCOMMANDS = {
    "evaluate": "action_clip.evaluation.command",
    "export": "action_clip.export.command",
    "ray": "action_clip.commands.ray.command",
    "train": "action_clip.training.command",
}
"""The module of each sub-command, which has `main(arguments) -> int` and `build_parser()`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, 1 after an error, 130 after Ctrl-C; argparse exits with 2."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for --help, where the encoding lacks some characters
    if "_ARGCOMPLETE" in os.environ:
        from action_clip.commands.completion import complete

        complete(SUBCOMMANDS)
    if arguments and arguments[0] in SUBCOMMANDS:
        code: int = import_module(SUBCOMMANDS[arguments[0]]).main(arguments[1:])
        return code
    from action_clip.commands.arguments import parse

    options = parse(arguments)
    return reported(partial(_run, options), options)


def reported(work: Callable[[], int], options: argparse.Namespace) -> int:
    """Return the exit code that `work` returns; an error becomes a sentence on stderr, and 1, Ctrl-C 130.

    `options` has `quiet` and `debug`.
    """
    _log_to_stderr(quiet=options.quiet)
    try:
        return work()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of stdout has closed it
        return 1
    except Exception as error:
        if isinstance(error.__context__, KeyboardInterrupt):  # onnxruntime raises an ImportError from it
            return 130
        if options.debug:
            import traceback

            print(printable(redacted(traceback.format_exc()), lines=True), file=sys.stderr)
        logging.getLogger("action_clip").error("error: %s", _sentence(error))
        return 1


def _run(options: argparse.Namespace) -> int:
    from action_clip.output.stdout import write_stdout

    if options.completion:
        from action_clip.commands.completion import shell_code

        write_stdout(shell_code(options.completion))
    elif options.list_models:
        from action_clip.commands.models import model_table

        write_stdout(model_table())
    elif options.verify:
        from action_clip.commands.models import verification

        write_stdout(verification(options.model))
    else:
        from action_clip.commands.classify import classify

        return classify(options)
    return 0


def _sentence(error: Exception) -> str:
    if isinstance(error, ActionClipError):
        return sentence(error)
    if isinstance(error, ImportError):
        return (
            f"a package cannot be loaded ({error}): install the program again, in a clone what requirements.txt lists, "
            "and for a system library (lib….so) see docs/troubleshooting.md"
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full ({error}): make room, or name another folder with TMPDIR or ACTION_CLIP_HOME"
    if isinstance(error, MemoryError):
        return "there is not enough memory: give fewer labels at a time, or a smaller video"
    return (
        f"something went wrong that should not have ({type(error).__name__}: {error}): "
        "run again with --debug and report what it prints"
    )


def _log_to_stderr(*, quiet: bool) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(LogFormatter("action_clip: %(message)s"))
    log = logging.getLogger("action_clip")
    log.handlers[:] = [handler]
    log.propagate = False
    log.setLevel(logging.ERROR if quiet else logging.NOTSET)
