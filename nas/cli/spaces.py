"""``nas spaces``."""

from __future__ import annotations

import math
from typing import Any

from nas.cli.arguments import Arguments
from nas.report.text import big, table
from nas.space.library import bundled_architectures, bundled_spaces, load_space
from nas.space.parse import parse_page
from nas.space.search_space import Architecture


def run(arguments: Arguments) -> dict[str, Any]:
    """List spaces or architectures."""
    if "architectures" in arguments.flags:
        return _architectures(arguments)
    rows: list[dict[str, Any]] = []
    for name in bundled_spaces():
        space = load_space(name)
        size = space.size()
        rows.append({"name": name, "size": None if math.isinf(size) else size, "decisions": len(space.holes),
                     "source": space.spec.source})
    if not arguments.json:
        print(table(("space", "architectures", "decisions", "source"),
                    [(r["name"], big(r["size"]), r["decisions"], r["source"]) for r in rows]))  # fmt: skip
    return {"spaces": rows}


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
