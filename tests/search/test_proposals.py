"""What a proposal comes to: a candidate, a duplicate, something impossible or over a limit; and when there is none left."""

from __future__ import annotations

import os
import signal
from collections import Counter

import pytest

import nas.search.loop as loops
import nas.search.proposals as proposals
from nas.search.outlook import SPARED
from tests.search.fakes import MANY, THREE, FakeExecutor, a_loop, measured, run_loop, settled
from tests.search.loops import killed_at, rows

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


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


def test_limits_that_nothing_keeps_end_the_search(tmp_path, monkeypatch):
    monkeypatch.setattr(proposals, "UNPRODUCTIVE", 20)
    monkeypatch.setattr(loops, "FRUITLESS", 20)
    executor = FakeExecutor()
    loop = run_loop(tmp_path / "static", executor, settled(constraint=["num_params<=1"]))
    assert "ended early" in loop.message
    assert executor.submitted == []
    loop = run_loop(tmp_path / "measured", FakeExecutor(measured(lambda trial: 9.0)),
                    settled(objectives="accuracy,latency", constraint=["latency<=3ms"]))
    assert "ended early" in loop.message
    assert 20 <= loop.ledger.counts["stopped"] <= 21


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


def test_a_trial_in_flight_at_two_kills_fails_once(tmp_path):
    chosen = settled(budget="5trials")
    killed_at(tmp_path, 0, chosen, slots=1)
    killed_at(tmp_path, 0, chosen, slots=1)
    executor = FakeExecutor()
    loop = run_loop(tmp_path, executor, chosen)
    assert (loop.study.records[0].state, loop.study.records[0].reason) == ("failed", "interrupted twice")
    assert loop.ledger.counts == {"failed": 1, "completed": 4}
    assert loop.meter.spent("trials") == 5


def test_the_same_seed_draws_the_same_architectures(tmp_path):
    def drawn(folder, seed):
        executor = FakeExecutor()
        run_loop(tmp_path / folder, executor, settled(seed=seed))
        return [job.payload["page"] for job in executor.submitted]

    assert drawn("a", 1) == drawn("b", 1) != drawn("c", 2)


def test_a_share_of_the_candidates_is_drawn_at_random(tmp_path):
    loop = run_loop(tmp_path, FakeExecutor(), settled(budget="30trials", baseline="20%"))
    baseline = [r for r in loop.study.records if r.attrs.get("phase") == "baseline"]
    assert sum(r.state != "duplicate" for r in baseline) == 6
    assert {row["trial"] for row in rows(tmp_path) if row["phase"] == "baseline"} == {str(r.number) for r in baseline}


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
    spared = {r.number: r for r in loop.study.records if SPARED in r.attrs}
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
        assert (again.proposals.begun, again.proposals.drawn) == (60, 12)
        assert all(again.study.find(record.identity) is not record for record in spared.values()), "the baseline may train them"
        front = again.ledger.front.members
        graphs = {number: again.proposals.candidate(record).graph for number, record in spared.items()}
        assert any(again.outlook.dominated(str(number), graph, {}, front) for number, graph in graphs.items())

        def told():
            return any(again.proposals.dominated(f"a{number}", graph, {}, {}) for number, graph in graphs.items())

        assert not told(), "the first candidates wait for no outlook"
        again.proposals.all_busy = True
        assert told()


def test_what_a_measurement_shows_to_be_dominated_is_not_trained(tmp_path):
    """Memory cannot be foreseen."""
    def outcome(job):
        result = by_size(job)
        return result | {"metrics": {"memory": result["metrics"]["latency"]}} if "latency" in result["metrics"] else result

    executor = FakeExecutor(outcome)
    chosen = settled(budget="60trials", objectives="accuracy,memory", strategy="regularized_evolution", baseline="20%")
    loop = run_loop(tmp_path, executor, chosen)
    spared = {r.number for r in loop.study.records if SPARED in r.attrs}
    stages = Counter((job.payload["stage"]["do"], job.trial in spared) for job in executor.submitted)
    assert len(spared) > 20
    assert stages == {("measure", False): 60, ("train", False): 60, ("measure", True): len(spared)}
    completed = [r for r in loop.study.records if r.state == "completed"]
    assert sum(r.attrs.get("phase") == "baseline" for r in completed) == 12


def test_random_search_is_left_plain(tmp_path):
    chosen = settled(budget="60trials", objectives="accuracy,latency", strategy="random")
    loop = run_loop(tmp_path, FakeExecutor(by_size), chosen)
    assert not any(SPARED in r.attrs for r in loop.study.records)
