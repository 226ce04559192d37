"""From a PyTorch network to an ONNX graph of standard operators, its batch and its length free."""

import logging
import warnings
from collections.abc import Sequence

import onnx
import torch
from torch import Tensor, nn
from torch.export import Dim

OPSET = 18
# Of an axis that may have any size.
MOST = 65536
BATCH = Dim("batch", max=MOST)
Axes = dict[int, Dim]


def to_onnx(
    network: nn.Module, name: str, example: Tensor, free: Axes, outputs: Sequence[str] = ("features",)
) -> onnx.ModelProto:
    """The graph of a network with one input, called `name`.

    Args:
        network: in float32; it is set to evaluation.
        name: of the input.
        example: of the input; no size of a free axis in it may be 1.
        free: its axes that may have any size, each with its name and its bounds.
        outputs: their names.
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
            output_names=list(outputs),
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
