"""Recurrent layers over tokens (N, L, C)."""

from __future__ import annotations

from torch import Tensor, nn


class LSTM(nn.Module):
    """LSTM over the tokens, its output at every token; bidirectional halves the width of each direction."""

    def __init__(self, in_channels: int, out_channels: int, num_layers: int = 1, bidirectional: bool = False) -> None:
        super().__init__()
        width = out_channels // 2 if bidirectional else out_channels
        self.lstm = nn.LSTM(in_channels, width, num_layers, batch_first=True, bidirectional=bidirectional)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.lstm(x)
        return y


class GRU(nn.Module):
    """GRU over the tokens, its output at every token; bidirectional halves the width of each direction."""

    def __init__(self, in_channels: int, out_channels: int, num_layers: int = 1, bidirectional: bool = False) -> None:
        super().__init__()
        width = out_channels // 2 if bidirectional else out_channels
        self.gru = nn.GRU(in_channels, width, num_layers, batch_first=True, bidirectional=bidirectional)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.gru(x)
        return y
