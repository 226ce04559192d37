"""Protobuf's wire format, which ONNX files are written in, as far as they use it: messages as lists of fields.

onnx, the package that knows all of it, belongs to exporting.
"""

from collections.abc import Container, Iterable, Iterator

from action_clip.system.files import Buffer

# A field's number, and its value: a whole number, or what a string or a message consists of.
Field = tuple[int, int | bytes]
# The same with the place of what it consists of; None for kinds of numbers that have no use here.
Part = tuple[int, int | range | None]
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_SIZES = {_FIXED64: 8, _FIXED32: 4}


def walk(content: Buffer, place: range) -> Iterator[Part]:
    """The fields of the message at that place.

    Raises:
        ValueError: this is no message.
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


def fields(content: bytes, wanted: Container[int] = range(1, 1 << 29)) -> list[Field]:
    """Those of a message with `wanted` numbers; without `wanted` all.

    Raises ValueError or EOFError when it is none.
    """
    found: list[Field] = []
    for number, value in walk(content, range(len(content))):
        if number in wanted and isinstance(value, int):
            found.append((number, value))
        elif number in wanted:
            place = as_place(value)
            found.append((number, content[place.start : place.stop]))
    return found


def as_bytes(value: int | bytes) -> bytes:
    """What a string or a message consists of.

    Raises ValueError when the value is a number.
    """
    if isinstance(value, int):
        raise ValueError("a number instead of a string or a message")
    return value


def as_place(value: int | range | None) -> range:
    """Where that is.

    Raises ValueError when the value is a number.
    """
    if not isinstance(value, range):
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


def varints(content: Buffer, place: range) -> Iterator[int]:
    """Whole numbers one after the other.

    Raises ValueError or EOFError when they are none.
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


def _encoded(value: int) -> bytes:
    """A varint."""
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)
