"""Everything under ACTION_CLIP_HOME: whatever is in it, the answer is that of a clean home, or a sentence."""

import hashlib
import shutil
import tempfile
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from small_models import WIDTH, random_model, save_model

import action_clip.models.store.download
from action_clip import ActionClip
from action_clip.errors import ActionClipError
from action_clip.models.cache.feature_memory import MEMORY
from action_clip.models.catalog.model_directory import read_model_directory
from action_clip.models.catalog.specs import ModelSpec
from action_clip.models.store.installation import fetch
from action_clip.models.store.resumable import ResumableFile
from action_clip.models.store.verification import verify

LABELS = ["eating", "drinking", "reading a book"]
NAME = "tiny"
# Nobody listens there: what has not arrived does not.
MIRROR = "http://127.0.0.1:9"


def seeds() -> list[bytes]:
    """What the program itself writes: a byte that says into which file, then what is in it."""
    names = _files()
    return [bytes([number]) + (_clean() / "home" / name).read_bytes() for number, name in enumerate(names)]


def target(data: bytes) -> None:
    """Write the file, and use all that is there.

    Raises ActionClipError; anything else it raises is a fault.
    """
    name = _files()[data[0] % len(_files())] if data else _files()[0]
    with tempfile.TemporaryDirectory() as folder:
        home = Path(shutil.copytree(_clean() / "home", Path(folder, "home")))
        (home / name).write_bytes(data[1:])
        with _at(home):
            with suppress(ActionClipError):
                answer = _answer()
                if not np.allclose(answer, _right_answer(), rtol=0, atol=1e-5):
                    raise AssertionError(f"the answer is {answer}, and should be {_right_answer()}")
            with suppress(ActionClipError):
                verify(_spec())
            graph = home / NAME / "text.onnx"
            graph.unlink()
            fetch(_spec())  # makes it of the part that is there
            if graph.read_bytes() != _right_graph():
                raise AssertionError("a part that was damaged has become a graph")


def _answer() -> NDArray[np.float64]:
    frames = np.random.default_rng(0).integers(0, 256, (4, 40, 48, 3), dtype=np.uint8)
    MEMORY.clear()
    return ActionClip(_clean() / "model", threads=1).classify(frames, LABELS).probabilities


def _right_graph() -> bytes:
    return (_clean() / "model" / "text.onnx").read_bytes()


@cache
def _right_answer() -> NDArray[np.float64]:
    with _at(_clean() / "home"):
        return _answer()


@cache
def _files() -> tuple[str, ...]:
    """What is in a home that was used, and where a download was broken off."""
    home = _clean() / "home"
    shutil.copytree(_clean() / "model", home / NAME)
    _right_answer()
    with _at(home):
        fetch(_spec())
    part = ResumableFile(home / NAME / "text.onnx", f"{MIRROR}/text.onnx")
    part.path.write_bytes(_right_graph())
    digest = hashlib.md5(_right_graph(), usedforsecurity=False).digest()
    part.start('"one"', len(_right_graph()), [b64encode(digest).decode("ascii")])
    return tuple(sorted(path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()))


@cache
def _spec() -> ModelSpec:
    """The model as one of a catalog."""
    spec, _ = read_model_directory(_clean() / "model")
    files = tuple(replace(file, url=f"https://models.example/{file.name}") for file in spec.files)
    return replace(spec, name=NAME, folder=None, files=files)


def _clean() -> Path:
    return Path(_folder().name)


@cache
def _folder() -> "tempfile.TemporaryDirectory[str]":
    """With a model of which one weight is large enough to be kept in a file of its own."""
    folder = tempfile.TemporaryDirectory(prefix="action_clip_fuzz_")
    words = np.random.default_rng(1).normal(size=(20_000, WIDTH)).astype(np.float32)
    model = replace(random_model(1, 4, True), words=words)
    save_model(model, Path(folder.name, "model"), frames=4, prompts=["{}", "a video of {}"])
    return folder


@contextmanager
def _at(home: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACTION_CLIP_HOME", str(home))
        patch.delenv("ACTION_CLIP_OFFLINE", raising=False)
        patch.setenv("ACTION_CLIP_MIRROR", MIRROR)
        patch.setattr(action_clip.models.store.download, "pause", lambda _: None)
        yield
