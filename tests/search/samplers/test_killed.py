"""Several processes search one study, each killed at random moments and started again: the search goes on."""

import fcntl
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import optuna
import pytest
import torch  # before processes fork, so that none spends its life importing it
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock
from optuna.trial import TrialState

from nas.search.samplers import STRATEGIES
from nas.space.parse import parse_text
from nas.space.search_space import SearchSpace
from tests.search.spaces import CONDITIONAL
from tests.search.test_samplers import SMALL

PROCESSES, KILLS = 3, 6
QUICK = ("local_search", "pnas")


class KernelLock(BaseJournalFileLock):
    """Let go of by the kernel when its holder is killed: Optuna's own is a file that stays, and is waited for for 30 s."""

    def __init__(self, path: Path) -> None:
        self.path, self.file = path.with_suffix(".lock"), -1

    def acquire(self) -> bool:
        self.file = os.open(self.path, os.O_CREAT | os.O_RDWR)
        fcntl.flock(self.file, fcntl.LOCK_EX)
        return True

    def release(self) -> None:
        os.close(self.file)


def study_of(path: Path, strategy: str, *, create: bool = False) -> optuna.Study:
    storage = JournalStorage(JournalFileBackend(str(path), lock_obj=KernelLock(path)))
    sampler = STRATEGIES[strategy](SearchSpace(parse_text(CONDITIONAL)), seed=0, **SMALL[strategy])
    if create:
        return optuna.create_study(study_name="s", storage=storage, sampler=sampler, direction="maximize")
    return optuna.load_study(study_name="s", storage=storage, sampler=sampler)


def search(path: Path, strategy: str, acknowledged: Path) -> None:
    """Until it is killed. Notes every trial whose completion was confirmed to it."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    study = study_of(path, strategy)
    space = SearchSpace(parse_text(CONDITIONAL))
    with acknowledged.open("a") as notes:
        while True:
            trial = study.ask()
            value = float(len(str(sorted(space.suggest(trial).decisions.items()))))
            time.sleep(0.002)
            study.tell(trial, value)
            notes.write(f"{trial.number} {value}\n")
            notes.flush()


@pytest.mark.parametrize("strategy", [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in STRATEGIES])  # fmt: skip
def test_a_search_survives_its_killed_processes(strategy, tmp_path):
    path, acknowledged = tmp_path / "journal", tmp_path / "acknowledged"
    study_of(path, strategy, create=True)
    context, rng = multiprocessing.get_context("fork"), random.Random(strategy)

    def start():
        process = context.Process(target=search, args=(path, strategy, acknowledged))
        process.start()
        return process

    workers, lengths = [start() for _ in range(PROCESSES)], []
    try:
        for victim in rng.sample([*range(PROCESSES)] * (KILLS // PROCESSES), KILLS):
            time.sleep(rng.uniform(0.05, 0.2))
            assert workers[victim].exitcode is None, "a process ended by itself: an exception"
            os.kill(workers[victim].pid, signal.SIGKILL)
            workers[victim].join()
            lengths.append(acknowledged.stat().st_size if acknowledged.exists() else 0)
            workers[victim] = start()
        deadline = time.monotonic() + 30
        while not acknowledged.exists() or acknowledged.stat().st_size <= lengths[-1] + 200:
            assert all(worker.exitcode is None for worker in workers)
            assert time.monotonic() < deadline, "the search does not go on"
            time.sleep(0.02)
    finally:
        for worker in workers:
            os.kill(worker.pid, signal.SIGKILL)
            worker.join()
    study = study_of(path, strategy)
    space = SearchSpace(parse_text(CONDITIONAL))
    for line in acknowledged.read_text().splitlines():
        number, value = line.split()
        assert study.trials[int(number)].value == float(value)
    done = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    for trial in done:
        assert dict(space.architecture(trial.params).decisions) == trial.params
    assert len({tuple(sorted(trial.params.items())) for trial in done}) > 8
    trial = study.ask()
    assert space.architecture(space.suggest(trial).decisions)
