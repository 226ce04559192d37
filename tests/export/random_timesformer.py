"""Random TimeSformers in the layouts that people have, of any size."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from random_checkpoints import Maker, State
from torch import Tensor


@dataclass(frozen=True)
class TimeSformerSizes:
    """The defaults are as small as tests can be."""

    image_size: int = 32
    patch: int = 16
    frames: int = 3
    width: int = 128
    layers: int = 2
    hidden: int = 192
    classes: int = 5

    @property
    def patches(self) -> int:
        """P, of a frame."""
        return (self.image_size // self.patch) ** 2


def original_state(
    attention: str = "divided_space_time", sizes: TimeSformerSizes = TimeSformerSizes(), seed: int = 0
) -> State:
    """The weights by the original code's names."""
    make, width = Maker(seed), sizes.width
    state = {
        "model.cls_token": make.normal(1, 1, width, std=0.5),
        "model.pos_embed": make.normal(1, sizes.patches + 1, width, std=0.5),
        "model.patch_embed.proj.weight": make.normal(width, 3, sizes.patch, sizes.patch, std=0.5 / sizes.patch),
        "model.patch_embed.proj.bias": make.normal(width, std=0.1),
        **make.norm("model.norm", width),
        **make.linear("model.head", sizes.classes, width),
    }
    if attention != "space_only":
        state["model.time_embed"] = make.normal(1, sizes.frames, width, std=0.5)
    for layer in range(sizes.layers):
        name = f"model.blocks.{layer}"
        state |= make.norm(f"{name}.norm1", width) | make.norm(f"{name}.norm2", width)
        state |= make.linear(f"{name}.attn.qkv", 3 * width, width) | make.linear(f"{name}.attn.proj", width, width)
        state |= make.linear(f"{name}.mlp.fc1", sizes.hidden, width)
        state |= make.linear(f"{name}.mlp.fc2", width, sizes.hidden)
        if attention == "divided_space_time":
            state |= make.norm(f"{name}.temporal_norm1", width)
            state |= make.linear(f"{name}.temporal_attn.qkv", 3 * width, width)
            state |= make.linear(f"{name}.temporal_attn.proj", width, width)
            state |= make.linear(f"{name}.temporal_fc", width, width)
    return state


def _by_table(state: Mapping[str, Tensor], table: Mapping[str, str]) -> State:
    """Renamed: what is before `.weight` or `.bias`, without the layer's number, has to be in the table."""
    renamed: State = {}
    for name, value in state.items():
        found = re.fullmatch(r"model\.(blocks\.(\d+)\.)?(.+?)(\.weight|\.bias)?", name)
        assert found
        key = ("blocks." if found[1] else "") + found[3]
        renamed[table[key].replace("N", found[2] or "") + (found[4] or "")] = value
    return renamed


def hugging_face_timesformer(state: Mapping[str, Tensor]) -> State:
    """The original's weights in the layout of transformers' TimesformerForVideoClassification."""
    layer = "timesformer.encoder.layer.N"
    return _by_table(
        state,
        {
            "cls_token": "timesformer.embeddings.cls_token",
            "pos_embed": "timesformer.embeddings.position_embeddings",
            "time_embed": "timesformer.embeddings.time_embeddings",
            "patch_embed.proj": "timesformer.embeddings.patch_embeddings.projection",
            "norm": "timesformer.layernorm",
            "head": "classifier",
            "blocks.norm1": f"{layer}.layernorm_before",
            "blocks.attn.qkv": f"{layer}.attention.attention.qkv",
            "blocks.attn.proj": f"{layer}.attention.output.dense",
            "blocks.temporal_norm1": f"{layer}.temporal_layernorm",
            "blocks.temporal_attn.qkv": f"{layer}.temporal_attention.attention.qkv",
            "blocks.temporal_attn.proj": f"{layer}.temporal_attention.output.dense",
            "blocks.temporal_fc": f"{layer}.temporal_dense",
            "blocks.norm2": f"{layer}.layernorm_after",
            "blocks.mlp.fc1": f"{layer}.intermediate.dense",
            "blocks.mlp.fc2": f"{layer}.output.dense",
        },
    )


def mmaction_timesformer(state: Mapping[str, Tensor]) -> State:
    """The original's weights in the layout of mmaction2's TimeSformer, with mmcv's transformer."""
    layer = "backbone.transformer_layers.layers.N"
    divided = any("temporal" in name for name in state)
    space = f"{layer}.attentions.1" if divided else f"{layer}.attentions.0"
    renamed = _by_table(
        state,
        {
            "cls_token": "backbone.cls_token",
            "pos_embed": "backbone.pos_embed",
            "time_embed": "backbone.time_embed",
            "patch_embed.proj": "backbone.patch_embed.projection",
            "norm": "backbone.norm",
            "head": "cls_head.fc_cls",
            "blocks.norm1": f"{space}.norm" if divided else f"{layer}.norms.0",
            "blocks.attn.qkv": f"{space}.attn.in_proj",
            "blocks.attn.proj": f"{space}.attn.out_proj",
            "blocks.temporal_norm1": f"{layer}.attentions.0.norm",
            "blocks.temporal_attn.qkv": f"{layer}.attentions.0.attn.in_proj",
            "blocks.temporal_attn.proj": f"{layer}.attentions.0.attn.out_proj",
            "blocks.temporal_fc": f"{layer}.attentions.0.temporal_fc",
            "blocks.norm2": f"{layer}.ffns.0.norm" if divided else f"{layer}.norms.1",
            "blocks.mlp.fc1": f"{layer}.ffns.0.layers.0.0",
            "blocks.mlp.fc2": f"{layer}.ffns.0.layers.1",
        },
    )
    # PyTorch's MultiheadAttention has these as its own parameters, not as a layer's.
    return {re.sub(r"\.in_proj\.", ".in_proj_", name): value for name, value in renamed.items()}


def timesformer_config(
    attention: str = "divided_space_time", sizes: TimeSformerSizes = TimeSformerSizes(), **more: Any
) -> dict[str, Any]:
    """config.json of a TimesformerForVideoClassification."""
    return {
        "model_type": "timesformer",
        "architectures": ["TimesformerForVideoClassification"],
        "attention_type": attention,
        "image_size": sizes.image_size,
        "patch_size": sizes.patch,
        "num_frames": sizes.frames,
        "hidden_size": sizes.width,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.width // 64,
        "intermediate_size": sizes.hidden,
        "id2label": {str(number): f"LABEL_{number}" for number in range(sizes.classes)},
        **more,
    }
