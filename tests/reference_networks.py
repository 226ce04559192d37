"""Parts of the published networks, of PyTorch's own modules and definitions."""

import torch
from random_checkpoints import State
from torch import Tensor, nn


class Norm(nn.Module):
    """LayerNorm from its definition, the epsilon within the square root."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, dim=-1, correction=0, keepdim=True)
        normalised: Tensor = (x - mean) / (variance + self.epsilon).sqrt() * self.weight + self.bias
        return normalised


class ReferenceBlock(nn.Module):
    """A block of CLIP by the names of its weights, of PyTorch's modules; (L, N, W) → (L, N, W)."""

    def __init__(self, width: int, heads: int, epsilon: float) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads)
        self.ln_1, self.ln_2 = Norm(width, epsilon), Norm(width, epsilon)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})

    def forward(self, x: Tensor) -> Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y)[0]
        hidden = self.mlp["c_fc"](self.ln_2(x))
        added: Tensor = x + self.mlp["c_proj"](hidden / (1 + torch.exp(-1.702 * hidden)))
        return added


def reference_blocks(state: State, prefix: str, count: int, heads: int, epsilon: float) -> list[ReferenceBlock]:
    width = len(state[f"{prefix}resblocks.0.ln_1.weight"])
    blocks = []
    for layer in range(count):
        block = ReferenceBlock(width, heads, epsilon).eval()
        name = f"{prefix}resblocks.{layer}."
        block.load_state_dict({n.removeprefix(name): v for n, v in state.items() if n.startswith(name)})
        blocks.append(block)
    return blocks
