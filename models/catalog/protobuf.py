"""Reading protobuf's wire format, as far as ONNX files use it.

The packages onnx and protobuf would read a whole file, weights included, into memory, and read no file above 2 GiB.
"""

from collections.abc import Iterator

from action_clip.system.files import Buffer

# A field's number, and its value: a whole number, or the range of the bytes of a string or a message in the file, or
# None for a number of fixed size, which is not used here.
Field = tuple[int, int | range | None]
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_SIZES = {_FIXED64: 8, _FIXED32: 4}


def walk(content: Buffer, place: range) -> Iterator[Field]:
    """Yield the fields of the message in `place`, a range of bytes of the file.

    Raises:
        ValueError: the range holds no message.
        EOFError: the range ends within a field.
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


def as_range(value: int | range | None) -> range:
    """Return a field's value as a range of bytes of the file.

    Raises ValueError when it is a number.
    """
    if not isinstance(value, range):
        raise ValueError("a number instead of a string or a message")
    return value


def as_bytes(content: Buffer, value: int | range | None) -> bytes:
    """Return the bytes of a field's value, a string or a message.

    Raises ValueError when it is a number.
    """
    place = as_range(value)
    return content[place.start : place.stop]


def varints(content: Buffer, place: range) -> Iterator[int]:
    """Yield the whole numbers of a packed field.

    Raises ValueError or EOFError when its bytes are something else.
    """
    at = place.start
    while at < place.stop:
        value, at = _varint(content, at)
        yield value


def _varint(content: Buffer, at: int) -> tuple[int, int]:
    """Return the number that begins at `at`, and where it ends."""
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
