"""Graph to torch module. A node's dotted name is its module's name, so an export of the same graph has the same weights' names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from nas.net.graph import Call, Graph
from nas.ops import find


def build(graph: Graph) -> nn.Module:
    """The graph as a module; weights are freshly initialised from torch's global random state.

    It takes one (N, C, H, W) tensor per graph input and returns the output node's tensor.
    """
    return Network(graph)


class Network(nn.Module):
    """A graph's modules, run in the graph's order."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        slots = {name: index for index, (name, _) in enumerate(graph.inputs)}
        steps: list[tuple[nn.Module, tuple[int, ...]]] = []
        for node in graph.nodes:
            module = Network(node.target) if isinstance(node.target, Graph) else make_module(node.target)
            _place(self, node.name, module)
            steps.append((module, tuple(slots[name] for name in node.inputs)))
            slots[node.name] = len(slots)
        self._steps = tuple(steps)
        self._output = slots[graph.output]

    def forward(self, *inputs: Tensor) -> Tensor:
        values = list(inputs)
        for module, sources in self._steps:
            values.append(module(*[values[source] for source in sources]))
        return values[self._output]


def make_module(call: Call) -> nn.Module:
    """The module of one operation."""
    arguments: Mapping[str, Any] = call.kwargs
    return find(call.op).load()(**arguments)


def _place(root: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module under a dotted name, making plain containers on the way."""
    *parents, last = name.split(".")
    for parent in parents:
        if parent not in root._modules:
            root.add_module(parent, nn.Module())
        root = root.get_submodule(parent)
    root.add_module(last, module)
