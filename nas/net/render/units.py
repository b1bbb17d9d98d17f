"""A graph as what its source will say: scopes of steps. A step is a module, a block with a class of its own, or a join."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from nas.net.graph import Call
from nas.ops import Shape, find

JOINS = {"Add": "+", "Multiply": "*", "Concat": "cat"}
"""Our own weightless joins, which are written as expressions."""


class Classes(int):
    """A number of classes: it becomes the argument ``num_classes`` wherever it is used."""


class Maker(NamedTuple):
    """What a step calls: ``name`` as it is written, its parameters with their defaults, and the inputs of a class of ours."""

    name: str
    parameters: Mapping[str, Any]
    inputs: tuple[str, ...] = ()


class Step(NamedTuple):
    """A step of a scope; ``inputs`` are names of earlier steps or of the scope's inputs."""

    name: str
    maker: Maker
    kwargs: Mapping[str, Any]
    inputs: tuple[str, ...]
    shape: Shape

    @property
    def join(self) -> str | None:
        """How the step is written as an expression (``+``, ``*``, ``cat``); None for a module."""
        return self.maker.name if self.maker.name in JOINS.values() else None


@dataclass(frozen=True)
class Unit:
    """One use of a class to be written: a cell at a width, a block of the network, or the network itself."""

    inputs: tuple[tuple[str, Shape], ...]
    steps: tuple[Step, ...]
    output: str

    def skeleton(self) -> tuple[Any, ...]:
        """What two units of exactly one structure share."""
        return (tuple(name for name, _ in self.inputs), tuple((s.name, s.maker.name, s.inputs) for s in self.steps), self.output)

    def shapes(self) -> dict[str, Shape]:
        """The shape of every input and step by name."""
        return dict(self.inputs) | {step.name: step.shape for step in self.steps}


def maker_of(call: Call, homes: dict[str, str]) -> Maker:
    """The class that makes an operation; ``homes`` notes the module of every class whose source is needed."""
    spec = find(call.op)
    module, _, name = spec.module.partition(":")
    if module == "nas.ops.modules.wiring" and name in JOINS:
        return Maker(JOINS[name], {})
    if module == "torch.nn":
        written = f"nn.{name}"
    else:
        written = name
        homes[name] = module
    words = list(inspect.signature(spec.load().__init__).parameters.values())[1:]
    return Maker(written, {w.name: w.default for w in words})
