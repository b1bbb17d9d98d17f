"""Pooling."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class MaxPool(nn.Module):
    """Max pooling; the output is the input's size over the stride, rounded up."""

    def __init__(self, kernel_size: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, stride

    def forward(self, x: Tensor) -> Tensor:
        if self.kernel_size % 2 == 0:
            x = F.pad(x, (0, 1, 0, 1), value=float("-inf"))
        return F.max_pool2d(x, self.kernel_size, self.stride, (self.kernel_size - 1) // 2)


class AvgPool(nn.Module):
    """Average pooling over the pixels that exist; the output is the input's size over the stride, rounded up."""

    def __init__(self, kernel_size: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, stride

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, self.kernel_size, self.stride, (self.kernel_size - 1) // 2, count_include_pad=False)


class GlobalAvgPool(nn.Module):
    """Mean over all pixels: (N, C, H, W) to (N, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))
