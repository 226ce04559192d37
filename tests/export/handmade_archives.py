"""Archives of PyTorch's made byte by byte, for saying in them what PyTorch would not."""

import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Described = bytes
"""The part of a pickle that puts one object on the stack."""


def plain(value: Any) -> Described:
    """Numbers, texts and containers of them."""
    return pickle.dumps(value, 2)[2:-1]


def named(name: str) -> Described:
    """A function or class."""
    module, _, own = name.rpartition(".")
    return f"c{module}\n{own}\n".encode()


def dictionary(items: Mapping[str, Described]) -> Described:
    return b"}(" + b"".join(plain(name) + value for name, value in items.items()) + b"u"


def tensor(
    key: str = "0",
    count: int = 4,
    offset: Any = 0,
    size: Any = (4,),
    stride: Any = (1,),
    kind: str = "torch.FloatStorage",
) -> Described:
    """A tensor in the storage `key` of so many numbers."""
    storage = b"(" + plain("storage") + named(kind) + plain(key) + plain("cpu") + plain(count) + b"tQ"
    hooks = named("collections.OrderedDict") + b")R"
    shape = plain(offset) + plain(size) + plain(stride)
    return named("torch._utils._rebuild_tensor_v2") + b"(" + storage + shape + plain(False) + hooks + b"tR"


def module(attributes: Mapping[str, Described], name: str = "__torch__.Own") -> Described:
    """A module of TorchScript."""
    return named(name) + b")\x81" + dictionary(attributes) + b"b"


def source(*weights: str, name: str = "Own", more: str = "") -> bytes:
    """The code of its class."""
    names = "".join(f'"{weight}", ' for weight in weights)
    return f"class {name}(Module):\n  __parameters__ = [{names}]\n  __buffers__ = []\n{more}".encode()


NUMBERS = struct.pack("<4f", 1, 2, 3, 4)
"""A storage of four."""


def save(
    content: Described,
    path: Path,
    records: Mapping[str, bytes] = {"data/0": NUMBERS},
    *,
    code: bytes = b"",
    folder: str = "archive",
    compression: int = zipfile.ZIP_STORED,
    protocol: bytes = b"\x80\x02",
) -> None:
    """A zip archive with this pickle and these records; with code, of TorchScript."""
    script = {"code/__torch__.py": code, "constants.pkl": b"\x80\x02)."} if code else {}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in {"data.pkl": protocol + content + b".", **records, **script}.items():
            archive.writestr(f"{folder}/{name}", data)
