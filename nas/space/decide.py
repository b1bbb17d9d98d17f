"""The one traversal that knows holes. Sampling, replaying, counting and listing hand it different functions.

Every hole has a key: its path, which names the layers above it *and the options chosen above it*
(``network.stage1=mbconv.kernel_size``), or its ``share`` name, under which all holes of that name are one decision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from nas.errors import SpaceError
from nas.space.spec import (
    Cell,
    CellRef,
    Choice,
    Hole,
    Kwargs,
    Layer,
    Op,
    Parallel,
    Range,
    Repeat,
    Scalar,
    Scaling,
    Sequential,
    Spec,
    children,
)

Decisions = Mapping[str, Scalar]
Choose = Callable[[str, Hole], Scalar]
OnHole = Callable[[str, Hole, Callable[[Scalar, Any], Any]], Any]
"""Gets a hole's key, the hole, and what to do with (label, option): builds what stands in the hole's place."""


def open_nodes(spec: Spec) -> frozenset[int]:
    """Identities of all nodes of ``spec`` with a hole inside; the walk leaves the others as they are."""
    found: set[int] = set()

    def visit(node: Any) -> bool:
        inside = [visit(child) for child in children(node)] if not isinstance(node, Choice | Range) else []
        if isinstance(node, Choice):
            for option in node.options:
                visit(option)
        is_open = isinstance(node, Choice | Range) or any(inside)
        if is_open:
            found.add(id(node))
        return is_open

    visit(spec)
    return frozenset(found)


def walk(spec: Spec, is_open: frozenset[int], on_hole: OnHole) -> Spec:
    """``spec`` with every hole replaced by what ``on_hole`` makes of it, in the order they are written."""
    walker = _Walker(is_open, on_hole)
    cells = {name: walker.cell(cell) for name, cell in spec.cells.items()}
    network = walker.sequential(spec.network, "network")
    return replace(spec, cells=cells, network=network, scaling=walker.scaling(spec.scaling))


def decide(spec: Spec, is_open: frozenset[int], choose: Choose) -> tuple[Spec, dict[str, Scalar]]:
    """Ask ``choose`` for the label of every hole that becomes active; the filled spec and the labels by key.

    Raises SpaceError for a label that the hole does not have.
    """
    decisions: dict[str, Scalar] = {}

    def on_hole(path: str, hole: Hole, go_on: Callable[[Scalar, Any], Any]) -> Any:
        key = hole.share or path
        if key in decisions:
            label = decisions[key]
        else:
            label = decisions[key] = choose(key, hole)
        return go_on(label, option_of(key, hole, label))

    return walk(spec, is_open, on_hole), decisions


def option_of(key: str, hole: Hole, label: Scalar) -> Any:
    """What ``label`` stands for. Raises SpaceError when the hole has no such label."""
    if isinstance(hole, Choice):
        try:
            return hole.option(label)
        except KeyError:
            raise SpaceError(f"no such option for {key}", where=hole.where or None, got=label,
                             expected="one of " + ", ".join(map(repr, hole.labels))) from None  # fmt: skip
    if not hole.contains(label):
        step = f" in steps of {hole.step}" if hole.step else ""
        raise SpaceError(f"out of range for {key}", where=hole.where or None, got=label,
                         expected=f"{hole.low} to {hole.high}{step}")  # fmt: skip
    return label


class _Walker:
    __slots__ = ("is_open", "on_hole")

    def __init__(self, is_open: frozenset[int], on_hole: OnHole) -> None:
        self.is_open, self.on_hole = is_open, on_hole

    def cell(self, cell: Cell) -> Cell:
        if id(cell) not in self.is_open:
            return cell
        output = cell.output
        if isinstance(output, tuple):
            filled = (self.value(item, f"{cell.name}.output.{i}") for i, item in enumerate(output))
            output = tuple(item for item in filled if item != "none")
        layers = self.sequential(cell.layers, cell.name)
        return replace(cell, layers=layers, output=output, combine=self.value(cell.combine, f"{cell.name}.combine"))

    def scaling(self, scaling: Scaling) -> Scaling:
        if id(scaling) not in self.is_open:
            return scaling
        words = ("width", "depth", "resolution", "alpha", "beta", "gamma", "phi")
        return replace(scaling, **{w: self.value(getattr(scaling, w), f"scaling.{w}") for w in words})

    def sequential(self, node: Sequential, path: str) -> Sequential:
        if id(node) not in self.is_open:
            return node
        return Sequential(layers=tuple(self.layer(layer, path) for layer in node.layers))

    def layer(self, layer: Layer, scope: str) -> Layer:
        if id(layer) not in self.is_open:
            return layer
        path = f"{scope}.{layer.name}"
        sources = self.sources(layer.sources, f"{path}.from")
        body = self.node(layer.body, path)
        return Layer(name=layer.name, body=body, sources=sources, scale=layer.scale, where=layer.where)

    def sources(self, sources: Any, path: str) -> Any:
        if id(sources) not in self.is_open:
            return sources
        if isinstance(sources, Choice):
            return self.on_hole(path, sources, lambda label, option: self.sources(option, f"{path}={label}"))
        several = len(sources) > 1
        return tuple(self.value(s, f"{path}.{i}" if several else path) for i, s in enumerate(sources))

    def node(self, node: Any, path: str) -> Any:
        if id(node) not in self.is_open and not isinstance(node, Choice):
            return node
        match node:
            case Choice():
                return self.on_hole(path, node, lambda label, option: self.node(option, f"{path}={label}"))
            case Op():
                return Op(name=node.name, kwargs=self.kwargs(node.kwargs, path))
            case CellRef():
                return CellRef(cell=node.cell, channels=self.value(node.channels, f"{path}.channels"),
                               stride=self.value(node.stride, f"{path}.stride"))  # fmt: skip
            case Sequential():
                return self.sequential(node, path)
            case Parallel():
                branches = tuple(self.layer(branch, path) for branch in node.branches)
                combine = self.value(node.combine, f"{path}.combine")
                return Parallel(branches=branches, combine=combine, match=node.match)
            case Repeat():
                return self.repeat(node, path)
            case _:
                return node

    def repeat(self, node: Repeat, path: str) -> Any:
        first = self.kwargs(node.first, f"{path}.first")

        def bodies(_: Scalar, times: int) -> Repeat:
            if times == 0:
                filled: tuple[Any, ...] = ()
            elif node.each:
                filled = tuple(self.node(node.bodies[0], f"{path}.{i}") for i in range(times))
            else:
                filled = tuple(self.node(body, path) for body in node.bodies)
            return Repeat(bodies=filled, times=times, first=first)

        if isinstance(node.times, Choice | Range):
            return self.on_hole(f"{path}.repeat", node.times, bodies)
        return bodies(None, node.times)

    def kwargs(self, kwargs: Kwargs, path: str) -> Kwargs:
        fill = {"from": self.sources}
        return tuple([(word, fill.get(word, self.value)(value, f"{path}.{word}")) for word, value in kwargs])

    def value(self, value: Any, path: str) -> Any:
        if isinstance(value, Choice | Range):
            return self.on_hole(path, value, lambda _, option: option)
        return value
