"""Sketches of what carries tensors around: identity, zero, combines, stochastic depth."""

from __future__ import annotations

import math
from typing import Any

from nas.errors import ShapeError
from nas.ops.catalogue import op
from nas.ops.sketch import Sketch, divides, one_of, positive, same_shapes, share

MODULES = "nas.ops.modules.wiring:"


@op("identity", MODULES + "Projection")
def identity(s: Sketch, *, out_channels: int, stride: int = 1, project: str = "conv") -> None:
    """The input itself; where stride or channels differ, what ``project`` says.

    ``conv``: ReLU, 1x1 convolution, batch norm (NASNet); ``factorized``: a factorized reduction (ENAS, NAO);
    ``relu_factorized``: the same after ReLU (DARTS).
    """
    one_of("project", project, ("conv", "factorized", "relu_factorized"))
    if stride != 1 or out_channels != s.channels:
        s.conv(out_channels, 1, stride).norm()


@op("zero", MODULES + "Zero", takes=())
def zero(s: Sketch, *, stride: int = 1) -> None:
    """No connection."""
    channels, height, width = s.map()
    positive(stride=stride)
    s.shape = (channels, -(-height // stride), -(-width // stride))


@op("add", MODULES + "Add", takes=(), inputs=None, commutative=True)
def add(s: Sketch) -> None:
    """Sum of its inputs."""
    s.shape = same_shapes(s.inputs, "add")


@op("multiply", MODULES + "Multiply", takes=(), inputs=None, commutative=True)
def multiply(s: Sketch) -> None:
    """Product of its inputs, element by element (a gate); a gate of one pixel or one channel holds for all."""
    axes = [max(sizes) for sizes in zip(*s.inputs, strict=False)]
    if any(len(shape) != len(axes) or any(a not in (1, b) for a, b in zip(shape, axes, strict=False)) for shape in s.inputs):
        same_shapes(s.inputs, "multiply")
    s.shape = tuple(axes)


@op("concat", MODULES + "Concat", takes=(), inputs=None, commutative=True)
def concat(s: Sketch) -> None:
    """Its inputs side by side along the channels."""
    if len({(len(shape), shape[1:] if len(shape) == 3 else shape[:-1]) for shape in s.inputs}) > 1:
        raise ShapeError("concat needs inputs of one size", expected="equal height and width", got=list(s.inputs),
                         hint="Give the branches equal strides, or write `match:`.")  # fmt: skip
    _set_channels(s, sum(Sketch(shape).channels for shape in s.inputs))


@op("chunk", MODULES + "Chunk", takes=(), ordered=True)
def chunk(s: Sketch, *, parts: int = 2, index: int = 0) -> None:
    """One of ``parts`` equal shares of the channels: Res2Net and CSPNet treat each in its own way."""
    divides(parts, s.channels, "parts")
    if not 0 <= index < parts:
        raise ShapeError("no such share", expected=f"an index from 0 to {parts - 1}", got=index)
    _set_channels(s, s.channels // parts)


@op("narrow", MODULES + "Narrow", takes=(), scaled=("start", "length"), ordered=True)
def narrow(s: Sketch, *, start: int = 0, length: int | None = None) -> None:
    """``length`` channels from ``start`` on, or all that are left (dual path networks)."""
    taken = s.channels - start if length is None else length
    if start < 0 or taken < 1 or start + taken > s.channels:
        raise ShapeError("no such channels", expected=f"a part of 0 to {s.channels}", got=f"{start} to {start + taken}")
    _set_channels(s, taken)


@op("scale", MODULES + "Scale", takes=())
def scale(s: Sketch, *, factor: float = 0.1) -> None:
    """A constant times the input (Inception-ResNet scales its residuals by 0.1 to 0.3)."""


@op("drop_path", MODULES + "DropPath", takes=())
def drop_path(s: Sketch, *, drop_prob: float = 0.0) -> None:
    """Stochastic depth: zeroes whole samples with probability drop_prob in training and scales up the survivors."""
    share("drop_prob", drop_prob)


@op("channel_shuffle", MODULES + "ChannelShuffle", takes=(), ordered=True)
def channel_shuffle(s: Sketch, *, groups: int = 2) -> None:
    """Interleaves the channels of the groups (ShuffleNet)."""
    divides(groups, s.map()[0], "groups")


@op("unet_up", MODULES + "UNetUp", takes=(), inputs=2)
def unet_up(s: Sketch, *, mode: str = "transposed") -> dict[str, Any]:
    """Doubles the first input's size and puts it beside the second, an earlier and larger map (U-Net).

    ``transposed`` halves the first one's channels by a transposed convolution; ``bilinear`` keeps them.
    """
    one_of("mode", mode, ("transposed", "bilinear"))
    channels, height, width = s.map()
    earlier = s.branch(s.inputs[1]).map()
    if not (0 <= earlier[1] - 2 * height <= 1 and 0 <= earlier[2] - 2 * width <= 1):
        raise ShapeError("unet_up doubles its first input to the size of its second",
                         expected=f"about {2 * height}x{2 * width}", got=f"{earlier[1]}x{earlier[2]}",
                         hint="Name the smaller map first, and the map from before the pooling second.")  # fmt: skip
    if mode == "transposed":
        divides(2, channels, "2 (half the channels)")
        weights = 2 * channels * channels
        s.params(weights + channels // 2).matmul(weights, height, width)
        channels //= 2
    s.shape = (channels + earlier[0], *earlier[1:])
    return {"in_channels": s.inputs[0][0], "mode": mode}  # those of the first input alone


@op("flatten", "torch.nn:Flatten", takes=())
def flatten(s: Sketch) -> dict[str, Any]:
    """A map or tokens as one vector."""
    s.shape = (math.prod(s.shape),)
    return {}


def _set_channels(s: Sketch, channels: int) -> None:
    """The same shape with other channels (features of tokens)."""
    axis = 1 if len(s.shape) == 2 else 0
    s.shape = (*s.shape[:axis], channels, *s.shape[axis + 1 :])
