import io
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from nas.errors import MeasureError, RunError, SpaceError
from nas.search.budget import Meter, parse_budget
from nas.search.objectives import parse_constraint, parse_objectives
from nas.search.samplers import STRATEGIES, RandomSampler
from nas.search.storage import open_storage
from nas.search.study import UNFINISHED, SearchStudy
from tests.search.spaces import space

OBJECTIVES = parse_objectives("accuracy,latency")
GOOD = {"accuracy": 0.9, "latency": 2.0, "num_params": 1000}


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "journal.jsonl"


@pytest.fixture
def study(journal):
    with open_storage(journal) as storage:
        yield SearchStudy(storage, space("conditional"), OBJECTIVES, (parse_constraint("latency<=3ms"),))


@pytest.fixture
def sampler():
    return RandomSampler(space("conditional"), seed=0)


@pytest.fixture
def syncs(monkeypatch):
    """Every write that reached the disk."""
    seen, fsync = [], os.fsync
    monkeypatch.setattr("nas.search.storage.SYNC_EVERY_S", 0.0)
    monkeypatch.setattr(os, "fsync", lambda fd: (seen.append(fd), fsync(fd)))
    return seen


def as_optuna_reads(path: Path) -> optuna.Study:
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
    return optuna.load_study(study_name="search", storage=storage)


def test_a_trial_is_stored_running_with_its_real_parameters_in_one_write(study, sampler, journal, syncs):
    draft = study.draft(sampler)
    assert not syncs
    record = study.add(draft, identity="abc", seed=7, attrs={"host": "here"})
    assert len(syncs) == 1
    (trial,) = as_optuna_reads(journal).trials
    assert (trial.number, trial.state) == (0, TrialState.RUNNING)
    assert trial.params == record.decisions == draft.architecture.decisions
    assert set(trial.distributions) == set(trial.params)
    assert trial.user_attrs == {"identity": "abc", "seed": 7, "state": "running", "host": "here"}


def test_a_trial_ends_in_one_write_with_the_meter(study, sampler, journal, syncs):
    record, _ = study.ask(sampler)
    syncs.clear()
    meter = Meter(parse_budget("1h")).to_mapping()
    study.tell(record.number, "completed", metrics=GOOD, attrs={"seconds": 1.5}, metadata={"meter": meter})
    assert len(syncs) == 1
    read = as_optuna_reads(journal)
    assert read.trials[0].state == TrialState.COMPLETE
    assert read.trials[0].values == [0.9, 2.0]
    assert read.trials[0].user_attrs["metrics"] == GOOD
    assert read.trials[0].user_attrs["seconds"] == 1.5
    assert read.trials[0].constraints == {"latency<=3ms": pytest.approx(-1 / 3)}
    assert read.user_attrs["meter"] == meter == study.metadata["meter"]
    assert read.metric_names == ["accuracy", "latency"]


@pytest.mark.parametrize(("state", "stored"), [("failed", TrialState.FAIL), ("stopped", TrialState.PRUNED)])
def test_other_ends(study, sampler, journal, state, stored):
    number = study.ask(sampler)[0].number
    record = study.tell(number, state, metrics={"latency": 6.0}, reason="out of memory")
    (trial,) = as_optuna_reads(journal).trials
    assert (trial.state, trial.values, trial.constraints) == (stored, None, {"latency<=3ms": 1.0})
    assert (record.state, record.reason, trial.user_attrs["reason"]) == (state, "out of memory", "out of memory")


@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_a_value_that_is_no_number_makes_a_failed_trial(study, sampler, journal, value):
    metrics = GOOD | {"accuracy": value} if value is not None else {"latency": 1.0}
    record = study.tell(study.ask(sampler)[0].number, "completed", metrics=metrics)
    assert (record.state, record.reason) == ("failed", "accuracy is not a finite number")
    assert as_optuna_reads(journal).trials[0].state == TrialState.FAIL


def test_a_duplicate_is_one_write_with_the_values_of_the_first(study, sampler, journal, syncs):
    first = study.add(study.draft(sampler), identity="abc")
    with pytest.raises(RunError, match="running"):
        study.add(study.draft(sampler), "duplicate", identity="abc", duplicate_of=0)
    study.tell(first.number, "completed", metrics=GOOD)
    draft = study.draft(sampler)
    syncs.clear()
    assert study.find("abc") is first
    record = study.add(draft, "duplicate", identity="abc", duplicate_of=0)
    assert len(syncs) == 1
    trial = as_optuna_reads(journal).trials[1]
    assert (trial.state, trial.values) == (TrialState.COMPLETE, [0.9, 2.0])
    assert trial.user_attrs["duplicate_of"] == 0
    assert trial.constraints == {"latency<=3ms": pytest.approx(-1 / 3)}
    assert (record.state, record.metrics) == ("duplicate", GOOD)
    assert study.find("abc") is first
    assert study.find("xyz") is None


@pytest.mark.parametrize("state", ["failed", "stopped"])
def test_a_duplicate_of_what_has_no_values_has_none(study, sampler, journal, state):
    study.add(study.draft(sampler), state, identity="abc", reason="impossible")
    study.add(study.draft(sampler), "duplicate", identity="abc", duplicate_of=0)
    assert [trial.state for trial in as_optuna_reads(journal).trials] == [TrialState[
        {"failed": "FAIL", "stopped": "PRUNED"}[state]]] * 2  # fmt: skip


@pytest.mark.parametrize("number", [None, 5, -1])
def test_a_duplicate_names_an_earlier_trial(study, sampler, number):
    with pytest.raises(RunError, match="cannot be a duplicate"):
        study.add(study.draft(sampler), "duplicate", duplicate_of=number)
    assert study.records == []


@pytest.mark.parametrize("elsewhere", ["journal.jsonl", "study.db"])
def test_what_is_stopped_for_now_is_stopped_until_it_is_opened_again(tmp_path, sampler, elsewhere):
    where = tmp_path / elsewhere if elsewhere.endswith("jsonl") else f"sqlite:///{tmp_path / elsewhere}"

    def opened(storage):
        return SearchStudy(storage, space("conditional"), OBJECTIVES, (parse_constraint("latency<=3ms"),))

    def in_optuna(storage):
        (only,) = storage.optuna.get_all_studies()
        return [trial.state.name for trial in storage.optuna.get_all_trials(only._study_id)]

    with open_storage(where) as storage:
        study = opened(storage)
        for name in "abc":
            study.add(study.draft(sampler), identity=name, attrs={"rungs": {"1": 0.5}})
        words = {"metrics": {"latency": 2.0}, "reason": "no time", "for_now": True}
        study.tell(0, "stopped", attrs={"seconds": 1.0}, **words)
        study.tell(1, "stopped", attrs={UNFINISHED: True}, **words)
        study.tell(2, "stopped", reason="over a limit")
        before = study.records
    with open_storage(where, reading=True) as storage:
        assert in_optuna(storage) == ["WAITING", "WAITING", "PRUNED"]
    with open_storage(where) as storage:
        study = opened(storage)
        assert study.records == before
        assert [record.counts for record in before] == [True, False, True]
        assert [record.number for record in study.stopped_for_now] == [0, 1]
        assert (study.left_running, study.find("b")) == ((), None)
        study.reopen()
        assert study.stopped_for_now == []
        assert (study.left_running, study.find("b").number) == ((0, 1), 1)
        assert [(record.state, record.reason) for record in study.records[:2]] == [("running", None)] * 2
    with open_storage(where) as storage:
        study = opened(storage)
        assert study.left_running == (0, 1)
        study.tell(0, "completed", metrics=GOOD)
        study.tell(1, "stopped", metrics={"latency": 2.5}, reason="not promoted")
        before = study.records
    with open_storage(where) as storage:
        study = opened(storage)
        assert study.records == before
        assert (study.records[0].state, study.records[0].reason, study.records[0].attrs["seconds"]) == ("completed", None, 1.0)
        assert (study.records[1].reason, study.records[1].counts) == ("not promoted", True)
        assert in_optuna(storage) == ["COMPLETE", "PRUNED", "PRUNED"]
        with pytest.raises(RunError, match="trial 0 is completed"):
            study.tell(0, "stopped", for_now=True)


def test_infeasible_trials_are_not_among_the_best(study, sampler, journal):
    for latency in (2.0, 4.0):
        metrics = {"accuracy": latency / 10, "latency": latency}
        study.tell(study.ask(sampler)[0].number, "completed", metrics=metrics)
    assert [trial.number for trial in as_optuna_reads(journal).best_trials] == [0]


def test_a_limited_metric_has_to_be_measured(journal, sampler):
    limits = (parse_constraint("num_params<=1M"),)
    with open_storage(journal) as storage:
        study = SearchStudy(storage, space("conditional"), OBJECTIVES, limits)
        number = study.ask(sampler)[0].number
        with pytest.raises(MeasureError, match="num_params was not measured"):
            study.tell(number, "completed", metrics={"accuracy": 0.5, "latency": 1.0})
        assert study.records[number].state == "running"


def test_a_trial_ends_once(study, sampler):
    number = study.ask(sampler)[0].number
    study.tell(number, "failed", reason="diverged")
    with pytest.raises(RunError, match="trial 0 is failed"):
        study.tell(number, "completed", metrics=GOOD)


def test_a_draft_is_used_once(study, sampler):
    draft = study.draft(sampler)
    study.add(draft)
    with pytest.raises(RunError, match="out of date"):
        study.add(draft)


def test_another_writer_is_noticed(study, sampler, journal):
    draft = study.draft(sampler)
    as_optuna_reads(journal).ask()
    with pytest.raises(RunError, match="one driver"):
        study.add(draft)


def test_what_was_stored_is_there_again_after_opening(journal, sampler):
    with open_storage(journal) as storage:
        study = SearchStudy(storage, space("conditional"), OBJECTIVES)
        study.set_metadata(space="name: conditional", seed=3)
        study.add(study.draft(sampler), identity="a", seed=1)
        study.add(study.draft(sampler), identity="b", attrs={"gpu": 0})
        study.add(study.draft(sampler), "failed", reason="impossible", identity="c")
        study.tell(0, "completed", metrics=GOOD, attrs={"seconds": 2.0})
        study.add(study.draft(sampler), "duplicate", identity="a", duplicate_of=0)
        before = study.records
    with open_storage(journal) as storage:
        study = SearchStudy(storage, space("conditional"), OBJECTIVES)
        assert study.records == before
        assert study.left_running == (1,)
        assert study.find("a").number == 0
        assert study.metadata == {"space": "name: conditional", "seed": 3}
        study.tell(1, "failed", reason="the driver was killed")
    with open_storage(journal) as storage:
        study = SearchStudy(storage, space("conditional"), OBJECTIVES)
        assert study.left_running == ()
        assert study.records[1].reason == "the driver was killed"


def test_other_objectives_are_another_search(journal):
    with open_storage(journal) as storage:
        SearchStudy(storage, space("conditional"), OBJECTIVES)
        with pytest.raises(RunError, match="begun with other objectives"):
            SearchStudy(storage, space("conditional"), parse_objectives("accuracy,num_params"))


def test_a_study_is_made_without_a_word(journal, capfd):
    with open_storage(journal) as storage:
        SearchStudy(storage, space("conditional"), OBJECTIVES)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_loop_and_a_script_walk_the_same_way_and_so_does_a_loop_that_is_killed_and_started_again(journal, strategy):
    sizes = {"regularized_evolution": {"population": 5, "sample": 2}, "tpe": {"startup": 4}, "nsga2": {"population": 4}}
    new = lambda: STRATEGIES[strategy](space("conditional"), seed=4, **sizes.get(strategy, {}))  # noqa: E731

    def metrics(decisions):
        return {"accuracy": 1 / len(str(decisions)), "latency": float(len(decisions))}

    walked = []
    for part in range(4):
        with open_storage(journal) as storage:
            study = SearchStudy(storage, space("conditional"), OBJECTIVES)
            sampler = new()
            for _ in range(4):
                draft = study.draft(sampler)
                assert draft.blind == 0
                record = study.add(draft)
                walked.append(dict(record.decisions))
                study.tell(record.number, "completed", metrics=metrics(record.decisions))
            assert len(study.records) == 4 * part + 4
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    script = optuna.create_study(directions=["maximize", "minimize"], sampler=new())
    found = []
    for _ in range(16):
        trial = script.ask()
        found.append(dict(space("conditional").suggest(trial).decisions))
        script.tell(trial, list(metrics(found[-1]).values()))
    optuna.logging.set_verbosity(before)
    assert found == walked


@pytest.mark.parametrize("name", ["RandomSampler", "NSGAIISampler", "TPESampler"])
def test_any_sampler_of_optunas_can_drive_the_loop(study, name):
    sampler = getattr(optuna.samplers, name)(seed=0)
    for _ in range(14):
        draft = study.draft(sampler)
        assert draft.blind > 0
        record = study.add(draft)
        assert space("conditional").architecture(record.decisions)
        study.tell(record.number, "completed", metrics=GOOD)


def test_a_sampler_that_invents_labels_is_told(study):
    class Inventor(RandomSampler):
        def propose(self, study, trial, rng):
            return {**super().propose(study, trial, rng), "network.body": "invented"}

    with pytest.raises(SpaceError, match=r"no such option for network\.body"):
        study.draft(Inventor(space("conditional"), seed=0))
    assert study.records == []


KILLED = """
import sys
sys.path.insert(0, sys.argv[2])
from tests.search.spaces import space
from nas.search.objectives import parse_objectives
from nas.search.samplers import RandomSampler
from nas.search.storage import open_storage
from nas.search.study import SearchStudy
study = SearchStudy(open_storage(sys.argv[1]), space("conditional"), parse_objectives("accuracy,latency"))
sampler = RandomSampler(space("conditional"), seed=0)
while True:
    record, _ = study.ask(sampler)
    study.tell(record.number, "completed", metrics={"accuracy": 0.5, "latency": 1.0})
    print(record.number, flush=True)
"""


def test_kill_9_loses_nothing_that_was_told(journal):
    for _ in range(2):
        driver = subprocess.Popen([sys.executable, "-c", KILLED, str(journal), str(Path(__file__).parent)],
                                  stdout=subprocess.PIPE, text=True)  # fmt: skip
        driver.stdout.readline()
        time.sleep(0.05)
        driver.kill()
        told = driver.communicate()[0].split()
        with open_storage(journal) as storage:
            study = SearchStudy(storage, space("conditional"), OBJECTIVES)
            assert [record.number for record in study.records] == list(range(len(study.records)))
            assert all(study.records[int(number)].state == "completed" for number in told)
            assert len(study.left_running) <= 1
            for number in study.left_running:
                study.tell(number, "failed", reason="the driver was killed")


def test_an_end_that_was_cut_short_at_any_line_leaves_a_running_trial_that_can_end_again(journal, sampler):
    end = {"metrics": GOOD, "attrs": {"seconds": 2.0}, "metadata": {"meter": {"wall": 1.0}}}
    limits = (parse_constraint("latency<=3ms"),)
    with open_storage(journal) as storage:
        SearchStudy(storage, space("conditional"), OBJECTIVES, limits).ask(sampler)
        before = journal.stat().st_size
        SearchStudy(storage, space("conditional"), OBJECTIVES, limits).tell(0, "completed", **end)
    whole = journal.read_bytes()
    lines = whole[before:].splitlines(keepends=True)
    assert len(lines) == 6
    for count in range(len(lines)):
        journal.write_bytes(whole[:before] + b"".join(lines[:count]) + lines[count][:-1])
        with open_storage(journal) as storage:
            study = SearchStudy(storage, space("conditional"), OBJECTIVES, limits)
            assert (study.left_running, study.records[0].metrics) == ((0,), {})
            record = study.tell(0, "completed", **end)
        with open_storage(journal) as storage:
            assert SearchStudy(storage, space("conditional"), OBJECTIVES, limits).records == [record]
        assert as_optuna_reads(journal).trials[0].values == [0.9, 2.0]


def test_the_dashboard_can_read_it(study, sampler, journal):
    dashboard = pytest.importorskip("optuna_dashboard")
    record, _ = study.ask(sampler)
    study.tell(record.number, "completed", metrics=GOOD)
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(journal)))
    app = dashboard.wsgi(storage)
    answer = []
    body = b"".join(app({"REQUEST_METHOD": "GET", "PATH_INFO": "/api/studies/0", "QUERY_STRING": "after=0",
                         "wsgi.input": io.BytesIO(), "SERVER_NAME": "x", "SERVER_PORT": "0", "wsgi.url_scheme": "http"},
                        lambda status, headers, *_: answer.append(status)))  # fmt: skip
    assert answer == ["200 OK"]
    assert b'"network.body"' in body


def test_sqlite_works_the_same(tmp_path, sampler):
    url = f"sqlite:///{tmp_path / 'study.db'}"
    for number in range(2):
        with open_storage(url) as storage:
            study = SearchStudy(storage, space("conditional"), OBJECTIVES)
            assert len(study.records) == number
            record, _ = study.ask(sampler)
            study.tell(record.number, "completed", metrics=GOOD, metadata={"n": number})
    assert optuna.load_study(study_name="search", storage=url).trials[1].values == [0.9, 2.0]
