"""Nodes back to plain values: what :mod:`nas.space.parse` reads. ``parse_page(to_page(spec)) == spec``."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import yaml

from nas.space.page import EXPONENT
from nas.space.spec import (
    Cell,
    CellInput,
    CellRef,
    Choice,
    Kwargs,
    Layer,
    Op,
    Parallel,
    Range,
    Repeat,
    Scaling,
    Sequential,
    Spec,
)


def to_page(spec: Spec) -> dict[str, Any]:
    """The page of a spec as plain dicts, lists and scalars."""
    page: dict[str, Any] = {"name": spec.name}
    page |= {word: value for word in ("source", "reference") if (value := getattr(spec, word))}
    page |= {"input": list(spec.input), "num_classes": spec.num_classes}
    if scaling := _changed(spec.scaling, Scaling()):
        page["scaling"] = scaling
    if spec.constraints:
        page["constraints"] = list(spec.constraints)
    if spec.cells:
        page["cells"] = {name: _cell(cell) for name, cell in spec.cells.items()}
    page["network"] = [_layer(layer, named=True) for layer in spec.network.layers]
    if spec.auxiliary:
        page["auxiliary"] = [_layer(layer, named=True) for layer in spec.auxiliary]
    return page


def to_yaml(spec: Spec) -> str:
    """The page of a spec as YAML text."""
    return yaml.dump(to_page(spec), Dumper=_Dumper, sort_keys=False, width=120, default_flow_style=None)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", data, style="'" if EXPONENT.fullmatch(data) else None)


_Dumper.add_representer(str, _Dumper.represent_str)


def _changed(node: Any, default: Any) -> dict[str, Any]:
    words = ((f.name, getattr(node, f.name)) for f in fields(node))
    return {word: _value(value) for word, value in words if value != getattr(default, word)}


def _cell(cell: Cell) -> dict[str, Any]:
    inputs = {i.name: _changed(i, CellInput(name=i.name)) for i in cell.inputs}
    page: dict[str, Any] = {"inputs": inputs if any(inputs.values()) else list(inputs)}
    page["layers"] = [_layer(layer, named=True) for layer in cell.layers.layers]
    page["output"] = cell.output if isinstance(cell.output, str) else [_value(item) for item in cell.output]
    default = Cell(name=cell.name, inputs=cell.inputs, layers=cell.layers)
    page |= {w: _value(getattr(cell, w)) for w in ("combine", "stride") if getattr(cell, w) != getattr(default, w)}
    if cell.match != default.match:
        page["match"] = _node(cell.match) if cell.match else None
    if cell.match_output != default.match_output:
        page["match_output"] = _node(cell.match_output)
    return page


def _layer(layer: Layer, *, named: bool) -> Any:
    node = _node(layer.body)
    words: dict[str, Any] = {"name": layer.name} if named else {}
    if isinstance(layer.sources, Choice):
        words["from"] = _value(layer.sources)
    elif layer.sources:
        sources = [_value(source) for source in layer.sources]
        words["from"] = sources if len(sources) > 1 else sources[0]
    if not layer.scale:
        words["scale"] = False
    return words | _words(node) if words else node


def _numbered(layers: tuple[Layer, ...]) -> list[Any]:
    """A nested list, whose layers are named by their place unless they say otherwise."""
    return [_layer(layer, named=layer.name != str(index)) for index, layer in enumerate(layers)]


def _words(node: Any) -> dict[str, Any]:
    """A node as a mapping, so that a name or source can stand beside it."""
    if isinstance(node, str):
        return {"op": node}
    return {"layers": node} if isinstance(node, list) else node


def _node(node: Any) -> Any:
    match node:
        case Op():
            return {"op": node.name} | _kwargs(node.kwargs) if node.kwargs else node.name
        case CellRef():
            words = {"channels": node.channels, "stride": node.stride}
            return {"cell": node.cell} | {w: _value(v) for w, v in words.items() if v is not None}
        case Sequential():
            return _numbered(node.layers)
        case Parallel():
            page = {"branches": _numbered(node.branches), "combine": _value(node.combine)}
            return page | ({"match": _node(node.match)} if node.match else {})
        case Repeat():
            return _repeat(node)
        case Choice():
            return _choice(node)
        case _:
            raise TypeError(f"not a node: {node!r}")


def _repeat(node: Repeat) -> dict[str, Any]:
    page: dict[str, Any] = {"repeat": _value(node.times)}
    if node.each:
        page["each"] = _words(_node(node.bodies[0]))
    elif len(node.bodies) == 1:
        page |= _words(_node(node.bodies[0]))
    else:
        page["each"] = [_node(body) for body in node.bodies]
    return page | ({"first": _kwargs(node.first)} if node.first else {})


def _kwargs(kwargs: Kwargs) -> dict[str, Any]:
    return {word: _value(value) for word, value in kwargs}


def _choice(choice: Choice) -> dict[str, Any]:
    nodes = any(isinstance(o, Op | CellRef | Sequential | Parallel | Repeat | Choice) for o in choice.options)
    make = _node if nodes else _value
    options = {label: make(option) for label, option in zip(choice.labels, choice.options, strict=True)}
    plain = all(label == option and type(label) is type(option) for label, option in options.items())
    page: dict[str, Any] = {"choice": list(options.values()) if plain else options}
    return page | ({"share": choice.share} if choice.share else {})


def _value(value: Any) -> Any:
    match value:
        case Choice():
            return _choice(value)
        case Range():
            page: dict[str, Any] = {"range": [value.low, value.high]}
            words = {"step": value.step, "log": value.log or None, "share": value.share}
            return page | {w: v for w, v in words.items() if v is not None}
        case tuple():
            return [_value(item) for item in value]
        case _:
            return value
