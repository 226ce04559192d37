"""The classes of a data set: what its labels are called, and which are the same."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from action_clip.errors import ActionClipError
from action_clip.tokenizer.label_files import one_line, read_names

# A capital that begins a word of "ApplyEyeMakeup", and not of "BMX" or "iPhone".
_WORD = re.compile(r"(?<=[a-z]{2})(?=[A-Z])")
_BETWEEN = re.compile(r"[\s_'\"().,:;!?/&-]+")
_SHOWN = 3


def readable(name: str) -> str:
    """Return the name of a class as words, as zero-shot models take it.

    A name without spaces is one of a file or a program: `_` becomes a space, "arm_wrestling" → "arm wrestling"; where
    it has none, words begin at capitals, "ApplyEyeMakeup" → "Apply Eye Makeup". A name with spaces stays as it is.
    """
    name = one_line(name)
    if " " in name:
        return name
    if "_" in name:
        return " ".join(filter(None, name.split("_"))) or name
    return _WORD.sub(" ", name)


def class_key(name: str) -> str:
    """Return what names that are meant to be the same have in common: without capitals, spaces and punctuation."""
    return _BETWEEN.sub("", name.casefold()) or name


@dataclass(frozen=True)
class Classes:
    """Classes in their order.

    Attributes:
        names: as the data write them.
        ids: the number of each in a class file; () where the names are all there is.
        source: what messages call them.
    """

    names: tuple[str, ...]
    ids: tuple[int, ...] = ()
    source: str = "the data"

    @property
    def texts(self) -> tuple[str, ...]:
        """The names as words."""
        return tuple(map(readable, self.names))

    def indices(self) -> Mapping[str, int]:
        """Return the index of each class by its name, in any way of writing it, and by its number, as text."""
        by_id = {str(id): index for index, id in enumerate(self.ids)}
        return by_id | {class_key(name): index for index, name in enumerate(self.names)}


def classes_of(names: Iterable[str], source: str) -> Classes:
    """Return the classes with these names, each once, sorted.

    Raises:
        ActionClipError: two names differ in nothing but capitals, spaces, `_` and the like, or all are numbers.
    """
    unique = sorted(set(names))
    if unique and all(name.isdecimal() for name in unique):
        raise ActionClipError(
            f"the labels in {source} are numbers, such as {unique[0]}: give the file that names the classes with "
            "--classes"
        )
    _check_apart(unique, source)
    return Classes(tuple(unique), source=source)


def read_classes(path: str | os.PathLike[str]) -> Classes:
    """Return the classes in a file, in any form that `tokenizer.label_files.read_names` reads, in the order of its ids.

    Lines that are numbered from 0 or 1, as UCF101's, have ids.

    Raises:
        ActionClipError: it cannot be read, or two names are one.
    """
    names = read_names(path, "class file", numbered_lines=True)
    source = f"the class file {os.fspath(path)}"
    _check_apart(list(names.by_id.values()), source)
    return Classes(tuple(map(one_line, names.by_id.values())), tuple(names.by_id), source)


def _check_apart(names: Sequence[str], source: str) -> None:
    seen: dict[str, str] = {}
    for name in names:
        if (first := seen.setdefault(class_key(name), name)) != name:
            raise ActionClipError(f"the labels '{first}' and '{name}' in {source} are one label: write it in one way")


def shown(names: Sequence[str]) -> str:
    """Return the first few of the names, for a message."""
    return ", ".join(f"'{name}'" for name in names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
