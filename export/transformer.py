"""The transformer, of which all networks consist.

Parameters have the names of OpenAI's CLIP, except that the matrices of queries, keys and values, one tensor there, are
three here, so that onnxruntime's optimiser recognises attention.

N: sequences at once. L: their length. W: the width.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Activation = Callable[[Tensor], Tensor]


def quick_gelu(x: Tensor) -> Tensor:
    """Return x · sigmoid(1.702 x), the GELU of OpenAI's CLIP."""
    return x * torch.sigmoid(1.702 * x)


def gelu(x: Tensor) -> Tensor:
    """Return x · Φ(x) (D. Hendrycks, K. Gimpel, 2016, arXiv 1606.08415), in the form that onnxruntime fuses."""
    return x * (1 + torch.erf(x / math.sqrt(2))) * 0.5


ACTIVATIONS: dict[str, Activation] = {"quickgelu": quick_gelu, "gelu": gelu}


@dataclass(frozen=True)
class TransformerConfig:
    """The width W of a transformer, its layers, its attention heads, and the hidden width of each layer's MLP."""

    width: int
    layers: int
    heads: int
    hidden: int


class Attention(nn.Module):
    """Multi-head attention of queries over a context: (N, Q, W), (N, L, W) → (N, Q, W)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, width) for _ in range(3))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        """`mask`, broadcastable to (N, heads, Q, L), is added to the logits: 0, or -inf where nothing is attended to.

        Self-attention is `attention(x, x)`.
        """

        width = x.shape[2] // self.heads

        def by_head(values: Tensor) -> Tensor:
            """Return (N, L, W) as (N, heads, L, W / heads)."""
            return values.reshape(values.shape[0], values.shape[1], self.heads, width).transpose(1, 2)

        queries, keys, values = by_head(self.q_proj(x)), by_head(self.k_proj(context)), by_head(self.v_proj(context))
        logits = queries @ keys.transpose(2, 3) * width**-0.5
        if mask is not None:
            logits = logits + mask
        heads = logits.softmax(3) @ values
        mixed: Tensor = self.out_proj(heads.transpose(1, 2).reshape(x.shape))
        return mixed


class MLP(nn.Module):
    """Two linear layers with an activation between them: (N, L, W) → (N, L, W)."""

    def __init__(self, config: TransformerConfig, activation: Activation) -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.width, config.hidden)
        self.c_proj = nn.Linear(config.hidden, config.width)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.c_proj(self.activation(self.c_fc(x)))
        return y


def state_at(x: Tensor, position: int | Tensor) -> Tensor:
    """Return the state, (N, 1, W), at one position of each sequence of (N, L, W).

    `position` is the same for all sequences, or a tensor (N,) with that of each.
    """
    if isinstance(position, int):
        return x[:, position : position + 1]
    return x[torch.arange(x.shape[0], device=x.device), position][:, None]


class Block(nn.Module):
    """A transformer's layer: (N, L, W) → (N, L, W), or (N, 1, W) where only one position is read.

    CLIP normalises before attention and MLP; `norm_last` normalises after each, as A. Vaswani et al., 2017,
    arXiv 1706.03762, and PyTorch's TransformerEncoderLayer do.
    """

    def __init__(
        self, config: TransformerConfig, activation: Activation, epsilon: float, norm_last: bool = False
    ) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.width, eps=epsilon)
        self.attn = Attention(config.width, config.heads)
        self.ln_2 = nn.LayerNorm(config.width, eps=epsilon)
        self.mlp = MLP(config, activation)
        self.norm_last = norm_last

    def forward(self, x: Tensor, mask: Tensor | None = None, position: int | Tensor | None = None) -> Tensor:
        """Return the layer's output, (N, L, W), or (N, 1, W) where there is a position.

        Args:
            x: (N, L, W).
            mask: added to attention's logits, broadcastable to (N, heads, L, L); (L, L) where there is a position.
            position: as for `state_at`, the only one whose state is computed; None for all of them.
        """
        context = x if self.norm_last else self.ln_1(x)
        queries = context
        if position is not None:
            x, queries = state_at(x, position), state_at(context, position)
            mask = None if mask is None else mask[position][..., None, None, :]
        x = x + self.attn(queries, context, mask)
        if self.norm_last:
            x = self.ln_1(x)
            normalised: Tensor = self.ln_2(x + self.mlp(x))
            return normalised
        added: Tensor = x + self.mlp(self.ln_2(x))
        return added


class Transformer(nn.Module):
    """Blocks in a row: (N, L, W) → (N, L, W), or (N, 1, W) where only one position is read."""

    def __init__(
        self, config: TransformerConfig, activation: Activation, epsilon: float, norm_last: bool = False
    ) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(config, activation, epsilon, norm_last) for _ in range(config.layers))

    def forward(self, x: Tensor, mask: Tensor | None = None, position: int | Tensor | None = None) -> Tensor:
        """Arguments as for Block; the blocks before the last compute all positions, which the last attends to."""
        for block in self.resblocks[:-1]:
            x = block(x, mask)
        last: Tensor = self.resblocks[-1](x, mask, position)
        return last
