"""What a search measures, where, and what it knows without measuring."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from nas.errors import MeasureError, RunError, UsageError
from nas.measure.device import device_name
from nas.measure.metrics import METRICS, TIMED
from nas.measure.remote import Address
from nas.measure.table import LatencyTable, Sums
from nas.measure.target import check_target, conditions_at, is_remote
from nas.net.graph import Size
from nas.net.lower import lower
from nas.search.bench import mend
from nas.search.config import SearchConfig
from nas.search.executors import check_elsewhere
from nas.search.executors.target import Target
from nas.search.objectives import Constraint, Objective, judged_by, parse_objectives
from nas.search.planner import samples, times
from nas.search.run import RunFolder
from nas.search.settled import Settled, limits_of
from nas.space.search_space import Architecture
from nas.space.spec import Spec

SAMPLES = 20
"""Networks of the space by which it is told how much of it a latency table holds."""


def measured_metrics(objectives: Iterable[Objective], constraints: Iterable[Constraint]) -> set[str]:
    """Metrics that a candidate is judged by and that only a measurement tells."""
    return judged_by(objectives, constraints) & METRICS.keys()


def measured_apart(target: str, device: str) -> bool:
    """Whether latency is measured in other slots than those that train, which have the ``device`` (cpu or cuda): on another
    machine, or on a GPU, which a slot that trains on the CPU does not see."""
    return is_remote(target) or Target.parse(target).elsewhere or (device == "cpu" and Target.parse(target).device == "cuda")


def measure_words(settled: Settled, folder: RunFolder) -> dict[str, Any] | None:
    """What the evaluator is told of measuring; None where nothing is measured."""
    wanted = measured_metrics(settled.objectives, settled.constraints)
    target = settled.config.target or settled.device
    if not wanted:
        return None
    return {
        "target": target if is_remote(target) else Target.parse(target).device, "batch": settled.plan.batch, "threads": 1,
        "runtime": settled.config.measured_by, "metrics": sorted(wanted | {"latency"} if wanted & TIMED else wanted),
        "anchors": str(folder.path.resolve()),
    }  # fmt: skip


def check_measuring(config: SearchConfig, device: str, spec: Spec) -> tuple[str, ...]:
    """Where, by what and why it is measured, in words; none where nothing is.

    Raises UsageError or MeasureError when what the search judges by cannot be measured where it is to be.
    """
    wanted = measured_metrics(parse_objectives(config.objectives), limits_of(config, spec))
    target = config.target or device
    if not wanted:
        return ()
    why = "" if config.runtime else f" (what runs the first of formats={config.formats})"
    if config.engine == "ray" and measured_apart(target, device):
        check_elsewhere(config, device)
    if is_remote(target) or not Target.parse(target).elsewhere:
        told = check_target(target, runtime=config.measured_by, metrics=wanted)
    else:
        told = f"{target}, {config.measured_by}"
    return (f"measured on: {told}{why}",)


def latency_table(settled: Settled, say: Callable[[str], None]) -> LatencyTable | None:
    """The table that the search begins from; None where it was told of none.

    Raises UsageError where it has no use, and MeasureError for a table of other conditions, or of another space or size.
    """
    config, plan = settled.config, settled.plan
    if config.latency_table is None:
        return None
    target, path = config.target or settled.device, Path(config.latency_table)
    if "latency" not in measured_metrics(settled.objectives, settled.constraints):
        raise UsageError("a latency table is for searches that judge by latency", got=f"objectives={config.objectives}")
    if not is_remote(target) and Target.parse(target).elsewhere:
        raise UsageError("what a cluster's nodes are cannot be compared with a latency table", got=f"target={target}")
    size = plan.deploy
    begin, there = "Make one", target
    if is_remote(target):  # by its own machine alone: thousands of short measurements are no work for a connection
        begin, there = "Make one on that machine, and bring its file here", Address.parse(target).device or "cpu"
    make = (f"{begin}: nas latency-table {config.space} target={there} batch={plan.batch} runtime={config.measured_by} input="
            f"{times(size.input)} num_classes={size.num_classes} width={size.width:g} depth={size.depth:g} out=FILE")  # fmt: skip
    table = LatencyTable.open(path, conditions_at(target, batch=plan.batch, threads=1, runtime=config.measured_by), hint=make)
    graphs, sums = samples(settled.space, size, SAMPLES), Sums(table)
    covered = sum(sums.of(graph) is not None for graph in graphs)
    if not covered:
        raise MeasureError(f"the latency table lacks something of each of {len(graphs)} sampled networks", where=str(path),
                           expected=f"the operations of {settled.space.name} at the deployed size",
                           got=f"none such as {table.missing(graphs[0])[0].key}", hint=make)  # fmt: skip
    judged = sums.additivity()
    worth = f"; its sums, corrected, are {judged.scaled_error:.1%} off (n={judged.n})" if judged else ""
    say(f"latency table {path}: has all of {covered} of {len(graphs)} sampled networks{worth}")
    return table


def model_here(config: SearchConfig, how: Mapping[str, Any] | None, kept: str | None) -> str:
    """The model of processor or GPU that a run measures on: what the study has kept, or this machine's; empty where only the
    workers can tell. Raises RunError when this machine alone could measure and has no such."""
    if how is None or is_remote(how["target"]) or config.engine != "local":
        return kept or ""
    count = torch.cuda.device_count() if how["target"] == "cuda" else 1
    here = [device_name(torch.device(how["target"], index)) for index in range(count)]
    if kept is not None and kept not in here and config.endpoint is None:
        raise RunError("this run's latencies were measured on another machine", expected=kept, got=", ".join(here),
                       hint=mend(kept))  # fmt: skip
    return kept or here[0]


def known_metrics(objectives: Iterable[Objective], constraints: Iterable[Constraint],
                  size: Size) -> Callable[[Architecture], Mapping[str, float]] | None:  # fmt: skip
    """What tells the metrics of an architecture that need no training and no device; None where nothing is judged by them."""
    wanted = judged_by(objectives, constraints) & {"num_params", "macs"}
    if not wanted:
        return None

    def known(architecture: Architecture) -> dict[str, float]:
        graph = lower(architecture, size)
        return {name: float(getattr(graph, name)) for name in wanted}

    return known
