"""A study in SQLite, and what can happen to a database: real locks, a real full file, real junk in its pages."""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack, closing

import pytest

from nas.errors import RunError
from nas.search.objectives import parse_objectives
from nas.search.samplers import RandomSampler
from nas.search.storage import open_storage
from nas.search.study import SearchStudy
from tests.search.fakes import FakeExecutor, a_loop, run_loop
from tests.search.spaces import space

OBJECTIVES = parse_objectives("accuracy")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "study.db"


def study_in(storage, **words):
    return SearchStudy(storage, space("conditional"), OBJECTIVES, **words)


def pragma(storage, text):
    """A setting of all connections that the storage has."""
    engine = storage.optuna._backend.engine
    with ExitStack() as stack:
        for connection in [stack.enter_context(engine.connect()) for _ in range(engine.pool.checkedin())]:
            connection.exec_driver_sql(f"PRAGMA {text}")


def test_a_locked_database_is_told_and_goes_on_when_it_is_free(path):
    with open_storage(f"sqlite:///{path}") as storage:
        study = study_in(storage)
        record, _ = study.ask(RandomSampler(study.space, seed=1))
        pragma(storage, "busy_timeout = 10")
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            for call in (lambda: study.note(record.number, x=1), lambda: study.set_metadata(x=1), lambda: study.metadata):
                with pytest.raises(RunError) as error:
                    call()
                assert str(error.value) == (f"sqlite:///{path}: the database fails: database is locked. "
                                            "When it works again, `nas resume` goes on where the search stopped.")
        study.set_metadata(x=2)
        assert study.metadata["x"] == 2


def test_a_full_disk_is_told(path):
    with open_storage(f"sqlite:///{path}") as storage:
        study = study_in(storage)
        pragma(storage, f"max_page_count = {path.stat().st_size // 4096}")
        with pytest.raises(RunError, match="the database fails: database or disk is full"):
            study.set_metadata(long="x" * 100_000)
    with open_storage(f"sqlite:///{path}") as storage:
        assert study_in(storage).metadata == {}


def test_junk_in_a_page_is_told_to_who_goes_on_and_to_who_reads(path):
    with open_storage(f"sqlite:///{path}") as storage:
        study = study_in(storage)
        for _ in range(30):
            study.ask(RandomSampler(study.space, seed=1), note="x" * 1000)
    pages = bytearray(path.read_bytes())
    for page in range(len(pages) // 4096 - 12, len(pages) // 4096 - 2):
        pages[4096 * page : 4096 * page + 64] = b"\xff" * 64
    path.write_bytes(pages)
    for reading in (False, True):
        with open_storage(f"sqlite:///{path}", reading=reading) as storage:
            with pytest.raises(RunError, match="the database fails: database disk image is malformed") as error:
                study_in(storage, there=reading)
            assert ("nas resume" in str(error.value)) != reading


@pytest.mark.parametrize("what", ["locked", "gone"])
def test_a_search_whose_database_fails_ends_with_one_error_and_goes_on_later(tmp_path, path, what):
    url, executor = f"sqlite:///{path}", FakeExecutor(slots=2)
    aside, other = tmp_path / "aside.db", sqlite3.connect(tmp_path / "none.db")
    with a_loop(tmp_path, executor, storage=url) as loop:

        def fail():
            nonlocal other
            if len(executor.submitted) != 4:
                return
            executor.on_poll = lambda: None
            pragma(loop.study._storage, "busy_timeout = 10")
            if what == "locked":
                other = sqlite3.connect(path, isolation_level=None)
                other.execute("BEGIN EXCLUSIVE")
            else:
                loop.study._storage.optuna._backend.engine.dispose()
                path.rename(aside)
                path.mkdir()

        executor.on_poll = fail
        with pytest.raises(RunError, match="the database fails") as error:
            loop.run()
    assert executor.closed
    assert not isinstance(error.value.__context__, RunError), "it is told once"
    other.close()
    if what == "gone":
        path.rmdir()
        aside.rename(path)
    loop = run_loop(tmp_path, storage=url)
    assert loop.ledger.counts["completed"] == 10
    assert not [record for record in loop.study.records if record.state == "running"]
