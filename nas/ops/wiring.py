"""Sketches of what carries tensors around: identity, zero, add, concat, activations, norms."""

from __future__ import annotations

from typing import Any

from nas.errors import ShapeError
from nas.ops.catalogue import op
from nas.ops.sketch import Sketch, same_shapes

MODULES = "nas.ops.modules.wiring:"


@op("identity", MODULES + "Projection")
def identity(s: Sketch, *, out_channels: int, stride: int = 1, project: str = "conv") -> None:
    """The input itself; where stride or channels differ ReLU, 1x1 convolution, batch norm, or a factorized reduction."""
    if stride != 1 or out_channels != s.channels:
        s.conv(out_channels, 1, stride).norm()


@op("zero", MODULES + "Zero", takes=())
def zero(s: Sketch, *, stride: int = 1) -> None:
    """No connection."""
    channels, height, width = s.map()
    s.shape = (channels, -(-height // stride), -(-width // stride))


@op("add", MODULES + "Add", takes=(), inputs=None, commutative=True)
def add(s: Sketch) -> None:
    """Sum of its inputs."""
    s.shape = same_shapes(s.inputs, "add")


@op("concat", MODULES + "Concat", takes=(), inputs=None, commutative=True)
def concat(s: Sketch) -> None:
    """Its inputs side by side along the channels."""
    if len({(len(shape), shape[1:] if len(shape) == 3 else shape[:-1]) for shape in s.inputs}) > 1:
        raise ShapeError("concat needs inputs of one size", expected="equal height and width", got=list(s.inputs),
                         hint="Give the branches equal strides, or write `match:`.")  # fmt: skip
    axis = 1 if len(s.shape) == 2 else 0
    total = sum(shape[axis] for shape in s.inputs)
    s.shape = (*s.shape[:axis], total, *s.shape[axis + 1 :])


@op("relu", "torch.nn:ReLU", takes=())
def relu(s: Sketch) -> None:
    """max(x, 0)."""


@op("batch_norm", "torch.nn:BatchNorm2d", takes=())
def batch_norm(s: Sketch) -> dict[str, Any]:
    """Batch normalisation of a map."""
    s.map()
    s.norm()
    return {"num_features": s.channels}
