"""What a budget amounts to on this machine: its device, its cores, its seconds, its candidates."""

from __future__ import annotations

import torch

from nas.errors import UsageError
from nas.search.budget import Budget, Kind
from nas.search.executors.slots import cpu_quota, usable_cpus
from nas.search.planner import OVERHEAD_S, Plan


def device_for(budget: Budget) -> str:
    """cuda where there is a GPU. Raises UsageError when GPU hours are asked for and there is none."""
    if torch.cuda.is_available():
        return "cuda"
    part = next((p for p in budget.parts if p.kind == "gpu"), None)
    if part is not None:
        raise UsageError(f"budget={part} asks for a GPU, and this machine has none that torch can use",
                         hint=f"Type budget={str(part).replace('gpu', 'cpu')} to search on its CPU, or a wall time such as "
                              "budget=10min.")  # fmt: skip
    return "cpu"


def cores() -> int:
    """Cores that this process may use."""
    return max(1, int(min(len(usable_cpus()), cpu_quota())))


def time_left(budget: Budget, device: str, workers: int) -> float | None:
    """Wall seconds that the budget amounts to when all cores, or a GPU a worker, are busy; None when it is in trials alone."""
    held: dict[Kind, int] = {"wall": 1, "gpu": workers, "cpu": cores()}
    if device != "cpu":
        del held["cpu"]
    limits = [limit / devices for kind, devices in held.items() if (limit := budget.limit(kind)) is not None]
    return min(limits, default=None)


def expected_trials(budget: Budget, plan: Plan, device: str, workers: int) -> int | None:
    """How many candidates the budget is expected to be enough for."""
    seconds = time_left(budget, device, workers)
    if seconds is None:
        return budget.trials
    fit = int(seconds * workers / (plan.epoch_s * plan.recipe.epochs + OVERHEAD_S))
    return min(fit, budget.trials or fit)
