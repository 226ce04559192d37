"""The choices of the command's options, in a module that --help can import without PyTorch."""

import math
from dataclasses import dataclass

ACTIVATIONS = ("quickgelu", "gelu")
# How features of frames become those of a clip, by the names in ActionCLIP's code.
FUSIONS = ("meanP", "Conv_1D", "LSTM", "Transf", "Transf_cls")


@dataclass(frozen=True)
class Bound:
    """The largest difference allowed between L2-normalised features and PyTorch's in float32."""

    difference: float
    """max |Δ| must be below this."""
    cosine: float
    """The least cosine of all rows must be at least this."""


PRECISIONS = {
    "fp32": Bound(difference=1e-5, cosine=0.999999),
    "fp16": Bound(difference=1e-2, cosine=0.9999),
    "int8": Bound(difference=math.inf, cosine=0.99),
}
