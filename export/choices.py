"""What a user can choose from, apart from the code that does it: showing --help needs no PyTorch."""

import math
from dataclasses import dataclass

ACTIVATIONS = ("quickgelu", "gelu")
# As ActionCLIP's code calls its frame heads.
HEADS = ("meanP", "Conv_1D", "LSTM", "Transf", "Transf_cls")


@dataclass(frozen=True)
class Bound:
    """How far features, L2-normalised, may be from PyTorch's in float32."""

    difference: float
    """The largest |Δ| of any number must be below."""
    cosine: float
    """The least cosine of any feature must be at least."""


PRECISIONS = {
    "fp32": Bound(difference=1e-5, cosine=0.999999),
    "fp16": Bound(difference=1e-2, cosine=0.9999),
    "int8": Bound(difference=math.inf, cosine=0.99),
}
