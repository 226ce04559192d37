"""Checking that downloaded and foreign files are complete ONNX graphs or checkpoints, without endless loops.

Only the structure is read, not the weights. How long a graph runs and how much memory it uses cannot be checked here:
shapes are only known when it runs.
"""

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from action_clip.models.catalog.protobuf import Field, as_bytes, as_range, varints, walk
from action_clip.system.files import Buffer, memory_mapped

# Fields of ModelProto, GraphProto, NodeProto, AttributeProto, TensorProto and StringStringEntryProto (onnx.proto).
_GRAPH, _FUNCTION = 7, 25
_NODE, _INITIALIZER, _INPUT, _OUTPUT, _SPARSE_INITIALIZER = 1, 5, 11, 12, 15
_OP_TYPE, _ATTRIBUTE, _DOMAIN = 4, 5, 7
_TENSOR_ATTRIBUTES, _GRAPH_ATTRIBUTES, _SPARSE_ATTRIBUTES = (5, 10), (6, 11), (22, 23)
_DIMS, _DATA_TYPE, _NAME, _EXTERNAL_DATA = 1, 2, 8, 13
_KEY, _VALUE = 1, 2
_STRING = 8
# Limits far above what the largest models have.
_MOST_FIELDS = 1_000_000
_DEEPEST = 8
# The smallest kind of number has two bits.
_NUMBERS_A_BYTE = 4
_LONGEST_HEADER = 100 << 20  # as safetensors has it


def check_graph(path: Path) -> tuple[str, ...]:
    """Check an ONNX model, and return the names of the files beside it that hold its weights, which are checked too.

    Raises:
        ValueError: it is no complete model, or has dangerous parts that no model needs: loops and functions, which may
            never end, weights that are larger than its files, or weights in files outside of its directory.
        OSError: it cannot be read.
    """
    with memory_mapped(path) as content:
        check = _GraphCheck(path, content)
        try:
            check.run()
        except EOFError:
            raise ValueError(f"it is cut off, or no ONNX model{_beginning(content)}") from None
        return tuple(sorted(check.sizes))


def check_checkpoint(path: Path) -> None:
    """Check that a file has a format in which weights are published, and is complete as far as its structure tells.

    Raises ValueError when it is not, OSError when it cannot be read.
    """
    with memory_mapped(path) as content:
        if content[:4] == b"PK\x03\x04":
            # An archive ends with the list of its files.
            import zipfile

            if not zipfile.is_zipfile(path):
                raise ValueError("the archive is cut off")
        elif not (content[:1] == b"\x80" and content[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")):  # a pickle
            _check_safetensors(content)


def _check_safetensors(content: Buffer) -> None:
    size = int.from_bytes(content[:8], "little")
    if not (content[8:9] == b"{" and 2 <= size <= _LONGEST_HEADER):
        raise ValueError(f"it is no checkpoint{_beginning(content)}")
    try:
        header = json.loads(content[8 : 8 + size])
        end = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
        is_whole = 8 + size + end == len(content)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        is_whole = False
    if not is_whole:
        raise ValueError("it is cut off")


def _beginning(content: Buffer) -> str:
    """Return the beginning of the file for an error message, where it is text; else ""."""
    beginning = content[:40].decode("latin-1")
    is_text = beginning.isascii() and beginning and all(char.isprintable() or char.isspace() for char in beginning)
    return f" but text: {beginning!r}" if is_text else ""


class _GraphCheck:
    """Walks through an ONNX model, from the model to its graphs, nodes and tensors."""

    def __init__(self, path: Path, content: Buffer) -> None:
        self._content = content
        self._left = _MOST_FIELDS
        self._path = path
        self.sizes: dict[str, int] = {}
        """Size in bytes of each file beside the model that holds its weights, by name."""

    def run(self) -> None:
        """Raise ValueError where the model is refused or is none, EOFError where it is cut off."""
        graphs = []
        try:
            for number, value in self._fields(range(len(self._content))):
                if number == _GRAPH:
                    graphs.append(as_range(value))
                elif number == _FUNCTION:
                    raise _RefusalError("it has functions of its own")
            if len(graphs) != 1:
                raise ValueError("no graph")
            numbers = self._check_graph(graphs[0], 0)
            if not {_NODE, _INPUT, _OUTPUT} <= numbers:
                raise _RefusalError("its graph has no inputs, no outputs or no operators")
        except _RefusalError:
            raise
        except ValueError as error:
            raise ValueError(f"it is no ONNX model{_beginning(self._content)}") from error

    def _fields(self, place: range) -> Iterator[Field]:
        for part in walk(self._content, place):
            self._left -= 1
            if self._left < 0:
                raise _RefusalError("it has more parts than any model needs")
            yield part

    def _check_graph(self, place: range, depth: int) -> set[int]:
        """Return the numbers of the fields that the graph has."""
        numbers = set()
        for number, value in self._fields(place):
            numbers.add(number)
            if number == _NODE:
                self._check_node(as_range(value), depth)
            elif number == _INITIALIZER:
                self._check_tensor(as_range(value))
            elif number == _SPARSE_INITIALIZER:
                raise _RefusalError("it has sparse weights, whose size is not that of the file")
        return numbers

    def _check_node(self, place: range, depth: int) -> None:
        kind, domain = b"", b""
        graphs = []
        for number, value in self._fields(place):
            if number == _OP_TYPE:
                kind = as_bytes(self._content, value)
            elif number == _DOMAIN:
                domain = as_bytes(self._content, value)
            elif number == _ATTRIBUTE:
                graphs += self._check_attribute(as_range(value))
        # The operator If runs one of its graphs once; all other operators with graphs are loops.
        if graphs and not (kind == b"If" and domain in (b"", b"ai.onnx")):
            raise _RefusalError(f"it has the operator {_shown(kind)}, which may never end")
        if graphs and depth == _DEEPEST:
            raise _RefusalError("it has graphs within graphs, more than any model needs")
        if kind == b"EPContext":
            raise _RefusalError("it has the operator 'EPContext', which is code for a device")
        for graph in graphs:
            self._check_graph(graph, depth + 1)

    def _check_attribute(self, place: range) -> list[range]:
        """Return the graphs in the attribute."""
        graphs = []
        for number, value in self._fields(place):
            if number in _TENSOR_ATTRIBUTES:
                self._check_tensor(as_range(value))
            elif number in _GRAPH_ATTRIBUTES:
                graphs.append(as_range(value))
            elif number in _SPARSE_ATTRIBUTES:
                raise _RefusalError("it has sparse weights, whose size is not that of the file")
        return graphs

    def _check_tensor(self, place: range) -> None:
        count, kind, name = 1, 0, b""
        size = len(place)
        external_data = []
        for number, value in self._fields(place):
            if number == _DIMS:
                for length in [value] if isinstance(value, int) else varints(self._content, as_range(value)):
                    count *= length
                    if count > 1 << 63:
                        break
            elif number == _DATA_TYPE:
                kind = value if isinstance(value, int) else 0
            elif number == _NAME:
                name = as_bytes(self._content, value)
            elif number == _EXTERNAL_DATA:
                external_data.append(as_range(value))
        if external_data:
            size = self._size_of(self._location(external_data))
        if kind != _STRING and count > size * _NUMBERS_A_BYTE:
            raise _RefusalError(f"its weight {_shown(name)} is said to be larger than the file that it is in")

    def _location(self, entries: list[range]) -> str:
        location = b""
        for entry in entries:
            parts = {_KEY: b"", _VALUE: b""}
            for number, value in self._fields(entry):
                if number in parts:
                    parts[number] = as_bytes(self._content, value)
            if parts[_KEY] == b"location":
                location = parts[_VALUE]
        return location.decode("utf-8")

    def _size_of(self, location: str) -> int:
        """Return the size in bytes of a file beside the model, or of one beside the file that the model links to."""
        if location not in self.sizes:
            shown = _shown(location.encode())
            target = Path(os.path.realpath(self._path.parent / location))
            allowed = {Path(os.path.realpath(self._path.parent)), Path(os.path.realpath(self._path)).parent}
            if os.path.isabs(location) or allowed.isdisjoint(target.parents):
                raise _RefusalError(f"its weights are in the file {shown}, which is outside of its folder")
            try:
                facts = os.stat(target)
            except OSError:
                raise _RefusalError(f"its weights are in the file {shown}, which is missing") from None
            if not stat.S_ISREG(facts.st_mode):
                raise _RefusalError(f"its weights are in {shown}, which is no file")
            self.sizes[location] = facts.st_size
        return self.sizes[location]


class _RefusalError(ValueError):
    """The model is refused; the text is the reason."""


def _shown(name: bytes) -> str:
    """Return a name from the file for an error message, short and on one line."""
    text = name[:200].decode("utf-8", "replace")
    return repr(text if len(text) <= 60 else text[:60] + "…")
