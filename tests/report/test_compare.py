"""Runs side by side."""

from __future__ import annotations

import json

import pytest

from nas.errors import UsageError
from nas.report.compare import compare_documents
from nas.search.archive import open_archive
from tests.cli.contract import contract
from tests.report.scripted import scripted_run


def test_runs_share_one_box_and_are_told_apart(scripted, tmp_path) -> None:
    other = scripted_run(tmp_path / "other", 12, data="cifar10", seed=1)
    with open_archive(scripted) as one, open_archive(other) as two:
        document = compare_documents([one, two])
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert set(document) == contract("JSON of compare")
    assert all(set(run) == contract("JSON of a run compared") for run in document["runs"])
    assert [run["name"] for run in document["runs"]] == ["a run", "other"]
    assert document["equal_s"] == min(run["growth"]["end_s"] for run in document["runs"])
    assert all(0 < run["at_equal"] <= 1 for run in document["runs"])
    assert document["notes"] == ["data differs: accuracies do not compare"]
    for run in document["runs"]:
        assert run["best"]["metrics"]["accuracy"] == max(t["metrics"]["accuracy"] for t in run["front"])


def test_runs_of_other_objectives_are_refused(scripted, tmp_path) -> None:
    other = scripted_run(tmp_path / "other", 4, objectives="accuracy,num_params")
    with open_archive(scripted) as one, open_archive(other) as two, pytest.raises(UsageError, match="different objectives"):
        compare_documents([one, two])
