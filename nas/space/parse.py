"""The grammar: a page's plain values to typed nodes. docs/space-language.md describes every word."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from nas.errors import SpaceError, nearest
from nas.ops import OPS, find, resolve
from nas.ops.catalogue import FROM_CONTEXT
from nas.space.page import Page, Row, read_file, read_page
from nas.space.spec import (
    Cell,
    CellInput,
    CellRef,
    Choice,
    Hole,
    Kwargs,
    Layer,
    Node,
    Op,
    Parallel,
    Range,
    Repeat,
    Scaling,
    Sequential,
    Spec,
)

PAGE_WORDS = ("name", "source", "reference", "note", "input", "num_classes", "scaling", "constraints", "cells", "network", "variants")
CELL_WORDS = ("inputs", "layers", "blocks", "pick", "distinct", "ops", "combine", "output", "match", "match_output", "stride", "like")
NODE_WORDS = ("op", "cell", "layers", "branches", "choice")
LAYER_WORDS = ("name", "from", "scale")
REPEAT_WORDS = ("repeat", "first", "each")
CHOICE_WORDS = ("choice", "share")
RANGE_WORDS = ("range", "step", "log", "share")
SCALING_WORDS = ("width", "depth", "resolution", "alpha", "beta", "gamma", "phi", "divisor")
INPUT_WORDS = ("project", "absent")
PROJECT = ("never", "when_different", "always", "calibrate")
ABSENT = ("project", "raw")

_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


def parse_file(path: Path) -> Spec:
    """The spec in a YAML file. Raises SpaceError with file, line and what to write instead."""
    return parse_page(read_file(path))


def parse_text(text: str, file: str = "<text>") -> Spec:
    """The spec in a YAML text."""
    return parse_page(read_page(text, file))


def parse_page(page: Mapping[str, Any]) -> Spec:
    """The spec of a page's values (a plain dict will do). Its ``variants`` are for :mod:`nas.space.family`."""
    where = _where(page, "")
    _known(page, PAGE_WORDS, "page", where)
    name = _text(page, "name", where, required=True)
    cells: dict[str, Cell] = {}
    pages = _mapping(page.get("cells", {}), "cells", where)
    for cell_name, words in pages.items():
        _name(cell_name, "a cell's name", where)
        cells[cell_name] = _cell(cell_name, _inherit(cell_name, words, pages, where), _Scope(cells), where)
    if "network" not in page:
        raise SpaceError("the page has no network", where=where or None, expected="network: a list of layers")
    scope = _Scope(cells=cells)
    network = Sequential(layers=_layers(page["network"], scope, where, named=True))
    return Spec(
        name=name, network=network, cells=cells, where=where,
        input=_input(page.get("input", (3, 32, 32)), where),
        num_classes=_integer(page.get("num_classes", 10), "num_classes", where),
        scaling=_scaling(_mapping(page.get("scaling", {}), "scaling", where)),
        constraints=tuple(str(c) for c in _list(page.get("constraints", []), "constraints", where)),
        source=_text(page, "source", where), reference=_text(page, "reference", where),
    )  # fmt: skip


class _Scope:
    """What a layer may refer to: the cells, and the names of layers and cell inputs before it."""

    def __init__(self, cells: Mapping[str, Cell], names: Iterable[str] = ()) -> None:
        self.cells = cells
        self.names = list(names)


def _inherit(name: str, words: Any, pages: Mapping[str, Any], where: str) -> Page:
    """A cell's words, with those of the cell it is ``like`` under them."""
    own = _mapping(words, f"cell {name}", where)
    seen = [name]
    merged = Page(own)
    merged.where = _where(own, where)
    while "like" in merged:
        parent = merged.pop("like")
        if parent not in pages or parent in seen:
            raise SpaceError(f"cell {name} is like an unknown cell" if parent not in pages else f"cell {name} is like itself",
                             where=merged.where, got=str(parent), hint=nearest(str(parent), set(pages) - {name}))  # fmt: skip
        seen.append(parent)
        under = _mapping(pages[parent], f"cell {parent}", where)
        merged.update({k: v for k, v in under.items() if k not in merged})
    return merged


def _cell(name: str, words: Page, scope: _Scope, where: str) -> Cell:
    """A cell; its layers may use the cells that are written before it."""
    where = words.where or where
    _known(words, CELL_WORDS, f"cell {name}", where)
    inputs = _cell_inputs(words.get("inputs", ["x"]), where)
    names = [i.name for i in inputs]
    scope = _Scope(dict(scope.cells), names)
    if "blocks" in words:
        layers = _blocks(words, scope, where)
    elif "layers" in words:
        layers = _layers(words["layers"], scope, where, named=True)
    else:
        raise SpaceError(f"cell {name} has no layers", where=where, expected="layers: or blocks:")
    output = words.get("output", "unused")
    if output != "unused":
        known = [*names, *(layer.name for layer in layers)]
        output = tuple(_source(item, known, where) for item in _list(output, "output", where))
        if not output:
            raise SpaceError(f"cell {name} has an empty output", where=where, expected="names of layers, or unused")
    combine = words.get("combine", "concat") if "blocks" not in words else "concat"
    defaults = Cell(name=name, inputs=inputs, layers=Sequential(layers=layers))
    return Cell(
        name=name, inputs=inputs, layers=Sequential(layers=layers), output=output,
        combine=_combine(combine, where),
        match=_plain_op(words["match"], where) if words.get("match", "") else None if "match" in words else defaults.match,
        match_output=_plain_op(words["match_output"], where) if "match_output" in words else defaults.match_output,
        stride=_integer(words.get("stride", 1), "stride", where),
    )  # fmt: skip


def _cell_inputs(value: Any, where: str) -> tuple[CellInput, ...]:
    pairs = value.items() if isinstance(value, Mapping) else [(item, {}) for item in _list(value, "inputs", where)]
    inputs = []
    for name, words in pairs:
        _name(name, "an input's name", where)
        words = _mapping(words or {}, f"input {name}", where)
        _known(words, INPUT_WORDS, f"input {name}", where)
        project, absent = words.get("project", "never"), words.get("absent", "project")
        _one_of(project, PROJECT, "project", where)
        _one_of(absent, ABSENT, "absent", where)
        inputs.append(CellInput(name=name, project=project, absent=absent))
    if not inputs:
        raise SpaceError("a cell has at least one input", where=where, expected="inputs: names")
    return tuple(inputs)


def _blocks(words: Page, scope: _Scope, where: str) -> tuple[Layer, ...]:
    """``blocks: B, pick: k``: B blocks b0, b1, ..., each k operations on earlier states, combined."""
    blocks, pick = _integer(words["blocks"], "blocks", where), _integer(words.get("pick", 2), "pick", where)
    if "ops" not in words:
        raise SpaceError("blocks need operations", where=where, expected="ops: {choice: [...]}")
    combine = _combine(words.get("combine", "add"), where)
    layers = []
    for block in range(blocks):
        states = [*scope.names, *(f"b{i}" for i in range(block))]
        sources: Any
        if words.get("distinct", False):
            sources = _subsets(states, min(pick, len(states)), where)
            count = min(pick, len(states))
        else:
            count = pick
            sources = tuple(Choice(options=tuple(states), labels=tuple(states), where=where) for _ in range(count))
        branches = tuple(
            Layer(name=str(i), body=_body_choice(words["ops"], _inner(scope), where), where=where,
                  sources=() if isinstance(sources, Choice) else (sources[i],))
            for i in range(count)
        )  # fmt: skip
        layers.append(Layer(name=f"b{block}", body=Parallel(branches=branches, combine=combine), where=where,
                            sources=sources if isinstance(sources, Choice) else ()))  # fmt: skip
    return tuple(layers)


def _subsets(states: list[str], count: int, where: str) -> Choice:
    from itertools import combinations

    options = tuple(combinations(states, count))
    return Choice(options=options, labels=tuple(",".join(option) for option in options), where=where)


def _body_choice(value: Any, scope: _Scope, where: str) -> Node | Choice:
    """A node, or a choice of nodes: what stands where an operation is expected."""
    if isinstance(value, Mapping) and "choice" in value and not set(value) - set(CHOICE_WORDS):
        return _node_choice(value, scope, _where(value, where), {})
    return _node(value, scope, where)


def _layers(value: Any, scope: _Scope, where: str, *, named: bool = False) -> tuple[Layer, ...]:
    """A list of layers. In a network or a cell they get names of their own; in nested lists they are numbered."""
    rows = _list(value, "a list of layers", where)
    layers: list[Layer] = []
    taken: set[str] = set(scope.names)
    for index, row in enumerate(rows):
        layer = _layer(row, scope, _where(row, _where(rows, where)), default=None if named else str(index), taken=taken)
        taken.add(layer.name)
        if named:
            scope.names.append(layer.name)
        layers.append(layer)
    return tuple(layers)


def _layer(value: Any, scope: _Scope, where: str, *, default: str | None, taken: set[str]) -> Layer:
    words: Mapping[str, Any] = value if isinstance(value, Mapping) else {}
    name = words.get("name", default)
    if name is None:
        name = _free_name(_natural_name(value), taken)
    elif "name" in words:
        _name(name, "a layer's name", where)
        if name in taken:
            raise SpaceError("two layers of one name", where=where, got=name, hint="Names are given once in a list.")
    scale = words.get("scale", True)
    if not isinstance(scale, bool):
        raise SpaceError("scale is a switch", where=where, expected="true or false", got=str(scale))
    sources: Any = ()
    if "from" in words:
        sources = _sources(words["from"], scope.names, where)
    rest: Any = value
    if words:
        rest = Page({k: v for k, v in words.items() if k not in LAYER_WORDS})
        rest.where = where
    return Layer(name=name, body=_node(rest, scope, where), sources=sources, scale=scale, where=where)


def row_names(rows: Iterable[Any]) -> list[str]:
    """The names that the layers of a network or cell get, from the values they are written with."""
    names: list[str] = []
    for row in rows:
        own = row.get("name") if isinstance(row, Mapping) else None
        names.append(own if isinstance(own, str) else _free_name(_natural_name(row), set(names)))
    return names


def _natural_name(value: Any) -> str:
    if isinstance(value, str):
        return value if _NAME.fullmatch(value) else "layer"
    if isinstance(value, Mapping):
        for word in ("op", "cell"):
            if isinstance(value.get(word), str):
                return str(value[word])
        for word in ("repeat", "branches", "layers", "choice"):
            if word in value:
                return word
    return "layers"


def _free_name(name: str, taken: set[str]) -> str:
    return next(n for n in (name, *(f"{name}_{i}" for i in range(2, len(taken) + 3))) if n not in taken)


def _sources(value: Any, known: list[str], where: str) -> Any:
    if isinstance(value, Mapping) and isinstance(value.get("choice"), Mapping | list):
        options = value["choice"]
        if isinstance(options, Mapping) and set(options) == {"subset", "of"}:
            states = [_source(item, known, where) for item in _list(options["of"], "of", where)]
            return _subsets([str(s) for s in states], _integer(options["subset"], "subset", where), where)
    items: list[Any] = []
    for item in value if isinstance(value, list | tuple) else [value]:
        if isinstance(item, Mapping) and "optional" in item:
            _known(item, ("optional",), "optional sources", where)
            items += [{"choice": [name, "none"]} for name in _list(item["optional"], "optional", where)]
        else:
            items.append(item)
    return tuple(_hole_or(item, where, lambda option: _source(option, [*known, "none"], where)) for item in items)


def _source(value: Any, known: list[str], where: str) -> Any:
    if isinstance(value, Mapping):
        return _hole(value, where, lambda option: _source(option, [*known, "none"], where))
    if isinstance(value, int) and not isinstance(value, bool) and value < 0:
        return value
    if value not in known:
        raise SpaceError("unknown source", where=where, expected="an earlier layer, an input, or -k for k layers back",
                         got=str(value), hint=nearest(str(value), known))  # fmt: skip
    return value


def _node(value: Any, scope: _Scope, where: str) -> Any:
    """The node that a word, a list or a mapping says."""
    if isinstance(value, str):
        return _op_word(value, {}, where)
    if isinstance(value, list | tuple):
        return Sequential(layers=_layers(value, _inner(scope), where))
    if not isinstance(value, Mapping):
        raise SpaceError("not a layer", where=where, expected="an operation's name, a list, or a mapping", got=str(value))
    if "repeat" in value:
        return _repeat(value, scope, where)
    kinds = [word for word in NODE_WORDS if word in value]
    if len(kinds) != 1:
        known = (*NODE_WORDS, *REPEAT_WORDS, *LAYER_WORDS)
        odd = next((w for w in value if w not in known), None)
        raise SpaceError("a layer is exactly one thing", where=where, expected="one of " + ", ".join((*NODE_WORDS, "repeat")),
                         got=", ".join(kinds) or ", ".join(map(str, value)) or "nothing",
                         hint=nearest(str(odd), known) if odd and not kinds else None)  # fmt: skip
    kind = kinds[0]
    rest = {k: v for k, v in value.items() if k != kind}
    match kind:
        case "op" if isinstance(value["op"], Mapping):
            return _node_choice(value["op"], scope, where, rest)
        case "op":
            return _op_word(value["op"], rest, where)
        case "cell":
            return _cell_ref(value["cell"], rest, scope, where)
        case "choice":
            _known(value, CHOICE_WORDS, "choice", where)
            return _node_choice(value, scope, where, {})
        case "layers":
            _known(value, ("layers",), "list of layers", where)
            return Sequential(layers=_layers(value["layers"], _inner(scope), where))
        case _:
            return _parallel(value, scope, where)


def _inner(scope: _Scope) -> _Scope:
    return _Scope(scope.cells, scope.names)


def _parallel(value: Mapping[str, Any], scope: _Scope, where: str) -> Parallel:
    _known(value, ("branches", "combine", "match"), "layer with branches", where)
    branches = _layers(value["branches"], _inner(scope), where)
    if not branches:
        raise SpaceError("no branches", where=where, expected="at least one branch")
    if "combine" not in value:
        raise SpaceError("branches are joined by an operation", where=where, expected="combine: add, or combine: concat")
    match = _plain_op(value["match"], where) if "match" in value else None
    return Parallel(branches=branches, combine=_combine(value["combine"], where), match=match)


def _combine(value: Any, where: str) -> Any:
    def check(name: Any) -> str:
        combines = [n for n, s in OPS.items() if s.inputs is None]
        if name not in combines:
            raise SpaceError("not an operation that joins branches", where=where, got=str(name),
                             expected="one of " + ", ".join(combines))  # fmt: skip
        return str(name)

    return _hole_or(value, where, check)


def _repeat(value: Mapping[str, Any], scope: _Scope, where: str) -> Repeat:
    times = _hole_or(value["repeat"], where, lambda n: _integer(n, "repeat", where, least=0))
    rest = Page({k: v for k, v in value.items() if k not in REPEAT_WORDS})
    rest.where = where
    each = "each" in value
    if each and rest:
        raise SpaceError("a repeat has one body", where=where, expected="its words under each:, or beside repeat:",
                         got=", ".join(rest))  # fmt: skip
    body = value["each"] if each else rest
    decided = each and isinstance(body, list | tuple)
    bodies = tuple(_node(b, scope, where) for b in body) if decided else (_node(body, scope, where),)
    if decided and (not isinstance(times, int) or len(bodies) != times):
        raise SpaceError("each: [...] lists one body a repetition", where=where, expected=f"{value['repeat']} bodies",
                         got=len(bodies))  # fmt: skip
    first: Kwargs = ()
    if "first" in value:
        words = _mapping(value["first"], "first", where)
        for node in _leaves(bodies):
            own = [*find(node.name).defaults, *find(node.name).required] if isinstance(node, Op) else ["channels", "stride"]
            _known(words, [*own, "from"], "first repetition", where)
        first = tuple((w, _sources(v, scope.names, where) if w == "from" else _hole_or(v, where, _plain))
                      for w, v in words.items())  # fmt: skip
    return Repeat(bodies=bodies, times=times, first=first, each=each and not decided)


def _leaves(bodies: Iterable[Any]) -> Iterable[Op | CellRef]:
    for body in bodies:
        if isinstance(body, Choice):
            yield from _leaves(body.options)
        elif isinstance(body, Op | CellRef):
            yield body


def _cell_ref(name: Any, words: Mapping[str, Any], scope: _Scope, where: str) -> CellRef:
    if name not in scope.cells:
        raise SpaceError("unknown cell", where=where, expected="one of " + ", ".join(scope.cells or ["(none is defined)"]),
                         got=str(name), hint=nearest(str(name), scope.cells))  # fmt: skip
    _known(words, ("channels", "stride"), f"use of cell {name}", where)
    numbers = {w: _hole_or(v, where, lambda n, w=w: _integer(n, w, where)) for w, v in words.items()}
    return CellRef(cell=name, channels=numbers.get("channels"), stride=numbers.get("stride"))


def _op_word(word: Any, kwargs: Mapping[str, Any], where: str) -> Op:
    if not isinstance(word, str):
        raise SpaceError("not an operation", where=where, expected="its name", got=str(word))
    try:
        name, implied = resolve(word)
    except SpaceError as error:
        raise error.at(where) from None
    spec = find(name)
    known = {**spec.defaults, **dict.fromkeys(spec.required)}
    _known(kwargs, list(known), f"operation {name}", where)
    merged = {**implied, **kwargs}
    missing = [w for w in spec.required if w not in merged and w not in FROM_CONTEXT]
    if missing:
        raise SpaceError(f"operation {name} needs {' and '.join(missing)}", where=where)
    words = ((w, _hole_or(v, where, lambda o, w=w: _typed(o, w, spec.defaults.get(w), where))) for w, v in merged.items())
    return Op(name=name, kwargs=tuple(words))


def _plain_op(value: Any, where: str) -> Op:
    node = _node(value, _Scope({}), where)
    if not isinstance(node, Op):
        raise SpaceError("expected one operation", where=where, got=str(value))
    return node


def _typed(value: Any, word: str, default: Any, where: str) -> Any:
    """The value, checked against the kind of the default that it replaces."""
    value = _plain(value)
    kinds: dict[type, tuple[tuple[type, ...], str]] = {
        bool: ((bool,), "true or false"), int: ((int, tuple), "a whole number"),
        float: ((int, float), "a number"), str: ((str,), "a word"),
    }  # fmt: skip
    if default is None or value is None or type(default) not in kinds:
        return value
    allowed, expected = kinds[type(default)]
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        raise SpaceError(f"{word} has the wrong kind of value", where=where, expected=expected, got=value)
    return value


def _node_choice(value: Mapping[str, Any], scope: _Scope, where: str, common: Mapping[str, Any]) -> Choice:
    """A choice of nodes; ``common`` words go to every option that is an operation."""

    def option(item: Any) -> Any:
        if not common:
            return _node(item, scope, where)
        own = {"op": item} if isinstance(item, str) else _mapping(item, "an option", where)
        return _node(Page({**common, **own}), scope, where)

    return _choice(value, where, option)


def _choice(value: Mapping[str, Any], where: str, option: Callable[[Any], Any]) -> Choice:
    _known(value, CHOICE_WORDS, "choice", where)
    listed = value["choice"]
    if isinstance(listed, Mapping):
        labels, items = list(listed), list(listed.values())
    else:
        items = _list(listed, "choice", where)
        labels = [_label(item, where) for item in items]
    if not items:
        raise SpaceError("a choice without options", where=where, expected="choice: [a, b, ...]")
    for index, label in enumerate(labels):
        if label in labels[:index]:
            raise SpaceError("two options of one label", where=where, got=str(label),
                             hint="Name them: choice: {label: option, ...}.")  # fmt: skip
    options = tuple(option(item) for item in items)
    return Choice(options=options, labels=tuple(labels), share=_share(value, where), where=_where(value, where))


def _label(item: Any, where: str) -> Any:
    if isinstance(item, Mapping):
        name = item.get("op", item.get("cell"))
        if isinstance(name, str):
            return name
        raise SpaceError("this option needs a label", where=where, expected="choice: {label: option, ...}")
    if isinstance(item, list | tuple):
        if all(not isinstance(part, list | tuple | Mapping) for part in item):
            return ",".join(map(str, item))
        raise SpaceError("this option needs a label", where=where, expected="choice: {label: option, ...}")
    return item


def _hole_or(value: Any, where: str, check: Callable[[Any], Any]) -> Any:
    """A hole, or a checked plain value."""
    return _hole(value, where, check) if isinstance(value, Mapping) else check(value)


def _hole(value: Mapping[str, Any], where: str, check: Callable[[Any], Any]) -> Hole:
    where = _where(value, where)
    if "choice" in value:
        return _choice(value, where, check)
    if "range" not in value:
        raise SpaceError("not a value", where=where, expected="a value, {choice: [...]} or {range: [low, high]}",
                         got=", ".join(map(str, value)), hint=nearest(str(next(iter(value), "")), ("choice", "range")))  # fmt: skip
    _known(value, RANGE_WORDS, "range", where)
    ends = _list(value["range"], "range", where)
    numbers = [*ends, *([value["step"]] if value.get("step") is not None else [])]
    if len(ends) != 2 or any(isinstance(n, bool) or not isinstance(n, int | float) for n in numbers):
        raise SpaceError("a range has two ends", where=where, expected="range: [low, high], step: number", got=str(ends))
    low, high, step, log = ends[0], ends[1], value.get("step"), value.get("log", False)
    if low > high:
        raise SpaceError("the range is upside down", where=where, expected=f"range: [{high}, {low}]", got=f"[{low}, {high}]")
    if (step is not None and step <= 0) or (log and low <= 0):
        raise SpaceError("a step is above 0, and so is the low end of a log range", where=where, got=str(dict(value)))
    hole = Range(low=low, high=high, step=step, log=bool(log), share=_share(value, where), where=where)
    check(low)
    return hole


def _share(value: Mapping[str, Any], where: str) -> str | None:
    share = value.get("share")
    if share is not None:
        _name(share, "a shared decision's name", where)
    return share


def _scaling(words: Mapping[str, Any]) -> Scaling:
    where = _where(words, "")
    _known(words, SCALING_WORDS, "scaling", where)

    def number(value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise SpaceError("scaling takes numbers", where=where, expected="a number of 0 or more", got=str(value))
        return value

    return Scaling(**{w: _hole_or(v, where, number) for w, v in words.items()})


def _plain(value: Any) -> Any:
    """Lists become tuples, so that values are hashable."""
    return tuple(_plain(item) for item in value) if isinstance(value, list | tuple) else value


def _input(value: Any, where: str) -> tuple[int, int, int]:
    if not isinstance(value, list | tuple) or len(value) != 3 or any(not isinstance(n, int) or n < 1 for n in value):
        raise SpaceError("input is the image's shape", where=where, expected="[channels, height, width]", got=str(value))
    return value[0], value[1], value[2]


def _where(value: Any, default: str) -> str:
    return (value.where or default) if isinstance(value, Page | Row) else default


def _known(words: Mapping[str, Any], known: Iterable[str], what: str, where: str) -> None:
    names = list(known)
    for word in words:
        if word not in names:
            raise SpaceError(f"unknown word in the {what}", where=where or None, expected="one of " + ", ".join(names),
                             got=str(word), hint=nearest(str(word), names))  # fmt: skip


def _one_of(value: Any, known: tuple[str, ...], what: str, where: str) -> None:
    if value not in known:
        raise SpaceError(f"unknown {what}", where=where, expected="one of " + ", ".join(known), got=str(value),
                         hint=nearest(str(value), known))  # fmt: skip


def _name(value: Any, what: str, where: str) -> None:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise SpaceError(f"{what} is a word", where=where, expected="letters, digits and _", got=str(value))


def _text(page: Mapping[str, Any], word: str, where: str, *, required: bool = False) -> str:
    value = page.get(word, "")
    if not isinstance(value, str) or (required and not value):
        raise SpaceError(f"{word} is text", where=where or None, expected=f"{word}: text", got=str(value))
    return value


def _integer(value: Any, word: str, where: str, *, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise SpaceError(f"{word} is a whole number", where=where, expected=f"{least} or more", got=str(value))
    return value


def _mapping(value: Any, what: str, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise SpaceError(f"{what} is a mapping", where=where, expected="key: value lines", got=str(value))
    return value


def _list(value: Any, what: str, where: str) -> Any:
    if not isinstance(value, list | tuple):
        raise SpaceError(f"{what} is a list", where=where, expected="[...]", got=str(value))
    return value
