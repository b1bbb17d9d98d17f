"""The search loop on a real journal with scripted trials: what it records, what it spends, and how it ends."""

from __future__ import annotations

import csv
import os
import signal
from collections import Counter

import pytest
from optuna.trial import TrialState

import nas.search.loop as loops
from nas.errors import RunError
from nas.search.run import TRIAL_COLUMNS, RunFolder
from tests.search.fakes import MANY, THREE, Clock, FakeExecutor, a_loop, accuracy_of, measured, run_loop, settled
from tests.search.loops import killed_at, rows, stored, told

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


def test_a_budget_of_trials_is_used_exactly(tmp_path):
    executor = FakeExecutor(slots=3)
    loop = run_loop(tmp_path, executor)
    assert loop.ledger.counts["completed"] == 10 == len(executor.submitted)
    assert loop.message == "the budget of 10trials is spent"
    assert not executor.closed  # the front may be looked at again
    assert loop.meter.spent("trials") == 10


def test_every_trial_is_in_the_table_and_in_the_study(tmp_path):
    loop = run_loop(tmp_path)
    table, trials = rows(tmp_path), stored(tmp_path)
    assert [int(row["trial"]) for row in table] == [trial.number for trial in trials]
    for row, trial in zip(table, trials, strict=True):
        assert row["state"] == trial.user_attrs["state"]
        assert float(row["val_accuracy"]) == trial.values[0]
        assert int(row["num_params"]) == trial.values[1]
        assert row["identity"] == trial.user_attrs["identity"]
        assert trial.user_attrs["seed"] == 0
        assert trial.user_attrs["device"] == "cpu"
        assert {"seconds", "train_s", "epochs"} <= trial.user_attrs.keys()
    assert loop.study.metadata["meter"]["trials"] == 10


def test_the_front_and_the_best_are_written_while_the_search_runs(tmp_path):
    seen = []
    executor = FakeExecutor()
    executor.on_poll = lambda: seen.append((tmp_path / "front.csv").exists() and (tmp_path / "best.yaml").exists())
    loop = run_loop(tmp_path, executor)
    assert seen == [False, *[True] * 9]
    with (tmp_path / "front.csv").open() as file:
        front = list(csv.DictReader(file))
    assert [int(row["trial"]) for row in front] == [record.number for record in loop.ledger.front.members]
    assert float(front[0]["val_accuracy"]) == max(row["val_accuracy"] and float(row["val_accuracy"]) for row in rows(tmp_path))


def test_failures_are_recorded_with_their_reason_and_count(tmp_path):
    def outcome(job):
        if job.trial % 2:
            raise RuntimeError("out_of_memory: RuntimeError: CUDA out of memory")
        return accuracy_of(job)

    loop = run_loop(tmp_path, FakeExecutor(outcome))
    assert loop.ledger.counts == {"completed": 5, "failed": 5}
    reasons = {row["reason"] for row in rows(tmp_path) if row["state"] == "failed"}
    assert reasons == {"out_of_memory: RuntimeError: CUDA out of memory"}


def test_a_result_that_is_not_a_number_is_a_failure(tmp_path):
    loop = run_loop(tmp_path, FakeExecutor(lambda job: {"metrics": {"accuracy": float("nan")}, "epochs": 2}))
    assert loop.ledger.counts == {"failed": 10}
    assert loop.ledger.front.members == ()


def test_a_candidate_over_a_measured_limit_does_not_count(tmp_path):
    executor = FakeExecutor(measured(lambda trial: 9.0 if trial % 3 else 1.0))
    loop = run_loop(tmp_path, executor, settled(objectives="accuracy,latency", constraint=["latency<=3ms"]))
    trained = {job.trial for job in executor.submitted if job.payload["stage"]["do"] == "train"}
    assert trained == {r.number for r in loop.study.records if r.state == "completed"}
    assert loop.ledger.counts["completed"] == 10
    assert loop.ledger.counts["stopped"] >= 18
    assert {r.reason for r in loop.study.records if r.state == "stopped"} == {"latency 9 breaks latency<=3ms"}
    assert not any(r.unfinished for r in loop.study.records)


def test_a_running_trial_is_left_to_finish_when_nothing_new_is_to_be_proposed(tmp_path):
    """Only the budget's end stops what runs."""
    executor = FakeExecutor(slots=2, held=[0])
    waited = []

    def release():
        waited.append(len(executor.submitted))
        if len(waited) > 30:
            executor.held.clear()

    executor.on_poll = release
    loop = run_loop(tmp_path, executor, settled(THREE, budget="50trials"))
    assert loop.study.records[0].state == "completed"
    assert executor.asked == set()


def test_at_the_budgets_end_running_trials_are_stopped_with_what_they_have(tmp_path):
    clock = Clock()
    executor = FakeExecutor(slots=2, held=[0, 3], clock=clock, seconds=5.0)
    loop = run_loop(tmp_path, executor, settled(budget="60s"), clock=clock)
    assert loop.message == "the budget of 60s is spent"
    stopped = [r for r in loop.study.records if r.state == "stopped"]
    assert [r.number for r in stopped] == [0, 3]
    assert all(r.unfinished and "accuracy" in r.metrics and r.reason == loop.message for r in stopped)
    (part,) = loop.meter.rows()
    assert part["asked"] == 60
    assert 60 <= part["spent"] <= 75
    assert loop.meter.spent("trials") == loop.ledger.counts["completed"]


def test_nothing_starts_that_does_not_fit(tmp_path):
    clock = Clock()
    executor = FakeExecutor(clock=clock, seconds=7.0)
    loop = run_loop(tmp_path, executor, settled(budget="20s"), clock=clock)  # the plan expects 2 s a candidate
    assert loop.message == "the budget has no room for another candidate" or "is spent" in loop.message
    assert loop.meter.spent("wall") <= 21
    empty = FakeExecutor(clock=clock)
    loop = run_loop(tmp_path / "b", empty, settled(budget="1s"), clock=clock)
    assert loop.message == "the budget has no room for another candidate"
    assert empty.submitted == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_search_and_keeps_everything(tmp_path, number):
    executor = FakeExecutor(slots=2, held=[4])
    executor.on_poll = lambda: os.kill(os.getpid(), number) if len(executor.submitted) == 7 else None
    before = signal.getsignal(number)
    loop = run_loop(tmp_path, executor)
    assert loop.interrupted
    assert "interrupted" in loop.message
    assert "in flight" in loop.message
    assert signal.getsignal(number) is before
    states = Counter(trial.user_attrs["state"] for trial in stored(tmp_path))
    assert states["completed"] >= 5
    left = {trial.number for trial in stored(tmp_path) if trial.user_attrs["state"] == "running"}
    assert 4 in left
    assert not left & {int(row["trial"]) for row in rows(tmp_path)}
    assert loop.meter.spent("trials") == states["completed"]
    again = run_loop(tmp_path)
    assert again.ledger.counts["completed"] == 10 == again.meter.spent("trials")
    assert not again.interrupted
    assert {again.study.records[number].state for number in left} == {"completed"}
    assert len(rows(tmp_path)) == len({row["trial"] for row in rows(tmp_path)})


@pytest.mark.parametrize(("page", "poll"), [(MANY, 0), (MANY, 1), (MANY, 2), (MANY, 5), (MANY, 9), (THREE, 0), (THREE, 1),
                                            (THREE, 2)])
def test_a_killed_driver_loses_nothing_that_was_finished(tmp_path, page, poll):
    chosen = settled(page, budget="12trials", strategy="random")
    killed_at(tmp_path, poll, chosen)
    before = {t.number: t.user_attrs for t in stored(tmp_path) if t.state.is_finished()}
    left = [t for t in stored(tmp_path) if not t.state.is_finished()]
    executor = FakeExecutor(slots=2)
    loop = run_loop(tmp_path, executor, chosen)
    trials = stored(tmp_path)
    assert all(t.state.is_finished() for t in trials)
    assert {n: trials[n].user_attrs for n in before} == before
    trained = [j.trial for j in executor.submitted]
    assert len(trained) == len(set(trained))
    assert not set(trained) & {n for n, attrs in before.items() if attrs["state"] == "completed"}
    completed = [r for r in loop.study.records if r.state == "completed"]
    assert len({r.identity for r in completed}) == len(completed) == (12 if page is MANY else 3)
    assert {t.number for t in left} <= {r.number for r in loop.study.records if r.state in ("completed", "duplicate")}
    assert loop.meter.spent("trials") == len(completed)


def test_a_torn_ending_is_no_ending(tmp_path):
    """The journal cut after any line of a trial's ending: Optuna's state and ours never differ."""
    chosen = settled(budget="3trials")
    run_loop(tmp_path, FakeExecutor(), chosen)
    journal = tmp_path / "study.log"
    lines = journal.read_bytes().splitlines(keepends=True)
    first = next(i for i, line in enumerate(lines) if b'"completed"' in line) - 1
    for cut in range(first, len(lines)):
        copy = tmp_path / f"cut{cut}"
        copy.mkdir()
        (copy / "study.log").write_bytes(b"".join(lines[:cut]) + lines[cut][: len(lines[cut]) // 2])
        loop = run_loop(copy, FakeExecutor(), chosen)
        trials = stored(copy)
        assert [t.state for t in trials] == [TrialState.COMPLETE] * 3
        assert [r.state for r in loop.study.records] == ["completed"] * 3
        assert loop.meter.spent("trials") == 3


def test_weights_are_kept_for_the_front_alone(tmp_path):
    def outcome(job):
        with open(job.payload["weights"], "w") as file:
            file.write("weights")
        if job.trial == 4:
            return {"metrics": {"accuracy": 0.1}, "stopped": True, "epochs": 1}
        return accuracy_of(job)

    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "7.partial").write_text("half")
    loop = run_loop(tmp_path, FakeExecutor(outcome))
    kept = {int(path.stem) for path in (tmp_path / "weights").iterdir()}
    assert kept == {record.number for record in loop.ledger.front.members}


def test_a_full_disk_ends_the_search_with_a_message(tmp_path, monkeypatch):
    executor = FakeExecutor()
    with a_loop(tmp_path, executor) as loop:
        write = loop.folder.append_row

        def full(*args):
            if len(executor.submitted) == 4:
                raise RunError("the disk is full")
            write(*args)

        monkeypatch.setattr(loop.folder, "append_row", full)
        with pytest.raises(RunError, match="disk is full"):
            loop.run()
    assert executor.closed
    monkeypatch.undo()
    assert run_loop(tmp_path).ledger.counts["completed"] == 10


def test_a_status_says_what_a_view_needs(tmp_path):
    seen = []
    loop = run_loop(tmp_path, FakeExecutor(slots=2), settled(budget="3trials"), view=seen.append)
    first = seen[0]
    assert [t.record.number for t in first.running] == [1]
    assert first.epochs == 2
    assert first.budget == [{"asked": 3.0, "spent": first.budget[0]["spent"], "unit": "trials"}]
    assert seen[-1].message == loop.message
    assert seen[-1].expected is None, "it is over"
    assert seen[-1].running == ()
    assert seen[-1].counts == {"completed": 3}


def test_a_status_foresees_how_many_candidates_there_will_be(tmp_path, monkeypatch):
    monkeypatch.setattr("nas.search.loop.SHOW_EVERY_S", 0.0)
    seen = []
    run_loop(tmp_path, FakeExecutor(slots=1), settled(budget="10trials", repeats="0", baseline="0"), view=seen.append)
    assert {status.expected for status in seen if 3 <= status.counts.get("completed", 0) < 10} == {10}
    assert {status.expected for status in seen if status.counts.get("completed", 0) < 3} == {None}


def test_what_the_end_of_the_budget_stopped_is_gone_on_with_under_its_number(tmp_path):
    clock = Clock()
    executor = FakeExecutor(slots=2, held=[0, 3], clock=clock, seconds=5.0)
    run_loop(tmp_path, executor, settled(budget="60s"), clock=clock)
    for number in (0, 3):
        RunFolder(tmp_path).checkpoint_of(number).touch()
        assert (stored(tmp_path)[number].state, told(tmp_path)[number]["state"]) == (TrialState.WAITING, "stopped")
    again = FakeExecutor(slots=2, clock=clock, seconds=5.0)
    before = float(told(tmp_path)[3]["seconds"])
    with a_loop(tmp_path, again, settled(budget="120s"), clock=clock) as loop:
        assert all(loop.folder.checkpoint_of(number).exists() for number in (0, 3))
        loop.run()
    assert [job.trial for job in again.submitted][:2] == [0, 3]
    records = loop.study.records
    assert [(records[n].state, records[n].unfinished) for n in (0, 3)] == [("completed", False)] * 2
    assert records[3].attrs["seconds"] > before, "of both"
    assert stored(tmp_path)[0].state == TrialState.COMPLETE
    assert len({r.identity for r in records if r.state == "completed"}) == loop.ledger.counts["completed"]


def test_a_trial_that_was_left_in_flight_is_not_left_running_by_a_budget_without_room(tmp_path):
    clock = Clock()
    chosen = settled(budget="30s")
    killed_at(tmp_path, 2, chosen, clock=clock)
    left = {t.number for t in stored(tmp_path) if t.state == TrialState.RUNNING}
    clock.now += 30
    with a_loop(tmp_path, FakeExecutor(clock=clock), chosen, clock=clock) as loop:
        clock.now += 30
        loop.run()
    assert left
    assert {t.number for t in stored(tmp_path) if t.state == TrialState.WAITING} == left
    assert {loop.study.records[n].reason for n in left} == {"the budget of 30s is spent"}


def test_a_busy_machine_ends_the_search_and_can_be_gone_on_with(tmp_path, monkeypatch):
    monkeypatch.setattr(loops, "REFUSED", 3)
    chosen = settled(objectives="accuracy,latency")

    def refused(job):
        return {"refused": "cpu is busy"}

    loop = run_loop(tmp_path, FakeExecutor(refused), chosen)
    assert "the last 3 measurements were refused (cpu is busy)" in loop.message
    assert {r.reason for r in loop.study.records} == {"not measured: cpu is busy"}
    assert loop.meter.spent("trials") == 0
    again = run_loop(tmp_path, FakeExecutor(measured(lambda trial: 1.0)), chosen)
    assert again.ledger.counts["completed"] == 10


def test_a_search_with_nothing_on_its_front_takes_the_whole_budget(tmp_path):
    """There would be nothing to repeat or to train to the end."""
    def late(job):
        if job.trial < 6:
            raise RuntimeError("failed: no memory")
        return accuracy_of(job)

    with a_loop(tmp_path, FakeExecutor(late), settled(budget="20trials", repeats="80%", strategy="random")) as loop:
        loop.run()
    assert loop.ledger.counts["failed"] >= 4  # the search's share is 4 trials
    assert loop.ledger.counts["completed"] == 1


def test_what_a_run_judges_by_alone_has_columns(tmp_path):
    product = "accuracy*(num_params/1K)^-0.07"
    loop = run_loop(tmp_path, chosen=settled(objectives=f"{product},num_params"))
    with (tmp_path / "trials.csv").open() as file:
        table = csv.DictReader(file)
        known = {int(row["trial"]): row for row in table}
    assert tuple(table.fieldnames) == (*TRIAL_COLUMNS, product)
    for record in loop.study.records:
        assert float(known[record.number][product]) == pytest.approx(record.metrics[product])
