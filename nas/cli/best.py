"""``nas best``."""

from __future__ import annotations

import shlex
from typing import Any

from nas.cli.arguments import Arguments
from nas.net.lower import lower
from nas.ops.plugins import on_command_line
from nas.report.text import count, figure, milliseconds, percent
from nas.search.archive import Archive, open_archive, parse_limits
from nas.search.front import best_of, front_row
from nas.search.objectives import METRICS, Constraint, judged_by
from nas.search.study import Record

_NAMED = {"num_params", "macs"}
"""Told in words of their own."""


def run(arguments: Arguments) -> dict[str, Any]:
    """Answer from the archive, without any new training."""
    name, *words = arguments.words
    with open_archive(name) as archive:
        limits = parse_limits(words, archive)
        kept = tuple(dict.fromkeys((*archive.constraints, *limits)))
        record = best_of(archive.within(limits), archive.objectives, archive.checks, kept)
        best = None if record is None else front_row(record, archive.tested.get(record.number), archive.checks)
        document: dict[str, Any] = {
            "run": str(archive.folder.path), "limits": list(map(str, limits)), "best": best,
            "again": measured_again(archive, record, kept) if record and "remeasure" in arguments.flags else None,
        }  # fmt: skip
    if not arguments.json:
        print(_text(document, on_command_line(archive.config.plugins)))
    return document


def measured_again(archive: Archive, record: Record, limits: tuple[Constraint, ...]) -> dict[str, Any]:
    """What a trial's network measures now, under the run's conditions, and which limits it breaks.

    Raises MeasureError, also where only the run's cluster has its target.
    """
    from nas.measure.metrics import METRICS as MEASURED
    from nas.measure.metrics import measure_metrics
    from nas.measure.reference import Anchors

    config = archive.config
    target = config.target or "cpu"
    wanted = {"latency", *judged_by(archive.objectives, limits)} & MEASURED.keys()
    graph = lower(archive.study.space.architecture(record.decisions), archive.deploy)
    latency, values = measure_metrics(
        target, graph, wanted, batch=config.deploy.batch or 1, threads=1, runtime=config.measured_by,
        anchors=Anchors(str(archive.folder.path.resolve())))  # fmt: skip
    assert latency is not None, "it is among what is wanted"
    now = {**record.metrics, **values}
    return {
        "target": target, "device": latency.device_name, "latency_ms": latency.median_ms, "latency_low_ms": latency.low_ms,
        "latency_high_ms": latency.high_ms, **{name: value for name, value in values.items() if name != "latency"},
        "broken": [str(limit) for limit in limits if limit.violation(now) > 0],
    }  # fmt: skip


def _text(document: dict[str, Any], plugins: str) -> str:
    best, limits = document["best"], ", ".join(document["limits"]) or "no further limit"
    if best is None:
        return f"no completed network within {limits}"
    latency = [] if best["latency_ms"] is None else [milliseconds(best["latency_ms"])]
    others = [f"{name} {figure(name, best[name])}" for name in METRICS if best.get(name) is not None and name not in _NAMED]
    figures = [percent(best["val_accuracy"]) + " on validation", *latency, f"{count(best['num_params'])} params",
               f"{count(best['macs'])} MACs", *others]  # fmt: skip
    return "\n".join([
        f"trial {best['trial']} ({limits}): {', '.join(figures)}",
        *([again_text(document["again"], best)] if document["again"] else []),
        f"export: nas export {shlex.quote(document['run'])} trial={best['trial']}{plugins}",
    ])  # fmt: skip


def again_text(again: dict[str, Any], best: dict[str, Any]) -> str:
    """Both figures of everything that was measured, and whether the limits still hold."""
    before = {"latency": best["latency_ms"], **{name: best[name] for name in again if name in best}}
    now = {"latency": again["latency_ms"], **again}
    figures = [f"{name} {figure(name, now[name])} ({'not measured' if was is None else figure(name, was)} in the search)"
               for name, was in before.items() if name in METRICS]  # fmt: skip
    held = f"no longer within {', '.join(again['broken'])}" if again["broken"] else "within every limit"
    return f"measured again on {again['device']}: {', '.join(figures)}; {held}"
