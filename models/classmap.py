"""Class maps: names of classes by their indices, from dictionaries and files."""

import os
from collections.abc import Mapping
from typing import Any

from action_clip.errors import ActionClipError
from action_clip.tokenizer.label_files import numbered, one_line, read_names

ClassMap = Mapping[str, int] | Mapping[int, str]


def class_names(classmap: Mapping[Any, Any], count: int | None = None) -> list[str]:
    """Return the class names of a class map in the order of their indices.

    Args:
        classmap: {name: index} or {index: name}; indices may be written as texts, as in JSON. Line ends in a name
            become spaces.
        count: number of classes of a closed-set model: the indices must be 0 … count - 1.

    Raises:
        ActionClipError: it is no class map, has an index twice, or does not name each of the `count` classes.
    """
    pairs = numbered(classmap.items()) if isinstance(classmap, Mapping) else None
    if not pairs:
        raise ActionClipError("the class map must be {name: index} or {index: name}, with whole numbers from 0")
    by_index = {index: one_line(name) for index, name in pairs}
    if len(by_index) < len(pairs):
        raise ActionClipError("the class map has an index twice: give each class its own")
    if count is not None and sorted(by_index) != list(range(count)):
        raise ActionClipError(
            f"the class map has {len(by_index)} classes, {min(by_index)} to {max(by_index)}, and the model {count}, "
            f"0 to {count - 1}: name each of them, counted from 0"
        )
    return [by_index[index] for index in sorted(by_index)]


def read_classmap(path: str | os.PathLike[str]) -> dict[int, str]:
    """Return the class names in a file by index, in any form that `read_names` reads; lines without one count from 0.

    Raises:
        ActionClipError: the file cannot be read or has none of these forms.
    """
    return read_names(path, "class map").by_id
