"""The document of a run: all that its report shows, as plain JSON data."""

from __future__ import annotations

import json
import math
import shlex
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from nas.ops.plugins import on_command_line
from nas.report.run.hypervolume import Scale, growth, phase
from nas.report.run.importance import importance
from nas.report.run.noise import binomial_error, images_behind
from nas.search.agreement import agreement
from nas.search.archive import Archive
from nas.search.budget import Meter, parse_budget
from nas.search.config import SearchConfig
from nas.search.finals import proxy_and_final
from nas.search.front import Checks, as_good, ties
from nas.search.objectives import METRICS, front
from nas.search.settled import size_words
from nas.search.study import STATES, Record
from nas.search.tally import read_tally

SEARCH, BASELINE = "search", "baseline"
"""The phases of trials."""

SPENT = ("training_s", "measuring_s", "other_s", "failed_s", "stopped_s", "trials", "failed", "stopped", "duplicate")


def run_document(archive: Archive) -> dict[str, Any]:
    """What ``nas report RUN --json`` prints, and what the page is drawn from. Accuracies are fractions, latencies ms."""
    records, metadata = archive.study.records, archive.study.metadata
    judged = archive.within(())
    members = [judged[i] for i in front([r.metrics for r in judged], archive.objectives)]
    images = _images(archive, metadata)
    document = {
        "run": _head(archive), "objectives": [{"metric": o.name, "direction": o.direction} for o in archive.objectives],
        "units": {name: metric.unit for name, metric in METRICS.items()},
        "limits": [{"metric": c.metric, "op": c.op, "limit": c.limit, "text": str(c)} for c in archive.constraints],
        "counts": {state: archive.counts[state] for state in STATES},
        "images": images, "trials": _trials(archive, _ties(archive, judged, members), {r.number for r in members}, images),
        "front": sorted(r.number for r in members),
        "hypervolume": _progress(archive, judged), "spending": spending(records),
        "budget": _budget(archive),
        "importance": {o.name: importance(archive.study.space, judged, o) for o in archive.objectives},
        "repeats": _repeats(records, metadata), "final": _final(records, archive.checks),
        "peers": list(metadata.get("peers") or ()),
        "environment": _environment(archive),
    }  # fmt: skip
    plain: dict[str, Any] = _plain(document)
    return plain


def command(config: SearchConfig) -> str:
    """The command that searches the same again, with every choice written out."""
    words = []
    for key, value in config.to_mapping().items():
        values = value if isinstance(value, list) else [value]
        words += [f"{key}={shlex.quote(_word(v))}" for v in values if key != "run"]
    return f"nas search {' '.join(words)}"


def _word(value: Any) -> str:
    if not isinstance(value, Mapping):
        return str(value)
    return ",".join(f"{k}={'x'.join(map(str, v)) if isinstance(v, list) else v}" for k, v in value.items())


def _budget(archive: Archive) -> list[dict[str, Any]]:
    meter = Meter(parse_budget(archive.config.budget), clock=lambda: 0.0)
    meter.remember(archive.study.spent, read_tally(archive.folder.tally))
    return meter.rows()


def _head(archive: Archive) -> dict[str, Any]:
    config = archive.config
    return {
        "name": archive.folder.path.resolve().name, "path": str(archive.folder.path), "space": config.space, "data": config.data,
        "source": archive.study.space.spec.source, "budget": config.budget, "strategy": config.strategy, "seed": config.seed,
        "command": command(config), "plugins": on_command_line(config.plugins), "deploy": size_words(archive.deploy),
        "proxy": size_words(archive.proxy),
        "same_size": archive.deploy == archive.proxy,
    }  # fmt: skip


def _images(archive: Archive, metadata: Mapping[str, Any]) -> dict[str, int | None]:
    """Sizes of the validation and test splits: as stored, else as the accuracies give them away."""
    completed = [r.metrics["accuracy"] for r in archive.study.records if r.state == "completed" and "accuracy" in r.metrics]
    return {"validation": metadata.get("val_images") or images_behind(completed),
            "test": metadata.get("test_images") or images_behind(list(archive.tested.values()))}  # fmt: skip


def _ties(archive: Archive, judged: Sequence[Record], members: Sequence[Record]) -> dict[int, list[int]]:
    """Of a member of the front the others that may dominate it within their errors; of a trial that is not on it the members
    that it may dominate, which by chance alone are there in its place."""
    table = as_good(judged, members, archive.objectives, archive.checks)
    off = {r.number: [m.number for m, tied in zip(members, row, strict=True) if tied]
           for r, row in zip(judged, table, strict=True)}  # fmt: skip
    return off | ties(members, archive.objectives, archive.checks)


def _trials(archive: Archive, tied: Mapping[int, list[int]], members: set[int],
            images: Mapping[str, int | None]) -> list[dict[str, Any]]:  # fmt: skip
    tested, rows = archive.tested, []
    stored = archive.study.optuna.get_trials(deepcopy=False)
    for record, trial in zip(archive.study.records, stored, strict=False):
        metrics, attrs, ended = record.metrics, record.attrs, trial.datetime_complete
        test = tested.get(record.number) if record.number in members else None
        rows.append({
            "trial": record.number, "phase": phase(record), "state": record.state, "front": record.number in members,
            "ties": tied.get(record.number, []),
            "metrics": dict(metrics), "accuracy_error": binomial_error(metrics.get("accuracy"), images["validation"]),
            "latency_low": attrs.get("latency_low_ms"), "latency_high": attrs.get("latency_high_ms"),
            "test_accuracy": test, "test_error": binomial_error(test, images["test"]), "decisions": dict(record.decisions),
            "identity": record.identity, "seed": record.seed, "duplicate_of": record.duplicate_of, "reason": record.reason,
            "seconds": attrs.get("seconds"), "train_s": attrs.get("train_s"), "measure_s": attrs.get("measure_s"),
            "epochs": attrs.get("epochs"), "curve": attrs.get("curve"), "ended": ended.isoformat() if ended else None,
        })  # fmt: skip
    return rows


def _progress(archive: Archive, judged: Sequence[Record]) -> dict[str, Any]:
    """Growth of the search's and of the random baseline's hypervolume, in one box, and both where their costs are equal."""
    scale = Scale(judged, archive.objectives)
    curves = {name: growth(archive, scale, name) for name in (SEARCH, BASELINE)}
    equal = min((curve["end_s"] for curve in curves.values() if curve["share"]), default=0.0)
    at_equal = {n: max((v for s, v in zip(c["spent_s"], c["share"], strict=True) if s <= equal), default=None)
                for n, c in curves.items()}  # fmt: skip
    return {"reference": scale.reference(), "equal_s": equal, "at_equal": at_equal, **curves}


def spending(records: Sequence[Record]) -> dict[str, dict[str, float]]:
    """Device seconds of every phase: training, measuring, the rest of completed trials, failed and stopped ones; how many.

    ``duplicate`` counts those that cost nothing because they were recognised.
    """
    table: dict[str, dict[str, float]] = {}
    for record in records:
        row = table.setdefault(phase(record), dict.fromkeys(SPENT, 0.0))
        attrs = record.attrs
        seconds = float(attrs.get("seconds") or 0.0)
        row["trials"] += 1
        if record.state in ("failed", "stopped", "duplicate"):
            row[record.state] += 1
        if record.state in ("failed", "stopped"):
            row[f"{record.state}_s"] += seconds
        elif record.state == "completed":
            train, measure = float(attrs.get("train_s") or 0.0), float(attrs.get("measure_s") or 0.0)
            row["training_s"] += train
            row["measuring_s"] += measure
            row["other_s"] += max(0.0, seconds - train - measure)
    return table


def _repeats(records: Sequence[Record], metadata: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Trials trained again with other seeds: every accuracy, the first one included, their mean and standard deviation."""
    rows = []
    for key, again in (metadata.get("repeats") or {}).items():
        first = records[int(key)].metrics.get("accuracy") if int(key) < len(records) else None
        values = [float(v) for v in ([] if first is None else [first]) + list(again)]
        rows.append({"trial": int(key), "accuracies": values, "mean": statistics.fmean(values) if values else None,
                     "std": statistics.stdev(values) if len(values) > 1 else None})  # fmt: skip
    return rows


def _final(records: Sequence[Record], checks: Checks) -> dict[str, Any]:
    """Final trainings beside their proxies, Kendall's rank correlation of the two, and how much it says."""
    rows = [{"trial": number, "proxy_accuracy": records[number].metrics.get("accuracy"), "accuracy": figures["val_accuracy"],
             **figures} for number, figures in checks.final.items()]  # fmt: skip
    found = agreement(proxy_and_final(records, checks.final))
    return {"trials": rows, "rank_correlation": found and found.tau, "rank_chance": found and found.chance,
            "rank_interval": found and found.interval, "rank_text": found and str(found)}  # fmt: skip


def _environment(archive: Archive) -> dict[str, Any]:
    try:
        found = json.loads(archive.folder.environment.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become null."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
