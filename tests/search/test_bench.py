"""All latencies of a run are of one model of processor, whatever else trains."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nas.errors import RunError
from nas.search import bench
from nas.search.confirm import confirm
from nas.search.measuring import model_here
from tests.search.fakes import PROCESSOR, Clock, FakeExecutor, a_loop, measured, run_loop, settled

OTHER = "another processor"
LATENCY = {"objectives": "accuracy,latency", "strategy": "random"}


class Mixed(FakeExecutor):
    """Slots of these models; None where the machine has gone, which costs its job. A measurement tells its slot's model, and
    ends before any training does."""

    def __init__(self, models, **options):
        super().__init__(self.told, slots=len(models), **options)
        self.models, self.places, self.seen = list(models), {}, []

    def told(self, job):
        model, stage = self.places.pop(job.trial)
        if model not in self.models:
            raise RuntimeError("lost: the loss of its machine")
        result = measured(lambda trial: 1.0 + trial % 7)(job)
        return {**result, "latency": {"device_name": model}} if stage == "measure" else result

    @property
    def resources(self):
        return [replace(slot, models={"cpu": model} if model else {})
                for slot, model in zip(super().resources, self.models, strict=True)]

    def _open(self):
        there = [model for model in self.models if model is not None]
        for model, _ in self.places.values():
            if model in there:
                there.remove(model)
        return there

    @property
    def free(self):
        return len(self._open())

    def free_on(self, model):
        return self._open().count(model)

    def poll(self, timeout):
        self.jobs.sort(key=lambda job: job.payload["stage"]["do"])
        return super().poll(timeout)

    def submit(self, job):
        open_ = [model for model in self._open() if job.needs in (None, model)]
        super().submit(job)
        model, stage = min(open_, key=lambda model: model == job.spares), job.payload["stage"]["do"]
        self.places[job.trial] = model, stage
        self.seen.append((stage, model, self.free - self.free_on(PROCESSOR)))
        return self.models.index(model)


def test_candidates_are_measured_on_one_model_and_trained_on_all(tmp_path):
    executor = Mixed([PROCESSOR, OTHER, OTHER, OTHER])
    loop = run_loop(tmp_path, executor, settled(**LATENCY, budget="40trials"))
    assert loop.ledger.counts["completed"] == 40
    assert {model for stage, model, _ in executor.seen if stage == "measure"} == {PROCESSOR}
    assert {r.attrs["latency"]["device_name"] for r in loop.study.records if r.state == "completed"} == {PROCESSOR}
    trained = [(model, idle) for stage, model, idle in executor.seen if stage == "train"]
    assert sum(model == OTHER for model, _ in trained) >= 25
    assert not any(idle for model, idle in trained if model == PROCESSOR), "it measures for those that cannot, first"
    assert any(model == PROCESSOR for model, _ in trained), "it trains when enough is measured"


def test_the_front_is_measured_again_there(tmp_path):
    executor = Mixed([OTHER, PROCESSOR])
    with a_loop(tmp_path, executor, settled(**LATENCY, budget="10trials", repeats="20%")) as loop:
        loop.run()
        confirm(loop)
        assert loop.ledger.front.checks.again
    assert {model for stage, model, _ in executor.seen if stage == "measure"} == {OTHER}, "that of the first slot"


@pytest.mark.parametrize("others", [[], [OTHER]])
def test_a_machine_that_leaves_and_comes_back_is_waited_for(tmp_path, monkeypatch, others):
    monkeypatch.setattr(bench, "STARTING_S", 0.1)
    executor, shown = Mixed([PROCESSOR, *others], clock=(clock := Clock())), []

    def leave_and_return():
        if len(executor.submitted) == 7:
            executor.models[0] = None
        if executor.models[0] is None and not executor.places:
            executor.away = getattr(executor, "away", 0) + 1
            executor.models[0] = PROCESSOR if executor.away > 5 else None

    executor.on_poll = leave_and_return
    loop = run_loop(tmp_path, executor, settled(**LATENCY), clock=clock, view=shown.append)
    assert executor.away > 5
    assert loop.ledger.counts["completed"] == 10
    assert {model for stage, model, _ in executor.seen if stage == "measure"} == {PROCESSOR}
    words = f"waiting for a machine with {PROCESSOR}"
    assert any(words in status.message for status in shown)
    assert words not in shown[-1].message
    assert (tmp_path / "log.txt").read_text().count(words) == 1


def test_a_run_goes_on_with_its_own_model_or_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "ABSENT_S", 30.0)
    first = run_loop(tmp_path, Mixed([PROCESSOR]), settled(**LATENCY, budget="4trials"))
    assert first.study.metadata["measured_on"] == PROCESSOR
    executor = Mixed([OTHER, OTHER], clock=(clock := Clock()))
    with pytest.raises(RunError, match=f"no worker could measure; expected {PROCESSOR}; got '{OTHER}'.*another run="):
        run_loop(tmp_path, executor, settled(**LATENCY, budget="8trials"), clock=clock)
    assert executor.submitted == []
    assert 30 < clock.now - 100 < 40
    again = run_loop(tmp_path, Mixed([OTHER, PROCESSOR]), settled(**LATENCY, budget="8trials"))
    assert again.ledger.counts["completed"] == 8
    assert {r.attrs["latency"]["device_name"] for r in again.study.records if r.state == "completed"} == {PROCESSOR}


def test_what_was_measured_is_trained_before_a_search_without_its_machine_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "ABSENT_S", 30.0)
    executor = Mixed([PROCESSOR, OTHER, OTHER], clock=(clock := Clock()))

    def leave():
        if len(executor.submitted) == 6:
            executor.models[0] = None

    executor.on_poll = leave
    with pytest.raises(RunError, match="no worker could measure"):
        run_loop(tmp_path, executor, settled(**LATENCY, budget="40trials"), clock=clock)
    measured_once = {job.trial for job in executor.submitted if job.payload["stage"]["do"] == "measure"}
    loop = run_loop(tmp_path, Mixed([PROCESSOR]), settled(**LATENCY, budget="40trials"))
    assert loop.ledger.counts["completed"] == 40
    assert all(loop.study.records[number].state in ("completed", "stopped") for number in measured_once)


def test_an_address_behind_which_another_device_answers_is_noticed(tmp_path):
    """No slot can tell beforehand what measures there: its answer does, and is not kept."""
    chosen = settled(**LATENCY, target="http://board:8000")

    def told(job):
        result = measured(lambda trial: 1.0)(job)
        name = OTHER if job.trial > 1 else PROCESSOR
        return {**result, "latency": {"device_name": name}} if "measure_s" in result else result

    with a_loop(tmp_path, FakeExecutor(told), chosen, measurer=FakeExecutor(told)) as loop, \
            pytest.raises(RunError, match=f"another processor or GPU than this run's; expected {PROCESSOR}; got '{OTHER}'"):
        loop.run()
    again = run_loop(tmp_path, FakeExecutor(measured(lambda trial: 1.0)), chosen)
    assert "latency" in again.study.records[2].metrics, "it was evaluated again"


def test_this_machine_measures_for_a_search_of_its_own(monkeypatch):
    monkeypatch.setenv("NAS_PROCESSOR", "board A")
    config, how = settled(**LATENCY).config, {"target": "cpu"}
    assert model_here(config, how, None) == model_here(config, how, "board A") == "board A"
    with pytest.raises(RunError, match=r"on another machine; expected board B; got 'board A'.*a machine with board B"):
        model_here(config, how, "board B")
    assert model_here(replace(config, endpoint="0"), how, "board B") == "board B", "one may join"
    assert model_here(config, None, "board B") == model_here(config, {"target": "http://x:1"}, "board B") == "board B"
    assert model_here(replace(config, engine="ray"), how, None) == ""


@pytest.mark.parametrize(("away", "measured_again"), [(20.0, True), (40.0, False)])
def test_a_measurement_whose_machine_is_lost_waits_a_moment_for_the_next(tmp_path, away, measured_again):
    executor = Mixed([PROCESSOR, OTHER], clock=(clock := Clock()))
    with a_loop(tmp_path, executor, settled(**LATENCY, budget="10trials", repeats="20%"), clock=clock) as loop:
        loop.run()
        outcome, left = executor.outcome, []

        def lose(job):
            if not left:
                left.append(clock.now)
                executor.models[0] = None
            return outcome(job)

        def come_back():
            if left and clock.now - left[0] >= away:
                executor.models[0] = PROCESSOR

        executor.outcome, executor.on_poll = lose, come_back
        confirm(loop)
    assert left
    again = loop.ledger.front.checks.again.keys() == {r.number for r in loop.ledger.front.members}
    assert again == measured_again
    told = [remark for remark in loop.ledger.remarks if f"no worker has {PROCESSOR} for" in remark]
    assert bool(told) != measured_again
