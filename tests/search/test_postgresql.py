"""A study in a real PostgreSQL server, started here for the test."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nas.search.objectives import parse_objectives
from nas.search.samplers import RandomSampler
from nas.search.storage import open_storage
from nas.search.study import SearchStudy
from tests.search.spaces import space

PROGRAMS = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database."""
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
        call(*control, "-w", "-o", options, "-l", str(folder / "log"), "start")
        yield f"postgresql://nas@127.0.0.1:{port}/postgres"
        call(*control, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_a_study_goes_on_in_postgresql(database: str) -> None:
    small, objectives = space("conditional"), parse_objectives("accuracy")
    for expected in (0, 3):
        with open_storage(database) as storage:
            study = SearchStudy(storage, small, objectives)
            assert [record.state for record in study.records] == ["completed"] * expected
            for _ in range(3):
                record, architecture = study.ask(RandomSampler(small, seed=1))
                assert record.decisions == dict(architecture.decisions)
                study.tell(record.number, "completed", metrics={"accuracy": 0.5})
    assert [record.number for record in study.records] == list(range(6))
