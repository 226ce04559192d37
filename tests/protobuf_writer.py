"""Messages in protobuf's wire format, for files that the onnx package would refuse to write."""

from collections.abc import Iterable

# A field's number, and its value: a whole number, or the bytes of a string or a message.
Field = tuple[int, int | bytes]
_VARINT, _BYTES = 0, 2


def message(parts: Iterable[Field]) -> bytes:
    """The message that consists of these fields."""
    content = []
    for number, value in parts:
        if isinstance(value, int):
            content += [_encoded(number * 8 + _VARINT), _encoded(value)]
        else:
            content += [_encoded(number * 8 + _BYTES), _encoded(len(value)), value]
    return b"".join(content)


def _encoded(value: int) -> bytes:
    """A varint."""
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)
