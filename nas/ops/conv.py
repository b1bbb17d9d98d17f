"""Sketches of the convolutions. Cost of a kxk convolution C -> D per output pixel: k*k*C*D; depthwise separable k*k*C + C*D."""

from __future__ import annotations

from typing import Any

from nas.ops.catalogue import op
from nas.ops.sketch import Size2, Sketch, pair

MODULES = "nas.ops.modules.conv:"


@op("conv", "torch.nn:Conv2d", ordered=True)
def conv(s: Sketch, *, out_channels: int, kernel_size: Size2 = 3, stride: Size2 = 1, padding: Size2 | None = None,
         dilation: int = 1, groups: int = 1, bias: bool = True) -> dict[str, Any]:  # fmt: skip
    """Plain convolution."""
    (kh, kw), in_channels = pair(kernel_size), s.channels
    if padding is None:
        padding = (dilation * (kh - 1) // 2, dilation * (kw - 1) // 2) if kh != kw else dilation * (kh - 1) // 2
    s.conv(out_channels, kernel_size, stride, padding=padding, dilation=dilation, groups=groups, bias=bias)
    return {
        "in_channels": in_channels, "out_channels": out_channels, "kernel_size": kernel_size, "stride": stride,
        "padding": padding, "dilation": dilation, "groups": groups, "bias": bias,
    }  # fmt: skip


@op("conv_bn", MODULES + "ConvBN")
def conv_bn(s: Sketch, *, out_channels: int, kernel_size: Size2 = 3, stride: int = 1) -> None:
    """Convolution, batch norm."""
    s.conv(out_channels, kernel_size, stride).norm()


@op("relu_conv_bn", MODULES + "ReLUConvBN")
def relu_conv_bn(s: Sketch, *, out_channels: int, kernel_size: Size2 = 3, stride: int = 1, dilation: int = 1) -> None:
    """ReLU, convolution, batch norm: the order of NASNet's cells."""
    s.conv(out_channels, kernel_size, stride, dilation=dilation).norm()


@op("conv_bn_act", MODULES + "ConvBNAct")
def conv_bn_act(s: Sketch, *, out_channels: int, kernel_size: Size2 = 3, stride: int = 1, activation: str = "relu") -> None:
    """Convolution, batch norm, activation."""
    s.conv(out_channels, kernel_size, stride).norm()


@op("sep_conv", MODULES + "SepConv")
def sep_conv(s: Sketch, *, out_channels: int, kernel_size: int = 3, stride: int = 1) -> None:
    """Depthwise separable convolution applied twice, each ReLU, depthwise, pointwise, batch norm (NASNet, DARTS)."""
    for step in (stride, 1):
        s.conv(s.channels, kernel_size, step, groups=s.channels).conv(out_channels).norm()


@op("dil_conv", MODULES + "DilConv")
def dil_conv(s: Sketch, *, out_channels: int, kernel_size: int = 3, stride: int = 1, dilation: int = 2) -> None:
    """Dilated depthwise separable convolution applied once: ReLU, depthwise, pointwise, batch norm (DARTS)."""
    s.conv(s.channels, kernel_size, stride, dilation=dilation, groups=s.channels).conv(out_channels).norm()


@op("factorized_conv", MODULES + "FactorizedConv")
def factorized_conv(s: Sketch, *, out_channels: int, kernel_size: int = 7, stride: int = 1) -> None:
    """ReLU, 1xk, batch norm, ReLU, kx1, batch norm; each convolution strides along its own axis."""
    s.conv(out_channels, (1, kernel_size), (1, stride)).norm().conv(out_channels, (kernel_size, 1), (stride, 1)).norm()


@op("factorized_reduction", MODULES + "FactorizedReduction")
def factorized_reduction(s: Sketch, *, out_channels: int, stride: int = 2, relu: bool = False) -> None:
    """Two 1x1 convolutions of half the channels on pixels shifted by one, concatenated, batch norm; [ReLU first]."""
    s.conv(out_channels, 1, stride).norm()
