"""``nas latency-table``."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from torch import nn

from nas.cli.arguments import Arguments
from nas.cli.measure import options_of
from nas.cli.show import size_of
from nas.errors import MeasureError, SpaceError, UsageError
from nas.measure.device import find_device, lock_name
from nas.measure.latency import Latency, measure_latency
from nas.measure.lock import device_lock
from nas.measure.protocol import Limits
from nas.measure.reference import Anchors
from nas.measure.table import Additivity, LatencyTable, Measure, Sums, Work, work_of
from nas.measure.target import conditions_at, is_remote
from nas.net.graph import Graph, Size
from nas.net.identity import identity
from nas.net.lower import lower
from nas.ops import Shape
from nas.search.config import whole_number
from nas.space.library import load_space
from nas.space.search_space import Architecture, SearchSpace

LIMITS = Limits(tolerance=0.03, min_s=0.1, max_s=1.5, warmup_s=0.1)
"""An operation is one of many: less care than for a whole network, and errors average out in a sum."""

MOST = 10
"""So many times ``networks`` are sampled at most: spaces with free widths always have something new."""
FRESH, TRIES = 100, 100
"""Networks, at least, that the coverage is told from; samples in a row that may be impossible at the size asked for."""


def run(arguments: Arguments) -> dict[str, Any]:
    """Measure what networks of a space are made of, and how well the sums tell whole networks."""
    space, options = load_space(arguments.words[0]), options_of(arguments)
    if is_remote(options["device"]):
        raise UsageError("a latency table is measured on the machine that it is made on", got=f"target={options['device']}",
                         hint="Run the command there.")  # fmt: skip
    networks = whole_number("networks", arguments.get("networks", "20")) or 1
    checks = whole_number("check", arguments.get("check", "20"), least=0) or 0
    path = Path(arguments.get("out") or f"results/latency_tables/{space.name}.json")
    rng, size = random.Random(whole_number("seed", arguments.get("seed", "0"), least=0)), size_of(arguments)
    samples = _sampled(space, rng, size)
    table, anchors = LatencyTable(path, _conditions(options)), Anchors(path.parent)

    def measure(module: nn.Module, shape: Shape, limits: Limits = LIMITS) -> Latency:
        with device_lock(lock_name(find_device(options["device"]))):
            return measure_latency(module, shape, **options, weights="random", limits=limits, anchors=anchors)

    known, errors = len(table.entries), _fill(table, _missing(table, samples, networks), measure, options["batch"])
    fresh = list(islice(samples, max(FRESH, checks)))
    errors += _fill_whole(table, fresh, size, checks, lambda module, shape: measure(module, shape, Limits()))
    judged = Sums(table).additivity()
    document = {
        "out": str(path), "space": space.name, "entries": len(table.entries), "measured": len(table.entries) - known,
        "coverage": _coverage(table, [graph for _, graph in fresh]),
        "refused": len(errors), "refusals": sorted(set(errors)), "conditions": table.conditions,
        "additivity": asdict(judged) if judged else None,
    }  # fmt: skip
    if not arguments.json:
        print(_text(document, judged))
    return document


def _conditions(options: dict[str, Any]) -> dict[str, Any]:
    """What all figures of the table have in common."""
    return conditions_at(options["device"], **{key: value for key, value in options.items() if key != "device"})


def _sampled(space: SearchSpace, rng: random.Random, size: Size) -> Iterator[tuple[Architecture, Graph]]:
    """Random networks of a space without end, less those that are impossible. Raises SpaceError when that is all there are."""
    impossible = 0
    while True:
        try:
            architecture = space.sample(rng)
            graph = lower(architecture, size)
        except SpaceError:
            impossible += 1
            if impossible == TRIES:
                raise
        else:
            impossible = 0
            yield architecture, graph


def _missing(table: LatencyTable, samples: Iterable[tuple[Architecture, Graph]], patience: int) -> list[Work]:
    """What networks do that the table lacks, until so many of them in a row bring nothing new."""
    work: dict[str, Work] = {}
    idle = 0
    for _, graph in islice(samples, MOST * patience):
        before = len(work)
        work |= {item.key: item for item in table.missing(graph)}
        idle = idle + 1 if len(work) == before else 0
        if idle == patience:
            break
    return list(work.values())


def _coverage(table: LatencyTable, graphs: list[Graph]) -> float:
    """The share of what these networks do that the table holds."""
    held = [work in table for graph in graphs for work in work_of(graph)]
    return sum(held) / len(held)


def _fill(table: LatencyTable, work: list[Work], measure: Measure, batch: int) -> list[str]:
    """Measure what is missing, telling progress; why some was refused. When the first three are, that is raised."""
    errors: list[str] = []
    for index, item in enumerate(work):
        print(f"\r{index + 1} of {len(work)} operations", end="", file=sys.stderr, flush=True)
        try:
            table.add(item, measure, batch)
        except MeasureError as error:
            errors.append(str(error))
            if len(errors) == index + 1 >= min(3, len(work)):
                raise
    if work:
        print(file=sys.stderr)
    return errors


def _fill_whole(table: LatencyTable, samples: Iterable[tuple[Architecture, Graph]], size: Size, count: int,
                measure: Measure) -> list[str]:  # fmt: skip
    """Measure networks whole that the table covers until it holds so many, telling progress; why some were refused.

    Those it holds, of this command or an earlier one, are left out.
    """
    new = (architecture for architecture, graph in samples if not table.missing(graph) and identity(graph) not in table.whole)
    errors: list[str] = []
    for architecture in islice(new, max(0, count - len(table.whole))):
        print(f"\r{len(table.whole) + len(errors) + 1} of {count} whole networks", end="", file=sys.stderr, flush=True)
        try:
            table.add_whole(architecture, size, measure)
        except MeasureError as error:
            errors.append(str(error))
    print(file=sys.stderr)
    return errors


def _text(document: dict[str, Any], judged: Additivity | None) -> str:
    lines = [f"{document['out']}: {document['entries']} operations on their shapes, {document['measured']} of them measured now",
             f"coverage: {document['coverage']:.1%} of what other sampled networks do"]  # fmt: skip
    if document["refused"]:
        lines.append(f"{document['refused']} measurements were refused, the same command tries them again: "
                     f"{document['refusals'][0]}")  # fmt: skip
    if judged is None:
        lines.append("additivity: no network was both covered by the table and measured whole")
    else:
        ranks = f", rank correlation {judged.spearman:.2f}" if judged.spearman is not None else ""
        lines.append(f"additivity over {judged.n} whole networks: measured / sum = {judged.ratio:.3f} (median), "
                     f"error of the sum {judged.error:.1%}, times that ratio {judged.scaled_error:.1%}{ranks}")  # fmt: skip
    return "\n".join(lines)
