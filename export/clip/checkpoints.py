"""Reading checkpoints of CLIP and ActionCLIP in any known layout into one form."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from action_clip.errors import ActionClipError
from action_clip.export.checkpoint_reading import (
    HF_CONFIG,
    HF_WEIGHTS,
    Preprocessing,
    Rules,
    State,
    canonical,
    hf_preprocessing,
    normalisation,
    read_json,
    read_path,
    read_weights,
    renamed,
    table,
    tensors,
    value_of,
    weights,
)
from action_clip.export.choices import ACTIVATIONS
from action_clip.models.catalog import validators
from action_clip.models.catalog.specs import CLIP_MEAN, CLIP_STD
from action_clip.tokenizer.prompts import DEFAULT_PROMPTS

T = TypeVar("T")

CLIP_PREPROCESSING = Preprocessing(None, CLIP_MEAN, CLIP_STD)
OPEN_CLIP_CONFIG = "open_clip_config.json"
NETWORKS = "action_clip"
"""The entry of an official checkpoint, from this program's fine-tuning, about its networks: see `official`."""
_OPEN_CLIP_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")

# Hugging Face's names → OpenAI's. The two projections, linear layers there and matrices here, are transposed too.
_FROM_HUGGING_FACE: Rules = (
    (r"^vision_model\.embeddings\.(class_embedding)$", r"visual.\1"),
    (r"^vision_model\.embeddings\.patch_embedding\.", "visual.conv1."),
    (r"^vision_model\.embeddings\.position_embedding\.weight$", "visual.positional_embedding"),
    (r"^vision_model\.pre_layrnorm\.", "visual.ln_pre."),
    (r"^vision_model\.post_layernorm\.", "visual.ln_post."),
    (r"^vision_model\.encoder\.layers\.", "visual.transformer.resblocks."),
    (r"^visual_projection\.weight$", "visual.proj"),
    (r"^text_model\.embeddings\.token_embedding\.", "token_embedding."),
    (r"^text_model\.embeddings\.position_embedding\.weight$", "positional_embedding"),
    (r"^text_model\.encoder\.layers\.", "transformer.resblocks."),
    (r"^text_model\.final_layer_norm\.", "ln_final."),
    (r"^text_projection\.weight$", "text_projection"),
    (r"(resblocks\.\d+)\.self_attn\.", r"\1.attn."),
    (r"(resblocks\.\d+)\.layer_norm(\d)\.", r"\1.ln_\2."),
    (r"(resblocks\.\d+)\.mlp\.fc1\.", r"\1.mlp.c_fc."),
    (r"(resblocks\.\d+)\.mlp\.fc2\.", r"\1.mlp.c_proj."),
)
# Names of PyTorch's TransformerEncoder, in ActionCLIP's fusion Transf_cls → this project's.
_FROM_ENCODER: Rules = (
    (r"^transformer\.(cls_token|pos_embed)$", r"\1"),
    (r"^transformer\.transformer_enc\.norm\.", "norm."),
    (r"^transformer\.transformer_enc\.layers\.(\d+)\.self_attn\.", r"transformer.resblocks.\1.attn."),
    (r"^transformer\.transformer_enc\.layers\.(\d+)\.norm(\d)\.", r"transformer.resblocks.\1.ln_\2."),
    (r"^transformer\.transformer_enc\.layers\.(\d+)\.linear1\.", r"transformer.resblocks.\1.mlp.c_fc."),
    (r"^transformer\.transformer_enc\.layers\.(\d+)\.linear2\.", r"transformer.resblocks.\1.mlp.c_proj."),
)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The weights of a checkpoint under this project's names, in float32, and its other data on the networks."""

    layout: str
    """Name of the layout: "OpenAI CLIP", …"""
    sha256: str
    """Hash of the file, or of the concatenated files of a sharded checkpoint."""
    clip: State
    """Weights of both towers: names of the image tower's begin with "visual."."""
    fusion: State | None = None
    """Weights of the fusion; None where the checkpoint is a CLIP for single images."""
    fusion_epsilon: float = 1e-5
    epsilons: tuple[float, float] = (1e-5, 1e-5)
    """Epsilon of the LayerNorms of the text and the image tower."""
    activation: str | None = None
    """"quickgelu" or "gelu"; None where the checkpoint does not say."""
    heads: tuple[int | None, int | None] = (None, None)
    """Attention heads of the text and the image tower; None where the checkpoint does not say."""
    temporal: str | None = None
    """"shift" or "joint" where the image tower mixes the frames of a clip."""
    frames: int | None = None
    """Frames of a clip; None where the checkpoint does not say."""
    preprocessing: Preprocessing | None = None
    uniform: str = "segments"
    """The rule for the frames that it was evaluated on, one of validators.UNIFORM_RULES."""
    prompts: tuple[str, ...] = DEFAULT_PROMPTS
    """The templates that labels are put into."""


def read_checkpoint(path: Path, *, trust: bool = False) -> Checkpoint:
    """Read a checkpoint file or folder of any known layout.

    Layouts: official ActionCLIP, mmaction2's ActionCLIP, OpenAI's CLIP (TorchScript or state dict), open_clip (state
    dict, training checkpoint or folder), Hugging Face's CLIPModel (folder, sharded or not).

    Args:
        path: a file, or a folder with config.json or open_clip_config.json.
        trust: let the file's pickle run any code, where PyTorch's safe reader refuses it.

    Raises:
        ActionClipError: the file is missing, damaged, unsafe, or of no known layout.
    """

    def content(content: Mapping[str, Any], sha256: str) -> Checkpoint:
        checkpoint = _recognised(content, sha256, path)
        # A plain state dict can be OpenAI's or open_clip's, which has a configuration beside it.
        config = path.with_name(OPEN_CLIP_CONFIG)
        if checkpoint.activation is None and config.is_file():
            return _with_open_clip_config(checkpoint, config)
        return checkpoint

    return read_path(path, lambda folder: _read_folder(folder, trust), content, trust)


def _read_folder(folder: Path, trust: bool) -> Checkpoint:
    if (folder / HF_CONFIG).is_file() and (stored := read_weights(folder, HF_WEIGHTS, trust)):
        return _hugging_face(*stored, folder)
    config = folder / OPEN_CLIP_CONFIG
    if config.is_file() and (stored := read_weights(folder, _OPEN_CLIP_WEIGHTS, trust)):
        return _with_open_clip_config(_recognised(*stored, folder), config)
    raise ActionClipError(
        f"{folder} is no checkpoint: it needs {HF_CONFIG} with {' or '.join(HF_WEIGHTS)} (Hugging Face), or "
        f"{OPEN_CLIP_CONFIG} with {' or '.join(_OPEN_CLIP_WEIGHTS)}"
    )


def _recognised(content: Mapping[str, Any], sha256: str, path: Path) -> Checkpoint:
    """Return the checkpoint in a file's content, whose layout is recognised by its keys."""
    if "model_state_dict" in content:
        return _official(content, sha256, path)
    state = weights(content, path)
    if any(name.startswith("adapter.") for name in state):
        clip = {name.removeprefix("clip."): value for name, value in state.items() if not name.startswith("adapter.")}
        fusion = {name.removeprefix("adapter."): value for name, value in state.items() if name.startswith("adapter.")}
        return Checkpoint(
            "mmaction2 ActionCLIP",
            sha256,
            canonical(clip),
            canonical(fusion),
            activation="quickgelu",
            uniform="midpoints",
        )
    if any(name.startswith(("vision_model.", "text_model.")) for name in state):
        if not path.with_name(HF_CONFIG).is_file():
            raise ActionClipError(f"{path} has Hugging Face's layout: put its {HF_CONFIG} beside it")
        return _hugging_face(state, sha256, path.parent)
    if "input_resolution" in state:
        return Checkpoint("OpenAI CLIP", sha256, canonical(state), activation="quickgelu")
    state = {name.removeprefix("text."): value for name, value in state.items()}
    return Checkpoint("CLIP state dict", sha256, canonical(state))


def _official(content: Mapping[str, Any], sha256: str, path: Path) -> Checkpoint:
    clip = tensors(content["model_state_dict"], path)
    fusion_content = content.get("fusion_model_state_dict")
    temporal = None
    if any(re.match(r"visual\.transformer\.resblocks\.\d+\.net\.", name) for name in clip):
        temporal = "shift"
        clip = {re.sub(r"^(visual\.transformer\.resblocks\.\d+)\.net\.", r"\1.", n): v for n, v in clip.items()}
    elif "visual.time_embedding" in clip:
        temporal = "joint"
    fusion = None if fusion_content is None else canonical(renamed(tensors(fusion_content, path), _FROM_ENCODER))
    checkpoint = Checkpoint(
        "ActionCLIP", sha256, canonical(clip), fusion, 1e-12, activation="quickgelu", temporal=temporal
    )
    return _with_facts(checkpoint, table(content, NETWORKS, path), path)


def _with_facts(checkpoint: Checkpoint, facts: Mapping[str, Any], path: Path) -> Checkpoint:
    """Return an official checkpoint with what fine-tuning has written about its networks, if it has."""
    if not facts:
        return checkpoint

    def of_both(name: str, check: Callable[[Any], T], default: T) -> tuple[T, T]:
        return (
            value_of(facts, f"text_{name}", check, default, path),
            value_of(facts, f"image_{name}", check, default, path),
        )

    return replace(
        checkpoint,
        activation=value_of(facts, "activation", _known_activation, checkpoint.activation, path),
        heads=of_both("heads", validators.count, None),
        epsilons=of_both("epsilon", validators.positive_number, 1e-5),
        fusion_epsilon=value_of(facts, "fusion_epsilon", validators.positive_number, checkpoint.fusion_epsilon, path),
        frames=value_of(facts, "frames", validators.frame_count, None, path),
        preprocessing=Preprocessing(
            value_of(facts, "resize", validators.pixels, None, path),
            *normalisation(facts, "mean", "std", CLIP_PREPROCESSING, path),
        ),
        uniform=value_of(facts, "uniform", validators.uniform_rule, checkpoint.uniform, path),
        prompts=value_of(facts, "prompts", validators.prompts, checkpoint.prompts, path),
    )


def _known_activation(value: Any) -> str:
    if value not in ACTIVATIONS:
        raise ValueError(f"one of {', '.join(ACTIVATIONS)}")
    return str(value)


def _hugging_face(state: State, sha256: str, folder: Path) -> Checkpoint:
    config = read_json(folder / HF_CONFIG)
    if config.get("model_type") != "clip":
        raise ActionClipError(
            f"{folder} holds a model of type {config.get('model_type')!r:.60}, not 'clip': give a CLIPModel's folder"
        )
    path = folder / HF_CONFIG
    # Values that a configuration leaves out are transformers' defaults; as there, the older text_config_dict prevails.
    text, vision = (
        table(config, f"{part}_config" if config.get(f"{part}_config_dict") is None else f"{part}_config_dict", path)
        for part in ("text", "vision")
    )
    activations = {value_of(part, "hidden_act", validators.text, "quick_gelu", path) for part in (text, vision)}
    if not activations <= {"quick_gelu", "gelu"} or len(activations) > 1:
        raise ActionClipError(
            f"{folder} has the activations {sorted(activations)!s:.60}: only quick_gelu or gelu are known"
        )
    named = renamed(state, _FROM_HUGGING_FACE)
    for name in ("visual.proj", "text_projection"):
        if name in named and named[name].ndim == 2:
            named[name] = named[name].T
    epsilons = [value_of(part, "layer_norm_eps", validators.positive_number, 1e-5, path) for part in (text, vision)]
    return Checkpoint(
        "Hugging Face CLIP",
        sha256,
        canonical(named),
        epsilons=(epsilons[0], epsilons[1]),
        activation=activations.pop().replace("_", ""),
        heads=(
            value_of(text, "num_attention_heads", validators.count, 8, path),
            value_of(vision, "num_attention_heads", validators.count, 12, path),
        ),
        preprocessing=hf_preprocessing(folder, CLIP_PREPROCESSING),
    )


def _with_open_clip_config(checkpoint: Checkpoint, path: Path) -> Checkpoint:
    config = read_json(path)
    if "model_cfg" not in config:
        raise ActionClipError(f"{path} has no model_cfg: download it again")
    model = table(config, "model_cfg", path)
    text, vision = table(model, "text_cfg", path), table(model, "vision_cfg", path)
    for part, pool in ((text, "argmax"), (vision, "tok")):
        # These change the computation with the same weights; other variants differ in weights, and are refused.
        own = [key for key in ("act_kwargs", "norm_kwargs", "no_causal_mask") if part.get(key)]
        own += ["pool_type"] * (part.get("pool_type", pool) != pool)
        if own:
            raise ActionClipError(f"{path} sets {', '.join(own)}: such variants of CLIP are not known here")
    # Values that a configuration leaves out are open_clip's defaults.
    width = value_of(vision, "width", validators.count, 768, path)
    images = table(config, "preprocess_cfg", path)
    return replace(
        checkpoint,
        layout="open_clip",
        activation="quickgelu" if model.get("quick_gelu") else "gelu",
        heads=(
            value_of(text, "heads", validators.count, 8, path),
            width // value_of(vision, "head_width", validators.count, 64, path),
        ),
        preprocessing=Preprocessing(None, *normalisation(images, "mean", "std", CLIP_PREPROCESSING, path)),
    )
