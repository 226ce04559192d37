"""Random checkpoints in the layouts that people have, of any size."""

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

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
    """Draws tensors from one seeded stream, as large as in trained networks.

    Without a seed they are zeros, which take no room in memory, nor in a file of save_hollow.
    """

    def __init__(self, seed: int | None = 0) -> None:
        self._generator = None if seed is None else torch.Generator().manual_seed(seed)

    def normal(self, *shape: int, std: float) -> Tensor:
        if self._generator is None:
            return torch.from_numpy(np.zeros(shape, np.float32))
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


def openai_state(sizes: Sizes = Sizes(), seed: int | None = 0) -> State:
    """The weights of OpenAI's CLIP, by its names."""
    make = Maker(seed)
    places = (sizes.image_size // sizes.patch) ** 2 + 1
    return {
        "positional_embedding": make.normal(77, sizes.text_width, std=0.3),
        "text_projection": make.normal(sizes.text_width, sizes.embedding, std=sizes.text_width**-0.5),
        "logit_scale": torch.tensor(0.0 if seed is None else 4.5),
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


def fusion_state(name: str, embedding: int, seed: int = 1, positions: int = 77, frames: int = 8) -> State:
    """The weights of an ActionCLIP fusion, by the official code's names."""
    make = Maker(seed)
    unused = {"frame_position_embeddings.weight": make.normal(positions, embedding, std=0.3)}
    if name == "meanP":
        return {}
    if name == "Conv_1D":
        return {**unused, "shift.weight": make.normal(embedding, 1, 3, std=0.5)}
    if name == "Transf":
        return {**unused, **make.blocks("transformer", 6, embedding)}
    if name == "LSTM":
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


def as_openai_stores(state: Mapping[str, Tensor]) -> State:
    """In the types of OpenAI's archives: float16, but for norms, tokens, and what is neither matrix nor bias of one."""
    kept = r"(^|\.)(ln_\w+|token_embedding)\.|(positional|class)_embedding$|logit_scale$"
    return {name: value if re.search(kept, name) else value.half() for name, value in state.items()}


def with_openai_facts(state: State, image_size: int = 32) -> State:
    """With the three numbers that OpenAI's archives have beside the weights."""
    facts = {"input_resolution": image_size, "context_length": 77, "vocab_size": 49408}
    return {**state, **{name: torch.tensor(value) for name, value in facts.items()}}


def with_temporal_shift(state: Mapping[str, Tensor]) -> State:
    """By the names that the official code's temporal shift gives the image tower's blocks."""
    return {re.sub(r"^(visual\.transformer\.resblocks\.\d+)\.", r"\1.net.", n): v for n, v in state.items()}


def hugging_face_state(state: Mapping[str, Tensor]) -> State:
    """The weights of OpenAI's layout in that of transformers' CLIPModel."""
    renamed: State = {}
    for name, value in state.items():
        tower, inner = ("vision", name[7:]) if name.startswith("visual.") else ("text", name)
        parts = inner.split(".")
        if name in ("visual.proj", "text_projection"):
            renamed[f"{'visual' if tower == 'vision' else 'text'}_projection.weight"] = value.T.contiguous()
        elif name == "logit_scale":
            renamed[name] = value
        elif parts[0] != "transformer":
            new = {
                "class_embedding": "embeddings.class_embedding",
                "positional_embedding": "embeddings.position_embedding.weight",
                "token_embedding": "embeddings.token_embedding",
                "conv1": "embeddings.patch_embedding",
                "ln_pre": "pre_layrnorm",
                "ln_post": "post_layernorm",
                "ln_final": "final_layer_norm",
            }[parts[0]]
            renamed[".".join([f"{tower}_model", new, *parts[1:]])] = value
        else:
            layer = f"{tower}_model.encoder.layers.{parts[2]}"
            kind, last = ".".join(parts[3:-1]), parts[-1]
            if last.startswith("in_proj_"):
                rows = len(value) // 3
                for third, letter in enumerate("qkv"):
                    part = value[third * rows : (third + 1) * rows].clone()
                    renamed[f"{layer}.self_attn.{letter}_proj.{last[8:]}"] = part
                continue
            new = {
                "attn.out_proj": "self_attn.out_proj",
                "ln_1": "layer_norm1",
                "ln_2": "layer_norm2",
                "mlp.c_fc": "mlp.fc1",
                "mlp.c_proj": "mlp.fc2",
            }[kind]
            renamed[f"{layer}.{new}.{last}"] = value
    return renamed


def save_hollow(state: State, path: Path) -> None:
    """A file of weights that are zero, which takes no room on most disks."""
    with torch.serialization.skip_data():
        torch.save(state, path)


class Shell(nn.Module):
    """A module that only holds others, or tensors."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def module_of(state: Mapping[str, Tensor]) -> nn.Module:
    """A module with these parameters; what has no sides is a buffer."""
    root = Shell()
    for name, value in state.items():
        *folders, leaf = name.split(".")
        module: nn.Module = root
        for folder in folders:
            if folder not in module._modules:
                module.add_module(folder, Shell())
            module = module.get_submodule(folder)
        if value.ndim:
            module.register_parameter(leaf, nn.Parameter(value, requires_grad=False))
        else:
            module.register_buffer(leaf, value)
    return root


def save_torchscript(state: Mapping[str, Tensor], path: Path) -> None:
    """A TorchScript archive of such a module, as OpenAI's checkpoints are."""
    with warnings.catch_warnings():
        # TorchScript is on its way out, its archives are not.
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(module_of(state)), path)
