"""Every network with known figures: parameters and multiply-adds as counted here, and as the reference says.

    python benchmarks/networks.py [--reference FILE] [--write]

Without ``--reference`` the figures are those that the tests hold (tests/data/reference_models.json). Another file has
``models``: name -> ``params``, ``macs`` (null where unknown), with the names that pages write under ``reference:``; names
without a page are listed too. ``equal``: yes; the difference in parameters, or in multiply-adds where parameters are equal;
``no figures`` where the reference prints none; ``no page``. ``--write`` stores results/benchmarks/networks.csv. Nothing is
built: a second in all.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

from nas.net.graph import Graph
from nas.net.lower import lower
from nas.report.text import table
from nas.space.library import bundled_architectures
from nas.space.parse import parse_page
from nas.space.search_space import Architecture

ROOT = Path(__file__).resolve().parent.parent
HEADS = ("name", "params", "macs", "reference", "reference_params", "reference_macs", "equal")
Row = tuple[str, ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, default=ROOT / "tests" / "data" / "reference_models.json")
    parser.add_argument("--write", action="store_true", help="write results/benchmarks/networks.csv")
    arguments = parser.parse_args()
    rows = compare(json.loads(arguments.reference.read_text(encoding="utf-8")))
    print(table(HEADS, rows))
    print(f"\n{len(rows)} rows, {sum(row[-1] == 'yes' for row in rows)} equal")
    if arguments.write:
        with (ROOT / "results" / "benchmarks" / "networks.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([HEADS, *rows])


def compare(figures: dict[str, Any]) -> list[Row]:
    """A row a page with figures, then one a name of the reference that has no page."""
    models, others = figures["models"], figures.get("figures", {})
    rows, seen = [], set()
    for name, page in bundled_architectures().items():
        architecture = Architecture(parse_page(page))
        reference = architecture.spec.reference if architecture.spec.reference in models else ""
        seen.add(reference)
        if known := models.get(reference) or others.get(name):
            graph = lower(architecture)
            said = (reference or "its paper's code", _number(known["params"]), _number(known["macs"]))
            rows.append((name, str(graph.num_params), str(graph.macs), *said, judge(graph, known, exact=bool(reference))))
    left = (name for name in models if name not in seen)
    return rows + [("", "", "", name, _number(models[name]["params"]), _number(models[name]["macs"]),
                    "no page" if models[name]["params"] else "no figures") for name in left]  # fmt: skip


def judge(graph: Graph, known: dict[str, Any], *, exact: bool) -> str:
    """Whether a graph has the figures; multiply-adds that are printed rounded are equal within 0.5 %."""
    if known["params"] is None:
        return "no figures"
    if graph.num_params != known["params"]:
        return f"{graph.num_params - known['params']:+d} params"
    difference = graph.macs - (known["macs"] or graph.macs)
    return "yes" if abs(difference) <= (0 if exact else 0.005 * graph.macs) else f"{difference:+d} MACs"


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


if __name__ == "__main__":
    main()
