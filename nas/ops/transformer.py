"""Sketches of attention over tokens and of the blocks of transformers and mixers."""

from __future__ import annotations

from nas.errors import ShapeError
from nas.ops.catalogue import op
from nas.ops.sketch import ACTIVATIONS, Sketch, divides, one_of, positive, share

ATTENTION = "nas.ops.modules.attention:"
MODULES = "nas.ops.modules.transformer:"


@op("self_attention", ATTENTION + "SelfAttention")
def self_attention(s: Sketch, *, num_heads: int = 4, qkv_bias: bool = True, talking_heads: bool = False,
                   dropout: float = 0.0) -> None:  # fmt: skip
    """Multi-head scaled dot product attention: softmax(Q K^T / sqrt(d)) V; the heads must divide the features.

    ``talking_heads``: the heads are mixed by a linear layer before the softmax and by one after it (CaiT).
    """
    length, channels = s.tokens()
    share("dropout", dropout)
    divides(num_heads, channels, "num_heads")
    s.linear(3 * channels, qkv_bias)
    s.shape = (length, channels)
    s.matmul(2, length, length, channels).linear(channels)
    if talking_heads:
        s.params(2 * num_heads * (num_heads + 1)).matmul(2, length, length, num_heads, num_heads)


@op("class_attention", ATTENTION + "ClassAttention")
def class_attention(s: Sketch, *, num_heads: int = 4, qkv_bias: bool = True) -> None:
    """The first token alone attends to all: (L, C) to its answer, a vector (C,) (CaiT)."""
    length, channels = s.tokens()
    divides(num_heads, channels, "num_heads")
    s.linear(2 * channels, qkv_bias)
    s.shape = (channels,)
    s.linear(channels, qkv_bias).matmul(2, length, channels).linear(channels)


@op("additive_attention", ATTENTION + "AdditiveAttention", scaled=("hidden_channels",))
def additive_attention(s: Sketch, *, hidden_channels: int | None = None) -> None:
    """Every token's mean of all, weighted by softmax(v^T tanh(W1 h_i + W2 h_j)) (Bahdanau et al. 2015)."""
    length, channels = s.tokens()
    hidden = hidden_channels or channels
    positive(hidden_channels=hidden)
    s.params(2 * channels * hidden + hidden)
    s.matmul(2, length, channels, hidden).matmul(length, length, hidden).matmul(length, length, channels)


@op("multiplicative_attention", ATTENTION + "MultiplicativeAttention")
def multiplicative_attention(s: Sketch) -> None:
    """Every token's mean of all, weighted by softmax(h_i^T W h_j) (Luong et al. 2015)."""
    length, channels = s.tokens()
    s.linear(channels, bias=False).matmul(2, length, length, channels)


@op("key_value_attention", ATTENTION + "KeyValueAttention", ordered=True)
def key_value_attention(s: Sketch) -> None:
    """Attention whose keys are one half of the features and whose values are the other (Daniluk et al. 2017)."""
    length, channels = s.tokens()
    divides(2, channels, "2 (keys and values)")
    s.matmul(length, length, channels).linear(channels)


@op("reduced_attention", ATTENTION + "ReducedAttention")
def reduced_attention(s: Sketch, *, num_heads: int = 4, reduction: int = 2) -> None:
    """Attention of every pixel of a map to its patches, made by a convolution of stride ``reduction`` (PVT, SegFormer)."""
    channels, height, width = s.map()
    divides(num_heads, channels, "num_heads")
    keys = s.branch()
    if reduction != 1:
        keys.conv(channels, reduction, reduction, padding=0, bias=True).norm()
    pixels = keys.shape[1] * keys.shape[2]
    s.join(keys.conv(2 * channels, bias=True))
    s.conv(channels, bias=True).matmul(2, height * width, pixels, channels).conv(channels, bias=True)


@op("window_attention", ATTENTION + "WindowAttention", takes=("in_channels", "input_size"))
def window_attention(s: Sketch, *, num_heads: int = 4, window_size: int = 7, shift: bool = False, grid: bool = False,
                     position: str = "table") -> None:  # fmt: skip
    """Attention inside the windows of a map with relative position bias; ``shift`` moves them by half a window.

    A map that the windows do not tile is padded with zeros right and below. ``grid``: a window's pixels lie as far apart as
    the map allows (MaxViT; MobileViT's patches of 2x2 are a grid of half the map). ``position``: ``table`` (Swin), ``log``
    (Swin V2: cosine similarity, the bias from a small network over logarithmic displacements), ``none`` (Twins).
    """
    one_of("position", position, ("table", "log", "none"))
    if grid and shift:
        raise ShapeError("a grid is not shifted", expected="grid: true or shift: true", got="both")
    channels, height, width = s.map()
    divides(num_heads, channels, "num_heads")
    positive(window_size=window_size)
    padded = tuple(-(-size // window_size) * window_size for size in (height, width))
    s.shape = (channels, *padded)
    s.conv(3 * channels, bias=True)
    s.shape = (channels, *padded)
    s.matmul(2, padded[0] * padded[1], window_size**2, channels).conv(channels, bias=True)
    displacements = (2 * window_size - 1) ** 2
    if position == "table":
        s.params(displacements * num_heads)
    elif position == "log":
        s.join(s.branch((displacements, 2)).linear(512).linear(num_heads, bias=False)).params(num_heads)
    s.shape = (channels, height, width)


@op("mlp", MODULES + "MLP", scaled=("hidden_channels",))
def mlp(s: Sketch, *, hidden_channels: int | None = None, activation: str = "gelu", dropout: float = 0.0) -> None:
    """Channel-mixing MLP of transformers and mixers: linear, activation, linear over every token's features."""
    leading, channels = s.shape[:-1], s.channels
    one_of("activation", activation, ACTIVATIONS)
    share("dropout", dropout)
    s.linear(hidden_channels or 4 * channels).linear(channels)
    s.shape = (*leading, channels)


@op("token_mlp", MODULES + "TokenMLP", takes=("in_channels", "num_tokens"), scaled=("hidden_channels",))
def token_mlp(s: Sketch, *, hidden_channels: int | None = None, activation: str = "gelu", dropout: float = 0.0) -> None:
    """Token-mixing MLP of mixers: linear, activation, linear over the tokens of every feature."""
    length, channels = s.tokens()
    s.shape = (channels, length)
    mlp(s, hidden_channels=hidden_channels or max(1, channels // 2), activation=activation, dropout=dropout)
    s.shape = (length, channels)


@op("token_linear", MODULES + "TokenLinear", takes=("num_tokens",))
def token_linear(s: Sketch, *, bias: bool = True) -> None:
    """A linear layer over the tokens of every feature; as many tokens come out (gMLP, ResMLP)."""
    length, channels = s.tokens()
    s.shape = (channels, length)
    s.linear(length, bias)
    s.shape = (length, channels)


@op("transformer_block", MODULES + "TransformerBlock")
def transformer_block(s: Sketch, *, num_heads: int = 4, mlp_ratio: float = 4.0, qkv_bias: bool = True,
                      activation: str = "gelu", dropout: float = 0.0, drop_path: float = 0.0) -> None:  # fmt: skip
    """Layer norm, self-attention, add; layer norm, MLP, add (ViT)."""
    share("drop_path", drop_path)
    s.norm()
    self_attention(s, num_heads=num_heads, qkv_bias=qkv_bias, dropout=dropout)
    s.norm()
    mlp(s, hidden_channels=_wide(s, mlp_ratio), activation=activation)


@op("swin_block", MODULES + "SwinBlock", takes=("in_channels", "input_size"))
def swin_block(s: Sketch, *, num_heads: int = 4, window_size: int = 7, shift: bool = False, grid: bool = False,
               position: str = "table", norm: str = "before", mlp_ratio: float = 4.0, activation: str = "gelu",
               drop_path: float = 0.0) -> None:  # fmt: skip
    """Transformer block on a map with attention inside windows; ``shift: true`` in every other block (Swin).

    Swin V2 says ``position: log, norm: after``; MaxViT's second block ``grid: true``; see window_attention.
    """
    one_of("norm", norm, ("before", "after"))
    one_of("activation", activation, ACTIVATIONS)
    share("drop_path", drop_path)
    channels = s.channels
    s.norm()
    window_attention(s, num_heads=num_heads, window_size=window_size, shift=shift, grid=grid, position=position)
    s.norm().conv(_wide(s, mlp_ratio), bias=True).conv(channels, bias=True)


@op("mixer_block", MODULES + "MixerBlock", takes=("in_channels", "num_tokens"),
    scaled=("token_channels", "hidden_channels"))  # fmt: skip
def mixer_block(s: Sketch, *, token_channels: int | None = None, hidden_channels: int | None = None,
                dropout: float = 0.0, drop_path: float = 0.0) -> None:  # fmt: skip
    """Layer norm, MLP over tokens, add; layer norm, MLP over features, add (MLP-Mixer)."""
    share("drop_path", drop_path)
    s.norm()
    token_mlp(s, hidden_channels=token_channels, dropout=dropout)
    s.norm()
    mlp(s, hidden_channels=hidden_channels)


@op("t2t_transformer", MODULES + "T2TTransformer")
def t2t_transformer(s: Sketch, *, out_channels: int) -> None:
    """One-head transformer block that narrows its tokens; the attention adds to the values (T2T-ViT_t)."""
    length, _ = s.tokens()
    s.norm().linear(3 * out_channels, bias=False)
    _narrowed(s, length, out_channels, 2 * length * length * out_channels)


@op("t2t_performer", MODULES + "T2TPerformer")
def t2t_performer(s: Sketch, *, out_channels: int) -> None:
    """As t2t_transformer in linear time, with out_channels / 2 random features in place of the softmax (T2T-ViT)."""
    length, _ = s.tokens()
    features = out_channels // 2
    positive(half_of_out_channels=features)
    s.params(features * out_channels)  # fixed, but a weight in the released code
    s.norm().linear(3 * out_channels)
    _narrowed(s, length, out_channels, length * features * (4 * out_channels + 1))


def _narrowed(s: Sketch, length: int, channels: int, attention: int) -> None:
    """The rest of a token-to-token block after its keys, queries and values."""
    s.shape = (length, channels)
    s.matmul(attention).linear(channels).norm()
    mlp(s, hidden_channels=channels)


def _wide(s: Sketch, mlp_ratio: float) -> int:
    """Hidden width of an MLP; ShapeError when it would be empty."""
    width = int(s.channels * mlp_ratio)
    positive(mlp_width=width)
    return width
