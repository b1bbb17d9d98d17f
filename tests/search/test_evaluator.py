"""One candidate in this process: what is measured, trained, reported, refused and kept."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from nas.errors import DataError, MeasureError, TrainError, UnsupportedError
from nas.measure.lock import device_lock
from nas.measure.metrics import measure_metrics
from nas.measure.protocol import Limits
from nas.net.build import build
from nas.net.lower import lower
from nas.search import evaluator
from nas.search.evaluator import evaluate, size_of
from nas.search.executors.base import Finished, Job, Progress
from nas.search.executors.local import LocalExecutor
from nas.search.run import RunFolder
from nas.search.settled import size_words
from nas.search.start import payload_of
from nas.space.unparse import to_page
from nas.train.checkpoint import load_weights, save_weights
from nas.train.data import load_data
from nas.train.shared import share
from tests.search.executors.contract import ends, wait
from tests.search.fakes import MANY, settled, space_of


@pytest.fixture
def architecture():
    import random

    return space_of(MANY).sample(random.Random(1))


@pytest.fixture
def payload(tmp_path, data, architecture):
    chosen = settled(data=str(data))
    plan = chosen.plan
    plan = replace(plan, recipe=replace(plan.recipe, epochs=3), proxy=replace(plan.proxy, num_classes=3),
                   deploy=replace(plan.deploy, num_classes=3))
    payload = payload_of(replace(chosen, plan=plan), RunFolder(tmp_path))
    return {**payload, "page": to_page(architecture.spec), "weights": str(tmp_path / "0.pt"),
            "checkpoint": str(tmp_path / "checkpoints" / "0.pt"), "stage": {"do": "train", "epochs": 3}}  # fmt: skip


def test_an_evaluation_trains_reports_and_keeps_its_weights(payload, architecture):
    said = []
    result = evaluate(payload, lambda values: said.append(dict(values)) or False)
    assert [values["epoch"] for values in said] == [1, 2, 3]
    assert result["metrics"] == said[-1]["metrics"]
    assert result["metrics"]["accuracy"] == pytest.approx(result["curve"][-1], abs=1e-6)
    assert result["stopped"] is False
    assert not Path(payload["checkpoint"]).exists()
    data = load_data(payload["data"]["source"], seed=0)
    assert 0 <= evaluator.test_accuracy(architecture, payload, data) <= 1


@pytest.mark.parametrize("do", ["train", "final"])
def test_a_training_is_alive_between_two_epochs(payload, tmp_path, monkeypatch, do):
    monkeypatch.setattr(evaluator, "ALIVE_EVERY_S", 0.0)
    stage = {"do": do, "epochs": 3, "folder": str(tmp_path / "final"), "name": "n", "seconds": None, "recipe": "quick"}
    said = []
    evaluate({**payload, "stage": stage}, lambda values: said.append(dict(values)) or values.get("epoch") == 1)
    assert {} in said[: said.index(next(filter(None, said)))], "the first epoch's end is not the first sign of life"


def test_the_same_payload_gives_the_same_figures(payload):
    first, second = (evaluate(payload, lambda values: False) for _ in range(2))
    assert {**first, "train_s": 0} == {**second, "train_s": 0}
    other = evaluate({**payload, "seed": 1}, lambda values: False)
    assert other["train_loss"] != first["train_loss"]


def test_a_stop_ends_it_after_the_epoch(payload):
    result = evaluate(payload, lambda values: values["epoch"] == 2)
    assert result["stopped"] is True
    assert result["epochs"] == 2
    assert not Path(payload["weights"]).exists()
    last = evaluate(payload, lambda values: values["epoch"] == 3)
    assert last["stopped"] is False  # it was finished anyway


def test_a_training_in_two_jobs_is_the_training_in_one(payload, tmp_path):
    whole = evaluate(payload, lambda values: False)
    weights = torch.load(payload["weights"], weights_only=True)
    rung = evaluate({**payload, "stage": {"do": "train", "epochs": 1}}, lambda values: False)
    assert (rung["epochs"], rung["stopped"], rung["curve"]) == (1, False, whole["curve"][:1])
    rest = evaluate(payload, lambda values: False)
    assert (rest["metrics"], rest["curve"]) == (whole["metrics"], whole["curve"])
    assert all(torch.equal(value, weights[key]) for key, value in torch.load(payload["weights"], weights_only=True).items())


def test_a_damaged_checkpoint_costs_only_time(payload):
    whole = evaluate(payload, lambda values: False)
    evaluate({**payload, "stage": {"do": "train", "epochs": 1}}, lambda values: False)
    checkpoint = Path(payload["checkpoint"])
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    assert evaluate(payload, lambda values: False)["metrics"] == whole["metrics"]


def test_a_diverging_candidate_says_so(payload):
    payload["recipe"] = {**payload["recipe"], "learning_rate": 1e30, "grad_clip": 1e30, "warmup_epochs": 0.0}
    with pytest.raises(TrainError, match="diverged"):
        evaluate(payload, lambda values: False)


MEASURE = {"target": "cpu", "batch": 4, "threads": 1, "runtime": "eager", "metrics": ["latency", "memory"], "anchors": "."}


class Measured:
    median_ms, low_ms, high_ms = 2.0, 1.9, 2.1

    def to_mapping(self):
        return {"batch": 1}


def figures(metrics):
    return Measured(), dict.fromkeys(metrics, 2.0)


@pytest.fixture
def measured(monkeypatch, payload):
    calls = []
    monkeypatch.setattr(evaluator, "MEASURE_PAUSE_S", 0.0)
    monkeypatch.setattr(evaluator, "measure_metrics",
                        lambda target, graph, metrics, **how: calls.append((target, graph, how)) or figures(metrics))
    payload["measure"] = MEASURE
    return calls


def test_the_deployed_network_is_measured(payload, measured):
    payload["deploy"] = size_words(replace(size_of(payload["proxy"]), width=2.0, input=(3, 16, 16), num_classes=7))
    result = evaluate({**payload, "stage": {"do": "measure"}}, lambda values: False)
    (target, graph, how), = measured
    assert target == "cpu"
    assert graph.inputs[0][1] == (3, 16, 16)
    assert graph.shape == (7,)
    assert (how["batch"], how["runtime"]) == (4, "eager")
    assert result["metrics"] == {"latency": 2.0, "memory": 2.0}
    assert (result["latency_low_ms"], result["latency_high_ms"]) == (1.9, 2.1)
    assert result["latency"] == {"batch": 1}
    assert not Path(payload["weights"]).exists()


def test_memory_alone_has_no_latency_to_tell(payload):
    payload["measure"] = {"target": "cpu", "batch": 4, "threads": 1, "runtime": "eager", "metrics": ["memory"], "anchors": "."}
    with device_lock("cpu"):
        result = evaluate({**payload, "stage": {"do": "measure"}}, lambda values: False)
    assert result.keys() == {"metrics", "measure_s"}
    assert result["metrics"].keys() == {"memory"}


def test_the_proxy_is_trained(payload, architecture):
    evaluate(payload, lambda values: False)
    weights = torch.load(payload["weights"], weights_only=True)
    assert weights.keys() == build(lower(architecture, size_of(payload["proxy"]))).state_dict().keys()


def test_a_refused_measurement_is_tried_again(payload, measured, monkeypatch):
    tries = []

    def refuse(*args, **how):
        tries.append(1)
        if len(tries) < 3:
            raise MeasureError("busy")
        return figures(["latency"])

    payload["stage"] = {"do": "measure"}
    monkeypatch.setattr(evaluator, "measure_metrics", refuse)
    assert evaluate(payload, lambda values: False)["metrics"] == {"latency": 2.0}
    tries.clear()
    monkeypatch.setattr(evaluator, "MEASURE_ATTEMPTS", 2)
    assert evaluate(payload, lambda values: False) == {"refused": "busy"}


def test_a_network_that_an_engine_cannot_take_is_a_failure_at_once(payload, measured, monkeypatch):
    """No busy machine: it is neither tried again nor counted among the refusals that end a search."""
    def refuse(*args, **how):
        raise UnsupportedError("no such operation")

    payload["stage"] = {"do": "measure"}
    monkeypatch.setattr(evaluator, "measure_metrics", refuse)
    with pytest.raises(UnsupportedError):
        evaluate(payload, lambda values: pytest.fail("told as refused"))


def test_a_stop_ends_the_waiting_for_a_quiet_machine(payload, measured, monkeypatch):
    def refuse(*args, **how):
        raise MeasureError("busy")

    said = []
    payload["stage"] = {"do": "measure"}
    monkeypatch.setattr(evaluator, "measure_metrics", refuse)
    result = evaluate(payload, lambda values: said.append(dict(values)) or True)
    assert result == {"stopped": True}
    assert said == [{"refused": 1}]


def test_a_stop_reaches_a_measurement_between_two_runs(payload, monkeypatch, tmp_path):
    """It would go on for an hour; the driver's third answer is that it shall not."""
    endless = Limits(warmup_s=3600, min_s=3600, max_s=3600)
    monkeypatch.setattr(evaluator, "ASK_EVERY_S", 0.0)
    monkeypatch.setattr(evaluator, "measure_metrics", partial(measure_metrics, limits=endless))
    payload["stage"] = {"do": "measure"}
    payload["measure"] = {**MEASURE, "anchors": str(tmp_path)}
    said = []
    assert evaluate(payload, lambda values: said.append(dict(values)) or len(said) == 3) == {"stopped": True}
    assert said == [{}] * 3


@pytest.mark.slow  # a worker imports torch
def test_a_stop_reaches_a_worker_that_measures(payload, monkeypatch, tmp_path):
    """In a process of its own, while it waits for a device that never becomes free."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    payload["stage"] = {"do": "measure"}
    payload["measure"] = {**MEASURE, "anchors": str(tmp_path)}
    with device_lock("cpu"), LocalExecutor("nas.search.evaluator:evaluate", workers=1, gpus_per_trial=0) as executor:
        executor.submit(Job(trial=1, payload=payload, timeout=60.0))
        wait(executor, lambda events: any(isinstance(event, Progress) for event in events), seconds=60)
        executor.stop(1)
        end = ends(wait(executor, ends))[1]
        assert isinstance(end, Finished)
        assert end.result == {"stopped": True}


def test_a_final_training_takes_the_copy_that_travelled_where_the_source_is_not(tmp_path, data):
    whole = load_data(str(data), seed=0)
    words = {"source": str(data), "seed": 0, "image_size": None, "shared": str(share(whole, tmp_path / "shared"))}
    here = evaluator.whole_dataset(words)
    elsewhere = evaluator.whole_dataset({**words, "source": str(tmp_path / "no.npz")})
    assert here.fingerprint == elsewhere.fingerprint == whole.fingerprint
    assert len(here.test()) == len(whole.test())
    with pytest.raises(DataError, match="sealed"):
        elsewhere.test()
    with pytest.raises(DataError, match=r"no\.npz"):
        evaluator.whole_dataset({**words, "source": str(tmp_path / "no.npz"), "shared": None})


def test_damaged_weights_are_told(tmp_path, architecture):
    network = build(lower(architecture))
    path = tmp_path / "a.pt"
    save_weights(network, path)
    load_weights(network, path)
    whole = path.read_bytes()
    for content in (b"", b"no weights", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(TrainError, match="cannot be loaded"):
            load_weights(network, path)
    torch.save({"other": torch.zeros(1)}, path)
    with pytest.raises(TrainError, match="cannot be loaded"):
        load_weights(network, path)
    with pytest.raises(TrainError, match="cannot be loaded"):
        load_weights(network, tmp_path / "none.pt")
