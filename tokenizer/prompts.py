"""The prompts that a label is put into, and the files that users write prompts and labels in."""

import io
import logging
import os
from collections import Counter
from collections.abc import Iterable, Sequence

from errors import ActionClipError
from files import read_text

# In the order of ActionCLIP (arXiv 2109.08472), github sallymmx/ActionCLIP.
DEFAULT_PROMPTS: tuple[str, ...] = (
    "a photo of action {}",
    "a picture of action {}",
    "Human action of {}",
    "{}, an action",
    "{} this is an action",
    "{}, a video of action",
    "Playing action of {}",
    "{}",
    "Playing a kind of action, {}",
    "Doing a kind of action, {}",
    "Look, the human is {}",
    "Can you recognize the action of {}?",
    "Video classification of {}",
    "A video of {}",
    "The man is {}",
    "The woman is {}",
)

LONGEST_LABEL = 2000
"""Characters; many more than any model reads of a text, and few enough to find that out quickly."""

_log = logging.getLogger("action_clip")


def is_template(text: str) -> bool:
    """Whether a label has exactly one place in it, written `{}`."""
    return text.count("{}") == 1


def fill(prompts: Sequence[str], labels: Sequence[str]) -> list[str]:
    """Put every label into every prompt: label l in prompt p is text `p * len(labels) + l`."""
    return [prompt.replace("{}", label) for prompt in prompts for label in labels]


def read_prompts(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Read prompts from a UTF-8 file (with or without BOM), one a line; blank lines are skipped.

    Raises:
        ActionClipError: the file cannot be read, has no prompts, or a line is far too long or has not one `{}`.
    """
    numbered = _read_lines(path, "prompts")
    for number, prompt in numbered:
        if len(prompt) > LONGEST_LABEL:
            raise ActionClipError(
                f"line {number} of the prompts file {os.fspath(path)} has {len(prompt)} characters, and no model reads "
                f"more than {LONGEST_LABEL}: shorten it"
            )
        if not is_template(prompt):
            raise ActionClipError(
                f"line {number} of the prompts file {os.fspath(path)} has {{}} {prompt.count('{}')} times: "
                "write it exactly once, where the label goes"
            )
    return tuple(prompt for _, prompt in numbered)


def read_labels(path: str | os.PathLike[str]) -> list[str]:
    """Read labels from a UTF-8 file (with or without BOM), one a line, stripped; blank lines are skipped.

    Raises:
        ActionClipError: the file cannot be read or has no labels.
    """
    return [label for _, label in _read_lines(path, "labels")]


def unique_labels(labels: Iterable[str]) -> list[str]:
    """Strip the labels and keep the first of equal ones, in order; repeated ones are named in one warning.

    Raises:
        ActionClipError: there are no labels, one is blank or far too long, or a single string is given for a list.
    """
    if isinstance(labels, str):
        raise ActionClipError(f"the labels are one string, {labels!r}: give a list of strings")
    given = list(labels)
    if not all(isinstance(label, str) for label in given):
        raise ActionClipError("the labels are not all strings: give a list of strings")
    # A line break inside a label would break the lines of the answer; to the tokenizer it is a space.
    counts = Counter(" ".join(label.split()) for label in given)
    if not counts:
        raise ActionClipError("there are no labels to choose from: give at least one")
    if "" in counts:
        raise ActionClipError("a label is blank: give it words or leave it out")
    for label in counts:
        if len(label) > LONGEST_LABEL:
            raise ActionClipError(
                f"the label {label[:40]!r}… has {len(label)} characters, and no model reads more than "
                f"{LONGEST_LABEL}: shorten it"
            )
        _require_unicode(label)
    repeated = [label for label, count in counts.items() if count > 1]
    if repeated:
        _log.warning("labels given more than once are used once: %s", ", ".join(repeated))
    return list(counts)


def _require_unicode(label: str) -> None:
    # What comes from a command line that is not UTF-8 carries its odd bytes as lone surrogates.
    try:
        label.encode()
    except UnicodeEncodeError as error:
        raise ActionClipError(f"the label {label!r} is not valid Unicode: write it in UTF-8") from error


def _read_lines(path: str | os.PathLike[str], content: str) -> list[tuple[int, str]]:
    """Return the lines that are not blank, stripped, with their numbers from 1."""
    text = read_text(path, f"{content} file")
    numbered = [(number, line.strip()) for number, line in enumerate(io.StringIO(text, newline=None), start=1)]
    kept = [(number, line) for number, line in numbered if line]
    if not kept:
        raise ActionClipError(f"the {content} file {os.fspath(path)} is empty: write {content} into it, one a line")
    return kept
