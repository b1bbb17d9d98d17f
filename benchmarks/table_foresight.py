"""What a latency table adds to what a search foresees of latency, on networks measured here.

    nas latency-table benchmarks/small_page.yaml networks=10 check=20 out=DIR/table.json
    mkdir DIR/own; cp DIR/table.json DIR/own
    nas latency-table benchmarks/small_page.yaml networks=1 seed=1 check=190 out=DIR/own/table.json
    python -m benchmarks.table_foresight DIR/table.json DIR/own/table.json [--repeats 20] [--write]

The first file is the table with the networks that it keeps whole. The second stands for a search: networks measured in another
process, and in another unit (the reference's quiet time is recorded anew in its folder), as a search's are. So many of them,
drawn at random, are told to :class:`nas.measure.foresight.Foresight` one by one, and others are asked for. Three arms: ``none``
knows what it was told; ``networks`` also the table's whole networks; ``table`` also its sums. Of those foreseen: Spearman's rank
correlation and mean absolute percentage error of the medians, and of the 99 % bounds the share of measurements above the low one
(``kept``) and its mean distance from the median. No figure: nothing is foreseen yet. Half a minute on a core, without measuring.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from benchmarks.conditions import Row, write_rows
from benchmarks.predictor import spearman
from nas.measure.foresight import CONFIDENCE, Foresight
from nas.measure.table import LatencyTable, Sums
from nas.net.graph import Graph

OWN, ASKED = (0, 10, 20, 50, 100), 50
ARMS = ("none", "networks", "table")
Networks = list[tuple[Graph, float]]


def read(path: Path) -> LatencyTable:
    """A table, whatever its conditions."""
    return LatencyTable(path, json.loads(path.read_text(encoding="utf-8"))["conditions"])


def foresight(arm: str, sums: Sums) -> Foresight:
    """As a search would begin."""
    if arm == "table":
        return Foresight(sums)
    found = Foresight()
    for graph, ms in sums.whole if arm == "networks" else ():
        found.add(graph, ms)
    return found


def judge(found: Foresight, asked: Networks) -> tuple[float, ...] | None:
    """See the head of this file."""
    told = [(interval, ms) for graph, ms in asked if (interval := found.interval(graph)) is not None]
    if len(told) < len(asked) / 2:
        return None
    low, median, _ = np.array([interval for interval, _ in told]).T
    truth = np.array([ms for _, ms in told])
    return (len(told) / len(asked), spearman(median, truth), 100 * float(np.mean(np.abs(median / truth - 1))),
            100 * float(np.mean(truth >= low)), 100 * float(np.mean(1 - low / median)))  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("own", type=Path)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--write", action="store_true", help="write results/benchmarks/table_foresight.csv")
    given = parser.parse_args()
    table, second = read(given.table), read(given.own)
    search = {key: whole for key, whole in second.whole.items() if key not in table.whole}
    units = {whole.figure.reference_depth: whole.figure.reference_ms for whole in search.values()}
    sums, own = Sums(table, units), [(whole.graph(), whole.figure.median_ms) for whole in search.values()]
    additive = sums.additivity()
    assert additive is not None, "the table keeps networks whole"
    width = np.mean([(w.figure.high_ms - w.figure.low_ms) / 2 / w.figure.median_ms for w in search.values()])
    about = {
        "entries": len(table.entries), "whole": len(table.whole), "networks_own": len(own), "ratio": round(additive.ratio, 3),
        "scaled_error_percent": round(100 * additive.scaled_error, 2),
        "median_ms": round(float(np.median([ms for _, ms in own])), 3),
        "own_interval_percent": round(100 * float(width), 2), "repeats": given.repeats,
        **{key: table.conditions[key] for key in ("device", "torch", "runtime", "batch", "threads", "dtype")},
    }  # fmt: skip
    figures: dict[tuple[str, int], list[tuple[float, ...]]] = {(arm, n): [] for arm in ARMS for n in OWN}
    for seed in range(given.repeats):
        order = np.random.default_rng(seed).permutation(len(own))
        taught, asked = order[: max(OWN)], [own[i] for i in order[-ASKED:]]
        for arm in ARMS:
            found, told = foresight(arm, sums), 0
            for n in OWN:
                for index in taught[told:n]:
                    found.add(*own[index])
                told = n
                if (judged := judge(found, asked)) is not None:
                    figures[arm, n].append(judged)
    rows: list[Row] = []
    for (arm, n), judged in figures.items():
        names = ("foreseen", "spearman", "mape_percent", "kept_percent", "low_below_median_percent")
        means = np.mean(judged, 0).round(3).tolist() if judged else [0.0, *[""] * 4]
        rows.append({"arm": arm, "own": n, **dict(zip(names, means, strict=True)), "confidence": CONFIDENCE, **about})
        print({key: rows[-1][key] for key in ("arm", "own", *names)}, flush=True)
    print(about)
    if given.write:
        write_rows("table_foresight.csv", rows)


if __name__ == "__main__":
    main()
