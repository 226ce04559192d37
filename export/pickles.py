"""Reading pickles as data: nothing that a pickle names is imported or called.

A pickle is a program for a stack machine. Here functions and classes remain names, and a call is recorded as its
function and arguments. So a pickle has no effects, and its length bounds the time and memory that reading it takes.

Trainers save other objects beside the weights, such as mmengine's history of the loss. The names of their classes are
`Foreign`; weights must not contain any.
"""

import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeGuard

# A tensor takes 35 opcodes.
MOST_OPCODES = 1_000_000
# Functions and classes in checkpoints: tensors, containers and types of Python, PyTorch and TorchScript.
_KNOWN = re.compile(
    r"__torch__\..+|torch\.jit\._pickle\.\w+"
    r"|torch\._utils\._rebuild_\w+|torch\._tensor\._rebuild_from_type_v2|torch\.serialization\._get_layout"
    r"|torch\.(cuda\.|storage\.)?\w+(Storage|Tensor)|torch\.sparse\.\w+Tensor|torch\.(Tensor|Size|device|nn\.parameter\.Parameter)"
    r"|torch\.(bool|(q?u?int|b?float|complex)\d\w*|bits\w+|per_\w+)"
    r"|collections\.(OrderedDict|Counter)|_codecs\.encode|(builtins|__builtin__)\.(set|complex|bytearray)"
)
_DICTIONARY = "collections.OrderedDict"
# Most characters in a name of a weight, function or class.
_LONGEST_NAME = 1000


class MoreThanWeights(Exception):
    """The weights in a file are known only by running code in it; the argument names that code."""


class Name(str):
    """The qualified name of a function or class."""


class Foreign(Name):
    """The name of a function or class that weights do not need: its result is not known."""


@dataclass(slots=True, eq=False, repr=False)
class Call:
    """A call of `function`, and the `state` that its result would be given.

    It has no repr, as that of nested calls can be exponentially long.
    """

    function: Name
    arguments: tuple[Any, ...]
    state: Any = None


_KEY = Name("key")
"""The function of a Call that replaces a dictionary's key which is no name of a weight."""


def is_name(value: Any) -> bool:
    """Return whether the value is a string of at most _LONGEST_NAME characters."""
    return type(value) is str and len(value) <= _LONGEST_NAME


def foreign_name(value: Any) -> Foreign | None:
    """Return the name of a foreign function or class at any depth of a pickle's content; None where there is none."""
    waiting, seen = [value], set()
    while waiting:
        item = waiting.pop()
        if isinstance(item, Foreign):
            return item
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, Call):
            waiting += [item.state, item.arguments, item.function]
        elif isinstance(item, dict):
            waiting += [*item, *item.values()]
        elif isinstance(item, list | tuple):
            waiting += item
    return None


def read_pickle(file: BinaryIO, persistent: Callable[[Any], Any]) -> Any:
    """Return the object that a pickle describes; `file` is then at the pickle's end.

    Args:
        file: the pickle, in memory.
        persistent: returns the object for a persistent id.

    Raises:
        MoreThanWeights: the pickle has an opcode that pickles of weights do not have.
        Exception: of many types, where the pickle is damaged.
    """
    machine = _Machine(persistent)
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if count == MOST_OPCODES:
            raise ValueError(f"a pickle of more than {MOST_OPCODES} opcodes")
        step = _STEPS.get(opcode.name)
        if step is None:
            raise MoreThanWeights(f"the opcode {opcode.name}")
        step(machine, argument)
    (result,) = machine.stack
    return result


class _Machine:
    """The stack and the memo, and the operations of the opcodes."""

    def __init__(self, persistent: Callable[[Any], Any]) -> None:
        self.stack: list[Any] = []
        self._below: list[list[Any]] = []
        """The stacks below each mark."""
        self._memo: dict[int, Any] = {}
        self._pairs = 0
        """Number of items that calls have put into dictionaries: many calls may share one list of items."""
        self._persistent = persistent

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def mark(self, _: Any) -> None:
        self._below.append(self.stack)
        self.stack = []

    def above_mark(self, _: Any = None) -> list[Any]:
        """Pop and return the values above the last mark."""
        items, self.stack = self.stack, self._below.pop()
        return items

    def last(self, count: int) -> list[Any]:
        """Pop and return the uppermost `count` values."""
        return [self.stack.pop() for _ in range(count)][::-1]

    def remember(self, place: int) -> None:
        """Store the uppermost value in the memo."""
        if place > MOST_OPCODES:
            raise ValueError(f"a memo with a place {place}")
        self._memo[place] = self.stack[-1]

    def remember_next(self, _: Any) -> None:
        self.remember(len(self._memo))

    def recall(self, place: int) -> None:
        self.push(self._memo[place])

    def extend(self, items: list[Any]) -> None:
        """Append to the uppermost list."""
        target = self.stack[-1]
        if type(target) is list:
            target.extend(items)
        elif not _is_foreign(target):
            raise ValueError(f"items for a {type(target).__name__}")

    def set_items(self, items: list[Any]) -> None:
        """Add keys and values, in turn, to the uppermost dictionary."""
        target = self.stack[-1]
        if _is_foreign(target):
            return
        if type(target) is not dict:
            raise ValueError(f"keys for a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Other keys can take exponential time to hash or compare: nested tuples, colliding numbers, long texts.
            plain = is_name(key) or (type(key) is int and abs(key) < 2**31)
            target[key if plain else Call(_KEY, (key,))] = value

    def name(self, *parts: Any) -> None:
        """Push the name of a function or class."""
        if not all(is_name(part) for part in parts):
            raise ValueError("an invalid name")
        name = ".".join(parts)
        self.push(Name(name) if _KNOWN.fullmatch(name) else Foreign(name))

    def call(self, _: Any) -> None:
        """Replace a function and its arguments by a Call, or by a dictionary."""
        function, arguments = self.last(2)
        if _is_foreign(function):  # a method, or a callable result
            function = function.function
        if not isinstance(function, Name) or type(arguments) is not tuple:
            raise ValueError(f"a call of a {type(function).__name__}")
        if function != _DICTIONARY:
            self.push(Call(function, arguments))
            return
        self.push({})
        for pairs in arguments:  # as Python 2 wrote dictionaries
            self._pairs += len(pairs)
            if self._pairs > MOST_OPCODES:
                raise ValueError("dictionaries without end")
            for key, value in pairs:
                self.set_items([key, value])

    def call_with_keywords(self, _: Any) -> None:
        function, arguments, keywords = self.last(3)
        self.stack += [function, (arguments, keywords)]  # not concatenated: many calls may share a long one
        self.call(_)

    def build(self, _: Any) -> None:
        """Pop a state, and record it in the Call below it."""
        state = self.stack.pop()
        made = self.stack[-1]
        if isinstance(made, Call):
            made.state = state
        elif not isinstance(made, dict):  # the attributes of an OrderedDict are no weights
            raise ValueError(f"a state for a {type(made).__name__}")

    def refer(self, _: Any) -> None:
        self.push(self._persistent(self.stack.pop()))


def _is_foreign(value: Any) -> TypeGuard[Call]:
    """Return whether the value is the result of a foreign function or class."""
    return isinstance(value, Call) and isinstance(value.function, Foreign)


# The opcodes of protocols 2 to 5 that Python writes. Sets are not needed, so they become lists.
_STEPS: dict[str, Callable[[_Machine, Any], Any]] = {
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda machine, _: None),
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"), _Machine.push),
    **dict.fromkeys(("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINSTRING", "SHORT_BINSTRING"), _Machine.push),
    **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"), _Machine.push),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "MARK": _Machine.mark,
    "POP": lambda machine, _: machine.last(1),
    "POP_MARK": _Machine.above_mark,
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), _Machine.remember),
    "MEMOIZE": _Machine.remember_next,
    **dict.fromkeys(("BINGET", "LONG_BINGET"), _Machine.recall),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "TUPLE1": lambda machine, _: machine.push(tuple(machine.last(1))),
    "TUPLE2": lambda machine, _: machine.push(tuple(machine.last(2))),
    "TUPLE3": lambda machine, _: machine.push(tuple(machine.last(3))),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.above_mark())),
    **dict.fromkeys(("EMPTY_LIST", "EMPTY_SET"), lambda machine, _: machine.push([])),
    "FROZENSET": lambda machine, _: machine.push(machine.above_mark()),
    "APPEND": lambda machine, _: machine.extend(machine.last(1)),
    **dict.fromkeys(("APPENDS", "ADDITEMS"), lambda machine, _: machine.extend(machine.above_mark())),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "SETITEM": lambda machine, _: machine.set_items(machine.last(2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.above_mark()),
    "GLOBAL": lambda machine, names: machine.name(*names.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, _: machine.name(*machine.last(2)),
    **dict.fromkeys(("REDUCE", "NEWOBJ"), _Machine.call),
    "NEWOBJ_EX": _Machine.call_with_keywords,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.refer,
}
