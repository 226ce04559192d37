"""Files of PyTorch read as data: the same tensors as PyTorch reads out of them, and nothing larger than the file."""

import json
import os
import struct
import subprocess
import sys
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_files import SIZES, refused, save_legacy
from handmade_archives import NUMBERS, dictionary, module, named, plain, save, source, tensor
from random_checkpoints import State, as_openai_stores, openai_state, save_torchscript, with_openai_facts
from torch import Tensor, nn

from action_clip.errors import ActionClipError
from action_clip.export.checkpoint_reading import load, tensors

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden" / "torchscript_1.7.1.pt"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint.pt"


def ours(path: Path) -> State:
    return tensors(load(path, trust=False), path)


def by_torchscript(path: Path) -> State:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dict(torch.jit.load(path, map_location="cpu").state_dict())  # type: ignore[no-untyped-call]


def assert_equal(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape), name
        assert torch.equal(found[name], value), name


# As PyTorch reads them.


class Part(nn.Module):
    """Parameters and buffers of many types, and attributes that are neither."""

    attn_mask: Tensor
    absent: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 5)
        self.low = nn.Linear(5, 3).half()
        self.bfloat = nn.Parameter(torch.randn(4).bfloat16())
        self.register_buffer("numbers", torch.arange(6).reshape(2, 3))
        self.register_buffer("flags", torch.tensor([True, False]))
        self.register_buffer("passing", torch.randn(3), persistent=False)
        self.register_buffer("nothing", None)
        self.register_parameter("absent", None)
        self.attn_mask = torch.ones(3, 3)
        self.sizes = [1, 2, 3]
        self.names = {"a": torch.ones(2)}

    def forward(self, x: Tensor) -> Tensor:
        mapped: Tensor = self.linear(x)
        return mapped


class Whole(nn.Module):
    """Parts in lists, and tensors that share their numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList([Part(), Part()])
        self.row = nn.Sequential(OrderedDict([("first", nn.Linear(2, 2)), ("last", nn.LayerNorm(2))]))
        self.listed = nn.ParameterList([nn.Parameter(torch.randn(2)), nn.Parameter(torch.randn(3))])
        self.view = nn.Parameter(torch.randn(6, 5)[1:, ::2])
        self.turned = nn.Parameter(torch.randn(3, 4).T)
        self.scalar = nn.Parameter(torch.tensor(4.5))
        self.empty = nn.Parameter(torch.zeros(0, 3))
        self.tied = self.view
        self.shared = self.parts[0]

    def forward(self, x: Tensor) -> Tensor:
        for part in self.parts:
            x = part(x)
        return x


def save_scripted(network: nn.Module, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(network), path)


@pytest.mark.parametrize("kind", ["whole", "half", "double"])
def test_scripted_modules(file: Path, kind: str) -> None:
    network = getattr(Whole(), {"whole": "float"}.get(kind, kind))()
    save_scripted(network, file)
    expected = by_torchscript(file)
    # TorchScript keeps what was not to be kept, and every name of what has several.
    assert {"parts.1.passing", "shared.numbers", "tied", "listed.1", "row.last.bias"} <= set(expected)
    assert_equal(ours(file), expected)


def test_traced_modules(file: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(Part(), torch.ones(2, 3))  # type: ignore[no-untyped-call]
        torch.jit.save(traced, file)
    expected = by_torchscript(file)
    assert "numbers" in expected
    assert "attn_mask" not in expected
    assert_equal(ours(file), expected)


def test_an_archive_of_pytorch_1_7() -> None:
    expected = by_torchscript(GOLDEN)
    assert {value.dtype for value in expected.values()} == {torch.float16, torch.float32, torch.int64}
    assert len(expected) == 22
    assert_equal(ours(GOLDEN), expected)


def test_archives_in_openais_layout(file: Path) -> None:
    stored = with_openai_facts(as_openai_stores(openai_state(SIZES)))
    save_torchscript(stored, file)
    assert_equal(ours(file), stored)


@pytest.mark.parametrize("write", [torch.save, save_legacy])
def test_state_dicts(file: Path, write: Callable[[Any, Path], None]) -> None:
    base = torch.randn(6, 5)
    state = {
        **{str(kind): torch.arange(4).to(kind) for kind in (torch.float64, torch.float16, torch.bfloat16, torch.int8)},
        **{str(kind): torch.arange(4).to(kind) for kind in (torch.uint8, torch.int16, torch.int32, torch.int64)},
        **{"base": base, "view": base[1:, ::2], "turned": base.T, "row": base[5], "again": base},
        **{"scalar": torch.tensor(4.5), "flags": torch.tensor([True, False]), "empty": torch.zeros(0, 3)},
        "parameter": nn.Parameter(torch.randn(3)),
    }
    noted = nn.Parameter(torch.randn(3))
    noted.note = "of a trainer"  # type: ignore[attr-defined]
    tensor_noted = torch.randn(3)
    tensor_noted.note = "of a trainer"  # type: ignore[attr-defined]
    optimiser = {"state": {0: {"step": 7, "moment": torch.zeros(3)}}, "betas": (0.9, 0.999), "groups": {1, 2}}
    write(
        {
            "epoch": 2**70,
            "state_dict": OrderedDict({**state, "noted": noted, "tensor_noted": tensor_noted}),
            "optimiser": optimiser,
            "types": [torch.float16, torch.device("cpu"), torch.Size([1, 2]), b"bytes", 1j, None],
        },
        file,
    )
    expected = torch.load(file, weights_only=True)["state_dict"]
    assert_equal(tensors(load(file, trust=False)["state_dict"], file), expected)


def repacked(path: Path, edit: Callable[[str, bytes], tuple[str, bytes]]) -> None:
    """The archive as another program packs it: nothing compressed, no record where processors like it."""
    with zipfile.ZipFile(path) as archive:
        records = [edit(info.filename, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in records:
            if name:
                archive.writestr(name, content)


EDITS: dict[str, Callable[[str, bytes], tuple[str, bytes]]] = {
    "as it is": lambda name, content: (name, content),
    "another folder": lambda name, content: (f"another/{name.partition('/')[2]}", content),
    "older": lambda name, content: ("" if name.endswith(("byteorder", "/serialization_id")) else name, content),
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("write", [torch.save, save_torchscript])
def test_repacked_archives(file: Path, edit: str, write: Callable[[Any, Path], None]) -> None:
    state = with_openai_facts(as_openai_stores(openai_state(SIZES)))
    write(state, file)
    repacked(file, EDITS[edit])
    assert_equal(ours(file), state)


def test_text_before_an_archive_is_no_archive(file: Path) -> None:
    torch.save({"a": torch.ones(3)}, file)
    file.write_bytes(b"Hello" + file.read_bytes())
    assert refused(file) == f"{file} is not a PyTorch checkpoint: download it again"


@pytest.mark.parametrize("order", ["big", "little"])
def test_the_order_of_bytes(file: Path, order: str) -> None:
    code = "<" if order == "little" else ">"
    content = dictionary({"a": tensor(), "b": tensor("1", kind="torch.LongStorage"), "c": tensor(size=(2,), offset=2)})
    records = {
        "data/0": struct.pack(f"{code}4f", 1, 2, 3, 4),
        "data/1": struct.pack(f"{code}4q", 5, 6, 7, 2**40),
        "byteorder": order.encode(),
    }
    save(content, file, records)
    expected = {"a": torch.tensor([1.0, 2, 3, 4]), "b": torch.tensor([5, 6, 7, 2**40]), "c": torch.tensor([3.0, 4])}
    assert_equal(ours(file), expected)


def test_dictionaries_as_python_2_wrote_them(file: Path) -> None:
    pair = b"](U\x01a" + tensor() + b"e"
    save(named("collections.OrderedDict") + b"]" + pair + b"a\x85R", file)
    assert_equal(ours(file), {"a": torch.tensor([1.0, 2, 3, 4])})


def test_weights_of_graphics_cards(file: Path) -> None:
    save(dictionary({"a": tensor(kind="torch.cuda.FloatStorage")}), file)
    assert_equal(ours(file), {"a": torch.tensor([1.0, 2, 3, 4])})


def test_nothing_is_written_to_the_file(file: Path) -> None:
    torch.save({"a": torch.ones(3)}, file)
    before = file.read_bytes()
    ours(file)["a"].zero_()
    assert file.read_bytes() == before


# What is not what it says.


def weights(**more: Any) -> bytes:
    return dictionary({"a": tensor(**more)})


def nested(levels: int) -> bytes:
    """A tuple of twice the same tuple, and so on."""
    return plain(0) + b"q\x00" + b"h\x00\x86q\x00" * levels


DAMAGED: dict[str, tuple[bytes, str]] = {
    "more than its record": (weights(count=5), "a storage larger than its record data/0"),
    "more than the file": (weights(count=2_500_000_000_000), "a storage without a type or a size"),
    "a negative count": (weights(count=-1), "a storage without a type or a size"),
    "a count that is a text": (weights(count="4"), "a storage without a type or a size"),
    "a record that is not there": (weights(key="1"), "'archive/data/1'"),
    "a record outside": (weights(key="../data.pkl"), "'archive/data/../data.pkl'"),
    "an unknown type": (weights(kind="torch.FloaterStorage"), "'Floater'"),
    "beyond the end": (weights(offset=1), "a tensor that reaches beyond its storage"),
    "strides beyond the end": (weights(stride=(2,)), "a tensor that reaches beyond its storage"),
    "strides beyond all": (weights(stride=(2**39,)), "a tensor that reaches beyond its storage"),
    "a negative offset": (weights(offset=-1), "a tensor of an impossible shape"),
    "a negative side": (weights(size=(-4,)), "a tensor of an impossible shape"),
    "a negative stride": (weights(stride=(-1,)), "a tensor of an impossible shape"),
    "an endless side": (weights(size=(2**62, 0), stride=(0, 1)), "a tensor of an impossible shape"),
    "sides that are texts": (weights(size=("4",)), "a tensor of an impossible shape"),
    "a shape that is a text": (weights(size="4444", stride="1111"), "a tensor without a shape"),
    "too many sides": (weights(size=(1,) * 65, stride=(1,) * 65), "a tensor without a shape"),
    "sides without strides": (weights(size=(2, 2)), "a tensor without a shape"),
    "one number many times": (weights(size=(10**12,), stride=(0,)), "tensors larger than the file"),
    "a storage of no storage": (
        dictionary({"a": named("torch._utils._rebuild_tensor_v2") + plain((1, 0, (4,), (1,))) + b"R"}),
        "'int' object has no attribute 'tensor'",
    ),
    "a reference to no storage": (plain(("module", 1, 2, 3, 4)) + b"Q", "a reference to no storage"),
    "a reference to a text": (plain("storage") + b"Q", "a reference to no storage"),
    "a dictionary of other things": (named("collections.OrderedDict") + plain(([1, 2],)) + b"R", "cannot unpack"),
    "dictionaries of one list": (
        plain(([["a", 1]] * 1000,)) + b"q\x07" + (named("collections.OrderedDict") + b"h\x07R") * 2000,
        "dictionaries without end",
    ),
    "a call of a text": (plain("print") + plain(("hi",)) + b"R", "a call of a str"),
    "a state for a list": (b"]" + plain({"a": 1}) + b"b", "a state for a list"),
    "keys for a list": (b"]" + plain("a") + plain(1) + b"s", "keys for a list"),
    "items for a dict": (b"}" + plain("a") + b"a", "items for a dict"),
    "an end too early": (b"", "not enough values to unpack"),
    "two objects": (b"}}", "too many values to unpack"),
    "an unknown opcode": (b"\xff", "opcode b'\\xff' unknown"),
    "a text without an end": (b"X\xff\xff\xff\x7f", "expected 2147483647 bytes"),
    "nothing on the stack": (b"\x86", "pop from empty list"),
    "no mark": (b"t", "pop from empty list"),
    "nothing remembered": (b"h\x07", "KeyError"),
    "a place far away": (b"}r\xff\xff\xff\x7f", "a memo with a place 2147483647"),
    "too many opcodes": (b"N0" * 600_000 + b"}", "a pickle of more than 1000000 opcodes"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", DAMAGED)
def test_pickles_that_lie(file: Path, case: str) -> None:
    content, sentence = DAMAGED[case]
    save(content, file)
    said = refused(file)
    if sentence != "KeyError":
        assert sentence in said
    assert said.startswith(f"{file} is damaged or no checkpoint (")


ITSELF = (
    named("torch._tensor._rebuild_from_type_v2")
    + b"("
    + named("torch._utils._rebuild_parameter")
    + plain("torch.Tensor")
    + b"]q\x01tRq\x02h\x01h\x02a0"
)
NEGATIVE = tensor()[:-2] + plain({"neg": True}) + b"tR"


QUANTIZED, COMPLEX = tensor(kind="torch.QInt8Storage"), tensor(size=(2,), kind="torch.ComplexFloatStorage")


def save_unzipped(content: bytes, path: Path) -> None:
    path.write_bytes(legacy(content, ["0"], struct.pack("<q", 4) + bytes(32)))


@pytest.mark.parametrize("value", [ITSELF, NEGATIVE, QUANTIZED, COMPLEX])
@pytest.mark.parametrize("write", [save, save_unzipped])
def test_values_that_are_no_plain_numbers(file: Path, value: bytes, write: Callable[[bytes, Path], object]) -> None:
    """One of them holds itself, and another one's numbers have the other sign."""
    write(dictionary({"a": value}), file)
    said = refused(file)
    assert "not a plain tensor" in said or "damaged" in said


def test_an_unknown_order_of_bytes(file: Path) -> None:
    save(dictionary({"a": tensor()}), file, {"data/0": NUMBERS, "byteorder": b"LITTLE"})
    assert "an order of bytes b'LITTLE'" in refused(file)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (named("os.system") + plain(("true",)) + b"R", "os.system"),
        (plain("builtins") + plain("eval") + b"\x93" + plain(("1",)) + b"R", "builtins.eval"),
        (named("torch.load") + plain(("x",)) + b"R", "torch.load"),
        (named("torch._utils.os.system") + plain(("true",)) + b"R", "torch._utils.os.system"),
        (named("collections.namedtuple") + b")R", "collections.namedtuple"),
        (b"(" + named("os.system") + plain("true") + b"o", "the opcode OBJ"),
        (b"(" + plain("true") + b"ios\nsystem\n", "the opcode INST"),
        (b"\x82\x01", "the opcode EXT1"),
    ],
)
def test_names_of_other_things(file: Path, content: bytes, name: str) -> None:
    save(content, file)
    assert f"{file} holds more than weights ({name}), and reading that may run any code" in refused(file)


def test_keys_that_take_for_ever_to_hash(file: Path) -> None:
    keys = [nested(100)] + [plain((2**61 - 1) * number) for number in range(20_000)]
    content = b"}(" + b"".join(key + b"N" for key in keys) + plain("a") + tensor() + b"u"
    save(content, file)
    content = load(file, trust=False)
    assert len(content) == 20_002
    assert sum(isinstance(key, str) for key in content) == 1


OWN = named("__torch__.Own") + b")\x81"
MODULES: dict[str, tuple[bytes, bytes, str]] = {
    "no code": (module({"a": tensor()}), source(name="Other"), "'Own'"),
    "no file of code": (module({"a": tensor()}, "__torch__.of.Own"), source(), "archive/code/__torch__/of.py"),
    "no attributes": (OWN, source(), "'NoneType' has no len"),
    "attributes that are none": (OWN + plain([1]) + b"b", source(), "'list' object"),
    "in itself": (OWN + b"q\x07" + dictionary({"a": b"h\x07", "b": b"h\x07"}) + b"b", source(), "modules without end"),
    "in each other": (
        module({}) + b"q\x07" + (b"0" + module({"a": b"h\x07", "b": b"h\x07"}) + b"q\x07") * 40,
        source(),
        "modules without end",
    ),
    "deep": (OWN + (b"}" + plain("a") + OWN) * 5000 + b"}b" + b"sb" * 5000, source(), "modules without end"),
    "code without end": (module({"a": tensor()}), source("a") + b"#" * (20 << 20), "too long"),
}


@pytest.mark.parametrize("case", MODULES)
def test_modules_that_lie(file: Path, case: str) -> None:
    content, code, sentence = MODULES[case]
    save(content, file, code=code, compression=zipfile.ZIP_STORED)
    said = refused(file)
    assert said.startswith(f"{file} is damaged or no checkpoint (")
    assert sentence in said


def test_modules_made_by_hand(file: Path) -> None:
    # The other tests' modules, as they should be.
    inner = module({"b": tensor(size=(2,)), "mask": tensor()}, "__torch__.Inner")
    code = source("a") + source("b", name="Inner") + b"class Note:\n  def __setstate__(self, state: str) -> None:\n"
    note = named("__torch__.Note") + b")\x81" + plain("text") + b"b"
    save(module({"a": tensor(), "inner": inner, "note": note, "training": plain(True)}), file, code=code)
    assert_equal(ours(file), {"a": torch.tensor([1.0, 2, 3, 4]), "inner.b": torch.tensor([1.0, 2])})


def test_tensors_that_share_more_than_they_may(file: Path) -> None:
    shared = {f"a{number}": tensor() for number in range(1000)}
    save(dictionary(shared), file)
    assert len(ours(file)) == 1000  # small: four numbers each, less than the file says of them
    records = {"data/0": NUMBERS * 100_000}
    save(dictionary({name: tensor(count=400_000, size=(400_000,)) for name in list(shared)[:4]}), file, records)
    assert len(ours(file)) == 4
    save(dictionary({name: tensor(count=400_000, size=(400_000,)) for name in list(shared)[:6]}), file, records)
    assert "tensors larger than the file" in refused(file)


@pytest.mark.parametrize(
    "compression",
    [
        zipfile.ZIP_DEFLATED,
        pytest.param(zipfile.ZIP_BZIP2, marks=pytest.mark.slow),
        pytest.param(zipfile.ZIP_LZMA, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("what", ["pickle", "storage", "code"])
def test_compressed_records(file: Path, compression: int, what: str) -> None:
    large = bytes(40 << 20)
    content, records, code = weights(), {"data/0": NUMBERS}, b""
    if what == "pickle":
        content = weights() + b"X" + struct.pack("<I", len(large)) + large + b"0"
    elif what == "storage":
        records = {"data/0": large}
    else:
        content, code = module({"a": tensor()}), source("a") + large
    save(content, file, records, code=code)
    with zipfile.ZipFile(file) as archive:
        stored = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in stored.items():
            archive.writestr(name, data, compression if len(data) > 1 << 20 else zipfile.ZIP_STORED)
    assert file.stat().st_size < 1 << 20
    said = refused(file)
    assert "compressed" in said or "too long" in said


def test_two_records_of_one_name(file: Path) -> None:
    save(weights(), file)
    with zipfile.ZipFile(file, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
    assert "two records 'archive/data.pkl'" in refused(file)


def test_a_list_of_records_without_end(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        for number in range(500):
            archive.writestr(f"archive/data/{'x' * 60_000}{number}", b"")
    assert "records that are too long" in refused(file)


# Limits hold for whoever reads.


def legacy(content: bytes, keys: Any, storages: bytes = b"") -> bytes:
    """A file from before zip archives."""
    start = (plain(0x1950A86A20F9469CFC6C), plain(1001), plain({"little_endian": True}))
    return b"".join(b"\x80\x02" + part + b"." for part in (*start, content, plain(keys))) + storages


BOMBS: dict[str, Callable[[Path], None]] = {
    "opcodes": lambda path: save(b"]" * 16_000_000, path),
    "dictionaries": lambda path: save(b"(" + b"}" * 990_000 + b"t", path),
    "half numbers": lambda path: save(weights(size=(10**10,), stride=(0,), kind="torch.HalfStorage"), path),
    "bytes that are asked for": lambda path: save(named("builtins.bytearray") + plain((10**11,)) + b"R", path),
    "nested keys": lambda path: save(b"}" + nested(500) + b"Ns", path),
    "tensors": lambda path: save(dictionary({f"a{number}": tensor() for number in range(25_000)}), path),
    "modules": lambda path: save(MODULES["in each other"][0], path, code=source()),
}
FILES = {
    "storage.pt": legacy(weights(count=10**13), ["0"]),
    "header.safetensors": struct.pack("<Q", 90 << 20) + b" " * (90 << 20),
}
READ = """
import json, sys
from pathlib import Path
from action_clip.errors import ActionClipError
from action_clip.export.clip.checkpoints import read_checkpoint
status = Path("/proc/self/status")
def peak():
    # Megabytes; 0 where nobody tells.
    lines = status.read_text().splitlines() if status.exists() else []
    return sum(int(line.split()[1]) >> 10 for line in lines if line.startswith("VmHWM"))
before, said = peak(), []
for path in sys.argv[1:]:
    try:
        read_checkpoint(Path(path))
    except ActionClipError as error:
        said.append(str(error))
print(json.dumps([said, peak() - before]))
"""


@pytest.mark.slow
def test_bombs_take_little(tmp_path: Path) -> None:
    for name, make in BOMBS.items():
        make(tmp_path / f"{name}.pt")
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    paths = sorted(tmp_path.iterdir())
    done = subprocess.run(
        [sys.executable, "-c", READ, *map(str, paths)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert done.stderr == ""
    said, megabytes = json.loads(done.stdout)
    assert len(said) == len(paths) == len(BOMBS) + len(FILES)
    for path, sentence in zip(paths, said, strict=True):
        assert sentence.startswith(str(path))
    assert megabytes < 600


# Before zip archives.


@pytest.mark.parametrize(
    ("content", "keys", "storages", "sentence"),
    [
        (weights(), ["0"], struct.pack("<q", 4) + NUMBERS, ""),
        (weights(), ["0"], struct.pack("<q", 4) + NUMBERS[:-1], "a storage that reaches beyond the file"),
        (weights(), ["0"], struct.pack("<q", 5) + NUMBERS, "a storage of another length"),
        (weights(), ["0"], struct.pack("<q", -4) + NUMBERS, "a storage of another length"),
        (weights(), ["0"], b"", "unpack_from requires a buffer"),
        (weights(), [], b"", "storages that are missing"),
        (weights(), ["1"], struct.pack("<q", 4) + NUMBERS, "'1'"),
        (weights(), [["0"]], struct.pack("<q", 4) + NUMBERS, "a storage of another length"),
        (weights(), 7, b"", "'int' object is not iterable"),
        (weights(count=10**13), ["0"], b"", "a storage without a type or a size"),
    ],
)
def test_legacy_files_that_lie(file: Path, content: bytes, keys: Any, storages: bytes, sentence: str) -> None:
    file.write_bytes(legacy(content, keys, storages))
    if sentence:
        assert sentence in refused(file)
    else:
        assert_equal(ours(file), {"a": torch.tensor([1.0, 2, 3, 4])})


# Safetensors.


def safetensors(header: Any, data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def one(**more: Any) -> dict[str, Any]:
    return {"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16], **more}}


@pytest.mark.parametrize(
    "content",
    [
        safetensors(one(data_offsets=[0, 10**13]), NUMBERS),
        safetensors(one(shape=[10**12]), NUMBERS),
        safetensors(one(shape=[2**62, 2**62, 0]), NUMBERS),
        safetensors(one(shape=[-4]), NUMBERS),
        safetensors(one(data_offsets=[16, 0]), NUMBERS),
        safetensors(one(data_offsets=[-16, 0]), NUMBERS),
        safetensors(one(dtype="F4096"), NUMBERS),
        safetensors({**one(), "b": one()["a"]}, NUMBERS),
        safetensors(one(), NUMBERS[:-1]),
        safetensors([1, 2], NUMBERS),
        struct.pack("<Q", 2**63) + NUMBERS,
        struct.pack("<Q", 10**12) + NUMBERS,
        struct.pack("<Q", 100_000) + b"[" * 100_000,
        b"\x01",
    ],
)
def test_headers_that_lie(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "a.safetensors"
    file.write_bytes(content)
    said = refused(file)
    assert said.startswith(f"{file} is damaged or no checkpoint (")
    assert said.endswith("): download it again")


@pytest.mark.slow
def test_a_header_without_end(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    file.write_bytes(
        safetensors({f"a{n}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(10**5)})
    )
    assert refused(file).startswith(f"{file} holds more than 20000 tensors")
    file.write_bytes(safetensors({"__metadata__": {"note": "x" * (9 << 20)}, **one()}, NUMBERS))
    assert "its header is too long" in refused(file)


def test_names_without_end(file: Path) -> None:
    for key in ("x" * 2000, None, 1.5):
        with pytest.raises(ActionClipError, match="a key is no name of a weight"):
            tensors({key: torch.ones(1)}, file)
