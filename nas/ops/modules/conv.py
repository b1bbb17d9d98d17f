"""Convolutions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def make_activation(name: str) -> nn.Module:
    """The activation module of that name."""
    kinds: dict[str, type[nn.Module]] = {
        "relu": nn.ReLU, "relu6": nn.ReLU6, "silu": nn.SiLU, "gelu": nn.GELU, "hard_swish": nn.Hardswish,
        "hard_sigmoid": nn.Hardsigmoid, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "identity": nn.Identity,
    }  # fmt: skip
    return kinds[name]()


def same_padding(kernel_size: int | tuple[int, int], dilation: int = 1) -> tuple[int, int]:
    """The padding that keeps a map's size under an odd kernel at stride 1."""
    height, width = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
    return dilation * (height - 1) // 2, dilation * (width - 1) // 2


class ConvBN(nn.Module):
    """Convolution without bias, batch norm."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int | tuple[int, int] = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, same_padding(kernel_size), bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


class ReLUConvBN(nn.Module):
    """ReLU, convolution without bias, batch norm."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int | tuple[int, int] = 3, stride: int = 1,
                 dilation: int = 1) -> None:  # fmt: skip
        super().__init__()
        padding = same_padding(kernel_size, dilation)
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, dilation, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(F.relu(x)))


class ConvBNAct(nn.Module):
    """Convolution without bias, batch norm, activation."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int | tuple[int, int] = 3, stride: int = 1,
                 activation: str = "relu") -> None:  # fmt: skip
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, same_padding(kernel_size), bias=False)
        self.bn = nn.BatchNorm2d(out_channels)
        self.act = make_activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class SeparableConv(nn.Module):
    """ReLU, depthwise convolution, pointwise convolution, batch norm."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        padding = same_padding(kernel_size, dilation)
        self.depthwise = nn.Conv2d(in_channels, in_channels, kernel_size, stride, padding, dilation, groups=in_channels,
                                   bias=False)  # fmt: skip
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.pointwise(self.depthwise(F.relu(x))))


class SepConv(nn.Module):
    """Separable convolution applied twice; the stride is on the first."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.first = SeparableConv(in_channels, out_channels, kernel_size, stride)
        self.second = SeparableConv(out_channels, out_channels, kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


class DilConv(SeparableConv):
    """Dilated separable convolution applied once."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1, dilation: int = 2) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, dilation)


class FactorizedConv(nn.Module):
    """A kxk convolution as 1xk and kx1, each ReLU, convolution, batch norm."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 7, stride: int = 1) -> None:
        super().__init__()
        pad = (kernel_size - 1) // 2
        self.row = nn.Conv2d(in_channels, out_channels, (1, kernel_size), (1, stride), (0, pad), bias=False)
        self.row_bn = nn.BatchNorm2d(out_channels)
        self.column = nn.Conv2d(out_channels, out_channels, (kernel_size, 1), (stride, 1), (pad, 0), bias=False)
        self.column_bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.row_bn(self.row(F.relu(x)))
        return self.column_bn(self.column(F.relu(x)))


class FactorizedReduction(nn.Module):
    """Strides without dropping pixels: two 1x1 convolutions, the second on the map shifted by one pixel."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 2, relu: bool = False) -> None:
        super().__init__()
        self.relu = relu
        half = out_channels // 2
        self.even = nn.Conv2d(in_channels, half, 1, stride, bias=False)
        self.odd = nn.Conv2d(in_channels, out_channels - half, 1, stride, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        if self.relu:
            x = F.relu(x)
        shifted = F.pad(x[:, :, 1:, 1:], (0, 1, 0, 1))
        return self.bn(torch.cat([self.even(x), self.odd(shifted)], dim=1))
