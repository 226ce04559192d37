"""Converting a graph to a precision: fp32 as exported, weights in fp16, or multiplication in int8."""

import logging
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.helper import get_attribute_value, make_node, make_tensor_value_info
from tqdm import tqdm

from action_clip.export.onnx_writing import pack_weights, quantize, tables
from action_clip.models.runtime.sessions import session_options
from action_clip.system.files import draft_folder

_LOG = logging.getLogger("action_clip")


# The least cosine on the examples that int8 is tuned for; for other frames and texts it may be a little lower. It is
# higher for texts: matrices in float cost little there, since a label is encoded once and its features are cached.
_TARGET, _TEXT_TARGET = 0.997, 0.999
# Weights have seven bits: with eight, the 16-bit sums of processors without VNNI can overflow, with wrong results.
_LARGEST = 63


def to_precision(model: onnx.ModelProto, precision: str, example: NDArray[Any]) -> onnx.ModelProto:
    """Return the graph in a precision of choices.PRECISIONS; `model` may be changed.

    * fp16: weights are stored in half the bytes and unpacked when the graph is loaded; the run is in float32.
    * int8: matrices are multiplied in int8, weights with a scale for each column, activations with a scale for each
      tensor, determined at run time; a convolution over adjacent patches is such a product too. Other convolutions and
      the final projection stay in float, and so do the most sensitive of the other matrices, as few as `example` (an
      input of the graph: real frames or texts) permits. Lookup tables are stored in int8 with a scale for each row, all
      other weights in float16.
    """
    if precision == "int8":
        model = _quantized(model, example)
        pack_weights(model, tables(model))
    elif precision == "fp16":
        pack_weights(model, ())
    return model


def _quantized(model: onnx.ModelProto, example: NDArray[Any]) -> onnx.ModelProto:
    """Return the graph with int8 products, except the last matrix and the most sensitive ones, as few as possible."""
    patches_to_products(model)
    weights = {weight.name: weight for weight in model.graph.initializer}
    matrices = [
        node for node in model.graph.node if node.op_type == "MatMul" and len(_dims(weights, node.input[1])) == 2
    ]
    last = _last(model.graph)
    inner = [node for node in matrices if node.output[0] != last]
    # quantize_dynamic turns each Gemm, of which there are few near the end, into a MatMul of this name.
    always = [node.name for node in matrices if node not in inner]
    always += [f"{node.name}_MatMul" for node in model.graph.node if node.op_type == "Gemm"]
    if not inner:
        return model
    target = _TEXT_TARGET if np.issubdtype(example.dtype, np.integer) else _TARGET
    reference = run(model, example)
    in_float: list[str] = []
    losses: dict[str, float] = {}
    while True:
        candidate = _dynamic(model, [*always, *in_float])
        cosine = float(cosines(reference, run(candidate, example)).min())
        _LOG.info("int8 with %d of %d matrices in float: least cosine %.5f", len(in_float), len(inner), cosine)
        if cosine >= target or len(in_float) == len(inner):
            return candidate
        losses = losses or _losses(model, example, inner, weights)
        in_float = _most_sensitive(losses, target, more_than=len(in_float))


def patches_to_products(model: onnx.ModelProto) -> None:
    """Replace each convolution over adjacent patches by a product of the patches and a matrix, in place."""
    shapes = {value.name: value.type for value in [*model.graph.input, *model.graph.value_info]}
    weights = {weight.name: weight for weight in model.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        size = [dim.dim_value for dim in shapes[node.input[0]].tensor_type.shape.dim] if node.input[0] in shapes else []
        weight = weights.get(node.input[1]) if node.op_type == "Conv" else None
        if weight is not None and _is_patch_embedding(node, weight.dims, size):
            nodes += _patch_product(model.graph, node, numpy_helper.to_array(weight), size[2:])
        else:
            nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    for weight in list(model.graph.initializer):
        if weight.name not in used:
            model.graph.initializer.remove(weight)


def _is_patch_embedding(node: onnx.NodeProto, kernel: Sequence[int], size: Sequence[int]) -> bool:
    """Return whether a Conv's windows cover each pixel of images, (N, C, H, W), once; a `size` of 0 is not known."""
    values = {attribute.name: get_attribute_value(attribute) for attribute in node.attribute}
    return (
        len(kernel) == len(size) == 4
        and max(kernel[2:]) > 1  # patches, not single pixels
        and list(values.get("strides", ())) == list(kernel[2:])
        and values.get("group", 1) == 1
        and not any(values.get("pads", ()))
        and set(values.get("dilations", (1,))) == {1}
        and values.get("auto_pad", b"NOTSET") == b"NOTSET"
        and all(side > 0 and side % window == 0 for side, window in zip(size[2:], kernel[2:], strict=True))
    )


def _patch_product(
    graph: onnx.GraphProto, node: onnx.NodeProto, kernel: NDArray[np.float32], size: Sequence[int]
) -> list[onnx.NodeProto]:
    """Return the nodes that replace a Conv over patches.

    (N, C, H, W) → (N, patches, pixels of a patch) → (N, patches, outputs) → (N, outputs, H / P, W / P).
    """
    name = node.output[0]
    outputs, channels, height, width = kernel.shape
    rows, columns = size[0] // height, size[1] // width
    constants = {
        "matrix": np.ascontiguousarray(kernel.reshape(outputs, -1).T),
        "grid": np.array([-1, channels, rows, height, columns, width]),
        "rows": np.array([-1, rows * columns, channels * height * width]),
        "image": np.array([-1, outputs, rows, columns]),
    }
    graph.initializer.extend(numpy_helper.from_array(value, f"{name}.{key}") for key, value in constants.items())
    product = f"{name}.product"
    nodes = [
        make_node("Reshape", [node.input[0], f"{name}.grid"], [f"{name}.split"]),
        make_node("Transpose", [f"{name}.split"], [f"{name}.sorted"], perm=[0, 2, 4, 1, 3, 5]),
        make_node("Reshape", [f"{name}.sorted", f"{name}.rows"], [f"{name}.patches"]),
        make_node("MatMul", [f"{name}.patches", f"{name}.matrix"], [product], name=f"{node.name}.MatMul"),
    ]
    if len(node.input) > 2:
        nodes.append(make_node("Add", [product, node.input[2]], [f"{name}.biased"]))
    return [
        *nodes,
        make_node("Transpose", [nodes[-1].output[0]], [f"{name}.turned"], perm=[0, 2, 1]),
        make_node("Reshape", [f"{name}.turned", f"{name}.image"], [name]),
    ]


def _most_sensitive(losses: dict[str, float], target: float, more_than: int) -> list[str]:
    """Return more than `more_than` matrices to leave in float; the others' losses sum to 1 - `target` at most."""
    ranked = sorted(losses, key=lambda name: -losses[name])
    remaining = sum(losses.values())
    for count, name in enumerate(ranked):
        if count > more_than and remaining <= 1 - target:
            return ranked[:count]
        remaining -= losses[name]
    return ranked


def _last(graph: onnx.GraphProto) -> str:
    """Return the name of the final product's output, before a bias is added or its shape is changed."""
    producers = {name: node for node in graph.node for name in node.output}
    constants = {weight.name for weight in graph.initializer}
    name = str(graph.output[0].name)
    while name in producers and producers[name].op_type in ("Add", "Expand", "Reshape", "Unsqueeze"):
        inputs = producers[name].input
        products = (
            inputs[:1] if producers[name].op_type != "Add" else [term for term in inputs if term not in constants]
        )
        if len(products) > 1:
            break
        name = str(products[0])
    return name


def _dims(weights: dict[str, onnx.TensorProto], name: str) -> Sequence[int]:
    return weights[name].dims if name in weights else ()


def _losses(
    model: onnx.ModelProto, example: NDArray[Any], matrices: list[onnx.NodeProto], weights: dict[str, onnx.TensorProto]
) -> dict[str, float]:
    """Return each matrix's loss by name: 1 - the features' least cosine where its product alone has int8's error."""
    inputs = list(dict.fromkeys(node.input[0] for node in matrices))
    with_activations = deepcopy(model)
    with_activations.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inputs)
    outputs, feeds = [model.graph.output[0].name, *inputs], {model.graph.input[0].name: example}
    reference, *values = cpu_session(with_activations.SerializeToString()).run(outputs, feeds)
    activations = dict(zip(inputs, values, strict=True))

    names = {node.name for node in matrices}
    disturbed = deepcopy(model)
    del disturbed.graph.node[:]
    for node in model.graph.node:
        disturbed.graph.node.append(node)
        if node.name in names:
            product = node.output[0]
            disturbed.graph.node[-1].output[0] = f"{product}.exact"
            disturbed.graph.node.append(make_node("Add", [f"{product}.exact", f"{node.name}.error"], [product]))
            disturbed.graph.input.append(make_tensor_value_info(f"{node.name}.error", onnx.TensorProto.FLOAT, None))
    session = cpu_session(disturbed.SerializeToString())
    feeds |= {f"{name}.error": np.zeros(1, np.float32) for name in names}
    losses = {}
    for node in tqdm(matrices, desc="measuring", leave=False, disable=None):
        error = _error(activations[node.input[0]], numpy_helper.to_array(weights[node.input[1]]))
        features = np.asarray(session.run(None, {**feeds, f"{node.name}.error": error})[0])
        losses[node.name] = 1 - float(cosines(reference, features).min())
    return losses


def _error(activation: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the int8 product minus the exact one, with onnxruntime's rounding."""
    low, high = min(float(activation.min()), 0.0), max(float(activation.max()), 0.0)
    step = (high - low) / 255 or 1.0
    zero = round(-low / step)
    rounded = ((np.clip(np.rint(activation / step) + zero, 0, 255) - zero) * step).astype(np.float32)
    packed, scale = quantize(weight, axis=1, largest=_LARGEST)
    error: NDArray[np.float32] = rounded @ (packed * scale) - activation @ weight
    return error


def _dynamic(model: onnx.ModelProto, in_float: list[str]) -> onnx.ModelProto:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    copy = deepcopy(model)
    # A weight's shape in value_info would contradict that of the weight that quantize_dynamic transposes.
    weights = {weight.name for weight in model.graph.initializer}
    del copy.graph.value_info[:]
    copy.graph.value_info.extend(value for value in model.graph.value_info if value.name not in weights)
    with draft_folder() as folder:
        path = folder / "int8.onnx"
        quantize_dynamic(
            copy,
            path,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            reduce_range=True,  # see _LARGEST
            weight_type=QuantType.QInt8,
            nodes_to_exclude=in_float,
        )
        return onnx.load(path)


def run(model: onnx.ModelProto, value: NDArray[Any]) -> NDArray[np.float32]:
    """Return the first output, on the CPU, of a graph with one input."""
    return np.asarray(cpu_session(model.SerializeToString()).run(None, {model.graph.input[0].name: value})[0])


def cpu_session(graph: Path | bytes, optimised: Path | None = None) -> onnxruntime.InferenceSession:
    """Return a session on the CPU; `optimised`: path for the optimised graph, with its weights in a file beside it."""
    options = session_options()
    options.log_severity_level = 3
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights.bin")
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def cosines(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the cosine of each pair of rows, (N,), of two arrays (N, D)."""
    products = (first.astype(np.float64) * second).sum(1)
    lengths = [np.linalg.norm(rows.astype(np.float64), axis=1) for rows in (first, second)]
    result: NDArray[np.float64] = products / lengths[0] / lengths[1]
    return result
