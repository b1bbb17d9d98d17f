"""Sketches of the mobile blocks: inverted bottlenecks, ShuffleNet and Ghost units."""

from __future__ import annotations

import math

from nas.errors import ShapeError
from nas.ops.catalogue import op
from nas.ops.channel_attention import squeeze
from nas.ops.sketch import ACTIVATIONS, Sketch, divides, one_of, positive, share

MODULES = "nas.ops.modules.mobile:"


@op("mbconv", MODULES + "MBConv")
def mbconv(s: Sketch, *, out_channels: int, kernel_size: int = 3, stride: int = 1, expansion: int = 6,
           se_ratio: float = 0.25, activation: str = "silu", skip: bool = True,
           drop_path: float = 0.0) -> None:  # fmt: skip
    """Mobile inverted bottleneck: 1x1 expand, depthwise, [squeeze-excite], 1x1 project, add if skip and shapes allow.

    The squeeze width is a share of the block's input channels (MnasNet, EfficientNet).
    """
    one_of("activation", activation, ACTIVATIONS)
    share("drop_path", drop_path)
    positive(expansion=expansion)
    in_channels = s.channels
    if expansion != 1:
        s.conv(in_channels * expansion).norm()
    s.depthwise(kernel_size, stride).norm()
    if se_ratio > 0:
        squeeze(s, max(1, int(in_channels * se_ratio)))
    s.conv(out_channels).norm()


@op("fused_mbconv", MODULES + "FusedMBConv")
def fused_mbconv(s: Sketch, *, out_channels: int, kernel_size: int = 3, stride: int = 1, expansion: int = 4,
                 se_ratio: float = 0.0, activation: str = "silu", skip: bool = True,
                 drop_path: float = 0.0) -> None:  # fmt: skip
    """Inverted bottleneck with a full kxk convolution in place of 1x1 and depthwise (EfficientNetV2)."""
    one_of("activation", activation, ACTIVATIONS)
    share("drop_path", drop_path)
    positive(expansion=expansion)
    in_channels = s.channels
    s.conv(out_channels if expansion == 1 else in_channels * expansion, kernel_size, stride).norm()
    if se_ratio > 0:
        squeeze(s, max(1, int(in_channels * se_ratio)))
    if expansion != 1:
        s.conv(out_channels).norm()


@op("inverted_residual", MODULES + "InvertedResidual", scaled=("out_channels", "hidden_channels"))
def inverted_residual(s: Sketch, *, out_channels: int, hidden_channels: int | None = None, expansion: int = 6,
                      kernel_size: int = 3, stride: int = 1, se: bool = False, activation: str = "relu",
                      drop_path: float = 0.0) -> None:  # fmt: skip
    """Inverted bottleneck of a given width (MobileNetV3); squeeze-excite to a quarter of it, with a hard sigmoid.

    Hidden channels that are not given are ``expansion`` times the input's.
    """
    hidden_channels = hidden_channels or expansion * s.channels
    one_of("activation", activation, ACTIVATIONS)
    share("drop_path", drop_path)
    if hidden_channels != s.channels:
        s.conv(hidden_channels).norm()
    s.depthwise(kernel_size, stride).norm()
    if se:
        squeeze(s, make_divisible(hidden_channels / 4))
    s.conv(out_channels).norm()


@op("shufflenet_unit", MODULES + "ShuffleNetUnit", ordered=True)
def shufflenet_unit(s: Sketch, *, out_channels: int, kernel_size: int = 3, stride: int = 1,
                    branch: str = "shuffle") -> None:  # fmt: skip
    """ShuffleNetV2's unit: at stride 1 half the channels pass by; both halves are interleaved at the end.

    ``branch`` is ``shuffle`` (1x1, depthwise, 1x1) or ``xception`` (three times depthwise, 1x1). At stride 1 the
    output has the input's channels.
    """
    one_of("branch", branch, ("shuffle", "xception"))
    channels, height, width = s.map()
    divides(2, out_channels, "2 (the unit has two halves)")
    half = out_channels // 2
    if stride == 1:
        if out_channels != channels:
            raise ShapeError("a unit without stride keeps its channels", expected=f"out_channels {channels}",
                             got=out_channels, hint="Change the channels in a unit of stride 2.")  # fmt: skip
        s.shape = (half, height, width)
    else:
        s.join(s.branch().depthwise(kernel_size, stride).norm().conv(half).norm())
    if branch == "shuffle":
        s.conv(half).norm().depthwise(kernel_size, stride).norm().conv(half).norm()
    else:
        for step in (stride, 1, 1):
            s.depthwise(kernel_size, step).norm().conv(half).norm()
    s.shape = (out_channels, *s.shape[1:])


@op("ghost_module", MODULES + "GhostModule")
def ghost_module(s: Sketch, *, out_channels: int, ratio: int = 2, kernel_size: int = 3,
                 activation: str = "relu") -> None:  # fmt: skip
    """A 1x1 convolution makes 1/ratio of the channels, cheap depthwise ones the rest (GhostNet)."""
    one_of("activation", activation, ACTIVATIONS)
    if ratio < 2:
        raise ShapeError("impossible ratio", expected="a whole number from 2", got=ratio)
    primary = math.ceil(out_channels / ratio)
    s.conv(primary).norm()
    s.conv(primary * (ratio - 1), kernel_size, groups=primary).norm()
    s.shape = (out_channels, *s.shape[1:])


@op("ghost_bottleneck", MODULES + "GhostBottleneck", scaled=("out_channels", "hidden_channels"))
def ghost_bottleneck(s: Sketch, *, out_channels: int, hidden_channels: int, kernel_size: int = 3, stride: int = 1,
                     se_ratio: float = 0.0) -> None:  # fmt: skip
    """Ghost module to the hidden width, [strided depthwise, squeeze-excite,] ghost module back, shortcut (GhostNet)."""
    if stride != 1 or out_channels != s.channels:
        s.join(s.branch().depthwise(kernel_size, stride).norm().conv(out_channels).norm())
    ghost_module(s, out_channels=hidden_channels)
    if stride > 1:
        s.depthwise(kernel_size, stride).norm()
    if se_ratio > 0:
        squeeze(s, make_divisible(hidden_channels * se_ratio, 4))
    ghost_module(s, out_channels=out_channels)


def make_divisible(channels: float, divisor: int = 8) -> int:
    """The nearest multiple of the divisor that is not under 90 % of the channels (MobileNet)."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded
