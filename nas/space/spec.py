"""The nodes a search space is made of: few, closed, frozen. Interpreters are functions that match on them.

A field typed ``| Hole`` may hold a :class:`Choice` or a :class:`Range` in a search space; in an architecture it does
not. Nodes keep the ``where`` (file:line) they were written at, for messages only: it takes no part in equality.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from nas.errors import SpaceError

Scalar = bool | int | float | str | None
Kwargs = tuple[tuple[str, Any], ...]
"""Keyword arguments in the order they were written; values are scalars, tuples of them, or holes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One of several options: scalars, tuples, or nodes. ``labels`` name them, for the decision is a label.

    ``share`` gives the decision a name of its own: all holes of that name are one decision.
    """

    options: tuple[Any, ...]
    labels: tuple[Scalar, ...]
    share: str | None = None
    where: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not self.options or len(self.options) != len(self.labels) or len(set(self.labels)) != len(self.labels):
            raise SpaceError("a choice has options, each with a label of its own", where=self.where or None,
                             got=", ".join(map(repr, self.labels)))  # fmt: skip

    def option(self, label: Scalar) -> Any:
        """The option of that label (True and 1 are different labels). Raises KeyError."""
        for index, known in enumerate(self.labels):
            if known == label and type(known) is type(label):
                return self.options[index]
        raise KeyError(label)


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A number from ``low`` to ``high``, both included; whole where both (and the step) are whole.

    ``log`` draws its logarithm evenly.
    """

    low: int | float
    high: int | float
    step: int | float | None = None
    log: bool = False
    share: str | None = None
    where: str = field(default="", compare=False)

    @property
    def whole(self) -> bool:
        """Whether all values are whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int) and not isinstance(self.step, float)

    @property
    def count(self) -> int | None:
        """How many values there are; None when they are infinitely many."""
        if self.step is None and not self.whole:
            return None
        step = self.step or 1
        return int((self.high - self.low) / step + 1e-9) + 1

    def value(self, index: int) -> int | float:
        """The value so many steps above ``low``."""
        value = self.low + index * (self.step or 1)
        return value if self.whole else round(value, 12)

    def values(self) -> tuple[int | float, ...]:
        """All values of a range that has finitely many. Raises ValueError for a continuous one."""
        if self.count is None:
            raise ValueError("a continuous range has no list of values")
        return tuple(self.value(index) for index in range(self.count))

    def contains(self, value: Any) -> bool:
        """Whether it is one of the values."""
        if isinstance(value, bool) or not isinstance(value, int | float) or (self.whole and not isinstance(value, int)):
            return False
        if not self.low <= value <= self.high:
            return False
        steps = (value - self.low) / (self.step or 1)
        return (self.step is None and not self.whole) or abs(steps - round(steps)) < 1e-9


Hole = Choice | Range


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """An operation of the catalogue with its keyword arguments."""

    name: str
    kwargs: Kwargs = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CellRef:
    """A use of a cell: ``channels`` is the width of its operations, ``stride`` what its input-reading operations do."""

    cell: str
    channels: int | Hole | None = None
    stride: int | Hole | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequential:
    """Layers one after the other; as a layer of a list it is one layer."""

    layers: tuple[Layer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parallel:
    """Branches side by side, joined by the operation ``combine``.

    All read the layer's input; where the layer names as many sources as there are branches, each reads its own.
    ``match`` is put after a branch whose shape does not fit (1x1 convolution with batch norm in cells).
    """

    branches: tuple[Layer, ...]
    combine: str | Choice
    match: Op | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """The body ``times`` over, spliced into the surrounding list.

    One body: decided once, the same every time. ``each``: every repetition has decisions of its own; in a decided
    architecture ``bodies`` then holds one a repetition. ``first`` overrides words of the first repetition.
    """

    bodies: tuple[Node | Choice, ...]
    times: int | Hole
    first: Kwargs = ()
    each: bool = False


Node = Op | CellRef | Sequential | Parallel | Repeat


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A node with a place: its ``name`` in the scope, and the ``sources`` it reads (default: the layer before it).

    A source is a layer's or cell input's name, or -k for the output k layers back; a choice between them; ``none``
    leaves the source out. ``scale=False`` keeps width and depth multipliers off.
    """

    name: str
    body: Node | Choice
    sources: tuple[Any, ...] | Choice = ()
    scale: bool = True
    where: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class CellInput:
    """An input of a cell and how it is brought to the cell's width before it is read.

    ``project``: ``never``; ``when_different``: only where size or channels differ (ReLU, 1x1 convolution, batch norm;
    or a factorized reduction where the size differs); ``always``; ``calibrate``: when_different and then always.
    ``absent``: what an input is that does not exist yet: the first input projected as usual, or left ``raw``.
    """

    name: str
    project: str = "never"
    absent: str = "project"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A directed acyclic graph of layers that a network can use many times.

    ``match`` brings a branch to the cell's width (None: branches keep theirs).
    ``output`` is ``unused`` (all layers no one reads), or names of layers and inputs; more than one are joined by
    ``combine``, after ``match_output`` has adapted those whose size or channels differ from the last layer's.
    """

    name: str
    inputs: tuple[CellInput, ...]
    layers: Sequential
    output: str | tuple[Any, ...] = "unused"
    combine: str | Choice = "concat"
    match: Op | None = Op(name="conv_bn", kwargs=(("kernel_size", 1),))
    match_output: Op = Op(name="factorized_reduction")
    stride: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """Compound scaling (Tan & Le 2019).

    Widths times ``width * beta**phi`` in multiples of ``divisor``, never below 90 %; repeats times
    ``depth * alpha**phi``, rounded up; resolution times ``gamma**phi``.
    """

    width: float | Hole = 1.0
    depth: float | Hole = 1.0
    resolution: int | Hole | None = None
    alpha: float | Hole = 1.0
    beta: float | Hole = 1.0
    gamma: float | Hole = 1.0
    phi: float | Hole = 0.0
    divisor: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """A whole page: a search space, or an architecture when no hole is left.

    ``auxiliary`` are heads that exist for training alone: each is an operation or a list of layers, and reads one layer of
    the network. They have no holes.
    """

    name: str
    network: Sequential
    auxiliary: tuple[Layer, ...] = ()
    cells: Mapping[str, Cell] = field(default_factory=dict)
    input: tuple[int, int, int] = (3, 32, 32)
    num_classes: int = 10
    scaling: Scaling = Scaling()
    constraints: tuple[str, ...] = ()
    source: str = ""
    reference: str = ""
    where: str = field(default="", compare=False)
    limits_at: str = field(default="", compare=False)


def children(node: Any) -> Iterator[Any]:
    """Every node, hole or value directly inside ``node``, in the order they were written."""
    if isinstance(node, Mapping):
        yield from node.values()
    elif isinstance(node, tuple):
        yield from node
    elif hasattr(node, "__dataclass_fields__"):
        for item in fields(node):
            yield getattr(node, item.name)


def has_holes(node: Any) -> bool:
    """Whether a choice or range is left anywhere inside."""
    return isinstance(node, Choice | Range) or any(has_holes(child) for child in children(node))
