"""The key-value pairs that an ONNX file carries about itself, read without loading its weights."""

from pathlib import Path

from errors import ActionClipError
from models.protobuf import as_bytes, fields, read_fields

# Fields of ModelProto and StringStringEntryProto (onnx.proto).
_METADATA_PROPS = 14
_KEY, _VALUE = 1, 2


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
            for _, entry in read_fields(file, end, {_METADATA_PROPS}):
                key, value = _entry(entry)
                metadata[key] = value
    except OSError as error:
        raise ActionClipError(f"{path} cannot be read ({error.strerror}): check the file") from error
    except (ValueError, EOFError) as error:
        raise ActionClipError(f"{path} is not an ONNX graph: export it or download it again") from error
    return metadata


def _entry(entry: int | bytes) -> tuple[str, str]:
    parts = {_KEY: "", _VALUE: ""}
    for number, value in fields(as_bytes(entry)):
        parts[number] = as_bytes(value).decode("utf-8")
    return parts[_KEY], parts[_VALUE]
