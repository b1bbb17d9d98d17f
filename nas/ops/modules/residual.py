"""Residual blocks: He et al. 2015 and 2016, and what grew from them (ResNeXt, SENet, CBAM, WideResNet, RegNet)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.ops.modules.channel_attention import SqueezeExcite, make_attention
from nas.ops.modules.conv import ConvBN, ConvBNAct
from nas.ops.modules.wiring import DropPath


class PadShortcut(nn.Module):
    """Drops pixels and appends channels of zeros: a shortcut without weights (He et al. 2015, option A)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.extra, self.stride = out_channels - in_channels, stride

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra))


def make_shortcut(kind: str, in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """The input itself where shapes allow, else what ``kind`` says: ``projection`` or ``pad``."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    if kind == "pad":
        return PadShortcut(in_channels, out_channels, stride)
    return ConvBN(in_channels, out_channels, 1, stride)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        shortcut: str = "projection",
        attention: str = "none",
        reduction: int = 16,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.attention = make_attention(attention, out_channels, reduction)
        self.drop_path = DropPath(drop_path)
        self.shortcut = make_shortcut(shortcut, in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.attention(self.bn2(self.conv2(y)))
        return F.relu(self.shortcut(x) + self.drop_path(y))


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions around a shortcut; with groups a ResNeXt block, wider inside a WideResNet one."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        hidden_channels: int | None = None,
        stride: int = 1,
        groups: int = 1,
        stride_first: bool = False,
        attention: str = "none",
        reduction: int = 16,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        hidden = hidden_channels or out_channels // 4
        first, second = (stride, 1) if stride_first else (1, stride)
        self.conv1 = nn.Conv2d(in_channels, hidden, 1, first, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.conv2 = nn.Conv2d(hidden, hidden, 3, second, 1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(hidden)
        self.conv3 = nn.Conv2d(hidden, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.attention = make_attention(attention, out_channels, reduction)
        self.drop_path = DropPath(drop_path)
        self.shortcut = make_shortcut("projection", in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.attention(self.bn3(self.conv3(y)))
        return F.relu(self.shortcut(x) + self.drop_path(y))


class PreActBasicBlock(nn.Module):
    """Batch norm and ReLU before each of two 3x3 convolutions (He et al. 2016); dropout between them (WideResNet).

    Where the shape changes, the shortcut is a 1x1 convolution of the normalised input.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int = 1, dropout: float = 0.0, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.drop_path = DropPath(drop_path)
        same = stride == 1 and in_channels == out_channels
        self.shortcut = None if same else nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(x))
        if self.shortcut is not None:
            x = self.shortcut(y)
        y = F.relu(self.bn2(self.conv1(y)))
        return x + self.drop_path(self.conv2(self.dropout(y)))


class PreActBottleneck(nn.Module):
    """Batch norm and ReLU before each of the convolutions 1x1, 3x3, 1x1 (He et al. 2016).

    Where the shape changes, the shortcut is a 1x1 convolution of the normalised input.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        hidden_channels: int | None = None,
        stride: int = 1,
        stride_first: bool = False,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        hidden = hidden_channels or out_channels // 4
        first, second = (stride, 1) if stride_first else (1, stride)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, hidden, 1, first, bias=False)
        self.bn2 = nn.BatchNorm2d(hidden)
        self.conv2 = nn.Conv2d(hidden, hidden, 3, second, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(hidden)
        self.conv3 = nn.Conv2d(hidden, out_channels, 1, bias=False)
        self.drop_path = DropPath(drop_path)
        same = stride == 1 and in_channels == out_channels
        self.shortcut = None if same else nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(x))
        if self.shortcut is not None:
            x = self.shortcut(y)
        y = self.conv2(F.relu(self.bn2(self.conv1(y))))
        return x + self.drop_path(self.conv3(F.relu(self.bn3(y))))


class RegNetBlock(nn.Module):
    """Bottleneck whose 3x3 convolution works on groups of a fixed width; squeeze-and-excitation after it in RegNetY.

    The squeeze width is a share of the block's input channels (Radosavovic et al. 2020).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        group_width: int = 8,
        bottleneck_ratio: float = 1.0,
        se_ratio: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        hidden = round(out_channels / bottleneck_ratio)
        self.conv1 = ConvBNAct(in_channels, hidden, 1)
        self.conv2 = nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden // group_width, bias=False)
        self.bn2 = nn.BatchNorm2d(hidden)
        self.se = SqueezeExcite(hidden, max(1, round(in_channels * se_ratio))) if se_ratio > 0 else nn.Identity()
        self.conv3 = ConvBN(hidden, out_channels, 1)
        self.drop_path = DropPath(drop_path)
        self.shortcut = make_shortcut("projection", in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.se(F.relu(self.bn2(self.conv2(self.conv1(x)))))
        return F.relu(self.shortcut(x) + self.drop_path(self.conv3(y)))


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution, layer norm, linear, GELU, linear, layer scale; added to the input (Liu et al. 2022)."""

    def __init__(
        self, in_channels: int, kernel_size: int = 7, expansion: int = 4, layer_scale: float = 1e-6, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        padding = (kernel_size - 1) // 2
        self.depthwise = nn.Conv2d(in_channels, in_channels, kernel_size, padding=padding, groups=in_channels)
        self.norm = nn.LayerNorm(in_channels, eps=1e-6)
        self.expand = nn.Linear(in_channels, expansion * in_channels)
        self.project = nn.Linear(expansion * in_channels, in_channels)
        self.scale = nn.Parameter(torch.full((in_channels,), layer_scale))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.scale * self.project(F.gelu(self.expand(y)))
        return x + self.drop_path(y.permute(0, 3, 1, 2))
