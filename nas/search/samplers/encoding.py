"""Architectures as numbers, for any space: what a surrogate model learns from.

Four views of an architecture, each a bag of named numbers, so that architectures with other decisions and other wiring
can be compared. All but the first are read from the lowered graph, in which what has no effect is gone:

- ``decisions``: one-hot labels; ranges as a fraction of their width, beside whether they are active;
- ``paths``: how many ways from a cell's input to its output pass which operations (White et al. 2021, BANANAS,
  arXiv:1910.11858; here with counts, and long ones by their end);
- ``graph``: how often an operation occurs above which others (Weisfeiler-Lehman subtrees as in Ru et al. 2021,
  NAS-BOWL, arXiv:2006.07556);
- ``size``: logarithms of parameters and multiply-adds; for each cell its depth in operations with weights (least, mean,
  greatest over paths), the logarithm of the number of paths, and operations with weights by depth.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from nas.errors import NasError
from nas.measure.features import features_of
from nas.net.graph import Call, Graph, Node
from nas.net.lower import lower
from nas.space.decide import Decisions
from nas.space.search_space import Architecture, SearchSpace
from nas.space.spec import Choice

VIEWS = ("decisions", "paths", "graph", "size")

LONGEST = 4
"""Operations of a path that are looked at, counted from its end."""

SUBTREE = 2
"""Height of the subtrees that are counted."""

MEMORY = 20_000
"""Architectures that are remembered."""

_WIDTHS = frozenset({"in_channels", "out_channels", "num_classes", "num_features"})

Bag = dict[str, float]


class Code(NamedTuple):
    """An architecture in the four views."""

    decisions: Bag
    paths: Bag
    graph: Bag
    size: Bag


def encode(space: SearchSpace, architecture: Architecture, graph: Graph) -> Code:
    """The architecture of the space, whose lowered graph is ``graph``, in all views."""
    paths: Counter[str] = Counter()
    trees: Counter[str] = Counter()
    size: Bag = {"num_params": math.log(1 + graph.num_params), "macs": math.log(1 + graph.macs)}
    for cell in _cells(graph):
        steps = _steps(cell)
        paths.update({f"{cell.name}:{'>'.join(path)}": count for path, count in _paths(cell, steps).items()})
        trees.update({f"{cell.name}:{tree}": count for tree, count in _subtrees(steps)})
        size |= {f"{cell.name}:{name}": value for name, value in _depths(cell, steps).items()}
    return Code(_one_hot(space, architecture.decisions), _logs(paths), _logs(trees), size)


class Coded(NamedTuple):
    """An architecture of a space: its encoding, its decisions, and a name that spellings of one network share.

    The name is a digest of the views of the graph, which are there anyway; it is coarser than :func:`nas.net.identity.identity`
    where two networks differ only beyond what the views see (there the model could not tell them apart either).
    """

    code: Code
    decisions: Decisions
    name: int


class Coder:
    """Encodes architectures of a space by their decisions, and remembers them. Samplers of one space may share it."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self._known: dict[Hashable, Coded | None] = {}
        self._costs: dict[Hashable, Bag] = {}

    def __call__(self, decisions: Decisions) -> Coded | None:
        """None where there is no such architecture: decisions that are missing or not the space's, or shapes that clash."""
        key = tuple(decisions.items())
        if key not in self._known:
            if len(self._known) >= MEMORY:
                self._known.clear()
            try:
                architecture = self.space.architecture(decisions)
                code = encode(self.space, architecture, lower(architecture))
                name = hash(tuple(frozenset(bag.items()) for bag in code[1:]))
                self._known[key] = Coded(code, architecture.decisions, name)
            except NasError:
                self._known[key] = None
        return self._known[key]

    def costs(self, decisions: Decisions) -> Bag:
        """Sizes by kind of operation and by resolution, for a model of costs: as much work again as the encoding."""
        key = tuple(decisions.items())
        if key not in self._costs:
            if len(self._costs) >= MEMORY:
                self._costs.clear()
            self._costs[key] = features_of(lower(self.space.architecture(decisions)))
        return self._costs[key]


def matrix(bags: Sequence[Mapping[str, float]]) -> np.ndarray:
    """The bags as rows, with a column for every name that not all have alike."""
    names = sorted(set().union(*bags))
    place = {name: i for i, name in enumerate(names)}
    table = np.zeros((len(bags), len(names)))
    rows = np.repeat(np.arange(len(bags)), [len(bag) for bag in bags])
    table[rows, [place[name] for bag in bags for name in bag]] = [value for bag in bags for value in bag.values()]
    return table[:, np.ptp(table, axis=0) > 0] if len(bags) else table


def _one_hot(space: SearchSpace, decisions: Decisions) -> Bag:
    bag: Bag = {}
    for key, label in decisions.items():
        hole = space.holes[key]
        if isinstance(hole, Choice):
            bag[f"{key}={label!r}"] = 1.0
        elif isinstance(label, int | float):
            low, high, value = (math.log(v) if hole.log else float(v) for v in (hole.low, hole.high, label))
            bag[key] = (value - low) / ((high - low) or 1.0)
            bag[f"{key}?"] = 1.0
    return bag


def _logs(counts: Mapping[str, int]) -> Bag:
    return {name: math.log2(1 + count) for name, count in counts.items()}


class _Step(NamedTuple):
    """An operation, or a cell inside, and where its inputs come from: indices of steps, -1 for an input of the graph."""

    label: str
    sources: tuple[int, ...]
    joins: bool
    weighs: bool


def _cells(graph: Graph) -> Iterator[Graph]:
    """The network and one of each cell that is used in it, the first."""
    seen: set[str] = set()

    def visit(graph: Graph) -> Iterator[Graph]:
        if graph.name not in seen:
            seen.add(graph.name)
            yield graph
            for node in graph.nodes:
                if isinstance(node.target, Graph):
                    yield from visit(node.target)

    return visit(graph)


def _steps(graph: Graph) -> list[_Step]:
    index = {node.name: i for i, node in enumerate(graph.nodes)}
    return [
        _Step(_label(node), tuple([index.get(name, -1) for name in node.inputs]), len(node.inputs) > 1,
              node.target.num_params > 0)
        for node in graph.nodes
    ]  # fmt: skip


def _label(node: Node) -> str:
    call: Call | Graph = node.target
    if isinstance(call, Graph):
        return call.name
    words = [f"{word}={value}" for word, value in sorted(call.kwargs.items()) if word not in _WIDTHS]
    return f"{call.op}({','.join(words)})"


def _output(graph: Graph) -> int:
    """The index of the step whose value is the graph's; -1 where it is an input."""
    return next((i for i, node in enumerate(graph.nodes) if node.name == graph.output), -1)


def _paths(graph: Graph, steps: Sequence[_Step]) -> Counter[tuple[str, ...]]:
    """Paths from the inputs to the output, by the labels of their last operations; joints do not count."""
    known: dict[int, Counter[tuple[str, ...]]] = {-1: Counter({(): 1})}
    for i, step in enumerate(steps):
        here: Counter[tuple[str, ...]] = Counter()
        for source in step.sources:
            for path, count in known[source].items():
                here[path if step.joins else (*path, step.label)[-LONGEST:]] += count
        known[i] = here
    return known[_output(graph)]


def _subtrees(steps: Sequence[_Step]) -> Iterator[tuple[str, int]]:
    labels = {i: step.label for i, step in enumerate(steps)} | {-1: "in"}
    yield from Counter(labels[i] for i in range(len(steps))).items()
    for _ in range(SUBTREE):
        labels = {
            i: f"{step.label}<{'|'.join(sorted(labels[s] for s in step.sources))}>" for i, step in enumerate(steps)
        } | {-1: "in"}
        yield from Counter(labels[i] for i in range(len(steps))).items()


def _depths(graph: Graph, steps: Sequence[_Step]) -> Bag:
    ways: dict[int, float] = {-1: 1.0}
    least, most, total = {-1: 0.0}, {-1: 0.0}, {-1: 0.0}
    levels: Counter[str] = Counter()
    for i, step in enumerate(steps):
        ways[i] = sum(ways[s] for s in step.sources)
        least[i] = min(least[s] for s in step.sources) + step.weighs
        most[i] = max(most[s] for s in step.sources) + step.weighs
        total[i] = sum(total[s] for s in step.sources) + step.weighs * ways[i]
        if step.weighs:
            levels[f"level {most[i]:.0f}"] += 1
    end = _output(graph)
    return {"least": least[end], "most": most[end], "mean": total[end] / ways[end], "ways": math.log2(ways[end]),
            "weighs": float(sum(levels.values())), **levels}  # fmt: skip
