"""The key-value pairs that an ONNX file carries about itself, read without loading its weights."""

from io import SEEK_CUR, BytesIO
from pathlib import Path
from typing import BinaryIO

from errors import ActionClipError

# Fields of ModelProto and StringStringEntryProto (onnx.proto): metadata_props = 14, key = 1, value = 2.
_METADATA_PROPS = 14
_KEY, _VALUE = 1, 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata_props of an ONNX file; {} when it has none.

    Opening a session for them would read and optimise hundreds of megabytes; this skips over the graph.

    Raises:
        ActionClipError: the file cannot be read or is no ONNX file.
    """
    metadata = {}
    try:
        with path.open("rb") as file:
            end = path.stat().st_size
            if end == 0:
                raise EOFError
            while file.tell() < end:
                entry = _field(file, end, keep=_METADATA_PROPS)
                if entry is not None:
                    key, value = _entry(entry)
                    metadata[key] = value
    except OSError as error:
        raise ActionClipError(f"{path} cannot be read ({error.strerror}): check the file") from error
    except (ValueError, EOFError) as error:
        raise ActionClipError(f"{path} is not an ONNX graph: export it or download it again") from error
    return metadata


def _field(file: BinaryIO, end: int, keep: int) -> bytes | None:
    """Pass over one protobuf field of a file that is `end` bytes long; its bytes when it is number `keep`."""
    number, wire = divmod(_varint(file), 8)
    if number == 0:
        raise ValueError("not a protobuf field")
    if wire == _BYTES:
        size = _varint(file)
        if number == keep:
            return _exactly(file, size)
        # Seeking would go beyond the end without a word.
        if file.seek(size, SEEK_CUR) > end:
            raise EOFError
    elif wire == _VARINT:
        _varint(file)
    elif wire in (_FIXED32, _FIXED64):
        _exactly(file, 4 if wire == _FIXED32 else 8)
    else:
        raise ValueError("not a protobuf field")
    return None


def _entry(entry: bytes) -> tuple[str, str]:
    parts = {_KEY: "", _VALUE: ""}
    file = BytesIO(entry)
    while file.tell() < len(entry):
        number, wire = divmod(_varint(file), 8)
        if wire != _BYTES:
            raise ValueError("not a string")
        parts[number] = _exactly(file, _varint(file)).decode("utf-8")
    return parts[_KEY], parts[_VALUE]


def _varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = _exactly(file, 1)[0]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value
    raise ValueError("varint too long")


def _exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise EOFError
    return data
