"""Building networks from a checkpoint: sizes are read off the weights, and every weight has to be used."""

import math
from dataclasses import dataclass

import torch
from torch import nn

from action_clip.errors import ActionClipError
from action_clip.export.checkpoint_reading import State
from action_clip.export.clip.checkpoints import CLIP_PREPROCESSING, Checkpoint
from action_clip.export.clip.networks import (
    ClassTokenFusion,
    ConvolutionFusion,
    ImageTower,
    MeanFusion,
    RecurrentFusion,
    TextTower,
    TransformerFusion,
)
from action_clip.export.transformer import ACTIVATIONS
from action_clip.export.weights import (
    DEFAULT_FRAMES,
    HEAD_WIDTH,
    image_size,
    load_weights,
    require,
    shape_of,
    transformer_config,
)
from action_clip.tokenizer.bpe import CONTEXT_LENGTH, VOCABULARY_SIZE

# ActionCLIP's evaluation multiplies cosines by this instead of the learned temperature.
ACTIONCLIP_LOGIT_SCALE = 100.0
# open_clip's ViT-H, -g and -bigG divide these widths into heads of another width.
_HEAD_WIDTHS = {1280: 80, 1408: 88, 1664: 104}
# Heads of PyTorch's TransformerEncoder in Transf_cls.
_CLASS_TOKEN_ATTENTION_HEADS = 8


@dataclass(frozen=True, eq=False)
class Networks:
    """A model in PyTorch, with its preprocessing and its evaluation."""

    text: TextTower
    image: ImageTower
    fusion: nn.Module
    fusion_name: str
    """One of choices.FUSIONS."""
    activation: str
    frames: int
    resize: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    logit_scale: float
    checkpoint: Checkpoint


def assemble(
    checkpoint: Checkpoint, *, fusion: str | None = None, frames: int | None = None, activation: str | None = None
) -> Networks:
    """Build the networks of a checkpoint and load its weights, in float32 and for evaluation.

    Args:
        checkpoint: as `read_checkpoint` returns it.
        fusion: the fusion that the checkpoint must have, one of choices.FUSIONS; None: any.
        frames: frames of a clip, T; None: as many as the checkpoint says or the weights require, else 8.
        activation: "quickgelu" or "gelu", where the checkpoint does not say.

    Raises:
        ActionClipError: weights are missing or left over, or contradict an argument.
    """
    state = checkpoint.clip
    if any(name.startswith("visual.layer1.") for name in state):
        raise ActionClipError("the checkpoint is a CLIP with a ResNet: only those with a vision transformer are known")
    needed = ("visual.conv1.weight", "visual.positional_embedding", "visual.proj", "token_embedding.weight")
    require(state, (*needed, "positional_embedding", "text_projection"))
    fusion_name = _fusion_name(checkpoint, fusion)
    frames = _frames(checkpoint, fusion_name, frames or checkpoint.frames)
    activation = _activation(checkpoint, activation)
    with torch.device("meta"):  # takes no memory: the checkpoint's tensors become the weights
        text, image = _text_tower(checkpoint, activation), _image_tower(checkpoint, activation, frames)
        network = _fusion(checkpoint, fusion_name, frames)
    images = {name.removeprefix("visual."): value for name, value in state.items() if name.startswith("visual.")}
    texts = {name: value for name, value in state.items() if not name.startswith("visual.") and name != "logit_scale"}
    used = {name: value for name, value in (checkpoint.fusion or {}).items() if name not in _unused(fusion_name)}
    load_weights([(text, texts, ""), (image, images, "visual."), (network, used, "fusion: ")])
    preprocessing = checkpoint.preprocessing or CLIP_PREPROCESSING
    # ActionCLIP is evaluated on the centre of a somewhat larger frame, CLIP on the largest square.
    is_action_clip = checkpoint.fusion is not None or checkpoint.layout == "ActionCLIP"
    resize = image.image_size * 256 // 224 if is_action_clip else image.image_size
    scale = ACTIONCLIP_LOGIT_SCALE if is_action_clip else _logit_scale(state)
    return Networks(
        text=text,
        image=image,
        fusion=network,
        fusion_name=fusion_name,
        activation=activation,
        frames=frames,
        resize=max(preprocessing.resize or resize, image.image_size),
        mean=preprocessing.mean,
        std=preprocessing.std,
        logit_scale=scale,
        checkpoint=checkpoint,
    )


def _fusion_name(checkpoint: Checkpoint, requested: str | None) -> str:
    """Return the kind of fusion, recognised by its weights. Raises ActionClipError where another is requested."""
    names = checkpoint.fusion or {}
    marks = {
        "LSTM": "lstm_visual.",
        "Conv_1D": "shift.",
        "Transf_cls": "cls_token",
        "Transf": "transformer.",
    }
    own = next((fusion for fusion, mark in marks.items() if any(name.startswith(mark) for name in names)), "meanP")
    if checkpoint.layout == "ActionCLIP" and checkpoint.fusion is None and requested != "meanP":
        raise ActionClipError(
            "the checkpoint has a model_state_dict but no fusion_model_state_dict: give one with both, or say "
            "--fusion meanP for the mean over frames"
        )
    if requested not in (None, own):
        raise ActionClipError(
            f"the checkpoint's fusion is {own}, not {requested}: give another checkpoint or leave out --fusion"
        )
    return own


def _frames(checkpoint: Checkpoint, fusion_name: str, requested: int | None) -> int:
    fixed = None
    if checkpoint.temporal == "joint":
        fixed = shape_of(checkpoint.clip, "visual.time_embedding", 2)[0]
    elif fusion_name == "Transf_cls":
        fixed = shape_of(checkpoint.fusion or {}, "pos_embed", 3)[1] - 1
        if fixed < 1:
            raise ActionClipError("pos_embed has no position for a frame: give the checkpoint of an ActionCLIP model")
    if fixed is not None and requested not in (None, fixed):
        raise ActionClipError(
            f"the checkpoint's weights are for {fixed} frames, not {requested}: give another checkpoint or leave out "
            "--frames"
        )
    most = None
    if fusion_name == "Transf":
        most = shape_of(checkpoint.fusion or {}, "frame_position_embeddings.weight", 2)[0]
    if fixed is None and requested is None and most is not None and most < CONTEXT_LENGTH:
        # mmaction2 has a position for each frame; the official code has 77 for clips of any length.
        return most
    count = fixed or requested or DEFAULT_FRAMES
    if most is not None and count > most:
        raise ActionClipError(f"the checkpoint has positions for {most} frames: give --frames {most} or fewer")
    return count


def _activation(checkpoint: Checkpoint, requested: str | None) -> str:
    if checkpoint.activation is None and requested is None:
        raise ActionClipError(
            "the weights do not say with which activation they were trained: give --activation quickgelu (OpenAI's "
            "weights, and models of open_clip with quickgelu in their name) or --activation gelu (its others)"
        )
    if requested not in (None, checkpoint.activation) and checkpoint.activation is not None:
        raise ActionClipError(
            f"the checkpoint's activation is {checkpoint.activation}, not {requested}: give another checkpoint or "
            "leave out --activation"
        )
    return checkpoint.activation or str(requested)


def _text_tower(checkpoint: Checkpoint, activation: str) -> TextTower:
    state = checkpoint.clip
    vocabulary = shape_of(state, "token_embedding.weight", 2)[0]
    context = shape_of(state, "positional_embedding", 2)[0]
    if (vocabulary, context) != (VOCABULARY_SIZE, CONTEXT_LENGTH):
        raise ActionClipError(
            f"the checkpoint has {vocabulary} tokens and texts of {context}: only CLIP's own tokens are known "
            f"({VOCABULARY_SIZE}, {CONTEXT_LENGTH})"
        )
    width, embedding = shape_of(state, "text_projection", 2)
    config = transformer_config(state, "transformer.", width, checkpoint.heads[0] or width // HEAD_WIDTH)
    return TextTower(config, vocabulary, context, embedding, ACTIVATIONS[activation], checkpoint.epsilons[0])


def _image_tower(checkpoint: Checkpoint, activation: str, frames: int) -> ImageTower:
    state = checkpoint.clip
    width, embedding = shape_of(state, "visual.proj", 2)
    if embedding != _embedding(checkpoint):
        raise ActionClipError(
            f"images are embedded in {embedding} dimensions, texts in {_embedding(checkpoint)}: give the checkpoint of "
            "a CLIP model"
        )
    patch = shape_of(state, "visual.conv1.weight", 4)[3]
    positions = shape_of(state, "visual.positional_embedding", 2)[0]
    heads = checkpoint.heads[1] or width // _HEAD_WIDTHS.get(width, HEAD_WIDTH)
    return ImageTower(
        transformer_config(state, "visual.transformer.", width, heads),
        image_size(patch, positions, frames if checkpoint.temporal == "joint" else 1),
        patch,
        embedding,
        ACTIVATIONS[activation],
        checkpoint.epsilons[1],
        temporal=checkpoint.temporal,
        frames=frames,
    )


def _embedding(checkpoint: Checkpoint) -> int:
    return shape_of(checkpoint.clip, "text_projection", 2)[1]


def _fusion(checkpoint: Checkpoint, name: str, frames: int) -> nn.Module:
    """Return the network of one of choices.FUSIONS."""
    state, embedding = checkpoint.fusion or {}, _embedding(checkpoint)
    if name == "Conv_1D":
        return ConvolutionFusion(embedding)
    if name == "LSTM":
        return RecurrentFusion(embedding)
    if name == "Transf":
        # As many attention heads as the text tower has, for any width of the embedding.
        heads = shape_of(checkpoint.clip, "text_projection", 2)[0] // HEAD_WIDTH
        config = transformer_config(state, "transformer.", embedding, heads)
        positions = shape_of(state, "frame_position_embeddings.weight", 2)[0]
        return TransformerFusion(config, positions, checkpoint.fusion_epsilon)
    if name == "Transf_cls":
        config = transformer_config(state, "transformer.", embedding, _CLASS_TOKEN_ATTENTION_HEADS)
        return ClassTokenFusion(config, frames)
    return MeanFusion()


def _unused(fusion_name: str) -> tuple[str, ...]:
    """Return names of weights without effect: the published code has frame positions that only Transf uses."""
    return () if fusion_name == "Transf" else ("frame_position_embeddings.weight",)


def _logit_scale(state: State) -> float:
    """Return the factor for cosines, whose logarithm a CLIP learns. Raises ActionClipError where it is damaged."""
    learned = state.get("logit_scale", torch.tensor(math.log(ACTIONCLIP_LOGIT_SCALE)))
    # CLIP limits the logarithm to ln 100; a far larger one is damage.
    if learned.numel() != 1 or not abs(float(learned)) < 20:
        raise ActionClipError("logit_scale is not one number below 20: give the checkpoint of a CLIP model")
    return math.exp(float(learned))
