"""MLflow: a run for the search, and one below it for every trial."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from typing import Any, final

from nas.report.loggers.base import TrialLogger
from nas.search.callbacks import Beginning
from nas.search.study import Record

FILE, TAG = "mlflow.db", "nas.run"
_STATUS = {"completed": "FINISHED", "duplicate": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}


@final
class MLflowLogger(TrialLogger):
    """Into ``mlflow.db`` in the run's folder (``mlflow ui --backend-store-uri sqlite:///RUN/mlflow.db``), or where
    MLFLOW_TRACKING_URI says. A resumed run goes on with its MLflow run, which the run's path identifies."""

    package, install = "mlflow", 'pip install "nas[mlflow]"'

    def open(self, beginning: Beginning) -> None:
        """Find the search's run or make it; the configuration becomes its parameters."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # nothing is told to anyone unless the user wants it
        from mlflow.tracking import MlflowClient

        folder = beginning.folder.resolve()
        self._client = MlflowClient(tracking_uri=os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder / FILE}")
        known = self._client.get_experiment_by_name("nas")
        self._experiment = known.experiment_id if known else self._client.create_experiment("nas")
        where = f"tags.`{TAG}` = '{str(folder).replace(chr(39), '')}'"
        found = self._client.search_runs([self._experiment], where, max_results=1)
        if found:
            self._run = found[0].info.run_id
            self._client.update_run(self._run, status="RUNNING")
            return
        tags = {TAG: str(folder).replace("'", ""), "mlflow.runName": beginning.name}
        self._run = self._client.create_run(self._experiment, tags=tags, run_name=beginning.name).info.run_id
        self._batch(self._run, {}, dict(beginning.config), 0)

    def log(self, record: Record, values: Mapping[str, float]) -> None:
        """The values as steps of the search's run; the trial as a run with its decisions and metrics."""
        self._batch(self._run, values, {}, record.number)
        tags = {"mlflow.parentRunId": self._run, "nas.trial": str(record.number), "nas.state": record.state}
        name = f"trial {record.number}"
        trial = self._client.create_run(self._experiment, tags=tags, run_name=name).info.run_id
        self._batch(trial, record.metrics, record.decisions, record.number)
        self._client.set_terminated(trial, _STATUS.get(record.state, "FINISHED"))

    def close(self) -> None:
        """End the search's run."""
        self._client.set_terminated(self._run)

    def _batch(self, run: str, metrics: Mapping[str, float], params: Mapping[str, Any], step: int) -> None:
        from mlflow.entities import Metric, Param

        now = int(time.time() * 1000)
        words = [Param(_name(key), str(value)[:500]) for key, value in params.items()]
        numbers = [Metric(_name(key), float(value), now, step) for key, value in metrics.items()]
        for start in range(0, max(len(words), 1), 100):  # MLflow takes 100 parameters at a time
            self._client.log_batch(run, metrics=numbers if start == 0 else [], params=words[start : start + 100])


def _name(key: str) -> str:
    """MLflow's names have letters, digits and ``_-./ :``."""
    return re.sub(r"[^\w\-./ :]", "_", key)[:250]
