"""The lowered network: what every interpreter (build, render, cost, draw, identity) folds over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any, NamedTuple

from nas.ops import Shape


@dataclass(frozen=True)
class Call:
    """An operation on known shapes: its constructor's arguments, its output's shape, and what it costs."""

    op: str
    kwargs: Mapping[str, Any]
    shape: Shape
    num_params: int
    macs: int

    @cached_property
    def digest(self) -> bytes:
        """16 bytes that are equal for equal operations, arguments and output shapes."""
        return blake2b(f"{self.op} {sorted(self.kwargs.items())} {self.shape}".encode(), digest_size=16).digest()


class Node(NamedTuple):
    """A step of a graph: its module's dotted name, and the names of the earlier nodes or graph inputs that it reads."""

    name: str
    target: Call | Graph
    inputs: tuple[str, ...]

    @property
    def shape(self) -> Shape:
        """The output's shape."""
        return self.target.shape


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in an order in which they can run. A node's target is an operation, or a graph of its own: a cell.

    Equal uses of a cell (same width, stride and input shapes) share one Graph object. ``auxiliary`` are nodes of heads for
    training, in the order they run after ``nodes``, ``heads`` the names of their outputs; multiply-adds and ``calls`` leave
    them out, as they are of the network that is used.
    """

    name: str
    inputs: tuple[tuple[str, Shape], ...]
    nodes: tuple[Node, ...]
    output: str
    shape: Shape
    auxiliary: tuple[Node, ...] = ()
    heads: tuple[str, ...] = ()

    @cached_property
    def num_params(self) -> int:
        """Elements of all weights, those of auxiliary heads and those that are kept fixed (tables of positions) included."""
        return sum(node.target.num_params for node in self.all_nodes)

    @cached_property
    def all_nodes(self) -> tuple[Node, ...]:
        """Nodes with those of each auxiliary head right after the layer that it reads."""
        if not self.auxiliary:
            return self.nodes
        nodes, waiting, known = list[Node](), list(self.auxiliary), {name for name, _ in self.inputs}
        for step in self.nodes:
            nodes.append(step)
            known.add(step.name)
            for node in tuple(waiting):
                if known.issuperset(node.inputs):
                    nodes.append(node)
                    known.add(node.name)
                    waiting.remove(node)
        return tuple(nodes)

    @cached_property
    def macs(self) -> int:
        """Multiply-adds of convolutions, linear layers and matrix products for one sample."""
        return sum(node.target.macs for node in self.nodes)

    def calls(self, prefix: str = "") -> Iterator[tuple[str, Call]]:
        """Every operation of the network with its full dotted name, cells opened."""
        for node in self.nodes:
            if isinstance(node.target, Graph):
                yield from node.target.calls(f"{prefix}{node.name}.")
            else:
                yield f"{prefix}{node.name}", node.target

    def shapes(self) -> dict[str, Shape]:
        """The shape of every input and node by name."""
        return dict(self.inputs) | {node.name: node.shape for node in self.all_nodes}


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How large a network an architecture becomes: multipliers of width and depth, input shape, classes.

    None keeps what the page says. ``width`` multiplies channels, ``depth`` repeats (rounded up).
    """

    width: float = 1.0
    depth: float = 1.0
    input: tuple[int, int, int] | None = None
    num_classes: int | None = None
