"""Sizes of networks that are trained from scratch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """Of towers and fusion. Attention heads are 64 wide, as the layout of the official checkpoints requires."""

    image_size: int
    """Side of a frame, in pixels."""
    patch: int
    """Side of a patch, in pixels."""
    width: int
    """Of the image tower."""
    layers: int
    text_width: int
    text_layers: int
    embedding: int
    """Length of the features that both towers return."""
    fusion_layers: int
    """Of the fusion, where that is a transformer."""


SIZES = {
    "tiny": Size(32, 16, 64, 2, 64, 2, 64, 2),
    "vit-b-32": Size(224, 32, 768, 12, 512, 12, 512, 6),
    "vit-b-16": Size(224, 16, 768, 12, 512, 12, 512, 6),
    "vit-l-14": Size(224, 14, 1024, 24, 768, 12, 768, 6),
}
