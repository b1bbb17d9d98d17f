"""The body of a class's ``forward``: one statement a step, loops over repeated cells, variables taken again when free."""

from __future__ import annotations

import re
from collections import Counter
from typing import NamedTuple

from nas.net.render.layout import WIDTH, Doc, bracket, call, flat, lay_out
from nas.net.render.merge import Piece
from nas.net.render.tree import Place

_LABEL = 30
"""Room for the variable of a sum that is to fit in a line."""

_RESERVED = frozenset({"self", "torch", "nn", "F", "math", "cell", "Tensor"})


class _Expression(NamedTuple):
    """Source over variables, and the values that these hold."""

    source: Doc
    reads: tuple[str, ...]


def forward_lines(pieces: list[Piece], root: Place, inputs: tuple[str, ...], outputs: tuple[str, ...], indent: int) -> list[str]:
    """The statements of ``forward``. The outputs after the first are those of auxiliary heads: made in training alone."""
    return _Forward(pieces, root, inputs, outputs, indent).run()


class _Forward:
    def __init__(self, pieces: list[Piece], root: Place, inputs: tuple[str, ...], outputs: tuple[str, ...], indent: int) -> None:
        self.pieces, self.root, self.indent = pieces, root, indent
        self.output, *self.heads = outputs
        self.lines: list[str] = []
        self.left = Counter(name for piece in pieces for name in piece.inputs)
        self.left.update(outputs)
        self.readers: dict[str, Piece] = {name: piece for piece in pieces for name in piece.inputs}
        self.variable: dict[str, str] = {name: name for name in inputs}
        self.held: dict[str, str] = {name: name for name in inputs}
        self.later: dict[str, _Expression] = {}
        self.labels: dict[str, str] = {}
        self.done: set[str] = set()

    def run(self) -> list[str]:
        for piece in self.pieces:
            if piece.name in self.done:
                continue
            if piece.join:
                self.join(piece)
            else:
                self.module(piece)
        if self.heads:
            self.say("if not self.training:")
            self.say(f"    return {self.text(self.output)}")
            self.say(call("", [self.text(name) for name in (self.output, *self.heads)]), "return ")
        elif not any(line[self.indent :].startswith("return ") for line in self.lines):
            self.say(f"return {self.text(self.output)}")
        return self.lines

    # -- steps -------------------------------------------------------------------------------------------------------

    def module(self, piece: Piece) -> None:
        """A module, the whole chain it starts, or the whole loop."""
        place, access = self.root, "self"
        for part in piece.name.split("."):
            access += _step(self.root, place, part)
            place = place.children[part]
            if place.is_chain:
                break
            if self.is_loop(place):
                self.loop(place, access)
                return
        if not place.is_chain:
            self.cell(piece, access)
            return
        inner = list(place.pieces())
        self.done |= {p.name for p in inner}
        for p in inner[1:]:
            self.left[p.inputs[0]] -= 1
        self.labels[place.exit] = place.path
        self.value(place.exit, _Expression(f"{access}({self.text(place.entry)})", self.bases(place.entry)))

    def cell(self, piece: Piece, access: str) -> None:
        """A module of several inputs; one that reads the last two values moves both on."""
        text = f"{access}({', '.join(self.text(name) for name in piece.inputs)})"
        first, second = piece.inputs[0], piece.inputs[-1]
        names = piece.maker.inputs if piece.maker else ()
        at_place = len(piece.inputs) == 2 and tuple(self.variable.get(n) for n in piece.inputs) == names
        if at_place and first != second and self.left[second] == 1 and self.left[first] > 1:
            self.left.subtract(piece.inputs)
            self.say(f"{names[0]}, {names[1]} = {text}, {names[0]}")
            self.hold(names[1], first)
            self.hold(names[0], piece.name)
        else:
            self.value(piece.name, _Expression(text, tuple(b for n in piece.inputs for b in self.bases(n))))

    def join(self, piece: Piece) -> None:
        if piece.join != "cat" and sum(len(self.text(name)) + 3 for name in piece.inputs) + self.indent + _LABEL > WIDTH:
            for name in piece.inputs:
                if name in self.later:
                    self.assign(name, self.later.pop(name))
        parts = [self.text(name) for name in piece.inputs]
        reads = tuple(base for name in piece.inputs for base in self.bases(name))
        source: Doc = f" {piece.join} ".join(parts)
        if piece.join == "cat" and len(parts) > 1:
            source = call("torch.cat", [bracket(parts), f"dim={2 if piece.tokens else 1}"])
        self.value(piece.name, _Expression(source, reads))
        for name in piece.inputs:
            self.later.pop(name, None)

    # -- loops -------------------------------------------------------------------------------------------------------

    def is_loop(self, place: Place) -> bool:
        """Whether numbered cells each read the two values before them, and only the last two are read elsewhere."""
        cells = [child.piece for child in place.children.values()]
        if not place.listed or any(c is None or len(c.inputs) != 2 or len(c.kinds) != 1 for c in cells):
            return False
        pieces = [c for c in cells if c]
        if len(pieces) < 2 or any(p.name in self.done for p in pieces):
            return False
        history = [pieces[0].inputs[1], pieces[0].inputs[0], *(p.name for p in pieces)]
        chained = all(p.inputs == (history[i + 1], history[i]) for i, p in enumerate(pieces))
        inside = Counter(name for p in pieces for name in p.inputs)
        return chained and all(self.left[p.name] == inside[p.name] for p in pieces[:-2])

    def loop(self, place: Place, access: str) -> None:
        pieces = [p for child in place.children.values() if (p := child.piece)]
        maker = pieces[0].maker
        names = maker.inputs if maker and len(maker.inputs) == 2 else ("x", "previous")
        first, second = pieces[0].inputs
        inside = Counter(name for p in pieces for name in p.inputs)
        self.keep({v for v in self.left if self.left[v] > inside[v]} - {p.name for p in pieces}, names)
        self.bring(first, second, names)
        self.left.subtract(inside)
        self.say(f"for cell in {access}:")
        self.say(f"    {names[0]}, {names[1]} = cell({names[0]}, {names[1]}), {names[0]}")
        self.done |= {p.name for p in pieces}
        self.hold(names[0], pieces[-1].name)
        self.hold(names[1], pieces[-2].name)

    def keep(self, needed: set[str], names: tuple[str, ...]) -> None:
        """Values that are read after a loop move out of the variables that it changes."""
        for name in names:
            value = self.held.get(name)
            if value in needed and self.variable.get(value) == name:
                self.assign(value, _Expression(name, ()), avoid=names)

    def bring(self, first: str, second: str, names: tuple[str, ...]) -> None:
        """The loop's two variables set to the values that it starts from."""
        pairs = zip(names, (first, second), strict=True)
        here = tuple(name if self.held.get(name) == value else self.text(value) for name, value in pairs)
        if here == names:
            return
        if first == second:
            left, right = f"{names[0]} = {names[1]}", here[0]
        elif here[0] == names[0]:
            left, right = names[1], here[1]
        elif here[1] == names[1]:
            left, right = names[0], here[0]
        else:
            left, right = f"{names[0]}, {names[1]}", f"{here[0]}, {here[1]}"
        start = " " * self.indent + f"{right} = "
        if self.lines and self.lines[-1].startswith(start):
            self.lines[-1] = f"{' ' * self.indent}{left} = {self.lines[-1].removeprefix(start)}"
        else:
            self.say(f"{left} = {right}")
        self.hold(names[1], second)
        self.hold(names[0], first)

    # -- values and variables ----------------------------------------------------------------------------------------

    def text(self, name: str) -> str:
        return flat(self.later[name].source) if name in self.later else self.variable[name]

    def bases(self, name: str) -> tuple[str, ...]:
        return self.later[name].reads if name in self.later else (name,)

    def value(self, name: str, expression: _Expression) -> None:
        """A new value: returned, written where its one reader joins it, or held in a variable."""
        if name == self.output and self.left[name] == 1 and not self.heads:
            self.say(expression.source, "return ")
            return
        if name in self.heads:
            expression = expression._replace(source=f"{flat(expression.source)} if self.training else None")
        if name in self.heads or (name == self.output and self.left[name] == 1):
            self.assign(name, expression)
            return
        reader = self.readers[name]
        prefix = reader.name.rpartition(".")[0]
        beside = reader.join and (name.startswith(f"{prefix}.") or not prefix)
        if self.left[name] == 1 and beside and flat(expression.source).startswith("self"):
            self.later[name] = expression
        else:
            self.assign(name, expression)

    def assign(self, name: str, expression: _Expression, avoid: tuple[str, ...] = ()) -> None:
        self.left.subtract(expression.reads)
        variable = self.target(name, expression.reads, avoid)
        self.say(expression.source, f"{variable} = ")
        self.hold(variable, name)

    def target(self, name: str, reads: tuple[str, ...], avoid: tuple[str, ...]) -> str:
        """The variable of what it was computed from where that is not read again, else one of its own."""
        name = self.labels.get(name, name)
        own = self.variable[reads[0]] if len(set(reads)) == 1 else ""
        if own and own not in avoid and self.free(own) and (own == "x" or "." not in name):
            return "x" if "x" in self.held and self.free("x") else own
        label = re.sub(r"\W", "_", re.sub(r"\.?(add|multiply|concat)$", "", name)) or "y"
        label = f"y{label}" if label[0].isdigit() else label
        choices = (label, *(f"{label}_{i}" for i in range(2, 1000)))
        return next(c for c in choices if c not in _RESERVED and c not in avoid and self.free(c))

    def free(self, variable: str) -> bool:
        return variable not in self.held or self.left[self.held[variable]] <= 0

    def hold(self, variable: str, value: str) -> None:
        self.held[variable], self.variable[value] = value, variable

    def say(self, source: Doc, before: str = "") -> None:
        """A statement. A sum that is too long for a line is written below itself."""
        lines = lay_out(source, self.indent, before)
        if len(lines[0]) > WIDTH and isinstance(source, str) and " + " in source:
            space = " " * self.indent
            first, *others = source.split(" + ")
            lines = [f"{space}{before}(", f"{space}    {first}", *(f"{space}    + {o}" for o in others), f"{space})"]
        self.lines += lines


def _step(root: Place, place: Place, part: str) -> str:
    """How a module of ``place`` is reached."""
    if place is root and all(name.isidentifier() for name in root.children):
        return f".{part}"
    return f"[{part}]" if place.listed else f'["{part}"]'
