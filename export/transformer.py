"""The transformer that all of the networks are made of.

Parameters have the names of OpenAI's CLIP, except that the queries', keys' and values' matrices, one tensor there, are
three here: so onnxruntime's optimiser knows the pattern as attention.

N: sequences at once. L: their length. W: the width.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Activation = Callable[[Tensor], Tensor]


def quick_gelu(x: Tensor) -> Tensor:
    """x · sigmoid(1.702 x), the GELU of OpenAI's CLIP."""
    return x * torch.sigmoid(1.702 * x)


def gelu(x: Tensor) -> Tensor:
    """x · Φ(x) (D. Hendrycks, K. Gimpel, 2016, arXiv 1606.08415), written as onnxruntime's fusion knows it."""
    return x * (1 + torch.erf(x / math.sqrt(2))) * 0.5


ACTIVATIONS: dict[str, Activation] = {"quickgelu": quick_gelu, "gelu": gelu}


@dataclass(frozen=True)
class Size:
    """Of a transformer: its width W, its layers, its attention heads, and the width within a layer's perceptron."""

    width: int
    layers: int
    heads: int
    hidden: int


class Attention(nn.Module):
    """Multi-head self-attention: (N, L, W) → (N, L, W)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, width) for _ in range(3))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """`mask`, (L, L), is added to the logits: 0 where a row may look, -inf where it may not."""
        count, length, width = x.shape

        def by_head(values: Tensor) -> Tensor:
            """(N, heads, L, W / heads)."""
            return values.reshape(count, length, self.heads, width // self.heads).transpose(1, 2)

        queries, keys, values = by_head(self.q_proj(x)), by_head(self.k_proj(x)), by_head(self.v_proj(x))
        logits = queries @ keys.transpose(2, 3) * (width // self.heads) ** -0.5
        if mask is not None:
            logits = logits + mask
        seen = logits.softmax(3) @ values
        mixed: Tensor = self.out_proj(seen.transpose(1, 2).reshape(count, length, width))
        return mixed


class Perceptron(nn.Module):
    """Two matrices with an activation between them: (N, L, W) → (N, L, W)."""

    def __init__(self, size: Size, activation: Activation) -> None:
        super().__init__()
        self.c_fc = nn.Linear(size.width, size.hidden)
        self.c_proj = nn.Linear(size.hidden, size.width)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.c_proj(self.activation(self.c_fc(x)))
        return y


class Block(nn.Module):
    """A transformer's layer: (N, L, W) → (N, L, W).

    CLIP normalises before attention and perceptron; `norm_last` normalises after each, as A. Vaswani et al., 2017,
    arXiv 1706.03762, and PyTorch's TransformerEncoderLayer do.
    """

    def __init__(self, size: Size, activation: Activation, epsilon: float, norm_last: bool = False) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(size.width, eps=epsilon)
        self.attn = Attention(size.width, size.heads)
        self.ln_2 = nn.LayerNorm(size.width, eps=epsilon)
        self.mlp = Perceptron(size, activation)
        self.norm_last = norm_last

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if self.norm_last:
            x = self.ln_1(x + self.attn(x, mask))
            normalised: Tensor = self.ln_2(x + self.mlp(x))
            return normalised
        x = x + self.attn(self.ln_1(x), mask)
        added: Tensor = x + self.mlp(self.ln_2(x))
        return added


class Transformer(nn.Module):
    """Blocks in a row: (N, L, W) → (N, L, W)."""

    def __init__(self, size: Size, activation: Activation, epsilon: float, norm_last: bool = False) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(size, activation, epsilon, norm_last) for _ in range(size.layers))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        for block in self.resblocks:
            x = block(x, mask)
        return x
