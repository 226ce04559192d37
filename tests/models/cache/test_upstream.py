"""Rows are chosen early where nobody reads the others, and never where that would change the answer."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from kept_graphs import after_choice, kept_graph
from numpy.typing import NDArray
from onnx import numpy_helper, parser
from onnxruntime.quantization import QuantType, quantize_dynamic

from action_clip.models.runtime.graph import Graph

SEQUENCES, LENGTH, WIDTH = 3, 5, 16
RNG = np.random.default_rng(7)
CONSTANTS: dict[str, NDArray[Any]] = {
    "zero": np.array(0),
    "one": np.array(1),
    "three": np.array(3),
    "two": np.array([1, 3]),
    "axis_0": np.array([0]),
    "axis_1": np.array([1]),
    "axis_2": np.array([2]),
    "alpha": np.array(1.702, np.float32),
    "scale": RNG.normal(size=WIDTH).astype(np.float32),
    "shift": RNG.normal(size=WIDTH).astype(np.float32),
    "bias": RNG.normal(size=4 * WIDTH).astype(np.float32),
    "to": RNG.normal(size=(WIDTH, 4 * WIDTH)).astype(np.float32),
    "back": RNG.normal(size=(4 * WIDTH, WIDTH)).astype(np.float32) / 8,
    "square": RNG.normal(size=(WIDTH, WIDTH)).astype(np.float32) / 4,
    "mixing": RNG.normal(size=(LENGTH, LENGTH)).astype(np.float32),
    "narrow": RNG.normal(size=(WIDTH, LENGTH)).astype(np.float32),
    "stack": RNG.normal(size=(1, WIDTH, WIDTH)).astype(np.float32) / 4,
    "places": RNG.normal(size=(LENGTH, WIDTH)).astype(np.float32),
    "places_each": RNG.normal(size=(LENGTH, WIDTH, WIDTH)).astype(np.float32) / 4,
}
# The end of a transformer: r is what the attention has made of x, and the perceptron makes rows of it.
PERCEPTRON = """
    r = MatMul(mixing, x)
    n = LayerNormalization<axis=-1>(r, scale, shift)
    h = MatMul(n, to)
    b = Add(bias, h)
    t = Mul(b, alpha)
    s = Sigmoid(t)
    g = Mul(b, s)
    o = MatMul(g, back)
    rows = Add(r, o)
"""
CLASS_TOKEN = "y = Gather<axis=1>(rows, zero)"
# The row of the largest number in the first column.
LARGEST = """
    column = Gather<axis=2>(x, zero)
    largest = ArgMax<axis=1, keepdims=0>(column)
    row = Unsqueeze(largest, axis_1)
    count = Shape<start=0, end=1>(x)
    length = Squeeze(count)
    numbers = Range(zero, length, one)
    sequence = Unsqueeze(numbers, axis_1)
    pairs = Concat<axis=1>(sequence, row)
    y = GatherND(rows, pairs)
"""
# The mean over the sequences, (1, L, W), is added to each.
WITH_MEAN = """
    p = MatMul(x, square)
    mean = ReduceMean(x, axis_0)
    sum = Add(p, mean)
    rows = MatMul(sum, square)
"""
BODIES = {
    # How many products only the chosen rows go through.
    "the class token": (PERCEPTRON + CLASS_TOKEN, 2),
    "another token": (PERCEPTRON + "y = Gather<axis=1>(rows, three)", 2),
    "the largest token": (PERCEPTRON + LARGEST, 2),
    "a choice after a choice": (PERCEPTRON + "z = Gather<axis=1>(rows, zero) y = Gather<axis=1>(z, two)", 2),
    "the residual is read elsewhere": (PERCEPTRON + CLASS_TOKEN + "y2 = ReduceMean(r, axis_1)", 2),
    "from the input on": ("h = MatMul(x, to) rows = MatMul(h, back)" + CLASS_TOKEN, 2),
    "normalised between products": (
        "p = MatMul(x, square) m = LayerNormalization<axis=-1>(p, scale, shift) rows = MatMul(m, square)" + CLASS_TOKEN,
        2,
    ),
    "normalised between products, counting from the first axis": (
        "p = MatMul(x, square) m = LayerNormalization<axis=2>(p, scale, shift) rows = MatMul(m, square)" + CLASS_TOKEN,
        1,
    ),
    "a stack of one matrix": ("p = MatMul(x, stack) rows = MatMul(p, square)" + CLASS_TOKEN, 1),
    "each sequence mixes its own rows": (
        "w = MatMul(x, narrow) p = MatMul(w, x) rows = MatMul(p, square)" + CLASS_TOKEN,
        1,
    ),
    "rows are mixed between products": (
        "p = MatMul(x, square) m = MatMul(mixing, p) rows = MatMul(m, square)" + CLASS_TOKEN,
        1,
    ),
    "each row has a matrix of its own": (
        "p = MatMul(x, square) i = Unsqueeze(p, axis_2) q = MatMul(i, places_each) j = Squeeze(q, axis_2) "
        "rows = MatMul(j, square)" + CLASS_TOKEN,
        1,
    ),
    "rows are normalised together": (
        "p = MatMul(x, square) m = LayerNormalization<axis=1>(p, places) rows = MatMul(m, square)" + CLASS_TOKEN,
        1,
    ),
    "each row has a bias of its own": (PERCEPTRON.replace("rows =", "z =") + "rows = Add(z, places)" + CLASS_TOKEN, 0),
    "each row has a bias of its own, inside": (
        "p = MatMul(x, square) q = Mul(places, p) rows = MatMul(q, square)" + CLASS_TOKEN,
        1,
    ),
    "a mean over the sequences": (WITH_MEAN + CLASS_TOKEN, 2),
    "a mean over the sequences, the largest token": (WITH_MEAN + LARGEST, 1),
    "all rows are read": (PERCEPTRON + CLASS_TOKEN + "y2 = ReduceMean(rows, axis_1)", 0),
    "all rows are read inside": (PERCEPTRON + CLASS_TOKEN + "y2 = ReduceMean(g, axis_1)", 1),
    "all rows are an output": ((PERCEPTRON + CLASS_TOKEN).replace("rows", "y2"), 0),
    "two tokens": (PERCEPTRON + "y = Gather<axis=1>(rows, two)", 0),
    "two choices": (PERCEPTRON + "i = Gather<axis=1>(rows, zero) j = Gather<axis=1>(rows, three) y = Add(i, j)", 0),
    "a column": (PERCEPTRON + "y = Gather<axis=2>(rows, three)", 0),
    "a sequence": (PERCEPTRON + "y = Gather<axis=0>(rows, one)", 0),
    "numbers": (PERCEPTRON + LARGEST.replace("Concat<axis=1>(sequence,", "Concat<axis=1>(sequence, row,"), 0),
    "rows weigh upon each other": (
        PERCEPTRON.replace("rows =", "z =") + "rows = Softmax<axis=1>(z)" + CLASS_TOKEN,
        0,
    ),
    "read by a condition": (
        PERCEPTRON + CLASS_TOKEN + "any = ReduceMax<keepdims=0>(x) is = Greater(any, alpha)"
        "y2 = If(is) <then_branch = a () => (float[N, L, V] a1) { a1 = Sigmoid(g) }, "
        "else_branch = b () => (float[N, L, V] b1) { b1 = Relu(g) }>",
        0,
    ),
}


def save(body: str, path: Path, *, length: str = str(LENGTH), with_shapes: bool = True) -> Path:
    outputs = "float[A, B] y" + (", float[C, D, E] y2" if "y2" in body else "")
    graph = parser.parse_graph(f"tower (float[N, {length}, {WIDTH}] x) => ({outputs}) {{ {body} }}")
    for output in graph.output:
        output.type.tensor_type.ClearField("shape")
    used = {name for node in graph.node for name in node.input}
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in CONSTANTS.items() if name in used)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    if with_shapes:
        model = onnx.shape_inference.infer_shapes(model)
    for value in model.graph.value_info:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param.startswith("unk_"):  # a name that shape inference has given to "?"
                dim.Clear()
    onnx.save(model, path)
    return path


def products_after_the_choice() -> int:
    """In the graph that is kept."""
    graph = kept_graph()
    chosen, products = after_choice(node for node in graph.node if "column" not in node.output)
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in graph.value_info}
    assert {ranks[name] for name in chosen if name in ranks} <= {1, 2}  # what the file says of itself is still right
    return len(products)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("case", BODIES)
def test_rows_that_nobody_reads(tmp_path: Path, case: str, precision: str) -> None:
    body, expected = BODIES[case]
    path = save(body, tmp_path / "tower.onnx")
    if precision == "int8":
        # With all 8 bits, what processors without VNNI add up in 16 bits may overflow, and the answer be any.
        quantize_dynamic(path, path, weight_type=QuantType.QInt8, reduce_range=True)
    rows = np.random.default_rng(2).normal(size=(SEQUENCES, LENGTH, WIDTH)).astype(np.float32)
    count = 2 if "y2" in body else 1

    plain = Graph(path).outputs(rows, count)
    for _ in range(2):
        outputs = Graph(path, keep=True).outputs(rows, count)
        # int8 rounds by the largest of what is multiplied, which is that of fewer rows: 1.3 % of the largest value at
        # most. Another row, or one made of other values, is as far away as the values are large.
        for output, wanted in zip(outputs, plain, strict=True):
            bound = 1e-5 if precision == "fp32" else 0.05 * np.abs(wanted).max()
            np.testing.assert_allclose(output, wanted, rtol=0, atol=bound)
    assert products_after_the_choice() == expected


@pytest.mark.parametrize("unknown", [{"with_shapes": False}, {"length": "?"}])
def test_nothing_is_assumed_where_shapes_are_not_written_down(tmp_path: Path, unknown: dict[str, Any]) -> None:
    path = save("h = MatMul(x, to) rows = MatMul(h, back)" + CLASS_TOKEN, tmp_path / "tower.onnx", **unknown)
    rows = np.random.default_rng(2).normal(size=(SEQUENCES, LENGTH, WIDTH)).astype(np.float32)
    np.testing.assert_allclose(Graph(path, keep=True)(rows), Graph(path)(rows), rtol=0, atol=1e-5)
    assert products_after_the_choice() == 0
