"""Mobile blocks: inverted bottlenecks, ShuffleNet and Ghost units."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from nas.ops.modules.activation import make_activation
from nas.ops.modules.channel_attention import SqueezeExcite
from nas.ops.modules.conv import ConvBN, ConvBNAct, same_padding
from nas.ops.modules.separable import DepthwiseConvBNAct
from nas.ops.modules.wiring import DropPath


class MBConv(nn.Module):
    """Mobile inverted bottleneck (Sandler et al. 2018), with squeeze-and-excitation (Tan et al. 2019).

    The squeeze width is a share of the block's input channels; at expansion 1 there is no expanding convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1, expansion: int = 6,
                 se_ratio: float = 0.25, activation: str = "silu", skip: bool = True,
                 drop_path: float = 0.0) -> None:  # fmt: skip
        super().__init__()
        hidden = in_channels * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers.append(ConvBNAct(in_channels, hidden, 1, activation=activation))
        layers.append(DepthwiseConvBNAct(hidden, kernel_size, stride, activation))
        if se_ratio > 0:
            layers.append(SqueezeExcite(hidden, max(1, int(in_channels * se_ratio)), activation=activation))
        layers.append(ConvBN(hidden, out_channels, 1))
        self.layers = nn.Sequential(*layers)
        self.residual = skip and stride == 1 and in_channels == out_channels
        self.drop_path = DropPath(drop_path if self.residual else 0.0)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return x + self.drop_path(y) if self.residual else y


class FusedMBConv(nn.Module):
    """Inverted bottleneck whose expanding convolution is a full kxk (EfficientNetV2); at expansion 1 that one alone."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1, expansion: int = 4,
                 se_ratio: float = 0.0, activation: str = "silu", skip: bool = True,
                 drop_path: float = 0.0) -> None:  # fmt: skip
        super().__init__()
        hidden = out_channels if expansion == 1 else in_channels * expansion
        layers: list[nn.Module] = [ConvBNAct(in_channels, hidden, kernel_size, stride, activation=activation)]
        if se_ratio > 0:
            layers.append(SqueezeExcite(hidden, max(1, int(in_channels * se_ratio)), activation=activation))
        if expansion != 1:
            layers.append(ConvBN(hidden, out_channels, 1))
        self.layers = nn.Sequential(*layers)
        self.residual = skip and stride == 1 and in_channels == out_channels
        self.drop_path = DropPath(drop_path if self.residual else 0.0)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return x + self.drop_path(y) if self.residual else y


def make_divisible(channels: float, divisor: int = 8) -> int:
    """The nearest multiple of the divisor that is not under 90 % of the channels (MobileNet)."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


class InvertedResidual(nn.Module):
    """Inverted bottleneck of a given width (MobileNetV3): squeeze to a quarter of it, ReLU, hard sigmoid.

    Where the width is the input's there is no expanding convolution. A width that is not given is ``expansion`` times it.
    """

    def __init__(self, in_channels: int, out_channels: int, hidden_channels: int | None = None, expansion: int = 6,
                 kernel_size: int = 3, stride: int = 1, se: bool = False, activation: str = "relu",
                 drop_path: float = 0.0) -> None:  # fmt: skip
        super().__init__()
        hidden_channels = hidden_channels or expansion * in_channels
        layers: list[nn.Module] = []
        if hidden_channels != in_channels:
            layers.append(ConvBNAct(in_channels, hidden_channels, 1, activation=activation))
        layers.append(DepthwiseConvBNAct(hidden_channels, kernel_size, stride, activation))
        if se:
            layers.append(SqueezeExcite(hidden_channels, make_divisible(hidden_channels / 4), gate="hard_sigmoid"))
        layers.append(ConvBN(hidden_channels, out_channels, 1))
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and in_channels == out_channels
        self.drop_path = DropPath(drop_path if self.residual else 0.0)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return x + self.drop_path(y) if self.residual else y


class DepthwiseConvBN(nn.Module):
    """Depthwise convolution, batch norm."""

    def __init__(self, in_channels: int, kernel_size: int = 3, stride: int = 1) -> None:
        super().__init__()
        padding = same_padding(kernel_size)
        self.conv = nn.Conv2d(in_channels, in_channels, kernel_size, stride, padding, groups=in_channels, bias=False)
        self.bn = nn.BatchNorm2d(in_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


class ShuffleNetUnit(nn.Module):
    """ShuffleNetV2: half the channels pass by, half are convolved, then both are interleaved (Ma et al. 2018).

    With a stride both halves are computed from all channels. ``branch`` is ``shuffle`` (1x1, depthwise, 1x1) or
    ``xception`` (three times depthwise, 1x1: a choice of single-path one-shot).
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1,
                 branch: str = "shuffle") -> None:  # fmt: skip
        super().__init__()
        half = out_channels // 2
        self.split = stride == 1
        entering = half if self.split else in_channels
        if branch == "shuffle":
            depthwise = DepthwiseConvBN(half, kernel_size, stride)
            layers = [ConvBNAct(entering, half, 1), depthwise, ConvBNAct(half, half, 1)]
        else:
            layers = [DepthwiseConvBN(entering, kernel_size, stride), ConvBNAct(entering, half, 1)]
            for _ in range(2):
                layers += [DepthwiseConvBN(half, kernel_size), ConvBNAct(half, half, 1)]
        self.branch = nn.Sequential(*layers)
        self.shortcut = nn.Identity() if self.split else nn.Sequential(
            DepthwiseConvBN(in_channels, kernel_size, stride), ConvBNAct(in_channels, half, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, dim=1) if self.split else (x, x)
        halves = torch.stack([self.shortcut(left), self.branch(right)], dim=2)
        return halves.flatten(1, 2)


class GhostModule(nn.Module):
    """A 1x1 convolution makes 1/ratio of the channels, cheap depthwise ones the rest (Han et al. 2020)."""

    def __init__(self, in_channels: int, out_channels: int, ratio: int = 2, kernel_size: int = 3,
                 activation: str = "relu" ) -> None:  # fmt: skip
        super().__init__()
        primary = math.ceil(out_channels / ratio)
        cheap = primary * (ratio - 1)
        self.out_channels = out_channels
        self.primary = ConvBNAct(in_channels, primary, 1, activation=activation)
        padding = same_padding(kernel_size)
        self.cheap = nn.Sequential(
            nn.Conv2d(primary, cheap, kernel_size, padding=padding, groups=primary, bias=False), nn.BatchNorm2d(cheap),
            make_activation(activation),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        primary = self.primary(x)
        return torch.cat([primary, self.cheap(primary)], dim=1)[:, : self.out_channels]


class GhostBottleneck(nn.Module):
    """Ghost module to the hidden width, [strided depthwise,] [squeeze-excite,] ghost module back, shortcut."""

    def __init__(self, in_channels: int, out_channels: int, hidden_channels: int, kernel_size: int = 3, stride: int = 1,
                 se_ratio: float = 0.0) -> None:  # fmt: skip
        super().__init__()
        layers: list[nn.Module] = [GhostModule(in_channels, hidden_channels)]
        if stride > 1:
            layers.append(DepthwiseConvBN(hidden_channels, kernel_size, stride))
        if se_ratio > 0:
            squeeze = make_divisible(hidden_channels * se_ratio, 4)
            layers.append(SqueezeExcite(hidden_channels, squeeze, gate="hard_sigmoid"))
        layers.append(GhostModule(hidden_channels, out_channels, activation="identity"))
        self.layers = nn.Sequential(*layers)
        same = stride == 1 and in_channels == out_channels
        self.shortcut = nn.Identity() if same else nn.Sequential(
            DepthwiseConvBN(in_channels, kernel_size, stride), ConvBN(in_channels, out_channels, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.layers(x)
