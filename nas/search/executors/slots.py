"""What this machine has, and how it is divided among slots. Asks the system, never torch."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nas.errors import UsageError
from nas.search.executors.base import Resources

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_cpus() -> tuple[int, ...]:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def cpu_quota(limit: Path = CPU_QUOTA) -> float:
    """Cores' worth of time that a container grants (cgroup v2 ``cpu.max``); infinite without one."""
    try:
        quota, period = limit.read_text().split()
    except (OSError, ValueError):
        return float("inf")
    return float("inf") if quota == "max" else int(quota) / int(period)


def visible_gpus() -> tuple[str, ...]:
    """Ids of the GPUs a process may use, as CUDA_VISIBLE_DEVICES takes them; () without driver or GPU."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return tuple(part for part in map(str.strip, chosen.split(",")) if part not in ("", "-1"))
    ask = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
    try:
        answer = subprocess.run(ask, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(line for line in answer.stdout.split() if line.startswith("GPU-"))


def divide(*, workers: int | None = None, threads: int | None = None, gpus_per_trial: float | None = None,
           gpus: Sequence[str] = (), cpus: Sequence[int] = (0,), quota: float = float("inf"),
           ) -> tuple[Resources, ...]:  # fmt: skip
    """The slots into which ``cpus`` and ``gpus`` are divided.

    ``gpus_per_trial`` None takes one GPU a slot when there are GPUs. Without ``workers`` the devices are filled: as
    many slots as GPU shares, or as cores per ``threads`` (default one). Cores are divided evenly, and shared only
    when there are more slots than cores; ``threads`` None uses all cores of a slot. A slot on the CPU is charged for
    as many cores as ``threads`` asks for, at most (and without it) its even part of what the machine and the ``quota`` have.
    Raises UsageError when the machine does not have what is asked for.
    """
    for name, number in (("workers", workers), ("threads", threads)):
        if number is not None and number < 1:
            raise UsageError(f"impossible number of {name}", expected="at least 1", got=number)
    cores = min(len(cpus), quota)
    share = (1.0 if gpus else 0.0) if gpus_per_trial is None else gpus_per_trial
    if not share:
        count = workers or max(1, int(cores // (threads or 1)))
        held = [Resources(device="cpu", kind="cpu", fraction=min(threads or cores, cores / count))] * count
    else:
        held = _gpu_shares(gpus, share)
        count = workers or len(held)
        if count > len(held):
            raise UsageError(f"{count} workers with {share:g} GPU each do not fit on {len(gpus)} GPU",
                             expected=f"at most {len(held)} workers", hint="Lower gpus_per_trial.")  # fmt: skip
    threads = threads or max(1, int(cores // count))
    cores_of = _core_sets(cpus, count)
    return tuple(replace(held[index], cpus=cores_of[index], threads=threads) for index in range(count))


def _gpu_shares(gpus: Sequence[str], share: float) -> list[Resources]:
    """As many slots with ``share`` GPUs each as there can be, cores left open."""
    if share < 0 or (share > 1 and share != int(share)):
        raise UsageError("impossible gpus_per_trial", expected="0, a part of one GPU, or a whole number", got=share)
    if len(gpus) < share:
        raise UsageError(f"a trial asks for {share:g} GPU, this machine shows {len(gpus)}",
                         hint="Set gpus_per_trial to 0 to use the CPU.")  # fmt: skip
    size, per_gpu = max(1, int(share)), int(1 / min(share, 1) + 1e-9)
    groups = [range(start, start + size) for start in range(0, len(gpus) - size + 1, size)]
    # Round robin: with fewer workers than shares every GPU gets one slot before any gets two.
    return [
        Resources(device="cuda:" + ",".join(map(str, group)), kind="gpu", fraction=size / per_gpu,
                  gpus=tuple(gpus[i] for i in group))
        for _ in range(per_gpu) for group in groups
    ]  # fmt: skip


def _core_sets(cpus: Sequence[int], count: int) -> list[tuple[int, ...]]:
    """Neighbouring cores for each slot (they share caches and memory banks), or one core for several slots."""
    total = len(cpus)
    if count > total:
        return [(cpus[i % total],) for i in range(count)]
    return [tuple(cpus[i * total // count : (i + 1) * total // count]) for i in range(count)]
