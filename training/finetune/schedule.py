"""Learning rates over the epochs, and which weights are trained in which."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from action_clip.errors import ActionClipError
from action_clip.export.clip.networks import ImageTower, TextTower
from action_clip.training.finetune.towers import Towers


def rate_factor(epoch: float, epochs: int, warm_up: float) -> float:
    """Return what the learning rates are multiplied with: it rises from 0 to 1, then falls along a cosine to 0.

    Args:
        epoch: epochs done, with the part of the current one.
        epochs: of the whole training.
        warm_up: epochs until it is 1.
    """
    if epoch < warm_up:
        return epoch / warm_up
    progress = min((epoch - warm_up) / max(epochs - warm_up, 1e-9), 1.0)
    return (math.cos(math.pi * progress) + 1) / 2


@dataclass(frozen=True)
class Strategy:
    """When the towers are trained; the fusion always is."""

    name: str
    """One of options.STRATEGIES."""
    milestones: tuple[int, ...] = ()
    """Epochs after which towers, or parts of them, are trained."""
    layers: int = 0
    """Of each tower, that are trained from the first of two milestones on."""

    def trained_layers(self, epoch: int) -> int | None:
        """Return how many of the last layers of each tower are trained in an epoch, from 0; None: whole towers."""
        if self.name == "no_freeze":
            return None
        passed = sum(epoch >= milestone for milestone in self.milestones)
        if not passed:
            return 0
        return self.layers if self.name == "unfreeze_milestones" and passed == 1 else None

    def apply(self, towers: Towers, epoch: int) -> None:
        """Let exactly the weights be trained that are trained in this epoch, from 0."""
        layers = self.trained_layers(epoch)
        for tower in (towers.text, towers.image):
            tower.requires_grad_(layers is None)
            for part in _last_parts(tower, layers or 0):
                part.requires_grad_(True)


def make_strategy(name: str, milestones: Sequence[int], layers: int | None, epochs: int) -> Strategy:
    """Return a strategy. Raises ActionClipError where the numbers are not those that it needs."""
    needed = {"freeze_unfreeze": 1, "unfreeze_milestones": 2}.get(name, 0)
    if len(milestones) != needed:
        count = ("no epoch", "one epoch", "two epochs")[needed]
        raise ActionClipError(f"--strategy {name} takes {count} with --unfreeze-at, not {len(milestones)}")
    if list(milestones) != sorted(set(milestones)) or any(epoch >= epochs for epoch in milestones):
        raise ActionClipError(f"--unfreeze-at takes epochs in ascending order, below the {epochs} of --epochs")
    if (name == "unfreeze_milestones") != (layers is not None):
        raise ActionClipError("--unfreeze-layers and --strategy unfreeze_milestones need each other: give both or none")
    return Strategy(name, tuple(milestones), layers or 0)


def _last_parts(tower: TextTower | ImageTower, layers: int) -> Iterator[nn.Module | nn.Parameter]:
    """Yield what computes last in a tower: so many of its layers, the norm after them and the projection."""
    if not layers:
        return
    yield from list(tower.transformer.resblocks)[-layers:]
    if isinstance(tower, TextTower):
        yield from (tower.ln_final, tower.text_projection)
    else:
        yield from (tower.ln_post, tower.proj)
