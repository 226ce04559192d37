"""The networks that a training begins with: those of a checkpoint, with a new fusion where it has none, or new ones."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from action_clip.errors import ActionClipError
from action_clip.export.clip.assemble import ACTIONCLIP_LOGIT_SCALE, Networks, assemble
from action_clip.export.clip.checkpoints import Checkpoint, read_checkpoint
from action_clip.export.clip.networks import (
    ClassTokenFusion,
    ConvolutionFusion,
    ImageTower,
    MeanFusion,
    RecurrentFusion,
    TextTower,
    TransformerFusion,
)
from action_clip.export.transformer import Transformer, TransformerConfig, quick_gelu
from action_clip.export.weights import DEFAULT_FRAMES, HEAD_WIDTH
from action_clip.models.catalog.specs import CLIP_MEAN, CLIP_STD, find
from action_clip.models.store.installation import fetch_checkpoint
from action_clip.tokenizer.bpe import CONTEXT_LENGTH, VOCABULARY_SIZE
from action_clip.training.finetune.sizes import Size

FIRST_LOG_SCALE = math.log(1 / 0.07)
"""The logarithm of the factor of cosines in an untrained CLIP."""
DEFAULT_FUSION, FUSION_LAYERS = "Transf", 6
_CLASS_TOKEN_HEADS, _CLASS_TOKEN_HIDDEN = 8, 2048
_FUSION_EPSILON = 1e-12
_FUSION_STD = 0.02


@dataclass(frozen=True, eq=False)
class Beginning:
    """Networks before their training."""

    networks: Networks
    log_scale: float
    """The logarithm of the factor of cosines."""


@dataclass(frozen=True)
class Wanted:
    """What the user says about the networks; None: what the checkpoint says."""

    fusion: str | None = None
    frames: int | None = None
    activation: str | None = None
    trust: bool = False
    seed: int = 0
    """Of the new weights."""


def from_checkpoint(name: str, wanted: Wanted) -> Beginning:
    """Return the networks of a checkpoint, or of the one of a model in the catalog; a CLIP gets a new fusion.

    Raises ActionClipError where it cannot be read, or contradicts what is wanted.
    """
    spec = find(name)
    if spec is not None and spec.checkpoint is None:
        raise ActionClipError(f"{name} has no checkpoint to train: name a model that is exported, or a file")
    checkpoint = read_checkpoint(Path(name) if spec is None else fetch_checkpoint(spec), trust=wanted.trust)
    if checkpoint.fusion is None and checkpoint.layout != "ActionCLIP":
        return _with_new_fusion(checkpoint, wanted)
    networks = assemble(checkpoint, fusion=wanted.fusion, frames=wanted.frames, activation=wanted.activation)
    return Beginning(networks, _log_scale(checkpoint))


def _with_new_fusion(checkpoint: Checkpoint, wanted: Wanted) -> Beginning:
    networks = assemble(checkpoint, frames=wanted.frames, activation=wanted.activation)
    name = wanted.fusion or DEFAULT_FUSION
    width, embedding = networks.text.text_projection.shape
    fusion = new_fusion(name, embedding, networks.frames, width // HEAD_WIDTH, FUSION_LAYERS, wanted.seed)
    networks = replace(
        networks,
        fusion=fusion,
        fusion_name=name,
        resize=max(networks.resize, networks.image.image_size * 256 // 224),
        logit_scale=ACTIONCLIP_LOGIT_SCALE,
    )
    return Beginning(networks, _log_scale(checkpoint))


def _log_scale(checkpoint: Checkpoint) -> float:
    learned = checkpoint.clip.get("logit_scale")
    return FIRST_LOG_SCALE if learned is None else float(learned)


def from_scratch(size: Size, wanted: Wanted) -> Beginning:
    """Return new networks of a size, with the random weights that CLIP and ActionCLIP begin with."""
    frames = wanted.frames or DEFAULT_FRAMES
    name = wanted.fusion or DEFAULT_FUSION
    text_heads = size.text_width // HEAD_WIDTH
    with torch.random.fork_rng([]):
        torch.manual_seed(wanted.seed)
        text = TextTower(
            TransformerConfig(size.text_width, size.text_layers, text_heads, 4 * size.text_width),
            VOCABULARY_SIZE,
            CONTEXT_LENGTH,
            size.embedding,
            quick_gelu,
        )
        image = ImageTower(
            TransformerConfig(size.width, size.layers, size.width // HEAD_WIDTH, 4 * size.width),
            size.image_size,
            size.patch,
            size.embedding,
            quick_gelu,
        )
        _begin_text(text)
        _begin_image(image)
    networks = Networks(
        text=text,
        image=image,
        fusion=new_fusion(name, size.embedding, frames, text_heads, size.fusion_layers, wanted.seed),
        fusion_name=name,
        activation="quickgelu",
        frames=frames,
        resize=size.image_size * 256 // 224,
        mean=CLIP_MEAN,
        std=CLIP_STD,
        logit_scale=ACTIONCLIP_LOGIT_SCALE,
        checkpoint=Checkpoint("ActionCLIP", "", {}),
    )
    return Beginning(networks, FIRST_LOG_SCALE)


def new_fusion(name: str, embedding: int, frames: int, heads: int, layers: int, seed: int) -> nn.Module:
    """Return an untrained fusion, one of choices.FUSIONS, with the weights that the published code begins with.

    Args:
        name: its kind.
        embedding: length of the features, D.
        frames: of a clip, T.
        heads: of attention, in Transf.
        layers: of the two transformers.
        seed: of the random weights.

    Raises:
        ActionClipError: it has no positions for so many frames.
    """
    if name == "Transf" and frames > CONTEXT_LENGTH:
        raise ActionClipError(
            f"the fusion Transf has positions for {CONTEXT_LENGTH} frames: give --frames {CONTEXT_LENGTH} or fewer, or "
            "another --fusion"
        )
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        if name == "Conv_1D":
            return _begin_convolution(ConvolutionFusion(embedding))
        if name == "LSTM":
            return RecurrentFusion(embedding)
        if name == "Transf":
            config = TransformerConfig(embedding, layers, heads, 4 * embedding)
            return _begin_fusion(TransformerFusion(config, CONTEXT_LENGTH, _FUSION_EPSILON))
        if name == "Transf_cls":
            config = TransformerConfig(embedding, layers, _CLASS_TOKEN_HEADS, _CLASS_TOKEN_HIDDEN)
            return _begin_fusion(ClassTokenFusion(config, frames))
    return MeanFusion()


@torch.no_grad()
def _begin_text(tower: TextTower) -> None:
    nn.init.normal_(tower.token_embedding.weight, std=0.02)
    nn.init.normal_(tower.positional_embedding, std=0.01)
    nn.init.normal_(tower.text_projection, std=tower.text_projection.shape[0] ** -0.5)
    _begin_transformer(tower.transformer)


@torch.no_grad()
def _begin_image(tower: ImageTower) -> None:
    for weight in (tower.class_embedding, tower.positional_embedding, tower.proj):
        nn.init.normal_(weight, std=tower.conv1.out_channels**-0.5)
    _begin_transformer(tower.transformer)


def _begin_transformer(transformer: Transformer) -> None:
    """Draw the weights of a tower's layers: narrower, the deeper the tower is, where they add to its states."""
    blocks = list(transformer.resblocks)
    for block in blocks:
        for name, weight in block.named_parameters():
            width = weight.shape[-1]
            if name.endswith("bias") and ".attn." in f".{name}":
                nn.init.zeros_(weight)
            elif name.endswith("out_proj.weight"):
                nn.init.normal_(weight, std=(2 * len(blocks) * width) ** -0.5)
            elif name.endswith("c_proj.weight"):
                nn.init.normal_(weight, std=(2 * len(blocks) * weight.shape[0]) ** -0.5)
            elif name.endswith("c_fc.weight"):
                nn.init.normal_(weight, std=(2 * width) ** -0.5)
            elif name.endswith("_proj.weight"):
                nn.init.normal_(weight, std=width**-0.5)


@torch.no_grad()
def _begin_fusion(fusion: nn.Module) -> nn.Module:
    """Draw the weights of a transformer over frames."""
    norms = {weight for part in fusion.modules() if isinstance(part, nn.LayerNorm) for weight in part.parameters()}
    for name, weight in fusion.named_parameters():
        if weight in norms:
            continue
        if name.endswith("bias"):
            nn.init.zeros_(weight)
        elif name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight")):
            # As three rows of one matrix, which PyTorch's attention draws at once.
            bound = (6 / (4 * weight.shape[1])) ** 0.5
            nn.init.uniform_(weight, -bound, bound)
        else:
            nn.init.normal_(weight, std=_FUSION_STD)
    return fusion


def _begin_convolution(fusion: ConvolutionFusion) -> ConvolutionFusion:
    """Let a quarter of the channels take the frame before, half their own, and a quarter the next one."""
    weight = fusion.shift.weight
    count = weight.shape[0]
    with torch.no_grad():
        weight.zero_()
        weight[: count // 4, 0, 0] = 1
        weight[count // 4 : count // 4 + count // 2, 0, 1] = 1
        weight[-(count // 4) :, 0, 2] = 1
    return fusion
