"""A search from its configuration to its result, with real workers and real training of tiny networks."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from functools import partial

import pytest
import torch
from PIL import Image

from nas.errors import DataError, MeasureError, RunError, SpaceError, UsageError
from nas.net.lower import lower
from nas.search import start
from nas.search.archive import open_archive
from nas.search.budget import Meter
from nas.search.config import SearchConfig
from nas.search.halving import Halving
from nas.search.run import FRONT_COLUMNS, TRIAL_COLUMNS, RunFolder
from nas.search.settled import Settled
from nas.search.start import resume
from nas.search.storage import hold, open_storage
from nas.search.tally import read_tally
from nas.space.library import load_page
from tests.search.fakes import Clock
from tests.search.runs import config_of, no_view, quietly, write_data, write_page

KEYS = {"run", "space", "strategy", "trials", "budget", "wall_s", "front", "best", "message", "interrupted", "final",
        "rank_correlation", "rank_chance"}  # fmt: skip
FRONT_KEYS = {"trial", "val_accuracy", "test_accuracy", "latency_ms", "num_params", "macs", "identity", "latency_again_ms",
              "repeats", "accuracy_mean", "accuracy_sd", "ties"}  # fmt: skip


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A finished search of three trials: (folder of everything, its result, what it said)."""
    base = tmp_path_factory.mktemp("begun")
    said: list[str] = []
    config = config_of(write_data(base / "tiny.npz"), write_page(base / "many.yaml"), base / "run")
    return base, quietly(config, said), said


@pytest.fixture
def copied(begun, tmp_path):
    """A copy of that run, to be spoilt."""
    base, _, _ = begun
    shutil.copytree(base / "run", tmp_path / "run")
    return RunFolder(tmp_path / "run")


def table(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_images_of_different_sizes_are_scaled(tmp_path, monkeypatch):
    """Read by the driver, by its workers, by the test of the front, and again when the run is gone on with."""
    monkeypatch.chdir(tmp_path)
    for number in range(40):
        file = tmp_path / "photos" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8 + number % 3, 9), 90 * (number % 2)).save(file)
    write_page(tmp_path / "many.yaml")
    words = {"space": "many.yaml", "data": "photos", "budget": "2trials", "epochs": "1", "workers": "1", "run": "run",
             "objectives": "accuracy,num_params"}  # fmt: skip
    with pytest.raises(DataError, match="image_size=64 of nas search"):
        quietly(SearchConfig.from_words(words))
    config = SearchConfig.from_words({**words, "image_size": "8"})
    assert SearchConfig.from_words(config.to_mapping()) == config
    result = quietly(config)
    assert result.counts["completed"] == 2
    assert result.front[0][1] is not None
    assert Settled.read(result.folder).config.image_size == 8
    with pytest.raises(RunError, match="image_size"):
        quietly(SearchConfig.from_words({**words, "image_size": "9"}))


def test_the_document_has_the_contracted_keys_and_types(begun):
    _, result, _ = begun
    document = json.loads(json.dumps(result.document(), allow_nan=False))
    assert document.keys() == KEYS
    assert document["trials"].keys() == {"completed", "failed", "duplicate", "stopped"}
    assert all(isinstance(n, int) for n in document["trials"].values())
    assert document["trials"]["completed"] == 3
    assert document["budget"] == [{"asked": 3, "spent": 3, "unit": "trials"}]
    assert document["front"]
    for row in document["front"]:
        assert row.keys() == FRONT_KEYS
        assert 0 <= row["val_accuracy"] <= 1
        assert 0 <= row["test_accuracy"] <= 1
        assert row["latency_ms"] is None
        assert isinstance(row["num_params"], int)
        assert isinstance(row["macs"], int)
    assert document["best"] == max(document["front"], key=lambda row: row["val_accuracy"])


def test_the_folder_holds_everything(begun):
    base, result, said = begun
    run = base / "run"
    assert {path.name for path in run.iterdir()} >= {"config.yaml", "environment.json", "trials.csv", "front.csv", "best.yaml",
                                                     "log.txt",
                                                     "study.log", "weights"}  # fmt: skip
    assert not list(run.rglob("*.partial"))
    trials, front = table(run / "trials.csv"), table(run / "front.csv")
    assert tuple(trials[0]) == TRIAL_COLUMNS
    assert tuple(front[0]) == FRONT_COLUMNS
    assert [row["trial"] for row in trials] == ["0", "1", "2"]
    assert [float(row["test_accuracy"]) for row in front] == [row["test_accuracy"] for row in result.document()["front"]]
    environment = json.loads((run / "environment.json").read_text())
    assert environment.keys() >= {"python", "platform", "packages", "cpu", "cores", "gpus", "device", "workers",
                                  "threads_per_worker"}
    best = load_page(str(run / "best.yaml"))
    assert lower(best).num_params == result.document()["best"]["num_params"]
    assert any("2 epochs" in line for line in said)
    assert any("strategy: surrogate" in line for line in said)
    log = (run / "log.txt").read_text()
    assert all(f"trial {n} completed" in log for n in range(3))


def test_weights_of_the_front_are_kept(begun):
    base, result, _ = begun
    assert {int(path.stem) for path in (base / "run" / "weights").iterdir()} == {record.number for record, _ in result.front}


def test_the_written_configuration_repeats_the_search_exactly(begun):
    """One worker, one seed: the same architectures and the same metrics."""
    base, first, _ = begun
    config = SearchConfig.from_words({"config": str(base / "run" / "config.yaml"), "run": str(base / "again")})
    second = quietly(config)

    def what(run):
        return [{k: row[k] for k in ("state", "val_accuracy", "num_params", "macs", "identity",
                                     "seed")} for row in table(run / "trials.csv")]

    assert what(base / "run") == what(base / "again")
    assert [test for _, test in first.front] == [test for _, test in second.front]


@pytest.mark.slow  # a worker measures
def test_a_run_is_gone_on_with_by_a_machine_of_its_own_model(tmp_path, data, page, monkeypatch):
    monkeypatch.setenv("NAS_PROCESSOR", "board A")
    folder = RunFolder(tmp_path / "run")
    try:
        first = quietly(config_of(data, page, folder.path, objectives="accuracy,latency", budget="2trials"))
    except MeasureError:
        pytest.skip("the machine is too busy to measure on")
    if not first.counts["completed"]:
        pytest.skip("the machine was too busy to measure on")
    before = folder.config.read_text()
    monkeypatch.setenv("NAS_PROCESSOR", "board B")
    with pytest.raises(RunError, match="measured on another machine; expected board A; got 'board B'"):
        resume(folder, budget="+2trials", say=print, view=no_view)
    assert folder.config.read_text() == before


def test_a_run_goes_on_with_more_budget(copied):
    said: list[str] = []
    before = table(copied.trials)
    result = resume(copied, budget="+2trials", say=said.append, view=no_view)
    assert table(copied.trials)[:3] == before
    assert result.counts["completed"] == 5
    assert result.budget == [{"asked": 5, "spent": 5, "unit": "trials"}]
    assert Settled.read(copied).config.budget == "5trials"
    assert result.strategy == "surrogate"


def test_a_larger_budget_trains_on_from_the_checkpoints_of_those_that_waited(tmp_path, data, page, monkeypatch):
    words = {"early_stopping": "asha", "epochs": "3", "repeats": "0"}
    with monkeypatch.context() as patch:
        patch.setattr(Halving, "promotable", lambda self: None)  # as where the budget ends before anybody could go on
        quietly(config_of(data, page, tmp_path / "run", budget="4trials", **words))
    waited = {int(row["trial"]): row for row in table(tmp_path / "run" / "trials.csv") if row["state"] == "stopped"}
    assert {row["reason"] for row in waited.values()} == {"not promoted after 1 epoch"}
    assert {int(path.stem) for path in (tmp_path / "run" / "checkpoints").iterdir()} == waited.keys()
    result = quietly(config_of(data, page, tmp_path / "run", budget="5trials", **words))
    assert result.budget[0]["spent"] == 5
    with open_archive(str(tmp_path / "run")) as archive:
        promoted = [r for r in archive.study.records if r.number in waited and r.state == "completed"]
    assert promoted
    for record in promoted:
        row, curve = waited[record.number], record.attrs["curve"]
        assert (len(curve), curve[0]) == (3, pytest.approx(float(row["val_accuracy"]), abs=1e-6))
        assert record.attrs["train_s"] > float(row["train_s"])
        assert record.attrs["seconds"] > float(row["seconds"])


def test_a_moved_run_is_still_itself(copied, tmp_path):
    moved = tmp_path / "other name"
    copied.path.rename(moved)
    with open_archive(str(moved)) as archive:
        assert archive.counts == {"completed": 3}


def refused(folder, match, *, asked=None, kind=RunError, **words):
    config = folder.config.read_text()
    with pytest.raises(kind, match=match):
        resume(folder, asked=asked, say=lambda line: None, view=no_view, **words)
    assert folder.config.read_text() == config


def test_a_second_driver_is_refused_and_changes_nothing(copied):
    with open_storage(copied.study):
        refused(copied, "another process is driving this search", budget="+50trials")


@pytest.mark.parametrize("lose", [lambda study: study.unlink(), lambda study: study.write_bytes(b"")])
def test_a_run_whose_study_is_gone_is_refused_and_keeps_what_it_has(copied, lose):
    lose(copied.study)
    before = {path: path.read_bytes() for path in copied.path.rglob("*") if path.is_file() and path != copied.study}
    assert copied.trials in before
    refused(copied, "not in its storage any more.*trials.csv", budget="+2trials")
    assert {path: path.read_bytes() for path in before} == before


def test_a_budget_that_its_trials_never_spend_is_refused(copied):
    refused(copied, "would never be spent: the trials are on CPUs", kind=UsageError, budget="10gpuh")


def test_gpus_for_trials_on_cpus_are_refused(copied):
    asked = replace(Settled.read(copied).config, gpus_per_trial=1.0)
    refused(copied, r"the trials are on CPUs; got 'gpus_per_trial=1'", kind=UsageError, asked=asked)


def test_a_second_driver_is_refused_wherever_the_study_is(begun, tmp_path):
    """A database on a server has no lock of its own."""
    base, _, _ = begun
    folder = RunFolder(tmp_path / "run")
    config = config_of(base / "tiny.npz", base / "many.yaml", folder.path, storage=f"sqlite:///{tmp_path}/study.db",
                       budget="1trials")  # fmt: skip
    quietly(config)
    held = hold(folder.config)
    refused(folder, "another process is driving this search", budget="+50trials")
    held.release()
    assert quietly(replace(config, budget="2trials")).counts["completed"] == 2


def test_a_run_on_gpus_is_not_gone_on_with_where_there_is_none(copied, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    copied.config.write_text(copied.config.read_text().replace("device: cpu", "device: cuda"))
    assert Settled.read(copied).device == "cuda"
    refused(copied, "has none that torch can use", kind=UsageError)


def test_changed_data_is_refused(begun, copied, tmp_path):
    data = write_data(tmp_path / "tiny.npz", seed=1)
    text = copied.config.read_text()
    copied.config.write_text(text.replace(str(begun[0] / "tiny.npz"), str(data)))
    refused(copied, "the data is not what this run began with")
    data.unlink()
    refused(copied, "tiny.npz", kind=DataError)


@pytest.mark.parametrize(("words", "match"), [
    ({"seed": 1}, "another seed"), ({"epochs": 3}, "another epochs"), ({"objectives": "accuracy"}, "another objectives"),
    ({"constraint": "macs<=1M"}, "another constraint"), ({"strategy": "tpe"}, "another strategy"),
    ({"proxy": "width=0.5"}, "another proxy=width"),
    ({"deploy": "batch=8"}, "another deploy=batch"), ({"data": "digits"}, "another data"),
    ({"space": "nasnet_cell"}, "another space"),
    ({"runtime": "compile"}, "another runtime"), ({"early_stopping": "asha"}, "another early_stopping"),
    ({"recipe": "quick"}, "another recipe"), ({"formats": "py,pt2"}, "another formats"), ({"repeats": "50%"}, "another repeats"),
    ({"batch_size": 64}, "another batch_size"), ({"storage": "sqlite:///x.db"}, "another storage"),
])  # fmt: skip
def test_another_search_under_the_same_name_is_refused(begun, copied, words, match):
    base, _, _ = begun
    words = {"data": base / "tiny.npz", "page": base / "many.yaml", **words}
    if "space" in words:
        words["page"] = words.pop("space")
    refused(copied, match, asked=config_of(run=copied.path, **words))


def test_a_recipe_is_known_by_what_it_says_wherever_it_lies(tmp_path, data, page):
    first, second = tmp_path / "first.yaml", tmp_path / "job" / "first.yaml"
    second.parent.mkdir()
    first.write_text("epochs: 2\n")
    first_config = config_of(data, page, tmp_path / "run", budget="1trials", recipe=str(first))
    quietly(first_config)
    first.rename(second)
    moved = replace(first_config, recipe=str(second))
    assert quietly(moved).counts["completed"] == 1
    folder = RunFolder(tmp_path / "run")
    settled = Settled.read(folder)
    assert (settled.config.recipe, list(settled.digests)) == (str(second), [str(second)])
    second.write_text("epochs: 3\n")
    refused(folder, "another recipe; .*first.yaml, which says something else", asked=moved)


def test_a_page_that_was_edited_meanwhile_is_another_space(begun, copied, tmp_path):
    base, _, _ = begun
    page = write_page(tmp_path / "many.yaml", (base / "many.yaml").read_text().replace("[1, 3, 5, 7]", "[1, 3, 5]"))
    refused(copied, "another space", asked=config_of(base / "tiny.npz", page, copied.path))


@pytest.mark.parametrize("text", ["", "[]", "space: many", "a: [", "resolved: 3", "resolved: {plan: {}}"])
def test_a_damaged_configuration_is_told(copied, text):
    copied.config.write_text(text)
    refused(copied, r"configuration|mapping")


def test_a_search_is_refused_before_anything_is_made(tmp_path, data, page):
    for words, kind in [({"strategy": "genetic"}, UsageError), ({"space": "nope"}, SpaceError), ({"target": "phone"}, UsageError),
                        ({"data": str(tmp_path / "none.npz")}, DataError)]:  # fmt: skip
        with pytest.raises(kind):
            quietly(config_of(words.pop("data", data), words.pop("space", page), tmp_path / "run", **words))
        assert not (tmp_path / "run").exists()


def test_final_trainings_of_another_size_than_the_images_are_refused_at_once(begun, tmp_path):
    base, _, _ = begun
    words = {"deploy": "input=1x16x16", "final": "1", "budget": "3trials,60s"}
    with pytest.raises(UsageError, match=r"expected 1x16x16; got '1x8x8'.*final=0"):
        quietly(config_of(base / "tiny.npz", base / "many.yaml", tmp_path / "run", **words))
    assert not (tmp_path / "run").exists()


def test_a_recipe_of_ones_own_is_found_from_everywhere(begun, tmp_path, monkeypatch):
    base, _, _ = begun
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("like: quick\nsource: mine\nepochs: 3\n")
    config = config_of(base / "tiny.npz", base / "many.yaml", tmp_path / "run", recipe="mine.yaml", budget="1trials")
    quietly(config)
    assert Settled.read(RunFolder(tmp_path / "run")).config.recipe == str(tmp_path / "mine.yaml")
    quietly(replace(config, budget="2trials"))  # the same search


def test_a_storage_that_holds_such_a_search_already_is_not_taken_over(begun, tmp_path):
    base, _, _ = begun
    shutil.copy(base / "run" / "study.log", tmp_path / "shared.log")
    config = config_of(base / "tiny.npz", base / "many.yaml", tmp_path / "run", storage=str(tmp_path / "shared.log"))
    with pytest.raises(RunError, match="holds a search of that name"):
        quietly(config)
    assert not (tmp_path / "run" / "config.yaml").exists()


@pytest.fixture
def slowly(monkeypatch):
    """By a clock that goes for nothing else a call of that name takes so many seconds; the seconds of all."""
    clock, calls = Clock(), []
    monkeypatch.setattr(start, "Meter", partial(Meter, clock=clock))

    def takes(name, seconds, error=None):
        real = getattr(start, name)

        def call(*args, **words):
            calls.append(seconds)
            clock.now += seconds
            if error:
                raise error
            return real(*args, **words)

        monkeypatch.setattr(start, name, call)
        return calls

    return takes


def test_planning_and_the_test_of_the_front_are_spent(tmp_path, data, page, slowly):
    slowly("plan_search", 100.0)
    calls = slowly("test_accuracy", 1.0)
    for budget in ("1cpuh,1trials", "1cpuh,2trials"):  # a new run, and one that goes on
        result = quietly(config_of(data, page, tmp_path / "run", budget=budget, repeats="0"))
        assert result.budget[0]["spent"] * 3600 == pytest.approx(sum(calls))
    assert calls.count(100.0) == 1
    assert calls.count(1.0) >= 2
    with open_archive(str(tmp_path / "run")) as archive:
        assert archive.study.spent["cpu"] == pytest.approx(sum(calls))


def test_timing_the_reference_network_is_spent_also_by_a_search_that_ends_there(tmp_path, data, page, slowly):
    calls = slowly("calibrate", 10.0, MeasureError("this machine is busy"))
    slowly("plan_search", 100.0)
    for spent in (110.0, 120.0):
        with pytest.raises(MeasureError):
            quietly(config_of(data, page, tmp_path / "run", budget="1cpuh", objectives="accuracy,latency"))
        assert read_tally(tmp_path / "run" / "spent.bin")["cpu"] == pytest.approx(spent) == pytest.approx(sum(calls))


@pytest.mark.parametrize("objectives", ["accuracy", "accuracy,num_params,macs"])
@pytest.mark.slow
def test_other_objectives_and_sqlite(tmp_path, data, page, objectives):
    words = {"objectives": objectives, "storage": f"sqlite:///{tmp_path}/study.db", "budget": "4trials"}
    result = quietly(config_of(data, page, tmp_path / "my run", **words))
    assert result.counts["completed"] == 4
    with open_archive(str(tmp_path / "my run")) as archive:
        assert archive.counts["completed"] == 4
        assert [r.number for r in archive.front()] == [r.number for r, _ in result.front]


@pytest.mark.slow
def test_with_measured_latency(tmp_path, data, page):
    result = quietly(config_of(data, page, tmp_path / "run", objectives="accuracy,latency", constraint="latency<=100s"))
    for row in table(tmp_path / "run" / "trials.csv"):
        assert row["state"] == "completed" or "measurement was refused" in row["reason"]
        if row["state"] == "completed":
            assert 0 < float(row["latency_low_ms"]) <= float(row["latency_ms"]) <= float(row["latency_high_ms"])
    for record, _ in result.front:
        assert record.attrs["latency"]["batch"] == 1


@pytest.mark.slow
def test_a_latency_limit_that_nothing_keeps_trains_nothing(tmp_path, data, page):
    result = quietly(config_of(data, page, tmp_path / "run", objectives="accuracy,latency", constraint="latency<=1us",
                               budget="20s"))
    assert result.counts.get("completed", 0) == 0
    assert result.front == ()
    for row in table(tmp_path / "run" / "trials.csv"):
        assert row["train_s"] == ""
        assert row["state"] == "duplicate" or "breaks latency<=" in row["reason"] or "measurement was refused" in row["reason"] \
            or "spent" in row["reason"]  # fmt: skip
