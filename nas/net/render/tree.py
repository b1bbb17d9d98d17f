"""Where a class keeps its modules: dotted names as attributes, ``nn.Sequential``, ``nn.ModuleList`` and ``nn.ModuleDict``."""

from __future__ import annotations

import keyword
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise

from torch import nn

from nas.errors import ExportError
from nas.net.render.layout import Doc, Group, bracket, call, flat
from nas.net.render.merge import Kind, Piece

_RUN = 3
"""From so many equal modules in a row on, they are written as a loop."""


@dataclass
class Place:
    """A name under which modules lie: one piece's, or others' (``children`` by the last part of their names)."""

    path: str
    piece: Piece | None = None
    children: dict[str, Place] = field(default_factory=dict)
    entry: str = ""
    exit: str = ""

    @property
    def is_chain(self) -> bool:
        """Whether it is one module that is called with ``entry`` and gives ``exit``."""
        return bool(self.exit)

    @property
    def listed(self) -> bool:
        """Whether the children are numbered from 0 on, without a gap."""
        return list(self.children) == [str(i) for i in range(len(self.children))]

    def pieces(self) -> Iterator[Piece]:
        """All pieces below, in the order of their places."""
        if self.piece:
            yield self.piece
        for child in self.children.values():
            yield from child.pieces()


def fill_gaps(pieces: Sequence[Piece]) -> list[Piece]:
    """The pieces with an ``nn.Identity`` wherever a join of numbered branches reads a value that no branch makes."""
    names = [piece.name for piece in pieces if not piece.join]
    filled: list[Piece] = []
    for piece in pieces:
        if piece.join and (branches := _branches(piece, names)):
            missing = [branch for branch in branches if not any(n == branch or n.startswith(f"{branch}.") for n in names)]
            pairs = list(zip(branches, piece.inputs, strict=True))
            filled += [Piece(b, (i,), None, (Kind(call("nn.Identity", ())),)) for b, i in pairs if b in missing]
            piece = piece._replace(inputs=tuple(b if b in missing else i for b, i in pairs))
        filled.append(piece)
    return filled


def _branches(join: Piece, names: list[str]) -> list[str] | None:
    """The numbered branches of a join, when some exist and no existing one is out of its place."""
    prefix = join.name.rpartition(".")[0]
    prefix = f"{prefix}." if prefix else ""
    present = {name[len(prefix) :].partition(".")[0] for name in names if name.startswith(prefix)}
    wanted = [str(i) for i in range(len(join.inputs))]
    if not present or not present <= set(wanted):
        return None
    for branch, read in zip(wanted, join.inputs, strict=True):
        if branch in present and read != prefix + branch and not read.startswith(f"{prefix}{branch}."):
            return None
    return [prefix + branch for branch in wanted]


def plant(pieces: Sequence[Piece], outputs: Sequence[str]) -> Place:
    """The tree of all modules; containers whose modules run one after the other are chains."""
    root = Place("")
    for piece in pieces:
        if piece.join:
            continue
        place = root
        for part in piece.name.split("."):
            path = f"{place.path}.{part}" if place.path else part
            place = place.children.setdefault(part, Place(path))
        place.piece = piece
    reads = Counter(name for piece in pieces for name in piece.inputs)
    reads.update(outputs)
    joined = {piece.name.rpartition(".")[0] for piece in pieces if piece.join}
    _find_chains(root, reads, {*joined, ""})
    _check_names(root, nn.Module)
    return root


def _find_chains(place: Place, reads: Counter[str], joined: set[str]) -> None:
    if place.piece:
        if len(place.piece.inputs) == 1:
            place.entry, place.exit = place.piece.inputs[0], place.piece.name
        return
    if set(place.children) == {str(i) for i in range(len(place.children))}:
        place.children = {str(i): place.children[str(i)] for i in range(len(place.children))}
    children = list(place.children.values())
    for child in children:
        _find_chains(child, reads, joined)
    links = all(b.entry == a.exit and reads[a.exit] == 1 for a, b in pairwise(children))
    if all(c.is_chain for c in children) and links and place.path not in joined:
        place.entry, place.exit = children[0].entry, children[-1].exit


def _check_names(place: Place, kind: type[nn.Module]) -> None:
    for name, child in place.children.items():
        if not _writable(name) or hasattr(kind, name) or name == "training":
            raise ExportError("a layer's name that Python does not allow a module", where=child.path, got=name, hint="Rename it.")
        if child.children:
            _check_names(child, nn.Sequential if child.is_chain else nn.ModuleList if child.listed else nn.ModuleDict)


def check_inputs(names: Sequence[str]) -> None:
    """Raise ExportError for an input of a cell that cannot be an argument in Python."""
    for name in names:
        if not _writable(name) or name in ("self", "torch", "nn", "cell") or name[0].isdigit():
            raise ExportError("a cell's input has a name that Python does not allow an argument", got=name, hint="Rename it.")


def _writable(name: str) -> bool:
    plain = name.isascii() and name.replace("_", "a").isalnum()
    return plain and not keyword.iskeyword(name) and not name.startswith("__")


def construct(place: Place, local: dict[str, str]) -> Doc:
    """What makes the modules of a place; ``local`` names those made beforehand."""
    if place.piece:
        made = local.get(place.path) or place.piece.kinds[0].made
        assert made is not None
        return made
    docs = [construct(child, local) for child in place.children.values()]
    if place.is_chain:
        if place.listed:
            return call("nn.Sequential", runs(docs))
        return call("nn.Sequential", [call("OrderedDict", _named(list(place.children), docs))])
    if place.listed:
        return module_list(docs)
    return call("nn.ModuleDict", [dictionary(list(place.children), docs)])


def module_list(docs: list[Doc]) -> Doc:
    """An ``nn.ModuleList``."""
    shown = runs(docs)
    if len(shown) == 1 and isinstance(shown[0], Group) and shown[0].opener == "*(":
        return Group("nn.ModuleList(", shown[0].items, separator="")
    return call("nn.ModuleList", [bracket(shown)])


def dictionary(names: list[str], docs: list[Doc]) -> Doc:
    """A dict of modules."""
    return Group("{", tuple(prefixed(f'"{name}": ', doc) for name, doc in zip(names, docs, strict=True)), "}")


def runs(docs: list[Doc]) -> list[Doc]:
    """Modules in a row, equal ones as a loop."""
    shown: list[Doc] = []
    for _, group in groupby(docs, flat):
        equal = list(group)
        if len(equal) < _RUN:
            shown += equal
        else:
            shown.append(Group("*(", (equal[0], f"for _ in range({len(equal)})"), separator=""))
    return shown


def _named(names: list[str], docs: list[Doc]) -> list[Doc]:
    if all(name.isidentifier() for name in names):
        return [prefixed(f"{name}=", doc) for name, doc in zip(names, docs, strict=True)]
    return [bracket(Group(f'("{name}", ', (doc,)) for name, doc in zip(names, docs, strict=True))]


def prefixed(prefix: str, doc: Doc) -> Doc:
    """The document with text before it."""
    return prefix + doc if isinstance(doc, str) else Group(prefix + doc.opener, doc.items, doc.closer, doc.separator)
