"""CoAtNet's blocks (Dai et al. 2021): convolution first, attention over the whole map later."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.ops.modules.attention import relative_index
from nas.ops.modules.channel_attention import SqueezeExcite
from nas.ops.modules.norm import LayerNorm2d
from nas.ops.modules.wiring import DropPath


class PooledShortcut(nn.Module):
    """Average pooling by the stride, then a 1x1 convolution where channels change."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, bias: bool = True) -> None:
        super().__init__()
        self.stride = stride
        self.project = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.stride > 1:
            x = F.avg_pool2d(x, self.stride, ceil_mode=True)
        return self.project(x)


class CoAtNetMBConv(nn.Module):
    """Inverted bottleneck with a batch norm before it, whose widths are multiples of the output's channels."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        expansion: int = 4,
        se_ratio: float = 0.25,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        hidden = expansion * out_channels
        layers: list[nn.Module] = [
            nn.BatchNorm2d(in_channels),
            nn.Conv2d(in_channels, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.GELU(),
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.GELU(),
        ]
        if se_ratio > 0:
            layers.append(SqueezeExcite(hidden, max(1, int(out_channels * se_ratio)), activation="silu"))
        layers.append(nn.Conv2d(hidden, out_channels, 1))
        self.layers = nn.Sequential(*layers)
        self.shortcut = PooledShortcut(in_channels, out_channels, stride)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.drop_path(self.layers(x))


class RelativeAttention(nn.Module):
    """Attention of ``channels`` over all pixels of a map, with a learned bias per head and displacement (CoAtNet)."""

    index: Tensor

    def __init__(
        self, in_channels: int, input_size: tuple[int, int], out_channels: int, channels: int, head_channels: int = 32
    ) -> None:
        super().__init__()
        height, width = input_size
        self.num_heads = channels // head_channels
        self.qkv = nn.Conv2d(in_channels, 3 * channels, 1)
        self.project = nn.Conv2d(channels, out_channels, 1)
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


class CoAtNetBlock(nn.Module):
    """Transformer block on a map with relative attention; a stride average-pools both paths first (CoAtNet)."""

    def __init__(
        self,
        in_channels: int,
        input_size: tuple[int, int],
        out_channels: int,
        stride: int = 1,
        head_channels: int = 32,
        mlp_ratio: float = 4.0,
        expand_first: bool = True,
        shortcut_bias: bool = True,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        pooled = (-(-input_size[0] // stride), -(-input_size[1] // stride))
        self.pool = PooledShortcut(in_channels, in_channels, stride)
        self.norm1 = LayerNorm2d(in_channels)
        inner = out_channels if expand_first else in_channels
        self.attention = RelativeAttention(in_channels, pooled, out_channels, inner, head_channels)
        self.shortcut = PooledShortcut(in_channels, out_channels, stride, shortcut_bias)
        self.norm2 = LayerNorm2d(out_channels)
        hidden = int(out_channels * mlp_ratio)
        self.mlp = nn.Sequential(nn.Conv2d(out_channels, hidden, 1), nn.GELU(), nn.Conv2d(hidden, out_channels, 1))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = self.shortcut(x) + self.drop_path(self.attention(self.pool(self.norm1(x))))
        return x + self.drop_path(self.mlp(self.norm2(x)))
