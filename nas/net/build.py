"""Graph to torch module. A node's dotted name is its module's: an export of the graph has the same names of weights."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn

from nas.errors import SpaceError
from nas.net.graph import Call, Graph
from nas.ops import find


def build(graph: Graph) -> nn.Module:
    """The graph as a module; weights are freshly initialised from torch's global random state.

    It takes one (N, C, H, W) tensor per graph input and returns the output node's tensor; a graph with auxiliary heads gives
    (output, output of each head) while training. Raises SpaceError when an operation's words make no module.
    """
    return Network(graph)


class _Step(NamedTuple):
    """A module of the network (found by name, for it may be replaced later), what it reads, what is read no more.

    ``training``: it belongs to an auxiliary head.
    """

    path: tuple[str, ...]
    sources: tuple[int, ...]
    done: tuple[int, ...]
    training: bool


class Network(nn.Module):
    """A graph's modules, run in the graph's order. A value is let go as soon as nothing reads it any more.

    ``wiring`` has the name of every step's module and the names of what it reads, in order.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.wiring = tuple((node.name, node.inputs) for node in graph.nodes)
        slots = {name: index for index, (name, _) in enumerate(graph.inputs)}
        extra = frozenset(node.name for node in graph.auxiliary)
        last_read: dict[str, int] = {}
        for index, node in enumerate(graph.all_nodes):
            module = Network(node.target) if isinstance(node.target, Graph) else make_module(node.target, node.name)
            _place(self, node.name, module)
            slots[node.name] = len(slots)
            last_read |= dict.fromkeys(node.inputs, index)
        for name in (graph.output, *graph.heads):
            last_read.pop(name, None)
        done: list[list[int]] = [[] for _ in graph.all_nodes]
        for name, index in last_read.items():
            done[index].append(slots[name])
        self._steps = tuple(
            _Step(tuple(node.name.split(".")), tuple(slots[name] for name in node.inputs), tuple(slots_done), node.name in extra)
            for node, slots_done in zip(graph.all_nodes, done, strict=True)
        )
        self._output, self._heads = slots[graph.output], tuple(slots[name] for name in graph.heads)

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        values: list[Any] = list(inputs)
        for path, sources, done, training in self._steps:
            if training and not self.training:
                values.append(None)
            else:
                module: Any = self
                for name in path:
                    module = module._modules[name]
                values.append(module(*[values[source] for source in sources]))
            for slot in done:
                values[slot] = None
        output: Tensor = values[self._output]
        return (output, *(values[head] for head in self._heads)) if self._heads and self.training else output


def make_module(call: Call, where: str | None = None) -> nn.Module:
    """The module of one operation. Raises SpaceError when its words make no module."""
    try:
        return find(call.op).load()(**call.kwargs)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        said = f"no {call.op} can be made of these words: {error}"
        raise SpaceError(said, where=where, got=str(call.kwargs)) from None


def _place(root: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module under a dotted name, making plain containers on the way."""
    *parents, last = name.split(".")
    for parent in parents:
        inner = root._modules.get(parent)
        if inner is None:
            inner = nn.Module()
            root.add_module(parent, inner)
        root = inner
    root.add_module(last, module)
