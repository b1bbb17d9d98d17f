"""What a budget amounts to on this machine: its device, its cores, its seconds, its candidates."""

from __future__ import annotations

import torch

from nas.errors import UsageError
from nas.search.budget import Budget, Kind
from nas.search.config import SearchConfig
from nas.search.executors.slots import cpu_quota, usable_cpus
from nas.search.planner import OVERHEAD_S, Plan


def device_for(budget: Budget, gpus_per_trial: float | None = None) -> str:
    """Where trials run: cuda where there is a GPU, unless CPU hours are to be spent or trials shall have no GPU.

    Raises UsageError when GPU hours are asked for and there is none.
    """
    if gpus_per_trial == 0 or (gpus_per_trial is None and budget.of_cpus):
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    part = next((p for p in budget.parts if p.kind == "gpu"), None)
    if part is not None:
        raise UsageError(f"budget={part} asks for a GPU, and this machine has none that torch can use",
                         hint=f"Type budget={str(part).replace('gpu', 'cpu')} to search on its CPU, or a wall time such as "
                              "budget=10min.")  # fmt: skip
    return "cpu"


def check_spent(budget: Budget, device: str) -> None:
    """Raises UsageError for a budget that trials on the device would never spend: the search would have no end."""
    kind: Kind = "cpu" if device == "cpu" else "gpu"
    if not any(part.kind in ("wall", "trials", kind) for part in budget.parts):
        raise UsageError(f"budget={budget} would never be spent: the trials are on {kind.upper()}s",
                         expected=f"{kind} hours such as 2{kind}h, a wall time such as 10min, or trials")  # fmt: skip


def cores() -> int:
    """Cores that this process may use."""
    return max(1, int(min(len(usable_cpus()), cpu_quota())))


def held_by(config: SearchConfig, device: str, workers: int) -> float:
    """Cores, or GPUs, that so many workers hold together; on this machine no more cores than it has."""
    share = config.cpus_per_trial if device == "cpu" else config.gpus_per_trial
    held = workers * (share or 1.0)
    elsewhere = config.engine == "ray" or config.endpoint is not None
    return held if device != "cpu" or elsewhere else min(held, float(cores()))


def time_left(budget: Budget, device: str, held: float) -> float | None:
    """Wall seconds that the budget amounts to when so many cores or GPUs are busy; None when it is in trials alone."""
    kind: Kind = "cpu" if device == "cpu" else "gpu"
    devices: dict[Kind, float] = {"wall": 1.0, kind: held}
    return min((limit / busy for kind, busy in devices.items() if (limit := budget.limit(kind)) is not None), default=None)


def expected_trials(budget: Budget, plan: Plan, device: str, workers: int, held: float) -> int | None:
    """How many candidates the budget is expected to be enough for, when ``workers`` hold so many cores or GPUs together."""
    seconds = time_left(budget, device, held)
    if seconds is None:
        return budget.trials
    fit = int(seconds * workers / (plan.epoch_s * plan.recipe.epochs + OVERHEAD_S))
    return min(fit, budget.trials or fit)
