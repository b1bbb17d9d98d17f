"""``nas latency-table``."""

from __future__ import annotations

import random
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nas.cli.arguments import Arguments
from nas.cli.measure import options_of
from nas.cli.show import size_of
from nas.errors import MeasureError, UsageError
from nas.measure.device import device_name, find_device, lock_name
from nas.measure.latency import Latency, measure_latency
from nas.measure.lock import device_lock
from nas.measure.protocol import Limits
from nas.measure.reference import Anchors
from nas.measure.runtime import find_runtime
from nas.measure.table import Additivity, LatencyTable, Measure, Work, additivity
from nas.measure.target import is_remote
from nas.net.build import build
from nas.net.graph import Graph
from nas.net.lower import lower
from nas.ops import Shape
from nas.search.config import whole_number
from nas.space.library import load_space

LIMITS = Limits(tolerance=0.03, min_s=0.1, max_s=1.5, warmup_s=0.1)
"""An operation is one of many: less care than for a whole network, and errors average out in a sum."""


def run(arguments: Arguments) -> dict[str, Any]:
    """Measure what networks of a space are made of, and how well the sums tell whole networks."""
    space, options = load_space(arguments.words[0]), options_of(arguments)
    if is_remote(options["device"]):
        raise UsageError("a latency table is measured on the machine that it is made on", got=f"target={options['device']}",
                         hint="Run the command there.")  # fmt: skip
    networks = whole_number("networks", arguments.get("networks", "20")) or 1
    checks = whole_number("check", arguments.get("check", "5"), least=0) or 0
    path = Path(arguments.get("out") or f"results/latency_tables/{space.name}.json")
    rng, size = random.Random(whole_number("seed", arguments.get("seed", "0"), least=0)), size_of(arguments)
    graphs = [lower(space.sample(rng), size) for _ in range(max(networks, checks))]
    table, anchors = LatencyTable(path, _conditions(options)), Anchors(path.parent)

    def measure(module: nn.Module, shape: Shape, limits: Limits = LIMITS) -> Latency:
        with device_lock(lock_name(find_device(options["device"]))):
            return measure_latency(module, shape, **options, limits=limits, anchors=anchors)

    work = {item.key: item for graph in graphs[:networks] for item in table.missing(graph)}
    known, errors = len(table.entries), _fill(table, list(work.values()), measure, options["batch"])
    covered = [graph for graph in graphs if not table.missing(graph)][:checks]
    whole, more = _whole(covered, lambda module, shape: measure(module, shape, Limits()))
    errors += more
    judged = additivity([table.total_ms(graph) for graph, _ in whole], [ms for _, ms in whole]) if whole else None
    document = {
        "out": str(path), "space": space.name, "entries": len(table.entries), "measured": len(table.entries) - known,
        "refused": len(errors), "refusals": sorted(set(errors)), "conditions": table.conditions,
        "additivity": asdict(judged) if judged else None,
    }  # fmt: skip
    if not arguments.json:
        print(_text(document, judged))
    return document


def _conditions(options: dict[str, Any]) -> dict[str, Any]:
    """What all figures of the table have in common."""
    words = {key: value for key, value in options.items() if key != "device"}
    return {**words, "device": device_name(find_device(options["device"])), "torch": torch.__version__,
            "runtime_version": find_runtime(options["runtime"]).version()}  # fmt: skip


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


def _whole(graphs: list[Graph], measure: Measure) -> tuple[list[tuple[Graph, float]], list[str]]:
    """Networks with their measured latency, and why the others have none."""
    measured: list[tuple[Graph, float]] = []
    errors: list[str] = []
    for graph in graphs:
        try:
            measured.append((graph, measure(build(graph), graph.inputs[0][1]).median_ms))
        except MeasureError as error:
            errors.append(str(error))
    return measured, errors


def _text(document: dict[str, Any], judged: Additivity | None) -> str:
    lines = [f"{document['out']}: {document['entries']} operations on their shapes, {document['measured']} of them measured now"]
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
