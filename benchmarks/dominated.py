"""What a search saves by not trying what is surely dominated, how often that is wrong, and what it does to the front.

    NAS_DATA=DIR python -m benchmarks.dominated [--devices pixel3 ...] [--strategies auto ...] [--seeds 3] [--write]

The real search loop over simulated workers (as :mod:`benchmarks.simulator`), which answer from NAS-Bench-201 on CIFAR-10: a
measurement tells the table's latency on the device, a training one seed's validation accuracy. Of every setting two searches of
the same seed: one that spares candidates (:mod:`nas.search.outlook`), one that tries all. ``num_params`` for a device is a
search for accuracy and few parameters; ``product`` one for accuracy*(latency/LIMIT)^-0.07 on pixel3 (LIMIT its median), which
spares here, as a search with one objective does not: where it ends early (``trained``), its score is that of its end. The
driver's own time is added to the virtual clock, so that the same seed need not give the same search twice.

``spared``: candidates that were not trained, and ``spared_share`` of all but the baseline's; ``wrong``: those of them that would
be on the search's final front by the table, and ``wrong_share``. ``score_N`` and ``score_all_N``: after N trainings of the search
that spares and of the other, the area of the front by test accuracy, as a share of the true front's; of a product its test value
by the most promising network. ``--cells`` holds finished settings, so that a run can be interrupted.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd

from benchmarks.conditions import conditions
from benchmarks.tables import Measured, nas_bench_201
from benchmarks.virtual import VirtualClock, VirtualExecutor
from nas.net.graph import Size
from nas.search.budget import Meter, parse_budget
from nas.search.config import SearchConfig
from nas.search.executors.base import Job
from nas.search.ledger import Ledger
from nas.search.loop import SPARED, SearchLoop
from nas.search.objectives import dominates
from nas.search.planner import Plan
from nas.search.run import RunFolder
from nas.search.samplers import choose_strategy
from nas.search.settled import Settled
from nas.search.shares import Shares
from nas.search.start import payload_of, rules_of
from nas.search.storage import open_storage
from nas.search.study import Record, SearchStudy
from nas.train.recipe import Recipe

FASTER = 1e-3
"""Virtual seconds for one of the table's: the loop looks at its workers every 0.2 s of them."""

STEPS = (50, 100, 200, 300)
WRITTEN = Path("results/benchmarks/dominated.csv")
KEY = ["device", "strategy", "seed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One search."""

    device: str
    strategy: str
    seed: int
    workers: int = 4

    @property
    def objectives(self) -> str:
        """As a user writes them."""
        limit = float(np.median(nas_bench_201().latency["pixel3"]))
        named = {"num_params": "accuracy,num_params", "product": f"accuracy*(latency/{limit:.3g}ms)^-0.07"}
        return named.get(self.device, "accuracy,latency")

    @property
    def measured(self) -> str:
        """The column of the table that is measured."""
        return "pixel3" if self.device in {"num_params", "product"} else self.device

    def settled(self, table: Measured) -> Settled:
        """As a search that has been planned."""
        config = SearchConfig.from_words({
            "space": "nas_bench_201", "data": "digits", "budget": f"{STEPS[-1]}trials", "repeats": "0",
            "objectives": self.objectives, "strategy": self.strategy, "seed": self.seed})  # fmt: skip
        size = Size(input=(3, 32, 32), num_classes=10)
        plan = Plan(deploy=size, proxy=size, batch=1, epoch_s=10.0, notes=(),
                    recipe=Recipe(epochs=10, batch_size=8, learning_rate=0.1))  # fmt: skip
        shares = Shares.chosen(config.shares, strategy=self.strategy, expected=STEPS[-1])
        return Settled.make(config, name="simulated", device="cuda", space=table.space, fingerprint="", plan=plan, shares=shares)


def search(setting: Setting, *, spare: bool) -> list[Record]:
    """The trials of a search, in the order in which they were proposed; those completed carry when they ended."""
    table = nas_bench_201()
    settled, clock, ended = setting.settled(table), VirtualClock(), list[int]()
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder) / "run")
        run.create()
        with open_storage(run.study) as storage:
            study = SearchStudy(storage, settled.space, settled.objectives, settled.constraints, name="simulated")

            def outcome(job: Job) -> tuple[float, dict[str, Any]]:
                row = table.row(study.records[job.trial].decisions)
                if job.payload["stage"]["do"] == "measure":
                    ms = float(table.latency[setting.measured][row])
                    return 0.1, {"metrics": {"latency": ms}, "latency_low_ms": ms, "latency_high_ms": ms, "measure_s": 1.0}
                ended.append(job.trial)
                accuracy = table.seen(row, setting.seed) / 100
                return float(table.seconds[row]) * FASTER, {
                    "metrics": {"accuracy": accuracy}, "epochs": 10, "train_loss": 1 - accuracy, "train_s": 1.0, "curve": []}

            meter = Meter.from_mapping(parse_budget(settled.config.budget), study.spent, clock)
            sampler, _ = choose_strategy(setting.strategy, settled.space, meter.budget, setting.seed, STEPS[-1])
            rules = rules_of(settled)
            assert rules.outlook is not None
            rules.outlook.plain = False  # of one objective a search spares nothing: here it is seen why
            SearchLoop(ledger=Ledger(study, meter, run, settled.plan.deploy), sampler=sampler, plan=settled.plan,
                       executor=VirtualExecutor(clock, setting.workers, outcome), payload=payload_of(settled, run),
                       view=lambda status: None, rules=rules if spare else replace(rules, outlook=None)).run()  # fmt: skip
            for place, trial in enumerate(ended):
                study.records[trial].attrs["place"] = place
            return study.records


def front(records: list[Record], settled: Settled) -> list[Record]:
    """Those that no other dominates."""
    return [r for r in records if not any(dominates(o.metrics, r.metrics, settled.objectives) for o in records)]


def score(members: list[Record], setting: Setting, table: Measured, settled: Settled) -> float:
    """See the head of this file."""
    rows = [table.row(record.decisions) for record in members]
    if setting.device != "product":
        return table.score(rows, setting.device)
    objective = settled.objectives[0]
    return max(objective.value({"accuracy": float(table.test[row]) / 100, "latency": float(table.latency["pixel3"][row])})
               for row in rows)  # fmt: skip


def judged(setting: Setting) -> Mapping[str, object]:
    """A row: both searches of a setting."""
    table = nas_bench_201()
    settled = setting.settled(table)
    row: dict[str, object] = {"device": setting.device, "strategy": setting.strategy, "seed": setting.seed}
    for spare, name in ((True, "score"), (False, "score_all")):
        records = search(setting, spare=spare)
        done = sorted((r for r in records if r.state == "completed"), key=lambda r: r.attrs["place"])
        scores = {f"{name}_{n}": round(score(front(done[:n], settled), setting, table, settled), 5) for n in STEPS}
        if spare:
            spared = [r for r in records if SPARED in r.attrs]
            others = [r for r in done if r.attrs.get("phase") != "baseline"]
            final = front(done, settled)
            wrong = sum(not any(dominates(m.metrics, known, settled.objectives) for m in final)
                        for known in (truth(r, setting, table) for r in spared))  # fmt: skip
            row |= {"trained": len(done), "baseline": len(done) - len(others), "spared": len(spared), "wrong": wrong,
                    "spared_share": round(len(spared) / (len(spared) + len(others)), 4)}  # fmt: skip
        row |= scores
    return row


def truth(record: Record, setting: Setting, table: Measured) -> dict[str, float]:
    """What a candidate that was spared would have been found to be."""
    row = table.row(record.decisions)
    return {**record.metrics, "accuracy": table.seen(row, setting.seed) / 100,
            "latency": float(table.latency[setting.measured][row])}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", nargs="+", default=["pixel3", "fpga", "raspi4", "num_params", "product"])
    parser.add_argument("--strategies", nargs="+", default=["auto", "regularized_evolution", "nsga2"])
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cells", type=Path, default=Path("results/dominated/cells.csv"))
    parser.add_argument("--write", action="store_true", help=f"write what there is to {WRITTEN}")
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    table = nas_bench_201()
    table.latency = {**table.latency, "num_params": parameters(table)}
    given.cells.parent.mkdir(parents=True, exist_ok=True)
    done = {tuple(map(str, key)) for key in pd.read_csv(given.cells)[KEY].to_numpy()} if given.cells.exists() else set()
    for seed, device, strategy in product(range(given.first, given.first + given.seeds), given.devices, given.strategies):
        if (device, strategy, str(seed)) not in done:
            row = judged(Setting(device=device, strategy=strategy, seed=seed))
            print(row, flush=True)
            pd.DataFrame([row]).to_csv(given.cells, mode="a", index=False, header=not given.cells.exists())
    cells = pd.read_csv(given.cells)
    print(means(cells).to_string(index=False))
    if given.write:
        means(cells).assign(workers=4, **conditions()).to_csv(WRITTEN, index=False)


def parameters(table: Measured) -> np.ndarray:
    """Millions of parameters of every row, as the table's authors count them."""
    frame = pd.read_parquet(Path(os.environ["NAS_DATA"]) / "nasbench201.parquet", columns=["cifar10_params_m"])
    return frame["cifar10_params_m"].to_numpy(float)


def means(cells: pd.DataFrame) -> pd.DataFrame:
    """By device and strategy: sums of counts, means of the others, over the seeds."""
    counts = {name: (name, "sum") for name in ("spared", "wrong")}
    others = {name: (name, "mean") for name in cells if name not in {*KEY, *counts}}
    told = cells.groupby(KEY[:2], sort=False).agg(seeds=("seed", "nunique"), **counts, **others).reset_index()
    told.insert(5, "wrong_share", told["wrong"] / told["spared"].clip(lower=1))
    return told.round(5)


if __name__ == "__main__":
    main()
