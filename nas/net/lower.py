"""Architecture to graph: the only code that knows channels, strides, shapes and module names.

What the page leaves out is inferred here: an operation's ``out_channels`` is its cell's width, or its input's channels;
``num_classes`` the task's. In a cell of stride s, the first operation that reads a cell input and can stride, does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from nas.errors import NasError, ShapeError, SpaceError
from nas.net.graph import Call, Graph, Node, Size
from nas.ops import OPS, OpSpec, Shape, Sketch, find
from nas.space.search_space import Architecture
from nas.space.spec import Cell, CellRef, Layer, Op, Parallel, Repeat, Scaling, Sequential, Spec


class Value(NamedTuple):
    """A tensor on its way: the node it comes from, its shape, the stride its next operation owes, and whether it is nothing."""

    name: str
    shape: Shape
    due: int = 1
    zero: bool = False


NOTHING = Value("none", ())
"""What the source ``none`` gives to the branch that would read it."""


def lower(architecture: Architecture, size: Size = Size()) -> Graph:  # noqa: B008 - frozen
    """The graph of an architecture at a size.

    Raises ShapeError (or SpaceError) with the page's file and line and the layer's path where the wiring is impossible.
    """
    return _Network(architecture.spec, size).graph()


def scale_channels(channels: int, width: float, divisor: int) -> int:
    """``channels`` times ``width``, rounded to a multiple of ``divisor`` but never below 90 % (MobileNetV2, EfficientNet)."""
    if width == 1.0:
        return channels
    wanted = channels * width
    rounded = max(divisor, int(wanted + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * wanted else rounded


def scale_depth(times: int, depth: float) -> int:
    """``times`` times ``depth``, rounded up (EfficientNet)."""
    return times if depth == 1.0 else math.ceil(times * depth - 1e-9)


class _Network:
    """What all scopes of one lowering share: the page, the size, and the cells lowered so far."""

    def __init__(self, spec: Spec, size: Size) -> None:
        scaling: Any = spec.scaling
        self.spec = spec
        self.num_classes = size.num_classes or spec.num_classes
        self.width: float = scaling.width * scaling.beta**scaling.phi * size.width
        self.depth: float = scaling.depth * scaling.alpha**scaling.phi * size.depth
        self.divisor: int = scaling.divisor
        self.input = size.input or _resolution(spec.input, scaling)
        self.cells: dict[tuple[Any, ...], Graph] = {}

    def graph(self) -> Graph:
        scope = _Scope(self, None)
        image = Value("x", self.input)
        scope.names["x"] = image
        output = scope.layers(self.spec.network, image, "", self.spec.name)
        return scope.finish("network", (("x", self.input),), output)


def _resolution(shape: tuple[int, int, int], scaling: Any) -> tuple[int, int, int]:
    height, width = (scaling.resolution,) * 2 if scaling.resolution else shape[1:]
    factor = scaling.gamma**scaling.phi
    return shape[0], round(height * factor), round(width * factor)


_CALLS: dict[tuple[Any, ...], Call] = {}
"""Calls made so far: an operation on the same shapes with the same words is the same call. Cleared when it grows large."""

_MAX_CALLS = 200_000


def call_of(spec: OpSpec, kwargs: Mapping[str, Any], shapes: tuple[Shape, ...]) -> Call:
    """The call of an operation with these words on these shapes. Raises ShapeError when it cannot be."""
    key = (spec.name, tuple(kwargs.items()), shapes)
    call = _CALLS.get(key)
    if call is None:
        if len(_CALLS) >= _MAX_CALLS:
            _CALLS.clear()
        call = _CALLS[key] = _make_call(spec, kwargs, shapes)
    return call


def _make_call(spec: OpSpec, kwargs: Mapping[str, Any], shapes: tuple[Shape, ...]) -> Call:
    sketch = Sketch(*shapes)
    wiring: dict[str, Any] = {}
    for word in spec.takes:
        if word == "in_channels":
            wiring[word] = sketch.channels if len(shapes) == 1 else tuple(Sketch(shape).channels for shape in shapes)
        elif word == "input_size":
            wiring[word] = sketch.map()[1:]
        else:
            wiring[word] = sketch.tokens()[0]
    constructor = spec.sketch(sketch, **kwargs)
    if constructor is None:
        constructor = {**wiring, **{w: v for w, v in kwargs.items() if w in spec.required or v != spec.defaults[w]}}
    return Call(spec.name, constructor, sketch.shape, sketch.num_params, sketch.macs)


class _Scope:
    """The nodes of one graph while it grows: the network's, or a cell's."""

    def __init__(self, network: _Network, width: int | None) -> None:
        self.network, self.width = network, width
        self.nodes: list[Node] = []
        self.names: dict[str, Value] = {}
        self.read: set[str] = set()
        self.cell: Cell | None = None
        self.raw: dict[str, Value] = {}

    # -- layers ------------------------------------------------------------------------------------------------------

    def layers(self, node: Sequential, value: Value, prefix: str, path: str) -> Value:
        """Layers one after the other; each may also read earlier ones by name or by how far back they are."""
        history = [value]
        for layer in node.layers:
            try:
                if isinstance(layer.body, Repeat):
                    value = self.repeat(layer, layer.body, history, f"{prefix}{layer.name}", f"{path}.{layer.name}")
                else:
                    inputs = self.sources(layer.sources, layer.body, history)
                    value = self.node(layer.body, inputs, f"{prefix}{layer.name}", layer, f"{path}.{layer.name}")
                    history.append(value)
            except NasError as error:
                raise error.at(f"{layer.where}: {path}.{layer.name}" if layer.where else f"{path}.{layer.name}") from None
            self.names[layer.name] = value
        return value

    def repeat(self, layer: Layer, node: Repeat, history: list[Value], name: str, path: str) -> Value:
        """The body over and over, spliced: every repetition is one layer of the list."""
        depth = self.network.depth if layer.scale else 1.0
        times = scale_depth(node.times, depth) if isinstance(node.times, int) else 0
        for index in range(times):
            body = node.bodies[index * len(node.bodies) // times]
            sources = layer.sources if index == 0 or isinstance(body, CellRef) else ()
            if index == 0 and node.first:
                words = dict(node.first)
                sources = words.pop("from", sources)
                body = _override(body, words)
            if isinstance(body, Sequential):
                history.append(self.layers(body, history[-1], f"{name}.{index}.", f"{path}.{index}"))
            else:
                inputs = self.sources(sources, body, history)
                history.append(self.node(body, inputs, f"{name}.{index}", layer, f"{path}.{index}"))
        return history[-1]

    def sources(self, sources: Any, body: Any, history: list[Value]) -> list[Value]:
        """The values a layer reads: those it names, else the layer before; a cell of k inputs reads the last k."""
        if sources:
            keep = isinstance(body, Parallel) and len(sources) == len(body.branches)  # each source has its branch
            return [NOTHING if s == "none" else self.value(s, history) for s in sources if keep or s != "none"]
        if isinstance(body, CellRef):
            count = len(self.network.spec.cells[body.cell].inputs)
            return [history[-k] for k in range(1, min(count, len(history) - 1) + 1)] or [history[-1]]
        return [history[-1]]

    def value(self, source: Any, history: list[Value]) -> Value:
        if isinstance(source, int):
            return history[max(source, -len(history))]
        if source in self.raw and source not in self.names:
            self.names[source] = self.project(source)
        if source not in self.names:
            raise SpaceError("unknown source", expected="an earlier layer", got=source)
        return self.names[source]

    def node(self, node: Any, inputs: list[Value], name: str, layer: Layer, path: str) -> Value:
        match node:
            case Op():
                return self.op(node, inputs, name, layer.scale)
            case CellRef():
                return self.cell_ref(node, inputs, name, layer.scale)
            case Sequential():
                return self.layers(node, self.only(inputs), f"{name}.", path)
            case Parallel():
                return self.parallel(node, inputs, name, path)
            case _:
                raise SpaceError("not a node", got=type(node).__name__)

    def only(self, inputs: list[Value]) -> Value:
        if len(inputs) != 1:
            raise ShapeError("one input is expected", got=f"{len(inputs)}", hint="Join them first: {op: concat, from: [...]}.")
        return inputs[0]

    # -- operations --------------------------------------------------------------------------------------------------

    def op(self, node: Op, inputs: Sequence[Value], name: str, scale: bool) -> Value:
        spec = OPS.get(node.name) or find(node.name)
        if not inputs or (spec.inputs is not None and len(inputs) != spec.inputs):
            raise ShapeError(f"{node.name} takes {spec.inputs or 'one or more'} inputs", got=f"{len(inputs)}",
                             hint="Join them first: {op: concat, from: [...]}.")  # fmt: skip
        network = self.network
        kwargs = dict(node.kwargs)
        if scale and network.width != 1.0:
            for word in spec.scaled:
                if kwargs.get(word) is not None:
                    kwargs[word] = scale_channels(kwargs[word], network.width, network.divisor)
        first = inputs[0]
        if "out_channels" in spec.required and "out_channels" not in kwargs:
            kwargs["out_channels"] = self.width or Sketch(first.shape).channels
        if "num_classes" in spec.required and "num_classes" not in kwargs:
            kwargs["num_classes"] = network.num_classes
        due = first.due
        if due != 1 and "stride" in spec.defaults and "stride" not in kwargs:
            kwargs["stride"], due = due, 1
        if node.name == "identity" and kwargs.get("stride", 1) == 1 and kwargs["out_channels"] == Sketch(first.shape).channels:
            return first
        value = self.add(spec, kwargs, inputs, name)
        zero = node.name == "zero" or (first.zero and spec.inputs == 1 and self.nodes[-1].target.num_params == 0)
        return value._replace(due=due, zero=zero)

    def add(self, spec: OpSpec, kwargs: Mapping[str, Any], inputs: Sequence[Value], name: str) -> Value:
        """Append an operation's node."""
        call = call_of(spec, kwargs, tuple([value.shape for value in inputs]))
        names = tuple([value.name for value in inputs])
        self.read.update(names)
        self.nodes.append(Node(name, call, names))
        return Value(name, call.shape)

    def parallel(self, node: Parallel, inputs: list[Value], name: str, path: str) -> Value:
        branches = []
        spread = len(inputs) == len(node.branches) and len(inputs) > 1
        for index, branch in enumerate(node.branches):
            sources = [value for value in ([inputs[index]] if spread else inputs) if value is not NOTHING]
            if branch.sources:
                sources = self.sources(branch.sources, branch.body, sources)
            if not sources:
                continue
            label = f"{name}.{branch.name}"
            value = self.node(branch.body, sources, label, branch, f"{path}.{branch.name}")
            branches.append((label, value))
        assert isinstance(node.combine, str)
        branches = [branch for branch in branches if not branch[1].zero] or branches[:1]
        values = [self.fit(value, branches[0][1], node, label) for label, value in branches]
        return self.combine(node.combine, values, name)

    def fit(self, value: Value, model: Value, node: Parallel, label: str) -> Value:
        """A branch brought to the cell's width, or to the first branch's shape where ``match`` says how."""
        match = node.match or (self.cell.match if self.cell else None)
        if match is None or value.zero or len(value.shape) != 3:
            return value
        width = self.width or model.shape[0]
        stride = value.due
        if node.match is not None and value.shape[1] != model.shape[1]:
            stride = -(-value.shape[1] // model.shape[1])
        if value.shape[0] == width and stride == 1:
            return value
        kwargs = dict(match.kwargs) | {"out_channels": width}
        if stride != 1:
            kwargs["stride"] = stride
        return self.add(find(match.name), kwargs, [value], f"{label}_match")

    def combine(self, op: str, values: list[Value], name: str) -> Value:
        """Join branches. Zeros do not take part in a sum."""
        if op == "add":
            values = [v for v in values if not v.zero] or values[:1]
        if len(values) == 1:
            return values[0]
        if not values:
            raise ShapeError("nothing to join", hint="Every source is `none`; give one branch a source that always exists.")
        return self.add(find(op), {}, values, f"{name}.{op}")

    # -- cells -------------------------------------------------------------------------------------------------------

    def cell_ref(self, node: CellRef, inputs: list[Value], name: str, scale: bool) -> Value:
        network = self.network
        cell = network.spec.cells[node.cell]
        width: Any = node.channels
        if width is None:
            width = Sketch(inputs[0].shape).channels
        elif scale:
            width = scale_channels(width, network.width, network.divisor)
        stride: Any = (cell.stride if inputs[0].due == 1 else inputs[0].due) if node.stride is None else node.stride
        missing = len(cell.inputs) - len(inputs)
        if missing < 0:
            raise ShapeError(f"cell {cell.name} takes {len(cell.inputs)} inputs", got=f"{len(inputs)}")
        values = [*inputs, *([inputs[-1]] * missing)]
        key = (cell.name, width, stride, missing, tuple([value.shape for value in values]))
        graph = network.cells.get(key)
        if graph is None:
            graph = network.cells[key] = _cell_graph(network, cell, values, width, stride, missing)
        places = {known.name: value.name for known, value in zip(cell.inputs, values, strict=True)}
        names = tuple([places[used] for used, _ in graph.inputs])
        self.read.update(names)
        self.nodes.append(Node(name, graph, names))
        return Value(name, graph.shape)

    def project(self, name: str) -> Value:
        """A cell input brought to the cell's width, the first time it is read."""
        value, first = self.raw[name], next(iter(self.raw.values()))
        assert self.cell is not None
        assert self.width is not None
        policy = next(i.project for i in self.cell.inputs if i.name == name)
        if policy == "never" or value.zero:
            return Value(value.name, value.shape, value.due)
        due, label = value.due, f"{name}_projection"
        shape, width = value.shape, self.width
        smaller = -(-shape[1] // first.shape[1]) if len(shape) == 3 else 1
        if smaller > 1:
            kwargs = {"out_channels": width, "stride": smaller, "relu": True}
            value = self.add(find("factorized_reduction"), kwargs, [value], label)
        elif shape[0] != width or policy == "always":
            value = self.add(find("relu_conv_bn"), {"out_channels": width, "kernel_size": 1}, [value], label)
        if policy == "calibrate":
            value = self.add(find("relu_conv_bn"), {"out_channels": width, "kernel_size": 1}, [value], f"{name}_base")
        return value._replace(due=due)

    # -- finishing ---------------------------------------------------------------------------------------------------

    def finish(self, name: str, inputs: tuple[tuple[str, Shape], ...], output: Value) -> Graph:
        """The graph, without the nodes and inputs that nothing reads."""
        needed = {output.name}
        kept = []
        for node in reversed(self.nodes):
            if node.name in needed:
                needed.update(node.inputs)
                kept.append(node)
        used = tuple(known for known in inputs if known[0] in needed)
        return Graph(name, used, tuple(reversed(kept)), output.name, output.shape)


def _override(body: Any, words: Mapping[str, Any]) -> Any:
    if isinstance(body, Op):
        return Op(name=body.name, kwargs=tuple({**dict(body.kwargs), **words}.items()))
    if isinstance(body, CellRef):
        return CellRef(cell=body.cell, channels=words.get("channels", body.channels), stride=words.get("stride", body.stride))
    raise SpaceError("first: changes words of an operation or a cell", hint="Write the first repetition as a layer of its own.")


def _cell_graph(network: _Network, cell: Cell, values: list[Value], width: int, stride: int, missing: int) -> Graph:
    """A cell at a width and stride on inputs of known shapes; the last ``missing`` inputs stand in for absent ones."""
    scope = _Scope(network, width)
    scope.cell = cell
    for index, (known, value) in enumerate(zip(cell.inputs, values, strict=True)):
        absent = index >= len(values) - missing
        stays_raw = absent and known.absent == "raw"
        scope.raw[known.name] = Value(known.name, value.shape, stride)
        if stays_raw:
            scope.names[known.name] = scope.raw[known.name]
    inputs = tuple((known.name, value.shape) for known, value in zip(cell.inputs, values, strict=True))
    start = scope.raw[cell.inputs[0].name]
    if cell.inputs[0].project != "never" and not cell.layers.layers[0].sources:
        start = scope.names.setdefault(cell.inputs[0].name, scope.project(cell.inputs[0].name))
    last = scope.layers(cell.layers, start, "", cell.name)
    return scope.finish(cell.name, inputs, _cell_output(scope, cell, last))


def _cell_output(scope: _Scope, cell: Cell, last: Value) -> Value:
    names = [layer.name for layer in cell.layers.layers]
    if cell.output == "unused":
        states = list(dict.fromkeys(scope.names[n] for n in names if scope.names[n].name not in scope.read))
    else:
        states = [scope.value(name, [last]) for name in cell.output]
    if len(states) > 1 and cell.combine == "concat":
        states = [_match_output(scope, cell, state, last) for state in states]
    return scope.combine(cell.combine, states, "output")


def _match_output(scope: _Scope, cell: Cell, state: Value, last: Value) -> Value:
    """A state of another size than the last layer's, or an input of another width, adapted before the concatenation."""
    if len(state.shape) != 3:
        return state
    stride = -(-state.shape[1] // last.shape[1])
    is_input = state.name in scope.raw
    if stride == 1 and not (is_input and state.shape[0] != last.shape[0]):
        return state
    kwargs = dict(cell.match_output.kwargs) | {"out_channels": scope.width, "stride": stride}
    return scope.add(find(cell.match_output.name), kwargs, [state], f"{state.name.replace('.', '_')}_match")
