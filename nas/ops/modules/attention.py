"""Self-attention over tokens (N, L, C)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SelfAttention(nn.Module):
    """Multi-head scaled dot product attention: softmax(Q K^T / sqrt(d)) V (Vaswani et al. 2017)."""

    def __init__(self, in_channels: int, num_heads: int = 4, qkv_bias: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(in_channels, 3 * in_channels, bias=qkv_bias)
        self.project = nn.Linear(in_channels, in_channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        n, length, channels = x.shape
        qkv = self.qkv(x).view(n, length, 3, self.num_heads, channels // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, length, channels)
        return self.dropout(self.project(y))


class AdditiveAttention(nn.Module):
    """Every token's mean of all, weighted by softmax(v^T tanh(W1 h_i + W2 h_j)) (Bahdanau et al. 2015)."""

    def __init__(self, in_channels: int, hidden_channels: int | None = None) -> None:
        super().__init__()
        hidden = hidden_channels or in_channels
        self.query = nn.Linear(in_channels, hidden, bias=False)
        self.key = nn.Linear(in_channels, hidden, bias=False)
        self.score = nn.Linear(hidden, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        pairs = torch.tanh(self.query(x)[:, :, None] + self.key(x)[:, None])
        return self.score(pairs).squeeze(-1).softmax(-1) @ x


class MultiplicativeAttention(nn.Module):
    """Every token's mean of all, weighted by softmax(h_i^T W h_j) (Luong et al. 2015)."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.weight = nn.Linear(in_channels, in_channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return (self.weight(x) @ x.transpose(1, 2)).softmax(-1) @ x


class KeyValueAttention(nn.Module):
    """Half of a token's features are its key, half its value (Daniluk et al. 2017).

    Keys alone decide the weights; a linear layer joins the weighted mean of the values with the token's own value.
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.key_channels = in_channels // 2
        self.join = nn.Linear(in_channels, in_channels)

    def forward(self, x: Tensor) -> Tensor:
        key, value = x[..., : self.key_channels], x[..., self.key_channels :]
        weights = (key @ key.transpose(1, 2) / self.key_channels**0.5).softmax(-1)
        return self.join(torch.cat([weights @ value, value], dim=-1))


def relative_index(height: int, width: int) -> Tensor:
    """For every pair of pixels of a (height, width) window, the number of their displacement: (H*W, H*W)."""
    y = torch.arange(height).repeat_interleave(width)
    x = torch.arange(width).repeat(height)
    dy, dx = y[:, None] - y[None] + height - 1, x[:, None] - x[None] + width - 1
    return dy * (2 * width - 1) + dx


class WindowAttention(nn.Module):
    """Attention inside the windows of a map, with a learned bias per head and displacement (Swin).

    With ``shift`` the windows are moved by half their size around the map's border; what was not next to each other is
    masked. A map of a single window is never shifted. (N, C, H, W) to the same.
    """

    index: Tensor
    mask: Tensor | None

    def __init__(self, in_channels: int, input_size: tuple[int, int], num_heads: int = 4, window_size: int = 7,
                 shift: bool = False) -> None:  # fmt: skip
        super().__init__()
        self.num_heads, self.window_size = num_heads, window_size
        self.shift = window_size // 2 if shift and max(input_size) > window_size else 0
        self.qkv = nn.Linear(in_channels, 3 * in_channels)
        self.project = nn.Linear(in_channels, in_channels)
        self.bias = nn.Parameter(torch.zeros((2 * window_size - 1) ** 2, num_heads))
        nn.init.trunc_normal_(self.bias, std=0.02)
        self.register_buffer("index", relative_index(window_size, window_size), persistent=False)
        self.register_buffer("mask", self.shift_mask(*input_size) if self.shift else None, persistent=False)

    def windows(self, x: Tensor) -> Tensor:
        """(N, H, W, C) to (N * windows, window * window, C)."""
        n, height, width, channels = x.shape
        w = self.window_size
        x = x.view(n, height // w, w, width // w, w, channels).transpose(2, 3)
        return x.reshape(-1, w * w, channels)

    def shift_mask(self, height: int, width: int) -> Tensor:
        """Large negative numbers for pairs of pixels that the shift brought together: (windows, 1, L, L)."""
        regions = torch.zeros(1, height, width, 1)
        for axis, size in ((1, height), (2, width)):
            if size > self.window_size:
                region = (torch.arange(size) >= size - self.window_size).float()
                region = region + (torch.arange(size) >= size - self.shift)
                regions = 3 * regions + region.view([size if i == axis else 1 for i in range(4)])
        region_of = self.windows(regions).squeeze(-1)
        return (region_of[:, None] != region_of[:, :, None])[:, None] * -100.0

    def forward(self, x: Tensor) -> Tensor:
        n, channels, height, width = x.shape
        w, heads = self.window_size, self.num_heads
        x = x.permute(0, 2, 3, 1)
        if self.shift:
            x = x.roll((-self.shift, -self.shift), (1, 2))
        qkv = self.qkv(self.windows(x)).view(-1, w * w, 3, heads, channels // heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        bias = self.bias[self.index].permute(2, 0, 1)[None]
        if self.mask is not None:
            bias = (bias + self.mask).repeat(n, 1, 1, 1)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        y = self.project(y.transpose(1, 2).reshape(-1, w * w, channels))
        y = y.view(n, height // w, width // w, w, w, channels).transpose(2, 3).reshape(n, height, width, channels)
        if self.shift:
            y = y.roll((self.shift, self.shift), (1, 2))
        return y.permute(0, 3, 1, 2)


class RelativeAttention(nn.Module):
    """Attention over all pixels of a map, with a learned bias per head and displacement (CoAtNet)."""

    index: Tensor

    def __init__(self, in_channels: int, input_size: tuple[int, int], out_channels: int,
                 head_channels: int = 32) -> None:  # fmt: skip
        super().__init__()
        height, width = input_size
        self.num_heads = out_channels // head_channels
        self.qkv = nn.Conv2d(in_channels, 3 * out_channels, 1)
        self.project = nn.Conv2d(out_channels, out_channels, 1)
        self.bias = nn.Parameter(torch.zeros((2 * height - 1) * (2 * width - 1), self.num_heads))
        nn.init.trunc_normal_(self.bias, std=0.02)
        self.register_buffer("index", relative_index(height, width), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        n, _, height, width = x.shape
        qkv = self.qkv(x).view(n, 3, self.num_heads, -1, height * width).transpose(3, 4)
        q, k, v = qkv.unbind(1)
        bias = self.bias[self.index].permute(2, 0, 1)[None]
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        return self.project(y.transpose(2, 3).reshape(n, -1, height, width))
