"""Other places where a search's trials may be logged, by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from nas.errors import UsageError, nearest
from nas.report.loggers.base import TrialLogger
from nas.report.loggers.mlflow import MLflowLogger
from nas.report.loggers.tensorboard import TensorBoardLogger
from nas.report.loggers.wandb import WandbLogger

__all__ = ["LOGGERS", "TrialLogger", "open_loggers"]

LOGGERS: Mapping[str, type[TrialLogger]] = MappingProxyType({
    "tensorboard": TensorBoardLogger, "mlflow": MLflowLogger, "wandb": WandbLogger,
})  # fmt: skip


def open_loggers(text: str) -> list[TrialLogger]:
    """The loggers of ``"tensorboard,mlflow"``. Raises UsageError for an unknown one, or one whose package is missing."""
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in LOGGERS:
            raise UsageError("unknown logger", got=name, expected="one of " + ", ".join(LOGGERS), hint=nearest(name, LOGGERS))
    return [LOGGERS[name]() for name in names]
