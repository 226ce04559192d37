"""Reading checkpoints of TimeSformer in any known layout into one form, and building the network of one."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from action_clip.errors import ActionClipError
from action_clip.export.checkpoint_reading import (
    HF_CONFIG,
    HF_WEIGHTS,
    Preprocessing,
    Rules,
    State,
    canonical,
    hf_preprocessing,
    json_object,
    read_json,
    read_path,
    read_weights,
    renamed,
    tensors,
    value_of,
    weights,
)
from action_clip.export.timesformer.networks import ATTENTIONS, DIVIDED, EPSILON, JOINT, SPACE_ONLY, TimeSformer
from action_clip.export.weights import (
    DEFAULT_FRAMES,
    HEAD_WIDTH,
    image_size,
    load_weights,
    require,
    shape_of,
    transformer_config,
)
from action_clip.models.catalog import validators

# Preprocessing of the original code (DATA.MEAN and DATA.STD in its defaults.py), and so of the weights at Hugging Face;
# the short side is as long as the crop.
ORIGINAL_PREPROCESSING = Preprocessing(None, (0.45,) * 3, (0.225,) * 3)
# Preprocessing that mmaction2 trained and evaluated its own weights with: mean and std are 127.5 of 255.
MMACTION_PREPROCESSING = Preprocessing(None, (0.5,) * 3, (0.5,) * 3)

# Some data sets have 20,000 classes.
_MOST_CLASSES = 100_000

# Names of each layout → this project's, which are those of export.clip.networks.
_FROM_ORIGINAL: Rules = (
    (r"^model\.", ""),
    (r"^patch_embed\.proj\.", "conv1."),
    (r"^blocks\.", "resblocks."),
    (r"^(resblocks\.\d+\.(?:temporal_)?attn)\.qkv\.", r"\1.in_proj_"),
    (r"^(resblocks\.\d+\.(?:temporal_)?attn)\.proj\.", r"\1.out_proj."),
    (r"^(resblocks\.\d+)\.temporal_norm1\.", r"\1.temporal_ln."),
    (r"^(resblocks\.\d+)\.norm(\d)\.", r"\1.ln_\2."),
    (r"^(resblocks\.\d+)\.mlp\.fc1\.", r"\1.mlp.c_fc."),
    (r"^(resblocks\.\d+)\.mlp\.fc2\.", r"\1.mlp.c_proj."),
)
_FROM_HUGGING_FACE: Rules = (
    (r"^timesformer\.", ""),
    (r"^embeddings\.(cls_token)$", r"\1"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.time_embeddings$", "time_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "conv1."),
    (r"^layernorm\.", "norm."),
    (r"^classifier\.", "head."),
    (r"^encoder\.layer\.", "resblocks."),
    (r"^(resblocks\.\d+\.(?:temporal_)?)attention\.attention\.qkv\.", r"\1attn.in_proj_"),
    (r"^(resblocks\.\d+\.(?:temporal_)?)attention\.output\.dense\.", r"\1attn.out_proj."),
    (r"^(resblocks\.\d+)\.temporal_layernorm\.", r"\1.temporal_ln."),
    (r"^(resblocks\.\d+)\.temporal_dense\.", r"\1.temporal_fc."),
    (r"^(resblocks\.\d+)\.layernorm_before\.", r"\1.ln_1."),
    (r"^(resblocks\.\d+)\.layernorm_after\.", r"\1.ln_2."),
    (r"^(resblocks\.\d+)\.intermediate\.dense\.", r"\1.mlp.c_fc."),
    (r"^(resblocks\.\d+)\.output\.dense\.", r"\1.mlp.c_proj."),
)
_FROM_MMACTION: Rules = (
    (r"^backbone\.", ""),
    (r"^cls_head\.fc_cls\.", "head."),
    (r"^patch_embed\.projection\.", "conv1."),
    (r"^transformer_layers\.layers\.", "resblocks."),
    (r"^(resblocks\.\d+)\.ffns\.0\.layers\.0\.0\.", r"\1.mlp.c_fc."),
    (r"^(resblocks\.\d+)\.ffns\.0\.layers\.1\.", r"\1.mlp.c_proj."),
)
# The first attention is over time where there are two, and over space where there is one.
_FROM_MMACTION_DIVIDED: Rules = (
    (r"^(resblocks\.\d+)\.attentions\.0\.norm\.", r"\1.temporal_ln."),
    (r"^(resblocks\.\d+)\.attentions\.0\.attn\.", r"\1.temporal_attn."),
    (r"^(resblocks\.\d+)\.attentions\.0\.temporal_fc\.", r"\1.temporal_fc."),
    (r"^(resblocks\.\d+)\.attentions\.1\.norm\.", r"\1.ln_1."),
    (r"^(resblocks\.\d+)\.attentions\.1\.attn\.", r"\1.attn."),
    (r"^(resblocks\.\d+)\.ffns\.0\.norm\.", r"\1.ln_2."),
)
_FROM_MMACTION_WHOLE: Rules = (
    (r"^(resblocks\.\d+)\.attentions\.0\.attn\.", r"\1.attn."),
    (r"^(resblocks\.\d+)\.norms\.0\.", r"\1.ln_1."),
    (r"^(resblocks\.\d+)\.norms\.1\.", r"\1.ln_2."),
)


@dataclass(frozen=True, eq=False)
class TimeSformerCheckpoint:
    """The weights of a TimeSformer under this project's names, in float32, and its checkpoint's other data on it."""

    layout: str
    """Name of the layout: "TimeSformer", …"""
    sha256: str
    """Hash of the file, or of the concatenated files of a sharded checkpoint."""
    state: State
    attention: str
    """One of networks.ATTENTIONS."""
    preprocessing: Preprocessing
    """Its resize is None where the short side is as long as the network's image."""
    heads: int | None = None
    """Attention heads; None where the checkpoint does not say."""
    epsilon: float = EPSILON
    """Epsilon of the LayerNorms."""
    frames: int | None = None
    """Frames of a clip, from the configuration; weights that determine the number take precedence."""
    class_names: tuple[str, ...] | None = None
    """Names of the classes in the order of the logits; None where the checkpoint has none."""


def read_timesformer(path: Path, *, trust: bool = False) -> TimeSformerCheckpoint:
    """Read a TimeSformer's checkpoint file or folder of any known layout.

    Layouts: the original code's (.pyth), mmaction2's, Hugging Face's TimesformerForVideoClassification (folder, sharded
    or not, or the weights alone).

    Args:
        path: a file, or a folder with config.json.
        trust: let the file's pickle run any code, where PyTorch's safe reader refuses it.

    Raises:
        ActionClipError: the file is missing, damaged, unsafe, or of no known layout.
    """
    return read_path(
        path,
        lambda folder: _read_folder(folder, trust),
        lambda content, sha256: _recognised(content, sha256, path),
        trust,
    )


def assemble_timesformer(checkpoint: TimeSformerCheckpoint) -> TimeSformer:
    """Build the network of a checkpoint and load its weights, in float32 and for evaluation.

    Raises:
        ActionClipError: weights are missing, left over or of another shape.
    """
    state = checkpoint.state
    timed = ("time_embed",) if checkpoint.attention != SPACE_ONLY else ()
    require(state, ("conv1.weight", "cls_token", "pos_embed", *timed, "head.weight"))
    classes, width = shape_of(state, "head.weight", 2)
    if classes > _MOST_CLASSES:
        raise ActionClipError(f"the checkpoint tells {classes} classes apart: it is not of a model that is known here")
    patch = shape_of(state, "conv1.weight", 4)[3]
    frames = shape_of(state, "time_embed", 3)[1] if timed else checkpoint.frames or DEFAULT_FRAMES
    config = transformer_config(state, "", width, checkpoint.heads or width // HEAD_WIDTH)
    pixels = image_size(patch, shape_of(state, "pos_embed", 3)[1], frames if checkpoint.attention == JOINT else 1)
    network = TimeSformer(config, pixels, patch, frames, classes, checkpoint.attention, checkpoint.epsilon)
    load_weights([(network, state, "")])
    named = len(checkpoint.class_names or ())
    if named not in (0, classes):
        raise ActionClipError(f"the checkpoint names {named} classes but tells {classes} apart: download it again")
    return network


def _read_folder(folder: Path, trust: bool) -> TimeSformerCheckpoint:
    if (folder / HF_CONFIG).is_file() and (stored := read_weights(folder, HF_WEIGHTS, trust)):
        return _hugging_face(*stored, folder)
    raise ActionClipError(
        f"{folder} is no checkpoint: it needs {HF_CONFIG} with {' or '.join(HF_WEIGHTS)} (Hugging Face)"
    )


def _recognised(content: Mapping[str, Any], sha256: str, path: Path) -> TimeSformerCheckpoint:
    """Return the checkpoint in a file's content, whose layout is recognised by its keys."""
    inner = content.get("model_state")
    state = weights(content, path) if inner is None else tensors(inner, path)
    if any(name.startswith("timesformer.") for name in state):
        return _hugging_face(state, sha256, path.parent)
    if any(name.startswith("backbone.transformer_layers.") for name in state):
        divided = any(".attentions.1." in name for name in state)
        rules = _FROM_MMACTION + (_FROM_MMACTION_DIVIDED if divided else _FROM_MMACTION_WHOLE)
        named = canonical(renamed(state, rules))
        return TimeSformerCheckpoint("mmaction2 TimeSformer", sha256, named, _attention(named), MMACTION_PREPROCESSING)
    if "model.patch_embed.proj.weight" in state:
        named = canonical(renamed(state, _FROM_ORIGINAL))
        return TimeSformerCheckpoint("TimeSformer", sha256, named, _attention(named), ORIGINAL_PREPROCESSING)
    raise ActionClipError(
        f"{path} is not of a TimeSformer: give a checkpoint of the original code, of mmaction2 or of Hugging Face"
    )


def _attention(state: State) -> str:
    """Return the kind of attention, recognised by its weights."""
    if any(".temporal_" in name for name in state):
        return DIVIDED
    return JOINT if "time_embed" in state else SPACE_ONLY


def _hugging_face(state: State, sha256: str, folder: Path) -> TimeSformerCheckpoint:
    """Return the checkpoint with the data of the configuration beside the weights, if there is one."""
    layout, named = "Hugging Face TimeSformer", canonical(renamed(state, _FROM_HUGGING_FACE))
    preprocessing = hf_preprocessing(folder, ORIGINAL_PREPROCESSING)
    path = folder / HF_CONFIG
    if not path.is_file():
        return TimeSformerCheckpoint(layout, sha256, named, _attention(named), preprocessing)
    config = read_json(path)
    if config.get("model_type") != "timesformer":
        raise ActionClipError(
            f"{folder} holds a model of type {config.get('model_type')!r:.60}, not 'timesformer': give a "
            "TimesformerForVideoClassification's folder"
        )
    activation = value_of(config, "hidden_act", validators.text, "gelu", path)
    if activation != "gelu":
        raise ActionClipError(f"{folder} has the activation {activation!r:.60}: only gelu is known")
    # Values that a configuration leaves out are transformers' defaults.
    return TimeSformerCheckpoint(
        layout,
        sha256,
        named,
        value_of(config, "attention_type", _known_attention, DIVIDED, path),
        preprocessing,
        heads=value_of(config, "num_attention_heads", validators.count, 12, path),
        epsilon=value_of(config, "layer_norm_eps", validators.positive_number, EPSILON, path),
        frames=value_of(config, "num_frames", validators.frame_count, DEFAULT_FRAMES, path),
        class_names=value_of(config, "id2label", _class_names, None, path),
    )


def _known_attention(value: Any) -> str:
    if value not in ATTENTIONS:
        raise ValueError(f"one of {', '.join(ATTENTIONS)}")
    return str(value)


def _class_names(value: Any) -> tuple[str, ...] | None:
    """Return id2label's names in order; None where they are placeholders of transformers, LABEL_0 and so on."""
    names = json_object(value)
    if set(names) != {str(number) for number in range(len(names))}:
        raise ValueError("an object of names by number, from 0 on")
    ordered = tuple(validators.line(names[str(number)]) for number in range(len(names)))
    made_up = all(re.fullmatch(r"LABEL_\d+", name) for name in ordered)
    return None if made_up else ordered
