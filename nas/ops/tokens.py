"""Sketches of what lies between maps (C, H, W) and tokens (L, C)."""

from __future__ import annotations

import math

from nas.errors import ShapeError
from nas.ops.catalogue import op
from nas.ops.sketch import Sketch, divides, one_of, positive

MODULES = "nas.ops.modules.tokens:"


@op("patch_embed", MODULES + "PatchEmbed")
def patch_embed(s: Sketch, *, out_channels: int, patch_size: int = 16, stride: int | None = None) -> None:
    """Patches of a map as tokens, by one convolution (ViT); overlapping where the stride is below the patch size."""
    _, height, width = s.map()
    step = stride or patch_size
    positive(patch_size=patch_size, stride=step)
    s.conv(out_channels, patch_size, step, padding=0, bias=True)
    if (height - patch_size) % step or (width - patch_size) % step:
        raise ShapeError("the patches do not cover the map", expected=f"{patch_size} and multiples of {step} more",
                         got=f"{height}x{width}", hint="Choose a patch_size that divides the map.")  # fmt: skip
    _flat(s)


@op("conv_stem", MODULES + "ConvStem")
def conv_stem(s: Sketch, *, out_channels: int, depth: int = 4) -> None:
    """``depth`` strided 3x3 convolutions that double the channels, then 1x1, as tokens (a stem for ViT)."""
    positive(depth=depth)
    divides(2 ** (depth - 1), out_channels, "2^(depth - 1)")
    for i in range(depth):
        s.conv(out_channels >> (depth - 1 - i), 3, 2).norm()
    s.conv(out_channels, bias=True)
    _flat(s)


@op("soft_split", MODULES + "SoftSplit", takes=())
def soft_split(s: Sketch, *, kernel_size: int = 3, stride: int = 2, padding: int = 1) -> None:
    """Overlapping kxk patches of a map, each unrolled to one token of C*k*k features (T2T-ViT)."""
    s.pool(kernel_size, stride, padding=padding)
    channels, height, width = s.map()
    s.shape = (height * width, channels * kernel_size**2)


@op("to_tokens", MODULES + "ToTokens", takes=())
def to_tokens(s: Sketch) -> None:
    """Every pixel of a map is a token: (C, H, W) to (H*W, C)."""
    _flat(s)


@op("to_rows", MODULES + "ToRows", takes=())
def to_rows(s: Sketch) -> None:
    """Every row of a map is a token: (C, H, W) to (H, C*W)."""
    channels, height, width = s.map()
    s.shape = (height, channels * width)


@op("to_map", MODULES + "ToMap", takes=())
def to_map(s: Sketch) -> None:
    """Tokens as a square map: (L, C) to (C, sqrt(L), sqrt(L))."""
    length, channels = s.tokens()
    s.shape = (channels, square(length), square(length))


@op("position_embedding", MODULES + "PositionEmbedding", takes=("in_channels", "num_tokens"))
def position_embedding(s: Sketch) -> None:
    """Adds a learned vector to every token."""
    length, channels = s.tokens()
    s.params(length * channels)


@op("sinusoidal_embedding", MODULES + "SinusoidalEmbedding", takes=("in_channels", "num_tokens"), ordered=True)
def sinusoidal_embedding(s: Sketch) -> None:
    """Adds sines and cosines of the token's number (Vaswani et al. 2017): a table that counts, and is not trained."""
    length, channels = s.tokens()
    s.params(length * channels)


@op("class_token", MODULES + "ClassToken")
def class_token(s: Sketch, *, count: int = 1) -> None:
    """Puts learned tokens before the others: one class token, two with DeiT's distillation token."""
    positive(count=count)
    length, channels = s.tokens()
    s.params(count * channels)
    s.shape = (length + count, channels)


@op("put_token", MODULES + "PutToken", takes=(), inputs=2)
def put_token(s: Sketch) -> None:
    """The first input, a vector, as a token before those of the second: (C,) and (L, C) to (L + 1, C)."""
    token, tokens = s.inputs
    if len(token) != 1 or len(tokens) != 2 or token[0] != tokens[1]:
        raise ShapeError("put_token puts a vector before tokens", expected="(C,) and (L, C)", got=f"{token} and {tokens}")
    s.shape = (tokens[0] + 1, token[0])


@op("take_token", MODULES + "TakeToken", takes=())
def take_token(s: Sketch, *, index: int = 0) -> None:
    """One token as a vector: the class token is 0, the last one -1. (L, C) to (C,)."""
    length, channels = s.tokens()
    if not -length <= index < length:
        raise ShapeError("no such token", expected=f"an index below {length}", got=index)
    s.shape = (channels,)


@op("token_mean", MODULES + "TokenMean", takes=())
def token_mean(s: Sketch) -> None:
    """Mean over the tokens: (L, C) to (C,)."""
    s.shape = (s.tokens()[1],)


@op("token_pool", MODULES + "TokenPool", takes=("in_channels", "num_tokens"))
def token_pool(s: Sketch, *, out_channels: int, stride: int = 2, class_tokens: int = 1) -> None:
    """Pools a square of tokens by a strided depthwise convolution; class tokens pass a linear layer (PiT).

    ``out_channels`` is a multiple of the input's channels.
    """
    length, channels = s.tokens()
    side = square(length - class_tokens)
    pooled = s.branch((channels, side, side))
    pooled.conv(out_channels, stride + 1, stride, padding=stride // 2, groups=channels, bias=True)
    if class_tokens:
        pooled.join(s.branch((class_tokens, channels)).linear(out_channels))
    s.join(pooled)
    s.shape = (class_tokens + pooled.shape[1] * pooled.shape[2], out_channels)


@op("patch_merging", MODULES + "PatchMerging")
def patch_merging(s: Sketch, *, norm: str = "before") -> None:
    """Every 2x2 pixels side by side, layer norm, a linear layer to twice the channels (Swin); odd sizes are padded.

    ``norm: after`` puts the norm behind the linear layer (Swin V2).
    """
    one_of("norm", norm, ("before", "after"))
    channels, height, width = s.map()
    s.shape = (4 * channels, (height + 1) // 2, (width + 1) // 2)
    if norm == "before":
        s.norm().conv(2 * channels)
    else:
        s.conv(2 * channels).norm()


def square(length: int) -> int:
    """The side of a square of so many tokens; ShapeError when there is none."""
    side = math.isqrt(max(length, 0))
    if side < 1 or side**2 != length:
        raise ShapeError("the tokens are no square", expected="1, 4, 9, 16, ... tokens", got=length,
                         hint="Class tokens count; take them away first.")  # fmt: skip
    return side


def _flat(s: Sketch) -> None:
    channels, height, width = s.map()
    s.shape = (height * width, channels)
