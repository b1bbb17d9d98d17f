"""``nas scale``: a found network in, a family B0..Bn out, by coefficients that a small search has compared at equal cost.

A folder holds the plan, the results so far, and the family; the same call goes on where it was killed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml

from nas.errors import MeasureError, RunError, UsageError
from nas.net.graph import Size
from nas.net.lower import lower
from nas.search.compound import Coefficients
from nas.search.final import held_folder, page_at
from nas.search.run import RunFolder
from nas.search.scale_grid import Comparison, Grid, Say, measured
from nas.space.page import read_file
from nas.space.search_space import Architecture
from nas.space.unparse import to_page, to_yaml

PLAN, FAMILY = "scale.yaml", "family.json"


def scale(
    architecture: Architecture, base: Size, *, name: str, folder: Path, conditions: Mapping[str, Any], members: int = 4,
    coefficients: Coefficients | None = None, compare: Comparison | None = None, say: Say,
) -> dict[str, Any]:  # fmt: skip
    """Write the family of a network, and return what family.json holds.

    The base is ``architecture`` at ``base``, whose input is known. Without ``coefficients`` those of the most accurate
    candidate that ``compare`` trains are taken. ``conditions`` are those of ``measure_latency``. Raises UsageError when no
    candidate doubles the cost or the budget is too small, RunError when the folder holds another scaling.
    """
    words = {"page": to_page(page_at(architecture, base, name)), "members": members,
             "conditions": {key: value for key, value in conditions.items() if value is not None},
             "coefficients": None if coefficients is None else list(coefficients.triple)}  # fmt: skip
    with held_folder(folder):
        search = None
        if coefficients is None:
            if compare is None:
                raise UsageError("there are neither coefficients nor data to find them on")
            search = Grid(architecture, base, folder, conditions, compare, say)
        plan = _settle(folder, {**words, **(search.words() if search else {})}, search)
        if (done := _finished(folder / FAMILY)) is not None:
            return done
        results = search.run(plan) if search else []
        if coefficients is None:
            best = max(results, key=lambda row: (row["val_accuracy"], -row["macs"]))
            coefficients = Coefficients(best["alpha"], best["beta"], best["gamma"])
            say(f"the best of {len(results)}: {coefficients}")
        family = [_member(architecture, base, coefficients, phi, name, folder, conditions, say) for phi in range(members)]
        document = {"name": name, "coefficients": asdict(coefficients), "product": coefficients.product,
                    "rule": search.compare.rule if search else None, "grid": results, "family": family}  # fmt: skip
        RunFolder(folder).write(folder / FAMILY, json.dumps(document, indent=2) + "\n")
    return document


def _finished(path: Path) -> dict[str, Any] | None:
    """The family that was made before; None where there is none, or a member's latency was refused: it is tried again."""
    try:
        done: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return done if all(member["latency_ms"] is not None for member in done["family"]) else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError("the family cannot be read", where=str(path), got=str(error), hint="Delete the file.") from None


def _settle(folder: Path, words: Mapping[str, Any], search: Grid | None) -> dict[str, Any]:
    """What was planned when the scaling began, or is now. Raises RunError when it was another one."""
    path, plain = folder / PLAN, json.loads(json.dumps(words))
    if path.is_file():
        known = json.loads(json.dumps(read_file(path)))
        for key, value in plain.items():
            if known.get(key) != value:
                raise RunError(f"this folder holds a scaling with another {key}", where=str(folder),
                               hint="Choose another folder with out=DIR, or delete this one.")  # fmt: skip
        return dict(known)
    plan = {**plain, **(search.plan() if search else {})}
    RunFolder(folder).write(path, yaml.safe_dump(plan, sort_keys=False))
    return plan


def _member(architecture: Architecture, base: Size, coefficients: Coefficients, phi: int, name: str, folder: Path,
            conditions: Mapping[str, Any], say: Say) -> dict[str, Any]:  # fmt: skip
    """Write the page of a member, and measure it; a refused measurement is told and leaves no figure."""
    size = coefficients.size(base, phi)
    note = f"compound scaling (Tan & Le 2019) of {name}: {coefficients}, phi {phi}"
    spec = page_at(architecture, size, f"{name}_b{phi}")
    spec = replace(spec, source=f"{spec.source}; {note}" if spec.source else note, reference="")
    graph = lower(Architecture(spec))
    page = folder / f"{spec.name}.yaml"
    RunFolder(folder).write(page, to_yaml(spec))
    try:
        latency = measured(graph, conditions, folder)
    except MeasureError as error:
        say(f"{spec.name} could not be measured: {error}")
        latency = None
    return {
        "name": spec.name, "phi": phi, "page": str(page), "input": list(spec.input), "width": size.width, "depth": size.depth,
        "num_params": graph.num_params, "macs": graph.macs, "latency_ms": latency and latency.median_ms,
        "latency": latency and latency.to_mapping(),
    }  # fmt: skip
