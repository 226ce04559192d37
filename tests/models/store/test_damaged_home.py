"""Damage to what is kept under home(): the clean answer, bit for bit, or one sentence; and the next run is clean."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from small_models import WIDTH, random_model, save_model
from stand_in import without_notice

from action_clip import ActionClip, ActionClipError
from action_clip.models.cache.feature_memory import MEMORY
from action_clip.models.catalog.model_directory import read_model_directory
from action_clip.models.store.home import HASHES, LABEL_BANK, VIDEO_BANK, home
from action_clip.models.store.installation import fetch
from action_clip.models.store.verification import verify

ROOT = Path(__file__).parents[3]
LABELS = ["eating", "drinking", "reading a book"]
FRAMES = np.random.default_rng(0).integers(0, 256, (4, 40, 48, 3), dtype=np.uint8)
# What is kept: of graphs that are optimised, which one's, and of all.
KEPT = [
    "text/graph.onnx",
    "text/weights.bin",
    "text/seal.txt",
    "text/kept-by-action_clip.txt",
    "image/graph.onnx",
    "fusion/graph.onnx",
    "fusion/seal.txt",
    HASHES,
    "tiny/sha256.json",
]
# Of the weights, the bytes that the answer is made of are in the first 6 KiB.
PAGE, READ = 4096, 6 << 10
# What is done to a file; another of the same name might be in its place.
Damage = Callable[[Path, Path], object]


@dataclass(frozen=True)
class Clean:
    """A home that two models were used with, and the answer of the first."""

    home: Path
    model: Path
    other: Path
    answer: NDArray[np.float64]

    def find(self, name: str, model: Path) -> Path:
        """Where a file of KEPT is, from the home on."""
        role, _, rest = name.partition("/")
        if role not in ("text", "image", "fusion"):
            return Path(name)
        digest = hashlib.sha256((model / f"{role}.onnx").read_bytes()).hexdigest()
        [folder] = (self.home / "optimised").glob(f"{digest[:32]}-*")
        return folder.relative_to(self.home) / rest

    def run(self) -> NDArray[np.float64]:
        """The answer of a new process with what is kept in home()."""
        MEMORY.clear()
        spec = replace(read_model_directory(self.model)[0], name="tiny", folder=None)
        fetch(spec)
        with suppress(ActionClipError):  # of what was recorded at first use it says every time that it is another
            verify(spec)
        return ActionClip(self.model, threads=1).classify(FRAMES, LABELS).probabilities

    def faults(self, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], object], *, bank: bool) -> list[str]:
        """What is wrong after damage to a copy of the home, which has its label bank or, to run the text graph, not."""
        shutil.rmtree(home())
        shutil.copytree(self.home, home())
        damage(home())
        found = []
        for run, has_bank, most in (("first", bank, 1), ("next", True, 0), ("without a bank", False, 0)):
            if not has_bank:
                (home() / LABEL_BANK).unlink(missing_ok=True)
            caplog.clear()
            said = []
            try:
                if not np.array_equal(self.run(), self.answer):
                    found.append(f"{run}: another answer")
            except ActionClipError as error:
                said.append(str(error))
            said += caplog.messages
            if len(said) > most or any("\n" in text for text in said):
                found.append(f"{run}: {said}")
        return found


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clean]:
    folder = tmp_path_factory.mktemp("clean")
    models = []
    for seed in (1, 2):
        # A weight that is large enough to be kept in a file of its own.
        words = np.random.default_rng(seed).normal(size=(20_000, WIDTH)).astype(np.float32)
        model = replace(random_model(seed, 4, True), words=words)
        models.append(save_model(model, folder / str(seed), frames=4, prompts=["{}", "a video of {}"]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACTION_CLIP_HOME", str(folder / "home"))
        shutil.copytree(models[0], folder / "home" / "tiny")
        graph = models[0] / "text.onnx"
        earlier = {graph.name: hashlib.sha256(graph.read_bytes()).hexdigest()}
        (folder / "home" / "tiny" / "sha256.json").write_text(json.dumps(earlier))
        made = Clean(folder / "home", models[0], models[1], np.empty(0))
        ActionClip(models[1], threads=1).classify(FRAMES, LABELS)
        yield replace(made, answer=made.run())


def cut(path: Path, _: Path, *, left: int) -> None:
    os.truncate(path, left)


def write(path: Path, _: Path, *, at: int, content: bytes) -> None:
    with path.open("rb+") as file:
        file.seek(at)
        file.write(content)


def flip(path: Path, _: Path, *, at: int, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1 << bit
    path.write_bytes(content)


def swap(path: Path, other: Path) -> None:
    content, others = path.read_bytes(), other.read_bytes()
    path.write_bytes(others)
    other.write_bytes(content)


def make_folder(path: Path, _: Path) -> None:
    path.unlink()
    path.mkdir()


def damages(size: int) -> dict[str, Damage]:
    """What can be wrong with a file of that size."""
    rng = np.random.default_rng(size)
    found: dict[str, Damage] = {
        "missing": lambda path, _: path.unlink(),
        "a folder": make_folder,
        "another's": lambda path, other: shutil.copy(other, path) if other != path else None,
        "swapped": swap,
        "longer": partial(write, at=size, content=b"more"),
        "zeroed": partial(write, at=0, content=bytes(size)),
    }
    for left in (0, 1, size // 4, size // 2, size - 1):
        found[f"cut to {left}"] = partial(cut, left=left)
    for at in (0, size // 2, max(size - PAGE, 0)):
        found[f"page at {at} zeroed"] = partial(write, at=at, content=bytes(min(PAGE, size - at)))
    for at in (*rng.integers(size, size=6), *rng.integers(min(size, READ), size=12)):
        bit = int(rng.integers(8))
        found[f"bit {bit} of byte {at} flipped"] = partial(flip, at=int(at), bit=bit)
    return found


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name != KEPT[0])) for name in KEPT],
)
def test_a_damaged_file_changes_no_answer(clean: Clean, caplog: pytest.LogCaptureFixture, name: str) -> None:
    path, other = clean.find(name, clean.model), clean.find(name, clean.other)
    wrong = {}
    for what, damage in damages((clean.home / path).stat().st_size).items():

        def apply(root: Path, damage: Damage = damage) -> None:
            damage(root / path, root / other)

        if found := clean.faults(caplog, apply, bank=name == LABEL_BANK):
            wrong[what] = found
    assert wrong == {}


def rename(path: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    path.rename(target)


def empty(path: Path) -> None:
    for file in path.iterdir():
        file.unlink()


@pytest.mark.parametrize("role", ["text", "image", "fusion"])
def test_a_folder_of_another_kind_changes_no_answer(clean: Clean, caplog: pytest.LogCaptureFixture, role: str) -> None:
    path, other = (clean.find(f"{role}/graph.onnx", model).parent for model in (clean.model, clean.other))
    layout = int(path.name.rpartition("-")[2])
    older = path.with_name(f"{path.name.rpartition('-')[0]}-{layout - 1}")

    def be_older(root: Path) -> None:
        """As the last version made it, which had no seal."""
        (root / path / "seal.txt").unlink()
        (root / path / "graph.onnx").write_bytes((root / other / "graph.onnx").read_bytes())

    kinds: dict[str, Callable[[Path], object]] = {
        "another graph's": lambda root: rename(root / other, root / path),
        "an older layout": lambda root: rename(root / path, root / older),
        "an older layout under the new name": be_older,
        "empty": lambda root: empty(root / path),
        "missing": lambda root: shutil.rmtree(root / path),
    }
    wrong = {kind: found for kind, damage in kinds.items() if (found := clean.faults(caplog, damage, bank=False))}
    assert wrong == {}


@pytest.mark.slow
def test_a_command_after_damage(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "action_clip.py"), "--model", "nano", "--format", "json"]
    command += ["-t", "eating", "-t", "juggling"]

    def run(*, has_banks: bool = False) -> tuple[Any, list[str]]:
        for bank in () if has_banks else (LABEL_BANK, VIDEO_BANK):
            (home() / bank).unlink(missing_ok=True)
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120)
        return json.loads(done.stdout)["predictions"], without_notice(done.stderr).splitlines()

    expected, said = run()
    assert said == []
    # Before onnxruntime 1.21, the third is there too, and empty.
    optimised = [path for path in (home() / "optimised").glob("*/weights.bin") if path.stat().st_size]
    assert len(optimised) == 2
    for weights in optimised:
        weights.write_bytes(bytes(weights.stat().st_size))
    answer, said = run()
    assert answer == expected
    assert len(said) == len(optimised)
    assert all("was damaged, and is made anew" in line for line in said)
    assert run(has_banks=True) == (expected, [])
    assert run() == (expected, [])
