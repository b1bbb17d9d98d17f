"""The simulator in short: its clock and its workers keep their promises, and a simulated search is a real one."""

import optuna
import pytest
from optuna.trial import TrialState

from benchmarks.simulator import Setting, resume, simulate
from benchmarks.virtual import VirtualClock, VirtualExecutor
from nas.search.executors.base import Failed, Finished, Job, Progress, Started


class Real:
    """A clock that is set by hand."""

    now = 5.0

    def __call__(self):
        return self.now


@pytest.fixture
def real():
    return Real()


@pytest.fixture
def executor(real):
    return VirtualExecutor(VirtualClock(real), 2, lambda job: (10.0 * (1 + job.trial), {"of": job.trial}), reports=2)


def kinds(events):
    return [(type(event), event.trial) for event in events]


def test_time_stands_still_while_the_driver_waits_and_runs_while_it_works(real, executor):
    executor.submit(Job(trial=0, payload={}))
    real.now += 1.0
    executor.submit(Job(trial=1, payload={}))
    assert kinds(executor.poll(100.0)) == [(Started, 0), (Started, 1)]
    assert executor.clock() == 1.0
    real.now += 0.5
    assert executor.clock() == 1.5
    assert kinds(executor.poll(100.0)) == [(Progress, 0)]
    assert executor.clock() == 5.0
    assert executor.poll(2.0) == []
    assert executor.clock() == 7.0
    real.now += 30.0  # a slow driver finds everything done
    (first, *_, last) = executor.poll(0.0)
    assert first == Finished(trial=0, result={"of": 0, "stopped": False}, seconds=10.0)
    assert last.result == {"of": 1, "stopped": False}
    assert executor.clock.driver_s == 31.5
    assert executor.free == 2
    assert executor.busy() == pytest.approx(1.0 / 2)  # of the first second, when the second worker had no job yet


def test_a_stopped_job_ends_at_its_next_report_and_a_killed_one_at_once(real, executor):
    executor.submit(Job(trial=0, payload={}))
    executor.submit(Job(trial=1, payload={}))
    executor.poll(0.0)
    executor.stop(0)
    (_, end) = executor.poll(5.0)
    assert (end.result["stopped"], end.seconds) == (True, 5.0)
    executor.kill(1)
    assert executor.poll(0.0) == [Failed(trial=1, kind="killed", reason="killed on request", seconds=5.0)]
    assert executor.poll(100.0) == []
    executor.submit(Job(trial=2, payload={}))
    assert kinds(executor.close()) == [(Started, 2), (Failed, 2)]


@pytest.mark.parametrize("stopping", ["none", "asha"])
def test_a_simulated_search_is_a_real_one(tmp_path, stopping):
    setting = Setting(space="nas_bench_201", workers=8, trials=40, early_stopping=stopping, cpu=True)
    row = simulate(setting, tmp_path / "run")
    assert "the budget" in row["ended"]
    assert 0.5 < row["busy"] <= 1.0
    journal = optuna.storages.journal.JournalFileBackend(str(tmp_path / "run" / "study.log"))
    trials = optuna.load_study(study_name="simulated", storage=optuna.storages.JournalStorage(journal)).trials
    assert len(trials) == row["stored"] == len((tmp_path / "run" / "trials.csv").read_text().splitlines()) - 1
    open_still = {trial.state for trial in trials if not trial.state.is_finished()}
    assert open_still <= ({TrialState.WAITING} if stopping == "asha" else set())
    assert resume(setting, tmp_path / "run", 0.0)["resume_s"] > 0
