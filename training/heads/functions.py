"""What heads compute, from features to the logits of classes: in numpy, and as ONNX graphs."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx

_OPSET, _IR_VERSION = 18, 9
"""Old ones, which the lowest onnxruntime runs."""

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Affine:
    """features · weights + bias.

    Attributes:
        weights: (D, C).
        bias: (C,).
    """

    weights: Floats = field(repr=False)
    bias: Floats = field(repr=False)

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logits, (N, C), of features, (N, D)."""
        logits: NDArray[np.float32] = (features @ self.weights + self.bias).astype(np.float32)
        return logits

    def graph(self) -> "onnx.ModelProto":
        """Return the function as a graph, (batch, D) → (batch, C)."""
        body = "products = MatMul(features, weights) logits = Add(products, bias)"
        return _graph(body, {"weights": self.weights, "bias": self.bias}, *self.weights.shape)


@dataclass(frozen=True, eq=False)
class Cache:
    """exp(-sharpness · (1 - features · keysᵀ)) · values: Tip-Adapter's cache of training clips (arXiv 2207.09519).

    Attributes:
        keys: (N, D), the features of training clips.
        values: (N, C), the classes of each, times the weight of the cache: the paper's α.
        sharpness: the paper's β.
    """

    keys: Floats = field(repr=False)
    values: Floats = field(repr=False)
    sharpness: float

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what is added to the logits of texts, (N, C), for features, (N, D)."""
        affinities = np.exp(-self.sharpness * (1 - features @ self.keys.T))
        logits: NDArray[np.float32] = (affinities @ self.values).astype(np.float32)
        return logits

    def graph(self) -> "onnx.ModelProto":
        """Return the function as a graph, (batch, D) → (batch, C)."""
        body = """cosines = MatMul(features, keys)
        distances = Sub(cosines, one)
        exponents = Mul(distances, sharpness)
        affinities = Exp(exponents)
        logits = MatMul(affinities, values)"""
        weights: dict[str, Any] = {
            "keys": self.keys.T,
            "one": np.array(1.0),
            "sharpness": np.array(self.sharpness),
            "values": self.values,
        }
        return _graph(body, weights, self.keys.shape[1], self.values.shape[1])


def _graph(body: str, weights: dict[str, Any], size: int, classes: int) -> "onnx.ModelProto":
    import onnx
    from onnx import numpy_helper, parser

    declared = f"head (float[batch, {size}] features) => (float[batch, {classes}] logits)"
    graph = parser.parse_graph(f"{declared} {{ {body} }}")
    graph.initializer.extend(
        numpy_helper.from_array(np.ascontiguousarray(value, np.float32), name) for name, value in weights.items()
    )
    opset = onnx.helper.make_opsetid("", _OPSET)
    return onnx.helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION)
