"""A study in a real PostgreSQL server, started here for the test."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from nas.errors import RunError
from nas.search.objectives import parse_objectives
from nas.search.samplers import RandomSampler
from nas.search.storage import open_storage
from nas.search.study import SearchStudy
from tests.search.fakes import FakeExecutor, a_loop, run_loop
from tests.search.spaces import space

PROGRAMS = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)


class Server(NamedTuple):
    url: str
    stop: Callable[[], None]
    start: Callable[[], None]


@pytest.fixture
def server() -> Iterator[Server]:
    """A server with an empty database."""
    if PROGRAMS is None:
        pytest.skip("no PostgreSQL server is installed (Debian: apt-get install postgresql)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = Path("/tmp") / f"nas-postgresql-{os.getpid()}"
    folder.mkdir(mode=0o700)
    as_user: list[str] = []
    if os.getuid() == 0:  # the server refuses to run as root
        shutil.chown(folder, "nobody")
        as_user = ["setpriv", "--reuid=nobody", "--clear-groups", "--"]
    control = [*as_user, str(PROGRAMS / "pg_ctl"), "-D", str(folder / "data")]
    options = f"-p {port} -k {folder} -h 127.0.0.1 -c fsync=off"

    def call(*words: str) -> None:
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, cwd="/")

    try:
        call(*as_user, str(PROGRAMS / "initdb"), "-D", str(folder / "data"), "-A", "trust", "-U", "nas")
        start = partial(call, *control, "-w", "-o", options, "-l", str(folder / "log"), "start")
        start()
        yield Server(f"postgresql://nas:secret@127.0.0.1:{port}/postgres", partial(call, *control, "-m", "fast", "stop"), start)
        call(*control, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_a_study_goes_on_in_postgresql(server: Server) -> None:
    small, objectives = space("conditional"), parse_objectives("accuracy")
    for expected in (0, 3):
        with open_storage(server.url) as storage:
            study = SearchStudy(storage, small, objectives)
            assert [record.state for record in study.records] == ["completed"] * expected
            for _ in range(3):
                record, architecture = study.ask(RandomSampler(small, seed=1))
                assert record.decisions == dict(architecture.decisions)
                study.tell(record.number, "completed", metrics={"accuracy": 0.5})
    assert [record.number for record in study.records] == list(range(6))


@pytest.mark.slow
def test_a_server_that_restarts_in_the_middle_of_a_search_ends_it_with_one_error(server: Server, tmp_path: Path) -> None:
    executor = FakeExecutor(slots=2)

    def restart() -> None:
        if len(executor.submitted) == 4:
            executor.on_poll = lambda: None
            server.stop()

    executor.on_poll = restart
    with a_loop(tmp_path, executor, storage=server.url) as loop:
        with pytest.raises(RunError, match=r"the database fails: .*`nas resume` goes on where the search stopped") as error:
            loop.run()
        assert "secret" not in str(error.value)
        assert len(str(error.value).splitlines()) == 1
    assert executor.closed
    server.start()
    assert run_loop(tmp_path, storage=server.url).ledger.counts["completed"] == 10
