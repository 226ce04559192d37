"""Prompts and labels: the default prompts, reading both from files, and checking labels."""

import io
import logging
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from action_clip.errors import ActionClipError
from action_clip.system.files import read_text
from action_clip.tokenizer.label_files import one_line, read_names

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

# Chosen by `python -m benchmarks.accuracy CLIPS --none` with nano: see its card.
DEFAULT_NONE_TEXTS: tuple[str, ...] = (
    "nothing",
    "something else",
    "sport",
    "music",
    "cooking",
    "dancing",
    "animals",
    "vehicles",
    "tools",
    "games",
)

NONE_OF_THESE = "none of these"
"""The answer that texts for none stand for together."""

LONGEST_LABEL = 2000
"""Most characters of a label: many more than any model reads of a text, and few enough to be tokenized quickly."""

_MOST_SHOWN = 10

_log = logging.getLogger("action_clip")


def is_template(text: str) -> bool:
    """Return whether the text has exactly one place for a label, written `{}`."""
    return text.count("{}") == 1


def fill_prompts(prompts: Sequence[str], labels: Sequence[str]) -> list[str]:
    """Return every label in every prompt: label l in prompt p is text `p * len(labels) + l`."""
    return [prompt.replace("{}", label) for prompt in prompts for label in labels]


def read_prompts(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Return the prompts in a file, one a line; blank lines are skipped.

    Raises:
        ActionClipError: the file cannot be read, has no prompts, or a line is far too long or has not one `{}`.
    """
    lines = enumerate(io.StringIO(read_text(path, "prompts file"), newline=None), start=1)
    numbered = [(number, line.strip()) for number, line in lines if line.strip()]
    if not numbered:
        raise ActionClipError(f"the prompts file {os.fspath(path)} is empty: write prompts into it, one a line")
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


def read_labels(path: str | os.PathLike[str], before: Iterable[str] = ()) -> list[str]:
    """Return the labels in a file in any form that `read_names` knows, in the order of their ids where it has them.

    Args:
        path: the file.
        before: labels that come before those of the file. An id that is not the label's index among all of them causes
            a warning.

    Raises:
        ActionClipError: the file cannot be read or has no labels.
    """
    names = read_names(path, "labels file")
    labels = list(names.by_id.values())
    if names.has_ids:
        every = dict.fromkeys(map(one_line, (*before, *labels)))
        places = {label: place for place, label in enumerate(every)}
        if any(places[one_line(label)] != id for id, label in names.by_id.items()):
            _log.warning(
                "the index in the answer is not the id in the labels file %s: it counts all labels from 0, in the "
                "order of --text and then of the ids",
                os.fspath(path),
            )
    return labels


def warn_about_lists(labels: Iterable[str]) -> None:
    """Log a warning that labels which look like lists, as "a, b" does, are one label each."""
    # The comma in "5,000 meters" separates no labels.
    if lists := [label for label in labels if re.search(r"[,;，；、](?!\d)", label)]:
        _log.warning("one label, not several: %s; for several repeat --text", _quoted(lists))


def unique_labels(labels: Iterable[str]) -> list[str]:
    """Return the labels, stripped, with only the first of equal ones, in order; a warning names repeated ones.

    Raises:
        ActionClipError: there are no labels, one is blank or far too long, or a single string is given for a list.
    """
    names = _unique(labels, "label", "labels")
    if not names:
        raise ActionClipError("there are no labels to choose from: give at least one")
    return names


def unique_none_texts(texts: Iterable[str]) -> list[str]:
    """Return the texts for none, stripped, with only the first of equal ones, in order. Errors as `unique_labels`."""
    if not isinstance(texts, Iterable):
        raise ActionClipError(f"the texts for none are {texts!r}: give a list of strings, or True for the model's own")
    unique = _unique(texts, "text for none", "texts for none")
    if not unique:
        raise ActionClipError("the list of texts for none is empty: give at least one, or True for the model's own")
    return unique


def without_labels(none_texts: Sequence[str], labels: Sequence[str]) -> list[str]:
    """Return those of the texts for none that are no labels, nor the same to the model as one."""
    if not none_texts:
        return []
    known = set(labels)
    taken = {text for group in groups_of_equal_labels([*labels, *none_texts]) if known & {*group} for text in group}
    return [text for text in none_texts if text not in taken]


def _unique(texts: Iterable[str], singular: str, plural: str) -> list[str]:
    """Return the texts, stripped, each once; `singular` and `plural` are what messages call them."""
    if isinstance(texts, str):
        raise ActionClipError(f"the {plural} are one string, {texts!r}: give a list of strings")
    texts = list(texts)
    if not all(isinstance(text, str) for text in texts):
        raise ActionClipError(f"the {plural} are not all strings: give a list of strings")
    counts = Counter(map(one_line, texts))
    if "" in counts:
        raise ActionClipError(f"a {singular} is blank: give it words or leave it out")
    for text in counts:
        if len(text) > LONGEST_LABEL:
            raise ActionClipError(
                f"the {singular} {text[:40]!r}… has {len(text)} characters, and no model reads more than "
                f"{LONGEST_LABEL}: shorten it"
            )
        _require_unicode(text, singular)
    repeated = [text for text, count in counts.items() if count > 1]
    if repeated:
        _log.warning("%s given more than once are used once: %s", plural, _quoted(repeated))
    return list(counts)


def is_plain(text: str) -> bool:
    """Return whether cleaning changes only capitals and spaces of the text.

    Printable ASCII without "&" has nothing that ftfy or html would change, and importing them takes longer than
    tokenizing the labels.
    """
    return text.isascii() and text.isprintable() and "&" not in text


def groups_of_equal_labels(labels: Iterable[str]) -> list[list[str]]:
    """Return the groups of two or more labels that have the same tokens."""
    labels = list(labels)
    # The same tokens have the same letters. For most labels this is enough, and the tokenizer is slow to import.
    letters = {"".join(label.split()).lower() for label in labels}
    if len(letters) == len(labels) and all(map(is_plain, labels)):
        return []
    from action_clip.tokenizer.bpe import Tokenizer

    groups = defaultdict(list)
    for label in labels:
        groups[tuple(Tokenizer.words(label))].append(label)
    return [group for group in groups.values() if len(group) > 1]


def warn_about_equal_labels(labels: Iterable[str]) -> None:
    """Log one warning that names the labels that differ as texts but have the same tokens."""
    if same := groups_of_equal_labels(labels):
        shown = "; ".join(map(_quoted, same[:_MOST_SHOWN])) + ("; …" if len(same) > _MOST_SHOWN else "")
        _log.warning(
            "labels that differ only in capitals, spaces or the way that their characters are written are the same to "
            "the model, and share their probability: %s",
            shown,
        )


def warn_about_none_texts(left_out: Sequence[str]) -> None:
    """Log a warning that names the texts for none that are left out because they are labels."""
    if left_out:
        _log.warning("texts for none that are labels do not also stand for something else: %s", _quoted(left_out))


def _quoted(labels: Sequence[str]) -> str:
    return ", ".join(f"'{label}'" for label in labels[:_MOST_SHOWN]) + (", …" if len(labels) > _MOST_SHOWN else "")


def _require_unicode(text: str, what: str) -> None:
    # Arguments of a command line that are not UTF-8 have lone surrogates in place of the wrong bytes.
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ActionClipError(f"the {what} {text!r} is not valid Unicode: write it in UTF-8") from error
