"""A run's document: plain JSON that adds up."""

from __future__ import annotations

import json
import shlex

import pytest

from nas.report.run.document import run_document
from nas.search.archive import open_archive
from nas.search.config import SearchConfig
from tests.cli.contract import contract
from tests.report.scripted import IMAGES


@pytest.fixture(scope="module")
def document(scripted):
    with open_archive(scripted) as archive:
        return run_document(archive)


def test_it_has_the_documented_keys(document) -> None:
    assert set(document) == contract("JSON of report")
    assert {key for trial in document["trials"] for key in trial} == contract("JSON of a trial of a report")


def test_it_is_json(document) -> None:
    assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_every_trial_is_there_with_its_error(document) -> None:
    assert [t["trial"] for t in document["trials"]] == list(range(len(document["trials"])))
    assert {t["phase"] for t in document["trials"]} == {"search", "baseline"}
    for trial in document["trials"]:
        accuracy = trial["metrics"].get("accuracy")
        if accuracy is not None:
            assert trial["accuracy_error"] == pytest.approx((accuracy * (1 - accuracy) / IMAGES) ** 0.5)
    assert sum(document["counts"].values()) == len(document["trials"])


def test_the_front_is_within_the_limits(document) -> None:
    front = [t for t in document["trials"] if t["front"]]
    assert sorted(t["trial"] for t in front) == document["front"] != []
    assert all(t["metrics"]["latency"] <= 4.5 for t in front)


def test_ties_are_marked_on_the_front_and_off_it(document) -> None:
    rows = {t["trial"]: t for t in document["trials"]}
    tied = [t for t in document["trials"] if t["ties"]]
    assert {t["front"] for t in tied} == {True, False}
    for t in tied:
        assert t["state"] == "completed"
        assert set(t["ties"]) <= set(document["front"]) - {t["trial"]}
        for number in t["ties"]:
            good, member = (rows[number], t) if t["front"] else (t, rows[number])
            error = 1.96 * (t["accuracy_error"] ** 2 + rows[number]["accuracy_error"] ** 2) ** 0.5
            assert good["metrics"]["accuracy"] >= member["metrics"]["accuracy"] - error


def test_what_was_spent_adds_up(document) -> None:
    spent = document["spending"]
    for phase, row in spent.items():
        trials = [t for t in document["trials"] if t["phase"] == phase]
        assert row["trials"] == len(trials)
        assert row["failed"] == sum(t["state"] == "failed" for t in trials)
        total = row["training_s"] + row["measuring_s"] + row["other_s"] + row["failed_s"] + row["stopped_s"]
        assert total >= sum(t["seconds"] or 0.0 for t in trials) - 1e-6
    assert sum(row["failed"] for row in spent.values()) == document["counts"]["failed"] > 0


def test_search_and_baseline_are_compared_at_equal_cost(document) -> None:
    growth = document["hypervolume"]
    assert growth["equal_s"] == min(growth["search"]["end_s"], growth["baseline"]["end_s"])
    assert 0 < growth["at_equal"]["baseline"] <= 1
    assert growth["at_equal"]["search"] == max(
        v for s, v in zip(growth["search"]["spent_s"], growth["search"]["share"], strict=True) if s <= growth["equal_s"])


def test_repeats_final_and_peers(document) -> None:
    (again,) = document["repeats"]
    assert again["accuracies"][1:] == [0.5, 0.7]
    assert again["mean"] == pytest.approx(sum(again["accuracies"]) / 3)
    assert len(document["final"]["trials"]) == 4
    assert document["final"]["rank_correlation"] == pytest.approx(1.0)
    assert [p["accuracy"] for p in document["peers"]] == [0.7]


def test_the_command_says_the_same_search(scripted, document) -> None:
    program, verb, *words = shlex.split(document["run"]["command"])
    assert (program, verb) == ("nas", "search")
    keys: dict = {}
    for word in words:
        key, _, value = word.partition("=")
        keys[key] = [*keys[key], value] if key in keys else [value] if key in ("constraint", "plugins") else value
    with open_archive(scripted) as archive:
        assert SearchConfig.from_words(keys).to_mapping() == {
            k: v for k, v in archive.config.to_mapping().items() if k != "run"}
