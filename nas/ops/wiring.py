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
    """Product of its inputs, element by element (a gate)."""
    s.shape = same_shapes(s.inputs, "multiply")


@op("concat", MODULES + "Concat", takes=(), inputs=None, commutative=True)
def concat(s: Sketch) -> None:
    """Its inputs side by side along the channels."""
    if len({(len(shape), shape[1:] if len(shape) == 3 else shape[:-1]) for shape in s.inputs}) > 1:
        raise ShapeError("concat needs inputs of one size", expected="equal height and width", got=list(s.inputs),
                         hint="Give the branches equal strides, or write `match:`.")  # fmt: skip
    axis = 1 if len(s.shape) == 2 else 0
    total = sum(shape[axis] for shape in s.inputs)
    s.shape = (*s.shape[:axis], total, *s.shape[axis + 1 :])


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


@op("flatten", "torch.nn:Flatten", takes=())
def flatten(s: Sketch) -> dict[str, Any]:
    """A map or tokens as one vector."""
    s.shape = (math.prod(s.shape),)
    return {}
