"""The networks of a model as one module that is trained, and the optimiser with a learning rate for each.

B: clips in a batch. T: frames of a clip. S: side of a frame in pixels. L: tokens of a text. D: length of features.
"""

import torch
from torch import Tensor, nn

from action_clip.export.clip.assemble import Networks
from action_clip.export.clip.networks import ImageTower, TextTower

_BETAS, _EPSILON = (0.9, 0.98), 1e-8
"""Of AdamW, as in ActionCLIP."""


class Towers(nn.Module):
    """Both towers, the fusion, and the learned factor of cosines."""

    mean: Tensor
    std: Tensor

    def __init__(self, networks: Networks, log_scale: float) -> None:
        """`log_scale`: the logarithm of that factor at the beginning."""
        super().__init__()
        self.text: TextTower = networks.text
        self.image: ImageTower = networks.image
        self.fusion: nn.Module = networks.fusion
        self.logit_scale = nn.Parameter(torch.tensor(log_scale))
        self.register_buffer("mean", torch.tensor(networks.mean), persistent=False)
        self.register_buffer("std", torch.tensor(networks.std), persistent=False)
        self.requires_grad_(True)
        self.train()
        with torch.no_grad():
            for parameter in self.parameters():
                # Weights of a checkpoint lie in the mapped file, parts of one tensor of it in one storage.
                parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)

    def forward(self, pixels: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return features of clips and of texts, (B, D) each, and the factor of their cosines.

        Args:
            pixels: (B, T, S, S, 3) uint8 RGB.
            tokens: (B, L) int64.
        """
        return self.videos(pixels), self.text(tokens), self.logit_scale.exp()

    def videos(self, pixels: Tensor) -> Tensor:
        """Return the features of clips, (B, D), of pixels (B, T, S, S, 3) uint8 RGB."""
        frames = ((pixels.float() / 255 - self.mean) / self.std).permute(0, 1, 4, 2, 3)
        features: Tensor = self.image(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        fused: Tensor = self.fusion(features)
        return fused


def make_optimiser(
    towers: Towers, text_rate: float, image_rate: float, fusion_rate: float, decay: float
) -> torch.optim.AdamW:
    """Return AdamW with a learning rate for the text tower (and the scale), the image tower, and the fusion.

    The rate that a schedule begins with is in each group's `base_rate`.
    """
    groups = [
        {"params": [*towers.text.parameters(), towers.logit_scale], "lr": text_rate},
        {"params": [*towers.image.parameters()], "lr": image_rate},
        {"params": [*towers.fusion.parameters()], "lr": fusion_rate},
    ]
    groups = [group | {"base_rate": group["lr"]} for group in groups if group["params"]]
    return torch.optim.AdamW(groups, betas=_BETAS, eps=_EPSILON, weight_decay=decay)
