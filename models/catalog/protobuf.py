"""Protobuf's wire format, in which ONNX files are written, as far as they use it.

The packages onnx and protobuf would read a whole file, weights included, into memory, and none beyond 2 GiB.
"""

from collections.abc import Container, Iterator

from action_clip.system.files import Buffer

# A field's number, and its value: a whole number, or the bytes of a string or a message.
Field = tuple[int, int | bytes]
# The same with the range of these bytes in the file; None for numbers of fixed size, which are not used here.
FieldRange = tuple[int, int | range | None]
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_SIZES = {_FIXED64: 8, _FIXED32: 4}


def walk(content: Buffer, place: range) -> Iterator[FieldRange]:
    """The fields of the message in that range of the file.

    Raises:
        ValueError: it is no message.
        EOFError: it ends within a field.
    """
    at = place.start
    while at < place.stop:
        tag, at = _varint(content, at)
        number, wire = tag >> 3, tag & 7
        value: int | range | None = None
        if wire == _VARINT:
            value, at = _varint(content, at)
        elif wire == _BYTES:
            size, at = _varint(content, at)
            value = range(at, at + size)
            at += size
        elif wire in _FIXED_SIZES:
            at += _FIXED_SIZES[wire]
        else:
            raise ValueError("not a protobuf field of ONNX")
        if number == 0:
            raise ValueError("not a protobuf field")
        if at > place.stop:
            raise EOFError
        yield number, value


def fields(content: bytes, numbers: Container[int] = range(1, 1 << 29)) -> list[Field]:
    """The fields of a message that have one of these numbers.

    Raises ValueError or EOFError when it is no message.
    """
    chosen: list[Field] = []
    for number, value in walk(content, range(len(content))):
        if number in numbers and isinstance(value, int):
            chosen.append((number, value))
        elif number in numbers:
            place = as_range(value)
            chosen.append((number, content[place.start : place.stop]))
    return chosen


def as_bytes(value: int | bytes) -> bytes:
    """The bytes of a string or a message.

    Raises ValueError when the value is a number.
    """
    if isinstance(value, int):
        raise ValueError("a number instead of a string or a message")
    return value


def as_range(value: int | range | None) -> range:
    """The range of these bytes in the file.

    Raises ValueError when the value is a number.
    """
    if not isinstance(value, range):
        raise ValueError("a number instead of a string or a message")
    return value


def varints(content: Buffer, place: range) -> Iterator[int]:
    """The whole numbers of a packed field.

    Raises ValueError or EOFError when it has something else in it.
    """
    at = place.start
    while at < place.stop:
        value, at = _varint(content, at)
        yield value


def _varint(content: Buffer, at: int) -> tuple[int, int]:
    """The number that begins there, and where it ends."""
    value = 0
    try:
        for shift in range(0, 70, 7):
            byte = content[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at
    except IndexError:
        raise EOFError from None
    raise ValueError("varint too long")
