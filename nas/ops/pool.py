"""Sketches of pooling."""

from __future__ import annotations

from typing import Any

from nas.errors import ShapeError
from nas.ops.catalogue import op
from nas.ops.sketch import ACTIVATIONS, Size2, Sketch, one_of, pair, positive

MODULES = "nas.ops.modules.pool:"


@op("max_pool", MODULES + "MaxPool", takes=())
def max_pool(s: Sketch, *, kernel_size: int = 3, stride: int = 1, padding: int | None = None,
             ceil_mode: bool = False) -> None:  # fmt: skip
    """Max pooling; padding None keeps the size at stride 1 (even kernels pad right and below), 0 is VALID.

    ``ceil_mode`` rounds the size up under a padding that is given.
    """
    _pool(s, kernel_size, stride, padding, ceil_mode)


@op("avg_pool", MODULES + "AvgPool", takes=())
def avg_pool(s: Sketch, *, kernel_size: int = 3, stride: int = 1, padding: int | None = None, ceil_mode: bool = False,
             count_padding: bool = False) -> None:  # fmt: skip
    """Average pooling; padding None keeps the size at stride 1, 0 is VALID; zeros of padding count on request.

    ``ceil_mode`` rounds the size up under a padding that is given.
    """
    _pool(s, kernel_size, stride, padding, ceil_mode)


@op("projected_max_pool", MODULES + "ProjectedMaxPool")
def projected_max_pool(s: Sketch, *, out_channels: int, kernel_size: int = 3, stride: int = 1) -> None:
    """Max pooling, then 1x1 convolution and batch norm where the channels change (NASNet's first cells)."""
    _projected(s, out_channels, kernel_size, stride)


@op("projected_avg_pool", MODULES + "ProjectedAvgPool")
def projected_avg_pool(s: Sketch, *, out_channels: int, kernel_size: int = 3, stride: int = 1) -> None:
    """Average pooling, then 1x1 convolution and batch norm where the channels change (NASNet's first cells)."""
    _projected(s, out_channels, kernel_size, stride)


@op("global_avg_pool", MODULES + "GlobalAvgPool", takes=())
def global_avg_pool(s: Sketch) -> None:
    """Average over all pixels: (C, H, W) to (C,)."""
    s.shape = (s.map()[0],)


@op("global_max_pool", MODULES + "GlobalMaxPool", takes=())
def global_max_pool(s: Sketch) -> None:
    """Largest value over all pixels: (C, H, W) to (C,)."""
    s.shape = (s.map()[0],)


@op("adaptive_avg_pool", "torch.nn:AdaptiveAvgPool2d", takes=())
def adaptive_avg_pool(s: Sketch, *, output_size: Size2 = 7) -> dict[str, Any]:
    """Average pooling to a given size."""
    height, width = pair(output_size)
    positive(output_size=min(height, width))
    s.shape = (s.map()[0], height, width)
    return {"output_size": output_size}


@op("subsampling", MODULES + "Subsampling")
def subsampling(s: Sketch, *, kernel_size: int = 2, activation: str = "tanh") -> None:
    """Average pooling, a trainable scale and bias per map, squashing (LeNet-5)."""
    one_of("activation", activation, ACTIVATIONS)
    s.pool(kernel_size, padding=0).params(2 * s.channels)


def _pool(s: Sketch, kernel_size: int, stride: int, padding: int | None, ceil_mode: bool) -> None:
    positive(kernel_size=kernel_size, stride=stride)
    if padding is None:
        channels, height, width = s.map()
        s.shape = (channels, -(-height // stride), -(-width // stride))
    elif 2 * padding > kernel_size:
        raise ShapeError("a pooling window would see padding alone", expected=f"padding up to {kernel_size // 2}",
                         got=padding)  # fmt: skip
    else:
        s.pool(kernel_size, stride, padding=padding, ceil=ceil_mode)


def _projected(s: Sketch, out_channels: int, kernel_size: int, stride: int) -> None:
    in_channels = s.channels
    _pool(s, kernel_size, stride, None, False)
    if out_channels != in_channels:
        s.conv(out_channels).norm()
