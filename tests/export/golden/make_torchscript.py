"""Writes torchscript_1.7.1.pt: a traced module as OpenAI's CLIPs are, by the PyTorch that stored those.

Run with Python 3.8 and torch==1.7.1. Half of the weights are float16, three numbers are buffers, the mask is an
attribute that is neither parameter nor buffer.
"""

from pathlib import Path

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """One of a transformer, with the mask that CLIP's text tower has."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))
        self.attn_mask = torch.full((3, 3), float("-inf")).triu_(1)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x, x, x, need_weights=False, attn_mask=self.attn_mask)[0]
        added: Tensor = x + self.mlp(x)
        return added


class Tower(nn.Module):
    """Two blocks, and what a CLIP has beside them."""

    def __init__(self) -> None:
        super().__init__()
        for name, number in (("input_resolution", 32), ("context_length", 3), ("vocab_size", 10)):
            self.register_buffer(name, torch.tensor(number))
        self.token_embedding = nn.Embedding(10, 4)
        self.positional_embedding = nn.Parameter(torch.randn(3, 4))
        self.resblocks = nn.Sequential(Block(4, 2), Block(4, 2))
        self.logit_scale = nn.Parameter(torch.tensor(4.5))

    def forward(self, tokens: Tensor) -> Tensor:
        x: Tensor = self.resblocks(self.token_embedding(tokens) + self.positional_embedding[:, None])
        return x * self.logit_scale


if __name__ == "__main__":
    torch.manual_seed(0)
    tokens = torch.zeros(3, 1, dtype=torch.long)
    traced = torch.jit.trace(Tower().eval(), tokens, check_trace=False)  # type: ignore[no-untyped-call]
    for name, parameter in traced.named_parameters():
        if "attn" in name or "mlp" in name:
            parameter.data = parameter.data.half()
    torch.jit.save(traced, str(Path(__file__).with_name(f"torchscript_{torch.__version__}.pt")))
