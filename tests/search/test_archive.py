"""Answers from what was already evaluated, beside a driver or after it."""

from __future__ import annotations

import pytest

from nas.errors import RunError, UsageError
from nas.search.archive import open_archive, parse_limits
from nas.search.objectives import dominates
from nas.search.run import RunFolder
from nas.search.storage import open_storage
from tests.search.fakes import FakeExecutor, a_loop, accuracy_of, measured, run_loop, settled


@pytest.fixture
def run(tmp_path):
    """A run of 20 scripted trials, one of them failed."""
    def outcome(job):
        if job.trial == 3:
            raise RuntimeError("error: no")
        return accuracy_of(job)

    chosen = settled(budget="20trials", constraint=["macs<=1M"])
    run_loop(tmp_path / "run", FakeExecutor(outcome), chosen)
    RunFolder(tmp_path / "run").write_config(chosen.to_mapping())
    return str(tmp_path / "run")


def test_the_front_is_the_one_that_the_search_kept(run):
    with open_archive(run) as archive:
        front = archive.front()
        rows = (archive.folder.front).read_text().splitlines()[1:]
        assert [record.number for record in front] == [int(row.split(",")[0]) for row in rows]
        for record in archive.within(()):
            assert record in front or any(dominates(m.metrics, record.metrics, archive.objectives) for m in front)


def test_the_best_within_limits(run):
    with open_archive(run) as archive:
        best = archive.pick("best")
        assert best.metrics["accuracy"] == max(r.metrics["accuracy"] for r in archive.within(()))
        limit = sorted(r.metrics["num_params"] for r in archive.within(()))[5]
        within = archive.within(parse_limits([f"num_params<={limit}"], archive))
        assert {r.number for r in within} == {r.number for r in archive.within(()) if r.metrics["num_params"] <= limit}
        assert archive.within(parse_limits(["num_params<=1"], archive)) == []


def test_a_trial_is_picked_by_its_number(run):
    with open_archive(run) as archive:
        assert archive.pick("5").number == 5
        for word in ("3", "99", "-1", "first"):
            with pytest.raises(RunError, match=r"no such trial|not been completed"):
                archive.pick(word)


def test_a_limit_on_what_was_not_measured_is_refused(run):
    with open_archive(run) as archive, pytest.raises(UsageError, match="did not measure latency"):
        parse_limits(["latency<=3ms"], archive)


def test_a_limited_metric_was_measured(tmp_path):
    chosen = settled(objectives="accuracy", constraint=["latency<=3ms"], budget="2trials")
    run_loop(tmp_path / "run", FakeExecutor(measured(lambda trial: 1.0)), chosen)
    RunFolder(tmp_path / "run").write_config(chosen.to_mapping())
    with open_archive(str(tmp_path / "run")) as archive:
        assert len(archive.within(parse_limits(["latency<=2ms"], archive))) == 2


def test_reading_beside_a_driver_changes_nothing(run):
    folder = RunFolder.find(run)
    with open_storage(folder.study):
        before = folder.study.read_bytes()
        with open_archive(run) as archive:
            assert (archive.counts["completed"], archive.counts["failed"]) == (19, 1)
        assert folder.study.read_bytes() == before


def test_a_run_that_has_not_begun_is_told_and_not_made(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.create()
    folder.write_config(settled().to_mapping())
    with pytest.raises(RunError, match="no journal"), open_archive(str(folder.path)):
        pass
    folder.study.write_text("")
    with pytest.raises(RunError, match="not in its storage any more"), open_archive(str(folder.path)):
        pass
    assert folder.study.read_text() == ""


def test_trials_in_flight_are_counted_as_such(tmp_path):
    executor = FakeExecutor(held=[0])
    with a_loop(tmp_path / "run", executor) as loop:
        loop._start_jobs()
        RunFolder(tmp_path / "run").write_config(settled().to_mapping())
        with open_archive(str(tmp_path / "run")) as archive:
            assert archive.counts == {"running": 1}
            with pytest.raises(RunError, match="no trial of this run is completed"):
                archive.pick("best")
