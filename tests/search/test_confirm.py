"""The second look at the front: measured again, trained again with other seeds, within its share of the budget."""

from __future__ import annotations

import csv
import os
import signal
from pathlib import Path

import pytest

from nas.search.confirm import SEEDS, TRAINED, confirm
from nas.search.jobs import RETRIES
from tests.search.fakes import FakeExecutor, a_loop, accuracy_of, settled


def outcome(job):
    if job.payload["stage"]["do"] == "measure":
        ms = 1.0 + job.trial % 7 / 10
        return {"metrics": {"latency": ms}, "latency_low_ms": ms, "latency_high_ms": ms, "measure_s": 0.1}
    result = accuracy_of(job)
    result["metrics"]["accuracy"] -= 0.01 * job.payload["seed"]
    return result


def confirmed(folder, executor=None, outcome=outcome, **words):
    executor = executor or FakeExecutor(outcome, slots=2)
    chosen = settled(**{"objectives": "accuracy,latency", "budget": "40trials", "repeats": "20%", "strategy": "random", **words})
    with a_loop(folder, executor, chosen) as loop:
        loop.run()
        before = len(executor.submitted)
        confirm(loop)
    return loop, executor.submitted[before:]


def test_the_front_is_measured_and_its_best_are_trained_again(tmp_path):
    loop, extra = confirmed(tmp_path)
    members = {r.number for r in loop.ledger.front.members}
    assert loop.ledger.front.checks.again.keys() == members
    repeats = loop.ledger.front.checks.repeats
    assert len(repeats) == min(TRAINED, len(members))
    assert max(map(len, repeats.values())) - min(map(len, repeats.values())) <= 1
    assert sum(map(len, repeats.values())) == min(8, SEEDS * len(repeats))
    trained = [job for job in extra if job.payload["stage"]["do"] == "train"]
    assert {job.payload["seed"] for job in trained} <= set(range(1, SEEDS + 1))
    assert {job.payload["data"]["seed"] for job in trained} == {0}
    assert not any(job.payload["weights"] for job in trained)
    assert loop.meter.spent("trials") == 32 + len(trained)
    with (tmp_path / "front.csv").open() as file:
        rows = {int(row["trial"]): row for row in csv.DictReader(file)}
    for number, accuracies in repeats.items():
        first = loop.study.records[number].metrics["accuracy"]
        assert float(rows[number]["accuracy_mean"]) == pytest.approx((first + sum(accuracies)) / (1 + len(accuracies)))


def test_what_was_looked_at_is_not_looked_at_again(tmp_path):
    loop, _ = confirmed(tmp_path)
    again, extra = confirmed(tmp_path)
    assert again.ledger.front.checks == loop.ledger.front.checks
    assert extra == []


def slower_the_second_time(job):
    result = outcome(job)
    if job.payload["stage"]["do"] == "measure":
        result["metrics"]["latency"] = 9.0 if job.trial > 32 else 1.0 + job.trial / 100
    return result


def test_members_over_a_limit_when_measured_again_are_not_trained_again_and_none_is_the_best(tmp_path):
    chosen = settled(objectives="accuracy,latency", budget="40trials", repeats="20%", strategy="random",
                     constraint=["latency<=3ms"])  # fmt: skip
    executor = FakeExecutor(slower_the_second_time, slots=2)
    with a_loop(tmp_path, executor, chosen) as loop:
        loop.run()
        assert loop.folder.best.exists()
        before = len(executor.submitted)
        confirm(loop)
    front = loop.ledger.front
    assert {job.payload["stage"]["do"] for job in executor.submitted[before:]} == {"measure"}
    assert front.members
    assert (front.kept, front.best) == ((), None)
    assert not loop.folder.best.exists()


def test_a_second_measurement_that_is_refused_is_told(tmp_path):
    def busy_the_second_time(job):
        if job.payload["stage"]["do"] == "measure" and job.trial > 32:
            return {"refused": "the machine was too busy"}
        return outcome(job)

    loop, _ = confirmed(tmp_path, outcome=busy_the_second_time)
    assert loop.ledger.front.checks.again == {}
    assert f"trial {loop.ledger.front.members[0].number} was not measured again: the machine was too busy" in loop.ledger.remarks


def test_an_interrupt_keeps_what_was_found(tmp_path):
    executor = FakeExecutor(outcome, slots=2)
    executor.on_poll = lambda: os.kill(os.getpid(), signal.SIGINT) if len(executor.submitted) > 75 else None
    loop, _ = confirmed(tmp_path, executor, repeats="50%")
    assert loop.interrupted == executor.closed
    again, _ = confirmed(tmp_path, repeats="50%")
    assert again.ledger.front.checks.again.keys() == {r.number for r in again.ledger.front.members}


def test_a_search_for_memory_alone_times_nothing(tmp_path):
    def remembering(job):
        measured = {"metrics": {"memory": 1e6 + job.trial}, "measure_s": 0.1}
        return measured if job.payload["stage"]["do"] == "measure" else accuracy_of(job)

    loop, extra = confirmed(tmp_path, outcome=remembering, objectives="accuracy,memory")
    assert loop.payload["measure"]["metrics"] == ["memory"]
    assert {job.payload["stage"]["do"] for job in extra} == {"train"}
    assert loop.ledger.front.checks.again == {}


@pytest.mark.parametrize(("objectives", "metrics"), [
    ("accuracy,throughput,memory", ["latency", "memory", "throughput"]), ("accuracy,latency", ["latency"]),
])  # fmt: skip
def test_what_is_timed_has_a_latency_as_well(tmp_path, objectives, metrics):
    with a_loop(tmp_path, FakeExecutor(outcome), settled(objectives=objectives)) as loop:
        assert loop.payload["measure"]["metrics"] == metrics


class Unlucky(FakeExecutor):
    """Of the jobs after the search, the first one of a kind ends so many times by a loss; ``found`` is the checkpoint that each
    try of it has, and leaves one epoch further."""

    def __init__(self, do, losses, kind="lost", **words):
        super().__init__(self.outcome_of, slots=2, **words)
        self.do, self.losses, self.kind = do, losses, kind
        self.unlucky, self.found, self.searching = None, [], True

    def outcome_of(self, job):
        if not self.searching and job.payload["stage"]["do"] == self.do and self.unlucky in (None, job.trial):
            self.unlucky, checkpoint = job.trial, Path(job.payload["checkpoint"])
            self.found.append(int(checkpoint.read_text()) if checkpoint.exists() else 0)
            if len(self.found) <= self.losses:
                checkpoint.write_text(str(len(self.found)))
                raise RuntimeError(f"{self.kind}: the loss of its machine")
        return outcome(job)


def with_losses(folder, executor, **words):
    chosen = settled(**{"objectives": "accuracy,latency", "budget": "40trials", "repeats": "20%", "strategy": "random", **words})
    with a_loop(folder, executor, chosen, clock=executor.clock) as loop:
        loop.run()
        executor.searching = False
        confirm(loop)
    return loop


@pytest.mark.parametrize("do", ["measure", "train"])
@pytest.mark.parametrize("kind", RETRIES)
@pytest.mark.parametrize("more", [0, 1])
def test_what_loses_its_worker_is_tried_again_from_its_checkpoint_as_often_as_a_candidate(tmp_path, do, kind, more):
    losses = RETRIES[kind] + more
    executor = Unlucky(do, losses, kind)
    loop = with_losses(tmp_path, executor)
    assert executor.found == list(range(RETRIES[kind] + 1)), "gone on with under its number"
    assert ["failed: the loss of its machine" in remark for remark in loop.ledger.remarks] == [True] * more
    checks, members = loop.ledger.front.checks, {r.number for r in loop.ledger.front.members}
    assert len(members - checks.again.keys()) == (more if do == "measure" else 0)
    assert sum(map(len, checks.repeats.values())) == min(8, SEEDS * TRAINED)
    assert (tmp_path / "log.txt").read_text().count("it is tried once more") == RETRIES[kind]
    assert not list((tmp_path / "checkpoints").iterdir())


def test_an_error_is_not_tried_again(tmp_path):
    executor = Unlucky("train", 1, "error")
    loop = with_losses(tmp_path, executor)
    assert len(executor.found) == 1
    (remark,) = loop.ledger.remarks
    assert remark.endswith("failed: the loss of its machine")
