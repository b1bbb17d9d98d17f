"""What this machine has, and how it is divided among slots. Asks the system, never torch."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from nas.errors import UsageError
from nas.search.executors.base import Resources

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
TOPOLOGY = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What a process has taken: cores, and how much of which GPUs."""

    pid: int
    cpus: frozenset[int] = frozenset()
    gpus: Mapping[str, float] = field(default_factory=dict, hash=False)


def others(uses: Iterable[Use]) -> str:
    """Whose they are, in words."""
    pids = sorted({use.pid for use in uses})
    return f"{'another search' if len(pids) == 1 else 'other searches'} (pid {', '.join(map(str, pids))})"


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
    return installed_gpus()


def installed_gpus() -> tuple[str, ...]:
    """UUIDs of the machine's GPUs by their numbers; () without driver or GPU."""
    ask = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
    try:
        answer = subprocess.run(ask, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(line for line in answer.stdout.split() if line.startswith("GPU-"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a process may use of this machine: cores, their ``quota``, GPUs by ids as CUDA_VISIBLE_DEVICES takes them; and the
    UUIDs of all GPUs that are installed, by their numbers."""

    cpus: tuple[int, ...]
    quota: float = float("inf")
    gpus: tuple[str, ...] = ()
    installed: tuple[str, ...] = ()

    @classmethod
    def here(cls, *, gpus_per_trial: float | None = None, gpus: Sequence[str] | None = None) -> Machine:
        """This process. ``gpus``: to be used; None: all that are visible, unless trials take none."""
        if gpus is None:
            gpus = () if gpus_per_trial == 0 else visible_gpus()
        chosen = gpus and "CUDA_VISIBLE_DEVICES" in os.environ
        return cls(cpus=usable_cpus(), quota=cpu_quota(), gpus=tuple(gpus), installed=installed_gpus() if chosen else tuple(gpus))

    def uuid(self, gpu: str) -> str:
        """Of a GPU that is given by its number, or by how its UUID begins; itself where there is no telling. CUDA may number
        GPUs of different models in another order than the driver does."""
        if gpu.isdigit() and int(gpu) < len(self.installed):
            return self.installed[int(gpu)]
        return next((uuid for uuid in self.installed if uuid.startswith(gpu)), gpu)

    def divide(self, used: Sequence[Use] = (), *, workers: int | None = None, threads: int | None = None,
               gpus_per_trial: float | None = None) -> tuple[Resources, ...]:  # fmt: skip
        """The slots of a process, see :func:`divide`, in sight of what others use, their GPUs told by UUIDs."""
        named = {self.uuid(gpu): gpu for gpu in self.gpus}
        here = [replace(use, gpus={named[uuid]: part for uuid, part in use.gpus.items() if uuid in named}) for use in used]
        return divide(workers=workers, threads=threads, gpus_per_trial=gpus_per_trial, gpus=self.gpus, cpus=self.cpus,
                      quota=self.quota, used=here, installed=len(self.installed))  # fmt: skip

    def use(self, slots: Sequence[Resources]) -> Use:
        """What this process uses with these slots, GPUs told by UUIDs."""
        gpus: dict[str, float] = {}
        for slot in slots:
            for uuid in map(self.uuid, slot.gpus):
                gpus[uuid] = gpus.get(uuid, 0.0) + slot.fraction / len(slot.gpus)
        return Use(pid=os.getpid(), cpus=frozenset(cpu for slot in slots for cpu in slot.cpus), gpus=gpus)


def divide(*, workers: int | None = None, threads: int | None = None, gpus_per_trial: float | None = None,
           gpus: Sequence[str] = (), cpus: Sequence[int] = (0,), quota: float = float("inf"), used: Sequence[Use] = (),
           installed: int = 0) -> tuple[Resources, ...]:  # fmt: skip
    """The slots into which ``cpus`` and ``gpus`` are divided, as far as others have not ``used`` them.

    ``gpus_per_trial`` None takes one GPU a slot when there are GPUs. Without ``workers`` the free devices are filled: as
    many slots as GPU shares, or as cores per ``threads`` (default one), but one slot at least. A slot has as many cores as
    threads; ``threads`` None gives it its even part of those that are free, or of the cores that come with its GPU when all of
    the ``installed`` have the same. Cores that others use are shared only when there are too few, and by several slots of
    this process when there are more slots than cores: that is slow, and no more. A share of a GPU is memory as well, so what
    is not free is refused.
    A slot on the CPU is charged for as many cores as ``threads`` asks for, at most (and without it) its even part of what is
    taken and the ``quota`` grants. Raises UsageError when the machine does not have what is asked for.
    """
    for name, number in (("workers", workers), ("threads", threads)):
        if number is not None and number < 1:
            raise UsageError(f"impossible number of {name}", expected="at least 1", got=number)
    share = (1.0 if gpus else 0.0) if gpus_per_trial is None else gpus_per_trial
    busy = frozenset[int]().union(*(use.cpus for use in used)) & frozenset(cpus)
    free = _spread([cpu for cpu in cpus if cpu not in busy], busy)
    held = _gpu_shares(gpus, share, used) if share else []
    count = workers or len(held) or max(1, int(min(len(free), quota - len(busy)) // (threads or 1)))
    if share and count > len(held):
        raise _no_room(count, share, len(gpus), len(held), used)
    wanted = count * threads if threads else len(free)
    if share and not threads:
        part = sum(slot.fraction for slot in held[:count]) / max(installed, len(gpus))
        wanted = min(wanted, round(len(cpus) * part))
    taken = sorted((free + [cpu for cpu in cpus if cpu in busy])[: max(wanted, count)])
    cores = min(len(taken), quota)
    if not share:
        held = [Resources(device="cpu", kind="cpu", fraction=min(threads or cores, cores / count))] * count
    threads = threads or max(1, int(cores // count))
    cores_of = _core_sets(taken, count)
    return tuple(replace(held[index], cpus=cores_of[index], threads=threads) for index in range(count))


def _no_room(count: int, share: float, gpus: int, most: int, used: Sequence[Use]) -> UsageError:
    users = [use for use in used if use.gpus]
    held = f", part of which {others(users)} holds" if users else ""
    return UsageError(f"{count} worker{'s' * (count > 1)} with {share:g} GPU each do not fit on {gpus} GPU{held}",
                      expected=f"at most {most} workers",
                      hint="Lower gpus_per_trial" + (", or wait until it has ended." if users else "."))  # fmt: skip


def _gpu_shares(gpus: Sequence[str], share: float, used: Sequence[Use]) -> list[Resources]:
    """As many slots with ``share`` GPUs each as there can be beside others, cores left open."""
    if share < 0 or (share > 1 and share != int(share)):
        raise UsageError("impossible gpus_per_trial", expected="0, a part of one GPU, or a whole number", got=share)
    if len(gpus) < share:
        raise UsageError(f"a trial asks for {share:g} GPU, this machine shows {len(gpus)}",
                         hint="Set gpus_per_trial to 0 to use the CPU.")  # fmt: skip
    size, per_gpu = max(1, int(share)), int(1 / min(share, 1) + 1e-9)
    room = [int(per_gpu * (1 - sum(use.gpus.get(gpu, 0.0) for use in used)) + 1e-6) for gpu in gpus]
    usable = [number for number in range(len(gpus)) if room[number] > 0]
    groups = [usable[start : start + size] for start in range(0, len(usable) - size + 1, size)]
    # Round robin: with fewer workers than shares every GPU gets one slot before any gets two.
    slots = [
        Resources(device="cuda:" + ",".join(map(str, group)), kind="gpu", fraction=size / per_gpu,
                  gpus=tuple(gpus[i] for i in group))
        for turn in range(per_gpu) for group in groups if turn < min(room[i] for i in group)
    ]  # fmt: skip
    if not slots:
        raise _no_room(1, share, len(gpus), 0, used)
    return slots


def _spread(free: Sequence[int], busy: Iterable[int]) -> list[int]:
    """Cores in the order in which to take them: those first that share no core with one before or with one that is used."""
    seen, ranks = set(busy), {}
    for cpu in free:
        siblings = _siblings(cpu)
        ranks[cpu] = len(siblings & seen)
        seen.add(cpu)
    return sorted(free, key=lambda cpu: (ranks[cpu], cpu))


def _siblings(cpu: int) -> set[int]:
    """The hardware threads of the core that this one is of, as Linux numbers them (``0,8`` or ``0-1``)."""
    try:
        text = Path(TOPOLOGY.format(cpu)).read_text()
    except OSError:
        return {cpu}
    ends = [part.split("-") for part in text.strip().split(",")]
    return {number for end in ends for number in range(int(end[0]), int(end[-1]) + 1)}


def _core_sets(cpus: Sequence[int], count: int) -> list[tuple[int, ...]]:
    """Neighbouring cores for each slot (they share caches and memory banks), or one core for several slots."""
    total = len(cpus)
    if count > total:
        return [(cpus[i % total],) for i in range(count)]
    return [tuple(cpus[i * total // count : (i + 1) * total // count]) for i in range(count)]
