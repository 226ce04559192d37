"""Steps of training against the published recipe, github.com/sallymmx/ActionCLIP, written down from its definition.

train.py there: features of frames, of the fusion's clips and of texts; cosines times exp(logit_scale) in both
directions; utils/KLLoss.py: PyTorch's KLDivLoss, averaged over all elements and times the batch, of the log-softmax of
a row against the softmax of ten times the row of the label matrix; utils/solver.py: AdamW with three groups;
utils/lr_scheduler.py: the learning rate by the part of the epochs that is over.
"""

import math
import warnings
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from random_checkpoints import Sizes, State, fusion_state, openai_state
from reference_networks import Norm, ReferenceBlock
from torch import Tensor, nn

from action_clip.export.clip.assemble import assemble
from action_clip.export.clip.checkpoints import read_checkpoint
from action_clip.export.clip.official import official_content
from action_clip.tokenizer.bpe import default_tokenizer
from action_clip.training.finetune.loss import contrastive_loss, label_matrix
from action_clip.training.finetune.schedule import rate_factor
from action_clip.training.finetune.towers import Towers, make_optimiser

SIZES = Sizes(width=64, layers=2, text_width=64, text_layers=2, embedding=64)
CLASSES = ("eating", "riding a bike", "playing the piano")
LABELS = [0, 2, 1, 0, 2]
FRAMES, STEPS, EPOCHS, WARM_UP = 4, 3, 4, 1
RATE = 5e-6
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class ReferenceTower(nn.Module):
    """A tower of CLIP by the names of its weights."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        blocks = nn.ModuleList(ReferenceBlock(width, width // 64, 1e-5) for _ in range(layers))
        self.transformer = nn.ModuleDict({"resblocks": blocks})


class ReferenceImageTower(ReferenceTower):
    """Frames (N, 3, S, S) to features (N, D)."""

    def __init__(self) -> None:
        super().__init__(SIZES.width, SIZES.layers)
        self.conv1 = nn.Conv2d(3, SIZES.width, SIZES.patch, SIZES.patch, bias=False)
        self.class_embedding = nn.Parameter(torch.zeros(SIZES.width))
        places = (SIZES.image_size // SIZES.patch) ** 2 + 1
        self.positional_embedding = nn.Parameter(torch.zeros(places, SIZES.width))
        self.ln_pre, self.ln_post = Norm(SIZES.width, 1e-5), Norm(SIZES.width, 1e-5)
        self.proj = nn.Parameter(torch.zeros(SIZES.width, SIZES.embedding))

    def forward(self, frames: Tensor) -> Tensor:
        patches = self.conv1(frames).reshape(len(frames), SIZES.width, -1).permute(0, 2, 1)
        x = torch.cat([self.class_embedding.repeat(len(frames), 1, 1), patches], 1) + self.positional_embedding
        x = self.ln_pre(x).permute(1, 0, 2)
        for block in self.transformer["resblocks"].children():
            x = block(x)
        features: Tensor = self.ln_post(x[0]) @ self.proj
        return features


class ReferenceClip(ReferenceTower):
    """Both towers; itself the one of texts, (N, 77) tokens to features (N, D)."""

    def __init__(self) -> None:
        super().__init__(SIZES.text_width, SIZES.text_layers)
        self.visual = ReferenceImageTower()
        self.token_embedding = nn.Embedding(49408, SIZES.text_width)
        self.positional_embedding = nn.Parameter(torch.zeros(77, SIZES.text_width))
        self.ln_final = Norm(SIZES.text_width, 1e-5)
        self.text_projection = nn.Parameter(torch.zeros(SIZES.text_width, SIZES.embedding))
        self.logit_scale = nn.Parameter(torch.zeros(()))

    def forward(self, tokens: Tensor) -> Tensor:
        mask = torch.full((77, 77), float("-inf")).triu(1)
        x = (self.token_embedding(tokens) + self.positional_embedding).permute(1, 0, 2)
        for block in self.transformer["resblocks"].children():
            x = masked(block, x, mask)
        x = self.ln_final(x.permute(1, 0, 2))
        features: Tensor = x[torch.arange(len(x)), tokens.argmax(-1)] @ self.text_projection
        return features


def masked(block: Any, x: Tensor, mask: Tensor) -> Tensor:
    y = block.ln_1(x)
    x = x + block.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
    hidden = block.mlp["c_fc"](block.ln_2(x))
    added: Tensor = x + block.mlp["c_proj"](hidden * torch.sigmoid(1.702 * hidden))
    return added


class ReferenceFusion(nn.Module):
    """Transf: features of frames (N, T, D) to those of clips (N, D)."""

    def __init__(self) -> None:
        super().__init__()
        self.frame_position_embeddings = nn.Embedding(77, SIZES.embedding)
        heads = SIZES.text_width // 64
        blocks = nn.ModuleList(ReferenceBlock(SIZES.embedding, heads, 1e-12) for _ in range(6))
        self.transformer = nn.ModuleDict({"resblocks": blocks})

    def forward(self, features: Tensor) -> Tensor:
        x = (features + self.frame_position_embeddings(torch.arange(features.shape[1]))).permute(1, 0, 2)
        for block in self.transformer["resblocks"].children():
            x = block(x)
        mean: Tensor = (x.permute(1, 0, 2) + features).mean(1)
        return mean


def published_loss(videos: Tensor, texts: Tensor, scale: Tensor, labels: list[int]) -> Tensor:
    videos = videos / videos.norm(dim=-1, keepdim=True)
    texts = texts / texts.norm(dim=-1, keepdim=True)
    truth = torch.tensor([[float(one == other) for other in labels] for one in labels])
    target = torch.softmax(10 * truth, 1)

    def direction(logits: Tensor) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that this mean is over all elements
            divergence = nn.KLDivLoss(reduction="mean")(torch.log_softmax(logits, 1), target)
        result: Tensor = divergence * len(labels)
        return result

    return (direction(scale * videos @ texts.t()) + direction(scale * texts @ videos.t())) / 2


def published_rate(base: float, epoch: float) -> float:
    if epoch < WARM_UP:
        return base * epoch / WARM_UP
    progress = min((epoch - WARM_UP) / (EPOCHS - WARM_UP), 1.0)
    return base * (math.cos(math.pi * progress) + 1) / 2


@pytest.fixture
def weights() -> tuple[State, State]:
    return openai_state(SIZES), fusion_state("Transf", SIZES.embedding)


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    """Pixels (B, T, S, S, 3) uint8, and the tokens of a text for each clip, (B, 77)."""
    side = SIZES.image_size
    pixels = np.random.default_rng(0).integers(0, 256, (len(LABELS), FRAMES, side, side, 3), np.uint8)
    prompts = ("a photo of action {}", "{}", "The man is {}", "{}, an action", "A video of {}")
    texts = [prompt.format(CLASSES[label]) for prompt, label in zip(prompts, LABELS, strict=True)]
    return torch.from_numpy(pixels), torch.from_numpy(default_tokenizer().encode(texts))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def published_losses(weights: tuple[State, State], batch: tuple[Tensor, Tensor]) -> tuple[list[float], State]:
    """The losses of some steps with one batch, and the weights after them."""
    clip, fusion = ReferenceClip(), ReferenceFusion()
    clip.load_state_dict(weights[0])
    fusion.load_state_dict(weights[1])
    own = {id(weight) for weight in clip.visual.parameters()}
    groups = [
        {"params": [weight for weight in clip.parameters() if id(weight) not in own], "lr": RATE},
        {"params": [*clip.visual.parameters()], "lr": 2 * RATE},
        {"params": [*fusion.parameters()], "lr": 10 * RATE},
    ]
    bases = [2**i * RATE if i < 2 else 10 * RATE for i in range(3)]
    optimiser = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.2)
    pixels, tokens = batch
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    frames = (pixels.permute(0, 1, 4, 2, 3).float().div(255) - mean) / std
    losses = []
    for step in range(STEPS):
        for group, base in zip(optimiser.param_groups, bases, strict=True):
            group["lr"] = published_rate(base, 0.5 + step / STEPS)
        optimiser.zero_grad()
        videos = fusion(clip.visual(frames.flatten(0, 1)).view(len(LABELS), FRAMES, -1))
        loss = published_loss(videos, clip(tokens), clip.logit_scale.exp(), LABELS)
        torch.autograd.backward(loss)
        optimiser.step()
        losses.append(loss.item())
    return losses, {**clip.state_dict(), **{f"fusion.{name}": value for name, value in fusion.state_dict().items()}}


def own_losses(tmp_path: Path, weights: tuple[State, State], batch: tuple[Tensor, Tensor]) -> tuple[list[float], State]:
    path = tmp_path / "official.pt"
    torch.save({"model_state_dict": weights[0], "fusion_model_state_dict": weights[1]}, path)
    networks = assemble(read_checkpoint(path), frames=FRAMES)
    towers = Towers(networks, float(weights[0]["logit_scale"]))
    optimiser = make_optimiser(towers, RATE, 2 * RATE, 10 * RATE, 0.2)
    labels = torch.zeros(len(LABELS), len(CLASSES), dtype=torch.bool)
    labels[torch.arange(len(LABELS)), LABELS] = True
    pixels, tokens = batch
    losses = []
    for step in range(STEPS):
        for group in optimiser.param_groups:
            group["lr"] = group["base_rate"] * rate_factor(0.5 + step / STEPS, EPOCHS, WARM_UP)
        videos, texts, scale = towers(pixels, tokens[:, :20])
        loss = contrastive_loss(videos, texts, scale, label_matrix(labels, torch.tensor(LABELS)))
        torch.autograd.backward(loss)
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    content = official_content(networks, float(towers.logit_scale.detach()), ["{}"])
    fusion = {f"fusion.{name}": value for name, value in content["fusion_model_state_dict"].items()}
    return losses, {**content["model_state_dict"], **fusion}


def test_steps_are_those_of_the_published_code(
    tmp_path: Path, weights: tuple[State, State], batch: tuple[Tensor, Tensor]
) -> None:
    expected, expected_weights = published_losses(weights, batch)
    losses, found = own_losses(tmp_path, weights, batch)
    assert np.abs(np.subtract(losses, expected)).max() < 1e-5
    assert min(one - other for one, other in pairwise(expected)) > 1e-3  # they train
    assert found.keys() == expected_weights.keys()
    before = {**weights[0], **{f"fusion.{name}": value for name, value in weights[1].items()}}
    for name, value in expected_weights.items():
        if name.endswith("in_proj_bias"):
            continue  # that of keys changes nothing, and AdamW moves it by the noise of its gradient
        assert (found[name] - value).norm() <= 0.02 * (value - before[name]).norm(), name
