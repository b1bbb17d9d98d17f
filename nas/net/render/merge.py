"""Several uses of one definition as one class: what is equal is written out, what differs becomes a constructor argument.

Channels are followed symbolically along the wiring, so that a class says ``SepConv(prev_channels, channels)`` and not numbers.
Where a step is missing in some uses (a projection that a size did not need) the class decides by its arguments; the value
then passes unchanged. Uses whose wiring differs more than that do not merge.
"""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from nas.net.render.layout import Doc, call, literal
from nas.net.render.units import Classes, Maker, Step, Unit
from nas.ops import Sketch

EMPTY = inspect.Parameter.empty
_SOURCE_WORDS = frozenset({"in_channels", "in_features", "num_features", "num_channels", "normalized_shape"})
_SIZE_WORDS = frozenset({"out_channels", "out_features", "hidden_channels", "channels"})
_POSITIONAL = _SOURCE_WORDS | frozenset({"out_channels", "out_features", "channels", "num_classes", "kernel_size"})


class Different(Exception):
    """These uses cannot share one class."""


class Expr(NamedTuple):
    """A number of channels: how it is written, and what it is in every use."""

    text: str
    values: tuple[int, ...]


class Param(NamedTuple):
    """A constructor argument: its annotation, its value in every use, and its default (``inspect``'s empty: none)."""

    annotation: str
    values: tuple[Any, ...]
    default: Any = EMPTY


class Kind(NamedTuple):
    """One way to make a step: the call (None: the value passes), when, and a size that is another afterwards."""

    made: Doc | None
    condition: str = ""
    then: str = ""


class Piece(NamedTuple):
    """A step of the merged class. Several kinds are tried in order, the last without a condition."""

    name: str
    inputs: tuple[str, ...]
    join: str | None
    kinds: tuple[Kind, ...]
    tokens: bool = False
    maker: Maker | None = None


@dataclass
class Merged:
    """A class to be written: its arguments, steps, and the channels of its output."""

    inputs: tuple[str, ...]
    params: dict[str, Param] = field(default_factory=dict)
    pieces: list[Piece] = field(default_factory=list)
    output: str = ""
    channels: Expr = field(default_factory=lambda: Expr("", ()))

    def arguments(self, use: int) -> dict[str, Any]:
        """The constructor's arguments in one use."""
        return {name: param.values[use] for name, param in self.params.items()}


def merge(units: Sequence[Unit], *, given: Mapping[str, Expr] | None = None, block: bool = False) -> Merged:
    """One class for all units. ``given`` names the channels of inputs (the network's own arguments).

    Raises Different where the units' structures do not allow it.
    """
    return _Merge(units, given, block).run()


class _Merge:
    def __init__(self, units: Sequence[Unit], given: Mapping[str, Expr] | None, block: bool) -> None:
        if len({tuple(name for name, _ in unit.inputs) for unit in units}) > 1:
            raise Different
        self.units = units
        self.uses = range(len(units))
        self.steps: list[dict[str, Step]] = [{s.name: s for s in unit.steps} for unit in units]
        self.shapes = [unit.shapes() for unit in units]
        self.inputs = tuple(name for name, _ in units[0].inputs)
        self.order = _union(units)
        self.reads: dict[str, tuple[str, ...]] = {}
        self.output = ""
        self.wire()
        self.given = given
        self.params: dict[str, Param] = {}
        self.channels: dict[str, Expr] = {}
        if given is not None:
            self.channels |= given
        self.width = self.widths(block)

    # -- wiring ------------------------------------------------------------------------------------------------------

    def wire(self) -> None:
        """The one wiring of all units, in which a missing step passes its input on."""
        known = list(self.inputs)
        for name in self.order:
            steps = [self.steps[u].get(name) for u in self.uses]
            present = [s for s in steps if s]
            if len({len(s.inputs) for s in present}) > 1 or len({s.join for s in present}) > 1:
                raise Different
            if len(present) < len(steps) and (len(present[0].inputs) != 1 or present[0].join):
                raise Different
            self.reads[name] = tuple(
                self.common([s and s.inputs[position] for s in steps], known) for position in range(len(present[0].inputs))
            )
            known.append(name)
        self.output = self.common([unit.output for unit in self.units], known)

    def common(self, actual: list[str | None], known: list[str]) -> str:
        """The latest known value that is ``actual[u]`` in every unit u that reads it."""
        for name in reversed(known):
            if all(a is None or self.resolve(name, u) == a for u, a in enumerate(actual)):
                return name
        raise Different

    def resolve(self, name: str, use: int) -> str:
        """The step or input whose value stands under ``name`` in a use."""
        while name not in self.steps[use] and name not in self.inputs:
            name = self.reads[name][0]
        return name

    def values(self, name: str) -> tuple[int, ...]:
        """The channels of a value in every use."""
        return tuple(Sketch(self.shapes[u][self.resolve(name, u)]).channels for u in self.uses)

    # -- sizes -------------------------------------------------------------------------------------------------------

    def widths(self, block: bool) -> Expr | None:
        """The argument ``channels``: the output channels that most steps have."""
        if self.given is not None:
            return None
        votes: Counter[tuple[int, ...]] = Counter()
        for name in self.order:
            steps = [self.steps[u].get(name) for u in self.uses]
            word = next((w for w in ("out_channels", "channels") if all(s and w in s.kwargs for s in steps)), None)
            if word:
                votes[tuple(s.kwargs[word] for s in steps if s)] += 1
        for name in self.inputs:
            word = f"{name}_channels" if len(self.inputs) > 1 else "in_channels"
            self.channels[name] = Expr(word, self.values(name))
        if not votes:
            return None
        width = Expr("channels", votes.most_common(1)[0][0])
        if block:
            self.channels |= {n: width for n, e in self.channels.items() if e.values == width.values}
        return width

    def use(self, expr: Expr) -> str:
        """The text of channels, whose argument is now needed."""
        for word in re.findall(r"[A-Za-z_]\w*", expr.text):
            if word not in self.params and self.given is None:
                whole = next(e for e in (self.width, *self.channels.values()) if e and e.text == word)
                self.params[word] = Param("int", whole.values)
        return expr.text

    def size(self, values: Mapping[int, int]) -> Expr | None:
        """A size as the width, or a multiple or share of it."""
        if self.width is None:
            return None
        pairs = [(value, self.width.values[u]) for u, value in values.items()]
        value, width = pairs[0]
        every = self.width.values
        if all(v == w for v, w in pairs):
            return self.width
        if len(set(every)) == 1:
            return None
        if value % width == 0 and all(v == value // width * w for v, w in pairs):
            return Expr(f"{value // width} * channels", tuple(value // width * w for w in every))
        if width % value == 0 and all(v * (width // value) == w for v, w in pairs):
            return Expr(f"channels // {width // value}", tuple(w // (width // value) for w in every))
        return None

    # -- steps -------------------------------------------------------------------------------------------------------

    def run(self) -> Merged:
        pieces = [self.piece(name) for name in self.order]
        order = [w for w in (*(e.text for e in self.channels.values()), "channels") if w in self.params]
        order += [w for w in self.params if w not in order and self.params[w].default is EMPTY]
        order += [w for w in self.params if w not in order]
        params = {word: self.params[word] for word in order}
        return Merged(self.inputs, params, self.adapted_first(pieces), self.output, self.channels[self.output])

    def adapted_first(self, pieces: list[Piece]) -> list[Piece]:
        """The steps with those that only adapt an input in front."""
        adapted = set(self.inputs)
        for piece in pieces:
            if piece.name.endswith(("_projection", "_base")) and "." not in piece.name and adapted.issuperset(piece.inputs):
                adapted.add(piece.name)
        return sorted(pieces, key=lambda piece: piece.name not in adapted)

    def piece(self, name: str) -> Piece:
        steps = {u: s for u in self.uses if (s := self.steps[u].get(name))}
        first = next(iter(steps.values()))
        sources = [self.channels[read] for read in self.reads[name]]
        if first.join:
            self.channels[name] = _sum(sources) if first.join == "cat" else sources[0]
            return Piece(name, self.reads[name], first.join, (), tokens=len(first.shape) == 2)
        if first.maker.name == "Projection" and all(s.maker.name == "Projection" for s in steps.values()):
            steps = self.with_skips(steps, sources[0])
        makers = list(dict.fromkeys(s.maker.name for s in steps.values()))
        groups = [{u: s for u, s in steps.items() if s.maker.name == maker} for maker in makers]
        groups.sort(key=lambda group: (next(iter(group.values())).maker.name != "FactorizedReduction", len(group)))
        calls = [self.call(name, group, sources) for group in groups]
        if len(groups) == 1 and len(steps) == len(self.units):
            made, out = calls[0]
            self.channels[name] = self.after(name, out, sources[0])
            return Piece(name, self.reads[name], None, (Kind(made),), maker=first.maker)
        return self.conditional(name, groups, calls, sources[0])

    def with_skips(self, steps: Mapping[int, Step], source: Expr) -> dict[int, Step]:
        """Projections where some uses have none: there a projection between equal shapes, which passes its input."""
        model = next(iter(steps.values()))
        full = {}
        for u in self.uses:
            same = {"in_channels": source.values[u], "out_channels": source.values[u], "stride": 1}
            full[u] = steps.get(u) or model._replace(kwargs={**model.kwargs, **same})
        return full

    def conditional(self, name: str, groups: list[dict[int, Step]], calls: list[tuple[Doc, Expr | None]], source: Expr) -> Piece:
        """A step that is made in several ways, or in some uses not at all."""
        values, missing = self.values(name), [u for u in self.uses if all(u not in g for g in groups)]
        after = self.known(values, source)
        local = "" if after else source.text
        if not after:
            read_raw = any(self.reads[name][0] in reads for n, reads in self.reads.items() if n != name)
            adapts = name.endswith(("_projection", "_base")) and "." not in name
            if source.text not in self.params or not adapts or read_raw or any(out is None for _, out in calls):
                raise Different
        undecided = list(self.uses)
        kinds: list[Kind] = []
        for index, (group, (made, out)) in enumerate(zip(groups, calls, strict=True)):
            last = index == len(groups) - 1 and not missing
            condition = "" if last else self.condition(name, group, undecided, source, out)
            then = f"{local} = {out.text}" if local and out and out.text != local else ""
            kinds.append(Kind(made, condition, then))
            undecided = [u for u in undecided if u not in group]
        if missing:
            kinds.append(Kind(None))
        self.channels[name] = after or Expr(local, values)
        return Piece(name, self.reads[name], None, tuple(kinds))

    def known(self, values: tuple[int, ...], source: Expr) -> Expr | None:
        return next((e for e in (self.width, source) if e and e.values == values), None)

    def condition(self, name: str, group: Mapping[int, Step], undecided: list[int], source: Expr, out: Expr | None) -> str:
        """What tells the uses in ``group`` from the other undecided ones: sizes that differ, or an argument of its own."""
        wanted = {u: u in group for u in undecided}
        if out and source.text in self.params and all((source.values[u] != out.values[u]) is w for u, w in wanted.items()):
            return f"{source.text} != {self.use(out)}"
        for word, param in self.params.items():
            if param.annotation == "bool" and all(param.values[u] is w for u, w in wanted.items()):
                return word
        default = sum(wanted.values()) * 2 > len(wanted)
        maker = next(iter(group.values())).maker.name
        word = self.fresh(_condition_word(name, maker, self.inputs))
        self.params[word] = Param("bool", tuple(wanted.get(u, default) for u in self.uses), default)
        return word

    def fresh(self, word: str) -> str:
        taken = {*self.params, *(e.text for e in self.channels.values()), "self", "channels"}
        number = 2
        name = word
        while name in taken:
            name, number = f"{word}{number}", number + 1
        return name

    def after(self, name: str, out: Expr | None, source: Expr) -> Expr:
        """The channels of a step's value."""
        values = self.values(name)
        if out and out.values == values:
            return out
        if known := self.known(values, source):
            return known
        sized = self.size(dict(enumerate(values)))
        if sized:
            return sized
        if len(set(values)) == 1:
            return Expr(str(values[0]), values)
        raise Different

    # -- arguments ---------------------------------------------------------------------------------------------------

    def call(self, name: str, group: Mapping[int, Step], sources: list[Expr]) -> tuple[Doc, Expr | None]:
        """The constructor call of one maker, and the output channels that it is given."""
        maker = next(iter(group.values())).maker
        words: dict[str, str] = {}
        out: Expr | None = None
        for word, default in maker.parameters.items():
            if all(word not in s.kwargs for s in group.values()):
                continue
            values = {u: s.kwargs.get(word, default) for u, s in group.items()}
            text, expr = self.argument(name, word, values, list(group.values()), sources)
            if word in ("out_channels", "out_features"):
                out = expr
            if default is not EMPTY and text == literal(default):
                continue
            words[word] = text
        return call(maker.name, _arguments(maker, words)), out

    def argument(
        self, name: str, word: str, values: Mapping[int, Any], steps: list[Step], sources: list[Expr]
    ) -> tuple[str, Expr | None]:
        """An argument as source: a channel expression, a literal, or an argument of the class."""
        some = next(iter(values.values()))
        if isinstance(some, Classes):
            self.params.setdefault("num_classes", Param("int", tuple(Classes(values.get(u, some)) for u in self.uses)))
            return "num_classes", None
        source = _source_of(word, steps[0].maker, sources)
        if source and all(source.values[u] == v for u, v in values.items()):
            return self.use(source), None
        depthwise = (s.kwargs.get("in_channels") == s.kwargs.get("out_channels") == s.kwargs.get(word) for s in steps)
        if word == "groups" and some != 1 and all(depthwise):
            return self.use(sources[0]), None
        if word in _SIZE_WORDS and all(isinstance(v, int) for v in values.values()):
            expr = self.size(values) if word in ("out_channels", "channels") or len(set(values.values())) > 1 else None
            if expr:
                return self.use(expr), expr
        if len(set(map(repr, values.values()))) == 1:
            text = literal(some)
            return text, Expr(text, (some,) * len(self.units)) if isinstance(some, int) else None
        return self.own(name, word, values), None

    def own(self, name: str, word: str, values: Mapping[int, Any]) -> str:
        """An argument of the class for a word whose value differs between uses."""
        for known, param in self.params.items():
            if known.endswith(word) and all(_same(param.values[u], v) for u, v in values.items()):
                return known
        common = Counter(map(repr, values.values())).most_common(1)[0][0]
        filler = next(v for v in values.values() if repr(v) == common)
        full = tuple(values.get(u, filler) for u in self.uses)
        word = self.fresh(word if word not in self.params else f"{_identifier(name)}_{word}")
        self.params[word] = Param(_annotation(full), full, 1 if word == "stride" and 1 in full else EMPTY)
        return word


def _union(units: Sequence[Unit]) -> list[str]:
    """All steps' names in an order that every unit's own order agrees with as far as it can."""
    order = [step.name for step in max(units, key=lambda u: len(u.steps)).steps]
    for unit in units:
        at = 0
        for step in unit.steps:
            if step.name in order:
                at = order.index(step.name) + 1
            else:
                order.insert(at, step.name)
                at += 1
    return order


def _sum(parts: list[Expr]) -> Expr:
    """The channels of a concatenation."""
    values = tuple(map(sum, zip(*(p.values for p in parts), strict=True)))
    counts: Counter[str] = Counter()
    for term in (term for part in parts for term in part.text.split(" + ")):
        factor, _, word = term.rpartition(" * ")
        counts[word if not word.isdigit() else ""] += int(word) if word.isdigit() else int(factor or 1)
    numbers = counts.pop("", 0)
    terms = [f"{count} * {word}" if count > 1 else word for word, count in counts.items()]
    return Expr(" + ".join([*terms, str(numbers)] if numbers or not terms else terms), values)


def _source_of(word: str, maker: Maker, sources: list[Expr]) -> Expr | None:
    """The channels that an argument about an input is about."""
    if word.removesuffix("_channels") in maker.inputs:
        return sources[maker.inputs.index(word.removesuffix("_channels"))]
    return sources[0] if word in _SOURCE_WORDS or (maker.inputs and word == "channels" and len(maker.inputs) == 1) else None


def _arguments(maker: Maker, words: Mapping[str, str]) -> list[Doc]:
    """Leading sizes by position, all else by name."""
    leading = True
    arguments: list[Doc] = []
    for word in maker.parameters:
        if word not in words:
            leading = False
            continue
        leading = leading and (word in _POSITIONAL or word.removesuffix("_channels") in maker.inputs)
        arguments.append(words[word] if leading else f"{word}={words[word]}")
    return arguments


def _condition_word(name: str, maker: str, inputs: tuple[str, ...]) -> str:
    stem = name.removesuffix("_projection")
    if stem in inputs:
        return f"reduce_{stem}" if maker == "FactorizedReduction" else f"project_{stem}"
    return f"with_{_identifier(name)}"


def _identifier(name: str) -> str:
    return re.sub(r"\W", "_", name)


def _same(a: Any, b: Any) -> bool:
    return bool(a == b) and type(a) is type(b)


def _annotation(values: tuple[Any, ...]) -> str:
    names = sorted({_type_name(v) for v in values})
    return " | ".join([n for n in names if n != "None"] + (["None"] if "None" in names else []))


def _type_name(value: Any) -> str:
    if value is None:
        return "None"
    if isinstance(value, tuple | list):
        return f"tuple[{', '.join(_type_name(v) for v in value)}]"
    return "int" if isinstance(value, Classes) else type(value).__name__
