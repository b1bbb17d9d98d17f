"""The comparison of ``nas scale``: candidates of about twice the cost, each trained for a short time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nas.errors import MeasureError, RunError, UsageError
from nas.measure.device import find_device, giving_way, lock_name
from nas.measure.latency import Latency, measure_latency
from nas.measure.lock import device_lock
from nas.measure.reference import Anchors
from nas.net.build import build
from nas.net.graph import Graph, Size
from nas.net.lower import lower
from nas.search.compound import (
    DOUBLE,
    NARROW_WINDOW,
    WIDE_WINDOW,
    Candidate,
    Coefficients,
    about,
    candidates,
    grid,
    spread,
    step_cost,
)
from nas.search.final import MARGIN, epoch_seconds
from nas.search.run import RunFolder
from nas.space.search_space import Architecture
from nas.train.data import Dataset
from nas.train.fit import fit
from nas.train.recipe import Recipe
from nas.train.seeding import derive_seed, seed_everything

RESULTS, LATENCIES = "grid.jsonl", "latency.jsonl"
RULES = ("macs", "latency")
"""What a step of the family may double."""

LEAST_EPOCHS = 2
"""A candidate is compared after no fewer epochs; where time is short there are fewer candidates."""
MOST_MEASURED = 40
"""Candidates whose latency is measured by the latency rule."""
ATTEMPTS, PAUSE_S = 2, 5.0
"""A refused measurement (a busy machine) is tried again after a pause."""

Say = Callable[[str], None]


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


class Grid:
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
        found, step = self._by_latency() if self.compare.rule == "latency" else self._by_macs()
        graph, recipe, seconds = lower(self.architecture, self.base), self.recipe, self.compare.seconds
        epochs = recipe.epochs
        if seconds is not None:
            data = self._data(self.base)
            with giving_way(self.compare.device):
                epoch_s = step * epoch_seconds(graph, data, recipe, self.compare.seed, self.compare.device)
            left = seconds * MARGIN - (time.perf_counter() - start)
            if (most := int(left / epoch_s / min(LEAST_EPOCHS, epochs))) < 2:
                raise UsageError("the budget is too small to compare anything", got=f"{seconds:g} s",
                                 expected=f"{(2 * LEAST_EPOCHS * epoch_s + seconds - left):.0f} s or more")  # fmt: skip
            found = spread(found, most)
            epochs = max(1, min(epochs, int(left / epoch_s / len(found))))
        self.say(f"{len(found)} candidates of about {step:.3g} times the {self.compare.rule}, {epochs} epochs each")
        return {"epochs": epochs, "candidates": [list(c.coefficients.triple) for c in found]}

    def _by_macs(self) -> tuple[list[Candidate], float]:
        """Those whose product and whose real multiply-adds, after all rounding, are about twice the base's; and how often."""
        known: list[tuple[Candidate, float]] = []
        for window in (NARROW_WINDOW, WIDE_WINDOW):
            known = [(c, c.cost) for c in candidates(self.architecture, self.base, grid(window))]
            if step_cost([cost for _, cost in known]) == DOUBLE:
                break
        return _doubling(known, "multiply-adds", self.say)

    def _by_latency(self) -> tuple[list[Candidate], float]:
        """Those whose latency, measured, is about twice the base's; and how often."""
        every = spread(list(candidates(self.architecture, self.base, grid(WIDE_WINDOW, step=0.1))), MOST_MEASURED)
        known = {tuple(row["size"]): row["latency_ms"] for row in _rows(self.folder / LATENCIES)}

        def latency(size: Size, graph: Graph) -> float:
            key = (size.depth, size.width, *(size.input or ()))
            if key not in known:
                known[key] = measured(graph, self.conditions, self.folder).median_ms
                _append(self.folder / LATENCIES, {"size": list(key), "latency_ms": known[key]})
            return float(known[key])

        before = latency(self.base, lower(self.architecture, self.base))
        self.say(f"the base takes {before:.3g} ms; measuring {len(every)} candidates")
        return _doubling([(c, latency(c.size, c.graph) / before) for c in every], "latency", self.say)

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
        with giving_way(how.device) as on_step:
            result = fit(network, self._data(size).sealed(), self.recipe.lasting(epochs), seed=derive_seed(how.seed, "training"),
                         device=how.device, on_step=on_step)  # fmt: skip
        macs = lower(self.architecture, self.base).macs
        return {**asdict(coefficients), "input": list(size.input or ()), "num_params": graph.num_params, "macs": graph.macs,
                "macs_ratio": graph.macs / max(macs, 1), "epochs": epochs, "val_accuracy": result.val_accuracy,
                "val_loss": result.last.val_loss, "seconds": result.seconds}  # fmt: skip


def _doubling(known: list[tuple[Candidate, float]], what: str, say: Say) -> tuple[list[Candidate], float]:
    """Those that about double the cost, or come as near to it as any; and what they multiply it by."""
    wanted = step_cost([cost for _, cost in known])
    if wanted is None:
        raise UsageError(f"no coefficients about double the {what} of this network", expected="a cost of 1.2 to 2.8 times",
                         got=", ".join(sorted({f"{cost:.2f}" for _, cost in known})) or "none",
                         hint="Repeats and channels round up in so small a network: start from a larger one, or give "
                              "coefficients=1.2,1.1,1.15.")  # fmt: skip
    if wanted != DOUBLE:
        say(f"no coefficients double the {what} of so small a network: a step is {wanted:.2f} times, the nearest there is")
    return [candidate for candidate, cost in known if about(cost, wanted)], wanted


def measured(graph: Graph, conditions: Mapping[str, Any], folder: Path) -> Latency:
    """Latency of the graph's network; all of a folder share the reference's quiet time. Raises MeasureError."""
    channels, height, width = graph.inputs[0][1]
    with seed_everything(0):
        network = build(graph)
    for attempt in range(ATTEMPTS):
        try:
            with device_lock(lock_name(find_device(conditions["device"]))):
                return measure_latency(network, (channels, height, width), weights="random", anchors=Anchors(folder),
                                       **conditions)  # fmt: skip
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
