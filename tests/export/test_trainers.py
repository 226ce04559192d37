"""Checkpoints that a trainer writes while it trains: objects of its own beside the weights, which nobody looks at."""

import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_files import SIZES, assert_same, plain, read, save_legacy
from handmade_archives import dictionary, named, save, tensor
from handmade_archives import plain as described
from random_checkpoints import State, fusion_state, openai_state, prefixed
from random_timesformer import mmaction_timesformer, original_state
from torch import Tensor

import action_clip.export.stored
from action_clip.errors import ActionClipError
from action_clip.export.checkpoint_reading import load
from action_clip.export.checkpoint_reading import weights as weights_of
from action_clip.export.timesformer.checkpoints import read_timesformer

# What mmengine's Runner saves, by classes of its names: they are only in the process that writes the file.
RUNNER = """
import argparse, collections, enum, functools, sys, types
import numpy as np, torch

def module(name):
    sys.modules[name] = types.ModuleType(name)
    return sys.modules[name]

for name in ("mmengine", "mmengine.config", "mmengine.logging"):
    module(name)

class HistoryBuffer:
    methods = {}
    def __init__(self, values):
        self.max_length = 1000000
        self._log_history = np.array(values)
        self._count_history = np.ones(len(values), int)
    def mean(self):
        pass
    def __getstate__(self):
        return {**self.__dict__, "statistics_methods": {"mean": HistoryBuffer.mean, "current": self.mean}}

class MessageHub:
    def __init__(self, **attributes):
        self.__dict__.update(attributes)

class ConfigDict(dict):
    pass

class Level(enum.Enum):
    LOW = 1

class Named:
    def __new__(cls, *, name):
        return super().__new__(cls)
    def __getnewargs_ex__(self):
        return (), {"name": "x"}

for kind, place in ((HistoryBuffer, "mmengine.logging.history_buffer"), (MessageHub, "mmengine.logging.message_hub"),
                    (ConfigDict, "mmengine.config.config"), (Level, "mmengine.config.level"),
                    (Named, "mmengine.config.named")):
    kind.__module__ = place
    setattr(module(place), kind.__name__, kind)

source, *files = sys.argv[1:]
state = collections.OrderedDict(torch.load(source))
state._metadata = collections.OrderedDict({"": {"version": 1}})
weight = torch.nn.Parameter(torch.ones(3))
optimizer = torch.optim.AdamW([weight])
weight.sum().backward()
optimizer.step()
scalars = collections.OrderedDict({"train/loss": HistoryBuffer([0.5, 0.25]), "val/top1": HistoryBuffer([0.75])})
information = collections.OrderedDict(epoch=3, seed=np.int64(7), best=np.float32(0.5), hook=functools.partial(max, 1),
                                      level=Level.LOW, queue=collections.deque([1, 2], 5), named=Named(name="x"),
                                      counts=collections.defaultdict(list, a=[1]), keys={(1, "a"): frozenset("b")})
hub = {"log_scalars": scalars, "runtime_info": information, "resumed_keys": collections.OrderedDict(epoch=True)}
for target, kind, protocol in zip(files[::3], files[1::3], files[2::3]):
  content = {
    "meta": {"epoch": 3, "cfg": "text", "dataset_meta": ConfigDict(classes=["a"]), "args": argparse.Namespace(lr=1)},
    "state_dict": state,
    "message_hub": MessageHub(**hub) if kind == "object" else hub,
    "optimizer": optimizer.state_dict(),
    "param_schedulers": [{"last_step": 3, "lambda": HistoryBuffer.mean}],
  }
  torch.save(content, target, pickle_protocol=int(protocol), _use_new_zipfile_serialization=kind != "legacy")
"""


def save_as_runner(state: Mapping[str, Tensor], files: Mapping[Path, tuple[str, int]]) -> None:
    """Write the files, each of a kind and with a protocol of pickle, in one process."""
    source = next(iter(files)).with_suffix(".weights")
    torch.save(dict(state), source)
    arguments = [str(part) for path, (kind, protocol) in files.items() for part in (path, kind, protocol)]
    subprocess.run([sys.executable, "-W", "error", "-c", RUNNER, str(source), *arguments], check=True, timeout=300)


@pytest.fixture(scope="module")
def clip() -> State:
    return openai_state(SIZES)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a checkpoint goes."""
    return tmp_path / "epoch_3.pth"


SAVED = [("dictionaries", 2), ("dictionaries", 4), ("dictionaries", 5), ("object", 2), ("legacy", 2)]


@pytest.fixture(scope="module")
def of_runner(clip: State, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an ActionCLIP for each of SAVED, and plain.pth, which has only its weights."""
    folder = tmp_path_factory.mktemp("runner")
    fusion = fusion_state("Transf", SIZES.embedding, positions=8)
    state = {**prefixed(clip, "clip."), **prefixed(fusion, "adapter.")}
    save_as_runner(state, {folder / f"{kind}-{protocol}.pth": (kind, protocol) for kind, protocol in SAVED})
    torch.save(state, folder / "plain.pth")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "protocol"), SAVED)
def test_actionclip_as_mmengines_runner_saves_it(of_runner: Path, kind: str, protocol: int) -> None:
    file = of_runner / f"{kind}-{protocol}.pth"
    with pytest.raises(ModuleNotFoundError, match="mmengine"):
        torch.load(file, weights_only=False)
    assert_same(read(file), read(of_runner / "plain.pth"))
    assert "mmengine" not in sys.modules


@pytest.mark.slow
def test_timesformer_as_mmengines_runner_saves_it(file: Path) -> None:
    state = mmaction_timesformer(original_state())
    save_as_runner(state, {file: ("dictionaries", 2)})
    found = read_timesformer(file)
    torch.save(state, plain_file := file.with_suffix(".pt"))
    expected = read_timesformer(plain_file)
    assert found.layout == expected.layout == "mmaction2 TimeSformer"
    assert set(found.state) == set(expected.state)
    for name, value in expected.state.items():
        assert torch.equal(found.state[name], value), name


SYSTEM = named("os.system") + described(("echo ran > ran.txt",)) + b"R"
# Called at once, by a method, by what a call has made, with names, filled, and told its state.
HOSTILE = {
    "call": SYSTEM,
    "method": named("builtins.getattr")
    + b"("
    + named("os")
    + described("system")
    + b"tR"
    + described(("true",))
    + b"R",
    "made": SYSTEM + described(("true",)) + b"R",
    "named": named("os.system") + b")" + described({"command": "true"}) + b"\x92",
    "filled": SYSTEM + b"(" + described("true") + b"e(" + described("a") + described("true") + b"u",
    "told": SYSTEM + described({"command": "true"}) + b"b",
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("trust", [False, True])
def test_hostile_objects_beside_the_weights_do_nothing(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, trust: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    save(
        dictionary({"message_hub": HOSTILE[kind], "state_dict": dictionary({"a": tensor()})}),
        file,
        protocol=b"\x80\x04",
    )
    state = weights_of(load(file, trust=trust), file)
    assert {name: value.tolist() for name, value in state.items()} == {"a": [1, 2, 3, 4]}
    assert not (tmp_path / "ran.txt").exists()


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize(
    "place",
    [
        lambda value: value,
        lambda value: dictionary({"a": tensor(), "b": value}),
        lambda value: dictionary({"state_dict": value}),
        lambda value: dictionary({"state_dict": dictionary({"a": tensor(), "b": value})}),
        lambda value: dictionary({"model_state": dictionary({"a": value})}),
        lambda value: dictionary({"model_state_dict": value, "fusion_model_state_dict": dictionary({})}),
        lambda value: dictionary({"model_state_dict": dictionary({}), "fusion_model_state_dict": value}),
        lambda value: dictionary(
            {"state_dict": dictionary({"a": named("torch._utils._rebuild_parameter") + b"(" + value + b"tR"})}
        ),
        lambda value: dictionary({"state_dict": dictionary({"a": tensor(), "b": b"](" + value + b"e"})}),
    ],
)  # fmt: skip
def test_hostile_objects_are_no_weights(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, place: Callable[[bytes], bytes]
) -> None:
    monkeypatch.chdir(tmp_path)
    save(place(HOSTILE[kind]), file, protocol=b"\x80\x04")
    name = "builtins.getattr" if kind == "method" else "os.system"
    with pytest.raises(
        ActionClipError, match=rf"holds more than weights \({name}\), and reading that may run any code"
    ):
        load(file, trust=False)
    assert not (tmp_path / "ran.txt").exists()


@pytest.mark.parametrize("key", [SYSTEM, named("os.system"), SYSTEM + b"\x85"])
def test_a_foreign_object_is_no_name_of_a_weight(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: bytes
) -> None:
    monkeypatch.chdir(tmp_path)
    keyed = b"}" + key + tensor() + b"s"
    save(dictionary({"message_hub": keyed, "state_dict": dictionary({"a": tensor()})}), file, protocol=b"\x80\x04")
    assert set(weights_of(load(file, trust=False), file)) == {"a"}
    save(dictionary({"state_dict": keyed}), file, protocol=b"\x80\x04")
    with pytest.raises(ActionClipError, match=r"holds more than weights \(os\.system\)"):
        load(file, trust=False)
    assert not (tmp_path / "ran.txt").exists()


def test_a_long_argument_that_is_given_often_takes_its_memory_once(file: Path) -> None:
    numbers = b"(" + b"K\x01" * 10_000 + b"tr\x02\x00\x00\x000"
    calls = b"(" + (named("os.system") + b"j\x02\x00\x00\x00}\x92") * 2000 + b"t"
    hub = b"(" + described(1) + numbers + calls + b"t"
    save(dictionary({"message_hub": hub, "state_dict": dictionary({"a": tensor()})}), file, protocol=b"\x80\x04")
    tracemalloc.start()
    try:
        assert set(weights_of(load(file, trust=False), file)) == {"a"}
        assert tracemalloc.get_traced_memory()[1] < 40 << 20  # with copies, 160
    finally:
        tracemalloc.stop()


def test_numbers_of_a_foreign_type_are_no_weights(file: Path) -> None:
    save(dictionary({"a": tensor(kind="os.FloatStorage")}), file)
    with pytest.raises(ActionClipError, match="a storage without a type"):
        load(file, trust=False)


@pytest.mark.parametrize("write", [torch.save, save_legacy])
def test_weights_without_a_trainer_are_read_as_ever(
    clip: State, file: Path, tmp_path: Path, write: Callable[[Any, Path], None]
) -> None:
    write({"state_dict": clip, "epoch": 3}, file)
    assert_same(read(file, activation="quickgelu"), plain(tmp_path, clip))


def test_a_long_history_is_read_and_one_without_end_is_not(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history = named("numpy._core.multiarray._reconstruct") + described(("x" * (20 << 20),)) + b"R"
    save(dictionary({"message_hub": history, "state_dict": dictionary({"a": tensor()})}), file)
    assert set(weights_of(load(file, trust=False), file)) == {"a"}
    monkeypatch.setattr(action_clip.export.stored, "_LARGEST_PICKLE", 10 << 20)
    with pytest.raises(ActionClipError, match=r"a record data.pkl that is too long"):
        load(file, trust=False)
