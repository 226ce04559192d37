"""How weights and facts are kept in an ONNX file."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.helper import make_node, set_model_props

from files import write_file

# Smaller tensors are not worth the node that unpacks them.
_SMALLEST = 1 << 10
# Below this many numbers int8 saves little and costs much: EfficientNet's narrow first layers suffer most from it.
_SMALLEST_INT8 = 1 << 16


def pack_weights(model: onnx.ModelProto) -> None:
    """Store the float32 matrices of a model as int8 with one scale a channel, small ones as float16, in place.

    Nodes that onnxruntime folds away when it loads the graph unpack them: the file is almost four times smaller and the
    run as fast as before. Tables behind a Gather stay packed, only the rows that are looked up are unpacked.
    """
    graph = model.graph
    uses: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            uses.setdefault(name, []).append(node)
    kept: list[onnx.TensorProto] = []
    nodes: list[onnx.NodeProto] = []
    tables: set[str] = set()
    for weight in graph.initializer:
        users, count = uses.get(weight.name, []), np.prod(weight.dims)
        if weight.data_type != onnx.TensorProto.FLOAT or len(weight.dims) < 2 or count < _SMALLEST:
            kept.append(weight)
            continue
        values = numpy_helper.to_array(weight)
        if count < _SMALLEST_INT8:
            kept.append(numpy_helper.from_array(values.astype(np.float16), weight.name + ".half"))
            nodes.append(_cast(weight.name + ".half", weight.name))
            continue
        is_table = all(user.op_type == "Gather" and user.input[0] == weight.name for user in users)
        axis = 0 if is_table or users[0].op_type == "Conv" or _is_transposed(users[0]) else values.ndim - 1
        packed, scale = quantize(values, axis)
        kept += [
            numpy_helper.from_array(packed, weight.name + ".int8"),
            numpy_helper.from_array(scale, weight.name + ".scale"),
        ]
        if is_table:
            tables.add(weight.name)
        else:
            nodes += _unpack(weight.name, weight.name + ".int8", weight.name + ".scale")
    for node in graph.node:
        is_lookup = node.op_type == "Gather" and node.input[0] in tables
        nodes += _unpack_rows(node, node.input[0]) if is_lookup else [node]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    del graph.node[:]
    graph.node.extend(nodes)


def quantize(values: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round to -127…127 with one scale for each index of `axis`: values ≈ packed · scale (broadcast)."""
    others = tuple(i for i in range(values.ndim) if i != axis)
    largest = np.abs(values).max(axis=others, keepdims=True)
    scale = (np.where(largest > 0, largest, 1) / 127).astype(np.float32)
    return np.rint(values / scale).astype(np.int8), scale


def save_model(model: onnx.ModelProto, path: Path, facts: Mapping[str, str]) -> None:
    """Check the model and write it with `facts` as its metadata, whole or not at all."""
    set_model_props(model, dict(facts))
    onnx.checker.check_model(model, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, model.SerializeToString())


def _is_transposed(node: onnx.NodeProto) -> bool:
    return node.op_type == "Gemm" and any(a.name == "transB" and a.i for a in node.attribute)


def _cast(packed: str, output: str) -> onnx.NodeProto:
    return make_node("Cast", [packed], [output], to=onnx.TensorProto.FLOAT)


def _unpack(output: str, packed: str, scale: str) -> list[onnx.NodeProto]:
    return [_cast(packed, output + ".float"), make_node("Mul", [output + ".float", scale], [output])]


def _unpack_rows(gather: onnx.NodeProto, table: str) -> list[onnx.NodeProto]:
    output, index = gather.output[0], gather.input[1]
    return [
        make_node("Gather", [table + ".int8", index], [output + ".int8"], axis=0),
        make_node("Gather", [table + ".scale", index], [output + ".scale"], axis=0),
        *_unpack(output, output + ".int8", output + ".scale"),
    ]
