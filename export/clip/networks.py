"""The networks of CLIP and ActionCLIP.

CLIP: A. Radford et al., Learning Transferable Visual Models From Natural Language Supervision, 2021, arXiv 2103.00020;
its vision transformer: A. Dosovitskiy et al., 2021, arXiv 2010.11929. ActionCLIP: M. Wang et al., 2021, arXiv
2109.08472, and its published code, github.com/sallymmx/ActionCLIP, which decides where the paper is silent.

N: texts, frames or videos at once. L: tokens, patches or frames in a row. T: frames of a clip. W: a network's width.
D: the embedding's.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from action_clip.export.transformer import Activation, Transformer, TransformerConfig, quick_gelu

EPSILON = 1e-5
# Temporal shift takes one in SHIFTED channels from the next frame, and as many from the one before.
SHIFTED = 8


class TextTower(nn.Module):
    """From CLIP tokens, (N, L), to features, (N, D), not normalised.

    A causal transformer; a text's feature is the state at its end-of-text token, which has the largest id of all.
    """

    def __init__(
        self,
        config: TransformerConfig,
        vocabulary: int,
        context: int,
        embedding: int,
        activation: Activation,
        epsilon: float = EPSILON,
    ) -> None:
        """`vocabulary`: number of tokens. `context`: the largest L."""
        super().__init__()
        self.token_embedding = nn.Embedding(vocabulary, config.width)
        self.positional_embedding = nn.Parameter(torch.zeros(context, config.width))
        self.transformer = Transformer(config, activation, epsilon)
        self.ln_final = nn.LayerNorm(config.width, eps=epsilon)
        self.text_projection = nn.Parameter(torch.zeros(config.width, embedding))

    def forward(self, tokens: Tensor) -> Tensor:
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.token_embedding(tokens) + self.positional_embedding[positions]
        later = positions[None, :] > positions[:, None]
        x = self.transformer(x, torch.where(later, float("-inf"), 0.0), tokens.argmax(1))
        features: Tensor = self.ln_final(x[:, 0]) @ self.text_projection
        return features


class ImageTower(nn.Module):
    """From frames, (N, 3, S, S), to features, (N, D), not normalised; a vision transformer read at its class token.

    ActionCLIP has two variants that mix the frames of a clip; N must then be a multiple of T, and the frames of a clip
    follow one another:

    * "shift": before each block, patches exchange channels with the frames before and after (TSM: J. Lin, C. Gan,
      S. Han, 2019, arXiv 1811.08383).
    * "joint": all patches of a clip are one sequence with a learned embedding of time. The clip then has a single
      feature; it is returned for each of its frames, so that their mean is the clip's.
    """

    time_embedding: nn.Parameter

    def __init__(
        self,
        config: TransformerConfig,
        image_size: int,
        patch: int,
        embedding: int,
        activation: Activation,
        epsilon: float = EPSILON,
        *,
        temporal: str | None = None,
        frames: int = 1,
    ) -> None:
        """`image_size` S and `patch` in pixels; `temporal`: None, "shift" or "joint", over `frames` T."""
        super().__init__()
        self.conv1 = nn.Conv2d(3, config.width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.zeros(config.width))
        self.positional_embedding = nn.Parameter(torch.zeros((image_size // patch) ** 2 + 1, config.width))
        self.ln_pre = nn.LayerNorm(config.width, eps=epsilon)
        self.transformer = Transformer(config, activation, epsilon)
        self.ln_post = nn.LayerNorm(config.width, eps=epsilon)
        self.proj = nn.Parameter(torch.zeros(config.width, embedding))
        self.image_size = image_size
        self.temporal = temporal
        self.frames = frames
        if temporal == "joint":
            self.time_embedding = nn.Parameter(torch.zeros(frames, config.width))

    def forward(self, frames: Tensor) -> Tensor:
        patches = self.conv1(frames).flatten(2).transpose(1, 2)  # (N, (S / patch)², W)
        classes = self.class_embedding.expand(patches.shape[0], 1, -1)
        x = torch.cat([classes, patches], 1) + self.positional_embedding
        if self.temporal == "joint":
            x = self._joined(x)
        x = self.ln_pre(x)
        if self.temporal == "shift":
            for block in self.transformer.resblocks[:-1]:
                x = block(self._shifted(x))
            x = self.transformer.resblocks[-1](self._shifted(x), position=0)
        else:
            x = self.transformer(x, position=0)
        features: Tensor = self.ln_post(x[:, 0]) @ self.proj
        if self.temporal == "joint":
            return features[:, None].expand(-1, self.frames, -1).flatten(0, 1)
        return features

    def _joined(self, x: Tensor) -> Tensor:
        """Return frames, (N, 1 + P, W), as clips, (N / T, 1 + T · P, W)."""
        x = x.reshape(-1, self.frames, *x.shape[1:])
        patches = x[:, :, 1:] + self.time_embedding[:, None]
        return torch.cat([x[:, 0, :1], patches.flatten(1, 2)], 1)

    def _shifted(self, x: Tensor) -> Tensor:
        """Return (N, 1 + P, W) with shifted channels of patches; class tokens are unchanged."""
        patches = x[:, 1:].reshape(-1, self.frames, x.shape[1] - 1, x.shape[2])
        part = x.shape[2] // SHIFTED
        none = torch.zeros_like(patches[:, :1, :, :part])
        following = torch.cat([patches[:, 1:, :, :part], none], 1)
        previous = torch.cat([none, patches[:, :-1, :, part : 2 * part]], 1)
        shifted = torch.cat([following, previous, patches[..., 2 * part :]], 3)
        return torch.cat([x[:, :1], shifted.flatten(0, 1)], 1)


class MeanFusion(nn.Module):
    """meanP: (N, T, D) → (N, D), the mean over the frames, before any normalisation."""

    def forward(self, features: Tensor) -> Tensor:
        return features.mean(1)


class ConvolutionFusion(nn.Module):
    """Conv_1D: (N, T, D) → (N, D), a depthwise convolution over three frames, added to them; then the mean."""

    def __init__(self, embedding: int) -> None:
        super().__init__()
        self.shift = nn.Conv1d(embedding, embedding, 3, padding=1, groups=embedding, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        count, frames, embedding = features.shape
        # The published code reads (N, T, D) as (N, D, T) without transposing; the weights were trained with that.
        mixed = self.shift(features.reshape(count, embedding, frames)).transpose(1, 2)
        mean: Tensor = (mixed + features).mean(1)
        return mean


class RecurrentFusion(nn.Module):
    """LSTM: (N, T, D) → (N, D), the states of one layer, added to the frames; then the mean."""

    def __init__(self, embedding: int) -> None:
        super().__init__()
        self.lstm_visual = nn.LSTM(embedding, embedding, batch_first=True)

    def forward(self, features: Tensor) -> Tensor:
        mean: Tensor = (self.lstm_visual(features)[0] + features).mean(1)
        return mean


class TransformerFusion(nn.Module):
    """Transf: (N, T, D) → (N, D), a transformer over the frames, added to them; then the mean."""

    def __init__(self, config: TransformerConfig, positions: int, epsilon: float) -> None:
        """`positions`: the largest T."""
        super().__init__()
        self.frame_position_embeddings = nn.Embedding(positions, config.width)
        self.transformer = Transformer(config, quick_gelu, epsilon)

    def forward(self, features: Tensor) -> Tensor:
        positions = torch.arange(features.shape[1], device=features.device)
        mixed = self.transformer(features + self.frame_position_embeddings(positions))
        mean: Tensor = (mixed + features).mean(1)
        return mean


class ClassTokenFusion(nn.Module):
    """Transf_cls: (N, T, D) → (N, D), a transformer over a class token and the frames, read at the class token."""

    def __init__(self, config: TransformerConfig, frames: int) -> None:
        """`frames`: T, the only one that the learned positions allow."""
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, frames + 1, config.width))
        self.transformer = Transformer(config, functional.relu, EPSILON, norm_last=True)
        self.norm = nn.LayerNorm(config.width, eps=EPSILON)

    def forward(self, features: Tensor) -> Tensor:
        classes = self.cls_token.expand(features.shape[0], -1, -1)
        x = self.transformer(torch.cat([classes, features], 1) + self.pos_embed, position=0)
        read: Tensor = self.norm(x[:, 0])
        return read
