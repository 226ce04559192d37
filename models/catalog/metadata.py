"""Reading the metadata of an ONNX file, key-value pairs of text, without loading its weights."""

from pathlib import Path

from action_clip.errors import ActionClipError
from action_clip.models.catalog.protobuf import as_bytes, as_range, walk
from action_clip.system.files import Buffer, memory_mapped

# Fields of ModelProto and StringStringEntryProto (onnx.proto).
_METADATA_PROPS = 14
_KEY, _VALUE = 1, 2
# Far more than any model has: fields of the model, and bytes of metadata.
_MOST_FIELDS, _MOST_BYTES = 10_000, 4 << 20


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata_props of an ONNX file; {} when it has none.

    A session has them too, but reads and optimises the whole graph.

    Raises:
        ActionClipError: the file cannot be read, is no ONNX file, or has far too much metadata.
    """
    metadata = {}
    size = 0
    try:
        with memory_mapped(path) as content:
            if not content:
                raise EOFError
            for count, (number, value) in enumerate(walk(content, range(len(content)))):
                if number == _METADATA_PROPS:
                    size += len(as_range(value))
                if count == _MOST_FIELDS or size > _MOST_BYTES:
                    raise ActionClipError(f"{path} has more metadata than any model needs: export it again")
                if number == _METADATA_PROPS:
                    key, text = _entry(content, as_range(value))
                    metadata[key] = text
    except OSError as error:
        raise ActionClipError(f"{path} cannot be read ({error.strerror}): check the file") from error
    except (ValueError, EOFError) as error:
        raise ActionClipError(f"{path} is not an ONNX graph: export it or download it again") from error
    return metadata


def _entry(content: Buffer, place: range) -> tuple[str, str]:
    parts = {_KEY: "", _VALUE: ""}
    for number, value in walk(content, place):
        if number in parts:
            parts[number] = as_bytes(content, value).decode("utf-8")
    return parts[_KEY], parts[_VALUE]
