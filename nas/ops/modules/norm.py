"""Normalisation, and learned factors of channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LayerNorm2d(nn.LayerNorm):
    """Layer norm over the channels of every pixel of a map (ConvNeXt)."""

    def __init__(self, in_channels: int, eps: float = 1e-6) -> None:
        super().__init__(in_channels, eps)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps).permute(0, 3, 1, 2)


class GlobalResponseNorm(nn.Module):
    """Weighs the channels of a map by their norm over all pixels, as a share of their mean (Woo et al. 2023)."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(in_channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        norm = (x * x).sum((2, 3), keepdim=True).clamp_min(1e-12).sqrt()
        return x + self.weight * (x * (norm / (norm.mean(1, keepdim=True) + 1e-6))) + self.bias


class LayerScale(nn.Module):
    """A learned factor for every channel, and a bias on request; of a map, of tokens or of a vector."""

    def __init__(self, in_channels: int, init: float = 1e-5, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((in_channels,), init))
        self.bias = nn.Parameter(torch.zeros(in_channels)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        shape = (-1, 1, 1) if x.dim() == 4 else (-1,)
        x = x * self.weight.view(shape)
        return x if self.bias is None else x + self.bias.view(shape)
