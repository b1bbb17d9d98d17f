"""Blocks of transformers and mixers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.ops.modules.activation import make_activation
from nas.ops.modules.attention import SelfAttention, WindowAttention
from nas.ops.modules.norm import LayerNorm2d
from nas.ops.modules.wiring import DropPath


class MLP(nn.Module):
    """Two linear layers around an activation, over the features of every token; 4 times as wide inside unless told."""

    def __init__(
        self, in_channels: int, hidden_channels: int | None = None, activation: str = "gelu", dropout: float = 0.0
    ) -> None:
        super().__init__()
        hidden = hidden_channels or 4 * in_channels
        self.expand = nn.Linear(in_channels, hidden)
        self.act = make_activation(activation)
        self.project = nn.Linear(hidden, in_channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.project(self.dropout(self.act(self.expand(x)))))


class TokenMLP(nn.Module):
    """Two linear layers around an activation, over the tokens of every feature; half the features wide unless told."""

    def __init__(
        self,
        in_channels: int,
        num_tokens: int,
        hidden_channels: int | None = None,
        activation: str = "gelu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.mlp = MLP(num_tokens, hidden_channels or max(1, in_channels // 2), activation, dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(x.transpose(1, 2)).transpose(1, 2)


class TokenLinear(nn.Module):
    """A linear layer over the tokens of every feature; as many tokens come out (gMLP, ResMLP)."""

    def __init__(self, num_tokens: int, bias: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(num_tokens, num_tokens, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.transpose(1, 2)).transpose(1, 2)


class TransformerBlock(nn.Module):
    """Layer norm, self-attention, add; layer norm, MLP, add (ViT)."""

    def __init__(
        self,
        in_channels: int,
        num_heads: int = 4,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        activation: str = "gelu",
        dropout: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(in_channels, eps=1e-6)
        self.attention = SelfAttention(in_channels, num_heads, qkv_bias, dropout=dropout)
        self.norm2 = nn.LayerNorm(in_channels, eps=1e-6)
        self.mlp = MLP(in_channels, int(in_channels * mlp_ratio), activation, dropout)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attention(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class SwinBlock(nn.Module):
    """Transformer block on a map; attention stays inside windows, shifted in every other block (Liu et al. 2021).

    ``norm`` ``after``: what is added is normalised, and not what is read (Swin V2).
    """

    def __init__(
        self,
        in_channels: int,
        input_size: tuple[int, int],
        num_heads: int = 4,
        window_size: int = 7,
        shift: bool = False,
        grid: bool = False,
        position: str = "table",
        norm: str = "before",
        mlp_ratio: float = 4.0,
        activation: str = "gelu",
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm1 = LayerNorm2d(in_channels, eps=1e-5)
        self.attention = WindowAttention(in_channels, input_size, num_heads, window_size, shift, grid, position)
        self.norm2 = nn.LayerNorm(in_channels, eps=1e-5)
        self.mlp = MLP(in_channels, int(in_channels * mlp_ratio), activation)
        self.drop_path = DropPath(drop_path)
        self.after = norm == "after"

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.norm1(self.attention(x)) if self.after else self.attention(self.norm1(x)))
        y = x.permute(0, 2, 3, 1)
        y = self.norm2(self.mlp(y)) if self.after else self.mlp(self.norm2(y))
        return x + self.drop_path(y.permute(0, 3, 1, 2))


class MixerBlock(nn.Module):
    """Layer norm, MLP over tokens, add; layer norm, MLP over features, add (Tolstikhin et al. 2021)."""

    def __init__(
        self,
        in_channels: int,
        num_tokens: int,
        token_channels: int | None = None,
        hidden_channels: int | None = None,
        dropout: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(in_channels, eps=1e-6)
        self.tokens = TokenMLP(in_channels, num_tokens, token_channels, dropout=dropout)
        self.norm2 = nn.LayerNorm(in_channels, eps=1e-6)
        self.channels = MLP(in_channels, hidden_channels, dropout=dropout)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.tokens(self.norm1(x)))
        return x + self.drop_path(self.channels(self.norm2(x)))


class T2TTransformer(nn.Module):
    """Transformer block that narrows its tokens to ``out_channels``; the attention adds to the values (T2T-ViT_t)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(in_channels)
        self.qkv = nn.Linear(in_channels, 3 * out_channels, bias=False)
        self.project = nn.Linear(out_channels, out_channels)
        self.norm2 = nn.LayerNorm(out_channels)
        self.mlp = MLP(out_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).chunk(3, dim=-1)
        attended = F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None], scale=x.shape[2] ** -0.5)[:, 0]
        x = v + self.project(attended)
        return x + self.mlp(self.norm2(x))


class T2TPerformer(nn.Module):
    """As T2TTransformer, in linear time: random features stand for the softmax (T2T-ViT; Choromanski et al. 2021).

    The random matrix is a weight that is not trained, as in the released code: it counts among the parameters.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        features = out_channels // 2
        self.norm1 = nn.LayerNorm(in_channels)
        self.kqv = nn.Linear(in_channels, 3 * out_channels)
        self.project = nn.Linear(out_channels, out_channels)
        self.norm2 = nn.LayerNorm(out_channels)
        self.mlp = MLP(out_channels, out_channels)
        random = nn.init.orthogonal_(torch.empty(features, out_channels))
        self.random = nn.Parameter(random * features**0.5, requires_grad=False)

    def features(self, x: Tensor) -> Tensor:
        """Positive features whose products approximate exp(q k)."""
        scale = self.random.shape[0] ** -0.5
        return torch.exp(x @ self.random.to(x.dtype).t() - x.square().sum(-1, keepdim=True) / 2) * scale

    def forward(self, x: Tensor) -> Tensor:
        k, q, v = self.kqv(self.norm1(x)).chunk(3, dim=-1)
        k, q = self.features(k), self.features(q)
        total = q @ k.sum(1)[:, :, None]
        attended = q @ (k.transpose(1, 2) @ v) / (total + 1e-8)
        x = v + self.project(attended)
        return x + self.mlp(self.norm2(x))
