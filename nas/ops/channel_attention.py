"""Sketches of attention over channels and over pixels."""

from __future__ import annotations

from nas.errors import ShapeError
from nas.ops.catalogue import op
from nas.ops.sketch import ACTIVATIONS, Sketch, odd_kernel, one_of, positive, same_shapes

MODULES = "nas.ops.modules.channel_attention:"
ATTENTIONS = ("none", "se", "eca", "cbam")


@op("squeeze_excite", MODULES + "SqueezeExcite", scaled=("squeeze_channels",))
def squeeze_excite(s: Sketch, *, squeeze_channels: int | None = None, reduction: int = 16, activation: str = "relu",
                   gate: str = "sigmoid") -> None:  # fmt: skip
    """Scales channels by a gate computed from their means (SENet); squeezes to channels / reduction unless told."""
    one_of("activation", activation, ACTIVATIONS)
    one_of("gate", gate, ("sigmoid", "hard_sigmoid"))
    positive(reduction=reduction)
    squeeze(s, squeeze_channels or max(1, s.channels // reduction))


@op("eca", MODULES + "EfficientChannelAttention", ordered=True)
def eca(s: Sketch, *, kernel_size: int | None = None) -> None:
    """Scales channels by a gate computed from the means of neighbouring channels; more of them see further (ECA-Net)."""
    channels, _, _ = s.map()
    size = kernel_size or (channels.bit_length() // 2) | 1
    odd_kernel(size)
    s.params(size).matmul(size, channels)


@op("selective_sum", MODULES + "SelectiveSum", scaled=("squeeze_channels",), inputs=None, commutative=True)
def selective_sum(s: Sketch, *, squeeze_channels: int | None = None, bias: bool = False) -> None:
    """Maps summed with weights that their mean decides: SKNet's kernels, ResNeSt's shares (with ``bias: true``).

    Squeezes to channels / 16, at least 32, unless told.
    """
    if len(same_shapes(s.inputs, "selective_sum")) != 3 or len(s.inputs) < 2:
        raise ShapeError("selective_sum joins maps", expected="two or more (C, H, W) inputs", got=list(s.inputs))
    channels = s.channels
    squeezed = s.branch((channels, 1, 1)).conv(squeeze_channels or max(32, channels // 16), bias=bias).norm()
    s.join(squeezed.conv(len(s.inputs) * channels, bias=bias))


@op("channel_attention", MODULES + "ChannelAttention")
def channel_attention(s: Sketch, *, reduction: int = 16) -> None:
    """Scales channels by one small network run on their means and on their maxima."""
    positive(reduction=reduction)
    hidden, _ = max(1, s.channels // reduction), s.map()
    squeeze(s, hidden)
    s.matmul(2 * hidden, s.channels)  # the same weights a second time


@op("spatial_attention", MODULES + "SpatialAttention", takes=())
def spatial_attention(s: Sketch, *, kernel_size: int = 7) -> None:
    """Scales pixels by a convolution over their channels' maximum and mean."""
    odd_kernel(kernel_size)
    _, height, width = s.map()
    s.join(s.branch((2, height, width)).conv(1, kernel_size).norm())


@op("cbam", MODULES + "CBAM")
def cbam(s: Sketch, *, reduction: int = 16, kernel_size: int = 7) -> None:
    """Channel attention, then spatial attention (Woo et al. 2018)."""
    channel_attention(s, reduction=reduction)
    spatial_attention(s, kernel_size=kernel_size)


def squeeze(s: Sketch, width: int) -> None:
    """Cost of squeeze-and-excitation over the current map."""
    s.join(s.branch((s.map()[0], 1, 1)).conv(width, bias=True).conv(s.channels, bias=True))


def attend(s: Sketch, attention: str, reduction: int) -> None:
    """Cost of the attention of that name at the end of a block."""
    one_of("attention", attention, ATTENTIONS)
    if attention == "se":
        squeeze_excite(s, reduction=reduction)
    elif attention == "eca":
        eca(s)
    elif attention == "cbam":
        cbam(s, reduction=reduction)
