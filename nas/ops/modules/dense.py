"""Blocks that concatenate: DenseNet's layer and transition, SqueezeNet's fire module."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DenseLayer(nn.Module):
    """Appends ``growth_rate`` channels computed from all channels before: [BN, ReLU, 1x1,] BN, ReLU, 3x3.

    The 1x1 convolution to ``bottleneck * growth_rate`` channels is left out at bottleneck 0 (Huang et al. 2017).
    """

    def __init__(self, in_channels: int, growth_rate: int = 32, bottleneck: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        self.reduce = (
            nn.Identity()
            if bottleneck == 0
            else nn.Sequential(
                nn.BatchNorm2d(in_channels),
                nn.ReLU(),
                nn.Conv2d(in_channels, bottleneck * growth_rate, 1, bias=False),
            )
        )
        hidden = in_channels if bottleneck == 0 else bottleneck * growth_rate
        self.bn = nn.BatchNorm2d(hidden)
        self.conv = nn.Conv2d(hidden, growth_rate, 3, padding=1, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        new = self.conv(F.relu(self.bn(self.reduce(x))))
        return torch.cat([x, self.dropout(new)], dim=1)


class DenseTransition(nn.Module):
    """Batch norm, ReLU, 1x1 convolution to a share of the channels, 2x2 average pooling."""

    def __init__(self, in_channels: int, compression: float = 0.5) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(in_channels)
        self.conv = nn.Conv2d(in_channels, max(1, int(in_channels * compression)), 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(self.conv(F.relu(self.bn(x))), 2)


class Fire(nn.Module):
    """A narrow 1x1 convolution, then 1x1 and 3x3 side by side, each with bias and ReLU (SqueezeNet)."""

    def __init__(self, in_channels: int, out_channels: int, squeeze_channels: int | None = None) -> None:
        super().__init__()
        squeeze = squeeze_channels or max(1, out_channels // 8)
        self.squeeze = nn.Conv2d(in_channels, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, out_channels // 2, 1)
        self.expand3x3 = nn.Conv2d(squeeze, out_channels - out_channels // 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.squeeze(x))
        return F.relu(torch.cat([self.expand1x1(x), self.expand3x3(x)], dim=1))
