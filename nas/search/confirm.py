"""After the search: the front is measured again, alone, and its best are trained again with other seeds.

What a search reports as best was picked among many noisy figures, so it is likely to have been lucky. These second looks
belong to the budget (its ``repeats`` share), and are kept with the study, not as trials of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nas.search.extras import Extra, page_of, run_extras
from nas.search.loop import SearchLoop
from nas.search.study import Record

MEASURED, TRAINED, SEEDS = 30, 3, 4
"""Members that are measured again at most; most accurate members that are trained again, with so many other seeds at most."""


def confirm(loop: SearchLoop) -> None:
    """Measure and train the front again, as far as its share of the budget goes. Ends early on Ctrl-C."""
    checks, share = loop.ledger.front.checks, loop.rules.shares.before_final
    if timed(loop):
        todo = [Extra(str(r.number), page_of(loop, r), {"stage": {"do": "measure"}})
                for r in loop.ledger.front.members[:MEASURED] if r.number not in checks.again]  # fmt: skip

        def measured(extra: Extra, result: Mapping[str, Any]) -> None:
            if "metrics" in result:
                loop.bench.note(result)
                checks.again[int(extra.name)] = {
                    "median_ms": result["metrics"]["latency"], "low_ms": result["latency_low_ms"],
                    "high_ms": result["latency_high_ms"], "metrics": result["metrics"]}  # fmt: skip
            elif "refused" in result:
                loop.ledger.remark(f"trial {extra.name} was not measured again: {result['refused']}")

        run_extras(loop, todo, measured, measuring=True, share=share, seconds=one_measurement(loop), what="front measured again")

    def trained(extra: Extra, result: Mapping[str, Any]) -> None:
        if not result.get("stopped"):
            loop.meter.count()
            checks.repeats.setdefault(int(extra.name), []).append(result["metrics"]["accuracy"])

    todo = list(_repeats(loop, loop.ledger.front.kept[:TRAINED]))
    run_extras(loop, todo, trained, share=share, seconds=full_training(loop), what="best trained again")
    loop.ledger.write_front()


def _repeats(loop: SearchLoop, members: Iterable[Record]) -> Iterable[Extra]:
    """Every member once before any twice."""
    done = loop.ledger.front.checks.repeats
    epochs = loop.plan.recipe.epochs
    for turn in range(1, SEEDS + 1):
        for record in members:
            if len(done.get(record.number, [])) < turn:
                stage = {"do": "train", "epochs": epochs}
                words = {"stage": stage, "seed": loop.payload["seed"] + turn}
                yield Extra(str(record.number), page_of(loop, record), words)


def full_training(loop: SearchLoop) -> float:
    """Seconds that a whole training takes: the longest of the front's, or the plan's estimate."""
    known = [r.attrs["seconds"] for r in loop.ledger.front.members if "seconds" in r.attrs]
    return max(known, default=loop.plan.epoch_s * loop.plan.recipe.epochs)


def timed(loop: SearchLoop) -> bool:
    """Whether the search measures latency."""
    return "latency" in (loop.payload["measure"] or {"metrics": ()})["metrics"]


def one_measurement(loop: SearchLoop) -> float:
    """Seconds that a measurement takes: the longest of the front's."""
    return max((r.attrs["measure_s"] for r in loop.ledger.front.members if "measure_s" in r.attrs), default=1.0)
