"""The whole file: head, operations, cells and blocks, the network, ``build``.

A cell definition becomes one class for all its uses (a second one only where their wiring differs); groups of layers that
are not a chain become classes of their own. Module names are the graph's, so a state_dict of :func:`nas.net.build` fits.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Any

from nas.net.graph import Call, Graph
from nas.net.regroup import regroup
from nas.net.render.forward import forward_lines
from nas.net.render.layout import WIDTH, call, flat, lay_out, prose
from nas.net.render.merge import EMPTY, Different, Expr, Kind, Merged, Param, Piece, merge
from nas.net.render.source import Imported, Sources, names_in
from nas.net.render.tree import check_inputs, construct, dictionary, fill_gaps, module_list, plant
from nas.net.render.units import Classes, Maker, Step, Unit, maker_of
from nas.ops import Sketch

_TAKEN = frozenset({"Network", "OrderedDict", "Tensor", "F", "build", "nn", "torch"})
_STANDARD = (
    Imported("collections", "OrderedDict", "OrderedDict"), Imported("torch", None, "torch"), Imported("torch", "nn", "nn"),
    Imported("torch", "Tensor", "Tensor"),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What the file says about itself: a title, and paragraphs and ``name: value`` lines under it. Any text is safe."""

    title: str
    lines: Sequence[str] = ()


def render(graph: Graph, head: Head) -> str:
    """The network's source. Raises ExportError naming the operation or layer that cannot be written."""
    return _Render(graph).text(head)


@dataclass
class _Class:
    """A class to be written, and the units that it stands for so far."""

    merged: Merged
    units: list[Unit]
    places: list[str] = field(default_factory=list)
    name: str = "Network"
    heads: tuple[str, ...] = ()


class _Render:
    def __init__(self, graph: Graph) -> None:
        self.sources = Sources()
        self.homes: dict[str, str] = {}
        self.names: set[str] = set(_TAKEN)
        self.classes: dict[int, tuple[_Class, int]] = {}
        self.written: list[_Class] = []
        graph = replace(graph, nodes=graph.all_nodes, auxiliary=())
        self.graph = regroup(graph)
        self.reserve(graph)
        self.cells(self.graph, {id(g) for g in _graphs(graph)})

    def reserve(self, graph: Graph) -> None:
        """Operations keep their names."""
        for _, operation in graph.calls():
            maker_of(operation, self.homes)
        for name, module in self.homes.items():
            self.sources.add(module, name)
        self.names |= set(self.sources.definitions)

    # -- classes -----------------------------------------------------------------------------------------------------

    def cells(self, graph: Graph, cells: set[int]) -> None:
        """A class for every inner graph: cells first, then the blocks that may hold them."""
        inner = list({id(g): g for g in _graphs(graph)}.values())
        for definition in dict.fromkeys(g.name for g in inner if id(g) in cells):
            self.define([(g, definition) for g in inner if g.name == definition and id(g) in cells], block=False)
        self.define([(g, g.name) for g in inner if id(g) not in cells], block=True)

    def define(self, graphs: list[tuple[Graph, str]], *, block: bool) -> None:
        """Classes for these uses, as few as their wiring allows."""
        made: list[_Class] = []
        for graph, name in graphs:
            unit = self.unit(graph)
            found = self.place(unit, made, block)
            if found is None:
                made.append(found := _Class(merge([unit], block=block), [unit]))
            found.places.append(name)
            self.classes[id(graph)] = (found, len(found.units) - 1)
        for cls in made:
            cls.name = self.unique(_class_name(cls.places, "Block" if block else "Cell"))
        self.written += made

    def place(self, unit: Unit, made: list[_Class], block: bool) -> _Class | None:
        """The class that can take the unit in, taking it in."""
        for cls in made:
            if block and cls.units[0].skeleton() != unit.skeleton():
                continue
            try:
                merged = merge([*cls.units, unit], block=block)
            except Different:
                continue
            cls.merged = merged
            cls.units.append(unit)
            return cls
        return None

    def unique(self, name: str) -> str:
        choices = (name, *(f"{name}{i}" for i in range(2, 1000)))
        chosen = next(c for c in choices if c not in self.names)
        self.names.add(chosen)
        return chosen

    def unit(self, graph: Graph) -> Unit:
        steps = []
        for node in graph.nodes:
            if isinstance(node.target, Graph):
                cls, use = self.classes[id(node.target)]
                maker = Maker(cls.name, {n: p.default for n, p in cls.merged.params.items()}, cls.merged.inputs)
                steps.append(Step(node.name, maker, cls.merged.arguments(use), node.inputs, node.shape))
            else:
                steps.append(Step(node.name, maker_of(node.target, self.homes), _words(node.target), node.inputs, node.shape))
        return Unit(graph.inputs, tuple(steps), graph.output)

    # -- text --------------------------------------------------------------------------------------------------------

    def text(self, head: Head) -> str:
        network, classified = self.network()
        own = [*map(_class_text, self.written), network, self.build(classified)]
        self.sources.drop_unused_activations(own)
        blocks = [*self.sources.definitions.values(), *own]
        body = "\n\n\n".join(blocks)
        return f"{_head(head)}\n\n{self.imports(body)}\n\n\n{body}\n"

    def network(self) -> tuple[str, bool]:
        """The class ``Network``, and whether its number of classes is an argument."""
        unit = self.unit(self.graph)
        (name, shape), = self.graph.inputs
        channels = Sketch(shape).channels
        merged = merge([unit], given={name: Expr("in_channels", (channels,))})
        classes = merged.params.pop("num_classes", None)
        params = {"num_classes": Param("int", (0,), int(classes.values[0]))} if classes else {}
        merged.params = {**params, "in_channels": Param("int", (channels,), channels)}
        return _class_text(_Class(merged, [unit], heads=self.graph.heads)), classes is not None

    def build(self, classified: bool) -> str:
        words = ["num_classes", "in_channels"] if classified else ["in_channels"]
        given = {"num_classes": _default_classes(self.graph), "in_channels": Sketch(self.graph.inputs[0][1]).channels}
        signature = ", ".join(f"{w}: int = {given[w]}" for w in words)
        return "\n".join([
            f"def build({signature}, pretrained: str | None = None) -> Network:",
            '    """The network, freshly initialised or with the weights in the file ``pretrained`` (such as weights.pt)."""',
            f"    network = Network({', '.join(words)})",
            "    if pretrained is not None:",
            '        network.load_state_dict(torch.load(pretrained, map_location="cpu", weights_only=True))',
            "    return network",
        ])  # fmt: skip

    def imports(self, body: str) -> str:
        """The imports that the body uses, sorted."""
        used = names_in(ast.parse(body))
        known = {**{i.alias: i for i in _STANDARD}, **self.sources.imports}
        needed = [i for alias, i in known.items() if alias in used]
        sections = []
        for ours in (False, True):
            section = [i for i in needed if (i.module.partition(".")[0] == "torch") is ours]
            plain = sorted(i.line for i in section if i.name is None)
            modules = sorted({i.module for i in section if i.name})
            froms = [_from(m, [i for i in section if i.module == m and i.name]) for m in modules]
            sections.append("\n".join([*plain, *(line for lines in froms for line in lines)]))
        return "\n\n".join(["from __future__ import annotations", *filter(None, sections)])


def _graphs(graph: Graph) -> list[Graph]:
    """All inner graphs, innermost first."""
    found: list[Graph] = []
    for node in graph.nodes:
        if isinstance(node.target, Graph):
            found += [*_graphs(node.target), node.target]
    return found


def _words(operation: Call) -> dict[str, Any]:
    """An operation's constructor arguments; its number of classes is marked as such."""
    mark = {"out_features"} if operation.op == "classifier" else {"num_classes"}
    return {word: Classes(value) if word in mark else value for word, value in operation.kwargs.items()}


def _default_classes(graph: Graph) -> int:
    marked = (v for _, c in graph.calls() for v in _words(c).values() if isinstance(v, Classes))
    return int(next(marked, 0))


def _pascal(name: str) -> str:
    """A class's name from a cell's or layer's."""
    text = "".join(part[:1].upper() + part[1:] for part in re.split(r"[^A-Za-z0-9]+", name))
    return text if not text[:1].isdigit() else f"N{text}"


def _class_name(places: list[str], suffix: str) -> str:
    """A class's name from the cell's name, or from the layers where a block stands."""
    stems = [place.partition(".")[0] for place in places]
    stem = _pascal(stems[0] if len(set(stems)) == 1 else _common(stems).rstrip("0123456789_"))
    return stem if stem.endswith(suffix) else stem + suffix


def _common(words: list[str]) -> str:
    """The letters that all words begin with."""
    return "".join(letters[0] for letters in takewhile(lambda letters: len(set(letters)) == 1, zip(*words, strict=False)))


def _from(module: str, names: list[Imported]) -> list[str]:
    """``from module import ...`` lines; a renamed import stands on a line of its own."""
    plain = sorted((i.alias for i in names if i.alias == i.name), key=lambda n: (n.islower(), n))
    lines = [f"from {module} import {', '.join(plain)}"] if plain else []
    return [*lines, *sorted(i.line for i in names if i.alias != i.name)]


def _head(head: Head) -> str:
    lines = prose(head.title) or ["A network."]
    body: list[str] = []
    for line in head.lines:
        body += prose(line) or [""]
    if len(lines) == 1 and not body:
        return f'"""{lines[0]}"""'
    return "\n".join([f'"""{lines[0]}', *lines[1:], *(["", *body] if body else []), '"""'])


def _class_text(cls: _Class) -> str:
    merged = cls.merged
    check_inputs(merged.inputs)
    pieces = [_in_line(piece) for piece in fill_gaps(merged.pieces)]
    root = plant(pieces, (merged.output, *cls.heads))
    base = "Module" if all(n.isidentifier() for n in root.children) else "ModuleList" if root.listed else "ModuleDict"
    defaults = {word: "" if p.default is EMPTY else f" = {p.default}" for word, p in merged.params.items()}
    arguments = [f"{word}: {p.annotation}{defaults[word]}" for word, p in merged.params.items()]
    lines = [f"class {cls.name}(nn.{base}):", f'    """{_describe(cls)}"""', ""]
    lines += lay_out(call("def __init__", ["self", *arguments]), 4, after=" -> None:")
    made, local = [], {}
    for piece in pieces:
        if len(piece.kinds) > 1:
            attribute = base == "Module" and "." not in piece.name
            target = f"self.{piece.name}" if attribute else re.sub(r"\W", "_", f"made_{piece.name}")
            local[piece.name] = target
            made += _conditional(target, piece)
    docs = {name: construct(child, local) for name, child in root.children.items()}
    if base == "Module":
        lines.append("        super().__init__()")
        for name, doc in docs.items():
            inside = [p for p in root.children[name].pieces() if p.name in local]
            for piece in inside:
                lines += _conditional(local[piece.name], piece)
            if local.get(name) != f"self.{name}":
                lines += lay_out(doc, 8, before=f"self.{name} = ")
    else:
        listed = module_list(list(docs.values())) if base == "ModuleList" else dictionary(list(docs), list(docs.values()))
        inner = listed.items if base == "ModuleList" and not isinstance(listed, str) else (listed,)
        lines += made
        lines += lay_out(call("super().__init__", inner), 8)
    gives = "Tensor | tuple[Tensor, ...]" if cls.heads else "Tensor"
    lines += ["", f"    def forward(self, {', '.join(f'{n}: Tensor' for n in merged.inputs)}) -> {gives}:"]
    lines += forward_lines(pieces, root, merged.inputs, (merged.output, *cls.heads), 8)
    return "\n".join(lines)


def _in_line(piece: Piece) -> Piece:
    """A step of two kinds as one expression, where that fits in a line of the container it stands in."""
    if len(piece.kinds) != 2 or any(kind.then for kind in piece.kinds):
        return piece
    first, second = (flat(kind.made) if kind.made is not None else "nn.Identity()" for kind in piece.kinds)
    text = f"{first} if {piece.kinds[0].condition} else {second}"
    indent = 8 + (8 * piece.name.count(".") or len("self."))
    fits = indent + len(piece.name.rpartition(".")[2]) + len('"": ,') + len(text) <= WIDTH
    return piece._replace(kinds=(Kind(text),)) if fits else piece


def _conditional(target: str, piece: Piece) -> list[str]:
    """Statements that make a module in one of several ways."""
    lines = [f"        {target}: nn.Module"]
    for index, kind in enumerate(piece.kinds):
        word = "if" if index == 0 else "elif"
        lines.append(f"        {word} {kind.condition}:" if kind.condition else "        else:")
        lines += lay_out(kind.made if kind.made is not None else call("nn.Identity", ()), 12, before=f"{target} = ")
        if kind.then:
            lines.append(f"            {kind.then}")
    return lines


def _describe(cls: _Class) -> str:
    """A class's one line of description."""
    unit = cls.units[0]
    size, out = unit.inputs[0][1], unit.shapes()[unit.output]
    if cls.name == "Network":
        classes = "num_classes" if "num_classes" in cls.merged.params else ", ".join(map(str, out))
        heads = "; in training also to what the auxiliary heads say" if cls.heads else ""
        return f"Maps images (N, in_channels, {size[1]}, {size[2]}) to (N, {classes}){heads}."
    halved = len(size) == len(out) == 3 and {_ratio(u) for u in cls.units} == {2}
    where = ", at half the height and width" if halved else ""
    return f"Maps {' and '.join(cls.merged.inputs)} to {cls.merged.channels.text} channels{where}."


def _ratio(unit: Unit) -> int:
    """How many times smaller the output is than the first input."""
    return -(-unit.inputs[0][1][1] // unit.shapes()[unit.output][1])
