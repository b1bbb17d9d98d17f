"""Sketches of pooling."""

from __future__ import annotations

from nas.ops.catalogue import op
from nas.ops.sketch import Sketch


@op("max_pool", "nas.ops.modules.pool:MaxPool", takes=())
def max_pool(s: Sketch, *, kernel_size: int = 3, stride: int = 1) -> None:
    """Max pooling that keeps the size at stride 1 (even kernels pad right and below)."""
    _same(s, kernel_size, stride)


@op("avg_pool", "nas.ops.modules.pool:AvgPool", takes=())
def avg_pool(s: Sketch, *, kernel_size: int = 3, stride: int = 1) -> None:
    """Average pooling that keeps the size at stride 1; padding is not counted."""
    _same(s, kernel_size, stride)


@op("global_avg_pool", "nas.ops.modules.pool:GlobalAvgPool", takes=())
def global_avg_pool(s: Sketch) -> None:
    """Average over all pixels: (C, H, W) to (C,)."""
    s.shape = (s.map()[0],)


def _same(s: Sketch, kernel_size: int, stride: int) -> None:
    channels, height, width = s.map()
    s.shape = (channels, -(-height // stride), -(-width // stride))
