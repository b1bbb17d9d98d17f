"""Pooling."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.ops.modules.activation import make_activation
from nas.ops.modules.conv import ConvBN


class MaxPool(nn.Module):
    """Max pooling.

    Padding None gives the input's size over the stride, rounded up; an even kernel then pads right and below.
    ``ceil_mode`` rounds up under a padding that is given.
    """

    def __init__(self, kernel_size: int = 3, stride: int = 1, padding: int | None = None, ceil_mode: bool = False) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.ceil_mode = kernel_size, stride, ceil_mode and padding is not None
        self.padding = (kernel_size - 1) // 2 if padding is None else padding
        self.extra = padding is None and kernel_size % 2 == 0

    def forward(self, x: Tensor) -> Tensor:
        if self.extra:
            x = F.pad(x, (0, 1, 0, 1), value=float("-inf"))
        return F.max_pool2d(x, self.kernel_size, self.stride, self.padding, ceil_mode=self.ceil_mode)


class AvgPool(nn.Module):
    """Average pooling; padding is left out of the mean unless ``count_padding``.

    Padding None gives the input's size over the stride, rounded up; an even kernel then pads right and below.
    ``ceil_mode`` rounds up under a padding that is given.
    """

    def __init__(
        self,
        kernel_size: int = 3,
        stride: int = 1,
        padding: int | None = None,
        ceil_mode: bool = False,
        count_padding: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.ceil_mode = kernel_size, stride, ceil_mode and padding is not None
        self.count_padding = count_padding
        self.padding = (kernel_size - 1) // 2 if padding is None else padding
        self.extra = padding is None and kernel_size % 2 == 0

    def pool(self, x: Tensor) -> Tensor:
        count = self.count_padding or self.extra
        return F.avg_pool2d(x, self.kernel_size, self.stride, self.padding, self.ceil_mode, count)

    def forward(self, x: Tensor) -> Tensor:
        if not self.extra:
            return self.pool(x)
        padded = self.pool(F.pad(x, (0, 1, 0, 1)))
        if self.count_padding:
            return padded
        return padded / self.pool(F.pad(torch.ones_like(x[:1, :1]), (0, 1, 0, 1)))


class ProjectedMaxPool(nn.Module):
    """Max pooling, then 1x1 convolution and batch norm where channels change (NASNet)."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.pool = MaxPool(kernel_size, stride)
        self.project = nn.Identity() if in_channels == out_channels else ConvBN(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.pool(x))


class ProjectedAvgPool(nn.Module):
    """Average pooling, then 1x1 convolution and batch norm where channels change (NASNet)."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.pool = AvgPool(kernel_size, stride)
        self.project = nn.Identity() if in_channels == out_channels else ConvBN(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.pool(x))


class GlobalAvgPool(nn.Module):
    """Mean over all pixels: (N, C, H, W) to (N, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


class GlobalMaxPool(nn.Module):
    """Largest value over all pixels: (N, C, H, W) to (N, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.amax((2, 3))


class Subsampling(nn.Module):
    """Average pooling, a trainable scale and bias per map, squashing (LeNet-5)."""

    def __init__(self, in_channels: int, kernel_size: int = 2, activation: str = "tanh") -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.scale = nn.Parameter(torch.ones(in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(in_channels, 1, 1))
        self.act = make_activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(F.avg_pool2d(x, self.kernel_size) * self.scale + self.bias)
