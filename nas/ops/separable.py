"""Sketches of the separable convolutions. Cost of one kxk, C -> D, per output pixel: k*k*C + C*D."""

from __future__ import annotations

from nas.errors import ShapeError
from nas.ops.catalogue import op
from nas.ops.sketch import ACTIVATIONS, Sketch, one_of, positive

MODULES = "nas.ops.modules.separable:"


@op("separable_conv", MODULES + "SeparableConv")
def separable_conv(s: Sketch, *, out_channels: int, kernel_size: int = 3, stride: int = 1, dilation: int = 1,
                   padding: int | None = None, relu: str = "before") -> None:  # fmt: skip
    """Depthwise separable convolution once: depthwise, pointwise, batch norm; relu ``before``, ``after``, ``none``."""
    one_of("relu", relu, ("before", "after", "none"))
    s.conv(s.channels, kernel_size, stride, padding=padding, dilation=dilation, groups=s.channels)
    s.conv(out_channels).norm()


@op("sep_conv", MODULES + "SepConv")
def sep_conv(s: Sketch, *, out_channels: int, kernel_size: int = 3, stride: int = 1, dilation: int = 1) -> None:
    """Depthwise separable convolution applied twice, each ReLU, depthwise, pointwise, batch norm (NASNet, DARTS)."""
    for step in (stride, 1):
        s.depthwise(kernel_size, step, dilation=dilation).conv(out_channels).norm()


@op("dil_conv", MODULES + "DilConv")
def dil_conv(s: Sketch, *, out_channels: int, kernel_size: int = 3, stride: int = 1, dilation: int = 2) -> None:
    """Dilated depthwise separable convolution applied once: ReLU, depthwise, pointwise, batch norm (DARTS)."""
    s.depthwise(kernel_size, stride, dilation=dilation).conv(out_channels).norm()


@op("depthwise_conv_bn_act", MODULES + "DepthwiseConvBNAct")
def depthwise_conv_bn_act(s: Sketch, *, kernel_size: int = 3, stride: int = 1, activation: str = "relu") -> None:
    """Depthwise convolution, batch norm, activation."""
    one_of("activation", activation, ACTIVATIONS)
    s.depthwise(kernel_size, stride).norm()


@op("mobile_sep_conv", MODULES + "MobileSeparableConv")
def mobile_sep_conv(s: Sketch, *, out_channels: int, kernel_size: int = 3, stride: int = 1,
                    activation: str = "relu") -> None:  # fmt: skip
    """Depthwise, batch norm, activation, pointwise, batch norm, activation (MobileNet)."""
    one_of("activation", activation, ACTIVATIONS)
    s.depthwise(kernel_size, stride).norm().conv(out_channels).norm()


@op("mixed_depthwise_conv", MODULES + "MixedDepthwiseConv", ordered=True)
def mixed_depthwise_conv(s: Sketch, *, num_kernels: int = 3, stride: int = 1, activation: str = "relu") -> None:
    """Depthwise kernels 3, 5, 7, ... on equal shares of the channels, batch norm, activation (MixNet)."""
    one_of("activation", activation, ACTIVATIONS)
    channels, height, width = s.map()
    positive(num_kernels=num_kernels)
    if num_kernels > channels:
        raise ShapeError("more kernels than channels", expected=f"at most {channels}", got=num_kernels)
    widths = [channels // num_kernels] * num_kernels
    widths[0] += channels - sum(widths)
    for i, share in enumerate(widths):
        side = s.branch((share, height, width)).depthwise(3 + 2 * i, stride)
        s.join(side)
    s.shape = (channels, *side.shape[1:])
    s.norm()
