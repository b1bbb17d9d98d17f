"""Sketches of the convolutions. Cost of a kxk convolution C -> D per output pixel: k*k*C*D; grouped: k*k*C*D/groups."""

from __future__ import annotations

from typing import Any

from nas.errors import ShapeError
from nas.ops.catalogue import op
from nas.ops.sketch import ACTIVATIONS, Size2, Sketch, odd_kernel, one_of, pair, positive

MODULES = "nas.ops.modules.conv:"


@op("conv", "torch.nn:Conv2d", ordered=True)
def conv(s: Sketch, *, out_channels: int, kernel_size: Size2 = 3, stride: Size2 = 1, padding: Size2 | None = None,
         dilation: int = 1, groups: int = 1, bias: bool = True) -> dict[str, Any]:  # fmt: skip
    """Plain convolution; padding None keeps the size of odd kernels at stride 1."""
    in_channels = s.channels
    if padding is None:
        padding = _same(kernel_size, dilation)
    s.conv(out_channels, kernel_size, stride, padding=padding, dilation=dilation, groups=groups, bias=bias)
    return {
        "in_channels": in_channels, "out_channels": out_channels, "kernel_size": kernel_size, "stride": stride,
        "padding": padding, "dilation": dilation, "groups": groups, "bias": bias,
    }  # fmt: skip


@op("depthwise_conv", "torch.nn:Conv2d")
def depthwise_conv(s: Sketch, *, kernel_size: Size2 = 3, stride: int = 1, dilation: int = 1,
                   bias: bool = True) -> dict[str, Any]:  # fmt: skip
    """A plain convolution of every channel by itself; kernels of 7 to 31, or bands of 1x11, see far at little cost."""
    channels, padding = s.channels, _same(kernel_size, dilation)
    s.depthwise(kernel_size, stride, dilation=dilation, bias=bias)
    return {
        "in_channels": channels, "out_channels": channels, "kernel_size": kernel_size, "stride": stride,
        "padding": padding, "dilation": dilation, "groups": channels, "bias": bias,
    }  # fmt: skip


@op("conv_bn", MODULES + "ConvBN")
def conv_bn(s: Sketch, *, out_channels: int, kernel_size: Size2 = 3, stride: int = 1,
            padding: Size2 | None = None) -> None:  # fmt: skip
    """Convolution, batch norm; padding None keeps the size of odd kernels at stride 1."""
    s.conv(out_channels, kernel_size, stride, padding=padding).norm()


@op("relu_conv_bn", MODULES + "ReLUConvBN")
def relu_conv_bn(s: Sketch, *, out_channels: int, kernel_size: Size2 = 3, stride: Size2 = 1, dilation: int = 1) -> None:
    """ReLU, convolution, batch norm: the order of NASNet's cells."""
    s.conv(out_channels, kernel_size, stride, dilation=dilation).norm()


@op("conv_bn_act", MODULES + "ConvBNAct")
def conv_bn_act(s: Sketch, *, out_channels: int, kernel_size: Size2 = 3, stride: int = 1, padding: Size2 | None = None,
                activation: str = "relu") -> None:  # fmt: skip
    """Convolution, batch norm, activation; padding None keeps the size of odd kernels at stride 1."""
    one_of("activation", activation, ACTIVATIONS)
    s.conv(out_channels, kernel_size, stride, padding=padding).norm()


@op("grouped_conv", MODULES + "GroupedConvBNAct", ordered=True)
def grouped_conv(s: Sketch, *, out_channels: int, kernel_size: int = 3, stride: int = 1, groups: int = 2,
                 activation: str = "relu") -> None:  # fmt: skip
    """Grouped convolution, batch norm, activation; the groups must divide the input and output channels."""
    one_of("activation", activation, ACTIVATIONS)
    s.conv(out_channels, kernel_size, stride, groups=groups).norm()


@op("stacked_conv", MODULES + "StackedConv")
def stacked_conv(s: Sketch, *, out_channels: int, kernel_size: int = 5, stride: int = 1,
                 activation: str = "relu") -> None:  # fmt: skip
    """3x3 convolutions in place of one kxk (two for 5x5, three for 7x7), each with batch norm and activation."""
    one_of("activation", activation, ACTIVATIONS)
    odd_kernel(kernel_size, least=3)
    s.conv(out_channels, 3, stride).norm()
    for _ in range((kernel_size - 1) // 2 - 1):
        s.conv(out_channels, 3).norm()


@op("factorized_conv", MODULES + "FactorizedConv")
def factorized_conv(s: Sketch, *, out_channels: int, kernel_size: int = 7, stride: int = 1,
                    inner_norm: bool = True) -> None:  # fmt: skip
    """ReLU, 1xk, [batch norm, ReLU,] kx1, batch norm; each convolution strides along its own axis."""
    s.conv(out_channels, (1, kernel_size), (1, stride))
    if inner_norm:
        s.norm()
    s.conv(out_channels, (kernel_size, 1), (stride, 1)).norm()


@op("bottleneck_conv", MODULES + "BottleneckConv", scaled=("out_channels", "hidden_channels"))
def bottleneck_conv(s: Sketch, *, out_channels: int, kernel_size: int = 3, stride: int = 1, dilation: int = 1,
                    hidden_channels: int | None = None) -> None:  # fmt: skip
    """1x1 to a quarter of the output's channels, kxk, 1x1 back; each ReLU, convolution, batch norm (AmoebaNet)."""
    hidden = hidden_channels or max(1, out_channels // 4)
    s.conv(hidden).norm().conv(hidden, kernel_size, stride, dilation=dilation).norm().conv(out_channels).norm()


@op("bottleneck_factorized_conv", MODULES + "BottleneckFactorizedConv", scaled=("out_channels", "hidden_channels"))
def bottleneck_factorized_conv(s: Sketch, *, out_channels: int, kernel_size: int = 7, stride: int = 1,
                               hidden_channels: int | None = None) -> None:  # fmt: skip
    """1x1 to few channels, 1xk, kx1, 1x1 back; few is a quarter of the output's, 3/8 at k = 3 (AmoebaNet)."""
    hidden = hidden_channels or max(1, (3 if kernel_size == 3 else 2) * out_channels // 8)
    s.conv(hidden).norm()
    factorized_conv(s, out_channels=hidden, kernel_size=kernel_size, stride=stride)
    s.conv(out_channels).norm()


@op("factorized_reduction", MODULES + "FactorizedReduction")
def factorized_reduction(s: Sketch, *, out_channels: int, stride: int = 2, relu: bool = False) -> None:
    """[ReLU,] two 1x1 convolutions of half the channels, one on pixels shifted by one, concatenated; batch norm."""
    s.conv(out_channels, 1, stride).norm()


@op("deformable_conv", "nas.ops.modules.deformable:DeformableConv")
def deformable_conv(s: Sketch, *, out_channels: int, kernel_size: int = 3, stride: int = 1) -> None:
    """Convolution, batch norm, ReLU whose sampling points a sibling convolution shifts (Dai et al. 2017).

    The bilinear sampling, about 4*k*k*C multiply-adds per output pixel, is not counted.
    """
    odd_kernel(kernel_size)
    s.join(s.branch().conv(2 * kernel_size**2, kernel_size, stride, bias=True))
    s.conv(out_channels, kernel_size, stride).norm()


@op("transposed_conv", "torch.nn:ConvTranspose2d")
def transposed_conv(s: Sketch, *, out_channels: int, kernel_size: int = 2, stride: int = 2,
                    bias: bool = True) -> dict[str, Any]:  # fmt: skip
    """Transposed convolution that multiplies the size by its stride; the kernel is at least as large as the stride."""
    channels, height, width = s.map()
    positive(out_channels=out_channels, kernel_size=kernel_size, stride=stride)
    if kernel_size < stride or (stride == 1 and kernel_size % 2 == 0):
        raise ShapeError("impossible kernel_size of a transposed convolution", got=kernel_size,
                         expected="an odd one" if stride == 1 else f"at least the stride, {stride}")  # fmt: skip
    padding = (kernel_size - stride + 1) // 2
    weights = kernel_size**2 * channels * out_channels
    s.params(weights + (out_channels if bias else 0)).matmul(weights, height, width)
    s.shape = (out_channels, height * stride, width * stride)
    return {
        "in_channels": channels, "out_channels": out_channels, "kernel_size": kernel_size, "stride": stride,
        "padding": padding, "output_padding": 2 * padding - (kernel_size - stride), "bias": bias,
    }  # fmt: skip


@op("upsample", "torch.nn:Upsample", takes=())
def upsample(s: Sketch, *, scale: int = 2, mode: str = "nearest") -> dict[str, Any]:
    """Enlarges the map without weights; mode ``nearest`` or ``bilinear`` (corners aligned)."""
    one_of("mode", mode, ("nearest", "bilinear"))
    positive(scale=scale)
    channels, height, width = s.map()
    s.shape = (channels, height * scale, width * scale)
    return {"scale_factor": scale, "mode": mode, **({"align_corners": True} if mode == "bilinear" else {})}


@op("upsample_conv", MODULES + "UpsampleConv")
def upsample_conv(s: Sketch, *, out_channels: int, kernel_size: int = 3, scale: int = 2,
                  activation: str = "relu") -> None:  # fmt: skip
    """Nearest-neighbour upsampling, convolution, batch norm, activation."""
    one_of("activation", activation, ACTIVATIONS)
    upsample(s, scale=scale)
    s.conv(out_channels, kernel_size).norm()


@op("lenet_partial_conv", MODULES + "LeNetPartialConv", takes=(), ordered=True)
def lenet_partial_conv(s: Sketch, *, kernel_size: int = 5) -> None:
    """LeNet-5's third layer, without padding: 16 maps, each of which sees 3, 4 or all of the 6 input maps."""
    channels, _, _ = s.map()
    if channels != 6:
        raise ShapeError("LeNet's table connects 6 maps to 16", expected="6 input channels", got=channels)
    for seen, maps in ((3, 6), (4, 9), (6, 1)):
        for _ in range(maps):
            side = s.branch((seen, *s.shape[1:])).conv(1, kernel_size, padding=0, bias=True)
            s.join(side)
    s.shape = (16, *side.shape[1:])


def _same(kernel_size: Size2, dilation: int) -> Size2:
    """The padding that keeps the size of odd kernels at stride 1."""
    height, width = (dilation * (size - 1) // 2 for size in pair(kernel_size))
    return height if height == width else (height, width)
