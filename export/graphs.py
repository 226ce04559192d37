"""Converting a PyTorch network to an ONNX graph of standard operators with dynamic axes."""

import logging
import warnings
from collections.abc import Sequence

import onnx
import torch
from torch import Tensor, nn
from torch.export import Dim

OPSET = 18
# The largest size of a dynamic axis.
MOST = 65536
BATCH = Dim("batch", max=MOST)
DynamicAxes = dict[int, Dim]


def to_onnx(
    network: nn.Module, name: str, example: Tensor, dynamic: DynamicAxes, outputs: Sequence[str] = ("features",)
) -> onnx.ModelProto:
    """Return the ONNX graph of a network with one input, called `name`.

    Args:
        network: in float32; it is set to evaluation mode.
        name: the input's name.
        example: an input; its dynamic axes must not have size 1.
        dynamic: axes of any size, each with its name and bounds.
        outputs: the outputs' names.
    """
    # The exporter warns that torchvision is missing, and of its own deprecated parts, which no user can change.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        # An LSTM's weights are also attributes in a list.
        warnings.filterwarnings("ignore", "The tensor attributes .*_flat_weights", UserWarning)
        program = torch.onnx.export(
            network.eval(),
            (example,),
            input_names=[name],
            output_names=list(outputs),
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes=(dynamic,),
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    # These are each node's stack traces, which name paths of this machine and take much of a small file.
    for node in model.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    return model
