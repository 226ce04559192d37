"""Writing ONNX files: packed weights and metadata."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.helper import make_node, set_model_props

from action_clip.models.catalog.specs import ModelSpec
from action_clip.system.files import write_file

# Least number of values in a tensor that is packed: smaller ones are not worth the node that unpacks them.
_SMALLEST = 1 << 10
# Least number of values in a tensor that is stored in int8: in smaller ones, such as EfficientNet's narrow first
# layers, it saves little and loses much.
_SMALLEST_INT8 = 1 << 16


def large_weights(model: onnx.ModelProto) -> set[str]:
    """Return the names of the weights that are large enough for int8."""
    return {weight.name for weight in model.graph.initializer if np.prod(weight.dims) >= _SMALLEST_INT8}


def tables(model: onnx.ModelProto) -> set[str]:
    """Return the names of the large weights that are lookup tables, of which Gather takes rows."""
    uses = _uses(model.graph)
    return {name for name in large_weights(model) if _is_table(name, uses.get(name, []))}


def pack_weights(model: onnx.ModelProto, int8: Collection[str]) -> None:
    """Store the float32 matrices named in `int8` as int8 with a scale for each channel, others as float16, in place.

    Nodes that onnxruntime folds away when it loads the graph unpack them: the file is two to four times smaller and the
    run as fast as before. Lookup tables stay packed, only the rows that Gather takes are unpacked. A weight beyond
    float16's range stays in float32.
    """
    graph = model.graph
    uses = _uses(graph)
    initializers: list[onnx.TensorProto] = []
    nodes: list[onnx.NodeProto] = []
    packed_tables: dict[str, list[str]] = {}
    for weight in graph.initializer:
        users = uses.get(weight.name, [])
        is_matrix = weight.data_type == onnx.TensorProto.FLOAT and len(weight.dims) >= 2
        if not (is_matrix and users and np.prod(weight.dims) >= _SMALLEST):
            initializers.append(weight)
            continue
        is_table = _is_table(weight.name, users)
        channels = 0 if is_table or users[0].op_type == "Conv" or _is_transposed(users[0]) else len(weight.dims) - 1
        packed = _as_int8(weight, channels) if weight.name in int8 else _as_float16(weight)
        initializers += packed
        names = [tensor.name for tensor in packed]
        if is_table:
            packed_tables[weight.name] = names
        elif names != [weight.name]:
            nodes += _unpack(weight.name, names)
    for node in graph.node:
        if node.op_type == "Gather" and node.input[0] in packed_tables:
            nodes += _unpack_rows(node, packed_tables[node.input[0]])
        else:
            nodes.append(node)
    del graph.initializer[:]
    graph.initializer.extend(initializers)
    del graph.node[:]
    graph.node.extend(nodes)


def quantize(
    values: NDArray[np.float32], axis: int, largest: int = 127
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return integers from -largest to largest, and a scale for each index of `axis`: values ≈ integers · scale."""
    others = tuple(i for i in range(values.ndim) if i != axis)
    extent = np.abs(values).max(axis=others, keepdims=True)
    scale = (np.where(extent > 0, extent, 1) / largest).astype(np.float32)
    return np.rint(values / scale).astype(np.int8), scale


def model_facts(spec: ModelSpec) -> dict[str, str]:
    """Return the metadata that all graphs of a model have in common. See docs/architecture.md."""
    values = {
        "frames": spec.frames,
        "image_size": spec.image_size,
        "resize": spec.resize,
        "mean": spec.mean,
        "std": spec.std,
        "uniform": spec.uniform,
    }
    if spec.kind == "zero-shot":
        values |= {"prompts": spec.prompts, "logit_scale": spec.logit_scale}
    else:
        values |= {"classes": spec.classes}
    facts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}
    return {"model": spec.name, "licence": spec.licence} | facts


def save_model(model: onnx.ModelProto, path: Path, facts: Mapping[str, str]) -> None:
    """Check the model and write it, with `facts` as its metadata, completely or not at all.

    Raises ActionClipError where it cannot be written.
    """
    set_model_props(model, dict(facts))
    onnx.checker.check_model(model, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, model.SerializeToString())


def _uses(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    """Return the nodes that have a tensor as an input, by the tensor's name."""
    uses: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            uses.setdefault(name, []).append(node)
    return uses


def _is_table(name: str, users: list[onnx.NodeProto]) -> bool:
    return all(user.op_type == "Gather" and user.input[0] == name for user in users)


def _is_transposed(node: onnx.NodeProto) -> bool:
    return node.op_type == "Gemm" and any(a.name == "transB" and a.i for a in node.attribute)


def _as_int8(weight: onnx.TensorProto, axis: int) -> list[onnx.TensorProto]:
    packed, scale = quantize(numpy_helper.to_array(weight), axis)
    return [
        numpy_helper.from_array(packed, weight.name + ".int8"),
        numpy_helper.from_array(scale, weight.name + ".scale"),
    ]


def _as_float16(weight: onnx.TensorProto) -> list[onnx.TensorProto]:
    values = numpy_helper.to_array(weight)
    if np.abs(values).max() > np.finfo(np.float16).max:
        return [weight]
    return [numpy_helper.from_array(values.astype(np.float16), weight.name + ".half")]


def _unpack(output: str, packed: list[str]) -> list[onnx.NodeProto]:
    """Return nodes that make a float32 tensor of a float16 one, or of an int8 one and its scale."""
    if len(packed) == 1:
        return [make_node("Cast", packed, [output], to=onnx.TensorProto.FLOAT)]
    values, scale = packed
    return [
        make_node("Cast", [values], [output + ".float"], to=onnx.TensorProto.FLOAT),
        make_node("Mul", [output + ".float", scale], [output]),
    ]


def _unpack_rows(gather: onnx.NodeProto, packed: list[str]) -> list[onnx.NodeProto]:
    (table, index), output = gather.input, gather.output[0]
    rows = [output + name.removeprefix(table) for name in packed]
    gathers = [make_node("Gather", [name, index], [row], axis=0) for name, row in zip(packed, rows, strict=True)]
    return [*gathers, *_unpack(output, rows)] if packed != [table] else [gather]
