"""The choices of the command's options; without PyTorch, so that --help needs none."""

import math
from dataclasses import dataclass

ACTIVATIONS = ("quickgelu", "gelu")
# Over the frames of a clip, by the names of ActionCLIP's code.
FUSIONS = ("meanP", "Conv_1D", "LSTM", "Transf", "Transf_cls")


@dataclass(frozen=True)
class Bound:
    """The largest difference allowed between L2-normalised features and PyTorch's in float32."""

    difference: float
    """max |Δ| must be below."""
    cosine: float
    """The least cosine must be at least."""


PRECISIONS = {
    "fp32": Bound(difference=1e-5, cosine=0.999999),
    "fp16": Bound(difference=1e-2, cosine=0.9999),
    "int8": Bound(difference=math.inf, cosine=0.99),
}
