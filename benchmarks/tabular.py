"""Search strategies on measured tables: what each finds after so many distinct evaluations, all on the same observations.

A strategy sees one training's validation accuracy an architecture, drawn by the seed; it is scored by mean test accuracy,
which it never sees. An architecture that is proposed again is answered from memory and costs nothing. Two arms of ``auto``
with latency: ``auto`` is told the latency of every candidate that it considers, as where a table or a predictor has it;
``auto, latency modelled`` learns it from the evaluated ones alone, as a search that measures has it, and as the other
strategies have it. Simulated workers are asynchronous: a training takes the table's seconds, and the first to end is told first.

Every (table, device, workers, strategy, seed) is a cell: finished ones are kept in a CSV file and not run again, so a run
can be interrupted, and seeds be added.

    NAS_DATA=folder python -m benchmarks.tabular --tables cifar10 --seeds 10 --write
"""

from __future__ import annotations

import argparse
import heapq
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from benchmarks.tables import TABLES, Table
from nas.search.objectives import nondominated
from nas.search.samplers import STRATEGIES as OURS
from nas.search.samplers import SurrogateSampler, fitted

STEPS = (10, 20, 30, 50, 75, 100, 150, 200, 300, 500, 750, 1000, 1500, 2000, 3000, 5000)

PROPOSALS = 10
"""A strategy that repeats itself is stopped after so many proposals for every evaluation."""

_EVOLUTION = {"population": 10, "sample": 5}
SIZES: Mapping[str, Mapping[str, int]] = {"regularized_evolution": _EVOLUTION, "non_aging_evolution": _EVOLUTION}
"""Published settings for these tables (Dong & Yang 2020: evolution on NAS-Bench-201); else those of a search of EXPECTED."""

EXPECTED = 500

CELL = ["table", "device", "workers", "strategy", "seed"]
RAW = Path("results/tabular/cells.csv")
WRITTEN = Path("results/benchmarks/tabular.csv")


@dataclass(frozen=True, slots=True)
class Problem:
    """A table as one seed sees it; ``device`` adds its latency as the second objective."""

    table: Table
    seed: int
    device: str | None = None

    def known(self, decisions: Mapping[str, object]) -> dict[str, float]:
        """What is known before training."""
        return {"latency": float(self.table.latency[self.device][self.table.row(decisions)])} if self.device else {}


PEERS: dict[str, Callable[[int], BaseSampler]] = {
    "Optuna TPE": lambda seed: optuna.samplers.TPESampler(seed=seed),
    "Optuna TPE, multivariate, group": lambda seed: optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True),
    "Optuna NSGA-II": lambda seed: optuna.samplers.NSGAIISampler(seed=seed),
    "Optuna GP": lambda seed: optuna.samplers.GPSampler(seed=seed),
}
"""As a user calls them: one ``trial.suggest_categorical`` for every decision."""

MODELLED = "auto, latency modelled"
STRATEGIES = ("auto", MODELLED, *OURS, *PEERS)


def sampler_of(name: str, problem: Problem) -> BaseSampler:
    """The strategy by name: ours, a peer, or ``auto`` (the surrogate, with latency known before training or modelled)."""
    if name in PEERS:
        return PEERS[name](problem.seed)
    table = problem.table
    if name in ("auto", MODELLED):
        told = problem.device and name == "auto"
        known = (lambda architecture: problem.known(architecture.decisions)) if told else None
        return SurrogateSampler(table.space, seed=problem.seed, known=known, coder=table.coder)
    return OURS[name](table.space, seed=problem.seed, **SIZES.get(name, fitted(name, table.space, EXPECTED)))


def replay(problem: Problem, sampler: BaseSampler, evaluations: int, workers: int = 1) -> Iterator[tuple[int, float, list[int]]]:
    """Search; at every step: how many evaluations there were, simulated seconds, and the rows that the strategy recommends."""
    table = problem.table
    directions = ["maximize", "minimize"] if problem.device else ["maximize"]
    study = optuna.create_study(directions=directions, sampler=sampler)
    study.set_metric_names(["accuracy", "latency"][: len(directions)])
    ends: dict[int, float] = {}
    first: dict[int, int] = {}
    rows: list[int] = []
    flying: list[tuple[float, int, optuna.Trial]] = []
    now, done, busy = 0.0, 0, 0
    while done < evaluations:
        while busy < workers and len(rows) < PROPOSALS * evaluations:
            trial = study.ask()
            row = table.row(table.space.suggest(trial).decisions)
            rows.append(row)
            busy += first.setdefault(row, trial.number) == trial.number
            ends.setdefault(row, now + table.seconds[row])
            heapq.heappush(flying, (max(now, ends[row]), trial.number, trial))
            if ends[row] <= now:
                break
        if not flying:  # it repeats itself: what it recommends stays so
            last = [rows[n] for n in recommended(study, sampler)]
            yield from ((step, now, last) for step in STEPS if done < step <= evaluations)
            return
        end, number, trial = heapq.heappop(flying)
        row = rows[number]
        now = max(now, end)
        study.tell(trial, [table.seen(row, problem.seed) / 100, *problem.known(trial.params).values()])
        if first[row] == number:
            busy, done = busy - 1, done + 1
            if done in STEPS:
                yield done, now, [rows[n] for n in recommended(study, sampler)]


def recommended(study: optuna.Study, sampler: BaseSampler) -> list[int]:
    """Numbers of the trials that a strategy recommends: its own word, or what was seen to be the best."""
    if isinstance(sampler, SurrogateSampler):
        return sampler.recommend(study)
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    losses = np.array([[-trial.values[0], *trial.values[1:]] for trial in done])
    front = [trial.number for trial, best in zip(done, nondominated(losses), strict=True) if best]
    return front[:1] if losses.shape[1] == 1 else front


def run(problem: Problem, name: str, evaluations: int, workers: int) -> pd.DataFrame:
    """One cell: a row for every step."""
    table, start = problem.table, time.process_time()
    cell = {"table": table.name, "device": problem.device or "", "workers": workers, "strategy": name, "seed": problem.seed}
    return pd.DataFrame([
        cell | {"evaluations": step, "score": table.score(rows, problem.device), "simulated_s": seconds,
                "cpu_s": time.process_time() - start, "ceiling": table.ceiling(problem.seed, problem.device)}
        for step, seconds, rows in replay(problem, sampler_of(name, problem), evaluations, workers)
    ])  # fmt: skip


def read(path: Path) -> pd.DataFrame:
    """The cells that were run."""
    empty = pd.DataFrame(columns=[*CELL, "evaluations", "score", "simulated_s", "cpu_s", "ceiling"])
    return pd.read_csv(path, keep_default_na=False, na_values=["nan", "NaN"]) if path.exists() else empty


def summary(cells: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard error over the seeds, beside them the mean ceiling and how many seeds there are.

    ``regret``: below the best test accuracy of the table; of a hypervolume, below the true front's.
    """
    best = {make().name: make().best for make in TABLES.values() if make().name in set(cells["table"])}
    cells = cells.assign(ceiling=pd.to_numeric(cells["ceiling"], errors="coerce"))
    groups = cells.groupby(["table", "device", "workers", "strategy", "evaluations"])
    told = groups.agg(mean=("score", "mean"), error=("score", "sem"), ceiling=("ceiling", "mean"), seeds=("seed", "nunique"),
                      simulated_s=("simulated_s", "mean"), cpu_s=("cpu_s", "mean")).reset_index()  # fmt: skip
    top = np.where(told["device"] == "", told["table"].map(best), 1.0)
    told.insert(7, "regret", top - told["mean"])
    return told.round({"mean": 5, "error": 5, "regret": 5, "ceiling": 5, "simulated_s": 0, "cpu_s": 2})


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--tables", nargs="+", default=["cifar10"], choices=list(TABLES))
    options.add_argument("--strategies", nargs="+", default=["random", "auto"], choices=STRATEGIES, metavar="NAME")
    options.add_argument("--devices", nargs="*", default=[""], help="latencies to be the second objective; all: every one")
    options.add_argument("--seeds", type=int, default=10)
    options.add_argument("--first", type=int, default=0, help="the first seed")
    options.add_argument("--evaluations", type=int, default=200)
    options.add_argument("--workers", type=int, nargs="+", default=[1])
    options.add_argument("--raw", type=Path, default=RAW)
    options.add_argument("--minutes", type=float, default=1e9, help="begin no cell after so long")
    options.add_argument("--write", action="store_true", help=f"write what there is to {WRITTEN}")
    chosen = options.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore")
    _run_all(chosen)
    if chosen.write:
        summary(read(chosen.raw)).to_csv(WRITTEN, index=False)


def _run_all(chosen: argparse.Namespace) -> None:
    """Seed by seed, so that an interrupted run has as many of each strategy."""
    end = time.monotonic() + 60 * chosen.minutes
    chosen.raw.parent.mkdir(parents=True, exist_ok=True)
    cells = read(chosen.raw)
    deepest = cells.groupby(CELL)["evaluations"].max().to_dict() if len(cells) else {}
    for seed, name in product(range(chosen.first, chosen.first + chosen.seeds), chosen.tables):
        table = TABLES[name]()
        devices: Sequence[str] = list(table.latency) if chosen.devices == ["all"] else chosen.devices
        for device, workers, strategy in product(devices, chosen.workers, chosen.strategies):
            key = (table.name, device, workers, strategy, seed)
            if deepest.get(key, 0) >= chosen.evaluations or time.monotonic() > end:
                continue
            found = run(Problem(table, seed, device or None), strategy, chosen.evaluations, workers)
            # A deeper run repeats the shallow one's steps.
            new = found[found["evaluations"] > deepest.get(key, 0)]
            new.to_csv(chosen.raw, mode="a", index=False, header=not chosen.raw.exists())
            last = found.iloc[-1]
            print(*key, f"{last.evaluations}: {last.score:.4f}, {last.cpu_s:.1f} s", flush=True)


if __name__ == "__main__":
    main()
