"""``nas show``."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from nas.cli.arguments import Arguments
from nas.errors import NasError, UsageError, nearest
from nas.net.graph import Graph, Size
from nas.net.lower import lower
from nas.report.text import big, table
from nas.search.objectives import page_limits
from nas.space.library import bundled_architectures, bundled_spaces, load_page
from nas.space.search_space import Architecture, SearchSpace
from nas.space.spec import Choice, Hole
from nas.space.unparse import to_yaml


def run(arguments: Arguments) -> dict[str, Any]:
    """Show a page, or a run."""
    what, svg = arguments.words[0], arguments.get("svg")
    changes = {key: _value(key, text) for key, text in arguments.keys.items() if "." in key}
    try:
        page = load_page(what, changes)
    except NasError as error:
        if changes:
            raise
        document = _run_document(what, error)
        text = _run_text(document)
        if svg is not None:
            _draw(svg, *_best_of(what))
    else:
        page_limits(page.spec)
        document, text = _space(page) if isinstance(page, SearchSpace) else _architecture(page, arguments)
        if svg is not None:
            _draw(svg, *_member(page, arguments))
    if svg is not None:
        document["svg"], text = svg, f"{text}\n\npicture: {svg}"
    if not arguments.json:
        print(text)
    return document


def _value(key: str, text: str) -> Any:
    """What a change puts in a page. Raises UsageError."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise UsageError(f"{key} cannot be read", got=text, expected="a value as a page writes it") from None


def _member(page: SearchSpace | Architecture, arguments: Arguments) -> tuple[Graph, str]:
    """What is drawn of a page: the architecture, or a sample of the space."""
    if isinstance(page, Architecture):
        return lower(page, size_of(arguments)), page.name
    return lower(page.sample(random.Random(0)), size_of(arguments)), f"{page.name}: a sample, drawn with seed 0"


def _best_of(what: str) -> tuple[Graph, str]:
    """A run's best network, at the size to deploy."""
    from nas.search.archive import open_archive

    with open_archive(what) as archive:
        record = archive.pick("best")
        return lower(archive.study.space.architecture(record.decisions), archive.deploy), f"{what}: trial {record.number}"


def _draw(file: str, graph: Graph, title: str) -> None:
    """Write the picture. Raises UsageError when the file cannot be written."""
    from nas.report.picture import picture

    try:
        Path(file).write_text(picture(graph, title), encoding="utf-8")
    except OSError as error:
        raise UsageError("the picture cannot be written", where=file, got=error.strerror) from None


def _space(space: SearchSpace) -> tuple[dict[str, Any], str]:
    size = space.size()
    document: dict[str, Any] = {
        "name": space.name, "kind": "space", "size": None if math.isinf(size) else size, "decisions": len(space.holes),
        "input": list(space.spec.input), "num_params": None, "macs": None, "source": space.spec.source,
    }  # fmt: skip
    rows = [(key, len(hole.labels) if isinstance(hole, Choice) else "", _options(hole)) for key, hole in space.holes.items()]
    head = f"{space.name}: {big(document['size'])} architectures, {len(rows)} decisions\n{space.spec.source}\n"
    return document, head + "\n" + table(("decision", "options", ""), rows)


def _options(hole: Hole) -> str:
    if isinstance(hole, Choice):
        return " ".join(map(str, hole.labels))
    return f"{hole.low} to {hole.high}" + (f" in steps of {hole.step}" if hole.step else "") + (" (log)" if hole.log else "")


def _architecture(architecture: Architecture, arguments: Arguments) -> tuple[dict[str, Any], str]:
    graph = lower(architecture, size_of(arguments))
    shape = graph.inputs[0][1]
    document: dict[str, Any] = {
        "name": architecture.name, "kind": "architecture", "size": None, "num_params": graph.num_params, "macs": graph.macs,
        "input": list(shape), "num_classes": graph.shape[-1], "source": architecture.spec.source,
        "reference": architecture.spec.reference or None,
    }  # fmt: skip
    size = "x".join(map(str, shape))
    total = f"{architecture.name}: {graph.num_params:,} parameters, {graph.macs:,} multiply-adds at input {size}"
    layers = _layers(graph, "layers" in arguments.flags)
    if "layers" in arguments.flags:
        document["layers"] = [dict(zip(("name", "op", "shape", "num_params", "macs"), row, strict=True)) for row in layers]
    rows = [(name, op, "x".join(map(str, s)), f"{p:,}", f"{m:,}") for name, op, s, p, m in layers]
    return document, "\n".join([total, "", to_yaml(architecture.spec).rstrip(), "",
                                table(("layer", "op", "output", "params", "MACs"), rows)])


def _layers(graph: Graph, every: bool) -> list[tuple[str, str, list[int], int, int]]:
    """A row a layer of the network and its auxiliary heads; with ``every`` a row an operation, the cells opened."""
    graph = replace(graph, nodes=graph.all_nodes, auxiliary=())
    if every:
        return [(name, call.op, list(call.shape), call.num_params, call.macs) for name, call in graph.calls()]
    return [
        (n.name, f"cell {n.target.name}" if isinstance(n.target, Graph) else n.target.op, list(n.shape), n.target.num_params,
         n.target.macs)
        for n in graph.nodes
    ]


def size_of(arguments: Arguments) -> Size:
    """The size that the keys width, depth, input and num_classes say. Raises UsageError."""
    from nas.search.config import SizeWords

    words = SizeWords.parse({k: v for k, v in arguments.keys.items() if k in {"width", "depth", "input", "num_classes"}}, "size")
    return replace(Size(), width=words.width or 1.0, depth=words.depth or 1.0, input=words.input, num_classes=words.num_classes)


def _run_document(what: str, error: NasError) -> dict[str, Any]:
    """A run's figures; when there is no such run either, what is nearest."""
    from nas.search.run import RESULTS, RunFolder

    try:
        RunFolder.find(what)
    except NasError:
        if error.hint is None and not Path(what).is_file():
            runs = [p.parent.name for p in RESULTS.glob("*/config.yaml")]
            hint = nearest(what, [*bundled_spaces(), *bundled_architectures(), *runs])
            raise UsageError("no space, architecture or run of that name", got=what, hint=hint) from None
        raise error from None
    from nas.search.archive import open_archive
    from nas.search.front import front_row, ties
    from nas.search.study import STATES

    with open_archive(what) as archive:
        tested = archive.tested
        members = archive.front()
        tied = ties(members, archive.objectives, archive.checks)
        front = [front_row(record, tested.get(record.number), archive.checks, tied[record.number]) for record in members]
        return {
            "name": archive.folder.path.resolve().name, "kind": "run", "size": None, "num_params": None, "macs": None,
            "space": archive.config.space,
            "data": archive.config.data, "budget": archive.config.budget,
            "trials": {state: archive.counts[state] for state in STATES}, "front": front,
            "run": str(archive.folder.path),
        }  # fmt: skip


def _run_text(document: dict[str, Any]) -> str:
    trials = ", ".join(f"{n} {state}" for state, n in document["trials"].items() if n)
    from nas.cli.search import front_table

    front = front_table(document["front"]) if document["front"] else "nothing is on the front yet"
    what = f"{document['space']} on {document['data']}, budget {document['budget']}"
    head = f"{document['name']}: {what}; {trials or 'no trials yet'}"
    return "\n".join([head, "", front, "", f"run folder: {document['run']}"])
