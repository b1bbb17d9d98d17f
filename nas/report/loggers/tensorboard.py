"""TensorBoard: scalars by trial number, and every trial's decisions in its HParams view. Files lie in the run's folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

from nas.report.loggers.base import TrialLogger
from nas.search.callbacks import Beginning
from nas.search.study import Record

FOLDER = "tensorboard"


@final
class TensorBoardLogger(TrialLogger):
    """Look at it with ``tensorboard --logdir RUN/tensorboard``."""

    package, install = "tensorboard", 'pip install "nas[tensorboard]"'

    def open(self, beginning: Beginning) -> None:
        """A writer in the run's folder; one more file for every driver of the run."""
        from torch.utils.tensorboard.writer import SummaryWriter

        self._writer = SummaryWriter(str(beginning.folder / FOLDER))

    def log(self, record: Record, values: Mapping[str, float]) -> None:
        """Scalars at the trial's number; a completed trial also as a run of its own with its decisions."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, record.number)
        self._writer.flush()
        if record.state == "completed":
            decisions = {key: _plain(value) for key, value in record.decisions.items()}
            metrics = {f"trial/{name}": float(value) for name, value in record.metrics.items()}
            self._writer.add_hparams(decisions, metrics, run_name=f"trial-{record.number}", global_step=record.number)

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


def _plain(value: object) -> bool | int | float | str:
    return value if isinstance(value, bool | int | float | str) else str(value)
