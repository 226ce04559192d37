"""Graphs in half precision for GPUs: operators fused by onnxruntime's optimiser for transformers, outputs compared.

onnx and sympy, which the optimiser needs, are imported when such a graph is made, and not before.
"""

import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from action_clip.models.runtime.devices import CPU, CUDA
from action_clip.models.runtime.sessions import SessionError, make_session, session_options

if TYPE_CHECKING:
    import onnx

FORM = "cuda-fp16"
"""The name of this form of a graph, in the session cache and in keys of features."""
_PACKAGES = ("onnx", "sympy")
# What the optimiser fuses operators of a transformer to.
_FUSED = {"Attention", "QuickGelu", "Gelu", "BiasGelu", "SkipLayerNormalization"}
# Operators of graphs with int8 products, which no GPU runs in half precision.
_INT8 = {"DynamicQuantizeLinear", "QuantizeLinear", "MatMulInteger", "ConvInteger", "QLinearMatMul", "QLinearConv"}
# Types of the attributes of a Constant that hold numbers, not a tensor.
_CONSTANTS = {"value_int": np.int64, "value_ints": np.int64, "value_float": np.float32, "value_floats": np.float32}
# The least cosine of each output to that of the graph as it is, on the CPU.
_LEAST_COSINE = 0.999
_TEXTS = ("a photo of action riding a bicycle", "eating")
_FRAMES = 8


class HalfError(Exception):
    """A graph cannot be used in half precision; the text says why."""


def runs_in_half(provider: str) -> bool:
    """Return whether graphs are brought to half precision for this provider: on CUDA, with the optimiser's packages."""
    return provider == CUDA and not _missing()


def half_graph(path: Path, provider: str, group: int) -> bytes:
    """Return the graph at `path` in half precision, as the bytes of an ONNX file; its outputs stay in float32.

    Args:
        path: the ONNX file, which `check_graph` has accepted.
        provider: the provider that the outputs are computed on, to be compared with those of the graph at `path`.
        group: how many consecutive rows have to be in the same run.

    Raises:
        HalfError: packages are missing, nothing is fused, or the outputs differ from those of the graph at `path`.
    """
    if missing := _missing():
        raise HalfError(f"pip install {' '.join(missing)} makes it several times as fast")
    content = _converted(path)
    try:
        cosine = _least_cosine(path, content, provider, group)
    except Exception as error:  # whatever onnxruntime raises
        raise HalfError(f"it cannot be compared ({SessionError(error)})") from error
    if not cosine >= _LEAST_COSINE:  # nor for NaN
        raise HalfError(f"its outputs would differ, with a cosine of {cosine:.4f}")
    return content


def _missing() -> list[str]:
    return [name for name in _PACKAGES if find_spec(name) is None]


def _converted(path: Path) -> bytes:
    try:
        model = fused(path)
        model.convert_float_to_float16(keep_io_types=[output.name for output in model.model.graph.output])
        content: bytes = model.model.SerializeToString()
    except HalfError:
        raise
    except Exception as error:  # whatever onnx and the optimiser raise
        raise HalfError(f"onnxruntime's optimiser fails ({SessionError(error)})") from error
    return content


def fused(path: Path) -> Any:
    """Return the graph at `path` with fused operators, in float32, as the optimiser's OnnxModel.

    Raises HalfError where nothing can be fused, and whatever onnx and the optimiser raise.
    """
    import onnx

    model = onnx.load(path)
    if _INT8.intersection(node.op_type for node in model.graph.node):
        raise HalfError("its products are in int8, which are for CPUs: use graphs in fp32 or fp16")
    _fold_weights(model.graph)
    heads, width = attention_size(model.graph)
    if not heads:
        raise HalfError("it has no attention that could be fused")
    with _optimiser() as optimize_model:
        result = optimize_model(model, "clip", num_heads=heads, hidden_size=width, opt_level=0, use_gpu=True)
    if not _FUSED.intersection(node.op_type for node in result.model.graph.node):
        raise HalfError("onnxruntime's optimiser fuses nothing in it")
    return result


def _fold_weights(graph: "onnx.GraphProto") -> None:
    """Replace Constants, and Casts of float16 weights to float32, by weights, which the optimiser looks for."""
    from onnx import TensorProto, numpy_helper
    from onnx.helper import get_attribute_value

    packed = {weight.name: weight for weight in graph.initializer if weight.data_type == TensorProto.FLOAT16}
    nodes = []
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in packed and node.attribute[0].i == TensorProto.FLOAT:
            value = numpy_helper.to_array(packed[node.input[0]]).astype(np.float32)
        elif node.op_type == "Constant" and node.attribute[0].name in _CONSTANTS:
            value = np.array(get_attribute_value(node.attribute[0]), _CONSTANTS[node.attribute[0].name])
        else:
            nodes.append(node)
            continue
        graph.initializer.append(numpy_helper.from_array(value, node.output[0]))
    used = {name for node in nodes for name in node.input}
    weights = [weight for weight in graph.initializer if weight.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(weights)


def attention_size(graph: "onnx.GraphProto") -> tuple[int, int]:
    """Return the number of attention heads and the width of all together; (0, 0) where the graph has no attention.

    Queries, keys and values are reshaped to (…, heads, width of a head), and then the heads put before the sequence.
    """
    turned = {
        node.input[0]
        for node in graph.node
        if node.op_type == "Transpose" and [list(a.ints) for a in node.attribute] == [[0, 2, 1, 3]]
    }
    shape_of = _known_shapes(graph)
    sizes = Counter(
        shape[-2:]
        for node in graph.node
        if node.op_type == "Reshape" and node.output[0] in turned
        for shape in [shape_of(node.input[1])]
        if len(shape) > 1 and min(shape[-2:]) > 0
    )
    if not sizes:
        return 0, 0
    ((heads, width),) = (size for size, _ in sizes.most_common(1))
    return heads, heads * width


def _known_shapes(graph: "onnx.GraphProto") -> "Callable[[str], tuple[int, ...]]":
    """Return a function from the name of a shape to its sizes; 0 for those that are computed."""
    from onnx import numpy_helper

    constants = {weight.name: weight for weight in graph.initializer if len(weight.dims) <= 1}
    parts = {node.output[0]: list(node.input) for node in graph.node if node.op_type == "Concat"}

    def sizes(name: str) -> tuple[int, ...]:
        if name in constants:
            return tuple(int(size) for size in numpy_helper.to_array(constants[name]).ravel())
        return tuple(size for part in parts[name] for size in sizes(part)) if name in parts else (0,)

    return sizes


@contextmanager
def _optimiser() -> Iterator[Any]:
    """Yield onnxruntime's `optimize_model`. It says nothing, and sys.path is as it was before, afterwards."""
    before = list(sys.path)
    root = os.path.dirname(onnxruntime.__file__)
    folders = os.path.join(root, "transformers"), os.path.join(root, "tools")
    # The modules in them import each other by their bare names.
    sys.path += [folder for folder in folders if folder not in before]
    try:
        module = import_module("onnxruntime.transformers.optimizer")
        import_module("shape_infer_helper")
        for name, loaded in list(sys.modules.items()):
            if str(getattr(loaded, "__file__", "")).startswith(folders):
                logging.getLogger(name).setLevel(logging.CRITICAL)
                vars(loaded)["print"] = lambda *_, **__: None
        yield module.optimize_model
    finally:
        sys.path[:] = [entry for entry in sys.path if entry in before]


def _least_cosine(path: Path, content: bytes, provider: str, group: int) -> float:
    """Return the least cosine of the rows of all outputs of both graphs, for the same input."""
    reference = _session(path, CPU)
    (declared,) = reference.get_inputs()
    rows = _example(declared, group)
    pairs = zip(_outputs(reference, rows), _outputs(_session(content, provider), rows), strict=True)
    return float(np.min([_cosines(first, second).min() for first, second in pairs]))  # NaN where one of them is


def _session(graph: Path | bytes, provider: str) -> onnxruntime.InferenceSession:
    options = session_options()
    options.log_severity_level = 4
    return make_session(graph, options, provider)


def _outputs(session: onnxruntime.InferenceSession, rows: NDArray[Any]) -> list[NDArray[Any]]:
    (declared,) = session.get_inputs()
    if declared.type == "tensor(float16)":
        rows = rows.astype(np.float16)
    elif declared.type == "tensor(int32)":
        rows = rows.astype(np.int32)
    outputs: list[NDArray[Any]] = session.run(None, {declared.name: rows})
    return outputs


def _example(declared: Any, group: int) -> NDArray[Any]:
    """Return a fixed input in the shape that a graph declares: tokens of two texts, or the numbers of two groups."""
    sizes = [size if isinstance(size, int) and size > 0 else None for size in declared.shape]
    if "int" in declared.type:
        from action_clip.tokenizer.bpe import default_tokenizer

        tokens = default_tokenizer().encode(_TEXTS)
        length = sizes[1] or int(tokens.argmax(axis=1).max()) + 1
        return np.resize(tokens[:, :length], (sizes[0] or len(_TEXTS), length))
    shape = [sizes[0] or 2 * group, *(size or _FRAMES for size in sizes[1:])]
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def _cosines(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.float64]:
    """Return the cosine of each pair of rows, (N,), of two arrays (N, …)."""
    one, other = (rows.reshape(len(rows), -1).astype(np.float64) for rows in (first, second))
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    cosines: NDArray[np.float64] = (one * other).sum(axis=1) / lengths
    return cosines
