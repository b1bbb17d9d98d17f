"""Decisions suggested by an Optuna trial, under their own names. Optuna itself is not imported: a trial is what suggests."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Protocol

from nas.space.decide import Choose
from nas.space.spec import Choice, Hole, Range, Scalar


class Trial(Protocol):
    """What is used of an ``optuna.Trial``."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of the choices."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """A whole number."""

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False) -> float:
        """A number."""


def suggester(trial: Trial) -> Choose:
    """The ``choose`` of :meth:`.SearchSpace.decide` that asks the trial."""

    def choose(key: str, hole: Hole) -> Scalar:
        if isinstance(hole, Choice):
            label: Scalar = trial.suggest_categorical(key, hole.labels)
            return label
        low, high, step, log = limits(hole)
        if hole.whole:
            return trial.suggest_int(key, int(low), int(high), step=int(step or 1), log=log)
        return snap(hole, trial.suggest_float(key, float(low), float(high), step=step, log=log))

    return choose


def limits(hole: Range) -> tuple[float, float, float | None, bool]:
    """(low, high, step, log) of a range as Optuna takes them: it lowers, with a warning, an end that no step reaches, and has
    no logarithmic range with steps, which is even to its models."""
    high = hole.high if hole.step is None or hole.count is None else plus(hole.low, hole.step, hole.count - 1)
    stepped = hole.step is not None and not (hole.whole and int(hole.step) == 1)
    return hole.low, high, hole.step, hole.log and not stepped


def snap(hole: Hole, label: Scalar) -> Scalar:
    """The label as the hole spells it: a float range's 0.1 + 2 * 0.1 is 0.3, and no other architecture than that."""
    if isinstance(hole, Choice) or hole.step is None or hole.whole or not isinstance(label, int | float):
        return label
    return plus(hole.low, hole.step, round((label - hole.low) / hole.step))


def plus(low: float, step: float, times: int) -> float:
    """``low + times * step`` in decimal numbers, as they are written."""
    return float(Decimal(str(low)) + times * Decimal(str(step)))
