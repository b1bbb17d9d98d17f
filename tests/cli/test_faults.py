"""Drivers and workers that are killed, really: nothing finished is lost, nothing is counted twice, nobody survives."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sqlite3
import sys
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass

import optuna
import pytest

from benchmarks.faults import FAULTS, suffer, well
from nas.search.storage import open_storage
from nas.search.tally import read_tally
from tests.cli.driver import begin, gone, nas, rows, wait_until, workers
from tests.search.runs import write_data

SEARCH = ("search", "space=many.yaml", "data=tiny.npz", "objectives=accuracy,num_params", "run=r", "seed=5", "repeats=0")


@dataclass
class Stored:
    number: int
    state: str
    identity: str
    attrs: dict


def stored(run):
    """The trials as Optuna alone reads them."""
    with open_storage(run / "study.log", reading=True) as storage:
        (study,) = storage.optuna.get_all_studies()
        trials = storage.optuna.get_all_trials(study._study_id)
        meter = study.user_attrs["meter"]
    return [Stored(t.number, "running" if t.state == optuna.trial.TrialState.RUNNING else t.user_attrs.get("state", ""),
                   t.user_attrs["identity"], t.user_attrs)
            for t in trials], meter  # fmt: skip


@pytest.fixture
def slow_data(here):
    """Images enough for a training of about a second."""
    write_data(here / "tiny.npz", images=900)
    return here


def check_after_resume(run, finished_before, wanted):
    trials, meter = stored(run)
    by_number = {t.number: t for t in trials}
    for old in finished_before:
        assert by_number[old.number].attrs == old.attrs
    assert not [t for t in trials if t.state == "running"]
    completed = [t for t in trials if t.state == "completed"]
    assert len({t.identity for t in completed}) == len(completed)
    counts = Counter(t.state for t in trials)
    assert counts["completed"] + counts["failed"] == wanted
    assert meter["trials"] == wanted
    table = rows(run)
    assert sorted(int(row["trial"]) for row in table) == [t.number for t in trials]


def kill_and_resume(base, condition, argv, wanted):
    driver = begin(*argv, cwd=base)
    wait_until(lambda: condition(driver), driver)
    children = workers(driver)
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate()
    assert gone(children), "workers outlived their driver"
    run = base / "results" / "r"
    before, _ = stored(run)
    finished = [t for t in before if t.state != "running"]
    spent = read_tally(run / "spent.bin")
    done = nas("resume", "r", "workers=2", "--json", cwd=base)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["wall_s"] > spent["wall"] > 0
    assert stored(run)[1]["cpu"] > spent["cpu"]
    check_after_resume(run, finished, wanted)
    return document


def test_a_killed_driver_goes_on(slow_data):
    argv = (*SEARCH, "budget=4trials", "epochs=12", "workers=2")
    run = slow_data / "results" / "r"
    document = kill_and_resume(slow_data, lambda driver: len(rows(run)) >= 1 and len(workers(driver)) == 2, argv, 4)
    assert document["trials"]["completed"] == 4
    assert document["budget"] == [{"asked": 4, "spent": 4, "unit": "trials"}]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_a_driver_killed_at_any_moment_goes_on(slow_data, seed):
    moment = random.Random(seed).uniform(0.0, 4.0)
    run = slow_data / "results" / "r"
    begun = []

    def condition(driver):
        if (run / "trials.csv").exists() and not begun:
            begun.append(time.monotonic())
        return begun and time.monotonic() - begun[0] > moment

    argv = (*SEARCH, "budget=20trials", "epochs=30", "workers=2")
    kill_and_resume(slow_data, condition, argv, 20)


@pytest.mark.slow
def test_the_same_command_goes_on_too_and_three_kills_count_nothing_twice(slow_data):
    argv = (*SEARCH, "budget=12trials", "epochs=12", "workers=2")
    run = slow_data / "results" / "r"
    for kills in range(3):
        driver = begin(*argv, cwd=slow_data)
        wait_until(lambda n=2 * kills, d=driver: len(rows(run)) > n and len(workers(d)) == 2, driver)
        children = workers(driver)
        os.kill(driver.pid, signal.SIGKILL)
        driver.communicate()
        assert gone(children)
    before = [t for t in stored(run)[0] if t.state != "running"]
    done = nas(*argv, cwd=slow_data)
    assert done.returncode == 0, done.stderr
    assert "going on with results/r" in done.stdout
    check_after_resume(run, before, 12)


def test_ctrl_c_finishes_cleanly_a_killed_workers_candidate_is_tried_again_and_a_second_driver_is_refused(slow_data):
    """One search, three faults: they do not meet."""
    run = slow_data / "results" / "r"
    # At random: others hold most of so small a space for dominated, and end before the last fault on a slow machine.
    driver = begin(*SEARCH, "budget=1h", "epochs=12", "workers=2", "strategy=random", cwd=slow_data)
    wait_until(lambda: len(rows(run)) >= 1 and len(workers(driver)) == 2, driver)

    os.kill(workers(driver)[0].pid, signal.SIGKILL)
    log = run / "log.txt"
    wait_until(lambda: "it is tried once more" in log.read_text(), driver)
    (line,) = [line for line in log.read_text().splitlines() if "it is tried once more" in line]
    assert "SIGKILL" in line
    lost = re.search(r"trial (\d+):", line)[1]
    wait_until(lambda: any(row["trial"] == lost for row in rows(run)), driver)
    (again,) = [row for row in rows(run) if row["trial"] == lost]
    assert again["state"] == "completed"

    config = (run / "config.yaml").read_text()
    second = nas("resume", "r", "budget=+1h", cwd=slow_data)
    assert second.returncode == 2
    assert "another process is driving this search" in second.stderr
    assert "Traceback" not in second.stderr
    assert (run / "config.yaml").read_text() == config
    seen = nas("show", "r", "--json", cwd=slow_data)
    assert json.loads(seen.stdout)["trials"]["failed"] == 0

    count = len(rows(run))
    wait_until(lambda: len(rows(run)) > count and len(workers(driver)) == 2, driver)
    children = workers(driver)
    wait_until(lambda: any(trial.state == "running" for trial in stored(run)[0]), driver)  # both may have ended at once
    os.killpg(driver.pid, signal.SIGINT)
    out, err = driver.communicate(timeout=30)
    assert driver.returncode == 130
    assert "interrupted: every finished candidate is saved" in out
    assert "nas resume results/r" in out
    assert "Traceback" not in out + err
    assert gone(children)
    assert (run / "best.yaml").exists()
    trials, meter = stored(run)
    assert [t for t in trials if t.state == "running"], "left for `nas resume`"
    assert not [t for t in trials if t.state == "stopped"]
    assert meter["trials"] == sum(t.state in ("completed", "failed") for t in trials)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_does_no_harm(name):
    """Each of benchmarks/faults.py once: nothing lost, nothing counted twice, and the budget is what was spent."""
    try:
        row = suffer(name, 0.5)
    except PermissionError as error:
        pytest.skip(str(error))
    assert well(row), row


@pytest.mark.slow  # Optuna tries five times, five seconds each
def test_a_locked_database_ends_a_search_with_one_line_and_it_can_be_gone_on_with(slow_data):
    argv = (*SEARCH, "budget=4trials", "epochs=12", "workers=1", "storage=sqlite:///study.db")
    driver, run = begin(*argv, cwd=slow_data), slow_data / "results" / "r"
    wait_until(lambda: rows(run), driver)
    with closing(sqlite3.connect(slow_data / "study.db", isolation_level=None, timeout=60)) as other:
        other.execute("BEGIN EXCLUSIVE")
        out, err = driver.communicate(timeout=100)
        assert driver.returncode == 2, out
        assert err.splitlines() == [f"nas: sqlite:///{slow_data}/study.db: the database fails: database is locked. "
                                    "When it works again, `nas resume` goes on where the search stopped."]  # fmt: skip
    done = nas("resume", "r", cwd=slow_data)
    assert (done.returncode, done.stderr) == (0, "")
    assert [row["state"] for row in rows(run)] == ["completed"] * 4


def test_a_damaged_study_is_told_and_its_table_can_be_read(slow_data):
    done = nas(*SEARCH, "budget=3trials", "epochs=1", "workers=1", cwd=slow_data)
    assert done.returncode == 0, done.stderr
    run = slow_data / "results" / "r"
    lines = (run / "study.log").read_bytes().splitlines(keepends=True)
    (run / "study.log").write_bytes(b"".join([*lines[:9], b"{" + lines[9], *lines[10:]]))
    for verb in (("resume", "budget=+1trials"), ("show",), ("best",)):
        refused = nas(verb[0], "r", *verb[1:], cwd=slow_data)
        assert refused.returncode == 2
        assert "study.log:10: this line of the journal is damaged" in refused.stderr
        assert "head -n 9" in refused.stderr
        assert "Traceback" not in refused.stderr
    assert [row["state"] for row in rows(run)] == ["completed"] * 3


def test_the_dashboard_opens_the_study_as_it_is(finished):
    from optuna_dashboard import wsgi

    journal = optuna.storages.journal.JournalFileBackend(str(finished / "results" / "done" / "study.log"))
    app = wsgi(optuna.storages.JournalStorage(journal))

    def get(path):
        status = []
        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "SERVER_NAME": "x", "SERVER_PORT": "80", "wsgi.url_scheme": "http",
                   "wsgi.errors": sys.stderr}  # fmt: skip
        body = b"".join(app(environ, lambda line, *_: status.append(line)))
        assert status == ["200 OK"]
        return json.loads(body)

    (study,) = get("/api/studies")["study_summaries"]
    assert study["study_name"] == "done"
    assert study["directions"] == ["maximize", "minimize"]
    detail = get(f"/api/studies/{study['study_id']}")
    assert [trial["state"] for trial in detail["trials"]] == ["Complete"] * 4
    assert detail["objective_names"] == ["accuracy", "num_params"]
    assert {p["name"] for p in detail["trials"][0]["params"]} == {f"network.{n}.{k}" for n in "ab" for k in ("kernel_size",
                                                                                                             "out_channels")}
