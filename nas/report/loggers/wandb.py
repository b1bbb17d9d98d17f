"""Weights & Biases: values by trial number, a table of decisions. Offline unless WANDB_MODE says otherwise."""

from __future__ import annotations

import os
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, final

from nas.report.loggers.base import TrialLogger
from nas.search.callbacks import Beginning
from nas.search.study import Record


@final
class WandbLogger(TrialLogger):
    """Into ``wandb`` in the run's folder; ``wandb sync`` sends it. A resumed run goes on under its old id."""

    package, install = "wandb", 'pip install "nas[wandb]"'

    def open(self, beginning: Beginning) -> None:
        """Begin a W&B run with the configuration."""
        import wandb

        folder = beginning.folder.resolve()
        self._run: Any = wandb.init(
            project="nas", name=beginning.name, id=blake2b(str(folder).encode(), digest_size=8).hexdigest(), resume="allow",
            dir=str(folder), config=dict(beginning.config), mode=os.environ.get("WANDB_MODE", "offline"),
        )  # fmt: skip

    def log(self, record: Record, values: Mapping[str, float]) -> None:
        """The values and the decisions, at the trial's number."""
        decisions = {f"decisions/{key}": value for key, value in record.decisions.items()}
        self._run.log({"trial": record.number, "state": record.state, **values, **decisions})

    def close(self) -> None:
        """Write what is left."""
        self._run.finish()
