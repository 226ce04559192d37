"""The network of TimeSformer.

G. Bertasius, H. Wang, L. Torresani, Is Space-Time Attention All You Need for Video Understanding?, ICML 2021, arXiv
2102.05095, and its published code, github.com/facebookresearch/TimeSformer, which decides where the paper is silent.

N: clips at once. T: frames of a clip. P: patches of a frame. W: the network's width.
"""

import torch
from torch import Tensor, nn

from action_clip.export.transformer import MLP, Attention, Block, TransformerConfig, gelu, state_at

EPSILON = 1e-6
DIVIDED, JOINT, SPACE_ONLY = "divided_space_time", "joint_space_time", "space_only"
ATTENTIONS = (DIVIDED, JOINT, SPACE_ONLY)


class DividedBlock(nn.Module):
    """Attention over time, then over space, then an MLP: (N, 1 + P · T, W) → the same shape.

    The class token is first; behind it are the patches, all T frames of one before those of the next.
    """

    def __init__(self, config: TransformerConfig, frames: int, epsilon: float) -> None:
        super().__init__()
        self.temporal_ln = nn.LayerNorm(config.width, eps=epsilon)
        self.temporal_attn = Attention(config.width, config.heads)
        self.temporal_fc = nn.Linear(config.width, config.width)
        self.ln_1 = nn.LayerNorm(config.width, eps=epsilon)
        self.attn = Attention(config.width, config.heads)
        self.ln_2 = nn.LayerNorm(config.width, eps=epsilon)
        self.mlp = MLP(config, gelu)
        self.frames = frames

    def forward(self, x: Tensor, position: int | None = None) -> Tensor:
        """`position`: 0 to compute the class token's state only, (N, 1, W); None for all of them."""
        count, width = (x.shape[1] - 1) // self.frames, x.shape[2]
        token, patches = x[:, :1], x[:, 1:]
        rows = self.temporal_ln(patches.reshape(-1, self.frames, width))  # (N · P, T, W): a patch through time
        patches = patches + self.temporal_fc(self.temporal_attn(rows, rows)).reshape(patches.shape)
        by_frame = patches.reshape(-1, count, self.frames, width).transpose(1, 2)  # (N, T, P, W)
        # The class token attends to each frame on its own, and takes the mean of the results.
        tokens = token[:, None].expand(-1, self.frames, -1, -1)
        context = self.ln_1(torch.cat([tokens, by_frame], 2).flatten(0, 1))  # (N · T, 1 + P, W)
        queries = context if position is None else state_at(context, position)
        spatial = self.attn(queries, context).unflatten(0, (-1, self.frames))  # (N, T, 1 + P or 1, W)
        x = token + spatial[:, :, 0].mean(1, keepdim=True)
        if position is None:
            x = torch.cat([x, patches + spatial[:, :, 1:].transpose(1, 2).flatten(1, 2)], 1)
        added: Tensor = x + self.mlp(self.ln_2(x))
        return added


class TimeSformer(nn.Module):
    """From frames, (N, T, 3, S, S), to logits, (N, classes), and features, (N, W): the class token after the last norm.

    Its attention, one of ATTENTIONS:

    * "divided_space_time": each block attends along time first, then within each frame.
    * "joint_space_time": each block attends to all patches of the clip at once.
    * "space_only": each block attends within each frame; the class tokens of the frames are averaged at the end.
    """

    time_embed: nn.Parameter

    def __init__(
        self,
        config: TransformerConfig,
        image_size: int,
        patch: int,
        frames: int,
        classes: int,
        attention: str,
        epsilon: float = EPSILON,
    ) -> None:
        """`image_size` S and `patch` in pixels; `frames`: T, the only one that it takes."""
        super().__init__()
        self.conv1 = nn.Conv2d(3, config.width, patch, patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, (image_size // patch) ** 2 + 1, config.width))
        if attention != SPACE_ONLY:
            self.time_embed = nn.Parameter(torch.zeros(1, frames, config.width))
        self.resblocks = nn.ModuleList(
            DividedBlock(config, frames, epsilon) if attention == DIVIDED else Block(config, gelu, epsilon)
            for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.width, eps=epsilon)
        self.head = nn.Linear(config.width, classes)
        self.image_size = image_size
        self.frames = frames
        self.attention = attention

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        patches = self.conv1(frames.flatten(0, 1)).flatten(2).transpose(1, 2)  # (N · T, P, W)
        x = torch.cat([self.cls_token.expand(patches.shape[0], -1, -1), patches], 1) + self.pos_embed
        if self.attention != SPACE_ONLY:
            x = self._joined(x)
        for block in self.resblocks[:-1]:
            x = block(x)
        x = self.resblocks[-1](x, position=0)
        token = x[:, 0]
        if self.attention == SPACE_ONLY:
            token = token.reshape(-1, self.frames, token.shape[1]).mean(1)
        features = self.norm(token)
        return self.head(features), features

    def _joined(self, x: Tensor) -> Tensor:
        """Return frames, (N · T, 1 + P, W), as clips, (N, 1 + P · T, W), with the first frame's class token."""
        x = x.reshape(-1, self.frames, *x.shape[1:])
        patches = x[:, :, 1:] + self.time_embed[:, :, None]
        return torch.cat([x[:, 0, :1], patches.transpose(1, 2).flatten(1, 2)], 1)
