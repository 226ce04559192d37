"""Protobuf's wire format, which ONNX files are written in, as far as they use it: messages as lists of fields.

onnx, the package that knows all of it, belongs to exporting.
"""

from collections.abc import Container, Iterable, Iterator
from io import SEEK_CUR, BytesIO
from typing import BinaryIO

# A field's number, and its value: a whole number, or what a string or a message consists of.
Field = tuple[int, int | bytes]
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_SIZES = {_FIXED64: 8, _FIXED32: 4}


def read_fields(file: BinaryIO, end: int, wanted: Container[int]) -> Iterator[Field]:
    """The fields with `wanted` numbers of a message that reaches to `end`; the others are passed over.

    Raises:
        ValueError: this is no message, or a wanted field is of a kind that ONNX does not use.
        EOFError: the file ends within it.
    """
    while file.tell() < end:
        number, wire = divmod(_varint(file), 8)
        if number == 0:
            raise ValueError("not a protobuf field")
        if wire == _VARINT:
            value = _varint(file)
            if number in wanted:
                yield number, value
        elif wire == _BYTES and number in wanted:
            yield number, _exactly(file, _varint(file))
        elif wire in (_BYTES, *_FIXED_SIZES) and number not in wanted:
            # Seeking would go beyond the end without a word.
            if file.seek(_FIXED_SIZES.get(wire) or _varint(file), SEEK_CUR) > end:
                raise EOFError
        else:
            raise ValueError("not a protobuf field of ONNX")


def fields(content: bytes, wanted: Container[int] = range(1, 1 << 29)) -> list[Field]:
    """Those of a message, as `read_fields` gives them; without `wanted` all."""
    return list(read_fields(BytesIO(content), len(content), wanted))


def as_bytes(value: int | bytes) -> bytes:
    """What a string or a message consists of.

    Raises ValueError when the value is a number.
    """
    if isinstance(value, int):
        raise ValueError("a number instead of a string or a message")
    return value


def message(parts: Iterable[Field]) -> bytes:
    """The message that consists of these fields."""
    content = []
    for number, value in parts:
        if isinstance(value, int):
            content += [_encoded(number * 8 + _VARINT), _encoded(value)]
        else:
            content += [_encoded(number * 8 + _BYTES), _encoded(len(value)), value]
    return b"".join(content)


def _varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = _exactly(file, 1)[0]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value
    raise ValueError("varint too long")


def _encoded(value: int) -> bytes:
    """A varint."""
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise EOFError
    return data
