"""Plugins as users write them, and a table of operations that is as before after each test."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from nas.net.steps import step
from nas.ops import plugins
from nas.ops.catalogue import ALIASES, OPS

MY_OPS = '''\
"""Operations of my own."""

import nas
from torch import Tensor, nn


def half(channels: int) -> int:
    return max(1, channels // 2)


@nas.op("squeezed_conv")
class SqueezedConv(nn.Module):
    """A 1x1 convolution to half the channels, then a convolution."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(in_channels, half(in_channels), 1)
        self.conv = nn.Conv2d(half(in_channels), out_channels, kernel_size, stride, kernel_size // 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.squeeze(x).relu())
'''


@contextmanager
def tables_restored() -> Iterator[None]:
    """Operations that are entered inside are gone outside."""
    tables = (OPS, ALIASES, sys.modules, plugins._LOADED)
    before = [dict(table) for table in tables]
    try:
        yield
    finally:
        for table, known in zip(tables, before, strict=True):
            for key in [k for k in table if k not in known and (table is not sys.modules or k.startswith("nas_plugin_"))]:
                del table[key]
        step.cache_clear()
