"""Cells: how inputs are brought to the cell's width, and how its outputs are joined."""

from __future__ import annotations

from nas.errors import ShapeError
from nas.net.graph import Graph
from nas.net.scope import Scope, Unit
from nas.net.steps import Value, make_value
from nas.space.spec import Cell, CellInput, Op

_PROJECT = Op(name="relu_conv_bn", kwargs=(("kernel_size", 1),))
_REDUCE = Op(name="factorized_reduction", kwargs=(("relu", True),))


def lower_cell(unit: Unit, cell: Cell, values: tuple[Value, ...], width: int, stride: int, missing: int) -> Graph:
    """A cell of a width and stride on inputs of known shapes; the last ``missing`` of them stand in for absent ones."""
    scope = Scope(unit, cell.name, width, cell.match)
    pairs = list(zip(cell.inputs, values, strict=True))
    present = len(pairs) - missing
    for index, (known, value) in enumerate(pairs):
        raw = make_value(known.name, value.shape, stride)
        stays_raw = index >= present and known.absent == "raw"
        scope.names[known.name] = raw if stays_raw else _project(scope, known, raw, values[0])
    last = scope.layers(cell.layers, scope.names[cell.inputs[0].name], "")
    inputs = tuple([(known.name, value.shape) for known, value in pairs])
    return scope.finish(cell.name, inputs, _output(scope, cell, last))


def _project(scope: Scope, known: CellInput, value: Value, first: Value) -> Value:
    """A cell input as its policy brings it to the cell's width; its size becomes the first input's."""
    if known.project == "never":
        return value
    name, due, width = f"{known.name}_projection", value.due, scope.width or 0
    smaller = -(-value.shape[1] // first.shape[1]) if len(value.shape) == len(first.shape) == 3 else 1
    if smaller > 1:
        value = scope.put(_REDUCE, width, smaller, value, name)
    elif value.shape[0] != scope.width or known.project == "always":
        value = scope.put(_PROJECT, width, 1, value, name)
    if known.project == "calibrate":
        value = scope.put(_PROJECT, width, 1, value, f"{known.name}_base")
    return make_value(value.name, value.shape, due)


def _output(scope: Scope, cell: Cell, last: Value) -> Value:
    if cell.output == "unused":
        names = [layer.name for layer in cell.layers.layers if layer.name not in scope.read]
    else:
        names = list(cell.output)
    states = tuple(scope.value(name, [last]) for name in names)
    if len(states) > 1 and cell.combine == "concat":
        states = tuple(_match(scope, cell, state, last) for state in states)
    if any(state.due != 1 and state.shape[1:] != (1, 1) for state in states):
        raise ShapeError(f"nothing in cell {cell.name} strides", expected="an operation with a stride on every way")
    return scope.join(str(cell.combine), (), states, f"output.{cell.combine}")


def _match(scope: Scope, cell: Cell, state: Value, last: Value) -> Value:
    """A state of another size than the last layer's, or an input of another width, adapted before the concatenation."""
    if len(state.shape) != 3 or len(last.shape) != 3:
        return state
    stride = -(-state.shape[1] // last.shape[1])
    is_input = any(state.name == known.name for known in cell.inputs)
    if stride == 1 and not (is_input and state.shape[0] != last.shape[0]):
        return state
    return scope.put(cell.match_output, scope.width or 0, stride, state, f"{state.name.replace('.', '_')}_match")
