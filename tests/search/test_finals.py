"""Final trainings within what is left of a budget: which are begun, what is told, what a killed driver leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas.search.executors.host import ARRIVING
from nas.search.final import BEST, CHECKPOINT
from nas.search.finals import final_folder, read_finals, train_finals
from nas.search.ledger import SAVE_EVERY_S
from tests.search.fakes import Clock, FakeExecutor, a_loop, accuracy_of, settled

BUDGET = {"budget": "20trials,100s", "final": "2,50%", "strategy": "random", "repeats": "0"}


def outcome(job):
    if job.payload["stage"]["do"] == "final":
        return {"metrics": {}, "val_accuracy": 0.9, "test_accuracy": 0.8, "epochs": 3, "train_s": 1.0, "weights": "fully trained"}
    return accuracy_of(job)


def timed_outcome(job):
    if job.payload["stage"]["do"] == "measure":
        ms = 1.0 + job.trial % 7 / 10
        return {"metrics": {"latency": ms}, "latency_low_ms": ms, "latency_high_ms": ms, "measure_s": 0.1}
    return outcome(job)


class Endless(FakeExecutor):
    """Final trainings go on until they are stopped."""

    def submit(self, job):
        if job.payload["stage"]["do"] == "final":
            self.held.add(job.trial)
        return super().submit(job)


def with_finals(folder, executor=None, **words):
    clock = Clock()
    executor = executor or FakeExecutor(outcome, clock=clock)
    executor.clock, seen = clock, []
    with a_loop(folder, executor, settled(**BUDGET, **words), clock=clock, view=seen.append) as loop:
        loop.run()
        before = len(executor.submitted)
        train_finals(loop)
    return loop, executor.submitted[before:], seen


def test_the_best_of_the_front_are_trained_once(tmp_path):
    loop, jobs, seen = with_finals(tmp_path)
    best = [str(record.number) for record in loop.ledger.front.members[:2]]
    assert [job.payload["stage"]["folder"] for job in jobs] == [str(final_folder(loop.folder, int(n)).resolve()) for n in best]
    assert list(map(str, loop.ledger.front.checks.final)) == best
    assert loop.ledger.remarks == []
    assert any(status.message == "final training: 1 of 2" for status in seen)
    _, again, _ = with_finals(tmp_path)
    assert again == []


def test_what_a_training_elsewhere_leaves_here_is_tidied_up(tmp_path):
    def elsewhere(job):
        if job.payload["stage"]["do"] == "final":
            folder = Path(job.payload["stage"]["folder"])
            folder.mkdir(parents=True, exist_ok=True)
            for name in (BEST, CHECKPOINT, CHECKPOINT + ARRIVING):
                (folder / name).touch()
        return outcome(job)

    _, jobs, _ = with_finals(tmp_path, FakeExecutor(elsewhere))
    assert jobs
    for job in jobs:
        assert [path.name for path in Path(job.payload["stage"]["folder"]).iterdir()] == [BEST]


def test_what_broke_a_limit_when_it_was_measured_again_is_passed_over(tmp_path):
    chosen = settled(**BUDGET, objectives="accuracy,latency", constraint=["latency<=3ms"])
    with a_loop(tmp_path, FakeExecutor(timed_outcome), chosen) as loop:
        loop.run()
        first, *others = loop.ledger.front.members
        slower = {"median_ms": 3.5, "low_ms": 3.4, "high_ms": 3.6, "metrics": {"latency": 3.5}}
        loop.ledger.front.checks.again[first.number] = slower
        train_finals(loop)
    assert list(loop.ledger.front.checks.final) == [record.number for record in others[:2]]


def test_what_was_begun_is_gone_on_with_before_anything_better(tmp_path):
    with a_loop(tmp_path, FakeExecutor(outcome), settled(**BUDGET)) as loop:
        loop.run()
        last = loop.ledger.front.members[-1].number
    final_folder(loop.folder, last).mkdir(parents=True)
    loop, _, _ = with_finals(tmp_path)
    assert len(loop.ledger.front.members) > 2
    assert next(iter(loop.ledger.front.checks.final)) == last


def test_a_training_that_the_budget_stops_is_told(tmp_path):
    executor = Endless(outcome)
    loop, _, _ = with_finals(tmp_path, executor)
    assert loop.ledger.front.checks.final == {}
    assert "the budget ended before the final training" in loop.ledger.remarks[0]


def test_a_failed_one_is_told(tmp_path):
    def failing(job):
        if job.payload["stage"]["do"] == "final":
            raise RuntimeError("failed: no memory")
        return accuracy_of(job)

    loop, _, _ = with_finals(tmp_path, FakeExecutor(failing))
    assert len(loop.ledger.remarks) == 2
    assert "failed: no memory" in loop.ledger.remarks[0]


def test_a_training_whose_machine_is_lost_goes_on_though_the_budget_has_no_room_for_a_whole_one(tmp_path):
    clock, tries = Clock(), []

    def losing(job):
        if job.payload["stage"]["do"] == "final":
            tries.append(job.payload["stage"]["folder"])
            if len(tries) == 1:
                clock.now += 10.0  # of the 40 s that are planned for each
                raise RuntimeError("lost: the loss of its machine")
        return outcome(job)

    executor = FakeExecutor(losing, clock=clock)
    with a_loop(tmp_path, executor, settled(**{**BUDGET, "final": "1,50%"}), clock=clock) as loop:
        loop.run()
        clock.now += 30.0
        train_finals(loop)
    assert tries == [tries[0]] * 2
    assert len(loop.ledger.front.checks.final) == 1
    assert loop.ledger.remarks == []


def test_one_that_is_lost_at_the_end_of_the_budget_is_told(tmp_path):
    clock = Clock()

    def losing(job):
        if job.payload["stage"]["do"] == "final":
            clock.now += 100.0
            raise RuntimeError("lost: the loss of its machine")
        return outcome(job)

    executor = FakeExecutor(losing, clock=clock)
    with a_loop(tmp_path, executor, settled(**{**BUDGET, "final": "1,50%"}), clock=clock) as loop:
        loop.run()
        train_finals(loop)
    (remark,) = loop.ledger.remarks
    assert remark.startswith("final training: ")


def test_time_that_is_not_there_is_told(tmp_path):
    clock = Clock()
    with a_loop(tmp_path, FakeExecutor(outcome, clock=clock), settled(**BUDGET), clock=clock) as loop:
        loop.run()
        clock.now += 100
        train_finals(loop)
    assert loop.ledger.remarks == ["no final training: 0.0 s a network are left of the budget"]


def test_a_final_training_whose_folder_is_gone_is_told_and_not_repeated(tmp_path):
    loop, _, _ = with_finals(tmp_path)
    assert list(read_finals(loop, settled(**BUDGET), None)) == []
    assert all("is gone" in remark for remark in loop.ledger.remarks)
    assert len(loop.ledger.remarks) == 2


@pytest.mark.parametrize("interrupted", [False, True])
def test_what_was_spent_is_known_to_a_driver_that_comes_after(tmp_path, interrupted):
    """While the last trainings run, as in the search, the study's copy of the meter is not old."""
    clock, known = Clock(), []
    executor = Endless(outcome, clock=clock)
    with a_loop(tmp_path, executor, settled(**BUDGET), clock=clock) as loop:
        loop.run()

        def stored():
            return loop.study.spent["wall"]

        def look():
            known.append(loop.meter.spent("wall") - stored())
            if interrupted and len(known) == 10:
                loop.interrupt()

        executor.on_poll = look
        train_finals(loop)
        assert max(known) <= SAVE_EVERY_S + 1.0
        assert stored() == pytest.approx(loop.meter.spent("wall"))
    assert loop.message.startswith("interrupted (final training: 0 of 2)") == interrupted
