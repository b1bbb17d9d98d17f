"""What an executor adds to a trial: no-op jobs through warm workers, and what starting and replacing workers costs.

    python benchmarks/executor_overhead.py [--engine local|ray] [--workers 2] [--trials 2000]

Prints one line of conditions and a table of median and 95th percentile over rounds. A round is ``trials`` jobs that
report once and return; the driver refills every free slot after each poll and does nothing else.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterable

from nas.search.executors.base import Executor, Failed, Finished, Job, Report, Values
from nas.search.executors.local import LocalExecutor

GENES = {f"network.stage{i}=mbconv.kernel_size": i for i in range(40)}
"""A payload as large as a real trial's: about 1.5 kB."""


def no_op(payload: Values, report: Report) -> Values:
    report({"epoch": 0, "accuracy": 0.5})
    return {"accuracy": 0.5, "latency": 1.0}


def die(payload: Values, report: Report) -> Values:
    os._exit(1)


def run(executor: Executor, trials: Iterable[int]) -> float:
    """Seconds to run all trials."""
    queue, running = list(trials), 0
    begin = time.perf_counter()
    while queue or running:
        while queue and executor.free:
            executor.submit(Job(trial=queue.pop(), payload={"decisions": GENES}, timeout=60.0))
            running += 1
        running -= sum(isinstance(event, Finished | Failed) for event in executor.poll(1.0))
    return time.perf_counter() - begin


def open_on(engine: str, task: str, workers: int) -> Executor:
    """An executor with CPU slots; Ray is one of our own on this machine, kept between executors."""
    if engine == "local":
        return LocalExecutor(f"executor_overhead:{task}", workers=workers, gpus_per_trial=0)
    from nas.search.executors.ray import RayExecutor

    return RayExecutor(f"executor_overhead:{task}", address="local", workers=workers)


def show(what: str, milliseconds: list[float]) -> None:
    spread = sorted(milliseconds)
    print(f"{what:<44}{statistics.median(spread):9.2f}{spread[int(0.95 * (len(spread) - 1))]:9.2f}{len(spread):5d}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--engine", choices=["local", "ray"], default="local")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=10)
    given = parser.parse_args()
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores, load {load}, "
          f"{given.engine}, {given.workers} CPU workers, payload {len(str(GENES))} characters")  # fmt: skip
    if given.engine == "ray":
        from nas.search.executors.cluster import connect

        connect("local", num_cpus=given.workers)
    print(f"{'milliseconds':<44}{'median':>9}{'p95':>9}{'n':>5}")
    starts, trials, alone, deaths = [], [], [], []
    for _ in range(given.rounds):
        begin = time.perf_counter()
        with open_on(given.engine, "no_op", given.workers) as executor:
            run(executor, range(1))
            starts.append(1e3 * (time.perf_counter() - begin))
            run(executor, range(100))
            trials.append(1e3 * run(executor, range(given.trials)) / given.trials)
            alone += [1e3 * run(executor, [trial]) for trial in range(20)]
        with open_on(given.engine, "die", 1) as executor:
            run(executor, range(1))
            deaths.append(1e3 * run(executor, range(10)) / 10)
    show("from nothing to the first finished trial", starts)
    show(f"per no-op trial, {given.workers} workers busy", trials)
    show("one no-op trial alone, submit to finish", alone)
    show("per trial that kills its worker", deaths)


if __name__ == "__main__":
    main()
