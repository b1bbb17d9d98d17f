"""A search from its configuration to its result: a new run, or one that goes on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from nas.errors import NasError, RunError, UsageError
from nas.measure.foresight import Foresight
from nas.measure.metrics import METRICS, TIMED
from nas.measure.target import check_target, is_remote
from nas.net.graph import Size
from nas.net.lower import lower
from nas.ops.plugins import load_plugins
from nas.search.agreement import Agreement, agreement
from nas.search.budget import Budget, Kind, Meter, parse_budget
from nas.search.callbacks import Beginning, Callback, Callbacks
from nas.search.candidate import View
from nas.search.config import DEFAULTS, SIZE_WORDS, SearchConfig
from nas.search.confirm import confirm
from nas.search.evaluator import calibrate, test_accuracy
from nas.search.executors import check_elsewhere, cluster_device, default_workers, engine, open_executor
from nas.search.executors.slots import cpu_quota, usable_cpus
from nas.search.executors.target import Target
from nas.search.final import FinalResult, train_final
from nas.search.finals import proxy_and_final, stage_of, train_finals
from nas.search.front import Checks, front_row
from nas.search.halving import Halving
from nas.search.ledger import Ledger
from nas.search.loop import Rules, SearchLoop
from nas.search.objectives import Constraint, Objective, judged_by, parse_constraint, parse_objectives
from nas.search.peers import train_peers
from nas.search.planner import OVERHEAD_S, Plan, multipliers, one_thread, plan_search
from nas.search.run import RunFolder
from nas.search.samplers import STRATEGIES, RandomSampler, choose_strategy
from nas.search.settled import Settled, absolute, absolute_storage, size_words
from nas.search.shares import Shares
from nas.search.storage import open_storage
from nas.search.study import Record, SearchStudy
from nas.space.library import load_space
from nas.space.search_space import Architecture
from nas.train.data import Dataset, load_data
from nas.train.recipe_pages import load_recipe
from nas.train.seeding import derive_seed
from nas.train.shared import share as share_data

Say = Callable[[str], None]
"""Where the choices made for the user are told, a line each."""

TOLD = ("val_accuracy", "test_accuracy", "epochs", "train_s", "weights")
"""What is told of a final training."""

STATES = ("completed", "failed", "duplicate", "stopped")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a search found. ``front`` holds (record, test accuracy), most accurate on validation first."""

    folder: RunFolder
    config: SearchConfig
    strategy: str
    counts: Mapping[str, int]
    budget: list[dict[str, Any]]
    wall_s: float
    front: tuple[tuple[Record, float | None], ...]
    best: Record | None
    message: str
    interrupted: bool
    checks: Checks
    ties: Mapping[int, list[int]]
    finals: tuple[tuple[Record, FinalResult], ...]
    agreement: Agreement | None

    def document(self) -> dict[str, Any]:
        """The JSON of ``nas search --json``; its keys are a contract (docs/cli.md)."""
        front = [front_row(record, test, self.checks, self.ties[record.number]) for record, test in self.front]
        return {
            "run": str(self.folder.path), "space": self.config.space, "strategy": self.strategy,
            "trials": {state: self.counts.get(state, 0) for state in STATES}, "budget": self.budget, "wall_s": self.wall_s,
            "front": front, "best": next((r for r in front if self.best and r["trial"] == self.best.number), None),
            "message": self.message, "interrupted": self.interrupted,
            "final": [{"trial": record.number, "folder": str(final.folder)} | {word: (final.metrics or {})[word] for word in TOLD}
                      for record, final in self.finals],
            "rank_correlation": self.agreement and self.agreement.tau, "rank_chance": self.agreement and self.agreement.chance,
        }  # fmt: skip


def search(config: SearchConfig, *, say: Say, view: Callable[[], AbstractContextManager[View]],
           callbacks: Sequence[Callback] = ()) -> Result:  # fmt: skip
    """Run a search, or go on with the run that ``config.run`` names. ``callbacks`` hear of every trial.

    Raises UsageError, SpaceError, DataError or RunError before anything is trained when it cannot be done.
    """
    load_plugins(config.plugins)
    folder = RunFolder.named(config.run, config.space)
    if folder.exists:
        return resume(folder, budget=config.budget, workers=config.workers, asked=config, say=say, view=view,
                      callbacks=callbacks)
    with engine(config):
        return _begin(folder, config, say, view, callbacks)


def _begin(folder: RunFolder, config: SearchConfig, say: Say, view: Callable[[], AbstractContextManager[View]],
           callbacks: Sequence[Callback]) -> Result:  # fmt: skip
    """A new run: everything that can be refused is refused before the folder is made."""
    budget = parse_budget(config.budget)
    device = cluster_device(config) or device_for(budget)
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("the cluster's trials have GPUs, and the driver's machine has none that torch can use",
                         hint="The driver times networks to plan, and tests those it found: start it on a node with a GPU. "
                              "With gpus_per_trial=0 the trials run on CPUs.")  # fmt: skip
    meter = Meter(budget)
    space = load_space(config.space)
    check_measuring(config, device, space.spec.constraints, say)
    load_recipe(config.recipe)
    choose_strategy(config.strategy, space, parse_objectives(config.objectives), budget)
    for words in (config.deploy, config.proxy):
        multipliers(space.spec, words)
    data = load_data(config.data, seed=config.seed, image_size=config.image_size)
    if config.storage is not None:
        open_storage(config.storage).close()
    workers = config.workers or default_workers(config, device)
    shares = Shares.chosen(config.shares, strategy=config.strategy, expected=budget.trials)
    seconds = time_left(budget, device, workers)
    plan = plan_search(space, data, config, device=device, workers=workers, seconds=seconds and seconds * shares.search)
    folder.create()
    for note in plan.notes:
        say(note)
    say(f"budget {budget}: {shares}")
    settled = Settled.make(config, name=folder.path.resolve().name, device=device, space=space, fingerprint=data.fingerprint,
                           plan=plan, shares=shares)
    return _run(folder, settled, data, meter, workers, say, view, callbacks, new=True)


def resume(folder: RunFolder, *, budget: str | None = None, workers: int | None = None, asked: SearchConfig | None = None,
           say: Say, view: Callable[[], AbstractContextManager[View]],
           callbacks: Sequence[Callback] = ()) -> Result:  # fmt: skip
    """Go on with a run: what it found and spent is remembered, interrupted candidates are evaluated again.

    ``budget`` replaces the run's, or extends it when it begins with ``+``. Raises RunError when the data changed, or when
    ``asked`` is another search than the run's.
    """
    settled = Settled.read(folder)
    config = settled.config
    if asked is not None:
        _same_search(settled, asked, folder)
    if budget is not None:
        config = config.with_budget(extended(config.budget, budget))
    meter = Meter(parse_budget(config.budget))
    data = load_data(config.data, seed=config.seed, image_size=config.image_size)
    if data.fingerprint != settled.fingerprint:
        raise RunError("the data is not what this run began with", where=config.data, expected=settled.fingerprint[:16],
                       got=data.fingerprint[:16], hint="Restore the data, or start a new run.")  # fmt: skip
    say(f"going on with {folder.path}")
    with engine(config):
        check_measuring(config, settled.device, settled.space.spec.constraints, say)
        workers = workers or config.workers or default_workers(config, settled.device)
        folder.create()
        return _run(folder, replace(settled, config=config), data, meter, workers, say, view, callbacks,
                    new=False)


def _run(folder: RunFolder, settled: Settled, data: Dataset, meter: Meter, workers: int, say: Say,
         view: Callable[[], AbstractContextManager[View]], callbacks: Sequence[Callback], *, new: bool) -> Result:  # fmt: skip
    config, device, plan, space = settled.config, settled.device, settled.plan, settled.space
    objectives, constraints = settled.objectives, settled.constraints
    with ExitStack() as stack:
        storage = stack.enter_context(open_storage(config.storage or folder.study))
        study = SearchStudy(storage, space, objectives, constraints, name=settled.name)
        if new and study.records:
            raise RunError("this storage holds a search of that name already", where=config.storage or str(folder.study),
                           got=settled.name,
                           hint="Choose another run=.")  # fmt: skip
        if not new:
            meter = Meter.from_mapping(meter.budget, study.spent)
        expected = expected_trials(meter.budget, plan, device, workers)
        sampler, reason = choose_strategy(config.strategy, space, objectives, meter.budget, config.seed, expected,
                                          known=known_metrics(objectives, constraints, plan.deploy))  # fmt: skip
        strategy = next(name for name, kind in STRATEGIES.items() if type(sampler) is kind)
        say(f"strategy: {strategy}: {reason}")
        study.set_metadata(val_images=len(data.validation), test_images=len(data.test()))
        # Nothing of the folder is written before the storage's lock is ours.
        folder.write_config(settled.to_mapping())
        if study.left_running:
            say(f"{len(study.left_running)} interrupted candidate{'s' * (len(study.left_running) > 1)} will be evaluated again")
        say(f"{workers} worker{'s' * (workers > 1)} on {device}; run folder: {folder.path}")
        shared = share_data(data, folder.path.resolve() / "shared")
        stack.callback(shutil.rmtree, folder.path / "shared", ignore_errors=True)
        payload = payload_of(settled, folder, shared)
        how = payload["measure"]
        apart = how is not None and measured_apart(config.target or device)
        if how is not None and "latency" in how["metrics"] and not apart:
            calibrate(how)
        opened = partial(open_executor, config, task="nas.search.evaluator:evaluate", preload="nas.search.evaluator:preload",
                         log=folder.log, say=say,
                         carry=[*filter(os.path.isfile, config.plugins), *([shared] if shared else [])])  # fmt: skip
        # The measuring slots come first: on a cluster the training takes what is left.
        apart_from = stack.enter_context(opened("cpu", use="measure")) if apart else None
        executor = stack.enter_context(opened(device, workers=workers))
        threads = executor.resources[0].threads
        for change in folder.write_environment({"device": device, "workers": workers, "threads_per_worker": threads}):
            say(f"note: {change}; latencies measured before and after do not compare")
        heard = Callbacks(callbacks, folder.logger(), say)
        ledger = Ledger(study, meter, folder, plan.deploy, heard)
        heard.on_search_start(Beginning(
            folder=folder.path, name=settled.name, config=config.to_mapping(), objectives=objectives, constraints=constraints,
            records=[r for r in study.records if r.state != "running"]))  # fmt: skip
        with view() as show:
            loop = SearchLoop(ledger=ledger, sampler=sampler, executor=executor, measurer=apart_from, plan=plan,
                              payload=payload, view=show, rules=rules_of(settled, expected))  # fmt: skip
            loop.run()
            shares = settled.shares
            for wanted, look in ((shares.repeats, confirm), (shares.peers, train_peers), (shares.final, train_finals)):
                if wanted and not loop.interrupted:
                    look(loop)
        heard.on_search_end(loop.message)
        for remark in ledger.remarks:
            say(f"note: {remark}")
        with one_thread(device):
            tested = {r.number: _tested(r, study, folder, payload, data, say) for r in ledger.front.members}
        ledger.write_front(tested)
        finals = tuple(read_finals(loop, settled, data))
        ledger.save_checks()
    return Result(
        folder=folder, config=config, strategy=strategy, counts=dict(ledger.counts), budget=meter.rows(),
        wall_s=meter.spent("wall"), front=tuple((r, tested[r.number]) for r in ledger.front.members), best=ledger.front.best,
        message=loop.message, interrupted=loop.interrupted, checks=ledger.front.checks,
        ties=ledger.front.ties, finals=finals,
        agreement=agreement(proxy_and_final(study.records, ledger.front.checks.final)),
    )  # fmt: skip


def read_finals(loop: SearchLoop, settled: Settled, data: Dataset) -> Iterator[tuple[Record, FinalResult]]:
    """The final trainings that came to their end, most accurate first."""
    done = loop.ledger.front.checks.final
    for number in sorted(done, key=lambda n: -done[n]["val_accuracy"]):
        record = loop.study.records[number]
        stage = stage_of(loop, record, 0.0)
        final = train_final(
            loop.study.space.architecture(record.decisions), settled.plan.deploy, data, load_recipe(stage["recipe"]),
            folder=Path(stage["folder"]), name=stage["name"], seed=settled.config.seed, device=settled.device)  # fmt: skip
        if final.metrics is not None:  # a worker without the data set's source could not read its test split
            done[number] = {**done[number], "test_accuracy": final.metrics["test_accuracy"]}
        yield record, final


def rules_of(settled: Settled, expected: int | None = None) -> Rules:
    """What the search does beside its strategy."""
    config, shares = settled.config, settled.shares
    random = RandomSampler(settled.space, seed=derive_seed(config.seed, "baseline")) if shares.baseline else None
    halving = None
    if config.early_stopping == "asha":
        halving = Halving(settled.objectives, settled.plan.recipe.epochs, expected=expected)
    limited = any(limit.metric == "latency" and limit.op == "<=" for limit in settled.constraints)
    return Rules(shares=shares, random=random, halving=halving, timeout=config.timeout_s,
                 foresight=Foresight() if limited else None)


def payload_of(settled: Settled, folder: RunFolder, shared: Path | None = None) -> dict[str, Any]:
    """What the evaluator is told with every job; the loop adds ``page``, ``weights``, ``checkpoint`` and ``stage``."""
    config, plan = settled.config, settled.plan
    wanted = measured_metrics(settled.objectives, settled.constraints)
    target = config.target or settled.device
    where = target if is_remote(target) else Target.parse(target).device
    metrics = sorted(wanted | {"latency"} if wanted & TIMED else wanted)
    measure = {"target": where, "batch": plan.batch, "threads": 1, "runtime": config.runtime, "metrics": metrics,
               "anchors": str(folder.path.resolve())}  # fmt: skip
    return {
        "data": {"source": config.data, "seed": config.seed, "limit": None, "image_size": config.image_size,
                 "device": settled.device, "shared": str(shared) if shared else None},
        "deploy": size_words(plan.deploy), "proxy": size_words(plan.proxy), "recipe": plan.recipe.to_mapping(),
        "seed": config.seed, "plugins": list(config.plugins), "measure": measure if wanted else None,
        "final": {"recipe": config.recipe},
    }  # fmt: skip


def _tested(record: Record, study: SearchStudy, folder: RunFolder, payload: Mapping[str, Any], data: Dataset,
            say: Say) -> float | None:
    """Accuracy of a member of the final front on the test split: the only place where it is read."""
    weights = str(folder.weights_of(record.number))
    try:
        return test_accuracy(study.space.architecture(record.decisions), {**payload, "weights": weights}, data)
    except NasError as error:
        say(f"trial {record.number} could not be tested: {error}")
        return None


def device_for(budget: Budget) -> str:
    """cuda where there is a GPU. Raises UsageError when GPU hours are asked for and there is none."""
    if torch.cuda.is_available():
        return "cuda"
    part = next((p for p in budget.parts if p.kind == "gpu"), None)
    if part is not None:
        raise UsageError(f"budget={part} asks for a GPU, and this machine has none that torch can use",
                         hint=f"Type budget={str(part).replace('gpu', 'cpu')} to search on its CPU, or a wall time such as "
                              "budget=10min.")  # fmt: skip
    return "cpu"


def check_measuring(config: SearchConfig, device: str, limits: Sequence[str], say: Say) -> None:
    """Raise UsageError or MeasureError when what the search judges by cannot be measured where it is to be."""
    constraints = [parse_constraint(text) for text in (*config.constraint, *limits)]
    wanted = measured_metrics(parse_objectives(config.objectives), constraints)
    target = config.target or device
    if not wanted:
        return
    if not is_remote(target) and Target.parse(target).elsewhere:
        return check_elsewhere(config, device)
    told = check_target(target, runtime=config.runtime, metrics=wanted)
    if config.target or config.runtime != "eager":
        say(f"measured on: {told}")


def known_metrics(objectives: Iterable[Objective], constraints: Iterable[Constraint],
                  size: Size) -> Callable[[Architecture], Mapping[str, float]] | None:  # fmt: skip
    """What tells the metrics of an architecture that need no training and no device; None where nothing is judged by them."""
    wanted = judged_by(objectives, constraints) & {"num_params", "macs"}
    if not wanted:
        return None

    def known(architecture: Architecture) -> dict[str, float]:
        graph = lower(architecture, size)
        return {name: float(getattr(graph, name)) for name in wanted}

    return known


def measured_metrics(objectives: Iterable[Objective], constraints: Iterable[Constraint]) -> set[str]:
    """Metrics that a candidate is judged by and that only a measurement tells."""
    return judged_by(objectives, constraints) & METRICS.keys()


def measured_apart(target: str) -> bool:
    """Whether latency is measured on another machine than the one that trains."""
    return is_remote(target) or Target.parse(target).elsewhere


def cores() -> int:
    """Cores that this process may use."""
    return max(1, int(min(len(usable_cpus()), cpu_quota())))


def time_left(budget: Budget, device: str, workers: int) -> float | None:
    """Wall seconds that the budget amounts to when all cores, or a GPU a worker, are busy; None when it is in trials alone."""
    held: dict[Kind, int] = {"wall": 1, "gpu": workers, "cpu": cores()}
    if device != "cpu":
        del held["cpu"]
    limits = [limit / devices for kind, devices in held.items() if (limit := budget.limit(kind)) is not None]
    return min(limits, default=None)


def expected_trials(budget: Budget, plan: Plan, device: str, workers: int) -> int | None:
    """How many candidates the budget is expected to be enough for."""
    seconds = time_left(budget, device, workers)
    if seconds is None:
        return budget.trials
    fit = int(seconds * workers / (plan.epoch_s * plan.recipe.epochs + OVERHEAD_S))
    return min(fit, budget.trials or fit)


def extended(old: str, new: str) -> str:
    """The budget ``new``; with a leading ``+``, ``old`` with that much more. Raises UsageError when the units differ."""
    if not new.startswith("+"):
        return new
    before, more = parse_budget(old), parse_budget(new[1:])
    parts = {part.kind: part for part in before.parts}
    for part in more.parts:
        if part.kind not in parts:
            raise UsageError("the run's budget has no such part to extend", got=new, expected=f"an extension of {old}")
        factor = parts[part.kind].limit / parts[part.kind].amount
        parts[part.kind] = replace(parts[part.kind], amount=round(parts[part.kind].amount + part.limit / factor, 6))
    return str(Budget(tuple(parts.values())))


def _same_search(run: Settled, asked: SearchConfig, folder: RunFolder) -> None:
    """Raise RunError when a run is continued with words that make it another search. What is not said is not compared."""
    shares = Shares.chosen(asked.shares, strategy=asked.strategy, expected=None)
    said: list[tuple[str, Any, Any]] = [
        ("space", run.space.spec, load_space(asked.space).spec), ("data", run.config.data, absolute(asked.data)),
        ("storage", run.config.storage, absolute_storage(asked.storage)),
        ("strategy", run.config.strategy, None if asked.strategy == "auto" else asked.strategy),
        *((key, getattr(run.config, key), getattr(asked, key))
          for key in ("objectives", "constraint", "seed", "epochs", "batch_size", "image_size", "target")),
        *((key, getattr(run.config, key), None if getattr(asked, key) == DEFAULTS[key] else getattr(asked, key))
          for key in ("runtime", "early_stopping", "recipe", "formats")),
        *((key, run.shares.to_mapping()[key], asked.shares[key] and shares.to_mapping()[key]) for key in asked.shares),
    ]  # fmt: skip
    for key in ("deploy", "proxy"):
        before, now = getattr(run.config, key), multipliers(run.space.spec, getattr(asked, key))
        said += [(f"{key}={word}", getattr(before, word), getattr(now, word)) for word in SIZE_WORDS]
    for key, before, now in said:
        if now is not None and before != now:
            got, expected = (None, None) if key == "space" else (str(now), str(before))
            raise RunError(f"this run has another {key}", where=str(folder.path), expected=expected, got=got,
                           hint="Go on with `nas resume`, or choose another run=.")  # fmt: skip
