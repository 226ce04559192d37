"""Models of the catalog, exported by their names: the checkpoint is downloaded, compared, exported and kept."""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from fault_server import FaultServer
from random_checkpoints import Sizes, fusion_state, openai_state, prefixed
from small_exports import (
    FULL_IMAGE,
    by_hand,
    command,
    difference_rows,
    first_layers,
    probabilities,
    small,
)

from action_clip import ActionClip
from action_clip.commands.samples import SAMPLE_LABELS, SAMPLE_VIDEO
from action_clip.export.clip.assemble import assemble
from action_clip.export.clip.checkpoints import read_checkpoint
from action_clip.export.command import main
from action_clip.models.catalog.metadata import read_metadata
from action_clip.models.catalog.specs import ROLES, ModelSpec, find
from action_clip.tokenizer.prompts import read_labels


@dataclass
class Mirror:
    """The hosts of the catalog's checkpoints, on this machine."""

    server: FaultServer
    home: Path

    def add(self, name: str, checkpoint: Path) -> ModelSpec:
        """Serve a file as the checkpoint of that model."""
        spec = find(name)
        assert spec is not None
        assert spec.checkpoint is not None
        self.server.add(urlsplit(spec.checkpoint.url or "").path, checkpoint.read_bytes())
        return spec

    def asked(self) -> list[str]:
        return [path.rpartition("/")[2] for path, _ in self.server.requests]


@pytest.fixture
def mirror(_own_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with FaultServer() as server:
        monkeypatch.setenv("ACTION_CLIP_MIRROR", server.url)
        yield Mirror(server, _own_home)


def mmaction2(path: Path, sizes: Sizes, frames: int = 8) -> Path:
    """A checkpoint as mmaction2 writes them."""
    fusion = first_layers(fusion_state("Transf", sizes.embedding, positions=frames), 1)
    state = {**prefixed(openai_state(sizes), "clip."), **prefixed(fusion, "adapter.")}
    torch.save({"meta": {"epoch": 50}, "state_dict": state}, path)
    return path


@pytest.mark.slow
def test_a_model_of_the_catalog(tmp_path: Path, mirror: Mirror, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = mmaction2(tmp_path / "small.pth", FULL_IMAGE)
    spec = mirror.add("vit-b-16-8f", checkpoint)
    folder = mirror.home / spec.name
    ask = ("--model", spec.name, "--format", "json", "--top-k", "100")
    assert command(capsys, *ask) == (
        1,
        "",
        "action_clip: error: the graphs of vit-b-16-8f are not on this disk yet: run action-clip export vit-b-16-8f "
        "once (it needs pip install 'action-clip[export]', in a clone '.[export]'), "
        "or use --model nano, which needs no download\n",
    )
    assert not folder.exists()

    assert main(["clip_vit_b16"]) == 0
    printed = capsys.readouterr().out
    assert len(difference_rows(printed)) == 10
    assert printed.endswith("\ninstalled vit-b-16-8f: action-clip --model vit-b-16-8f --video …\n")
    files = [".lock", "fusion.onnx", "image.onnx", "text.onnx", "vit-b-16-8f.pth"]
    assert sorted(path.name for path in folder.iterdir()) == files
    code, answer, err = command(capsys, *ask)
    assert (code, err) == (0, "")
    assert json.loads(answer)["model"] == "vit-b-16-8f"
    expected = by_hand(assemble(read_checkpoint(checkpoint)), read_labels(SAMPLE_LABELS), 256, 100.0)
    assert np.abs(probabilities(answer) - expected).max() < 1e-4
    code, alias, _ = command(capsys, "--model", "clip_vit_b16", *ask[2:])
    assert (code, json.loads(alias)["model"]) == (0, spec.name)
    np.testing.assert_array_equal(probabilities(alias), probabilities(answer))
    assert re.search(r"vit-b-16-8f, clip_vit_b16 +8 +674 MB +yes ", command(capsys, "--list-models")[1])
    code, verified, _ = command(capsys, "--verify", "--model", spec.name)
    assert (code, verified.count("equal to first use")) == (0, 3)
    metadata = read_metadata(folder / "image.onnx")
    assert (metadata["model"], metadata["licence"], metadata["resize"]) == (spec.name, spec.licence, "256")
    assert (metadata["checkpoint"], metadata["precision"]) == ("mmaction2 ActionCLIP", "fp32")
    assert metadata["uniform"] == "midpoints"

    # Again, in another precision: the checkpoint is there, and the graphs take the place of those before.
    size = (folder / "text.onnx").stat().st_size
    assert main([spec.name, "--precision", "fp16"]) == 0
    assert mirror.asked() == ["vit-b-16-8f.pth"]
    assert sorted(path.name for path in folder.iterdir()) == files
    assert (folder / "text.onnx").stat().st_size < 0.51 * size
    assert {read_metadata(folder / f"{role}.onnx")["precision"] for role in ROLES["zero-shot"]} == {"fp16"}
    code, verified, _ = command(capsys, "--verify", "--model", spec.name)
    assert (code, verified.count("equal to first use")) == (0, 3)
    code, halved, _ = command(capsys, *ask)
    assert code == 0
    assert 0 < np.abs(probabilities(halved) - expected).max() < 0.05


@pytest.mark.slow
def test_a_model_of_the_catalog_somewhere_else(
    tmp_path: Path, mirror: Mirror, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = mirror.add("vit-b-16-16f", mmaction2(tmp_path / "small.pth", FULL_IMAGE, frames=16))
    out = tmp_path / "mine"
    assert main([spec.name, "--out", str(out)]) == 0
    assert capsys.readouterr().out.endswith(f"\ninstalled vit-b-16-16f: action-clip --model {out} --video …\n")
    assert sorted(path.name for path in out.iterdir()) == ["fusion.onnx", "image.onnx", "text.onnx"]
    assert not (mirror.home / spec.name / "image.onnx").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "small.pth"]
    answer = ActionClip(out).classify(SAMPLE_VIDEO, ["eating", "surfing"])
    assert (answer.model, len(answer.frame_indices)) == ("vit-b-16-16f", 16)


@pytest.mark.parametrize(
    ("sizes", "frames", "sentence"),
    [
        (Sizes(image_size=112, patch=56), 8, "takes images of 112 pixels, the catalog says 224: delete it to download"),
        (FULL_IMAGE, 4, "the checkpoint has positions for 4 frames"),
    ],
)
def test_a_checkpoint_that_is_not_what_the_catalog_says(
    tmp_path: Path, mirror: Mirror, capsys: pytest.CaptureFixture[str], sizes: Sizes, frames: int, sentence: str
) -> None:
    spec = mirror.add("vit-b-32-8f", mmaction2(tmp_path / "small.pth", sizes, frames))
    assert main([spec.name]) == 1
    captured = capsys.readouterr()
    assert sentence in captured.err
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    names = sorted(path.name for path in (mirror.home / spec.name).iterdir())
    assert names == [".lock", "vit-b-32-8f.pth"]


def test_a_checkpoint_of_another_sha256(tmp_path: Path, mirror: Mirror, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = small(tmp_path / "clip.pt", sizes=FULL_IMAGE)
    spec = mirror.add("clip-vit-b-32", checkpoint)
    assert spec.checkpoint is not None
    assert main([spec.name]) == 1
    found = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert f"the file's sha256 is {found} instead of {spec.checkpoint.sha256}" in capsys.readouterr().err
    assert [path.name for path in (mirror.home / spec.name).iterdir()] == [".lock"]
    # As if it had been put there by hand.
    shutil.copy(checkpoint, mirror.home / spec.name / spec.checkpoint.name)
    assert main([spec.name]) == 1
    assert f"has the sha256 {found} instead of the catalog's {spec.checkpoint.sha256}" in capsys.readouterr().err
    assert not list((mirror.home / spec.name).glob("*.onnx"))
