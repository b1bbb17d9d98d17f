"""Sketches of the mobile blocks: MBConv and its relatives."""

from __future__ import annotations

from nas.ops.catalogue import op
from nas.ops.sketch import Sketch

MODULES = "nas.ops.modules.mobile:"


@op("mbconv", MODULES + "MBConv")
def mbconv(s: Sketch, *, out_channels: int, kernel_size: int = 3, stride: int = 1, expansion: int = 6, se_ratio: float = 0.25,
           activation: str = "silu") -> None:  # fmt: skip
    """Mobile inverted bottleneck: 1x1 expand, depthwise, [squeeze-excite], 1x1 project, add where shapes allow.

    The squeeze width is a share of the block's input channels (MnasNet, EfficientNet).
    """
    in_channels = s.channels
    if expansion != 1:
        s.conv(in_channels * expansion).norm()
    s.conv(s.channels, kernel_size, stride, groups=s.channels).norm()
    if se_ratio > 0:
        squeeze(s, max(1, int(in_channels * se_ratio)))
    s.conv(out_channels).norm()


def squeeze(s: Sketch, width: int) -> None:
    """Cost of squeeze-and-excitation over the current map."""
    s.join(s.branch((s.channels, 1, 1)).conv(width, bias=True).conv(s.channels, bias=True))
