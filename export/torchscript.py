"""The weights of a TorchScript module, found where its archive keeps them; none of the archive's code runs.

An object's attributes are in the pickle, with the name of its class. Which of them are parameters and buffers is said
in the class's source, in lines that PyTorch writes the same way since 1.6.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from action_clip.export.pickles import Call, MoreThanWeights, Name, is_name

# Attributes of all modules together: a module that is in many places, or in itself, is looked at in each.
_MOST = 100_000
_LINES = re.compile(
    r"^class (?P<name>\w+)(?:\((?P<base>\w*))?"
    r"|^  __(?:parameters|buffers)__ = \[(?P<weights>.*)\]$"
    r"|^  def (?P<code>__setstate__)\(",
    re.MULTILINE,
)


@dataclass
class _Class:
    """What the source of a class says."""

    is_module: bool
    weights: set[str]
    """Names of parameters and buffers."""
    restores_itself: bool = False
    """Its attributes are what its `__setstate__` makes of the state."""


def is_script(content: Any) -> bool:
    """Whether what a pickle describes is an object of TorchScript."""
    return isinstance(content, Call) and content.function.startswith("__torch__.")


def state_dict(module: Call, source: Callable[[str], str]) -> dict[str, Any]:
    """Parameters and buffers by their dotted names, as the pickle describes them.

    Buffers that were not to be stored are among them: TorchScript stores all, and does not say which were not.

    Args:
        module: of which is_script.
        source: from the name of what Python calls a module, `__torch__.torch.nn.modules.linear`, to its source.

    Raises:
        MoreThanWeights: only code of the archive could tell what the weights are.
        Exception: of many kinds, where the archive is damaged.
    """
    read = cache(lambda name: _classes(source(name)))

    def class_of(name: Name) -> _Class:
        place, _, own = name.rpartition(".")
        return read(place)[own]

    found: dict[str, Any] = {}
    waiting = [(module, "")]
    looked_at = 0
    while waiting:
        module, prefix = waiting.pop()
        kind = class_of(module.function)
        if kind.restores_itself:
            raise MoreThanWeights(f"{module.function}.__setstate__")
        looked_at += len(module.state)
        if looked_at > _MOST or not is_name(prefix):
            raise ValueError("modules without end")
        for name, value in module.state.items():
            if name in kind.weights and value is not None:
                found[prefix + name] = value
            elif is_script(value) and class_of(value.function).is_module:
                waiting.append((value, f"{prefix}{name}."))
    return found


def _classes(source: str) -> dict[str, _Class]:
    """The classes of a source by their names."""
    found: dict[str, _Class] = {}
    own = _Class(False, set())
    for line in _LINES.finditer(source):
        if line["name"] is not None:
            own = found[line["name"]] = _Class(line["base"] == "Module", set())
        elif line["code"] is not None:
            own.restores_itself = True
        else:
            own.weights.update(re.findall(r'"([^"]+)"', line["weights"]))
    return found
