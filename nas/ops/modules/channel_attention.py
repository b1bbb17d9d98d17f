"""Attention over channels and over pixels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.ops.modules.activation import make_activation


class SqueezeExcite(nn.Module):
    """Scales channels by a gate computed from their means (Hu et al. 2018)."""

    def __init__(
        self,
        in_channels: int,
        squeeze_channels: int | None = None,
        reduction: int = 16,
        activation: str = "relu",
        gate: str = "sigmoid",
    ) -> None:
        super().__init__()
        squeeze = squeeze_channels or max(1, in_channels // reduction)
        self.reduce = nn.Conv2d(in_channels, squeeze, 1)
        self.act = make_activation(activation)
        self.expand = nn.Conv2d(squeeze, in_channels, 1)
        self.gate = make_activation(gate)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.expand(self.act(self.reduce(x.mean((2, 3), keepdim=True))))
        return x * self.gate(weights)


class EfficientChannelAttention(nn.Module):
    """Scales channels by a gate computed from the means of neighbouring channels (Wang et al. 2020)."""

    def __init__(self, in_channels: int, kernel_size: int | None = None) -> None:
        super().__init__()
        size = kernel_size or (in_channels.bit_length() // 2) | 1
        self.conv = nn.Conv1d(1, 1, size, padding=size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.conv(x.mean((2, 3))[:, None]).view(x.shape[0], -1, 1, 1)
        return x * torch.sigmoid(weights)


class SelectiveSum(nn.Module):
    """Maps of one shape summed, each channel weighted by a softmax over the maps that their mean decides (Li et al. 2019)."""

    def __init__(self, in_channels: tuple[int, ...], squeeze_channels: int | None = None, bias: bool = False) -> None:
        super().__init__()
        channels, squeeze = in_channels[0], squeeze_channels or max(32, in_channels[0] // 16)
        self.reduce = nn.Conv2d(channels, squeeze, 1, bias=bias)
        self.bn = nn.BatchNorm2d(squeeze)
        self.select = nn.Conv2d(squeeze, len(in_channels) * channels, 1, bias=bias)

    def forward(self, *inputs: Tensor) -> Tensor:
        maps = torch.stack(inputs, 1)
        weights = self.select(torch.relu(self.bn(self.reduce(maps.sum(1).mean((2, 3), keepdim=True)))))
        return (maps * weights.view(*maps.shape[:3], 1, 1).softmax(1)).sum(1)


class ChannelAttention(nn.Module):
    """Scales channels by one small network run on their means and on their maxima (CBAM's first half)."""

    def __init__(self, in_channels: int, reduction: int = 16) -> None:
        super().__init__()
        squeeze = max(1, in_channels // reduction)
        self.mlp = nn.Sequential(nn.Conv2d(in_channels, squeeze, 1), nn.ReLU(), nn.Conv2d(squeeze, in_channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        weights = self.mlp(x.mean((2, 3), keepdim=True)) + self.mlp(x.amax((2, 3), keepdim=True))
        return x * torch.sigmoid(weights)


class SpatialAttention(nn.Module):
    """Scales pixels by a convolution over their channels' maximum and mean (CBAM's second half)."""

    def __init__(self, kernel_size: int = 7) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=(kernel_size - 1) // 2, bias=False)
        self.bn = nn.BatchNorm2d(1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], dim=1)
        return x * torch.sigmoid(self.bn(self.conv(pooled)))


class CBAM(nn.Module):
    """Channel attention, then spatial attention (Woo et al. 2018)."""

    def __init__(self, in_channels: int, reduction: int = 16, kernel_size: int = 7) -> None:
        super().__init__()
        self.channel = ChannelAttention(in_channels, reduction)
        self.spatial = SpatialAttention(kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.spatial(self.channel(x))


def make_attention(name: str, in_channels: int, reduction: int = 16) -> nn.Module:
    """The attention module of that name: ``none``, ``se``, ``eca`` or ``cbam``."""
    if name == "none":
        return nn.Identity()
    if name == "eca":
        return EfficientChannelAttention(in_channels)
    return SqueezeExcite(in_channels, reduction=reduction) if name == "se" else CBAM(in_channels, reduction)
