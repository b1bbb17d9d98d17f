"""Depthwise separable convolutions: a depthwise kxk convolution, then a pointwise 1x1."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.ops.modules.activation import make_activation
from nas.ops.modules.conv import ConvBNAct, same_padding


class SeparableConv(nn.Module):
    """[ReLU,] depthwise convolution, pointwise convolution, batch norm[, ReLU] (Xception, NASNet)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        dilation: int = 1,
        padding: int | None = None,
        relu: str = "before",
    ) -> None:
        super().__init__()
        self.relu = relu
        self.depthwise = nn.Conv2d(
            in_channels,
            in_channels,
            kernel_size,
            stride,
            same_padding(kernel_size, dilation) if padding is None else padding,
            dilation,
            groups=in_channels,
            bias=False,
        )
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        if self.relu == "before":
            x = F.relu(x)
        x = self.bn(self.pointwise(self.depthwise(x)))
        return F.relu(x) if self.relu == "after" else x


class SepConv(nn.Module):
    """Separable convolution applied twice; the stride is on the first."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.first = SeparableConv(in_channels, out_channels, kernel_size, stride, dilation)
        self.second = SeparableConv(out_channels, out_channels, kernel_size, 1, dilation)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


class DilConv(SeparableConv):
    """Dilated separable convolution applied once."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1, dilation: int = 2) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, dilation)


class DepthwiseConvBNAct(nn.Module):
    """Depthwise convolution, batch norm, activation."""

    def __init__(self, in_channels: int, kernel_size: int = 3, stride: int = 1, activation: str = "relu") -> None:
        super().__init__()
        padding = same_padding(kernel_size)
        self.conv = nn.Conv2d(in_channels, in_channels, kernel_size, stride, padding, groups=in_channels, bias=False)
        self.bn = nn.BatchNorm2d(in_channels)
        self.act = make_activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class MobileSeparableConv(nn.Module):
    """Depthwise, batch norm, activation, pointwise, batch norm, activation (MobileNet)."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1, activation: str = "relu"
    ) -> None:
        super().__init__()
        self.depthwise = DepthwiseConvBNAct(in_channels, kernel_size, stride, activation)
        self.pointwise = ConvBNAct(in_channels, out_channels, 1, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))


class MixedDepthwiseConv(nn.Module):
    """Shares of the channels, each with a depthwise kernel of its own size: 3, 5, 7, ... (MixNet); BN, activation."""

    def __init__(self, in_channels: int, num_kernels: int = 3, stride: int = 1, activation: str = "relu") -> None:
        super().__init__()
        self.widths = [in_channels // num_kernels] * num_kernels
        self.widths[0] += in_channels - sum(self.widths)
        self.convs = nn.ModuleList(
            nn.Conv2d(width, width, 3 + 2 * i, stride, 1 + i, groups=width, bias=False) for i, width in enumerate(self.widths)
        )
        self.bn = nn.BatchNorm2d(in_channels)
        self.act = make_activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        parts = torch.split(x, self.widths, dim=1)
        return self.act(self.bn(torch.cat([conv(part) for conv, part in zip(self.convs, parts, strict=True)], dim=1)))
