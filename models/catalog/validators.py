"""Checks of values in the catalog or a graph's metadata: each function returns the value, or raises ValueError.

The error's text completes "must be …": "a whole number above 0".
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from action_clip.tokenizer.prompts import is_template

KINDS = ("zero-shot", "closed-set")
# What `action-clip train` makes; the last two add to the logits of texts.
HEADS = ("linear", "mean", "tip-adapter", "zero-shot")
# The keys of video/sampling.py's UNIFORM_RULES.
UNIFORM_RULES = ("segments", "midpoints", "linspace")
# Limits far above what any model has, within which everything fits into memory.
MOST_FRAMES, MOST_PIXELS, MOST_PIXELS_OF_A_CLIP = 1024, 4096, 1 << 26
MOST_PROMPTS, LONGEST_TEXT = 1000, 1000


def text(value: Any) -> str:
    """Return a string that is not blank."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a text")
    return value


def line(value: Any) -> str:
    """Return a text of at most LONGEST_TEXT characters on one line: white space in it becomes single spaces."""
    words = " ".join(text(value).split())
    # Half of a surrogate pair, which JSON can name, cannot be written.
    if len(words) > LONGEST_TEXT or any("\ud800" <= char <= "\udfff" for char in words):
        raise ValueError(f"a text of at most {LONGEST_TEXT} characters")
    return words


def items(value: Any, what: str) -> list[Any]:
    """Return a list; `what` is the text of the error."""
    if not isinstance(value, list):
        raise ValueError(what)
    return value


def table(value: Any) -> Mapping[str, Any]:
    """Return a TOML table."""
    if not isinstance(value, dict):
        raise ValueError("a table")
    return value


def tables(value: Any) -> list[Mapping[str, Any]]:
    """Return a list of one TOML table or more, as [[…]] makes it."""
    if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
        raise ValueError("a list of one table a model ([[model]])")
    return value


def count(value: Any) -> int:
    """Return a whole number above 0."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError("a whole number above 0")
    return value


def frame_count(value: Any) -> int:
    """Return the number of frames that a model looks at, which are in memory at once: 1 to MOST_FRAMES."""
    return _count_to(MOST_FRAMES, value)


def pixels(value: Any) -> int:
    """Return the length of a side of a frame in pixels: 1 to MOST_PIXELS."""
    return _count_to(MOST_PIXELS, value)


def _count_to(most: int, value: Any) -> int:
    if count(value) > most:
        raise ValueError(f"a whole number from 1 to {most}")
    return int(value)


def number(value: Any) -> float:
    """Return a finite number."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < 1e300:
        raise ValueError("a number")
    return float(value)


def positive_number(value: Any) -> float:
    """Return a finite number above 0."""
    if number(value) <= 0:
        raise ValueError("a number above 0")
    return float(value)


def three_numbers(value: Any) -> tuple[float, float, float]:
    """Return a number for each of red, green and blue."""
    numbers = [number(item) for item in items(value, "three numbers")]
    if len(numbers) != 3:
        raise ValueError("three numbers")
    return numbers[0], numbers[1], numbers[2]


def three_positive_numbers(value: Any) -> tuple[float, float, float]:
    """Return a number above 0 for each of red, green and blue."""
    numbers = three_numbers(value)
    if min(numbers) <= 0:
        raise ValueError("three numbers above 0")
    return numbers


def kind(value: Any) -> str:
    """Return one of KINDS."""
    return _one_of(KINDS, value)


def head(value: Any) -> str:
    """Return one of HEADS."""
    return _one_of(HEADS, value)


def true_or_false(value: Any) -> bool:
    """Return a truth value."""
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def file_by_role(value: Any) -> dict[str, str]:
    """Return the names of graphs' files, in the folder of the graph that names them, by role."""
    if not isinstance(value, dict) or not value:
        raise ValueError("file names by role")
    return {text(role): file_name(name) for role, name in value.items()}


def uniform_rule(value: Any) -> str:
    """Return one of UNIFORM_RULES."""
    return _one_of(UNIFORM_RULES, value)


def _one_of(known: Sequence[str], value: Any) -> str:
    if value not in known:
        raise ValueError("one of " + ", ".join(f"'{name}'" for name in known))
    return str(value)


def class_names(value: Any) -> tuple[str, ...]:
    """Return the names of a closed set's classes, in the order of the logits; at least one."""
    names = items(value, "a list of names")
    try:
        lines = tuple(map(line, names))
    except ValueError:
        lines = ()
    if not lines:
        raise ValueError("a list of names")
    return lines


def model_name(value: Any) -> str:
    """Return the name of a model, which can name a folder even where capitals are not distinguished."""
    if not isinstance(value, str) or not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", value):
        raise ValueError("a name of lower-case letters, digits, '.', '_' and '-'")
    return value


def model_names(value: Any) -> tuple[str, ...]:
    """Return a list of names as for `model_name`."""
    return tuple(model_name(item) for item in items(value, "a list of names"))


def file_name(value: Any) -> str:
    """Return the name of a file or folder, without a path."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", value):
        raise ValueError("a plain file or folder name")
    return value


def file_names(value: Any) -> tuple[str, ...]:
    """Return a list of names as for `file_name`."""
    return tuple(file_name(item) for item in items(value, "a list of file names"))


def https_url(value: Any) -> str:
    """Return an https address with a host."""
    if not isinstance(value, str) or urlsplit(value).scheme != "https" or not urlsplit(value).hostname:
        raise ValueError("an https URL")
    return value


def sha256(value: Any) -> str:
    """Return a sha256 in hexadecimal digits."""
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-f]{64}", value):
        raise ValueError("64 lower-case hexadecimal digits")
    return value


def none_texts(value: Any) -> tuple[str, ...]:
    """Return texts that mean something else than any label, at least one."""
    texts = items(value, "a list of texts")
    if not texts:
        raise ValueError("a list of texts")
    return tuple(map(line, texts))


def probability(value: Any) -> float:
    """Return a number from 0 to 1."""
    if not 0 <= number(value) <= 1:
        raise ValueError("a number from 0 to 1")
    return float(value)


def prompts(value: Any) -> tuple[str, ...]:
    """Return 1 to MOST_PROMPTS prompt templates, with one `{}` in each."""
    templates = items(value, "a list of templates")
    if not templates or not all(isinstance(item, str) and is_template(item) for item in templates):
        raise ValueError("a list of templates with one {} each")
    if len(templates) > MOST_PROMPTS:
        raise ValueError(f"a list of at most {MOST_PROMPTS} templates")
    return tuple(templates)
