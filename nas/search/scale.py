"""``nas scale``: a found network in, a family B0..Bn out, by coefficients that a small search has compared at equal cost.

A folder holds the plan, the results so far, and the family; the same call goes on where it was killed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from nas.errors import MeasureError, RunError, UsageError
from nas.measure.device import find_device, lock_name
from nas.measure.latency import Latency, measure_latency
from nas.measure.lock import device_lock
from nas.measure.reference import Anchors
from nas.net.build import build
from nas.net.graph import Graph, Size
from nas.net.lower import lower
from nas.search.compound import DOUBLE, LATENCY_WINDOW, TOLERANCE, Candidate, Coefficients, candidates, grid, is_double, spread
from nas.search.final import MARGIN, epoch_seconds, held_folder, page_at
from nas.search.run import RunFolder
from nas.space.page import read_file
from nas.space.search_space import Architecture
from nas.space.unparse import to_page, to_yaml
from nas.train.data import Dataset
from nas.train.fit import fit
from nas.train.recipe import Recipe
from nas.train.seeding import derive_seed, seed_everything

PLAN, RESULTS, LATENCIES, FAMILY = "scale.yaml", "grid.jsonl", "latency.jsonl", "family.json"
RULES = ("macs", "latency")
LEAST_EPOCHS = 2
"""A candidate is compared after no fewer epochs; where time is short there are fewer candidates."""
MOST_MEASURED = 40
"""Candidates whose latency is measured by the latency rule."""
ATTEMPTS, PAUSE_S = 2, 5.0
"""A refused measurement (a busy machine) is tried again after a pause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How candidates are compared: trained by a recipe on data at their own resolution (``load`` takes a side in pixels,
    None for the images' own), within ``seconds``, those that double ``rule``."""

    load: Callable[[int | None], Dataset]
    recipe: Recipe
    rule: str = "macs"
    seconds: float | None = None
    device: str = "cpu"
    seed: int = 0


Say = Callable[[str], None]


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
            search = _Grid(architecture, base, folder, conditions, compare, say)
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


def _settle(folder: Path, words: Mapping[str, Any], search: _Grid | None) -> dict[str, Any]:
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


class _Grid:
    """The comparison of candidates: which there are, how long each is trained, and their results as they come."""

    def __init__(self, architecture: Architecture, base: Size, folder: Path, conditions: Mapping[str, Any], compare: Comparison,
                 say: Say) -> None:  # fmt: skip
        self.architecture, self.base, self.folder, self.conditions = architecture, base, folder, conditions
        self.compare, self.say, self.data = compare, say, compare.load(None)
        self.recipe = compare.recipe.on(compare.device)

    def words(self) -> dict[str, Any]:
        """What makes it this comparison and no other."""
        return {"data": self.data.fingerprint, "recipe": self.recipe.to_mapping(), "rule": self.compare.rule,
                "seed": self.compare.seed}  # fmt: skip

    def plan(self) -> dict[str, Any]:
        """The candidates, and the epochs that each is trained: the same number, for their costs are about equal."""
        start = time.perf_counter()
        found = self._by_latency() if self.compare.rule == "latency" else self._by_macs()
        graph, recipe, seconds = lower(self.architecture, self.base), self.recipe, self.compare.seconds
        epochs = recipe.epochs
        if seconds is not None:
            data = self._data(self.base)
            epoch_s = DOUBLE * epoch_seconds(graph, data, recipe, self.compare.seed, self.compare.device)
            left = seconds * MARGIN - (time.perf_counter() - start)
            if (most := int(left / epoch_s / min(LEAST_EPOCHS, epochs))) < 2:
                raise UsageError("the budget is too small to compare anything", got=f"{seconds:g} s",
                                 expected=f"{(2 * LEAST_EPOCHS * epoch_s + seconds - left):.0f} s or more")  # fmt: skip
            found = spread(found, most)
            epochs = max(1, min(epochs, int(left / epoch_s / len(found))))
        self.say(f"{len(found)} candidates of about twice the {self.compare.rule}, {epochs} epochs each")
        return {"epochs": epochs, "candidates": [list(c.coefficients.triple) for c in found]}

    def _by_macs(self) -> list[Candidate]:
        """Those whose product and whose real multiply-adds, after all rounding, are about twice the base's."""
        window = (DOUBLE * (1 - TOLERANCE), DOUBLE * (1 + TOLERANCE))
        every = list(candidates(self.architecture, self.base, grid(window)))
        return _doubling([(candidate, candidate.cost) for candidate in every], "multiply-adds")

    def _by_latency(self) -> list[Candidate]:
        """Those whose latency, measured, is about twice the base's."""
        every = spread(list(candidates(self.architecture, self.base, grid(LATENCY_WINDOW, step=0.1))), MOST_MEASURED)
        known = {tuple(row["size"]): row["latency_ms"] for row in _rows(self.folder / LATENCIES)}

        def latency(size: Size, graph: Graph) -> float:
            key = (size.depth, size.width, *(size.input or ()))
            if key not in known:
                known[key] = measured(graph, self.conditions, self.folder).median_ms
                _append(self.folder / LATENCIES, {"size": list(key), "latency_ms": known[key]})
            return float(known[key])

        before = latency(self.base, lower(self.architecture, self.base))
        self.say(f"the base takes {before:.3g} ms; measuring {len(every)} candidates")
        return _doubling([(c, latency(c.size, c.graph) / before) for c in every], "latency")

    def _data(self, size: Size) -> Dataset:
        if size.input == self.data.input_shape or size.input is None:
            return self.data
        return self.compare.load(size.input[1])

    def run(self, plan: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Train what is not trained yet; all results."""
        rows = _rows(self.folder / RESULTS)
        known = {(row["alpha"], row["beta"], row["gamma"]) for row in rows}
        for number, triple in enumerate(plan["candidates"], start=1):
            if tuple(triple) not in known:
                row = self._train(Coefficients(*triple), plan["epochs"])
                _append(self.folder / RESULTS, row)
                rows.append(row)
                self.say(f"candidate {number} of {len(plan['candidates'])}: {Coefficients(*triple)}: validation"
                         f" {row['val_accuracy']:.2%}, {row['macs_ratio']:.2f}x MACs, {row['seconds']:.3g} s")  # fmt: skip
        return rows

    def _train(self, coefficients: Coefficients, epochs: int) -> dict[str, Any]:
        how = self.compare
        size = coefficients.size(self.base, 1)
        graph = lower(self.architecture, size)
        with seed_everything(derive_seed(how.seed, "weights"), how.device):
            network = build(graph).to(how.device)
        result = fit(network, self._data(size).sealed(), self.recipe.lasting(epochs), seed=derive_seed(how.seed, "training"),
                     device=how.device)  # fmt: skip
        macs = lower(self.architecture, self.base).macs
        return {**asdict(coefficients), "input": list(size.input or ()), "num_params": graph.num_params, "macs": graph.macs,
                "macs_ratio": graph.macs / max(macs, 1), "epochs": epochs, "val_accuracy": result.val_accuracy,
                "val_loss": result.last.val_loss, "seconds": result.seconds}  # fmt: skip


def _doubling(known: list[tuple[Candidate, float]], what: str) -> list[Candidate]:
    found = [candidate for candidate, cost in known if is_double(cost)]
    if not found:
        nearest = min((cost for _, cost in known), key=lambda cost: abs(cost - DOUBLE), default=None)
        raise UsageError(f"no coefficients about double the {what} of this network", expected="a cost of 1.8 to 2.2 times",
                         got="none" if nearest is None else f"{nearest:.2f} times at best",
                         hint="Repeats and channels round up in so small a network: start from a larger one, or give "
                              "coefficients=1.2,1.1,1.15.")  # fmt: skip
    return found


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


def measured(graph: Graph, conditions: Mapping[str, Any], folder: Path) -> Latency:
    """Latency of the graph's network; all of a folder share the reference's quiet time. Raises MeasureError."""
    channels, height, width = graph.inputs[0][1]
    with seed_everything(0):
        network = build(graph)
    for attempt in range(ATTEMPTS):
        try:
            with device_lock(lock_name(find_device(conditions["device"]))):
                return measure_latency(network, (channels, height, width), anchors=Anchors(folder), **conditions)
        except MeasureError:
            if attempt == ATTEMPTS - 1:
                raise
            time.sleep(PAUSE_S)
    raise AssertionError


def _rows(path: Path) -> list[dict[str, Any]]:
    """The results so far; a line that a kill has torn is cut off."""
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        RunFolder(path.parent).write(path, whole)
    try:
        return [dict(json.loads(line)) for line in whole.splitlines()]
    except (ValueError, TypeError) as error:
        raise RunError("the results cannot be read", where=str(path), got=str(error), hint="Delete the file.") from None


def _append(path: Path, row: Mapping[str, Any]) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
    except OSError as error:
        raise RunError("cannot be written", where=str(path), got=error.strerror) from None
