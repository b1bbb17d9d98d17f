"""A search from its configuration to its result: a new run, or one that goes on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from nas.errors import NasError, RunError, UsageError
from nas.measure.device import device_models
from nas.measure.foresight import Foresight
from nas.measure.table import LatencyTable, Sums
from nas.ops.plugins import load_plugins
from nas.search.agreement import agreement
from nas.search.bench import MEASURED_ON
from nas.search.budget import Meter, extended, parse_budget
from nas.search.callbacks import Beginning, Callback, Callbacks
from nas.search.candidate import View
from nas.search.config import SearchConfig
from nas.search.confirm import confirm
from nas.search.evaluator import calibrate, test_accuracy
from nas.search.executors import cluster_device, default_workers, engine, open_executor
from nas.search.executors.base import Executor
from nas.search.finals import proxy_and_final, read_finals, train_finals
from nas.search.forecast import check_spent, device_for, expected_trials, held_by, time_left
from nas.search.halving import Halving
from nas.search.ledger import Ledger
from nas.search.loop import Rules, SearchLoop
from nas.search.measuring import (
    check_measuring,
    known_metrics,
    latency_table,
    measure_words,
    measured_apart,
    measured_metrics,
    model_here,
)
from nas.search.outlook import Outlook
from nas.search.peers import train_peers
from nas.search.planner import multipliers, one_thread, plan_search, times
from nas.search.result import Result
from nas.search.run import RunFolder
from nas.search.samplers import STRATEGIES, RandomSampler, choose_strategy
from nas.search.settled import Settled, check_same, size_words
from nas.search.shares import Shares
from nas.search.storage import hold, open_storage
from nas.search.study import Record, SearchStudy
from nas.search.tally import Tally, read_tally
from nas.space.library import load_space
from nas.train.data import Dataset, load_data
from nas.train.recipe_pages import load_recipe
from nas.train.seeding import derive_seed
from nas.train.shared import share as share_data

Say = Callable[[str], None]
"""Where the choices made for the user are told, a line each."""

HERE = ("address", "endpoint", "gpus_per_trial", "cpus_per_trial", "train_on", "trial_timeout", "log")
"""Words that each command says anew: they are of the machines, not of the search."""


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
    folder.refuse_others()
    budget = parse_budget(config.budget)
    device = cluster_device(config) or device_for(budget, config.gpus_per_trial)
    _check_device(config, device)
    check_spent(budget, device)
    meter = Meter(budget)
    space = load_space(config.space)
    measured = check_measuring(config, device, space.spec)
    load_recipe(config.recipe)
    choose_strategy(config.strategy, space, budget)
    for words in (config.deploy, config.proxy):
        multipliers(space.spec, words)
    data = load_data(config.data, seed=config.seed, image_size=config.image_size)
    if config.storage is not None:
        open_storage(config.storage).close()
    workers = config.workers or default_workers(config, device)
    shares = Shares.chosen(config.shares, strategy=config.strategy, expected=budget.trials)
    seconds = time_left(budget, device, held_by(config, device, workers))
    with meter.holding(device):
        plan = plan_search(space, data, config, device=device, workers=workers, seconds=seconds and seconds * shares.search)
    if shares.final and plan.deploy.input != data.input_shape:
        raise UsageError("final trainings are at the deployed size, and the images have another",
                         expected=times(plan.deploy.input), got=times(data.input_shape),
                         hint="Add image_size=, or say final=0 and train with `nas train`.")  # fmt: skip
    settled = Settled.make(config, name=folder.path.resolve().name, device=device, space=space, fingerprint=data.fingerprint,
                           plan=plan, shares=shares)
    table = latency_table(settled, say)
    folder.create()
    for note in (*plan.notes, *measured):
        say(note)
    say(f"budget {budget}: {shares}")
    return _run(folder, settled, data, meter, workers, table, say, view, callbacks, new=True)


def resume(folder: RunFolder, *, budget: str | None = None, workers: int | None = None, asked: SearchConfig | None = None,
           say: Say, view: Callable[[], AbstractContextManager[View]],
           callbacks: Sequence[Callback] = ()) -> Result:  # fmt: skip
    """Go on with a run: what it found and spent is remembered, interrupted candidates are evaluated again.

    ``budget`` replaces the run's, or extends it when it begins with ``+``. Raises RunError when the data changed, or when
    ``asked`` is another search than the run's.
    """
    settled = Settled.read(folder)
    if asked is not None:
        check_same(settled, asked, folder)
        settled = settled.with_recipe(asked.recipe)
    config = replace(settled.config, **{key: value for key in HERE if (value := getattr(asked, key, None)) is not None})
    if budget is not None:
        config = config.with_budget(extended(config.budget, budget))
    meter = Meter(parse_budget(config.budget))
    data = load_data(config.data, seed=config.seed, image_size=config.image_size)
    if data.fingerprint != settled.fingerprint:
        raise RunError("the data is not what this run began with", where=config.data, expected=settled.fingerprint[:16],
                       got=data.fingerprint[:16], hint="Restore the data, or start a new run.")  # fmt: skip
    _check_device(config, settled.device)
    check_spent(meter.budget, settled.device)
    say(f"going on with {folder.path}")
    with engine(config):
        for note in check_measuring(replace(config, workers=workers or config.workers), settled.device, settled.space.spec):
            say(note)
        workers = workers or config.workers or default_workers(config, settled.device)
        table = latency_table(settled, say)
        folder.create()
        return _run(folder, replace(settled, config=config), data, meter, workers, table, say, view, callbacks,
                    new=False)


def _check_device(config: SearchConfig, device: str) -> None:
    """Raises UsageError when the trials are on GPUs and the driver has none, or when they shall hold what they are not on."""
    if config.gpus_per_trial is not None and (config.gpus_per_trial > 0) != (device == "cuda"):
        raise UsageError(f"the trials are on {'GPUs' if device == 'cuda' else 'CPUs'}",
                         got=f"gpus_per_trial={config.gpus_per_trial:g}",
                         hint="Leave it out, or begin another run where there are GPUs that torch can use.")  # fmt: skip
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("the trials have GPUs, and the driver's machine has none that torch can use",
                         hint="The driver times networks to plan, and tests those it found: start it on a machine with a GPU. "
                              "A new search with gpus_per_trial=0 has its trials on CPUs.")  # fmt: skip


def _run(folder: RunFolder, settled: Settled, data: Dataset, meter: Meter, workers: int, table: LatencyTable | None, say: Say,
         view: Callable[[], AbstractContextManager[View]], callbacks: Sequence[Callback], *, new: bool) -> Result:  # fmt: skip
    """From what is settled to the result: open everything, search, and close everything again."""
    config, device, plan = settled.config, settled.device, settled.plan
    with ExitStack() as stack:
        study = _open_study(stack, folder, settled, meter, new=new)
        expected = expected_trials(meter.budget, plan, device, workers, held_by(config, device, workers))
        known = known_metrics(settled.objectives, settled.constraints, plan.deploy)
        sampler, reason = choose_strategy(config.strategy, settled.space, meter.budget, config.seed, expected, known=known)
        strategy = next(name for name, kind in STRATEGIES.items() if type(sampler) is kind)
        say(f"strategy: {strategy}: {reason}")
        study.set_metadata(val_images=len(data.validation), test_images=len(data.test()))
        model = model_here(config, measure_words(settled, folder), study.metadata.get(MEASURED_ON))
        # Nothing of the folder is written before both locks are ours.
        folder.write_config(settled.to_mapping())
        stack.enter_context(Tally(folder.tally, meter))
        stack.callback(folder.close_log)
        if study.left_running:
            say(f"{len(study.left_running)} interrupted candidate{'s' * (len(study.left_running) > 1)} will be evaluated again")
        say(f"{workers} worker{'s' * (workers > 1)} on {device}; run folder: {folder.path}")
        shared = share_data(data, folder.path.resolve() / "shared")
        stack.callback(shutil.rmtree, folder.path / "shared", ignore_errors=True)
        payload = payload_of(settled, folder, shared)
        how = payload["measure"]
        apart = how is not None and measured_apart(config.target or device, device)
        here = not apart and (not model or model in device_models().values())
        units = _units(how, meter if here else None) if how is not None and (here or table) else {}
        executor, measurer = _open_executors(stack, folder, settled, workers, apart=apart, shared=shared, say=say)
        heard = Callbacks(callbacks, folder.logger(), say)
        ledger = Ledger(study, meter, folder, plan.deploy, heard)
        rules = rules_of(settled, expected, Sums(table, units) if table else None)
        heard.on_search_start(_beginning(study, folder, settled))
        with view() as show:
            loop = SearchLoop(ledger=ledger, sampler=sampler, executor=executor, measurer=measurer, plan=plan, payload=payload,
                              view=show, rules=rules, model=model)  # fmt: skip
            loop.run()
            shares = settled.shares
            for wanted, look in ((shares.repeats, confirm), (shares.peers, train_peers), (shares.final, train_finals)):
                if wanted and not loop.interrupted:
                    look(loop)
        heard.on_search_end(loop.message)
        with one_thread(device), meter.holding(device):
            return _result(loop, settled, data, strategy, say)


def _open_study(stack: ExitStack, folder: RunFolder, settled: Settled, meter: Meter, *, new: bool) -> SearchStudy:
    """The run's study, held by this process alone, and what it has spent remembered by the meter. Raises RunError."""
    elsewhere = settled.config.storage
    stack.callback(hold(folder.config).release)  # a storage elsewhere says nothing of who writes in the folder
    storage = stack.enter_context(open_storage(elsewhere or folder.study))
    study = SearchStudy(storage, settled.space, settled.objectives, settled.constraints, name=settled.name, there=not new)
    if new and study.records:
        raise RunError("this storage holds a search of that name already", where=elsewhere or str(folder.study),
                       got=settled.name, hint="Choose another run=.")  # fmt: skip
    if not new:
        meter.remember(study.spent, read_tally(folder.tally))
    return study


def _open_executors(stack: ExitStack, folder: RunFolder, settled: Settled, workers: int, *, apart: bool, shared: Path | None,
                    say: Say) -> tuple[Executor, Executor | None]:  # fmt: skip
    """The executor that trains, and one that measures where that is ``apart``."""
    config, device = settled.config, settled.device
    carried: list[str | Path] = [*filter(os.path.isfile, (*config.plugins, config.recipe)), *([shared] if shared else [])]

    def tell(line: str) -> None:  # of a cluster also hours later, when nobody looks
        folder.logger().info("%s", line)
        say(line)

    opened = partial(open_executor, config, task="nas.search.evaluator:evaluate", preload="nas.search.evaluator:preload",
                     log=folder.log, say=tell if config.engine == "ray" else say, carry=carried)  # fmt: skip
    # The measuring slots come first: on a cluster the training takes what is left.
    measurer = stack.enter_context(opened("cpu", use="measure")) if apart else None
    executor = stack.enter_context(opened(device, workers=workers))
    threads = executor.resources[0].threads
    for change in folder.write_environment({"device": device, "workers": workers, "threads_per_worker": threads}):
        say(f"note: {change}; latencies measured before and after do not compare")
    return executor, measurer


def _beginning(study: SearchStudy, folder: RunFolder, settled: Settled) -> Beginning:
    """What callbacks are told at the start."""
    return Beginning(
        folder=folder.path, name=settled.name, config=settled.config.to_mapping(), objectives=settled.objectives,
        constraints=settled.constraints, records=[record for record in study.records if record.state != "running"],
    )  # fmt: skip


def _result(loop: SearchLoop, settled: Settled, data: Dataset, strategy: str, say: Say) -> Result:
    """What was found. The test split is read here, for the final front."""
    ledger, study = loop.ledger, loop.study
    tested = {r.number: _tested(r, loop, data, say) for r in ledger.front.members}
    ledger.write_front(tested)
    finals = tuple(read_finals(loop, settled, data))
    ledger.save_checks()
    for remark in ledger.remarks:
        say(f"note: {remark}")
    return Result(
        folder=loop.folder, config=settled.config, strategy=strategy, counts=dict(ledger.counts), budget=loop.meter.rows(),
        wall_s=loop.meter.spent("wall"), front=tuple((r, tested[r.number]) for r in ledger.front.members),
        best=ledger.front.best, message=loop.message, interrupted=loop.interrupted, checks=ledger.front.checks,
        ties=ledger.front.ties, finals=finals, agreement=agreement(proxy_and_final(study.records, ledger.front.checks.final)),
    )  # fmt: skip


def _units(how: Mapping[str, Any], meter: Meter | None) -> Mapping[int, float]:
    """The reference's quiet milliseconds where latency is measured, before workers disturb it; metered where it is here."""
    if "latency" not in how["metrics"]:
        return {}
    with meter.holding(how["target"]) if meter else nullcontext():
        return calibrate(how)


def rules_of(settled: Settled, expected: int | None = None, sums: Sums | None = None) -> Rules:
    """What the search does beside its strategy; ``sums``: those of its latency table."""
    config, shares = settled.config, settled.shares
    random = RandomSampler(settled.space, seed=derive_seed(config.seed, "baseline")) if shares.baseline else None
    halving = None
    if config.early_stopping == "asha":
        halving = Halving(settled.objectives, settled.plan.recipe.epochs, expected=expected)
    timed = "latency" in measured_metrics(settled.objectives, settled.constraints)
    outlook = Outlook(settled.objectives, settled.constraints, Foresight(sums) if timed else None,
                      plain=config.strategy == "random")  # fmt: skip
    return Rules(shares=shares, random=random, halving=halving, timeout=config.timeout_s, outlook=outlook)


def payload_of(settled: Settled, folder: RunFolder, shared: Path | None = None) -> dict[str, Any]:
    """What the evaluator is told with every job; the loop adds ``page``, ``weights``, ``checkpoint`` and ``stage``."""
    config, plan = settled.config, settled.plan
    return {
        "data": {"source": config.data, "seed": config.seed, "image_size": config.image_size,
                 "device": settled.device, "shared": str(shared) if shared else None},
        "deploy": size_words(plan.deploy), "proxy": size_words(plan.proxy), "recipe": plan.recipe.to_mapping(),
        "seed": config.seed, "plugins": list(config.plugins), "measure": measure_words(settled, folder),
        "final": {"recipe": config.recipe},
    }  # fmt: skip


def _tested(record: Record, loop: SearchLoop, data: Dataset, say: Say) -> float | None:
    """Accuracy of a member of the final front on the test split, read when the search has ended."""
    weights = str(loop.folder.weights_of(record.number))
    try:
        return test_accuracy(loop.study.space.architecture(record.decisions), {**loop.payload, "weights": weights}, data)
    except NasError as error:
        say(f"trial {record.number} could not be tested: {error}")
        return None
