"""From a checkpoint's weights to networks: every size is read off the weights, and every weight finds its place."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from action_clip.errors import ActionClipError
from action_clip.export.checkpoint_reading import State
from action_clip.export.clip.checkpoints import CLIP_PREPROCESSING, Checkpoint
from action_clip.export.clip.networks import (
    ClassTokenHead,
    ConvolutionHead,
    ImageTower,
    MeanHead,
    RecurrentHead,
    TextTower,
    TransformerHead,
)
from action_clip.export.transformer import ACTIVATIONS
from action_clip.export.weights import DEFAULT_FRAMES, HEAD_WIDTH, fill, image_size, require, sides, transformer_size
from action_clip.tokenizer.bpe import CONTEXT_LENGTH, VOCABULARY_SIZE

# ActionCLIP's evaluation multiplies cosines by this, whatever temperature was learned.
ACTIONCLIP_LOGIT_SCALE = 100.0
# open_clip's ViT-H, -g and -bigG divide these widths into heads of another width.
_HEAD_WIDTHS = {1280: 80, 1408: 88, 1664: 104}
# PyTorch's TransformerEncoder in Transf_cls.
_CLASS_TOKEN_HEADS = 8


@dataclass(frozen=True, eq=False)
class Networks:
    """A model in PyTorch, and what must be known to feed it."""

    text: TextTower
    image: ImageTower
    fusion: nn.Module
    head: str
    """Name of the frame head, one of choices.HEADS."""
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
        checkpoint: as read.
        fusion: the frame head that the checkpoint is said to have, one of choices.HEADS; None: whatever it has.
        frames: of a clip, T; None: what the weights ask for, else 8.
        activation: "quickgelu" or "gelu", where the checkpoint does not say.

    Raises:
        ActionClipError: weights are missing or left over, or contradict what was asked for.
    """
    state = checkpoint.clip
    if any(name.startswith("visual.layer1.") for name in state):
        raise ActionClipError("the checkpoint is a CLIP with a ResNet: only those with a vision transformer are known")
    needed = ("visual.conv1.weight", "visual.positional_embedding", "visual.proj", "token_embedding.weight")
    require(state, (*needed, "positional_embedding", "text_projection"))
    head = _head(checkpoint, fusion)
    count = _frames(checkpoint, head, frames)
    chosen = _activation(checkpoint, activation)
    with torch.device("meta"):  # no room and no initial values: the checkpoint has both
        text, image = _text_tower(checkpoint, chosen), _image_tower(checkpoint, chosen, count)
        network = _HEADS[head](checkpoint, count)
    images = {name.removeprefix("visual."): value for name, value in state.items() if name.startswith("visual.")}
    texts = {name: value for name, value in state.items() if not name.startswith("visual.") and name != "logit_scale"}
    used = {name: value for name, value in (checkpoint.fusion or {}).items() if name not in _unused(head)}
    fill([(text, texts, ""), (image, images, "visual."), (network, used, "fusion: ")])
    preprocessing = checkpoint.preprocessing or CLIP_PREPROCESSING
    # ActionCLIP is evaluated on the centre of a somewhat larger frame, CLIP on as much as fits.
    is_action_clip = checkpoint.fusion is not None or checkpoint.layout == "ActionCLIP"
    resize = image.image_size * 256 // 224 if is_action_clip else image.image_size
    scale = ACTIONCLIP_LOGIT_SCALE if is_action_clip else _logit_scale(state)
    return Networks(
        text=text,
        image=image,
        fusion=network,
        head=head,
        activation=chosen,
        frames=count,
        resize=max(preprocessing.resize or resize, image.image_size),
        mean=preprocessing.mean,
        std=preprocessing.std,
        logit_scale=scale,
        checkpoint=checkpoint,
    )


def _head(checkpoint: Checkpoint, asked: str | None) -> str:
    """The frame head, told by its weights."""
    names = checkpoint.fusion or {}
    marks = {
        "LSTM": "lstm_visual.",
        "Conv_1D": "shift.",
        "Transf_cls": "cls_token",
        "Transf": "transformer.",
    }
    found = next((head for head, mark in marks.items() if any(name.startswith(mark) for name in names)), "meanP")
    if checkpoint.layout == "ActionCLIP" and checkpoint.fusion is None and asked != "meanP":
        raise ActionClipError(
            "the checkpoint has a model_state_dict but no fusion_model_state_dict: give one with both, or say "
            "--fusion meanP for the mean over frames"
        )
    if asked not in (None, found):
        raise ActionClipError(
            f"the checkpoint's frame head is {found}, not {asked}: give another checkpoint or leave out --fusion"
        )
    return found


def _frames(checkpoint: Checkpoint, head: str, asked: int | None) -> int:
    fixed = None
    if checkpoint.temporal == "joint":
        fixed = sides(checkpoint.clip, "visual.time_embedding", 2)[0]
    elif head == "Transf_cls":
        fixed = sides(checkpoint.fusion or {}, "pos_embed", 3)[1] - 1
        if fixed < 1:
            raise ActionClipError("pos_embed has no place for a frame: give the checkpoint of an ActionCLIP model")
    if fixed is not None and asked not in (None, fixed):
        raise ActionClipError(
            f"the checkpoint's weights are for {fixed} frames, not {asked}: give another checkpoint or leave out "
            "--frames"
        )
    most = None
    if head == "Transf":
        most = sides(checkpoint.fusion or {}, "frame_position_embeddings.weight", 2)[0]
    if fixed is None and asked is None and most is not None and most < CONTEXT_LENGTH:
        # mmaction2 has a position for each frame; the official code has 77, whatever the clip.
        return most
    count = fixed or asked or DEFAULT_FRAMES
    if most is not None and count > most:
        raise ActionClipError(f"the checkpoint has positions for {most} frames: give --frames {most} or fewer")
    return count


def _activation(checkpoint: Checkpoint, asked: str | None) -> str:
    if checkpoint.activation is None and asked is None:
        raise ActionClipError(
            "the weights do not say with which activation they were trained: give --activation quickgelu (OpenAI's "
            "weights, and models of open_clip with quickgelu in their name) or --activation gelu (its others)"
        )
    if asked not in (None, checkpoint.activation) and checkpoint.activation is not None:
        raise ActionClipError(
            f"the checkpoint's activation is {checkpoint.activation}, not {asked}: give another checkpoint or leave "
            "out --activation"
        )
    return checkpoint.activation or str(asked)


def _text_tower(checkpoint: Checkpoint, activation: str) -> TextTower:
    state = checkpoint.clip
    vocabulary = sides(state, "token_embedding.weight", 2)[0]
    context = sides(state, "positional_embedding", 2)[0]
    if (vocabulary, context) != (VOCABULARY_SIZE, CONTEXT_LENGTH):
        raise ActionClipError(
            f"the checkpoint has {vocabulary} tokens and texts of {context}: only CLIP's own tokens are known "
            f"({VOCABULARY_SIZE}, {CONTEXT_LENGTH})"
        )
    width, embedding = sides(state, "text_projection", 2)
    size = transformer_size(state, "transformer.", width, checkpoint.heads[0] or width // HEAD_WIDTH)
    return TextTower(size, vocabulary, context, embedding, ACTIVATIONS[activation], checkpoint.epsilons[0])


def _image_tower(checkpoint: Checkpoint, activation: str, frames: int) -> ImageTower:
    state = checkpoint.clip
    width, embedding = sides(state, "visual.proj", 2)
    if embedding != _embedding(checkpoint):
        raise ActionClipError(
            f"images are embedded in {embedding} dimensions, texts in {_embedding(checkpoint)}: give the checkpoint of "
            "a CLIP model"
        )
    patch = sides(state, "visual.conv1.weight", 4)[3]
    places = sides(state, "visual.positional_embedding", 2)[0]
    heads = checkpoint.heads[1] or width // _HEAD_WIDTHS.get(width, HEAD_WIDTH)
    return ImageTower(
        transformer_size(state, "visual.transformer.", width, heads),
        image_size(patch, places, frames if checkpoint.temporal == "joint" else 1),
        patch,
        embedding,
        ACTIVATIONS[activation],
        checkpoint.epsilons[1],
        temporal=checkpoint.temporal,
        frames=frames,
    )


def _embedding(checkpoint: Checkpoint) -> int:
    return sides(checkpoint.clip, "text_projection", 2)[1]


def _mean_head(checkpoint: Checkpoint, frames: int) -> nn.Module:
    return MeanHead()


def _convolution_head(checkpoint: Checkpoint, frames: int) -> nn.Module:
    return ConvolutionHead(_embedding(checkpoint))


def _recurrent_head(checkpoint: Checkpoint, frames: int) -> nn.Module:
    return RecurrentHead(_embedding(checkpoint))


def _transformer_head(checkpoint: Checkpoint, frames: int) -> nn.Module:
    state = checkpoint.fusion or {}
    # As many heads as the text tower has, whatever the embedding's width.
    heads = sides(checkpoint.clip, "text_projection", 2)[0] // HEAD_WIDTH
    size = transformer_size(state, "transformer.", _embedding(checkpoint), heads)
    return TransformerHead(size, sides(state, "frame_position_embeddings.weight", 2)[0], checkpoint.fusion_epsilon)


def _class_token_head(checkpoint: Checkpoint, frames: int) -> nn.Module:
    size = transformer_size(checkpoint.fusion or {}, "transformer.", _embedding(checkpoint), _CLASS_TOKEN_HEADS)
    return ClassTokenHead(size, frames)


_HEADS: dict[str, Callable[[Checkpoint, int], nn.Module]] = {
    "meanP": _mean_head,
    "Conv_1D": _convolution_head,
    "LSTM": _recurrent_head,
    "Transf": _transformer_head,
    "Transf_cls": _class_token_head,
}


def _unused(head: str) -> tuple[str, ...]:
    """The published code gives every head but meanP frame positions, and only Transf looks at them."""
    return () if head == "Transf" else ("frame_position_embeddings.weight",)


def _logit_scale(state: State) -> float:
    """What a CLIP multiplies cosines by; it learns the logarithm."""
    learned = state.get("logit_scale", torch.tensor(math.log(ACTIONCLIP_LOGIT_SCALE)))
    # CLIP keeps it at most at ln 100; far more is damage.
    if learned.numel() != 1 or not abs(float(learned)) < 20:
        raise ActionClipError("logit_scale is not one number below 20: give the checkpoint of a CLIP model")
    return math.exp(float(learned))
