"""Text for a terminal, without control characters of file names, labels and servers; and the argument parser."""

import argparse
import logging
import re
import sys
from typing import Any, NoReturn

from action_clip.system.addresses import redacted

# Control characters, line separators, marks and overrides of the writing direction, and surrogates, which stand for
# bytes that are not UTF-8.
_STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_STEERING_IN_LINES = re.compile(_STEERING.pattern.replace("\x00-\x1f", "\x00-\x09\x0b-\x1f"))

# Most characters of a word, and of a message.
_LONGEST_WORD, _LONGEST = 300, 800


def printable(text: str, *, lines: bool = False) -> str:
    r"""Return the text with what controls a terminal escaped, as `\x1b` or `\u202e`; with `lines`, line ends stay."""
    pattern = _STEERING_IN_LINES if lines else _STEERING
    return pattern.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def sentence(error: BaseException) -> str:
    """Return the message of an error on one line: shortened, printable, without secrets."""
    return shortened(printable(redacted(" ".join(str(error).split()))))


def shortened(text: str) -> str:
    """Return the text with the middle of long words, and of a long text, cut out: a message ends with what to do."""
    return _cut(re.sub(rf"\S{{{_LONGEST_WORD + 1},}}", lambda match: _cut(match[0], _LONGEST_WORD), text), _LONGEST)


def _cut(text: str, most: int) -> str:
    half = most // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"


def json_escaped(text: str) -> str:
    """Return JSON text with control characters as JSON's escapes, which is the same data."""
    return _STEERING_IN_LINES.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def no_progress_bars() -> bool | None:
    """Return tqdm's argument `disable`: True under --quiet; else None, no bars where stderr is not a terminal."""
    is_wanted = logging.getLogger("action_clip").isEnabledFor(logging.WARNING)
    return None if is_wanted and sys.stderr is not None else True


class LogFormatter(logging.Formatter):
    """Formats log records; their arguments, such as file names and reasons, are made printable and stay on one line."""

    def format(self, record: logging.LogRecord) -> str:
        if isinstance(record.args, tuple):
            record = logging.makeLogRecord(record.__dict__)
            arguments = record.args
            assert isinstance(arguments, tuple)
            record.args = tuple(
                argument if isinstance(argument, int | float) else _shown(argument) for argument in arguments
            )
        return super().format(record)


def _shown(value: object) -> str:
    return shortened(printable(redacted(str(value))))


class _Once(argparse.Action):
    """Stores the value of an option; a second one is an error, where argparse would use the last."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        assert isinstance(parser, ArgumentParser)
        if self in parser.seen:
            raise argparse.ArgumentError(self, "it is given twice: give it once")
        if option_string is not None:
            parser.seen.append(self)
        setattr(namespace, self.dest, values)


class ArgumentParser(argparse.ArgumentParser):
    """Accepts each option with a value once; names arguments that it does not understand without control characters.

    Attributes:
        seen: the options with a value that were parsed so far.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.seen: list[argparse.Action] = []
        # A flag without a value may be repeated.
        for name in (None, "store"):
            self.register("action", name, _Once)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self.seen.clear()
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        super().error(_shown(message))
