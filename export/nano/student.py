"""The network of the text graph: a small causal transformer over CLIP tokens, with embeddings like all-MiniLM-L6-v2's.

Token embeddings are factorised, `EMBEDDING` dimensions widened to `WIDTH`, as in ALBERT (Lan et al., 2020, arXiv
1909.11942). How it is trained: export.nano.training.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from action_clip.export.nano.minilm import EPSILON, WIDTH, bert_layers
from action_clip.tokenizer.bpe import CONTEXT_LENGTH, END_OF_TEXT, START_OF_TEXT, VOCABULARY_SIZE, Tokenizer

EMBEDDING = 128
LAYERS = 4


class Student(nn.Module):
    """From CLIP tokens, (N, L) with L ≤ 77, to embeddings, (N, 384), not normalised.

    A text's embedding is the mean of its states up to the end-of-text token (the largest id, so its position is the
    argmax); the tokens after it change nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY_SIZE, EMBEDDING)
        self.widen = nn.Linear(EMBEDDING, WIDTH)
        self.positions = nn.Parameter(torch.zeros(CONTEXT_LENGTH, WIDTH))
        self.norm = nn.LayerNorm(WIDTH, eps=EPSILON)
        self.transformer = bert_layers(LAYERS)
        self.output = nn.Linear(WIDTH, WIDTH)

    def forward(self, tokens: Tensor) -> Tensor:
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.norm(self.widen(self.tokens(tokens)) + self.positions[positions])
        mask = torch.where(positions[None, :] > positions[:, None], -1e4, 0.0)
        x = self.transformer(x, mask)
        within = (positions <= tokens.argmax(1, keepdim=True)).to(x.dtype)
        mean = (x * within[:, :, None]).sum(1) / within.sum(1, keepdim=True)
        embeddings: Tensor = self.output(mean)
        return embeddings


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> Tensor:
    """Return the tokens of N texts, (N, L) int64, L of the longest; texts are cut to 77 tokens with the end token."""
    rows = [tokenizer.tokenize(text)[: CONTEXT_LENGTH - 2] for text in texts]
    tokens = torch.zeros(len(rows), max(map(len, rows)) + 2, dtype=torch.long)
    for row, ids in enumerate(rows):
        tokens[row, : len(ids) + 2] = torch.tensor([START_OF_TEXT, *ids, END_OF_TEXT])
    return tokens
