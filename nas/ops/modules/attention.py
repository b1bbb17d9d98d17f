"""Self-attention over tokens (N, L, C)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SelfAttention(nn.Module):
    """Multi-head scaled dot product attention: softmax(Q K^T / sqrt(d)) V (Vaswani et al. 2017).

    ``talking_heads``: a linear layer over the heads before the softmax and one after it (Shazeer et al. 2020).
    """

    def __init__(
        self, in_channels: int, num_heads: int = 4, qkv_bias: bool = True, talking_heads: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(in_channels, 3 * in_channels, bias=qkv_bias)
        self.project = nn.Linear(in_channels, in_channels)
        self.talk = nn.ModuleList(nn.Linear(num_heads, num_heads) for _ in range(2)) if talking_heads else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        n, length, channels = x.shape
        qkv = self.qkv(x).view(n, length, 3, self.num_heads, channels // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        if self.talk is None:
            y = F.scaled_dot_product_attention(q, k, v)
        else:
            before, after = self.talk
            scores = before((q * q.shape[-1] ** -0.5 @ k.transpose(2, 3)).permute(0, 2, 3, 1))
            y = after(scores.softmax(2)).permute(0, 3, 1, 2) @ v
        return self.dropout(self.project(y.transpose(1, 2).reshape(n, length, channels)))


class ClassAttention(nn.Module):
    """The first token alone asks all tokens: (N, L, C) to the vector (N, C) of its answer (Touvron et al. 2021)."""

    def __init__(self, in_channels: int, num_heads: int = 4, qkv_bias: bool = True) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(in_channels, in_channels, bias=qkv_bias)
        self.key_value = nn.Linear(in_channels, 2 * in_channels, bias=qkv_bias)
        self.project = nn.Linear(in_channels, in_channels)

    def forward(self, x: Tensor) -> Tensor:
        n, length, channels = x.shape
        size = channels // self.num_heads
        q = self.query(x[:, 0]).view(n, self.num_heads, 1, size)
        k, v = self.key_value(x).view(n, length, 2, self.num_heads, size).permute(2, 0, 3, 1, 4)
        return self.project(F.scaled_dot_product_attention(q, k, v).reshape(n, channels))


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


class ReducedAttention(nn.Module):
    """Every pixel of a map attends to patches of it, which a strided convolution makes (Wang et al. 2021)."""

    def __init__(self, in_channels: int, num_heads: int = 4, reduction: int = 2) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(in_channels, in_channels)
        self.reduce = nn.Conv2d(in_channels, in_channels, reduction, reduction) if reduction > 1 else nn.Identity()
        self.norm = nn.LayerNorm(in_channels) if reduction > 1 else nn.Identity()
        self.key_value = nn.Linear(in_channels, 2 * in_channels)
        self.project = nn.Linear(in_channels, in_channels)

    def forward(self, x: Tensor) -> Tensor:
        n, channels, height, width = x.shape
        q = self.query(x.flatten(2).transpose(1, 2)).view(n, -1, self.num_heads, channels // self.num_heads)
        pooled = self.norm(self.reduce(x).flatten(2).transpose(1, 2))
        k, v = self.key_value(pooled).view(n, -1, 2, self.num_heads, channels // self.num_heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q.transpose(1, 2), k, v).transpose(1, 2).reshape(n, -1, channels)
        return self.project(y).transpose(1, 2).view(n, channels, height, width)


def relative_index(height: int, width: int) -> Tensor:
    """For every pair of pixels of a (height, width) window, the number of their displacement: (H*W, H*W)."""
    y = torch.arange(height).repeat_interleave(width)
    x = torch.arange(width).repeat(height)
    dy, dx = y[:, None] - y[None] + height - 1, x[:, None] - x[None] + width - 1
    return dy * (2 * width - 1) + dx


class LogPosition(nn.Module):
    """Swin V2's similarity: cosines times a learned factor per head, and a bias that a small network makes (Liu et al. 2022).

    The network reads the logarithm of a displacement, so that windows of another size can follow.
    """

    places: Tensor

    def __init__(self, window_size: int, num_heads: int) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.full((num_heads, 1, 1), math.log(10.0)))
        self.network = nn.Sequential(nn.Linear(2, 512), nn.ReLU(), nn.Linear(512, num_heads, bias=False))
        steps = 8 * torch.arange(1 - window_size, window_size) / max(window_size - 1, 1)
        steps = steps.sign() * torch.log2(steps.abs() + 1) / 3
        self.register_buffer("places", torch.cartesian_prod(steps, steps).view(-1, 2), persistent=False)

    def forward(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor, Tensor, float]:
        """Queries, keys, the bias of every displacement and head, and what their products are to be multiplied with."""
        q = F.normalize(q, dim=-1) * self.factor.clamp(max=math.log(100.0)).exp()
        return q, F.normalize(k, dim=-1), 16 * torch.sigmoid(self.network(self.places)), 1.0


class WindowAttention(nn.Module):
    """Attention inside the windows of a map, with a learned bias per head and displacement (Swin).

    With ``shift`` the windows are moved by half their size around the map's border; what was not next to each other is
    masked. An axis of a single window is never shifted. A map that the windows do not tile is padded with zeros right and
    below, and cut again at the end. With ``grid`` a window's pixels do not lie side by side but as far apart as the map
    allows (MaxViT). ``position``: ``table``; ``log``, Swin V2's network over logarithmic displacements, with cosine
    similarities; ``none``. (N, C, H, W) to the same.
    """

    index: Tensor
    mask: Tensor | None

    def __init__(
        self,
        in_channels: int,
        input_size: tuple[int, int],
        num_heads: int = 4,
        window_size: int = 7,
        shift: bool = False,
        grid: bool = False,
        position: str = "table",
    ) -> None:
        super().__init__()
        self.num_heads, self.window_size, self.grid = num_heads, window_size, grid
        self.size = tuple(-(-size // window_size) * window_size for size in input_size)
        self.shift = tuple(window_size // 2 if shift and size > window_size else 0 for size in self.size)
        self.qkv = nn.Linear(in_channels, 3 * in_channels)
        self.project = nn.Linear(in_channels, in_channels)
        self.bias: nn.Parameter | None = None
        self.log_position: LogPosition | None = None
        if position == "table":
            self.bias = nn.Parameter(torch.zeros((2 * window_size - 1) ** 2, num_heads))
            nn.init.trunc_normal_(self.bias, std=0.02)
        elif position == "log":
            self.log_position = LogPosition(window_size, num_heads)
        self.register_buffer("index", relative_index(window_size, window_size), persistent=False)
        self.register_buffer("mask", self.shift_mask(*self.size) if any(self.shift) else None, persistent=False)

    def windows(self, x: Tensor) -> Tensor:
        """(N, H, W, C) to (N * windows, window * window, C)."""
        n, height, width, channels = x.shape
        w = self.window_size
        if self.grid:
            x = x.view(n, w, height // w, w, width // w, channels).permute(0, 2, 4, 1, 3, 5)
        else:
            x = x.view(n, height // w, w, width // w, w, channels).transpose(2, 3)
        return x.reshape(-1, w * w, channels)

    def whole(self, y: Tensor, height: int, width: int) -> Tensor:
        """(N * windows, window * window, C) to (N, H, W, C)."""
        w, channels = self.window_size, y.shape[-1]
        y = y.view(-1, height // w, width // w, w, w, channels)
        y = y.permute(0, 3, 1, 4, 2, 5) if self.grid else y.transpose(2, 3)
        return y.reshape(-1, height, width, channels)

    def shift_mask(self, height: int, width: int) -> Tensor:
        """Large negative numbers for pairs of pixels that the shift brought together: (windows, 1, L, L)."""
        regions = torch.zeros(1, height, width, 1)
        for size, shift, shape in ((height, self.shift[0], (-1, 1, 1)), (width, self.shift[1], (-1, 1))):
            if shift:
                place = torch.arange(size)
                region = (place >= size - self.window_size).float() + (place >= size - shift)
                regions = 3 * regions + region.view(shape)
        region_of = self.windows(regions).squeeze(-1)
        return (region_of[:, None] != region_of[:, :, None])[:, None] * -100.0

    def forward(self, x: Tensor) -> Tensor:
        n, channels, *size = x.shape
        height, width = self.size
        w, heads = self.window_size, self.num_heads
        x = F.pad(x, (0, width - size[1], 0, height - size[0])).permute(0, 2, 3, 1)
        if any(self.shift):
            x = x.roll((-self.shift[0], -self.shift[1]), (1, 2))
        qkv = self.qkv(self.windows(x)).view(-1, w * w, 3, heads, channels // heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        table, scale = self.bias, None
        if self.log_position is not None:
            q, k, table, scale = self.log_position(q, k)
        bias = self.mask if table is None else table[self.index].permute(2, 0, 1)[None]
        if self.mask is not None and bias is not None:
            bias = (self.mask if table is None else bias + self.mask).repeat(n, 1, 1, 1)
        bias = None if bias is None else bias.to(q.dtype)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)
        y = self.whole(self.project(y.transpose(1, 2).reshape(-1, w * w, channels)), height, width)
        if any(self.shift):
            y = y.roll(self.shift, (1, 2))
        return y[:, : size[0], : size[1]].permute(0, 3, 1, 2)
