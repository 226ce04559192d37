"""Class maps: names of classes and their indices, as dictionaries and as files."""

import io
import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from errors import ActionClipError
from files import read_text

ClassMap = Mapping[str, int] | Mapping[int, str]


def class_names(classmap: Mapping[Any, Any], count: int | None = None) -> list[str]:
    """The names of a class map in the order of their indices.

    Args:
        classmap: {name: index} or {index: name}; indices may be written as texts, as in JSON. White space in a name
            counts as one space.
        count: of a closed set: the indices must be 0 … count - 1.

    Raises:
        ActionClipError: it is neither, an index stands twice, or it is not that of the closed set.
    """
    pairs = list(classmap.items()) if isinstance(classmap, Mapping) else []
    if not all(_is_index(index) and isinstance(name, str) for index, name in pairs):
        pairs = [(index, name) for name, index in pairs]
    if not pairs or not all(_is_index(index) and isinstance(name, str) and name.strip() for index, name in pairs):
        raise ActionClipError("the class map must be {name: index} or {index: name}, with whole numbers from 0")
    # A line break inside a name would break the lines of the answer.
    by_index = {int(index): " ".join(name.split()) for index, name in pairs}
    if len(by_index) < len(pairs):
        raise ActionClipError("the class map has an index twice: give each class its own")
    if count is not None and sorted(by_index) != list(range(count)):
        raise ActionClipError(
            f"the class map has {len(by_index)} classes, {min(by_index)} to {max(by_index)}, and the model {count}, "
            f"0 to {count - 1}: name each of them"
        )
    return [by_index[index] for index in sorted(by_index)]


def read_classmap(path: str | os.PathLike[str]) -> dict[Any, Any]:
    """Read a class map from a file in UTF-8: a JSON object, or a name a line, the first with index 0.

    Raises:
        ActionClipError: the file cannot be read or is neither.
    """
    text = read_text(path, "class map")
    if not text.lstrip().startswith(("{", "[")):
        names = [line.strip() for line in io.StringIO(text, newline=None) if line.strip()]
        return dict(enumerate(names))
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ActionClipError(f"the class map {path} is not valid JSON ({error}): check it") from error
    if not isinstance(content, dict):
        raise ActionClipError(f"the class map {path} must be a JSON object, names to indices or indices to names")
    return content


def _is_index(value: Any) -> bool:
    if isinstance(value, str):
        return value.isdecimal() and len(value) < 10
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and int(value) >= 0
