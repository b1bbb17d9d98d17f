"""A search without processes and training: a real study and sampler, an executor whose trials are scripted."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nas.net.graph import Size
from nas.search.budget import Meter, parse_budget
from nas.search.candidate import Status
from nas.search.config import SearchConfig
from nas.search.executors.base import Event, Executor, Failed, Finished, Job, Progress, Resources, Started
from nas.search.ledger import Ledger
from nas.search.loop import SearchLoop
from nas.search.objectives import parse_constraint, parse_objectives
from nas.search.planner import Plan
from nas.search.run import RunFolder
from nas.search.samplers import choose_strategy
from nas.search.settled import Settled
from nas.search.shares import Shares
from nas.search.start import payload_of, rules_of
from nas.search.storage import open_storage
from nas.search.study import SearchStudy
from nas.space.page import read_page
from nas.space.parse import parse_page
from nas.space.search_space import SearchSpace
from nas.train.recipe import Recipe

PROCESSOR = "a processor"

THREE = """
name: three
source: a test
input: [1, 8, 8]
num_classes: 10
network:
  - {name: a, choice: {three: {op: conv_bn_act, kernel_size: 3, out_channels: 4},
                       one: {op: conv_bn_act, kernel_size: 1, out_channels: 4},
                       five: {op: conv_bn_act, kernel_size: 5, out_channels: 4}}}
  - global_avg_pool
  - classifier
"""

MANY = """
name: many
source: a test
input: [1, 8, 8]
num_classes: 10
network:
  - {name: a, op: conv_bn_act, kernel_size: {choice: [1, 3, 5, 7]}, out_channels: {choice: [4, 6, 8, 10, 12]}}
  - {name: b, op: conv_bn_act, kernel_size: {choice: [1, 3, 5, 7]}, out_channels: {choice: [4, 6, 8, 10, 12]}}
  - global_avg_pool
  - classifier
"""
"""400 architectures, all different networks."""


def space_of(page: str) -> SearchSpace:
    return SearchSpace(parse_page(read_page(page, "page.yaml")))


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def accuracy_of(job: Job) -> dict[str, Any]:
    """A made-up result that follows from the architecture alone."""
    page = str(job.payload["page"]["network"])
    accuracy = (sum(map(ord, page)) % 97) / 100
    return {"metrics": {"accuracy": accuracy}, "stopped": False, "epochs": job.payload["stage"]["epochs"], "train_s": 0.5,
            "train_loss": -math.log(max(accuracy, 0.001))}  # fmt: skip


def measured(latency):
    """Outcomes of a search that measures: what ``latency`` says of a trial's number, then its made-up accuracy."""
    def outcome(job):
        if job.payload["stage"]["do"] == "measure":
            ms = latency(job.trial)
            return {"metrics": {"latency": ms}, "latency_low_ms": ms * 0.99, "latency_high_ms": ms * 1.01, "measure_s": 0.1}
        return accuracy_of(job)

    return outcome


class FakeExecutor(Executor):
    """Every poll lets ``seconds`` pass and ends the oldest job by ``outcome``; a job in ``held`` goes on until it is stopped.

    An outcome is a result, or an Exception whose text is ``kind: reason`` of a failure.
    """

    def __init__(self, outcome: Callable[[Job], Mapping[str, Any]] = accuracy_of, *, slots: int = 1, held: Sequence[int] = (),
                 clock: Clock | None = None, seconds: float = 1.0) -> None:  # fmt: skip
        self.outcome, self.slots, self.held, self.clock, self.seconds = outcome, slots, set(held), clock, seconds
        self.jobs: list[Job] = []
        self.submitted: list[Job] = []
        self.asked: set[int] = set()
        self.events: list[Event] = []
        self.begun: dict[int, float] = {}
        self.on_poll: Callable[[], None] = lambda: None
        self.closed = False

    @property
    def resources(self) -> Sequence[Resources]:
        return [Resources(device="cpu", kind="cpu", fraction=1.0, cpus=(i,), models={"cpu": PROCESSOR})
                for i in range(self.slots)]  # fmt: skip

    @property
    def free(self) -> int:
        return self.slots - len(self.jobs)

    def free_on(self, model: str) -> int:
        return self.free if model == PROCESSOR else 0

    def submit(self, job: Job) -> int:
        assert self.free if job.needs is None else self.free_on(job.needs)
        assert all(other.trial != job.trial for other in self.jobs)
        self.jobs.append(job)
        self.begun[job.trial] = self._now()
        self.submitted.append(job)
        self.events.append(Started(trial=job.trial, slot=0, time=0.0))
        return 0

    def poll(self, timeout: float) -> list[Event]:
        self.on_poll()
        if self.clock is not None:
            self.clock.now += self.seconds
        for job in self.jobs:
            if job.trial in self.asked or job.trial not in self.held:
                self._end(job)
                break
        events, self.events = self.events, []
        return events

    def _end(self, job: Job) -> None:
        self.jobs.remove(job)
        try:
            result = dict(self.outcome(job))
        except Exception as error:
            kind, _, reason = str(error).partition(": ")
            self.events.append(Failed(trial=job.trial, kind=kind, reason=reason, seconds=1.0))  # type: ignore[arg-type]
            return
        self.events.append(Progress(trial=job.trial, values={"epoch": 1, "metrics": result.get("metrics", {})}))
        if job.trial in self.asked:
            result["stopped"] = True
        self.events.append(Finished(trial=job.trial, result=result, seconds=self._now() - self.begun[job.trial]))

    def _now(self) -> float:
        return 0.0 if self.clock is None else self.clock.now

    def stop(self, trial: int) -> None:
        self.asked.add(trial)

    def kill(self, trial: int) -> None:
        raise AssertionError("the loop kills nothing itself")

    def close(self, grace: float = 0.0) -> list[Event]:
        rest = [Failed(trial=job.trial, kind="killed", reason="the executor was closed", seconds=1.0) for job in self.jobs]
        self.jobs, self.closed = [], True
        events, self.events = self.events, []
        return [*events, *rest]


def settled(page: str = MANY, **words: Any) -> Settled:
    """A settled configuration of a made-up search."""
    space = space_of(page)
    size = Size(input=(1, 8, 8), num_classes=10)
    plan = Plan(deploy=size, proxy=size, batch=1, recipe=Recipe(epochs=2, batch_size=8, learning_rate=0.1), epoch_s=1.0, notes=())
    config = SearchConfig.from_words({"space": "many", "data": "digits", "budget": "10trials",
                                      "objectives": "accuracy,num_params", **words})
    return Settled.make(config, name="run", device="cpu", space=space, fingerprint="f" * 64, plan=plan,
                         shares=Shares.chosen(config.shares, strategy=config.strategy, expected=1))


@contextmanager
def a_loop(folder: Path, executor: Executor, chosen: Settled | None = None, *, clock: Clock | None = None,
           view: Callable[[Status], None] = lambda status: None, rules: Mapping[str, Any] = {},
           measurer: Executor | None = None, storage: str | None = None):  # fmt: skip
    """A loop over a real journal in ``folder``, or a database; called again on the same folder it goes on."""
    chosen = chosen or settled()
    config = chosen.config
    run = RunFolder(folder)
    run.create()
    objectives, constraints = parse_objectives(config.objectives), tuple(map(parse_constraint, config.constraint))
    with open_storage(storage or run.study) as opened:
        study = SearchStudy(opened, chosen.space, objectives, constraints, name="run")
        budget = parse_budget(config.budget)
        meter = Meter(budget, *([clock] if clock else []))
        meter.remember(study.spent)
        sampler, _ = choose_strategy(config.strategy, chosen.space, budget, config.seed)
        ledger = Ledger(study, meter, run, chosen.plan.deploy)
        yield SearchLoop(ledger=ledger, sampler=sampler, executor=executor, measurer=measurer, plan=chosen.plan,
                         payload=payload_of(chosen, run), view=view, rules=rules_of(chosen, **rules))  # fmt: skip


def run_loop(folder: Path, executor: Executor | None = None, chosen: Settled | None = None, **options: Any) -> SearchLoop:
    with a_loop(folder, executor or FakeExecutor(), chosen, **options) as loop:
        loop.run()
    return loop
