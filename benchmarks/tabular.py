"""Search strategies on measured tables: what each finds after so many distinct evaluations, all on the same observations.

A strategy sees one training's validation accuracy an architecture, drawn by the seed; it is scored by mean test accuracy,
which it never sees. An architecture that is proposed again is answered from memory and costs nothing.

    NAS_DATA=folder python -m benchmarks.tabular --seeds 10 --dataset cifar10
"""

from __future__ import annotations

import argparse
import heapq
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from benchmarks.tables import Table, nas_bench_201
from nas.search.objectives import nondominated
from nas.search.samplers import RandomSampler, RegularizedEvolutionSampler, suggest
from nas.search.samplers.surrogate import SurrogateSampler

STEPS = (10, 20, 30, 50, 75, 100, 150, 200, 300, 500)
PROPOSALS = 10
"""A strategy that repeats itself is stopped after so many proposals for every evaluation."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A table as one seed sees it; ``device`` adds its latency as the second objective."""

    table: Table
    seed: int
    device: str | None = None

    @property
    def seen(self) -> np.ndarray:
        return self.table.observe(self.seed)

    def known(self, decisions: Mapping[str, object]) -> dict[str, float]:
        """What is known before training."""
        return {"latency": float(self.table.latency[self.device][self.table.row(decisions)])} if self.device else {}


Maker = Callable[[Problem], BaseSampler]

OURS: dict[str, Maker] = {
    "auto": lambda p: SurrogateSampler(
        p.table.space, seed=p.seed, known=lambda a: p.known(a.decisions), coder=p.table.coder),
    "auto (latency modelled)": lambda p: SurrogateSampler(p.table.space, seed=p.seed, coder=p.table.coder),
    "random": lambda p: RandomSampler(p.table.space, seed=p.seed),
    "regularized evolution": lambda p: RegularizedEvolutionSampler(p.table.space, seed=p.seed, population=10, sample=5),
}  # fmt: skip
PEERS: dict[str, Maker] = {
    "Optuna TPE": lambda p: optuna.samplers.TPESampler(seed=p.seed),
    "Optuna TPE, multivariate, group": lambda p: optuna.samplers.TPESampler(seed=p.seed, multivariate=True, group=True),
    "Optuna NSGA-II": lambda p: optuna.samplers.NSGAIISampler(seed=p.seed),
    "Optuna GP": lambda p: optuna.samplers.GPSampler(seed=p.seed),
}
"""As a user calls them: one ``trial.suggest_categorical`` for every decision."""

STRATEGIES = OURS | PEERS


def replay(problem: Problem, sampler: BaseSampler, evaluations: int, workers: int = 1) -> Iterator[tuple[int, float, list[int]]]:
    """Search; after every evaluation: how many there were, simulated seconds, and the rows that the strategy recommends."""
    table, seen = problem.table, problem.seen
    directions = ["maximize", "minimize"] if problem.device else ["maximize"]
    study = optuna.create_study(directions=directions, sampler=sampler)
    study.set_metric_names(["accuracy", "latency"][: len(directions)])
    ends: dict[int, float] = {}
    rows: list[int] = []
    flying: list[tuple[float, int, optuna.Trial]] = []
    now, done, busy = 0.0, 0, 0
    wanted = [step for step in STEPS if step <= evaluations]
    while done < evaluations:
        while busy < workers and len(rows) < PROPOSALS * evaluations:
            trial = study.ask()
            row = table.row(suggest(table.space, trial).decisions)
            rows.append(row)
            busy += row not in ends
            ends.setdefault(row, now + table.seconds[row])
            heapq.heappush(flying, (max(now, ends[row]), trial.number, trial))
            if ends[row] <= now:
                break
        if not flying:
            return
        end, number, trial = heapq.heappop(flying)
        row = rows[number]
        fresh = rows.index(row) == number
        now = max(now, end)
        accuracy = float(seen[row]) / 100
        study.tell(trial, [accuracy, *problem.known(trial.params).values()])
        busy -= fresh
        done += fresh
        if fresh and done in wanted:
            yield done, now, [rows[n] for n in recommended(study, sampler)]


def recommended(study: optuna.Study, sampler: BaseSampler) -> list[int]:
    """Numbers of the trials that a strategy recommends: its own word, or what was seen to be the best."""
    if isinstance(sampler, SurrogateSampler):
        return sampler.recommend(study)
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    losses = np.array([[-trial.values[0], *trial.values[1:]] for trial in done])
    front = [trial.number for trial, best in zip(done, nondominated(losses), strict=True) if best]
    return front[:1] if losses.shape[1] == 1 else front


def score(problem: Problem, rows: Sequence[int]) -> float:
    """Mean test accuracy in %, or the hypervolume as a fraction of the whole table's."""
    if problem.device is None:
        return float(problem.table.test[rows[0]])
    everything = np.arange(len(problem.table.test))
    whole = problem.table.hypervolume(everything, problem.device)
    return problem.table.hypervolume(np.array(rows), problem.device) / whole


def all_seen(problem: Problem) -> float:
    """The ceiling: what one observation of every architecture would recommend."""
    seen = problem.seen
    if problem.device is None:
        return float(problem.table.test[seen.argmax()])
    losses = np.stack([-seen, problem.table.latency[problem.device]], axis=1)
    return score(problem, np.flatnonzero(nondominated(losses)).tolist())


def measure(table: Table, names: Sequence[str], seeds: int, evaluations: int, device: str | None, workers: int) -> pd.DataFrame:
    """A row for every strategy, seed and step."""
    found = []
    ceiling = float(np.mean([all_seen(Problem(table, seed, device)) for seed in range(max(seeds, 20))]))
    for name in names:
        for seed in range(seeds):
            problem = Problem(table, seed, device)
            start = time.perf_counter()
            sampler = STRATEGIES[name](problem)
            for step, seconds, rows in replay(problem, sampler, evaluations, workers):
                value = score(problem, rows)
                found.append({"table": table.name, "device": device or "", "workers": workers, "strategy": name,
                              "seed": seed, "evaluations": step, "score": value, "ceiling": ceiling,
                              "simulated_s": seconds, "wall_s": time.perf_counter() - start})  # fmt: skip
    return pd.DataFrame(found)


def summary(found: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard error over the seeds."""
    keys = ["table", "device", "workers", "strategy", "evaluations"]
    groups = found.groupby(keys, sort=False)
    table = groups.agg(mean=("score", "mean"), error=("score", "sem"), ceiling=("ceiling", "first"), seeds=("seed", "nunique"),
                       simulated_s=("simulated_s", "mean"), wall_s=("wall_s", "mean"))  # fmt: skip
    return table.reset_index()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--dataset", default="cifar10", choices=["cifar10", "cifar100"])
    usual = [name for name in STRATEGIES if name not in ("Optuna GP", "auto (latency modelled)")]
    options.add_argument("--strategies", nargs="+", default=usual, choices=list(STRATEGIES))
    options.add_argument("--devices", nargs="*", default=[""], help="latencies to be the second objective; all: every one")
    options.add_argument("--seeds", type=int, default=10)
    options.add_argument("--evaluations", type=int, default=200)
    options.add_argument("--workers", type=int, nargs="+", default=[1])
    options.add_argument("--out", type=Path)
    chosen = options.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore")
    table = nas_bench_201(chosen.dataset)
    devices = list(table.latency) if chosen.devices == ["all"] else chosen.devices
    parts = []
    for device in devices:
        for workers in chosen.workers:
            for name in chosen.strategies:
                part = measure(table, [name], chosen.seeds, chosen.evaluations, device or None, workers)
                told = summary(part)
                cells = "  ".join(f"{r.evaluations}:{r.mean:.3f}±{r.error:.3f}" for r in told.itertuples())
                print(f"{table.name} {device} w{workers} {name:32s} {cells}  ceiling {told.ceiling[0]:.3f}", flush=True)
                parts.append(part)
    if chosen.out:
        summary(pd.concat(parts)).to_csv(chosen.out, index=False)


if __name__ == "__main__":
    main()
