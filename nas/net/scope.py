"""The nodes of one graph while it grows: the only code that knows how layers are wired and what modules are called."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Sized
from typing import Any

from nas.errors import NasError, ShapeError, SpaceError
from nas.net.graph import Graph, Node
from nas.net.steps import Setting, Value, channels_of, make_setting, make_value, scale_channels, scale_depth, step
from nas.ops import Shape, find
from nas.space.spec import Cell, CellRef, Kwargs, Layer, Op, Parallel, Repeat, Sequential

MAX_LAYERS = 100_000
"""A network that unfolds to more layers than this is taken for a mistake."""

Values = tuple[Value, ...]


class Unit:
    """What all scopes of one lowering share; ``lower_cell`` makes the graph of a cell in a use not met before."""

    def __init__(self, cells: Mapping[str, Cell], setting: Setting, depth: float, lower_cell: LowerCell) -> None:
        self.cells, self.setting, self.depth, self.lower_cell = cells, setting, depth, lower_cell
        self.graphs: dict[tuple[Any, ...], Graph] = {}
        self.layers = 0

    def count(self, layers: Sized) -> None:
        """Count layers to come. Raises SpaceError when there are too many."""
        self.layers += len(layers)
        if self.layers > MAX_LAYERS:
            raise SpaceError("the network has too many layers", expected=f"at most {MAX_LAYERS}")


LowerCell = Callable[[Unit, Cell, Values, int, int, int], Graph]


class Scope:
    """The network, or a cell of ``width`` channels whose branches are brought to that width by ``match``."""

    def __init__(self, unit: Unit, root: str, width: int | None = None, match: Op | None = None) -> None:
        self.unit, self.root, self.width, self.match = unit, root, width, match
        setting = unit.setting
        self.scaled = make_setting(setting.width, setting.divisor, setting.num_classes, width)
        self.unscaled = make_setting(1.0, setting.divisor, setting.num_classes, width)
        self.nodes: list[Node] = []
        self.names: dict[str, Value] = {}
        self.read: set[str] = set()

    def layers(self, node: Sequential, value: Value, prefix: str, scale: bool = True) -> Value:
        """Layers one after the other; each may also read earlier ones by name or by how far back they are."""
        self.unit.count(node.layers)
        history = [value]
        for layer in node.layers:
            name, body = prefix + layer.name, layer.body
            try:
                if isinstance(body, Repeat):
                    history += self.repeat(body, layer.sources, history, name, scale and layer.scale)
                else:
                    history.append(self.node(body, layer.sources, history, name, scale and layer.scale))
            except NasError as error:
                raise error.at(self.place(layer, name)) from None
            value = history[-1]
            value = make_value(value.name, value.shape, value.due, value.zero, name)
            self.names[layer.name] = history[-1] = value
        return value

    def place(self, layer: Layer, name: str) -> str:
        """File, line and path of a layer."""
        path = f"{self.root}.{name}"
        return f"{layer.where}: {path}" if layer.where else path

    def node(self, body: Any, sources: Any, history: list[Value], name: str, scale: bool) -> Value:
        """The output of a node."""
        if isinstance(body, Op):
            inputs = self.sources(sources, history)
            if len(inputs) > 1:
                return self.join(body.name, body.kwargs, inputs, name)
            return self.add(name, body.name, body.kwargs, inputs, self.scaled if scale else self.unscaled)
        if isinstance(body, Parallel):
            return self.parallel(body, sources, history, name, scale)
        if isinstance(body, Repeat):
            return (self.repeat(body, sources, history, name, scale) or history)[-1]
        if isinstance(body, CellRef):
            return self.cell(body, self.sources(sources, history, self.unit.cells[body.cell]), name, scale)
        inputs = self.sources(sources, history)
        if len(inputs) != 1:
            raise ShapeError("a list of layers has one input", got=len(inputs),
                             hint="Join them first: {op: concat, from: [...]}.")  # fmt: skip
        return self.layers(body, inputs[0], f"{name}.", scale)

    def sources(self, sources: Any, history: list[Value], cell: Cell | None = None) -> Values:
        """The values a layer reads: those it names, else the layer before; a cell of k inputs reads the last k."""
        if sources:
            return tuple([self.value(source, history) for source in sources if source != "none"])
        if cell is not None and len(history) > 2:
            values = tuple(history[: -len(cell.inputs) - 1 : -1][: len(history) - 1])
        else:
            values = (history[-1],)
        for value in values:
            self.read.add(value.layer)
        return values

    def value(self, source: Any, history: list[Value]) -> Value:
        """The value of a source that is read: a name, or how many layers back."""
        value = self.names.get(source)
        if value is None:
            if not isinstance(source, int):
                raise SpaceError("unknown source", expected="an earlier layer", got=source)
            value = history[max(source, -len(history))]
        self.read.add(value.layer)
        return value

    def repeat(self, node: Repeat, sources: Any, history: list[Value], name: str, scale: bool) -> Values | list[Value]:
        """The outputs of all repetitions: each is one layer of the list.

        Sources that count layers back hold for every repetition, those that name layers for the first one.
        """
        assert isinstance(node.times, int)
        times = scale_depth(node.times, self.unit.depth if scale else 1.0)
        if times == 0:
            inputs = self.sources(sources, history)
            return inputs if sources else ()
        relative = any(isinstance(source, int) for source in sources)
        start, history = len(history), [*history]
        self.unit.count(range(times))
        for index in range(times):
            body = node.bodies[index * len(node.bodies) // times]
            here = sources if index == 0 or relative else ()
            if index == 0 and node.first:
                words = dict(node.first)
                here = words.pop("from", here)
                body = _override(body, words)
            history.append(self.node(body, here, history, f"{name}.{index}", scale))
        return history[start:]

    def add(self, name: str, op: str, kwargs: Kwargs, inputs: Values, setting: Setting) -> Value:
        """Append a node; its output."""
        node, value = step(name, op, kwargs, inputs, setting)
        if node is not None:
            self.nodes.append(node)
        return value

    def put(self, node: Op, width: int, stride: int, value: Value, name: str) -> Value:
        """Append an operation that no layer names: a projection or a match. It settles what stride is owed."""
        kwargs: Kwargs = (*node.kwargs, ("out_channels", width))
        if find(node.name).defaults.get("stride", 1) != stride:
            kwargs += (("stride", stride),)
        return self.add(name, node.name, kwargs, (make_value(value.name, value.shape),), self.unscaled)

    def join(self, op: str, kwargs: Kwargs, values: Values, name: str) -> Value:
        """Join values by an operation. One alone stays as it is; zeros take no part in a sum or a concatenation."""
        if op in ("add", "concat"):
            values = tuple([value for value in values if not value.zero]) or values[:1]
        if len(values) == 1:
            return values[0]
        if not values:
            raise ShapeError("nothing to join", hint="All sources are `none`; give one branch a source that exists.")
        return self.add(name, op, kwargs, values, self.unscaled)

    def parallel(self, node: Parallel, sources: Any, history: list[Value], name: str, scale: bool) -> Value:
        """Branches, each brought to a common shape, joined. A branch whose sources are all ``none`` is left out."""
        match, model, values = node.match or self.match, None, []
        spread = len(sources) == len(node.branches) > 1
        for index, branch in enumerate(node.branches):
            reads: Any = branch.sources or (sources[index : index + 1] if spread else sources)
            if "none" in reads and reads.count("none") == len(reads):
                continue
            label = f"{name}.{branch.name}"
            try:
                value = self.node(branch.body, reads, history, label, scale and branch.scale)
                if match is not None and not value.zero and len(shape := value.shape) == 3:
                    model = model or shape
                    if value.due != 1 or shape[0] != (self.width or model[0]) or shape[1] != model[1]:
                        value = self.fit(value, model, match, node.match is not None, f"{label}_match")
            except NasError as error:
                raise error.at(self.place(branch, label)) from None
            values.append(value)
        return self.join(str(node.combine), (), tuple(values), f"{name}.{node.combine}")

    def fit(self, value: Value, model: Shape, match: Op, resize: bool, name: str) -> Value:
        """A branch brought to the cell's width, or to the first branch's; ``resize``: also to its height."""
        height, stride, width = value.shape[1], value.due, self.width or model[0]
        if resize and height != model[1]:
            stride = -(-height // model[1])
        if value.shape[0] == width and stride == 1:
            return value
        return self.put(match, width, stride, value, name)

    def cell(self, node: CellRef, inputs: Values, name: str, scale: bool) -> Value:
        """A use of a cell; equal uses share one graph."""
        unit = self.unit
        cell = unit.cells[node.cell]
        missing = len(cell.inputs) - len(inputs)
        if missing < 0 or not inputs:
            raise ShapeError(f"cell {cell.name} takes 1 to {len(cell.inputs)} inputs", got=len(inputs))
        width: Any = node.channels
        if width is None:
            width = channels_of(inputs[0].shape)
        elif scale:
            width = scale_channels(width, self.scaled.width, self.scaled.divisor)
        stride: Any = node.stride
        if stride is None:
            stride = cell.stride if inputs[0].due == 1 else inputs[0].due
        inputs += inputs[-1:] * missing
        key = (cell.name, width, stride, missing, tuple([value.shape for value in inputs]))
        graph = unit.graphs.get(key)
        if graph is None:
            graph = unit.graphs[key] = unit.lower_cell(unit, cell, inputs, width, stride, missing)
        places = {known.name: value.name for known, value in zip(cell.inputs, inputs, strict=True)}
        self.nodes.append(Node(name, graph, tuple([places[used] for used, _ in graph.inputs])))
        return make_value(name, graph.shape)

    def finish(self, name: str, inputs: tuple[tuple[str, Shape], ...], output: Value, heads: Sequence[Value] = ()) -> Graph:
        """The graph, without the nodes and inputs that nothing reads. ``heads`` are outputs in training."""
        needed = {output.name}
        nodes = self.needed(self.nodes, needed)
        used = tuple([known for known in inputs if known[0] in needed])
        if not heads:
            return Graph(name, used, nodes, output.name, output.shape)
        needed |= {head.name for head in heads}
        main = {node.name for node in nodes}
        auxiliary = tuple([node for node in self.needed(self.nodes, needed) if node.name not in main])
        return Graph(name, used, nodes, output.name, output.shape, auxiliary, tuple([head.name for head in heads]))

    @staticmethod
    def needed(nodes: list[Node], needed: set[str]) -> tuple[Node, ...]:
        """The nodes that lead to those needed, whose names are added."""
        kept = []
        for node in reversed(nodes):
            if node.name in needed:
                needed.update(node.inputs)
                kept.append(node)
        return tuple(reversed(kept))


def _override(body: Any, words: dict[str, Any]) -> Any:
    if isinstance(body, Op):
        return Op(name=body.name, kwargs=tuple({**dict(body.kwargs), **words}.items()))
    if isinstance(body, CellRef):
        channels, stride = words.get("channels", body.channels), words.get("stride", body.stride)
        return CellRef(cell=body.cell, channels=channels, stride=stride)
    raise SpaceError("first: changes words of an operation or a cell", hint="Write that layer apart.")
