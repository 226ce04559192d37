"""A checkpoint of ViT-B/32's size with random weights, on which time does not depend."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from action_clip.export.checkpoint_reading import canonical, renamed

if TYPE_CHECKING:
    from torch import Tensor

    State = dict[str, Tensor]

# OpenAI's names, attention's matrices apart → transformers'.
_TO_TRANSFORMERS = (
    (r"^visual\.(?!proj)", "vision_model."),
    (r"^(?=transformer|token_emb|positional|ln_final)", "text_model."),
    (r"\.(token_embedding|class_embedding)", r".embeddings.\1"),
    (r"positional_embedding$", "embeddings.position_embedding.weight"),
    (r"conv1", "embeddings.patch_embedding"),
    (r"ln_pre", "pre_layrnorm"),
    (r"ln_post", "post_layernorm"),
    (r"ln_final", "final_layer_norm"),
    (r"transformer\.resblocks", "encoder.layers"),
    (r"\.attn\.", ".self_attn."),
    (r"\.ln_", ".layer_norm"),
    (r"mlp\.c_fc", "mlp.fc1"),
    (r"mlp\.c_proj", "mlp.fc2"),
    (r"^visual\.proj$", "visual_projection.weight"),
    (r"^text_projection$", "text_projection.weight"),
)


def write_checkpoint(path: Path, seed: int) -> None:
    """Write a checkpoint of ViT-B/32 and the fusion Transf, with random weights of the magnitude of trained ones."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int, std: float) -> "Tensor":
        return torch.randn(*shape, generator=generator) * std

    def norm(name: str, width: int) -> "State":
        return {f"{name}.weight": 1 + normal(width, std=0.1), f"{name}.bias": normal(width, std=0.1)}

    def linear(name: str, outputs: int, inputs: int) -> "State":
        return {f"{name}weight": normal(outputs, inputs, std=inputs**-0.5), f"{name}bias": normal(outputs, std=0.1)}

    def blocks(name: str, layers: int, width: int) -> "State":
        state: State = {}
        for block in (f"{name}.resblocks.{layer}" for layer in range(layers)):
            state |= norm(f"{block}.ln_1", width) | norm(f"{block}.ln_2", width)
            state |= linear(f"{block}.attn.in_proj_", 3 * width, width)
            state |= linear(f"{block}.attn.out_proj.", width, width)
            state |= linear(f"{block}.mlp.c_fc.", 4 * width, width) | linear(f"{block}.mlp.c_proj.", width, 4 * width)
        return state

    clip = {
        "positional_embedding": normal(77, 512, std=0.3),
        "text_projection": normal(512, 512, std=512**-0.5),
        "logit_scale": torch.tensor(4.5),
        "visual.class_embedding": normal(768, std=0.5),
        "visual.positional_embedding": normal(50, 768, std=0.5),
        "visual.proj": normal(768, 512, std=768**-0.5),
        "visual.conv1.weight": normal(768, 3, 32, 32, std=1 / 32),
        **norm("visual.ln_pre", 768),
        **blocks("visual.transformer", 12, 768),
        **norm("visual.ln_post", 768),
        **blocks("transformer", 12, 512),
        "token_embedding.weight": normal(49408, 512, std=0.5),
        **norm("ln_final", 512),
    }
    fusion = {"frame_position_embeddings.weight": normal(77, 512, std=0.3), **blocks("transformer", 6, 512)}
    torch.save({"model_state_dict": clip, "fusion_model_state_dict": fusion}, path)


def write_for_transformers(checkpoint: Path, folder: Path) -> None:
    """Write the weights of the checkpoint's CLIP as a CLIPModel; do nothing where transformers is not installed."""
    try:
        from transformers import CLIPConfig, CLIPModel
    except ImportError:
        return
    state = torch.load(checkpoint, mmap=True, weights_only=True)["model_state_dict"]
    named = renamed(canonical(state), _TO_TRANSFORMERS)
    for name in ("visual_projection.weight", "text_projection.weight"):
        named[name] = named[name].T.contiguous()
    model = CLIPModel(CLIPConfig(projection_dim=512))  # whose defaults are ViT-B/32's
    model.load_state_dict(named)
    model.save_pretrained(folder)
