"""A search from its configuration to its result: a new run, or one that goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch

from nas.errors import NasError, RunError, UsageError
from nas.net.graph import Size
from nas.search.budget import Budget, Meter, parse_budget
from nas.search.config import SearchConfig
from nas.search.evaluator import calibrate, size_of, test_accuracy
from nas.search.executors.local import LocalExecutor
from nas.search.loop import SearchLoop, View, row_of, size_words, sorted_front
from nas.search.objectives import parse_constraint, parse_objectives
from nas.search.planner import OVERHEAD_S, Plan, plan_search
from nas.search.run import FRONT_COLUMNS, TRIAL_COLUMNS, RunFolder
from nas.search.samplers import STRATEGIES, choose_strategy
from nas.search.storage import open_storage
from nas.search.study import Record, SearchStudy
from nas.space.library import load_space
from nas.space.parse import parse_page
from nas.space.search_space import Architecture, SearchSpace
from nas.space.spec import Spec
from nas.space.unparse import to_page, to_yaml
from nas.train.data import Dataset, load_data
from nas.train.recipe import Recipe

Say = Callable[[str], None]
"""Where the choices made for the user are told, a line each."""

STATES = ("completed", "failed", "duplicate", "stopped")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a search found. ``front`` holds (record, test accuracy), most accurate on validation first."""

    folder: RunFolder
    space: str
    strategy: str
    counts: Mapping[str, int]
    budget: list[dict[str, Any]]
    wall_s: float
    front: tuple[tuple[Record, float | None], ...]
    best: Record | None
    message: str
    interrupted: bool

    def document(self) -> dict[str, Any]:
        """The JSON of ``nas search --json``; its keys are a contract (docs/cli.md)."""
        front = [front_row(record, test) for record, test in self.front]
        return {
            "run": str(self.folder.path), "space": self.space, "strategy": self.strategy,
            "trials": {state: self.counts.get(state, 0) for state in STATES}, "budget": self.budget, "wall_s": self.wall_s,
            "front": front, "best": next((r for r in front if self.best and r["trial"] == self.best.number), None),
            "message": self.message, "interrupted": self.interrupted,
        }  # fmt: skip


def search(config: SearchConfig, *, say: Say, view: Callable[[], AbstractContextManager[View]]) -> Result:
    """Run a search, or go on with the run that ``config.run`` names.

    Raises UsageError, SpaceError, DataError or RunError before anything is trained when it cannot be done.
    """
    folder = RunFolder.named(config.run, config.space)
    if folder.exists:
        return resume(folder, budget=config.budget, workers=config.workers, asked=config, say=say, view=view)
    budget = parse_budget(config.budget)
    device = device_for(budget)
    meter = Meter(budget)
    space = load_space(config.space)
    data = load_data(config.data, seed=config.seed)
    workers = config.workers or default_workers(device)
    seconds = time_left(budget, workers)
    folder.create()
    plan = plan_search(space, data, config, device=device, workers=workers, seconds=seconds)
    for note in plan.notes:
        say(note)
    state = {**config.to_mapping(), "device": device, "page": to_page(space.spec), "data_fingerprint": data.fingerprint,
             "plan": plan_words(plan)}  # fmt: skip
    folder.write_environment({"device": device, "workers": workers})
    folder.write_config(state)
    return _run(folder, config, space, data, plan, meter, device, workers, say, view)


def resume(folder: RunFolder, *, budget: str | None = None, workers: int | None = None, asked: SearchConfig | None = None,
           say: Say, view: Callable[[], AbstractContextManager[View]]) -> Result:  # fmt: skip
    """Go on with a run: what it found and spent is remembered, interrupted candidates are evaluated again.

    ``budget`` replaces the run's, or extends it when it begins with ``+``. Raises RunError when the data changed, or when
    ``asked`` is another search than the run's.
    """
    stored = folder.read_config()
    words = {k: v for k, v in stored.items() if k not in {"device", "page", "data_fingerprint", "plan"}}
    config = SearchConfig.from_words(words)
    if asked is not None:
        _same_search(config, asked, folder)
    if budget is not None:
        config = config.with_budget(extended(config.budget, budget))
    workers = workers or config.workers or default_workers(stored["device"])
    space = SearchSpace(parse_page(stored["page"]))
    data = load_data(config.data, seed=config.seed)
    if data.fingerprint != stored["data_fingerprint"]:
        raise RunError("the data is not what this run began with", where=config.data, expected=stored["data_fingerprint"][:16],
                       got=data.fingerprint[:16], hint="Restore the data, or start a new run.")  # fmt: skip
    folder.write_config({**stored, "budget": config.budget})
    say(f"going on with {folder.path}")
    plan = plan_from(stored["plan"])
    return _run(folder, config, space, data, plan, Meter(parse_budget(config.budget)), stored["device"], workers, say, view)


def _run(folder: RunFolder, config: SearchConfig, space: SearchSpace, data: Dataset, plan: Plan, meter: Meter, device: str,
         workers: int, say: Say, view: Callable[[], AbstractContextManager[View]]) -> Result:  # fmt: skip
    objectives, constraints = parse_objectives(config.objectives), tuple(map(parse_constraint, config.constraint))
    target = config.target or device
    check_target(target)
    with ExitStack() as stack:
        storage = stack.enter_context(open_storage(config.storage or folder.study))
        study = SearchStudy(storage, space, objectives, constraints, name=folder.path.name)
        if "meter" in study.metadata:
            meter = Meter.from_mapping(meter.budget, study.metadata["meter"])
        expected = expected_trials(meter.budget, plan, workers)
        sampler, reason = choose_strategy(config.strategy, space, objectives, meter.budget, config.seed, expected)
        strategy = next(name for name, kind in STRATEGIES.items() if type(sampler) is kind)
        say(f"strategy: {strategy}: {reason}")
        if study.left_running:
            say(f"{len(study.left_running)} interrupted candidate{'s' * (len(study.left_running) > 1)} will be evaluated again")
        folder.write_table(folder.trials, TRIAL_COLUMNS, [row_of(r) for r in study.records if r.state != "running"])
        say(f"{workers} worker{'s' * (workers > 1)} on {device}; run folder: {folder.path}")
        measures = "latency" in {o.metric for o in objectives} | {c.metric for c in constraints}
        payload: dict[str, Any] = {
            "data": {"source": config.data, "seed": config.seed, "limit": None, "image_size": None, "device": device},
            "deploy": size_words(plan.deploy), "proxy": size_words(plan.proxy), "recipe": plan.recipe.to_mapping(), "seed": config.seed,
            "measure": {"device": target, "batch": plan.batch, "threads": 1, "anchors": str(folder.path)} if measures else None,
            "constraints": [str(c) for c in constraints],
        }  # fmt: skip
        if payload["measure"]:
            calibrate(payload["measure"])
        executor = stack.enter_context(LocalExecutor(
            "nas.search.evaluator:evaluate", workers=workers, gpus_per_trial=0 if device == "cpu" else None,
            preload="nas.search.evaluator:preload", log=folder.log))  # fmt: skip
        with view() as show:
            loop = SearchLoop(study=study, sampler=sampler, executor=executor, meter=meter, folder=folder, plan=plan,
                              payload=payload, view=show)  # fmt: skip
            loop.run()
        front = _tested_front(loop, study, data, payload, say)
        write_best(folder, study, loop.best, plan.deploy)
    return Result(folder=folder, space=config.space, strategy=strategy, counts=dict(loop.counts), budget=meter.rows(),
                  wall_s=meter.spent("wall"), front=front, best=loop.best, message=loop.message, interrupted=loop.interrupted)  # fmt: skip


def _tested_front(loop: SearchLoop, study: SearchStudy, data: Dataset, payload: Mapping[str, Any], say: Say
                  ) -> tuple[tuple[Record, float | None], ...]:  # fmt: skip
    """The front with its members' accuracy on the test split: the only place where it is read."""
    rows: list[tuple[Record, float | None]] = []
    for record in sorted_front(loop.front):
        weights = loop.folder.weights / f"{record.number}.pt"
        try:
            architecture = study.space.architecture(record.decisions)
            rows.append((record, test_accuracy(architecture, {**payload, "weights": str(weights)}, data)))
        except NasError as error:
            say(f"trial {record.number} could not be tested: {error}")
            rows.append((record, None))
    loop.folder.write_table(loop.folder.front, FRONT_COLUMNS, [front_row(r, t) | {
        "latency_low_ms": r.attrs.get("latency_low_ms"), "latency_high_ms": r.attrs.get("latency_high_ms")} for r, t in rows])  # fmt: skip
    return tuple(rows)


def front_row(record: Record, test: float | None) -> dict[str, Any]:
    """A member of the front as ``--json`` and front.csv show it."""
    metrics = record.metrics
    return {"trial": record.number, "val_accuracy": metrics.get("accuracy"), "test_accuracy": test, "latency_ms": metrics.get("latency"),
            "num_params": metrics.get("num_params"), "macs": metrics.get("macs"), "identity": record.identity}  # fmt: skip


def write_best(folder: RunFolder, study: SearchStudy, best: Record | None, size: Size) -> None:
    """The best architecture at its deployed size, as a page of its own."""
    if best is not None:
        folder.write(folder.best, to_yaml(at_size(study.space.architecture(best.decisions), size, f"{folder.path.name}-{best.number}")))


def at_size(architecture: Architecture, size: Size, name: str) -> Spec:
    """The architecture's page with a size written into it."""
    spec, scaling = architecture.spec, architecture.spec.scaling
    scaling = replace(scaling, width=scaling.width * size.width, depth=scaling.depth * size.depth)  # type: ignore[operator]
    return replace(spec, name=name.replace(" ", "_"), scaling=scaling, input=size.input or spec.input,
                   num_classes=size.num_classes or spec.num_classes)  # fmt: skip


def device_for(budget: Budget) -> str:
    """cuda where there is a GPU. Raises UsageError when GPU hours are asked for and there is none."""
    if torch.cuda.is_available():
        return "cuda"
    part = next((p for p in budget.parts if p.kind == "gpu"), None)
    if part is not None:
        raise UsageError(f"budget={part} asks for a GPU, and this machine has none that torch can use",
                         hint=f"Type budget={str(part).replace('gpu', 'cpu')} to search on its CPU, or a wall time such as budget=10min.")  # fmt: skip
    return "cpu"


def check_target(target: str) -> None:
    """Raise UsageError when latency cannot be measured there."""
    if target not in {"cpu", "cuda"} or (target == "cuda" and not torch.cuda.is_available()):
        raise UsageError("latency cannot be measured there", got=f"target={target}",
                         expected="cpu, or cuda on a machine with a GPU")  # fmt: skip


def default_workers(device: str) -> int:
    """One worker a GPU, or one a CPU core that this process may use."""
    import os

    return torch.cuda.device_count() if device == "cuda" else len(os.sched_getaffinity(0))


def time_left(budget: Budget, workers: int) -> float | None:
    """Wall seconds that the budget amounts to with that many workers; None when it is in trials alone."""
    limits = [budget.limit("wall")]
    limits += [limit / workers for kind in ("cpu", "gpu") if (limit := budget.limit(kind)) is not None]
    return min((limit for limit in limits if limit is not None), default=None)


def expected_trials(budget: Budget, plan: Plan, workers: int) -> int | None:
    """How many candidates the budget is expected to be enough for."""
    seconds = time_left(budget, workers)
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


def _same_search(stored: SearchConfig, asked: SearchConfig, folder: RunFolder) -> None:
    """Raise RunError when a run is continued with words that make it another search."""
    for key in ("space", "data", "objectives", "constraint", "seed", "deploy", "proxy", "epochs", "batch_size", "target", "storage"):
        before, now = getattr(stored, key), getattr(asked, key)
        if before != now:
            raise RunError(f"this run has another {key}", where=str(folder.path), expected=str(before), got=str(now),
                           hint="Go on with `nas resume`, or choose another run=.")  # fmt: skip


def plan_words(plan: Plan) -> dict[str, Any]:
    """A plan as plain words."""
    return {"deploy": size_words(plan.deploy), "proxy": size_words(plan.proxy), "batch": plan.batch, "epoch_s": round(plan.epoch_s, 3),
            "recipe": plan.recipe.to_mapping()}  # fmt: skip


def plan_from(words: Mapping[str, Any]) -> Plan:
    """A plan from its words."""
    return Plan(deploy=size_of(words["deploy"]), proxy=size_of(words["proxy"]), batch=words["batch"], epoch_s=words["epoch_s"],
                recipe=Recipe.from_mapping(words["recipe"]), notes=())  # fmt: skip
