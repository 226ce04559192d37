"""Random checkpoints in the layouts that people have, of any size."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

State = dict[str, Tensor]


@dataclass(frozen=True)
class Sizes:
    """Of a CLIP; the defaults are as small as tests can be."""

    image_size: int = 32
    patch: int = 16
    width: int = 128
    layers: int = 2
    text_width: int = 64
    text_layers: int = 2
    embedding: int = 64


VIT_B_32 = Sizes(image_size=224, patch=32, width=768, layers=12, text_width=512, text_layers=12, embedding=512)


class Maker:
    """Draws tensors from one seeded stream, as large as in trained networks."""

    def __init__(self, seed: int = 0) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int, std: float) -> Tensor:
        return torch.randn(*shape, generator=self._generator) * std

    def norm(self, name: str, width: int) -> State:
        return {f"{name}.weight": 1 + self.normal(width, std=0.1), f"{name}.bias": self.normal(width, std=0.1)}

    def linear(self, name: str, outputs: int, inputs: int) -> State:
        return {
            f"{name}.weight": self.normal(outputs, inputs, std=inputs**-0.5),
            f"{name}.bias": self.normal(outputs, std=0.1),
        }

    def block(self, name: str, width: int) -> State:
        """A residual attention block in OpenAI's layout."""
        packed = self.linear("", 3 * width, width)
        return {
            f"{name}.attn.in_proj_weight": packed[".weight"],
            f"{name}.attn.in_proj_bias": packed[".bias"],
            **self.linear(f"{name}.attn.out_proj", width, width),
            **self.norm(f"{name}.ln_1", width),
            **self.linear(f"{name}.mlp.c_fc", 4 * width, width),
            **self.linear(f"{name}.mlp.c_proj", width, 4 * width),
            **self.norm(f"{name}.ln_2", width),
        }

    def blocks(self, name: str, layers: int, width: int) -> State:
        state: State = {}
        for layer in range(layers):
            state |= self.block(f"{name}.resblocks.{layer}", width)
        return state


def openai_state(sizes: Sizes = Sizes(), seed: int = 0) -> State:
    """The weights of OpenAI's CLIP, by its names."""
    make = Maker(seed)
    places = (sizes.image_size // sizes.patch) ** 2 + 1
    return {
        "positional_embedding": make.normal(77, sizes.text_width, std=0.3),
        "text_projection": make.normal(sizes.text_width, sizes.embedding, std=sizes.text_width**-0.5),
        "logit_scale": torch.tensor(4.5),
        "visual.class_embedding": make.normal(sizes.width, std=0.5),
        "visual.positional_embedding": make.normal(places, sizes.width, std=0.5),
        "visual.proj": make.normal(sizes.width, sizes.embedding, std=sizes.width**-0.5),
        "visual.conv1.weight": make.normal(sizes.width, 3, sizes.patch, sizes.patch, std=1 / sizes.patch),
        **make.norm("visual.ln_pre", sizes.width),
        **make.blocks("visual.transformer", sizes.layers, sizes.width),
        **make.norm("visual.ln_post", sizes.width),
        **make.blocks("transformer", sizes.text_layers, sizes.text_width),
        "token_embedding.weight": make.normal(49408, sizes.text_width, std=0.5),
        **make.norm("ln_final", sizes.text_width),
    }


def head_state(head: str, embedding: int, seed: int = 1, positions: int = 77, frames: int = 8) -> State:
    """The weights of an ActionCLIP frame head, by the official code's names."""
    make = Maker(seed)
    unused = {"frame_position_embeddings.weight": make.normal(positions, embedding, std=0.3)}
    if head == "meanP":
        return {}
    if head == "Conv_1D":
        return {**unused, "shift.weight": make.normal(embedding, 1, 3, std=0.5)}
    if head == "Transf":
        return {**unused, **make.blocks("transformer", 6, embedding)}
    if head == "LSTM":
        lstm = torch.nn.LSTM(embedding, embedding, batch_first=True)
        return {**unused, **{f"lstm_visual.{n}": make.normal(*v.shape, std=0.1) for n, v in lstm.state_dict().items()}}
    state = {
        **unused,
        "transformer.cls_token": make.normal(1, 1, embedding, std=0.5),
        "transformer.pos_embed": make.normal(1, frames + 1, embedding, std=0.5),
        **make.norm("transformer.transformer_enc.norm", embedding),
    }
    for layer in range(6):
        name = f"transformer.transformer_enc.layers.{layer}"
        packed = make.linear("", 3 * embedding, embedding)
        state |= {
            f"{name}.self_attn.in_proj_weight": packed[".weight"],
            f"{name}.self_attn.in_proj_bias": packed[".bias"],
            **make.linear(f"{name}.self_attn.out_proj", embedding, embedding),
            **make.linear(f"{name}.linear1", 2048, embedding),
            **make.linear(f"{name}.linear2", embedding, 2048),
            **make.norm(f"{name}.norm1", embedding),
            **make.norm(f"{name}.norm2", embedding),
        }
    return state


def prefixed(state: Mapping[str, Tensor], prefix: str) -> State:
    """The same weights, `prefix` before every name."""
    return {prefix + name: value for name, value in state.items()}
