"""Reading files of torch.save and torch.jit.save as data: tensors are made from them, and no code in them runs.

Both functions write a zip archive. A pickle describes the objects, and each storage, with the numbers of one or several
tensors, is a record of its own. Before PyTorch 1.6, the storages followed the pickle, without a zip archive.

The file is mapped into memory, so that only the parts in use are read, a small part of a training checkpoint.
"""

import io
import math
import mmap
import struct
import sys
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from action_clip.export.pickles import Call, Name, is_name, read_pickle
from action_clip.export.torchscript import is_script, state_dict

# Most bytes of a module's code, of the list of an archive's records, and of pickles in files without a zip archive.
_LARGEST = 16 << 20
# Most bytes of a pickle in an archive: a trainer's history of every step, such as mmengine's, takes megabytes.
_LARGEST_PICKLE = 256 << 20
_MOST_WRAPPERS = 16
_MOST_DIMENSIONS = 8
_MAGIC = 0x1950A86A20F9469CFC6C
_TYPES = {
    "Float": torch.float32,
    "Double": torch.float64,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128,
    "QInt8": torch.qint8,
    "QUInt8": torch.quint8,
    "QInt32": torch.qint32,
    "Untyped": torch.uint8,
}


class NotACheckpoint(Exception):
    """The file was not written by PyTorch."""


class MappedFile:
    """A file's bytes, and a limit for the bytes of its tensors."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            # Copy on write: PyTorch has no read-only tensors.
            self.data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        self.swapped = sys.byteorder == "big"
        # Tensors can share a storage; without a limit, each could be as large as the file.
        self._left = 4 * len(self.data)

    def claim(self, size: int) -> None:
        """Subtract `size` bytes from the limit. Raises ValueError when it is exceeded."""
        self._left -= size
        if self._left < 0:
            raise ValueError("tensors larger than the file")


class Storage:
    """The numbers of one or several tensors, which follow one another in a file."""

    def __init__(self, file: MappedFile, kind: str, count: int) -> None:
        self.type = _TYPES[kind]
        self.count = count
        self.size = count * self.type.itemsize
        self._file = file
        self._numbers: Tensor | None = None

    def place(self, start: int) -> None:
        """Set the offset in the file. Raises ValueError where the storage would reach beyond the file's end."""
        if not 0 <= start <= len(self._file.data) - self.size:
            raise ValueError("a storage that reaches beyond the file")
        self._start = start

    def tensor(self, offset: Any, size: Any, stride: Any) -> Tensor:
        """Return a tensor that views the numbers in the file's memory.

        Raises ValueError where offset, size and stride are not valid.
        """
        if type(size) is not tuple or type(stride) is not tuple or not len(size) == len(stride) <= _MOST_DIMENSIONS:
            raise ValueError("a tensor without a shape")
        if not all(type(number) is int and 0 <= number < 2**40 for number in (offset, *size, *stride)):
            raise ValueError("a tensor of an impossible shape")
        count = math.prod(size)
        if not count:
            return torch.empty(size, dtype=self.type)
        if offset + sum((side - 1) * step for side, step in zip(size, stride, strict=True)) >= self.count:
            raise ValueError("a tensor that reaches beyond its storage")
        self._file.claim(count * self.type.itemsize)
        return self._all().as_strided(size, stride, offset)

    def _all(self) -> Tensor:
        if self._numbers is None:
            swaps = self._file.swapped and self.type.itemsize > 1
            numbers = torch.frombuffer(self._file.data, dtype=torch.uint8, count=self.size, offset=self._start)
            if swaps or self._start % self.type.itemsize:
                self._file.claim(self.size)
                numbers = numbers.clone()
            if swaps:
                numbers.untyped_storage().byteswap(self.type)  # type: ignore[no-untyped-call]
            self._numbers = numbers.view(self.type)
        return self._numbers


def read_stored(path: Path) -> Any:
    """Return the object that was saved.

    Containers, numbers and texts are returned as such, tensors as values for `tensor_of`, other objects as foreign
    calls, and a module of TorchScript as its state dict.

    Raises:
        MoreThanWeights: the content is known only by running code in the file.
        NotACheckpoint: PyTorch did not write the file.
        Exception: of many types, where the file is damaged.
    """
    file = MappedFile(path)
    if file.data[:2] == b"PK":
        with _LimitedFile(path) as records, zipfile.ZipFile(records) as archive:
            return _Archive(archive, file).content()
    return _read_unzipped(file)


def tensor_of(value: Any) -> Any:
    """Return the tensor that a value from `read_stored` describes; any other value is returned unchanged.

    Raises exceptions of many types where the value is damaged.
    """
    for _ in range(_MOST_WRAPPERS):  # a wrapper may contain itself
        if not isinstance(value, Call):
            break
        if value.function in ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"):
            storage, *numbers = value.arguments[:4]
            if any(value.arguments[6:]):  # metadata such as the conjugate and negative bits
                break
            return storage.tensor(*numbers)
        if value.function in ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"):
            value = value.arguments[0]
        elif value.function == "torch._tensor._rebuild_from_type_v2" and value.arguments[1] == "torch.Tensor":
            value = Call(value.arguments[0], value.arguments[2])
        else:
            break
    return value


class _LimitedFile(io.FileIO):
    """A file with a limit for each read, as zipfile reads an archive's list of records at once."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _LARGEST:
            raise ValueError("records that are too long")
        return super().read(size)


class _Archive:
    """The records of a zip archive; PyTorch writes all of them into one folder."""

    def __init__(self, archive: zipfile.ZipFile, file: MappedFile) -> None:
        self._archive, self._file = archive, file
        self._records: dict[str, zipfile.ZipInfo] = {}
        for info in archive.infolist():
            if self._records.setdefault(info.filename, info) is not info:
                raise ValueError(f"two records {info.filename!r:.100}")
        self._folder = next(iter(self._records), "").partition("/")[0]
        self._code_left = _LARGEST

    def content(self) -> Any:
        """Return the object in the archive; see `read_stored`. Raises NotACheckpoint where it has none."""
        if f"{self._folder}/data.pkl" not in self._records:
            raise NotACheckpoint
        if f"{self._folder}/byteorder" in self._records:
            order = self._bytes("byteorder")
            if order not in (b"little", b"big"):
                raise ValueError(f"an order of bytes {order!r:.40}")
            self._file.swapped = order != sys.byteorder.encode()
        content = read_pickle(io.BytesIO(self._bytes("data.pkl", _LARGEST_PICKLE)), self._storage)
        return state_dict(content, self._source) if is_script(content) else content

    def _bytes(self, name: str, most: int = _LARGEST) -> bytes:
        start, size = self._location(name)
        if size > most:
            raise ValueError(f"a record {name} that is too long")
        return self._file.data[start : start + size]

    def _location(self, name: str) -> tuple[int, int]:
        """Return the offset of a record's bytes in the file, and their number."""
        info = self._records[f"{self._folder}/{name}"]
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 or info.compress_size != info.file_size:
            raise ValueError(f"a record {name} that is compressed or encrypted")
        header = self._file.data[info.header_offset : info.header_offset + 30]
        if header[:4] != b"PK\x03\x04":
            raise ValueError(f"no record {name}")
        start = info.header_offset + 30 + sum(struct.unpack("<HH", header[26:]))
        return start, info.file_size

    def _storage(self, saved: Any) -> Storage:
        key, storage = _described(saved, self._file)
        start, size = self._location(f"data/{key}")
        if size < storage.size:
            raise ValueError(f"a storage larger than its record data/{key}")
        storage.place(start)
        return storage

    def _source(self, module: str) -> str:
        info = self._records[f"{self._folder}/code/{module.replace('.', '/')}.py"]
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError("code that is not compressed as PyTorch does it")
        with self._archive.open(info) as record:
            code = record.read(self._code_left + 1)
        self._code_left -= len(code)
        if self._code_left < 0:
            raise ValueError("code that is too long")
        return code.decode("utf-8")


def _read_unzipped(file: MappedFile) -> Any:
    """Return the content of a file without a zip archive: pickles, then the storages in the last pickle's order."""
    pickles = io.BytesIO(file.data[:_LARGEST])
    storages: dict[str, Storage] = {}

    def persistent(saved: Any) -> Storage:
        key, storage = _described(saved, file)
        return storages.setdefault(key, storage)

    try:
        magic = read_pickle(pickles, persistent)
    except Exception:
        raise NotACheckpoint from None
    if magic != _MAGIC:
        raise NotACheckpoint
    for _ in ("version", "machine"):
        read_pickle(pickles, persistent)
    content = read_pickle(pickles, persistent)
    keys = read_pickle(pickles, persistent)
    offset = pickles.tell()
    for key in keys:
        storage = storages.pop(key) if is_name(key) else None
        if storage is None or struct.unpack_from("<q", file.data, offset) != (storage.count,):
            raise ValueError("a storage of another length")
        storage.place(offset + 8)
        offset += 8 + storage.size
    if storages:
        raise ValueError("storages that are missing")
    return content


def _described(saved: Any, file: MappedFile) -> tuple[str, Storage]:
    """Return the key and the storage of a persistent id: ("storage", its class, key, device, count)."""
    if type(saved) is not tuple or len(saved) not in (5, 6) or saved[0] != "storage" or saved[5:] not in ((), (None,)):
        raise ValueError("a reference to no storage")
    _, kind, key, _, count = saved[:5]
    if type(kind) is not Name or not is_name(key) or type(count) is not int or not 0 <= count <= len(file.data):
        raise ValueError("a storage without a type or a size")
    return key, Storage(file, kind.rpartition(".")[2].removesuffix("Storage"), count)
