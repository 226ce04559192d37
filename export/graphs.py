"""From a PyTorch network to an ONNX graph of standard operators, its batch and its length free."""

import logging
import warnings

import onnx
import torch
from torch import Tensor, nn
from torch.export import Dim

from export.assemble import Networks
from export.networks import ClassTokenHead, TransformerHead
from tokenizer.bpe import CONTEXT_LENGTH

OPSET = 18
_MOST = 65536
_BATCH = Dim("batch", max=_MOST)
Axes = dict[int, Dim]


def role_graph(networks: Networks, role: str) -> onnx.ModelProto:
    """The graph of a model's role: "text", "image" or "fusion"; inputs and outputs as in docs/architecture.md."""
    if role == "text":
        tokens = torch.zeros(2, 8, dtype=torch.long)
        return to_onnx(networks.text, "tokens", tokens, {0: _BATCH, 1: Dim("length", max=CONTEXT_LENGTH)})
    if role == "image":
        image = networks.image
        # Where the frames of a clip see each other there are only whole clips.
        batch = _BATCH if image.temporal is None else image.frames * Dim("clips", max=_MOST // image.frames)
        frames = torch.zeros(2 * image.frames, 3, image.image_size, image.image_size)
        return to_onnx(image, "frames", frames, {0: batch})
    features = torch.zeros(2, networks.frames, networks.image.proj.shape[1])
    axes = {0: _BATCH}
    if not isinstance(networks.fusion, ClassTokenHead):
        head = networks.fusion
        most = head.frame_position_embeddings.num_embeddings if isinstance(head, TransformerHead) else _MOST
        axes[1] = Dim("frames", max=most)
    return to_onnx(networks.fusion, "frame_features", features, axes)


def to_onnx(network: nn.Module, name: str, example: Tensor, free: Axes) -> onnx.ModelProto:
    """The graph of a network with one input, called `name`, and one output, called features.

    Args:
        network: in float32; it is set to evaluation.
        name: of the input.
        example: of the input; no size of a free axis in it may be 1.
        free: its axes that may have any size, each with its name and its bounds.
    """
    # It tells of operators of torchvision and of its own deprecated parts, which no user can do anything about.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        # Of an LSTM, whose weights PyTorch also keeps in a list.
        warnings.filterwarnings("ignore", "The tensor attributes .*_flat_weights", UserWarning)
        program = torch.onnx.export(
            network.eval(),
            (example,),
            input_names=[name],
            output_names=["features"],
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes=(free,),
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    # The exporter writes where in which file each node comes from: machine-specific, and much of a small file.
    for node in model.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    return model
