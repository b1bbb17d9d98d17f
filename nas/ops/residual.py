"""Sketches of the residual blocks and of those that concatenate."""

from __future__ import annotations

from nas.errors import ShapeError
from nas.ops.catalogue import op
from nas.ops.channel_attention import attend, squeeze
from nas.ops.sketch import Sketch, divides, odd_kernel, one_of, positive, share

MODULES = "nas.ops.modules.residual:"
DENSE = "nas.ops.modules.dense:"


@op("basic_block", MODULES + "BasicBlock", ordered=True)
def basic_block(s: Sketch, *, out_channels: int, stride: int = 1, shortcut: str = "projection", attention: str = "none",
                reduction: int = 16, drop_path: float = 0.0) -> None:  # fmt: skip
    """Two 3x3 convolutions around a shortcut (ResNet); attention ``none``, ``se``, ``eca`` or ``cbam``.

    Where the shape changes the shortcut is a 1x1 convolution with batch norm (``projection``), or drops pixels and
    appends zero channels (``pad``, ResNet's option A).
    """
    one_of("shortcut", shortcut, ("projection", "pad"))
    share("drop_path", drop_path)
    if shortcut == "projection":
        _shortcut(s, out_channels, stride, norm=True)
    elif out_channels < s.channels:
        raise ShapeError("a padded shortcut cannot drop channels", expected=f"out_channels of at least {s.channels}",
                         got=out_channels, hint="Write `shortcut: projection`.")  # fmt: skip
    s.conv(out_channels, 3, stride).norm().conv(out_channels, 3).norm()
    attend(s, attention, reduction)


@op("bottleneck", MODULES + "Bottleneck", scaled=("out_channels", "hidden_channels"))
def bottleneck(s: Sketch, *, out_channels: int, hidden_channels: int | None = None, stride: int = 1, groups: int = 1,
               stride_first: bool = False, attention: str = "none", reduction: int = 16,
               drop_path: float = 0.0) -> None:  # fmt: skip
    """1x1, 3x3, 1x1 convolutions around a shortcut; hidden channels are a quarter of the output's unless told.

    ResNeXt 32x4d: ``groups: 32`` and hidden_channels = out_channels / 2; the stride is on the 3x3 unless
    ``stride_first`` (the original ResNet and SENet).
    """
    share("drop_path", drop_path)
    hidden = hidden_channels or out_channels // 4
    _shortcut(s, out_channels, stride, norm=True)
    first, second = (stride, 1) if stride_first else (1, stride)
    s.conv(hidden, 1, first).norm().conv(hidden, 3, second, groups=groups).norm().conv(out_channels).norm()
    attend(s, attention, reduction)


@op("preact_basic_block", MODULES + "PreActBasicBlock")
def preact_basic_block(s: Sketch, *, out_channels: int, stride: int = 1, dropout: float = 0.0,
                       drop_path: float = 0.0) -> None:  # fmt: skip
    """Batch norm and ReLU before each of two 3x3 convolutions; the block of pre-activation and wide ResNets."""
    share("dropout", dropout)
    share("drop_path", drop_path)
    _shortcut(s, out_channels, stride, norm=False)
    s.norm().conv(out_channels, 3, stride).norm().conv(out_channels, 3)


@op("preact_bottleneck", MODULES + "PreActBottleneck", scaled=("out_channels", "hidden_channels"))
def preact_bottleneck(s: Sketch, *, out_channels: int, hidden_channels: int | None = None, stride: int = 1,
                      stride_first: bool = False, drop_path: float = 0.0) -> None:  # fmt: skip
    """Batch norm and ReLU before each of the convolutions 1x1, 3x3, 1x1 (pre-activation ResNet)."""
    share("drop_path", drop_path)
    hidden = hidden_channels or out_channels // 4
    _shortcut(s, out_channels, stride, norm=False)
    first, second = (stride, 1) if stride_first else (1, stride)
    s.norm().conv(hidden, 1, first).norm().conv(hidden, 3, second).norm().conv(out_channels)


@op("regnet_block", MODULES + "RegNetBlock", scaled=("out_channels",))
def regnet_block(s: Sketch, *, out_channels: int, stride: int = 1, group_width: int = 8, bottleneck_ratio: float = 1.0,
                 se_ratio: float = 0.0, drop_path: float = 0.0) -> None:  # fmt: skip
    """Bottleneck with groups of a fixed width; with se_ratio 0.25 of the input's channels a RegNetY block."""
    share("drop_path", drop_path)
    if bottleneck_ratio <= 0:
        raise ShapeError("impossible bottleneck_ratio", expected="a number above 0", got=bottleneck_ratio)
    hidden, in_channels = round(out_channels / bottleneck_ratio), s.channels
    divides(group_width, hidden, "group_width")
    _shortcut(s, out_channels, stride, norm=True)
    s.conv(hidden).norm().conv(hidden, 3, stride, groups=hidden // group_width).norm()
    if se_ratio > 0:
        squeeze(s, max(1, round(in_channels * se_ratio)))
    s.conv(out_channels).norm()


@op("convnext_block", MODULES + "ConvNeXtBlock")
def convnext_block(s: Sketch, *, kernel_size: int = 7, expansion: int = 4, layer_scale: float = 1e-6,
                   drop_path: float = 0.0) -> None:  # fmt: skip
    """Depthwise convolution, layer norm, two linear layers around GELU, layer scale, added to the input (ConvNeXt)."""
    share("drop_path", drop_path)
    odd_kernel(kernel_size)
    channels = s.channels
    s.depthwise(kernel_size, bias=True).norm()
    s.conv(expansion * channels, bias=True).conv(channels, bias=True).params(channels)


@op("dense_layer", DENSE + "DenseLayer", scaled=("growth_rate",))
def dense_layer(s: Sketch, *, growth_rate: int = 32, bottleneck: int = 4, dropout: float = 0.0) -> None:
    """Appends growth_rate channels: [BN, ReLU, 1x1 to bottleneck * growth_rate,] BN, ReLU, 3x3 (DenseNet)."""
    share("dropout", dropout)
    channels, height, width = s.map()
    if bottleneck:
        s.norm().conv(bottleneck * growth_rate)
    s.norm().conv(growth_rate, 3)
    s.shape = (channels + growth_rate, height, width)


@op("dense_transition", DENSE + "DenseTransition")
def dense_transition(s: Sketch, *, compression: float = 0.5) -> None:
    """Batch norm, ReLU, 1x1 convolution to a share of the channels, 2x2 average pooling (DenseNet)."""
    if not 0 < compression <= 1:
        raise ShapeError("impossible compression", expected="0 < compression <= 1", got=compression)
    s.norm().conv(max(1, int(s.channels * compression))).pool(2, padding=0)


@op("fire", DENSE + "Fire", scaled=("out_channels", "squeeze_channels"))
def fire(s: Sketch, *, out_channels: int, squeeze_channels: int | None = None) -> None:
    """A narrow 1x1 convolution (an eighth of the output's channels), then 1x1 and 3x3 side by side (SqueezeNet)."""
    positive(half_of_out_channels=out_channels // 2)
    s.conv(squeeze_channels or max(1, out_channels // 8), bias=True)
    s.join(s.branch().conv(out_channels // 2, bias=True))
    s.conv(out_channels - out_channels // 2, 3, bias=True)
    s.shape = (out_channels, *s.shape[1:])


@op("poly_inception", "nas.ops.modules.poly:PolyInception",
    scaled=("narrow_channels", "middle_channels", "wide_channels", "side_channels"))  # fmt: skip
def poly_inception(s: Sketch, *, kernel_size: int = 7, order: int = 3, narrow_channels: int = 128,
                   middle_channels: int = 160, wide_channels: int = 192, side_channels: int = 192,
                   factor: float = 1.0) -> None:  # fmt: skip
    """x + factor * (F(x) + F(F(x)) + ...), F an Inception block whose terms share its convolutions (PolyNet's poly-n).

    F: 1x1, 1xk, kx1 beside a 1x1, joined by a 1x1; every term has batch norms and a joining convolution of its own.
    """
    odd_kernel(kernel_size)
    positive(order=order)
    channels, height, width = s.map()
    path = s.branch().conv(narrow_channels).conv(middle_channels, (1, kernel_size)).conv(wide_channels, (kernel_size, 1))
    path.join(s.branch().conv(side_channels))
    own = s.branch((wide_channels + side_channels, height, width)).norm().conv(channels).norm()
    own.params(2 * (narrow_channels + middle_channels))
    s.params(path.num_params + order * own.num_params).matmul(order, path.macs + own.macs)


def _shortcut(s: Sketch, out_channels: int, stride: int, *, norm: bool) -> None:
    """Cost of a 1x1 projection where the shape changes."""
    if stride != 1 or out_channels != s.map()[0]:
        side = s.branch().conv(out_channels, 1, stride)
        s.join(side.norm() if norm else side)
