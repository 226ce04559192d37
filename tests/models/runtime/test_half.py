"""Graphs in half precision: what is fused, that outputs stay, and which graphs have no such form. All on the CPU."""

import logging
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, parser
from onnxruntime.quantization import QuantType, quantize_dynamic
from small_models import random_model, save_model
from small_transformers import HEADS, LAYERS, WIDTH, random_frames, save_transformer

from action_clip.models.runtime import half
from action_clip.models.runtime.devices import CPU, CUDA
from action_clip.models.runtime.half import HalfError, attention_size, fused, half_graph, runs_in_half

needs_sympy = pytest.mark.skipif(find_spec("sympy") is None, reason="sympy is not installed")
FRAMES = random_frames(3)
# Earlier versions of the optimiser fuse only the last kind in a graph without a mask.
FUSES_ATTENTION = tuple(map(int, onnxruntime.__version__.split(".")[:2])) >= (1, 31)
KINDS = {"Attention": LAYERS, "SkipLayerNormalization": 2 * LAYERS - 1} if FUSES_ATTENTION else {}
KINDS["QuickGelu"] = LAYERS


def run(graph: Path | bytes, rows: NDArray[Any]) -> NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(graph, options, providers=[CPU])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: rows})[0], dtype=np.float32)


def kinds(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


@needs_sympy
@pytest.mark.parametrize("packed", [False, True], ids=["fp32", "fp16 weights"])
@pytest.mark.parametrize("computed", [False, True], ids=["fixed shapes", "computed shapes"])
def test_operators_are_fused_and_outputs_stay(tmp_path: Path, packed: bool, computed: bool) -> None:
    path = save_transformer(tmp_path / "fusion.onnx", packed=packed, computed_shapes=computed)
    model = fused(path).model
    assert {kind: kinds(model)[kind] for kind in KINDS} == KINDS
    if FUSES_ATTENTION:
        assert {node.attribute[0].i for node in model.graph.node if node.op_type == "Attention"} == {HEADS}
        assert not {"Softmax", "Sigmoid", "Cast"} & set(kinds(model))
    np.testing.assert_allclose(run(model.SerializeToString(), FRAMES), run(path, FRAMES), rtol=0, atol=2e-5)


@needs_sympy
@pytest.mark.parametrize("packed", [False, True], ids=["fp32", "fp16 weights"])
def test_all_weights_and_the_input_become_half(tmp_path: Path, packed: bool) -> None:
    path = save_transformer(tmp_path / "fusion.onnx", packed=packed)
    content = half_graph(path, CPU, group=1)
    model = onnx.load_from_string(content)
    assert {kind: kinds(model)[kind] for kind in KINDS} == KINDS
    types = Counter(weight.data_type for weight in model.graph.initializer)
    assert types[TensorProto.FLOAT16] > 6 * LAYERS
    assert set(types) <= {TensorProto.FLOAT16, TensorProto.INT64}
    ends = [value.type.tensor_type.elem_type for value in (model.graph.input[0], model.graph.output[0])]
    assert ends == [TensorProto.FLOAT16, TensorProto.FLOAT]
    expected, found = run(path, FRAMES), run(content, FRAMES.astype(np.float16))
    assert (half._cosines(expected, found) > 0.9999).all()
    assert np.abs(expected - found).max() > 0


@needs_sympy
def test_a_text_graph_keeps_its_tokens(tmp_path: Path) -> None:
    """No attention is fused behind tokens here, which is no reason not to compare the rest."""
    path = save_model(random_model(1, 8, True), tmp_path, frames=8, tokens="int32", length=12, batch=3) / "text.onnx"
    (declared,) = onnxruntime.InferenceSession(path, providers=[CPU]).get_inputs()
    assert half._example(declared, 1).shape == (3, 12)
    assert half._least_cosine(path, path.read_bytes(), CPU, 1) == pytest.approx(1)


def test_the_input_that_is_compared_has_the_declared_shape(tmp_path: Path) -> None:
    folder = save_model(random_model(1, 8, True), tmp_path, frames=8)
    shapes = {}
    for role in ("text", "image", "fusion"):
        (declared,) = onnxruntime.InferenceSession(folder / f"{role}.onnx", providers=[CPU]).get_inputs()
        shapes[role] = half._example(declared, 8).shape
    text = shapes.pop("text")
    assert text[0] == 2
    assert 3 < text[1] < 77
    assert shapes == {"image": (16, 3, 32, 32), "fusion": (16, 8, 16)}


def test_the_size_of_attention_is_that_of_the_graph(tmp_path: Path) -> None:
    for computed in (False, True):
        graph = onnx.load(save_transformer(tmp_path / "fusion.onnx", computed_shapes=computed)).graph
        assert attention_size(graph) == (HEADS, WIDTH)
    assert attention_size(parser.parse_graph("g (float[N] x) => (float[N] y) { y = Add(x, x) }")) == (0, 0)


def test_graphs_without_attention_are_left_alone(tmp_path: Path) -> None:
    folder = save_model(random_model(1, 8, True), tmp_path, frames=8)
    with pytest.raises(HalfError, match="it has no attention that could be fused"):
        fused(folder / "image.onnx")


def test_graphs_in_int8_are_left_alone(tmp_path: Path) -> None:
    path = save_transformer(tmp_path / "fusion.onnx")
    quantize_dynamic(path, path, op_types_to_quantize=["MatMul"], weight_type=QuantType.QInt8)
    with pytest.raises(HalfError, match="its products are in int8, which are for CPUs"):
        fused(path)


@needs_sympy
def test_a_graph_beyond_the_range_of_half_precision_is_refused(tmp_path: Path) -> None:
    path = save_transformer(tmp_path / "fusion.onnx", largest=1e6)
    assert np.isfinite(run(path, FRAMES)).all()
    with pytest.raises(HalfError, match=r"its outputs would differ, with a cosine of "):
        half_graph(path, CPU, group=1)


@needs_sympy
def test_a_form_that_cannot_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_transformer(tmp_path / "fusion.onnx")
    monkeypatch.setattr(half, "_converted", lambda path: b"no graph")
    with pytest.raises(HalfError, match=r"it cannot be compared \(.*INVALID_PROTOBUF"):
        half_graph(path, CPU, group=1)


@needs_sympy
def test_an_optimiser_that_fails_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from onnxruntime.transformers import optimizer

    def failing(*_: object, **__: object) -> None:
        raise KeyError("Reshape_3")

    monkeypatch.setattr(optimizer, "optimize_model", failing)
    with pytest.raises(HalfError, match=r"onnxruntime's optimiser fails \('Reshape_3'\)"):
        half_graph(save_transformer(tmp_path / "fusion.onnx"), CPU, group=1)


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half, "_PACKAGES", ("numpy", "no_such_package"))
    assert not runs_in_half(CUDA)
    with pytest.raises(HalfError, match="pip install no_such_package makes it several times as fast"):
        half_graph(save_transformer(tmp_path / "fusion.onnx"), CPU, group=1)


def test_only_cuda_runs_in_half(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half, "_PACKAGES", ("numpy",))
    assert [runs_in_half(name) for name in (CPU, CUDA, "DmlExecutionProvider")] == [False, True, False]


@needs_sympy
def test_the_optimiser_says_nothing_and_leaves_the_path(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = [entry for entry in sys.path if "onnxruntime" not in entry]
    monkeypatch.setattr(sys, "path", list(before))
    path = save_transformer(tmp_path / "fusion.onnx")
    model = onnx.load(path)
    model.producer_name = "somebody"  # of which it would warn
    onnx.save(model, path)
    with caplog.at_level(logging.DEBUG):
        half_graph(path, CPU, group=1)
    assert sys.path == before
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert capfd.readouterr() == ("", "")
