"""Loggers, read back from the files that TensorBoard and MLflow keep."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import Any

import pytest

from nas.errors import UsageError
from nas.report.loggers import LOGGERS, open_loggers
from nas.report.loggers.base import TrialLogger
from nas.search.callbacks import Beginning, Callbacks, Moment
from nas.search.objectives import parse_constraint, parse_objectives
from nas.search.study import Record

OBJECTIVES = parse_objectives("accuracy,latency")


def trial(number: int, accuracy: float, latency: float, state: Any = "completed") -> Record:
    metrics = {"accuracy": accuracy, "latency": latency, "num_params": 10.0} if state == "completed" else {}
    decisions = {"network.a": f"<op {number}>", "network.b.kernel_size": 3}
    return Record(number=number, decisions=decisions, state=state, metrics=metrics, attrs={"seconds": 1.5})


PAST = [trial(0, 0.5, 2.0), trial(1, 0.0, 0.0, "failed"), trial(2, 0.75, 1.0)]
FRONTS = [PAST[:1], PAST[:1], PAST[2:]]
VOLUMES = [0.5 * 0.5, 0.5 * 0.5, 0.75 * 0.75]
"""The box: accuracy 0 to 1, latency 0 to twice the first trial's, 4 ms."""


def beginning(folder: Path, records: list[Record], **words: Any) -> Beginning:
    given = {"name": "a run", "config": {"space": "many", "budget": "3min"}, "objectives": OBJECTIVES, "constraints": ()}
    return Beginning(folder=folder, records=records, **{**given, **words})


def moment(number: int) -> Moment:
    budget = [{"asked": 3.0, "spent": number + 0.5, "unit": "min"}]
    return Moment(budget=budget, counts={"completed": number + 1}, front=FRONTS[number])


def drive(logger: TrialLogger, folder: Path) -> None:
    """A search of three trials that is resumed after two."""
    for start, end in ((0, 2), (2, 3)):
        logger.on_search_start(beginning(folder, PAST[:start]))
        for number in range(start, end):
            logger.on_trial_end(PAST[number], moment(number))
        logger.on_search_end("the budget is spent")


def test_tensorboard_shows_every_trial_once(tmp_path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    drive(open_loggers("tensorboard")[0], tmp_path)
    found = EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    scalars = {tag: [(e.step, pytest.approx(e.value)) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}
    assert scalars["accuracy"] == [(0, 0.5), (2, 0.75)]
    assert scalars["front/hypervolume"] == list(enumerate(VOLUMES))
    assert scalars["budget/min"] == [(0, 0.5), (1, 1.5), (2, 2.5)]
    assert scalars["time/seconds"] == [(0, 1.5), (1, 1.5), (2, 1.5)]
    one = EventAccumulator(str(tmp_path / "tensorboard" / "trial-2"))
    one.Reload()
    assert "network.a" in str(one.SummaryMetadata("_hparams_/session_start_info").plugin_data.content)
    assert "<op 2>" in str(one.SummaryMetadata("_hparams_/session_start_info").plugin_data.content)
    assert not (tmp_path / "tensorboard" / "trial-1").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")
def test_mlflow_has_a_run_with_a_run_below_it_for_every_trial(tmp_path, monkeypatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    drive(open_loggers("mlflow")[0], tmp_path)
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("nas").experiment_id])
    (search,) = [r for r in runs if "mlflow.parentRunId" not in r.data.tags]
    trials = sorted((r for r in runs if r is not search), key=lambda r: int(r.data.tags["nas.trial"]))
    assert search.data.params == {"space": "many", "budget": "3min"}
    assert (search.info.run_name, search.info.status) == ("a run", "FINISHED")
    history = client.get_metric_history(search.info.run_id, "front/hypervolume")
    assert [(m.step, pytest.approx(m.value)) for m in history] == list(enumerate(VOLUMES))
    assert [t.info.status for t in trials] == ["FINISHED", "FAILED", "FINISHED"]
    assert all(t.data.tags["mlflow.parentRunId"] == search.info.run_id for t in trials)
    assert trials[2].data.params == {"network.a": "<op 2>", "network.b.kernel_size": "3"}
    assert trials[2].data.metrics["accuracy"] == 0.75


@pytest.mark.parametrize("name", LOGGERS)
def test_a_missing_package_is_told_with_the_command(name, monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    with pytest.raises(UsageError, match=rf'pip install "nas\[{name}\]"'):
        open_loggers(name)


def test_an_unknown_logger_is_told() -> None:
    with pytest.raises(UsageError, match="Did you mean 'tensorboard'"):
        open_loggers("tensorbord")
    assert open_loggers(" , ") == []


class Heard(TrialLogger):
    package, install = "logging", ""

    def open(self, beginning: Beginning) -> None:
        self.said: list[dict[str, float]] = []

    def log(self, record: Record, values: Any) -> None:
        self.said.append(dict(values))

    def close(self) -> None:
        self.closed = True


def test_a_limit_is_the_side_of_the_box(tmp_path) -> None:
    heard = Heard()
    heard.on_search_start(beginning(tmp_path, [], constraints=[parse_constraint("latency<=2ms")]))
    heard.on_trial_end(PAST[2], moment(2))
    assert heard.said[0]["front/hypervolume"] == pytest.approx(0.75 * 0.5)


def test_before_anything_is_completed_there_is_no_volume(tmp_path) -> None:
    heard = Heard()
    heard.on_search_start(beginning(tmp_path, []))
    heard.on_trial_end(PAST[1], Moment(budget=[], counts={"failed": 1}, front=[]))
    assert heard.said == [{"trials/failed": 1.0, "front/size": 0.0, "time/seconds": 1.5}]


def test_a_listener_that_fails_is_told_once_and_the_others_go_on(tmp_path, caplog) -> None:
    class Broken(Heard):
        def log(self, record: Record, values: Any) -> None:
            raise OSError("no room")

    said: list[str] = []
    heard, broken = Heard(), Broken()
    callbacks = Callbacks([broken, heard], logging.getLogger("nas.test"), said.append)
    callbacks.on_search_start(beginning(tmp_path, []))
    for number in range(3):
        callbacks.on_trial_end(PAST[number], moment(number))
    callbacks.on_search_end("done")
    assert said == ["note: Broken failed and logs no more: no room"]
    assert len(heard.said) == 3
    assert heard.closed
    assert "no room" in caplog.text
