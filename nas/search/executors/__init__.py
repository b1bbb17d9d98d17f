"""Where trials run: ``base`` is the protocol; ``local`` runs it in processes of this machine, ``ray`` on a Ray cluster, and
``remote`` adds processes of other machines to the local ones. :func:`open_executor` makes what a search asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from nas.errors import UsageError
from nas.search.budget import parse_budget

if TYPE_CHECKING:
    from nas.search.config import SearchConfig
    from nas.search.executors.base import Executor
    from nas.search.executors.cluster import Ask

Use = Literal["train", "measure"]
"""What slots are for: training asks for the configuration's share of a device, a measurement has its device to itself."""

A_LITTLE = 0.001
"""Of a custom resource, by which trials choose their nodes: a unit of it is room for a thousand."""


@contextmanager
def engine(config: SearchConfig) -> Iterator[None]:
    """Connects to the Ray cluster for as long as a search needs it; nothing for the local engine. Raises RunError."""
    if config.engine != "ray":
        yield
        return
    from nas.search.executors.cluster import connect

    disconnect = connect(config.address or "auto")
    try:
        yield
    finally:
        disconnect()


def open_executor(config: SearchConfig, device: str, *, task: str, preload: str | None = None, log: Path | None = None,
                  workers: int | None = None, carry: Sequence[Path | str] = (), use: Use = "train",
                  say: Callable[[str], None] = lambda _: None) -> Executor:  # fmt: skip
    """The executor that a configuration asks for, running the function that ``task`` names.

    ``device``: cpu or cuda, where trials train. ``carry``: files and folders of files that payloads name and every machine
    needs (plugins, arrays). ``workers`` overrides the configuration's; one slot measures. ``say`` is told how machines join, and
    which are lost. Raises UsageError for what the machine or cluster does not have, RunError when there is no cluster or the log
    cannot be written.
    """
    workers = 1 if use == "measure" else workers or config.workers
    if config.engine == "ray":
        from nas.search.executors.ray import RayExecutor

        executor = RayExecutor(task, address=config.address or "auto", workers=workers, ask=ask_of(config, device, use),
                               preload=preload, carry=carry, say=say)  # fmt: skip
        if waiting := executor.waiting:
            say(f"{waiting} of {len(executor.resources)} workers wait for room in the cluster")
        return executor
    from nas.search.executors.local import LocalExecutor
    from nas.search.executors.remote import Endpoint
    from nas.search.executors.target import Target

    share = 0 if device == "cpu" else config.gpus_per_trial
    if use == "measure":
        whole = 1 if Target.parse(config.target or device).device == "cuda" else 0
        return LocalExecutor(task, workers=workers, threads=1, gpus_per_trial=whole, preload=preload, log=log, claim=False)
    endpoint = None if config.endpoint is None else Endpoint.open(config.endpoint, carry=carry)
    if endpoint is not None:
        say(f"other machines join with: {endpoint.command}")
    threads = threads_of(config, device)
    local = LocalExecutor(task, workers=workers, threads=threads, gpus_per_trial=share, preload=preload, log=log,
                          endpoint=endpoint)  # fmt: skip
    if local.shared:
        say(f"note: {local.shared}")
    return local


def threads_of(config: SearchConfig, device: str) -> int | None:
    """Threads of a worker: on CPUs one, for a second slows small kernels, unless more cores were asked for."""
    if config.cpus_per_trial is not None:
        return max(1, int(config.cpus_per_trial))
    return 1 if device == "cpu" else None


def ask_of(config: SearchConfig, device: str, use: Use = "train") -> Ask:
    """What a slot asks of a Ray cluster."""
    from nas.search.executors.cluster import Ask
    from nas.search.executors.target import Target

    cpus = 1.0 if config.cpus_per_trial is None else config.cpus_per_trial
    if use == "train":
        share = 1.0 if config.gpus_per_trial is None else config.gpus_per_trial
        nodes = Target.nodes(config.train_on)
        return Ask(cpus=cpus, gpus=0.0 if device == "cpu" else share, accelerator=nodes.accelerator,
                   resources={nodes.resource: A_LITTLE} if nodes.resource else {})  # fmt: skip
    target = Target.parse(config.target or device)
    resources = {target.resource: 1.0} if target.resource else {}
    return Ask(cpus=1.0, gpus=float(target.device == "cuda"), accelerator=target.accelerator, resources=resources)


def default_workers(config: SearchConfig, device: str) -> int:
    """As many trials at a time as the machine, beside what other searches use, or the (connected) cluster has room for.

    One at least where cores are all in use. Raises UsageError for none.
    """
    if config.engine == "ray":
        from nas.search.executors.cluster import room_for

        return room_for(ask_of(config, device))
    from nas.search.executors.claims import in_use
    from nas.search.executors.slots import Machine

    share = 0.0 if device == "cpu" else config.gpus_per_trial
    machine = Machine.here(gpus_per_trial=share)
    return len(machine.divide(in_use(), threads=threads_of(config, device), gpus_per_trial=share))


def cluster_device(config: SearchConfig) -> str | None:
    """cuda when the connected cluster has GPUs for trials, cpu when not; None for the local engine, whose own it is.

    Raises UsageError when the configuration asks for GPUs, and no node has them, nor are they waited for (``workers``).
    """
    if config.engine != "ray":
        return None
    from nas.search.executors.cluster import capacity, room_for

    budget = parse_budget(config.budget)
    if config.gpus_per_trial == 0 or (config.gpus_per_trial is None and budget.of_cpus):
        return "cpu"
    ask = replace(ask_of(config, "cuda"), cpus=0)
    if config.gpus_per_trial is None and budget.limit("gpu") is None:
        return "cuda" if capacity(ask)[0] else "cpu"
    if not config.workers:
        room_for(ask)
    return "cuda"


def check_elsewhere(config: SearchConfig, device: str) -> None:
    """Raises UsageError when no node of the connected cluster is what ``target`` names, or when the slot that measures would take
    what trials train on, and the cluster is not waited for to grow (``workers``)."""
    from nas.search.executors.cluster import room_beside, room_for

    measure, train = ask_of(config, device, "measure"), ask_of(config, device)
    room_for(measure, hint=f"Name a node to measure on that is there now; target={config.target}.")
    if not config.workers and not room_beside(train, measure):
        raise UsageError("the cluster cannot hold a slot that measures and one that trains at the same time",
                         expected=f"{measure} and {train}", got=f"target={config.target}",
                         hint="Train on CPUs (gpus_per_trial=0), measure what trains (without target=), or say workers=N if the "
                              "cluster grows on demand.")  # fmt: skip
