"""Sketches of CoAtNet's blocks."""

from __future__ import annotations

from nas.ops.catalogue import op
from nas.ops.channel_attention import squeeze
from nas.ops.sketch import Sketch, divides, positive, share

MODULES = "nas.ops.modules.coatnet:"


@op("coatnet_mbconv", MODULES + "CoAtNetMBConv")
def coatnet_mbconv(s: Sketch, *, out_channels: int, stride: int = 1, expansion: int = 4, se_ratio: float = 0.25,
                   drop_path: float = 0.0) -> None:  # fmt: skip
    """Inverted bottleneck with a batch norm before it; its widths are multiples of the output's channels (CoAtNet)."""
    share("drop_path", drop_path)
    positive(stride=stride, expansion=expansion)
    _pooled_shortcut(s, out_channels, stride)
    s.norm().conv(expansion * out_channels).norm().depthwise(3, stride).norm()
    if se_ratio > 0:
        squeeze(s, max(1, int(out_channels * se_ratio)))
    s.conv(out_channels, bias=True)


@op("coatnet_block", MODULES + "CoAtNetBlock", takes=("in_channels", "input_size"))
def coatnet_block(s: Sketch, *, out_channels: int, stride: int = 1, head_channels: int = 32, mlp_ratio: float = 4.0,
                  expand_first: bool = True, shortcut_bias: bool = True, drop_path: float = 0.0) -> None:  # fmt: skip
    """Transformer block over all pixels of a map with relative position bias; a stride average-pools (CoAtNet).

    ``expand_first: false`` attends at the input's width, and the projection after it brings the output's (timm's rw nets).
    """
    share("drop_path", drop_path)
    positive(stride=stride)
    channels, height, width = s.map()
    inner = out_channels if expand_first else channels
    divides(head_channels, inner, "head_channels")
    _pooled_shortcut(s, out_channels, stride, shortcut_bias)
    s.norm()
    height, width = -(-height // stride), -(-width // stride)
    s.shape = (channels, height, width)
    s.conv(3 * inner, bias=True)
    s.shape = (inner, height, width)
    s.matmul(2, (height * width) ** 2, inner).conv(out_channels, bias=True)
    s.params((2 * height - 1) * (2 * width - 1) * (inner // head_channels))
    s.norm().conv(int(out_channels * mlp_ratio), bias=True).conv(out_channels, bias=True)


def _pooled_shortcut(s: Sketch, out_channels: int, stride: int, bias: bool = True) -> None:
    """Cost of a 1x1 convolution after pooling, where the channels change."""
    channels, height, width = s.map()
    if out_channels != channels:
        s.join(s.branch((channels, -(-height // stride), -(-width // stride))).conv(out_channels, bias=bias))
