"""The layout of ActionCLIP's published code, from networks: what `checkpoints` reads, written.

Weights there have the names of OpenAI's CLIP: queries, keys and values in one matrix. What that layout takes for
granted of every network is added under `NETWORKS`, which the published code does not look at.
"""

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from action_clip.export.checkpoint_reading import Rules, State, renamed
from action_clip.export.clip.assemble import Networks
from action_clip.export.clip.checkpoints import NETWORKS
from action_clip.export.transformer import Block, Transformer
from action_clip.tokenizer.bpe import CONTEXT_LENGTH

_TO_ENCODER: Rules = (
    (r"^(cls_token|pos_embed)$", r"transformer.\1"),
    (r"^norm\.", "transformer.transformer_enc.norm."),
    (r"^transformer\.resblocks\.(\d+)\.attn\.", r"transformer.transformer_enc.layers.\1.self_attn."),
    (r"^transformer\.resblocks\.(\d+)\.ln_(\d)\.", r"transformer.transformer_enc.layers.\1.norm\2."),
    (r"^transformer\.resblocks\.(\d+)\.mlp\.c_fc\.", r"transformer.transformer_enc.layers.\1.linear1."),
    (r"^transformer\.resblocks\.(\d+)\.mlp\.c_proj\.", r"transformer.transformer_enc.layers.\1.linear2."),
)
_WITH_SHIFT: Rules = ((r"^(transformer\.resblocks\.\d+)\.", r"\1.net."),)


def official_content(networks: Networks, log_scale: float, prompts: Sequence[str]) -> dict[str, Any]:
    """Return the entries of an official checkpoint that are about the networks; tensors share their memory.

    Args:
        networks: of any kind that `assemble` returns.
        log_scale: the logarithm of the factor of cosines that was learned.
        prompts: the templates that labels are put into.
    """
    images = _packed(networks.image)
    if networks.image.temporal == "shift":
        images = renamed(images, _WITH_SHIFT)
    clip = {**_packed(networks.text), "logit_scale": torch.tensor(log_scale)}
    clip |= {f"visual.{name}": value for name, value in images.items()}
    return {
        "model_state_dict": clip,
        "fusion_model_state_dict": _fusion(networks),
        NETWORKS: {**_facts(networks), "prompts": list(prompts)},
    }


def _packed(network: nn.Module) -> State:
    """Return a network's weights with one tensor for queries, keys and values."""
    state: State = {}
    parts: dict[str, list[Tensor]] = {}
    for name, value in network.state_dict().items():
        match = re.fullmatch(r"(.*)[qkv]_proj\.(weight|bias)", name)
        if match is None:
            state[name] = value
            continue
        packed = f"{match[1]}in_proj_{match[2]}"
        parts.setdefault(packed, []).append(value)
        if len(parts[packed]) == 3:
            state[packed] = torch.cat(parts[packed])
    return state


def _fusion(networks: Networks) -> State:
    state = _packed(networks.fusion)
    if networks.fusion_name == "Transf_cls":
        state = renamed(state, _TO_ENCODER)
    if networks.fusion_name not in ("meanP", "Transf"):
        # Of no effect, but in the published code's network.
        width = networks.text.text_projection.shape[1]
        state["frame_position_embeddings.weight"] = torch.zeros(CONTEXT_LENGTH, width)
    return state


def _facts(networks: Networks) -> dict[str, Any]:
    text, image = (_first_block(tower.transformer) for tower in (networks.text, networks.image))
    norms = [module for module in networks.fusion.modules() if isinstance(module, nn.LayerNorm)]
    return {
        "activation": networks.activation,
        "frames": networks.frames,
        "text_heads": text.attn.heads,
        "image_heads": image.attn.heads,
        "text_epsilon": text.ln_1.eps,
        "image_epsilon": image.ln_1.eps,
        "fusion_epsilon": norms[0].eps if norms else None,
        "resize": networks.resize,
        "mean": list(networks.mean),
        "std": list(networks.std),
        "uniform": networks.checkpoint.uniform,
    }


def _first_block(transformer: Transformer) -> Block:
    block = transformer.resblocks[0]
    assert isinstance(block, Block)
    return block
