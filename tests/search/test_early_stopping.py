"""Early stopping in the loop: who is trained on, who waits, and what a larger budget makes of those."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

import pytest
from optuna.trial import TrialState

from tests.search.fakes import THREE, Clock, FakeExecutor, a_loop, accuracy_of, measured, run_loop
from tests.search.loops import epochs_of, killed_at, stored, told, with_asha

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


@pytest.mark.parametrize("slots", [1, 4])
def test_early_stopping_trains_the_better_third_on(tmp_path, slots):
    executor = FakeExecutor(slots=slots)
    loop = run_loop(tmp_path, executor, with_asha(budget="30trials", strategy="random"))
    records = loop.study.records
    stopped = [r for r in records if r.state == "stopped"]
    completed = [r for r in records if r.state == "completed"]
    assert len(stopped) + len(completed) == 30 == loop.meter.spent("trials")
    assert 3 <= len(completed) <= 8  # a new best goes on although a third has gone already
    assert {r.reason for r in stopped} == {"not promoted after 1 epoch", "not promoted after 3 epochs"}
    stages = epochs_of(executor)
    assert all(stages[r.number] == [1, 3, 9] for r in completed)
    assert all(stages[r.number] in ([1], [1, 3]) for r in stopped)
    assert not any(r.unfinished for r in stopped)


@pytest.mark.parametrize("poll", [3, 8, 15])
def test_a_killed_driver_goes_on_with_those_that_wait(tmp_path, poll):
    chosen = with_asha(budget="20trials", strategy="random")
    killed_at(tmp_path, poll, chosen)
    waiting = {t.number for t in stored(tmp_path) if not t.state.is_finished() and "rungs" in t.user_attrs}
    executor = FakeExecutor(slots=2)
    loop = run_loop(tmp_path, executor, chosen)
    assert waiting
    assert all(1 not in epochs for trial, epochs in epochs_of(executor).items() if trial in waiting)
    assert loop.meter.spent("trials") == 20
    assert sum(r.counts for r in loop.study.records) == 20
    assert TrialState.RUNNING not in {t.state for t in stored(tmp_path)}


def test_an_interrupted_search_keeps_those_that_wait(tmp_path):
    executor, chosen = FakeExecutor(), with_asha(budget="20trials", strategy="random")
    executor.on_poll = lambda: os.kill(os.getpid(), signal.SIGINT) if len(executor.submitted) == 6 else None
    loop = run_loop(tmp_path, executor, chosen)
    waiting = {number for number, candidate in loop.open.items() if candidate.waits}
    assert loop.interrupted
    assert waiting
    second = FakeExecutor()
    loop = run_loop(tmp_path, second, chosen)
    assert all(1 not in epochs for trial, epochs in epochs_of(second).items() if trial in waiting)
    assert loop.meter.spent("trials") == 20 == sum(r.counts for r in loop.study.records)
    assert TrialState.RUNNING not in {t.state for t in stored(tmp_path)}


def test_those_that_waited_at_a_rung_that_is_none_any_more_go_on(tmp_path):
    chosen = with_asha(budget="20trials", strategy="random")
    killed_at(tmp_path, 8, chosen)
    waiting = {t.number for t in stored(tmp_path) if not t.state.is_finished() and t.user_attrs.get("rungs", {}).keys() == {"1"}}
    executor = FakeExecutor(slots=2)
    with a_loop(tmp_path, executor, chosen, rules={"expected": 20}) as loop:  # too few for a rung after one epoch
        assert [rung.epochs for rung in loop.halving.rungs] == [3]
        loop.run()
    assert waiting
    assert all(epochs_of(executor)[trial][0] == 3 for trial in waiting)
    assert TrialState.RUNNING not in {t.state for t in stored(tmp_path)}


class Trained(FakeExecutor):
    """Its trainings leave checkpoints, which hold the epochs; each goes on from there, and takes a second an epoch."""

    def __init__(self, *, clock=None, **options):
        super().__init__(self.train, clock=clock, seconds=0.0, **options)
        self.epochs = Counter()

    def train(self, job):
        if job.payload["stage"]["do"] == "measure":
            return {"metrics": {"latency": 1.0 + job.trial % 5}, "latency_low_ms": 1.0, "latency_high_ms": 1.0, "measure_s": 0.1}
        checkpoint, until = Path(job.payload["checkpoint"]), job.payload["stage"]["epochs"]
        before = int(checkpoint.read_text()) if checkpoint.exists() else 0
        self.epochs[job.trial] += until - before
        if self.clock:
            self.clock.now += until - before
        checkpoint.write_text(str(until))
        return accuracy_of(job)


@pytest.mark.parametrize("slots", [1, 3])
def test_a_larger_budget_promotes_those_that_waited_when_the_smaller_one_ended(tmp_path, slots):
    first = Trained(slots=slots)
    loop = run_loop(tmp_path, first, with_asha(budget="20trials", strategy="random"))
    waiting = {r.number for r in loop.study.records if r.state == "stopped"}
    assert {t.number for t in stored(tmp_path) if t.state == TrialState.WAITING} == waiting
    assert waiting == {number for number, epochs in first.epochs.items() if epochs < 9}
    assert {int(path.stem) for path in (tmp_path / "checkpoints").iterdir()} == waiting
    assert {told(tmp_path)[n]["reason"] for n in waiting} == {"not promoted after 1 epoch", "not promoted after 3 epochs"}
    second = Trained(slots=slots)
    loop = run_loop(tmp_path, second, with_asha(budget="60trials", strategy="random"))
    promoted = waiting & second.epochs.keys()
    assert promoted
    assert all(first.epochs[n] + second.epochs[n] in (3, 9) for n in promoted), "from their checkpoints"
    records, trials = loop.study.records, stored(tmp_path)
    assert sum(r.counts for r in records) == 60 == loop.meter.spent("trials") == loop.study.spent["trials"]
    completed = [r for r in records if r.state == "completed"]
    assert {r.number for r in completed} & promoted
    assert len({r.identity for r in completed}) == len(completed)
    assert all(r.reason is None and trials[r.number].user_attrs.get("reason") is None for r in completed)
    assert TrialState.RUNNING not in {t.state for t in trials}
    assert {n: row["state"] for n, row in told(tmp_path).items()} == {r.number: r.state for r in records}
    waiting = {t.number for t in trials if t.state == TrialState.WAITING}
    assert waiting == {r.number for r in records if r.state == "stopped"}
    assert {int(path.stem) for path in (tmp_path / "checkpoints").iterdir()} == waiting


@pytest.mark.parametrize(("budget", "message"), [("30s,20trials", "is spent"), ("90s,20trials", "no room for another")])
def test_without_more_budget_nothing_changes(tmp_path, budget, message):
    chosen = with_asha(budget=budget, strategy="random")
    run_loop(tmp_path, Trained(clock=(clock := Clock())), chosen, clock=clock)
    assert TrialState.WAITING in {t.state for t in stored(tmp_path)}
    before, table = [(t.state, t.user_attrs) for t in stored(tmp_path)], told(tmp_path)
    executor = Trained(clock=clock)
    loop = run_loop(tmp_path, executor, chosen, clock=clock)
    assert message in loop.message
    assert executor.submitted == []
    assert [(t.state, t.user_attrs) for t in stored(tmp_path)] == before
    assert told(tmp_path) == table


def test_more_time_for_as_many_trials_promotes_too(tmp_path):
    clock = Clock()
    run_loop(tmp_path, Trained(clock=clock), with_asha(budget="21s,20trials", strategy="random"), clock=clock)
    waiting = {t.number for t in stored(tmp_path) if t.state == TrialState.WAITING}
    executor = Trained(clock=clock)
    loop = run_loop(tmp_path, executor, with_asha(budget="500s,20trials", strategy="random"), clock=clock)
    assert waiting & executor.epochs.keys()
    assert loop.meter.spent("trials") == 20 == sum(r.counts for r in loop.study.records)


def test_killed_after_a_larger_budget_began_it_goes_on_all_the_same(tmp_path):
    run_loop(tmp_path, Trained(), with_asha(budget="20trials", strategy="random"))
    waiting = {t.number for t in stored(tmp_path) if t.state == TrialState.WAITING}
    chosen = with_asha(budget="50trials", strategy="random")
    killed_at(tmp_path, 5, chosen)
    assert waiting & {t.number for t in stored(tmp_path) if t.state == TrialState.RUNNING}
    loop = run_loop(tmp_path, Trained(), chosen)
    assert loop.meter.spent("trials") == 50 == sum(r.counts for r in loop.study.records)
    assert TrialState.RUNNING not in {t.state for t in stored(tmp_path)}


def test_where_a_larger_budget_could_promote_nothing_no_checkpoint_is_kept(tmp_path):
    """All the space is proposed, and nobody comes whom those that wait could be better than."""
    executor = Trained()
    loop = run_loop(tmp_path, executor, with_asha(page=THREE, budget="50trials", strategy="random"))
    assert "exhausted" in loop.message
    assert {t.state for t in stored(tmp_path) if t.user_attrs["state"] == "stopped"} == {TrialState.PRUNED}
    assert not list((tmp_path / "checkpoints").iterdir())


def test_who_is_given_up_at_a_rung_is_given_up_for_good(tmp_path):
    executor = Trained()
    with a_loop(tmp_path, executor, with_asha(budget="40trials", strategy="random")) as loop:
        loop.halving.waiting = 5
        loop.run()
    states = Counter(t.state for t in stored(tmp_path) if t.user_attrs["state"] == "stopped")
    assert states[TrialState.PRUNED] > 10
    assert states[TrialState.WAITING] <= 10
    assert len(list((tmp_path / "checkpoints").iterdir())) == states[TrialState.WAITING]


def test_what_was_measured_is_kept_when_its_driver_is_killed(tmp_path):
    chosen = with_asha(budget="20trials", strategy="random", objectives="accuracy,latency")
    outcome = measured(lambda trial: 2.0 - trial / 100)
    killed_at(tmp_path, 12, chosen, outcome)
    waiting = {t.number for t in stored(tmp_path) if not t.state.is_finished() and "rungs" in t.user_attrs}
    loop = run_loop(tmp_path, FakeExecutor(outcome), chosen)
    assert waiting
    assert all("latency_low_ms" in loop.study.records[trial].attrs for trial in waiting)
