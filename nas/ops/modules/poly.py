"""PolyNet's composition of Inception blocks (Zhang et al. 2017)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.ops.modules.conv import ConvBN


class PolyTerm(nn.Module):
    """What a term of a poly block has of its own: batch norms, and the convolution that joins the two paths."""

    def __init__(self, widths: tuple[int, ...], side_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths)
        self.side_norm = nn.BatchNorm2d(side_channels)
        self.join = ConvBN(widths[-1] + side_channels, out_channels, 1)

    def forward(self, x: Tensor, path: nn.ModuleList, side: nn.Module) -> Tensor:
        y = x
        for conv, norm in zip(path, self.norms, strict=True):
            y = torch.relu(norm(conv(y)))
        return self.join(torch.cat([y, torch.relu(self.side_norm(side(x)))], 1))


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
        widths, half = (narrow_channels, middle_channels, wide_channels), kernel_size // 2
        self.path = nn.ModuleList(
            (
                nn.Conv2d(in_channels, widths[0], 1, bias=False),
                nn.Conv2d(widths[0], widths[1], (1, kernel_size), padding=(0, half), bias=False),
                nn.Conv2d(widths[1], widths[2], (kernel_size, 1), padding=(half, 0), bias=False),
            )
        )
        self.side = nn.Conv2d(in_channels, side_channels, 1, bias=False)
        self.terms = nn.ModuleList(PolyTerm(widths, side_channels, in_channels) for _ in range(order))

    def forward(self, x: Tensor) -> Tensor:
        total = x
        for term in self.terms:
            x = term(x, self.path, self.side)
            total = total + self.factor * x
            x = torch.relu(x)
        return torch.relu(total)
