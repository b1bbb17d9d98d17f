"""How many workers one driver keeps busy: the real search loop, study file and meter over workers that are simulated.

    python -m benchmarks.simulator [--strategies random regularized_evolution auto] [--workers 256] [--trials 10000] [--write]

A trial takes 60 s on average. On ``nas_bench_201`` its accuracy and, in proportion, its duration are those of the table in
NAS_DATA; on other spaces the accuracy is made up from the decisions, and durations are spread as the table's (without NAS_DATA
evenly within a fifth). Whatever the driver does between two looks at its workers is added to the virtual clock, so that
workers wait for a slow driver: by default all the time that passes, ``--cpu`` only the processor's (for a machine that has
other work; it leaves out waiting for the disk).

``busy`` is the share of worker-seconds that trials held from the start until the last trial was begun; ``driver_ms`` the
driver's time a trial, over the whole run; ``rss_mb`` by how much the process grew, ``file_mb`` the study's file.
``resume_s``: from the start of a new process, imports included, until the first new trial of the same run begins. Every row is
a process of its own. ``--write`` puts the rows into results/benchmarks/scale.csv and, with the driver's time at each number of
stored trials, loop.csv, in the place of those of the same setting.
"""

from __future__ import annotations

import argparse
import cProfile
import multiprocessing
import os
import pstats
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.conditions import Row, conditions, rss, write_rows
from benchmarks.tables import Table, nas_bench_201
from benchmarks.virtual import Outcome, VirtualClock, VirtualExecutor
from nas.net.graph import Size
from nas.search.budget import Meter, parse_budget
from nas.search.config import SearchConfig
from nas.search.executors.base import Job
from nas.search.ledger import Ledger
from nas.search.loop import SearchLoop
from nas.search.planner import Plan
from nas.search.run import RunFolder
from nas.search.samplers import choose_strategy
from nas.search.settled import Settled
from nas.search.shares import Shares
from nas.search.start import payload_of, rules_of
from nas.search.storage import open_storage
from nas.search.study import SearchStudy
from nas.space.decide import Decisions
from nas.space.library import load_space
from nas.train.recipe import Recipe

SECONDS = 60.0
MARKS = (1_000, 5_000, 10_000, 50_000, 100_000)
"""Numbers of stored trials at which the driver's time a trial is reported."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One simulated search."""

    strategy: str = "random"
    space: str = "nasnet_cell"
    objectives: str = "accuracy,num_params"
    workers: int = 256
    trials: int = 10_000
    epochs: int = 10
    early_stopping: str = "none"
    cpu: bool = False

    def settled(self) -> Settled:
        """As a search that has been planned."""
        config = SearchConfig.from_words({
            "space": self.space, "data": "digits", "budget": f"{self.trials}trials", "objectives": self.objectives,
            "strategy": self.strategy, "early_stopping": self.early_stopping, "baseline": "0", "repeats": "0"})  # fmt: skip
        space = load_space(self.space)
        size = Size(input=(3, 32, 32), num_classes=10)
        plan = Plan(deploy=size, proxy=size, batch=1, epoch_s=SECONDS / self.epochs, notes=(),
                    recipe=Recipe(epochs=self.epochs, batch_size=8, learning_rate=0.1))  # fmt: skip
        shares = Shares.chosen(config.shares, strategy=self.strategy, expected=self.trials)
        return Settled.make(config, name="simulated", device="cuda", space=space, fingerprint="", plan=plan, shares=shares)


def pretend(study: Callable[[], SearchStudy], setting: Setting) -> Outcome:
    """What a job takes and yields."""
    table = nas_bench_201() if "NAS_DATA" in os.environ else None
    durations = durations_of(table)
    exact = table if setting.space == "nas_bench_201" else None

    def outcome(job: Job) -> tuple[float, dict[str, Any]]:
        decisions = study().records[job.trial].decisions
        chance = zlib.crc32(repr(sorted(decisions.items())).encode())
        row = chance % len(durations) if exact is None else exact.row(decisions)
        accuracy = made_up(decisions, chance) if exact is None else float(exact.observe(0)[row]) / 100
        epochs = job.payload["stage"]["epochs"]
        seconds = float(durations[row]) * (1 if setting.early_stopping == "none" else epochs / setting.epochs)
        curve = [round(accuracy * (i + 1) / setting.epochs, 6) for i in range(epochs)]
        return seconds, {"metrics": {"accuracy": accuracy}, "epochs": epochs, "train_s": seconds,
                         "train_loss": 1 - accuracy, "curve": curve}  # fmt: skip

    return outcome


def durations_of(table: Table | None) -> np.ndarray:
    """Seconds of trials, 60 on average."""
    spread = np.linspace(0.8, 1.2, 9973) if table is None else table.seconds
    return SECONDS * spread / spread.mean()


def made_up(decisions: Decisions, chance: int) -> float:
    """An accuracy that favours separable convolutions, with noise that the decisions alone determine."""
    labels = [str(label) for label in decisions.values()]
    separable = sum(label.startswith("sep_conv") for label in labels) / len(labels)
    return 0.5 + 0.4 * separable + 0.05 * (chance % 1000) / 1000


@contextmanager
def a_loop(setting: Setting, path: Path, clock: VirtualClock, on_submit: Callable[[SearchStudy], None]) -> Iterator[SearchLoop]:
    """The loop over a run's folder; on one that has trials it goes on."""
    settled, run = setting.settled(), RunFolder(path)
    run.create()
    with open_storage(run.study) as storage:
        study = SearchStudy(storage, settled.space, settled.objectives, settled.constraints, name="simulated")
        meter = Meter(parse_budget(settled.config.budget), clock)
        meter.remember(study.spent)
        sampler, _ = choose_strategy(setting.strategy, settled.space, meter.budget, 0)
        executor = VirtualExecutor(clock, setting.workers, pretend(lambda: study, setting), reports=setting.epochs,
                                   on_submit=lambda: on_submit(study))  # fmt: skip
        ledger = Ledger(study, meter, run, settled.plan.deploy)
        yield SearchLoop(ledger=ledger, sampler=sampler, executor=executor, plan=settled.plan, payload=payload_of(settled, run),
                         view=lambda status: None, rules=rules_of(settled))  # fmt: skip


class Marks:
    """Notes the driver's time when the first trials after each mark are begun."""

    def __init__(self, clock: VirtualClock, trials: int) -> None:
        self.clock = clock
        self.wanted = [mark for mark in MARKS if mark <= trials]
        self.seen: dict[int, float] = {}

    def __call__(self, study: SearchStudy) -> None:
        count = len(study.records)
        for mark in self.wanted:
            for edge in (mark - mark // 100, mark):
                if count >= edge and edge not in self.seen:
                    self.seen[edge] = self.clock.driver_s

    def rows(self) -> dict[int, float]:
        """Milliseconds a trial, by mark."""
        known = [mark for mark in self.wanted if mark in self.seen]
        return {mark: 1e3 * (self.seen[mark] - self.seen[mark - mark // 100]) / (mark // 100) for mark in known}


def simulate(setting: Setting, path: Path) -> Row:
    """One search to its end."""
    clock = VirtualClock(time.process_time if setting.cpu else time.perf_counter)
    marks, before, begun = Marks(clock, setting.trials), rss(), time.perf_counter()
    with a_loop(setting, path, clock, marks) as loop:
        loop.run()
        records, executor = loop.study.records, loop.executor
        assert isinstance(executor, VirtualExecutor)
        clock.stop()
        return {
            **told(setting), "stored": len(records), "completed": loop.ledger.counts["completed"],
            "busy": round(executor.busy(), 5),
            "trials_per_s": round(len(records) / clock(), 2), "driver_ms": round(1e3 * clock.driver_s / len(records), 3),
            "rss_mb": round((rss() - before) / 2**20, 1), "file_mb": round(loop.folder.study.stat().st_size / 2**20, 1),
            "wall_s": round(time.perf_counter() - begun, 1), "front": len(loop.ledger.front.members), "ended": loop.message,
            "marks": {mark: round(value, 3) for mark, value in marks.rows().items()},
        }  # fmt: skip


def told(setting: Setting) -> Row:
    """The setting as columns."""
    clock = "processor" if setting.cpu else "all"
    return {"strategy": setting.strategy, "space": setting.space, "objectives": setting.objectives, "workers": setting.workers,
            "trials": setting.trials, "early_stopping": setting.early_stopping, "driver_clock": clock}  # fmt: skip


class _BegunError(Exception):
    """The first trial has begun."""


def resume(setting: Setting, path: Path, asked: float) -> Row:
    """Seconds from ``asked`` (since 1970) until the finished run's next trial begins."""

    def begun(study: SearchStudy) -> None:
        raise _BegunError

    more = replace(setting, trials=setting.trials + 1000)
    try:
        with a_loop(more, path, VirtualClock(), begun) as loop:
            loop.run()
    except _BegunError:
        return {"resume_s": round(time.time() - asked, 2), "resume_cpu_s": round(time.process_time(), 2),
                "resume_rss_mb": round(rss() / 2**20, 1)}
    raise RuntimeError("no trial was begun")


def apart(function: Callable[..., Row], *given: Any) -> Row:
    """The function's figures, from a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, given)


def run(setting: Setting) -> Row:
    """Simulate and resume."""
    with tempfile.TemporaryDirectory() as folder:
        row = apart(simulate, setting, Path(folder) / "run")
        return row | apart(resume, setting, Path(folder) / "run", time.time()) if row["stored"] else row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strategies", nargs="+", default=["random", "regularized_evolution", "auto"])
    parser.add_argument("--spaces", nargs="+", default=["nasnet_cell"])
    parser.add_argument("--objectives", nargs="+", default=["accuracy,num_params"])
    parser.add_argument("--workers", type=int, nargs="+", default=[256])
    parser.add_argument("--trials", type=int, nargs="+", default=[10_000])
    parser.add_argument("--early-stopping", nargs="+", default=["none"], choices=["none", "asha"])
    parser.add_argument("--cpu", action="store_true", help="count the driver's processor time only")
    parser.add_argument("--profile", action="store_true", help="show where the driver's time goes; one process, no resume")
    parser.add_argument("--write", action="store_true", help="write results/benchmarks/scale.csv and loop.csv")
    given = parser.parse_args()
    settings = [Setting(strategy=strategy, space=space, objectives=objectives, workers=workers, trials=trials,
                        early_stopping=stopping, cpu=given.cpu)
                for space in given.spaces for objectives in given.objectives for strategy in given.strategies
                for workers in given.workers for trials in given.trials for stopping in given.early_stopping]  # fmt: skip
    if given.profile:
        return profile(settings[0])
    where, scale, loop = conditions(), list[Row](), list[Row]()
    for setting in settings:
        load = round(os.getloadavg()[0], 1)
        row = run(setting)
        marks = row.pop("marks")
        print(row, marks, flush=True)
        scale.append({**row, **where, "load": load})
        assert isinstance(marks, dict)
        loop += [{**told(setting), "stored": mark, "driver_ms": ms, **where, "load": load} for mark, ms in marks.items()]
    if given.write:
        setting_words = [*told(settings[0])]
        write_rows("scale.csv", scale, setting_words)
        write_rows("loop.csv", loop, [*setting_words, "stored"])
    return None


def profile(setting: Setting) -> None:
    """Print what takes the driver's time."""
    with tempfile.TemporaryDirectory() as folder, cProfile.Profile() as profiler:
        print(simulate(setting, Path(folder) / "run"))
    pstats.Stats(profiler).sort_stats("tottime").print_stats(60)


if __name__ == "__main__":
    main()
