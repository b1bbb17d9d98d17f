"""Between maps and tokens: patches, positions, class tokens, and pooling of tokens. Tokens are (N, L, C)."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.ops.modules.conv import ConvBNAct


class PatchEmbed(nn.Module):
    """Patches of a map as tokens, by one convolution (ViT); overlapping where the stride is below the patch size."""

    def __init__(self, in_channels: int, out_channels: int, patch_size: int = 16, stride: int | None = None) -> None:
        super().__init__()
        self.project = nn.Conv2d(in_channels, out_channels, patch_size, stride or patch_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(x).flatten(2).transpose(1, 2)


class ConvStem(nn.Module):
    """Strided 3x3 convolutions that double the channels, then 1x1, as tokens (Xiao et al. 2021)."""

    def __init__(self, in_channels: int, out_channels: int, depth: int = 4) -> None:
        super().__init__()
        widths = [in_channels, *(out_channels >> (depth - 1 - i) for i in range(depth))]
        self.convs = nn.Sequential(*(ConvBNAct(a, b, 3, 2) for a, b in pairwise(widths)))
        self.project = nn.Conv2d(out_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.convs(x)).flatten(2).transpose(1, 2)


class SoftSplit(nn.Module):
    """Overlapping kxk patches of a map, each unrolled to one token of C*k*k features (T2T-ViT)."""

    def __init__(self, kernel_size: int = 3, stride: int = 2, padding: int = 1) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding

    def forward(self, x: Tensor) -> Tensor:
        return F.unfold(x, self.kernel_size, padding=self.padding, stride=self.stride).transpose(1, 2)


class ToTokens(nn.Module):
    """Every pixel of a map is a token: (N, C, H, W) to (N, H*W, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).transpose(1, 2)


class ToRows(nn.Module):
    """Every row of a map is a token: (N, C, H, W) to (N, H, C*W)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2).flatten(2)


class ToMap(nn.Module):
    """Tokens as a square map: (N, L, C) to (N, C, sqrt(L), sqrt(L))."""

    def forward(self, x: Tensor) -> Tensor:
        n, length, channels = x.shape
        side = math.isqrt(length)
        return x.transpose(1, 2).reshape(n, channels, side, side)


class PositionEmbedding(nn.Module):
    """Adds a learned vector to every token."""

    def __init__(self, in_channels: int, num_tokens: int) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.zeros(num_tokens, in_channels))
        nn.init.trunc_normal_(self.position, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.position


class SinusoidalEmbedding(nn.Module):
    """Adds sines and cosines of the token's number, of wavelengths from 2 pi to 20000 pi (Vaswani et al. 2017).

    The table is a weight that is not trained, as in T2T-ViT's released code: it counts among the parameters.
    """

    def __init__(self, in_channels: int, num_tokens: int) -> None:
        super().__init__()
        feature = torch.arange(in_channels)
        wavelength = 10000.0 ** (2 * (feature // 2) / in_channels)
        angle = torch.arange(num_tokens)[:, None] / wavelength
        table = torch.where(feature % 2 == 0, angle.sin(), angle.cos())
        self.position = nn.Parameter(table, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.position.to(x.dtype)


class ClassToken(nn.Module):
    """Puts learned tokens before the others: one class token, two with DeiT's distillation token."""

    def __init__(self, in_channels: int, count: int = 1) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, count, in_channels))
        nn.init.trunc_normal_(self.token, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        token = self.token.expand(x.shape[0], -1, -1).to(x.dtype)
        return torch.cat([token, x], dim=1)


class PutToken(nn.Module):
    """A vector (N, C) before tokens (N, L, C): (N, L + 1, C)."""

    def forward(self, token: Tensor, x: Tensor) -> Tensor:
        return torch.cat([token[:, None], x], dim=1)


class TakeToken(nn.Module):
    """One token as a vector: the class token is 0, the last one -1."""

    def __init__(self, index: int = 0) -> None:
        super().__init__()
        self.index = index

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.index]


class TokenMean(nn.Module):
    """Mean over the tokens: (N, L, C) to (N, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


class TokenPool(nn.Module):
    """Pools a square of tokens by a strided depthwise convolution; class tokens pass a linear layer (PiT)."""

    def __init__(self, in_channels: int, num_tokens: int, out_channels: int, stride: int = 2, class_tokens: int = 1) -> None:
        super().__init__()
        self.class_tokens, self.side = class_tokens, math.isqrt(num_tokens - class_tokens)
        self.conv = nn.Conv2d(in_channels, out_channels, stride + 1, stride, stride // 2, groups=in_channels)
        self.linear = nn.Linear(in_channels, out_channels) if class_tokens else None

    def forward(self, x: Tensor) -> Tensor:
        n, _, channels = x.shape
        image = x[:, self.class_tokens :].transpose(1, 2).reshape(n, channels, self.side, self.side)
        pooled = self.conv(image).flatten(2).transpose(1, 2)
        if self.linear is None:
            return pooled
        return torch.cat([self.linear(x[:, : self.class_tokens]), pooled], dim=1)


class PatchMerging(nn.Module):
    """Every 2x2 pixels side by side, layer norm, a linear layer to twice the channels (Swin); odd sizes are padded.

    ``norm`` ``after``: the norm follows the linear layer (Swin V2).
    """

    def __init__(self, in_channels: int, norm: str = "before") -> None:
        super().__init__()
        self.after = norm == "after"
        self.norm = nn.LayerNorm((2 if self.after else 4) * in_channels)
        self.reduce = nn.Linear(4 * in_channels, 2 * in_channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2)).permute(0, 2, 3, 1)
        corners = [x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
        x = torch.cat(corners, dim=-1)
        return (self.norm(self.reduce(x)) if self.after else self.reduce(self.norm(x))).permute(0, 3, 1, 2)
