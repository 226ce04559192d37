"""Reading the weights of a TorchScript module from its archive, without running the archive's code.

An object's attributes are in the pickle, with the name of its class. The class's source names its parameters and
buffers, in lines whose form has not changed since PyTorch 1.6.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from action_clip.export.pickles import Call, MoreThanWeights, Name, is_name

# Most attributes of all modules together: a module with several parents, or within itself, counts each time.
_MOST = 100_000
_LINES = re.compile(
    r"^class (?P<name>\w+)(?:\((?P<base>\w*))?"
    r"|^  __(?:parameters|buffers)__ = \[(?P<weights>.*)\]$"
    r"|^  def (?P<code>__setstate__)\(",
    re.MULTILINE,
)


@dataclass
class _Class:
    """What the source of a class says of its objects."""

    is_module: bool
    weights: set[str]
    """Names of parameters and buffers."""
    restores_itself: bool = False
    """Whether it has a `__setstate__`, whose code would make attributes of the pickled state."""


def is_script(content: Any) -> bool:
    """Return whether the content of a pickle is an object of TorchScript."""
    return isinstance(content, Call) and content.function.startswith("__torch__.")


def state_dict(module: Call, source: Callable[[str], str]) -> dict[str, Any]:
    """Return parameters and buffers by their dotted names, as the pickle describes them.

    Non-persistent buffers are included: TorchScript stores all buffers without a distinction.

    Args:
        module: a module, for which `is_script` is true.
        source: returns the source code of a Python module by name, such as `__torch__.torch.nn.modules.linear`.

    Raises:
        MoreThanWeights: the weights are known only by running the archive's code.
        Exception: of many types, where the archive is damaged.
    """
    read = cache(lambda name: _classes(source(name)))

    def class_of(name: Name) -> _Class:
        place, _, own = name.rpartition(".")
        return read(place)[own]

    state: dict[str, Any] = {}
    waiting = [(module, "")]
    count = 0
    while waiting:
        module, prefix = waiting.pop()
        kind = class_of(module.function)
        if kind.restores_itself:
            raise MoreThanWeights(f"{module.function}.__setstate__")
        count += len(module.state)
        if count > _MOST or not is_name(prefix):
            raise ValueError("modules without end")
        for name, value in module.state.items():
            if name in kind.weights and value is not None:
                state[prefix + name] = value
            elif is_script(value) and class_of(value.function).is_module:
                waiting.append((value, f"{prefix}{name}."))
    return state


def _classes(source: str) -> dict[str, _Class]:
    """Return the classes in a source by their names."""
    classes: dict[str, _Class] = {}
    own = _Class(False, set())
    for line in _LINES.finditer(source):
        if line["name"] is not None:
            own = classes[line["name"]] = _Class(line["base"] == "Module", set())
        elif line["code"] is not None:
            own.restores_itself = True
        else:
            own.weights.update(re.findall(r'"([^"]+)"', line["weights"]))
    return classes
