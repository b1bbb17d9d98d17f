"""PolyNet's composition of Inception blocks (Zhang et al. 2017)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.ops.modules.conv import ConvBN


class PolyInception(nn.Module):
    """x + factor * (F(x) + F(F(x)) + ...) with ``order`` terms; then ReLU.

    F is an Inception-ResNet block: 1x1, 1xk, kx1 beside a 1x1, joined by a 1x1. All terms share the convolutions of its two
    paths; every term has batch norms and a joining convolution of its own.
    """

    def __init__(
        self,
        in_channels: int,
        kernel_size: int = 7,
        order: int = 3,
        narrow_channels: int = 128,
        middle_channels: int = 160,
        wide_channels: int = 192,
        side_channels: int = 192,
        factor: float = 1.0,
    ) -> None:
        super().__init__()
        self.factor = factor
        k, pad = kernel_size, kernel_size // 2
        self.path = nn.ModuleList(
            (
                nn.Conv2d(in_channels, narrow_channels, 1, bias=False),
                nn.Conv2d(narrow_channels, middle_channels, (1, k), padding=(0, pad), bias=False),
                nn.Conv2d(middle_channels, wide_channels, (k, 1), padding=(pad, 0), bias=False),
            )
        )
        self.side = nn.Conv2d(in_channels, side_channels, 1, bias=False)
        widths = (narrow_channels, middle_channels, wide_channels)
        self.path_norms = nn.ModuleList(nn.ModuleList(nn.BatchNorm2d(w) for w in widths) for _ in range(order))
        self.side_norms = nn.ModuleList(nn.BatchNorm2d(side_channels) for _ in range(order))
        self.joins = nn.ModuleList(ConvBN(wide_channels + side_channels, in_channels, 1) for _ in range(order))

    def forward(self, x: Tensor) -> Tensor:
        total = x
        for norms, side_norm, join in zip(self.path_norms, self.side_norms, self.joins, strict=True):
            y = x
            for conv, norm in zip(self.path, norms, strict=True):
                y = torch.relu(norm(conv(y)))
            term = join(torch.cat([y, torch.relu(side_norm(self.side(x)))], 1))
            total = total + self.factor * term
            x = torch.relu(term)
        return torch.relu(total)
