"""Convolutions with their norm and activation."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.ops.modules.activation import make_activation


def same_padding(kernel_size: int | tuple[int, int], dilation: int = 1) -> tuple[int, int]:
    """The padding that keeps a map's size under an odd kernel at stride 1."""
    height, width = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
    return dilation * (height - 1) // 2, dilation * (width - 1) // 2


class ConvBN(nn.Module):
    """Convolution without bias, batch norm. Padding None keeps the size at stride 1."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int] = 3,
        stride: int = 1,
        padding: int | tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        padding = same_padding(kernel_size) if padding is None else padding
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


class ReLUConvBN(nn.Module):
    """ReLU, convolution without bias, batch norm."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int] = 3,
        stride: int | tuple[int, int] = 1,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        padding = same_padding(kernel_size, dilation)
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, dilation, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(F.relu(x)))


class ConvBNAct(nn.Module):
    """Convolution without bias, batch norm, activation. Padding None keeps the size at stride 1."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int] = 3,
        stride: int = 1,
        padding: int | tuple[int, int] | None = None,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        padding = same_padding(kernel_size) if padding is None else padding
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)
        self.act = make_activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class GroupedConvBNAct(nn.Module):
    """Grouped convolution without bias, batch norm, activation."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        groups: int = 2,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        padding = same_padding(kernel_size)
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)
        self.act = make_activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class StackedConv(nn.Module):
    """3x3 convolutions that together see as far as one kxk: two for 5x5, three for 7x7 (VGG)."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 5, stride: int = 1, activation: str = "relu"
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [ConvBNAct(in_channels, out_channels, 3, stride, activation=activation)]
        more = (kernel_size - 3) // 2
        layers += [ConvBNAct(out_channels, out_channels, 3, activation=activation) for _ in range(more)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class FactorizedConv(nn.Module):
    """A kxk convolution as 1xk then kx1, then batch norm; between them batch norm and ReLU, or nothing."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 7, stride: int = 1, inner_norm: bool = True
    ) -> None:
        super().__init__()
        pad = (kernel_size - 1) // 2
        self.row = nn.Conv2d(in_channels, out_channels, (1, kernel_size), (1, stride), (0, pad), bias=False)
        self.between = nn.Sequential(nn.BatchNorm2d(out_channels), nn.ReLU()) if inner_norm else nn.Identity()
        self.column = nn.Conv2d(out_channels, out_channels, (kernel_size, 1), (stride, 1), (pad, 0), bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.column(self.between(self.row(F.relu(x)))))


class BottleneckConv(nn.Module):
    """1x1 to few channels, kxk, 1x1 back; each ReLU, convolution, batch norm (AmoebaNet)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        dilation: int = 1,
        hidden_channels: int | None = None,
    ) -> None:
        super().__init__()
        hidden = hidden_channels or max(1, out_channels // 4)
        self.reduce = ReLUConvBN(in_channels, hidden, 1)
        self.conv = ReLUConvBN(hidden, hidden, kernel_size, stride, dilation)
        self.expand = ReLUConvBN(hidden, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.expand(self.conv(self.reduce(x)))


class BottleneckFactorizedConv(nn.Module):
    """1x1 to few channels, 1xk, kx1, 1x1 back; each ReLU, convolution, batch norm (AmoebaNet)."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 7, stride: int = 1, hidden_channels: int | None = None
    ) -> None:
        super().__init__()
        share = 3 if kernel_size == 3 else 2  # eighths of the output's channels
        hidden = hidden_channels or max(1, share * out_channels // 8)
        self.reduce = ReLUConvBN(in_channels, hidden, 1)
        self.conv = FactorizedConv(hidden, hidden, kernel_size, stride)
        self.expand = ReLUConvBN(hidden, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.expand(self.conv(self.reduce(x)))


class FactorizedReduction(nn.Module):
    """[ReLU,] two strided 1x1 convolutions of half the channels, one on the map shifted by one pixel; batch norm.

    So no pixel is dropped at stride 2. At stride 1 it is one 1x1 convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 2, relu: bool = False) -> None:
        super().__init__()
        self.relu = relu
        shifted_channels = out_channels // 2 if stride > 1 else 0
        self.conv = nn.Conv2d(in_channels, out_channels - shifted_channels, 1, stride, bias=False)
        self.shifted = nn.Conv2d(in_channels, shifted_channels, 1, stride, bias=False) if shifted_channels else None
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        if self.relu:
            x = F.relu(x)
        y = self.conv(x)
        if self.shifted is not None:
            y = torch.cat([y, self.shifted(F.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:])], dim=1)
        return self.bn(y)


class UpsampleConv(nn.Module):
    """Nearest-neighbour upsampling, convolution, batch norm, activation."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, scale: int = 2, activation: str = "relu"
    ) -> None:
        super().__init__()
        self.upsample = nn.Upsample(scale_factor=scale)
        self.conv = ConvBNAct(in_channels, out_channels, kernel_size, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.upsample(x))


class LeNetPartialConv(nn.Module):
    """LeNet-5's third layer: each of 16 maps sees 3, 4 or all of the 6 input maps (LeCun et al. 1998, table I)."""

    SEEN = (
        (0, 1, 2),
        (1, 2, 3),
        (2, 3, 4),
        (3, 4, 5),
        (0, 4, 5),
        (0, 1, 5),
        (0, 1, 2, 3),
        (1, 2, 3, 4),
        (2, 3, 4, 5),
        (0, 3, 4, 5),
        (0, 1, 4, 5),
        (0, 1, 2, 5),
        (0, 1, 3, 4),
        (1, 2, 4, 5),
        (0, 2, 3, 5),
        (0, 1, 2, 3, 4, 5),
    )

    def __init__(self, kernel_size: int = 5) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(len(seen), 1, kernel_size) for seen in self.SEEN)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([conv(x[:, seen]) for conv, seen in zip(self.convs, self.SEEN, strict=True)], dim=1)
