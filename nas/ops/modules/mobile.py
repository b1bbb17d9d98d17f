"""Mobile blocks."""

from __future__ import annotations

from torch import Tensor, nn

from nas.ops.modules.conv import ConvBN, ConvBNAct, make_activation


class SqueezeExcite(nn.Module):
    """Scales channels by a gate computed from their means (Hu et al. 2018)."""

    def __init__(self, in_channels: int, squeeze_channels: int, activation: str = "relu", gate: str = "sigmoid") -> None:
        super().__init__()
        self.reduce = nn.Conv2d(in_channels, squeeze_channels, 1)
        self.act = make_activation(activation)
        self.expand = nn.Conv2d(squeeze_channels, in_channels, 1)
        self.gate = make_activation(gate)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.expand(self.act(self.reduce(x.mean((2, 3), keepdim=True))))
        return x * self.gate(weights)


class DepthwiseConvBNAct(nn.Module):
    """Depthwise convolution, batch norm, activation."""

    def __init__(self, channels: int, kernel_size: int, stride: int, activation: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, kernel_size, stride, (kernel_size - 1) // 2, groups=channels, bias=False)
        self.bn = nn.BatchNorm2d(channels)
        self.act = make_activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class MBConv(nn.Module):
    """Mobile inverted bottleneck (Sandler et al. 2018), with squeeze-and-excitation (Tan et al. 2019)."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1, expansion: int = 6,
                 se_ratio: float = 0.25, activation: str = "silu") -> None:  # fmt: skip
        super().__init__()
        hidden = in_channels * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers.append(ConvBNAct(in_channels, hidden, 1, activation=activation))
        layers.append(DepthwiseConvBNAct(hidden, kernel_size, stride, activation))
        if se_ratio > 0:
            layers.append(SqueezeExcite(hidden, max(1, int(in_channels * se_ratio)), activation))
        layers.append(ConvBN(hidden, out_channels, 1))
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return x + y if self.residual else y
