"""Searches that are killed or stop early, and what their folders say."""

from __future__ import annotations

import csv
from dataclasses import replace

import optuna
import pytest

from tests.search.fakes import FakeExecutor, a_loop, accuracy_of, settled


def rows(folder):
    with (folder / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def told(folder):
    """What the table says of each trial."""
    table = {int(row["trial"]): row for row in rows(folder)}
    assert len(table) == len(rows(folder))
    return table


def stored(folder):
    """The trials as Optuna alone reads them."""
    backend = optuna.storages.journal.JournalFileBackend(str(folder / "study.log"))
    return optuna.load_study(study_name="run", storage=optuna.storages.JournalStorage(backend)).get_trials()


class Killed(BaseException):
    """The driver dies here, without a chance to write anything."""


def killed_at(folder, poll, chosen, outcome=accuracy_of, slots=2, **options):
    """Run until the given poll and leave everything as a kill -9 would."""
    executor = FakeExecutor(outcome, slots=slots, **options)
    left = [poll]

    def count():
        left[0] -= 1
        if left[0] < 0:
            raise Killed

    executor.on_poll = count
    executor.close = lambda grace=0.0: []
    with a_loop(folder, executor, chosen, **options) as loop:
        loop.ledger.save = lambda: None
        with pytest.raises(Killed):
            loop.run()


def with_asha(**words):
    chosen = settled(early_stopping="asha", **words)
    return replace(chosen, plan=replace(chosen.plan, recipe=replace(chosen.plan.recipe, epochs=9)))


def epochs_of(executor):
    """Epochs that each trial was trained for, job by job."""
    stages = {}
    for job in executor.submitted:
        if job.payload["stage"]["do"] == "train":
            stages.setdefault(job.trial, []).append(job.payload["stage"]["epochs"])
    return stages
