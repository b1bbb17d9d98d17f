"""The search loop on a real journal with scripted trials: what it starts, records, recognises, and how it ends."""

from __future__ import annotations

import csv
import os
import signal
from collections import Counter
from dataclasses import replace

import optuna
import pytest

import nas.search.loop as loops
from nas.errors import RunError
from nas.search.executors.base import Failed
from nas.search.run import TRIAL_COLUMNS, RunFolder
from tests.search.fakes import MANY, THREE, Clock, FakeExecutor, a_loop, accuracy_of, measured, run_loop, settled

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


def rows(folder):
    with (folder / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def stored(folder):
    """The trials as Optuna alone reads them."""
    backend = optuna.storages.journal.JournalFileBackend(str(folder / "study.log"))
    return optuna.load_study(study_name="run", storage=optuna.storages.JournalStorage(backend)).get_trials()


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


def test_no_network_is_trained_twice_and_duplicates_cost_nothing(tmp_path):
    executor = FakeExecutor(slots=2)
    loop = run_loop(tmp_path, executor, settled(THREE, budget="50trials"))
    assert len(executor.submitted) == 3
    pages = [str(job.payload["page"]) for job in executor.submitted]
    assert len(set(pages)) == 3
    assert "exhausted" in loop.message
    assert "3 architectures" in loop.message
    originals = {r.number: r for r in loop.study.records if r.state == "completed"}
    duplicates = [r for r in loop.study.records if r.state == "duplicate"]
    assert len(originals) == 3
    assert len(originals) + len(duplicates) == len(loop.study.records)
    for record in duplicates:
        assert record.metrics == originals[record.duplicate_of].metrics
    assert loop.meter.spent("trials") == 3


def test_a_duplicate_of_a_running_trial_waits_for_it(tmp_path):
    executor = FakeExecutor(slots=2, held=[0])

    def release():
        if executor.jobs and all(job.trial == 0 for job in executor.jobs):
            executor.held.clear()

    executor.on_poll = release
    loop = run_loop(tmp_path, executor, settled(THREE, budget="50trials", strategy="random"))
    assert [r.state for r in loop.study.records].count("completed") == 3
    assert loop.study.records[0].state == "completed"
    assert {r.duplicate_of for r in loop.study.records if r.state == "duplicate"} <= {0, 1, 2, 3, 4, 5, 6, 7, 8}
    assert len(executor.submitted) == 3


def test_failures_are_recorded_with_their_reason_and_count(tmp_path):
    def outcome(job):
        if job.trial % 2:
            raise RuntimeError("out_of_memory: RuntimeError: CUDA out of memory")
        return accuracy_of(job)

    loop = run_loop(tmp_path, FakeExecutor(outcome))
    assert loop.ledger.counts == {"completed": 5, "failed": 5}
    reasons = {row["reason"] for row in rows(tmp_path) if row["state"] == "failed"}
    assert reasons == {"out_of_memory: RuntimeError: CUDA out of memory"}


IMPOSSIBLE = MANY.replace("network:", """network:
  - name: z
    choice: {fits: {op: conv_bn_act, out_channels: 4}, never: {op: conv_bn_act, kernel_size: 9, padding: 0, out_channels: 4}}""")


def test_a_candidate_that_cannot_run_at_this_input_is_a_failure_of_its_own(tmp_path):
    executor = FakeExecutor()
    loop = run_loop(tmp_path, executor, settled(IMPOSSIBLE, budget="16trials", strategy="random"))
    failed = [r for r in loop.study.records if r.state == "failed"]
    assert failed
    assert all(r.decisions["network.z"] == "never" and "map is too small" in r.reason for r in failed)
    assert len(executor.submitted) == loop.ledger.counts["completed"] == 16 - len(failed)


def test_a_result_that_is_not_a_number_is_a_failure(tmp_path):
    loop = run_loop(tmp_path, FakeExecutor(lambda job: {"metrics": {"accuracy": float("nan")}, "epochs": 2}))
    assert loop.ledger.counts == {"failed": 10}
    assert loop.ledger.front.members == ()


def test_a_candidate_over_a_static_limit_is_never_submitted(tmp_path):
    limit = 400
    executor = FakeExecutor()
    loop = run_loop(tmp_path, executor, settled(constraint=[f"num_params<={limit}"]))
    over = [r for r in loop.study.records if r.state == "stopped"]
    assert over
    assert all(r.metrics["num_params"] > limit and f"num_params<={limit}" in r.reason for r in over)
    assert {job.trial for job in executor.submitted} == {r.number for r in loop.study.records if r.state == "completed"}
    assert all(r.metrics["num_params"] <= limit for r in loop.study.records if r.state == "completed")
    assert loop.ledger.counts["completed"] == 10


def test_a_candidate_over_a_measured_limit_does_not_count(tmp_path):
    executor = FakeExecutor(measured(lambda trial: 9.0 if trial % 3 else 1.0))
    loop = run_loop(tmp_path, executor, settled(objectives="accuracy,latency", constraint=["latency<=3ms"]))
    trained = {job.trial for job in executor.submitted if job.payload["stage"]["do"] == "train"}
    assert trained == {r.number for r in loop.study.records if r.state == "completed"}
    assert loop.ledger.counts["completed"] == 10
    assert loop.ledger.counts["stopped"] >= 18
    assert {r.reason for r in loop.study.records if r.state == "stopped"} == {"latency 9 breaks latency<=3ms"}
    assert not any(r.unfinished for r in loop.study.records)


def test_limits_that_nothing_keeps_end_the_search(tmp_path, monkeypatch):
    monkeypatch.setattr(loops, "UNPRODUCTIVE", 20)
    executor = FakeExecutor()
    loop = run_loop(tmp_path / "static", executor, settled(constraint=["num_params<=1"]))
    assert "ended early" in loop.message
    assert executor.submitted == []
    loop = run_loop(tmp_path / "measured", FakeExecutor(measured(lambda trial: 9.0)),
                    settled(objectives="accuracy,latency", constraint=["latency<=3ms"]))
    assert "ended early" in loop.message
    assert 20 <= loop.ledger.counts["stopped"] <= 21


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


def test_the_start_of_a_worker_is_spent_and_not_expected_again(tmp_path):
    """The first job waits 30 s for its process; each runs for 2 s."""
    clock = Clock()

    class Cold(FakeExecutor):
        def poll(self, timeout):
            if len(self.submitted) == 1:
                clock.now += 30.0
                self.begun[0] = clock.now
            return super().poll(timeout)

    executor = Cold(clock=clock, seconds=2.0)
    with a_loop(tmp_path, executor, settled(budget="60s"), clock=clock) as loop:
        loop.run()
        assert loop.expected_s == pytest.approx(2.0)
    assert loop.study.records[0].attrs["work_s"] == pytest.approx(2.0)
    assert loop.study.records[0].attrs["seconds"] == pytest.approx(32.0)
    assert len(executor.submitted) == 15, "all that fit"
    assert loop.meter.spent("cpu") == pytest.approx(60.0)
    with a_loop(tmp_path, executor, settled(budget="60s"), clock=clock) as loop:
        assert loop.expected_s == pytest.approx(2.0)


def test_core_hours_are_those_of_all_cores(tmp_path):
    clock = Clock()
    loop = run_loop(tmp_path, FakeExecutor(slots=2, clock=clock, seconds=1.0), settled(budget="60cpusec"), clock=clock)
    assert 55 <= loop.meter.spent("cpu") <= 65
    assert 28 <= loop.meter.spent("wall") <= 35


class Uneven(FakeExecutor):
    """Slots as joined machines have them: the trial's number tells which it gets, one of 1, 2 or 4 cores."""

    @property
    def resources(self):
        return [replace(slot, fraction=2.0**i) for i, slot in enumerate(super().resources)]

    def submit(self, job):
        super().submit(job)
        return job.trial % 3


def test_a_job_is_charged_for_the_slot_that_it_got(tmp_path):
    clock, held = Clock(), Counter()

    class Watched(Uneven):
        def poll(self, timeout):
            for job in self.jobs:
                held["cpu"] += 2.0 ** (job.trial % 3) * self.seconds
            return super().poll(timeout)

    executor = Watched(slots=3, clock=clock, seconds=1.0)
    loop = run_loop(tmp_path, executor, settled(budget="600cpusec"), clock=clock)
    assert len(executor.submitted) > 20
    assert loop.meter.spent("cpu") == pytest.approx(held["cpu"])
    assert loop.meter.spent("cpu") <= 600 + 7
    assert loop.largest.fraction == 4.0, "room is kept for the dearest slot"



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


def test_an_interrupt_leaves_checkpoints_and_is_no_fault_of_a_candidate(tmp_path):
    checkpoint = RunFolder(tmp_path).checkpoint_of(0)

    def half_done():
        checkpoint.write_text("epoch 1")
        os.kill(os.getpid(), signal.SIGINT)

    for _ in range(3):
        executor = FakeExecutor(held=[0])
        executor.on_poll = half_done
        run_loop(tmp_path, executor)
        assert checkpoint.exists()
    assert run_loop(tmp_path).study.records[0].state == "completed"


def test_what_was_stopped_unfinished_may_be_trained_later(tmp_path):
    executor = FakeExecutor(held=[2])
    executor.on_poll = lambda: os.kill(os.getpid(), signal.SIGINT) if len(executor.submitted) == 3 else None
    chosen = settled(THREE, budget="50trials", strategy="random", seed=3)
    for attempt in range(3):
        run_loop(tmp_path / str(attempt), FakeExecutor(held=[2]), settled(THREE, budget="2trials", seed=3))
    first = run_loop(tmp_path, executor, chosen)
    assert first.interrupted or first.ledger.counts["completed"] == 3
    second = run_loop(tmp_path, FakeExecutor(), chosen)
    assert second.ledger.counts["completed"] == 3
    assert "exhausted" in second.message
    identities = [r.identity for r in second.study.records if r.state == "completed"]
    assert len(set(identities)) == 3


class Killed(BaseException):
    """The driver dies here, without a chance to write anything."""


def killed_at(folder, poll, chosen, outcome=accuracy_of, slots=2):
    """Run until the given poll and leave everything as a kill -9 would."""
    executor = FakeExecutor(outcome, slots=slots)
    left = [poll]

    def count():
        left[0] -= 1
        if left[0] < 0:
            raise Killed

    executor.on_poll = count
    executor.close = lambda grace=0.0: []
    with a_loop(folder, executor, chosen) as loop:
        loop.ledger.save = lambda: None
        with pytest.raises(Killed):
            loop.run()


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


def test_a_trial_in_flight_at_two_kills_fails_once(tmp_path):
    chosen = settled(budget="5trials")
    killed_at(tmp_path, 0, chosen, slots=1)
    killed_at(tmp_path, 0, chosen, slots=1)
    executor = FakeExecutor()
    loop = run_loop(tmp_path, executor, chosen)
    assert (loop.study.records[0].state, loop.study.records[0].reason) == ("failed", "interrupted twice")
    assert loop.ledger.counts == {"failed": 1, "completed": 4}
    assert loop.meter.spent("trials") == 5


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
        assert [t.state for t in trials] == [optuna.trial.TrialState.COMPLETE] * 3
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


def test_the_same_seed_draws_the_same_architectures(tmp_path):
    def drawn(folder, seed):
        executor = FakeExecutor()
        run_loop(tmp_path / folder, executor, settled(seed=seed))
        return [job.payload["page"] for job in executor.submitted]

    assert drawn("a", 1) == drawn("b", 1) != drawn("c", 2)


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


def with_asha(**words):
    chosen = settled(early_stopping="asha", **words)
    return replace(chosen, plan=replace(chosen.plan, recipe=replace(chosen.plan.recipe, epochs=9)))


def epochs_of(executor):
    """Epochs that each trial was trained for, job by job."""
    stages = {}
    for job in executor.submitted:
        if job.payload["stage"]["do"] == "train":
            stages.setdefault(job.trial, []).append(job.payload["stage"]["epochs"])
    return stages


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
    assert not list((tmp_path / "checkpoints").iterdir())
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
    assert all(t.state.is_finished() for t in stored(tmp_path))


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
    assert all(t.state.is_finished() for t in stored(tmp_path))


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
    assert all(t.state.is_finished() for t in stored(tmp_path))


def test_what_was_measured_is_kept_when_its_driver_is_killed(tmp_path):
    chosen = with_asha(budget="20trials", strategy="random", objectives="accuracy,latency")
    outcome = measured(lambda trial: 2.0 - trial / 100)
    killed_at(tmp_path, 12, chosen, outcome)
    waiting = {t.number for t in stored(tmp_path) if not t.state.is_finished() and "rungs" in t.user_attrs}
    loop = run_loop(tmp_path, FakeExecutor(outcome), chosen)
    assert waiting
    assert all("latency_low_ms" in loop.study.records[trial].attrs for trial in waiting)


def by_size(job):
    """Larger networks are slower, and of the larger kernels the less accurate: most are dominated by few."""
    first, second = (layer["kernel_size"] * layer["out_channels"] for layer in job.payload["page"]["network"][:2])
    if job.payload["stage"]["do"] == "measure":
        ms = 0.5 + (first + second) / 100
        return {"metrics": {"latency": ms}, "latency_low_ms": ms, "latency_high_ms": ms, "measure_s": 0.1}
    accuracy = 0.9 - (first + second) / 300 + (job.trial % 7) / 2000
    return {"metrics": {"accuracy": accuracy}, "train_loss": 0.1, "epochs": job.payload["stage"]["epochs"]}


def test_what_is_surely_dominated_is_not_trained_but_by_the_baseline(tmp_path):
    executor = FakeExecutor(by_size)
    chosen = settled(budget="60trials", objectives="accuracy,latency", strategy="regularized_evolution", baseline="20%")
    loop = run_loop(tmp_path, executor, chosen)
    spared = {r.number: r for r in loop.study.records if loops.SPARED in r.attrs}
    assert len(spared) > 20
    jobs = {(job.payload["stage"]["do"], job.trial) for job in executor.submitted}
    assert not any(("train", number) in jobs for number in spared)
    assert sum(("measure", number) not in jobs for number in spared) > 10, "most are not even measured"
    assert all(r.state == "stopped" and "dominates it" in r.reason for r in spared.values())
    assert {row["reason"] for row in rows(tmp_path) if int(row["trial"]) in spared} == {r.reason for r in spared.values()}
    trained = [r for r in loop.study.records if r.state == "completed"]
    baseline = [r for r in trained if r.attrs.get("phase") == "baseline"]
    assert len(trained) == 60 == loop.meter.spent("trials")
    assert len(baseline) == 12, "its share is one of what is trained"
    assert not any(r.attrs.get("phase") == "baseline" for r in spared.values())
    with a_loop(tmp_path, executor, chosen) as again:
        assert (again.begun, again.drawn) == (60, 12)
        assert all(again.study.find(record.identity) is not record for record in spared.values()), "the baseline may train them"
        front = again.ledger.front.members
        graphs = {number: again._candidate(record).graph for number, record in spared.items()}
        assert any(again.rules.outlook.dominated(str(number), graph, {}, front) for number, graph in graphs.items())


def test_what_a_measurement_shows_to_be_dominated_is_not_trained(tmp_path):
    """Memory cannot be foreseen."""
    def outcome(job):
        result = by_size(job)
        return result | {"metrics": {"memory": result["metrics"]["latency"]}} if "latency" in result["metrics"] else result

    executor = FakeExecutor(outcome)
    chosen = settled(budget="60trials", objectives="accuracy,memory", strategy="regularized_evolution", baseline="20%")
    loop = run_loop(tmp_path, executor, chosen)
    spared = {r.number for r in loop.study.records if loops.SPARED in r.attrs}
    stages = Counter((job.payload["stage"]["do"], job.trial in spared) for job in executor.submitted)
    assert len(spared) > 20
    assert stages == {("measure", False): 60, ("train", False): 60, ("measure", True): len(spared)}
    completed = [r for r in loop.study.records if r.state == "completed"]
    assert sum(r.attrs.get("phase") == "baseline" for r in completed) == 12


def test_random_search_is_left_plain(tmp_path):
    chosen = settled(budget="60trials", objectives="accuracy,latency", strategy="random")
    loop = run_loop(tmp_path, FakeExecutor(by_size), chosen)
    assert not any(loops.SPARED in r.attrs for r in loop.study.records)


def test_a_share_of_the_candidates_is_drawn_at_random(tmp_path):
    loop = run_loop(tmp_path, FakeExecutor(), settled(budget="30trials", baseline="20%"))
    baseline = [r for r in loop.study.records if r.attrs.get("phase") == "baseline"]
    assert sum(r.state != "duplicate" for r in baseline) == 6
    assert {row["trial"] for row in rows(tmp_path) if row["phase"] == "baseline"} == {str(r.number) for r in baseline}


def test_a_candidate_whose_worker_dies_is_tried_once_more(tmp_path):
    deaths = []

    def outcome(job):
        if job.trial in (1, 2) and (job.trial == 2 or not deaths):
            deaths.append(job.trial)
            raise RuntimeError("died: the worker process ended by SIGKILL")
        return accuracy_of(job)

    executor = FakeExecutor(outcome)
    loop = run_loop(tmp_path, executor)
    assert deaths == [1, 2, 2]
    assert loop.study.records[1].state == "completed"
    assert (loop.study.records[2].state, loop.study.records[2].reason) == ("failed", "died: the worker process ended by SIGKILL")
    assert loop.meter.spent("trials") == 10


@pytest.mark.parametrize(("losses", "state"), [(10, "completed"), (11, "failed")])
def test_a_lost_machine_is_no_fault_of_the_candidate(tmp_path, losses, state):
    left = [1] * losses

    def outcome(job):
        if job.trial == 1 and left:
            left.pop()
            raise RuntimeError("lost: the loss of its machine")
        return accuracy_of(job)

    loop = run_loop(tmp_path, FakeExecutor(outcome))
    assert loop.study.records[1].state == state
    assert loop.meter.spent("trials") == 10


class Leaving(FakeExecutor):
    """A machine whose first job takes its slot along, for ``away`` polls."""

    away = 0

    @property
    def free(self):
        return 0 if self.away or self.closed else super().free

    def poll(self, timeout):
        self.away = max(0, self.away - 1)
        return super().poll(timeout)


def test_a_candidate_whose_machine_has_gone_waits_for_another(tmp_path):
    executor = Leaving()

    def outcome(job):
        if len(executor.submitted) == 1:
            executor.away = 3
            raise RuntimeError("lost: the loss of its machine")
        return accuracy_of(job)

    executor.outcome = outcome
    loop = run_loop(tmp_path, executor)
    assert executor.submitted[0].trial == executor.submitted[1].trial
    assert Counter(r.state for r in loop.study.records if r.state != "duplicate") == {"completed": 10}
    assert loop.meter.spent("trials") == 10


def test_a_machine_lost_at_the_very_end_masks_no_error_and_begins_nothing(tmp_path):
    class Ending(Leaving):
        def poll(self, timeout):
            raise RunError("a worker cannot start")

        def close(self, grace=0.0):
            jobs = [*self.jobs]
            super().close(grace)
            return [Failed(trial=job.trial, kind="lost", reason="its machine", seconds=1.0) for job in jobs]

    executor = Ending()
    with pytest.raises(RunError, match="a worker cannot start"):
        run_loop(tmp_path, executor)
    assert len(executor.submitted) == 1
    assert [trial.state for trial in stored(tmp_path)] == [optuna.trial.TrialState.RUNNING]


def test_a_busy_machine_ends_the_search_and_can_be_gone_on_with(tmp_path, monkeypatch):
    monkeypatch.setattr(loops, "REFUSED", 3)
    chosen = settled(objectives="accuracy,latency")

    def refused(job):
        return {"refused": "cpu is busy"}

    loop = run_loop(tmp_path, FakeExecutor(refused), chosen)
    assert "the last 3 measurements were refused" in loop.message
    assert {r.reason for r in loop.study.records} == {"not measured: cpu is busy"}
    assert loop.meter.spent("trials") == 0
    again = run_loop(tmp_path, FakeExecutor(measured(lambda trial: 1.0)), chosen)
    assert again.ledger.counts["completed"] == 10


def test_measuring_elsewhere_holds_no_training_slot(tmp_path):
    measurer, trainer = FakeExecutor(measured(lambda trial: 1.0)), FakeExecutor(slots=2)
    chosen = settled(objectives="accuracy,latency", strategy="random")
    with a_loop(tmp_path, trainer, chosen) as loop:
        loop.measurer = measurer
        loop.run()
    assert {job.payload["stage"]["do"] for job in measurer.submitted} == {"measure"}
    assert {job.payload["stage"]["do"] for job in trainer.submitted} == {"train"}
    assert loop.ledger.counts["completed"] == 10
    assert all(r.metrics["latency"] == 1.0 for r in loop.study.records if r.state == "completed")


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
