"""Jobs: what they are charged for, and what becomes of those that are lost."""

from __future__ import annotations

import os
import signal
from collections import Counter
from dataclasses import replace

import pytest
from optuna.trial import TrialState

from nas.errors import RunError
from nas.search.executors.base import Failed
from nas.search.run import RunFolder
from tests.search.fakes import Clock, FakeExecutor, a_loop, accuracy_of, measured, run_loop, settled
from tests.search.loops import stored

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


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
    assert loop.jobs.largest.fraction == 4.0, "room is kept for the dearest slot"


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
    assert [trial.state for trial in stored(tmp_path)] == [TrialState.RUNNING]


def test_measuring_elsewhere_holds_no_training_slot(tmp_path):
    measurer, trainer = FakeExecutor(measured(lambda trial: 1.0)), FakeExecutor(slots=2)
    chosen = settled(objectives="accuracy,latency", strategy="random")
    loop = run_loop(tmp_path, trainer, chosen, measurer=measurer)
    assert {job.payload["stage"]["do"] for job in measurer.submitted} == {"measure"}
    assert {job.payload["stage"]["do"] for job in trainer.submitted} == {"train"}
    assert loop.ledger.counts["completed"] == 10
    assert all(r.metrics["latency"] == 1.0 for r in loop.study.records if r.state == "completed")
