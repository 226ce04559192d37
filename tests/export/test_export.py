"""The exporter as it is typed: what it writes says what PyTorch says, and what does not say it is not written."""

import contextlib
import hashlib
import io
import json
import logging
import math
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from export_once import made_once
from numpy.typing import NDArray
from onnx import numpy_helper
from random_checkpoints import Sizes, fusion_state, openai_state
from small_exports import (
    MEAN,
    SMALL,
    STD,
    by_hand,
    difference_rows,
    first_layers,
    node_row,
    small,
    unit,
)
from torch.export import Dim

import action_clip
from action_clip import ActionClip
from action_clip.commands.samples import SAMPLE_LABELS, SAMPLE_VIDEO
from action_clip.export.choices import PRECISIONS, Bound
from action_clip.export.clip.assemble import Networks, assemble
from action_clip.export.clip.checkpoints import read_checkpoint
from action_clip.export.clip.model import ClipModel
from action_clip.export.command import main
from action_clip.export.graphs import to_onnx
from action_clip.export.precision import run
from action_clip.models.catalog.specs import ROLES
from action_clip.models.store.home import home
from action_clip.tokenizer.prompts import DEFAULT_PROMPTS, read_labels

ROOT = Path(__file__).parents[2]
START, END = 49406, 49407


@dataclass(frozen=True)
class Case:
    """A random checkpoint, how it is exported, and what can be told of it beforehand."""

    sizes: Sizes
    fusion: str | None
    """None: a CLIP that was never trained on video."""
    frames: int
    temporal: str | None = None
    arguments: tuple[str, ...] = ()

    def checkpoint(self, seed: int = 0) -> dict[str, Any]:
        """What torch.save writes of it."""
        clip = openai_state(self.sizes, seed)
        if self.fusion is None:
            return clip
        if self.temporal == "shift":
            blocks = r"^(visual\.transformer\.resblocks\.\d+)\."
            clip = {re.sub(blocks, r"\1.net.", name): value for name, value in clip.items()}
        elif self.temporal == "joint":
            numbers = torch.Generator().manual_seed(7)
            clip["visual.time_embedding"] = torch.randn(self.frames, self.sizes.width, generator=numbers)
        fusion = first_layers(fusion_state(self.fusion, self.sizes.embedding, frames=self.frames), 2)
        return {"epoch": 1, "model_state_dict": clip, "fusion_model_state_dict": fusion}


CASES = {
    "Transf": Case(
        Sizes(image_size=48, layers=2, text_width=128, text_layers=1), "Transf", 8, arguments=("--licence", "ours")
    ),
    "LSTM": Case(
        Sizes(patch=8, width=64, layers=1, text_layers=2, embedding=48),
        "LSTM", 5, arguments=("--frames", "5", "--fusion", "LSTM"),
    ),
    "Transf_cls": Case(Sizes(image_size=64, patch=32, layers=1, text_layers=1, embedding=32), "Transf_cls", 4),
    "shift": Case(
        Sizes(image_size=56, patch=14, width=192, layers=2, text_layers=1, embedding=40),
        "Conv_1D", 6, "shift", ("--frames", "6"),
    ),
    "joint": Case(Sizes(image_size=28, patch=14, layers=1, text_layers=1, embedding=24), "meanP", 3, "joint"),
    "CLIP": Case(Sizes(layers=2, text_layers=1, embedding=80), None, 8, arguments=("--activation", "gelu")),
}  # fmt: skip
GELU = "CLIP"
QUICK = ("Transf", GELU)


def with_cases(*names: str) -> pytest.MarkDecorator:
    """Parametrise a test by the names of cases; those that are not exported for other tests anyway are slow."""
    slow = {name: [] if name in QUICK else [pytest.mark.slow] for name in names}
    return pytest.mark.parametrize("name", [pytest.param(name, marks=marks) for name, marks in slow.items()])


every_case = with_cases(*CASES)


@dataclass(frozen=True)
class Exported:
    """A case after its export."""

    case: Case
    checkpoint: Path
    folder: Path
    printed: str

    def networks(self) -> Networks:
        activation = "gelu" if self.case.fusion is None else None
        return assemble(read_checkpoint(self.checkpoint), frames=self.case.frames, activation=activation)

    def graph(self, role: str) -> onnx.ModelProto:
        return onnx.load(self.folder / f"{role}.onnx")

    def session(self, role: str) -> onnxruntime.InferenceSession:
        return onnxruntime.InferenceSession(self.folder / f"{role}.onnx", providers=["CPUExecutionProvider"])


Exports = Callable[[str], Exported]


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Exports:
    """The cases, each exported when it is first requested."""

    @cache
    def export(name: str) -> Exported:
        case = CASES[name]

        def fill(place: Path) -> None:
            folder = place / name
            torch.save(case.checkpoint(), place / "checkpoint.pt")
            if case.fusion is not None:
                folder.mkdir()
                (folder / "notes.txt").write_text("mine")
                (folder / "text.onnx").write_text("an older one")
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                assert main([str(place / "checkpoint.pt"), "--out", str(folder), *case.arguments]) == 0
            assert {path.name for path in place.iterdir()} == {"checkpoint.pt", name}
            (place / "printed.txt").write_text(printed.getvalue(), "utf-8")

        place = made_once(tmp_path_factory, f"clip-{name}", fill)
        return Exported(case, place / "checkpoint.pt", place / name, (place / "printed.txt").read_text("utf-8"))

    return export


def random_tokens(rows: int, length: int) -> NDArray[np.int64]:
    """Texts of 3 to `length` tokens, the first one of all."""
    rng = np.random.default_rng(rows * 100 + length)
    tokens = np.zeros((rows, length), np.int64)
    for row in tokens:
        end = length if row is tokens[0] else rng.integers(3, length + 1)
        row[0] = START
        row[1:end] = rng.integers(1, START, end - 1)
        row[end - 1] = END
    tokens[0, -1] = END
    return tokens


def other_inputs(case: Case) -> dict[str, list[NDArray[Any]]]:
    """Inputs of each graph in other sizes than those it was exported and compared with."""
    rng = np.random.default_rng(0)
    side = case.sizes.image_size
    batches = (1, 5, 40) if case.temporal is None else (case.frames, 3 * case.frames)
    lengths = [case.frames] if case.fusion == "Transf_cls" else [case.frames, 1, 2, 20]
    return {
        "text": [random_tokens(*shape) for shape in ((1, 3), (5, 20), (40, 77), (2, 5), (1, 77))],
        "image": [rng.normal(size=(rows, 3, side, side)).astype(np.float32) for rows in batches],
        "fusion": [
            rng.normal(size=(rows, length, case.sizes.embedding)).astype(np.float32)
            for rows in (1, 5, 40)
            for length in lengths
        ],
    }


@every_case
def test_graphs_say_what_pytorch_says(exports: Exports, name: str) -> None:
    exported = exports(name)
    networks = exported.networks()
    for role, values in other_inputs(exported.case).items():
        session, network = exported.session(role), ClipModel(networks).networks[role]
        for value in values:
            found = session.run(None, {session.get_inputs()[0].name: value})[0]
            with torch.no_grad():
                expected = network(torch.from_numpy(value)).numpy()
            assert found.shape == expected.shape == (len(value), exported.case.sizes.embedding)
            difference = np.abs(unit(found) - unit(expected)).max()
            assert difference < 1e-5, f"{role} {value.shape}: {difference}"
            # Rows are told apart, or nothing would be shown by their being equal.
            if len(value) > exported.case.frames:
                assert np.abs(unit(found)[0] - unit(found)[-1]).max() > 1e-2


@every_case
def test_the_program_says_what_pytorch_says(exports: Exports, name: str) -> None:
    exported = exports(name)
    case = exported.case
    labels = read_labels(SAMPLE_LABELS)
    found = ActionClip(exported.folder).classify(SAMPLE_VIDEO, labels)
    side = case.sizes.image_size
    resize, scale = (side, math.exp(4.5)) if case.fusion is None else (side * 256 // 224, 100.0)
    expected = by_hand(exported.networks(), labels, resize, scale)
    assert np.abs(found.probabilities - expected).max() < 1e-4
    assert expected.max() > 1.5 / len(labels)
    assert len(found.frame_indices) == case.frames


@every_case
def test_metadata(exports: Exports, name: str) -> None:
    exported = exports(name)
    case, side = exported.case, exported.case.sizes.image_size
    is_clip = case.fusion is None
    expected = {
        "model": name,
        "frames": case.frames,
        "image_size": side,
        "resize": side if is_clip else side * 256 // 224,
        "mean": list(MEAN),
        "std": list(STD),
        "uniform": "segments",
        "prompts": list(DEFAULT_PROMPTS),
        "logit_scale": pytest.approx(math.exp(4.5)) if is_clip else 100.0,
        "licence": "ours" if name == "Transf" else "not stated",
        "precision": "fp32",
        "fusion": case.fusion or "meanP",
        "activation": "gelu" if is_clip else "quickgelu",
        "checkpoint": "CLIP state dict" if is_clip else "ActionCLIP",
        "checkpoint_sha256": hashlib.sha256(exported.checkpoint.read_bytes()).hexdigest(),
        "exporter": f"action_clip {action_clip.__version__}",
    }
    if name in ("shift", "joint"):
        expected["temporal"] = name
    numbers = ("frames", "image_size", "resize", "mean", "std", "prompts", "logit_scale")
    for role in ROLES["zero-shot"]:
        found = {entry.key: entry.value for entry in exported.graph(role).metadata_props}
        assert found.pop("role") == role
        assert {key: json.loads(value) if key in numbers else value for key, value in found.items()} == expected


def axes(value: onnx.ValueInfoProto) -> tuple[str | int, ...]:
    """Sizes, those that are free by their names."""
    return tuple(dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim)


@every_case
def test_graphs_are_standard_and_their_sizes_free(exports: Exports, name: str) -> None:
    exported = exports(name)
    case, side, embedding = exported.case, exported.case.sizes.image_size, exported.case.sizes.embedding
    rows = "batch" if case.temporal is None else f"{case.frames}*clips"
    length = case.frames if case.fusion == "Transf_cls" else "frames"
    expected: dict[str, tuple[str, int, tuple[str | int, ...]]] = {
        "text": ("tokens", onnx.TensorProto.INT64, ("batch", "length")),
        "image": ("frames", onnx.TensorProto.FLOAT, (rows, 3, side, side)),
        "fusion": ("frame_features", onnx.TensorProto.FLOAT, ("batch", length, embedding)),
    }
    for role in ROLES["zero-shot"]:
        model = exported.graph(role)
        assert [(entry.domain, entry.version >= 17) for entry in model.opset_import] == [("", True)]
        assert {node.domain for node in model.graph.node} == {""}
        assert len(model.functions) == 0
        (given,), (made,) = model.graph.input, model.graph.output
        assert (given.name, given.type.tensor_type.elem_type, axes(given)) == expected[role]
        assert (made.name, axes(made)[1]) == ("features", embedding)
        assert isinstance(axes(made)[0], str)
        # Where in which file a node comes from, and on which machine, is nobody's business.
        assert str(ROOT).encode() not in model.SerializeToString()


def products(graph: onnx.GraphProto, width: int) -> list[tuple[str | int, ...]]:
    """The shapes of what the layers' matrices are multiplied with, in the order in which they run."""
    weights = {weight.name: tuple(weight.dims) for weight in graph.initializer}
    shapes = {value.name: axes(value) for value in graph.value_info}
    return [
        shapes[node.input[0]]
        for node in graph.node
        if node.op_type == "MatMul" and width in weights.get(node.input[1], ())
    ]


@pytest.mark.parametrize("role", ["text", "image"])
@every_case
def test_the_last_block_computes_only_the_position_that_is_read(exports: Exports, name: str, role: str) -> None:
    exported = exports(name)
    sizes = exported.case.sizes
    width, layers = (sizes.text_width, sizes.text_layers) if role == "text" else (sizes.width, sizes.layers)
    graph = onnx.shape_inference.infer_shapes(exported.graph(role), data_prop=True).graph
    found = [shape[1] == 1 for shape in products(graph, width) if len(shape) == 3]
    # Six of each block: queries, keys and values in any order, then the output of attention and the two of the MLP.
    assert len(found) == 6 * layers
    last = found[-6:]
    assert not any(found[:-6])
    assert (sum(last[:3]), last[3:]) == (1, [True] * 3)
    if role == "text":
        norm = next(
            node for node in graph.node if node.op_type == "LayerNormalization" and "ln_final.weight" in node.input
        )
        assert axes(next(value for value in graph.value_info if value.name == norm.input[0]))[1:] == (width,)


def test_only_the_graphs_are_replaced(exports: Exports) -> None:
    folder = exports("Transf").folder
    assert sorted(path.name for path in folder.iterdir()) == ["fusion.onnx", "image.onnx", "notes.txt", "text.onnx"]
    assert (folder / "notes.txt").read_text() == "mine"
    new = exports(GELU).folder
    assert sorted(path.name for path in new.iterdir()) == ["fusion.onnx", "image.onnx", "text.onnx"]


@pytest.mark.slow
def test_tokens_may_be_int32(exports: Exports) -> None:
    exported = exports("Transf")
    free = {0: Dim("batch", max=65536), 1: Dim("length", max=77)}
    model = to_onnx(exported.networks().text, "tokens", torch.zeros(2, 8, dtype=torch.int32), free)
    onnx.checker.check_model(model, full_check=True)
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.INT32
    for rows, length in ((5, 20), (1, 3), (40, 77)):
        tokens = random_tokens(rows, length)
        np.testing.assert_array_equal(run(model, tokens.astype(np.int32)), run(exported.graph("text"), tokens))


@pytest.mark.parametrize(("name", "activations"), [("Transf", ["QuickGelu"]), (GELU, ["Gelu", "BiasGelu", "FastGelu"])])
def test_onnxruntimes_optimiser_knows_the_layout(
    exports: Exports, tmp_path: Path, name: str, activations: list[str]
) -> None:
    optimizer = pytest.importorskip("onnxruntime.transformers.optimizer")
    exported = exports(name)
    sizes = exported.case.sizes
    fused = optimizer.optimize_model(
        str(exported.folder / "image.onnx"),
        model_type="clip",
        num_heads=sizes.width // 64,
        hidden_size=sizes.width,
        opt_level=0,
    )
    kinds = Counter(node.op_type for node in fused.model.graph.node)
    # The last block attends from one position to all of them, which is not the self-attention that it recognises.
    assert kinds["Attention"] == sizes.layers - 1
    assert kinds["SkipLayerNormalization"] + kinds["LayerNormalization"] == 2 * sizes.layers + 2
    assert kinds["SkipLayerNormalization"] > sizes.layers
    assert sum(kinds[activation] for activation in activations) == sizes.layers
    assert kinds["Softmax"] == 1
    assert not {"Sigmoid", "Erf", "Tanh"} & kinds.keys()
    fused.save_model_to_file(str(tmp_path / "fused.onnx"))
    frames = other_inputs(exported.case)["image"][1]
    found = onnxruntime.InferenceSession(tmp_path / "fused.onnx").run(None, {"frames": frames})[0]
    np.testing.assert_allclose(unit(found), unit(run(exported.graph("image"), frames)), atol=1e-5)


@pytest.mark.usefixtures("unknown_videos")
@with_cases("Transf", "shift", "joint", GELU)
def test_graphs_that_are_kept_give_the_same_probabilities(exports: Exports, name: str) -> None:
    folder = exports(name).folder
    labels = read_labels(SAMPLE_LABELS)[:12]
    plain = ActionClip(folder, threads=1, cache=False).classify(SAMPLE_VIDEO, labels).probabilities
    for _ in range(2):
        kept = ActionClip(folder).classify(SAMPLE_VIDEO, labels).probabilities
        np.testing.assert_allclose(kept, plain, rtol=0, atol=1e-5)
    assert len(list((home() / "optimised").glob("*/graph.onnx"))) == 3
    assert plain.max() - plain.min() > 0.01


def test_the_table_of_nodes(exports: Exports) -> None:
    exported = exports("Transf")
    assert node_row(exported.printed, "QuickGelu") == [(0, 1), (0, 2), (0, 2)]
    assert node_row(exported.printed, "FusedMatMul") == [(0, 1), (0, 2), (0, 2)]
    assert node_row(exported.printed, "Sigmoid") == [(1, 0), (2, 0), (2, 0)]
    assert node_row(exported.printed, "LayerNormalization") == [(3, 3), (6, 6), (4, 4)]
    assert node_row(exported.printed, "Softmax") == [(1, 1), (2, 2), (2, 2)]
    before = [len(exported.graph(role).graph.node) for role in ROLES["zero-shot"]]
    assert [row[0] for row in node_row(exported.printed, "all")] == before
    assert all(after < before for before, after in node_row(exported.printed, "all"))
    gelu = exports(GELU).printed
    assert [row[0] for row in node_row(gelu, "Erf")] == [1, 2, 0]
    assert node_row(gelu, "BiasGelu") == [(0, 1), (0, 2), (0, 0)]
    assert node_row(gelu, "FusedMatMul") == [(0, 1), (0, 2), (0, 0)]


@pytest.mark.parametrize(
    ("name", "images", "fusions"),
    [
        ("Transf", [3, 8, 16, 1], [(1, 8), (3, 8), (2, 3)]),
        pytest.param("shift", [6, 12], [(1, 6), (3, 6), (2, 3)], marks=pytest.mark.slow),
        pytest.param("Transf_cls", [3, 4, 8, 1], [(1, 4), (3, 4)], marks=pytest.mark.slow),
    ],
)
def test_the_table_of_differences(
    exports: Exports, name: str, images: list[int], fusions: list[tuple[int, int]]
) -> None:
    exported = exports(name)
    (most, *others) = difference_rows(exported.printed)
    # 4 labels in 16 prompts, up to the longest.
    assert (most[:2], most[2] in range(10, 20)) == (("text", 64), True)
    assert [row[:3] for row in others] == [
        ("text", 1, 3),
        ("text", 3, 77),
        *(("image", rows, None) for rows in images),
        *(("fusion", *sizes) for sizes in fusions),
    ]
    lines = re.findall(r"^(?:text|image|fusion) ", exported.printed, re.MULTILINE)
    assert len(lines) == 1 + len(others)
    for row in (most, *others):
        assert 0 <= row[3] < 1e-5
        assert row[4] > 0.999999
        assert not row[5]
    assert any(row[3] > 0 for row in others)
    assert exported.printed.endswith(f"\nwrote {exported.folder}: action-clip --model {exported.folder} --video …\n")


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


@pytest.mark.slow
def test_what_differs_is_not_written(
    exports: Exports, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    # Numbers that float16 does not have: all of the projection becomes zero.
    tiny = openai_state(SMALL)["text_projection"] * 1e-9
    checkpoint = small(tmp_path / "tiny.pt", text_projection=tiny)
    good = tmp_path / "good"
    shutil.copytree(exports("Transf").folder, good)
    before = contents(good)
    assert main([str(checkpoint), "--precision", "fp16", "--out", str(good)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "the text graph differs from PyTorch by more than fp16 allows (max |Δ| below 0.01, cosine at least 0.9999): "
        "try another precision\n"
    )
    rows = difference_rows(caplog.messages[-1])
    assert len(rows) == 10
    assert all(row[5] == (row[0] == "text") for row in rows)
    assert contents(good) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["good", "tiny.pt"]


def checked(folder: Path, checkpoint: Path) -> int:
    return main(["--check", str(folder), "--against", str(checkpoint)])


@with_cases("Transf", "joint", GELU)
def test_check_says_the_same_again(
    exports: Exports, name: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    exported = exports(name)
    before = contents(exported.folder)
    assert checked(exported.folder, exported.checkpoint) == 0
    captured = capsys.readouterr()
    assert difference_rows(captured.out) == difference_rows(exported.printed)
    assert captured.out.strip() in exported.printed
    assert captured.err == ""
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert contents(exported.folder) == before


@pytest.mark.parametrize(("difference", "cosine"), [(1e-12, 0.5), (1.0, 1.0 + 1e-12)])
def test_each_bound_holds(
    exports: Exports,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    difference: float,
    cosine: float,
) -> None:
    exported = exports("Transf")
    monkeypatch.setitem(PRECISIONS, "fp32", Bound(difference, cosine))
    capsys.readouterr()
    assert checked(exported.folder, exported.checkpoint) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("the fusion and the image and the text graph differ from PyTorch by more than fp32")
    rows = difference_rows(caplog.messages[-1])
    assert len(rows) == 10
    assert all(row[5] for row in rows)


def test_check_notices_a_changed_graph(
    exports: Exports, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    exported = exports("Transf")
    folder = tmp_path / "changed"
    shutil.copytree(exported.folder, folder)
    model = onnx.load(folder / "image.onnx")
    weight = next(tensor for tensor in model.graph.initializer if tensor.name.endswith("resblocks.1.ln_2.bias"))
    changed = numpy_helper.to_array(weight).copy()
    changed[3] += 0.01
    weight.CopyFrom(numpy_helper.from_array(changed, weight.name))
    onnx.save(model, folder / "image.onnx")
    assert checked(folder, exported.checkpoint) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("the image graph differs from PyTorch by more than fp32 allows (max |Δ| below 1e-05")
    assert {row[0] for row in difference_rows(caplog.messages[-1]) if row[5]} == {"image"}


def test_check_against_another_checkpoint(
    exports: Exports, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    exported = exports("Transf")
    folder, other = exported.folder, tmp_path / "other.pt"
    torch.save(exported.case.checkpoint(seed=5), other)
    assert checked(folder, other) == 1
    assert "the image and the text graph differ from PyTorch" in capsys.readouterr().err
    differ = f"{folder} was exported from another file than {other}: their sha256 differ"
    assert differ in caplog.messages
    # The same weights in another file, as after saving them again.
    caplog.clear()
    torch.save({**exported.case.checkpoint(), "epoch": 50}, other)
    assert checked(folder, other) == 0
    assert differ in caplog.messages
    assert difference_rows(capsys.readouterr().out) == difference_rows(exported.printed)


@pytest.mark.parametrize(("size", "role"), [({"image_size": 64}, "image"), ({"embedding": 48}, "fusion")])
def test_check_against_a_checkpoint_of_another_size(
    exports: Exports, tmp_path: Path, capsys: pytest.CaptureFixture[str], size: dict[str, int], role: str
) -> None:
    exported = exports("Transf")
    other = tmp_path / "other.pt"
    torch.save(replace(exported.case, sizes=replace(exported.case.sizes, **size)).checkpoint(), other)
    assert checked(exported.folder, other) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(f"the graph {exported.folder / role}.onnx cannot be run on what the checkpoint take")
    assert captured.err.count("\n") == 1


def test_check_of_what_cannot_be_checked(exports: Exports, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exported = exports("Transf")
    nano = ROOT / "models" / "nano"
    damaged = tmp_path / "damaged"
    shutil.copytree(exported.folder, damaged)
    # Its metadata is as it was, its weights are not there.
    model = onnx.load(damaged / "text.onnx")
    del model.graph.initializer[:]
    onnx.save(model, damaged / "text.onnx")
    for folder, checkpoint, sentence in (
        (tmp_path, exported.checkpoint, f"{tmp_path} is not a model: no graph in it says that it is the text or the"),
        (tmp_path / "absent", exported.checkpoint, f"{tmp_path / 'absent'} is not a model: no graph in it"),
        (nano, exported.checkpoint, f"{nano} does not say its precision: only what action-clip export wrote can be"),
        (exported.folder, tmp_path / "absent.pt", f"there is no checkpoint {tmp_path / 'absent.pt'}"),
        (damaged, exported.checkpoint, f"the graph {damaged / 'text.onnx'} cannot be run"),
    ):
        assert checked(folder, checkpoint) == 1
        captured = capsys.readouterr()
        assert captured.err.startswith(sentence)
        assert (captured.err.count("\n"), captured.out) == (1, "")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "give a checkpoint, a name of the catalog, or nano"),
        (["--precision", "fp16", "--out", "x"], "give a checkpoint, a name of the catalog, or nano"),
        (["clip.pt"], "--out FOLDER is needed: where the graphs go, such as --out clip"),
        (["runs/mine.v2.pt"], "--out FOLDER is needed: where the graphs go, such as --out mine.v2"),
        (["clip.pt", "--out", "x", "--precision", "fp8"], "argument --precision: invalid choice: 'fp8'"),
        (["clip.pt", "--out", "x", "--fusion", "Transformer"], "argument --fusion: invalid choice: 'Transformer'"),
        (["clip.pt", "--out", "x", "--frames", "0"], "--frames must be from 1 to 1024"),
        (["clip.pt", "--out", "x", "--frames", "1025"], "--frames must be from 1 to 1024"),
        (["clip.pt", "--out", "x", "--frames", "eight"], "argument --frames: invalid int value: 'eight'"),
        (["--check", "x"], "--check needs --against CHECKPOINT"),
        (["--against", "clip.pt"], "--against belongs to --check"),
        (["clip.pt", "--out", "x", "--against", "clip.pt"], "--against belongs to --check"),
        (["clip.pt", "--check", "x", "--against", "clip.pt"], "leave out source: --check reads what is there"),
        (["--check", "x", "--against", "clip.pt", "--out", "y"], "leave out --out: --check reads what is there"),
        (["--check", "x", "--against", "clip.pt", "--precision", "int8"], "leave out --precision: --check reads"),
        (["--check", "x", "--against", "clip.pt", "--frames", "4"], "leave out --frames: --check reads"),
        (["vit-32-8f"], "vit-32-8f needs no export: action-clip --model vit-32-8f uses it as it is"),
        (["clip_vit_b32", "--out", "x"], "vit-32-8f needs no export"),
        (["--precision", "fp16", "nano"], "nano needs no export"),
        (["vit-b-16-8f", "--fusion", "Transf"], "leave out --fusion: the catalog says it of vit-b-16-8f"),
        (["clip_vit_b16", "--frames", "8"], "leave out --frames: the catalog says it of vit-b-16-8f"),
        (["clip-vit-b-32", "--activation", "quickgelu"], "leave out --activation: the catalog says it of clip-vit-b"),
        (["clip-vit-b-32", "--licence", "MIT"], "leave out --licence: the catalog says it of clip-vit-b-32"),
    ],
)
def test_wrong_arguments(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"action-clip export: error: {sentence}")
    assert list(tmp_path.iterdir()) == []


def test_help_needs_no_pytorch() -> None:
    code = (
        "import sys, runpy\n"
        "sys.argv[1:] = ['--help']\n"
        "try:\n"
        "    runpy.run_module('export', run_name='__main__', alter_sys=True)\n"
        "finally:\n"
        "    heavy = {'torch', 'onnx', 'onnxruntime', 'onnxscript', 'safetensors'} & set(sys.modules)\n"
        "    print('loaded:', sorted(heavy))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert "loaded: []" in done.stdout
    assert "--precision {fp32,fp16,int8}" in done.stdout
    said = " ".join(done.stdout.split())
    assert all(
        name in said for name in ("vit-b-16-8f", "clip-vit-b-32", "official ActionCLIP", "export nano` rebuilds")
    )


@pytest.mark.parametrize(
    ("command", "facts"),
    [("timesformer", ["Hugging Face TimesformerForVideoClassification"]), ("nano", ["--wordnet", "default: 800"])],
)
def test_each_command_has_its_own_help(capsys: pytest.CaptureFixture[str], command: str, facts: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    help_text = " ".join(capsys.readouterr().out.split())
    assert help_text.startswith(f"usage: action-clip export {command} [-h]")
    assert all(fact in help_text for fact in facts)


@pytest.mark.parametrize("out", ["foreign", "file", "no/parent"])
def test_where_nothing_can_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str], out: str) -> None:
    sentences = {
        "foreign": f"{tmp_path / 'foreign'} already holds decoder.onnx, encoder.onnx: name a folder of its own\n",
        "file": f"{tmp_path / 'file'} is a file: name a folder\n",
        "no/parent": f"there is no folder {tmp_path / 'no'}: create it first\n",
    }
    (tmp_path / "foreign").mkdir()
    for name in ("foreign/encoder.onnx", "foreign/decoder.onnx", "foreign/text.onnx", "file"):
        (tmp_path / name).write_text("mine")
    # Whether it could be written is asked first: the checkpoint is not even looked for.
    assert main([str(tmp_path / "clip.pt"), "--out", str(tmp_path / out)]) == 1
    assert capsys.readouterr() == ("", sentences[out])
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert files == ["file", "foreign/decoder.onnx", "foreign/encoder.onnx", "foreign/text.onnx"]


@pytest.mark.parametrize("arguments", [["clip.pt", "--out", "long" * 100], ["nano", "--wordnet", "long" * 100]])
def test_names_that_no_disk_has(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert main(arguments) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert re.fullmatch(r"\S+ cannot be read or written \(.+\): name another one\n|there is no .+\n", output.err)


def test_a_checkpoint_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "clip.pt"), "--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err == (
        f"there is no checkpoint {tmp_path / 'clip.pt'}: give a file, a folder or a name of the catalog\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there, signals are not sent so")
def test_an_interrupted_export_leaves_nothing(tmp_path: Path) -> None:
    checkpoint = small(tmp_path / "clip.pt")
    process = subprocess.Popen(
        [sys.executable, "-m", "export", str(checkpoint), "--out", str(tmp_path / "out")],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    seen = iter(process.stderr.readline, "")
    assert any("exporting the image graph" in line for line in seen)
    assert any(path.name.startswith(".export-") for path in tmp_path.iterdir())
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["clip.pt"]
