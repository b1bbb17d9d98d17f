"""Sketches of the sequence layers over tokens (L, C)."""

from __future__ import annotations

import math

from nas.ops.catalogue import op
from nas.ops.sketch import Sketch, divides, positive

RECURRENT = "nas.ops.modules.recurrent:"
STATE_SPACE = "nas.ops.modules.state_space:"


@op("lstm", RECURRENT + "LSTM")
def lstm(s: Sketch, *, out_channels: int, num_layers: int = 1, bidirectional: bool = False) -> None:
    """LSTM over the tokens (rows of a map after `to_rows`), its output at every token."""
    _recurrent(s, out_channels, num_layers, bidirectional, gates=4)


@op("gru", RECURRENT + "GRU")
def gru(s: Sketch, *, out_channels: int, num_layers: int = 1, bidirectional: bool = False) -> None:
    """GRU over the tokens (rows of a map after `to_rows`), its output at every token."""
    _recurrent(s, out_channels, num_layers, bidirectional, gates=3)


@op("s4", STATE_SPACE + "S4")
def s4(s: Sketch, *, state_size: int = 16) -> None:
    """Structured state space layer in convolution mode, GELU, gated linear layer (Gu et al. 2022).

    Counted: the linear layer. Not counted: about 8*L*C*state_size operations for the kernel, and three FFTs of 2*L a
    feature, about 15*L*C*log2(2*L) in all.
    """
    _, channels = s.tokens()
    divides(2, state_size, "2 (conjugate pairs)")
    s.params(channels * (4 * state_size + 2)).linear(2 * channels)
    s.shape = (s.shape[0], channels)


@op("mamba", STATE_SPACE + "Mamba")
def mamba(s: Sketch, *, state_size: int = 16, expansion: int = 2, kernel_size: int = 4) -> None:
    """Selective state space layer between two linear ones (Gu and Dao 2023).

    Counted: linear layers and the causal convolution. Not counted: the scan, 3*L*expansion*C*state_size multiply-adds step
    by step; done in parallel log2(L) times as many.
    """
    length, channels = s.tokens()
    positive(state_size=state_size, expansion=expansion, kernel_size=kernel_size)
    inner, rank = expansion * channels, math.ceil(channels / 16)
    s.linear(2 * inner, bias=False)
    s.params(inner * (kernel_size + 1)).matmul(length, inner, kernel_size)
    s.shape = (length, inner)
    s.linear(rank + 2 * state_size, bias=False)
    s.shape = (length, rank)
    s.linear(inner).params(inner * (state_size + 1)).linear(channels, bias=False)


def _recurrent(s: Sketch, out_channels: int, num_layers: int, bidirectional: bool, gates: int) -> None:
    length, features = s.tokens()
    directions = 2 if bidirectional else 1
    positive(out_channels=out_channels, num_layers=num_layers)
    divides(directions, out_channels, "2 (directions)")
    width = out_channels // directions
    for _ in range(num_layers):
        weights = directions * gates * width * (features + width)
        s.params(weights + directions * gates * 2 * width).matmul(length, weights)
        features = out_channels
    s.shape = (length, out_channels)
