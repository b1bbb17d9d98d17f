"""``nas spaces``."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from nas.cli.arguments import Arguments
from nas.net.costs import SAMPLES, bundled_costs
from nas.report.text import big, count, table
from nas.space.library import bundled_architectures, bundled_spaces, load_space
from nas.space.parse import parse_page
from nas.space.search_space import Architecture


def run(arguments: Arguments) -> dict[str, Any]:
    """List spaces or architectures."""
    if "architectures" in arguments.flags:
        return _architectures(arguments)
    rows: list[dict[str, Any]] = []
    costs = bundled_costs()
    for name in bundled_spaces():
        space = load_space(name)
        size = space.size()
        rows.append({"name": name, "size": None if math.isinf(size) else size, "decisions": len(space.holes),
                     **asdict(costs[name]), "source": space.spec.source})  # fmt: skip
    if not arguments.json:
        print(table(("space", "architectures", "decisions", "params", "MACs", "source"),
                    [(r["name"], big(r["size"]), r["decisions"], _spread(r, "params"), _spread(r, "macs"), r["source"])
                     for r in rows]))  # fmt: skip
        print(f"\nparams, MACs: smallest, median and largest of {SAMPLES} samples, at the size of the page")
    return {"samples": SAMPLES, "spaces": rows}


def _spread(row: dict[str, Any], what: str) -> str:
    return " ".join(count(row[f"{what}_{which}"]).rjust(5) for which in ("min", "median", "max"))


def _architectures(arguments: Arguments) -> dict[str, Any]:
    from nas.net.lower import lower

    rows: list[dict[str, Any]] = []
    for name, page in bundled_architectures().items():
        architecture = Architecture(parse_page(page))
        graph = lower(architecture)
        rows.append({"name": name, "reference": architecture.spec.reference, "num_params": graph.num_params, "macs": graph.macs,
                     "input": list(architecture.spec.input)})  # fmt: skip
    if not arguments.json:
        print(table(("architecture", "params", "MACs", "input", "reference"),
                    [(r["name"], f"{r['num_params']:,}", f"{r['macs']:,}", "x".join(map(str, r["input"])), r["reference"])
                     for r in rows]))  # fmt: skip
    return {"architectures": rows}
