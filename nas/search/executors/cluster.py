"""A Ray cluster as it is: the connection to it, what its nodes hold, and what a slot asks of them."""

from __future__ import annotations

import logging
import os
import signal
import socket
import tempfile
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from itertools import permutations
from pathlib import Path
from typing import Any

from nas.errors import RunError, UsageError
from nas.search.executors.task import shorten

QUICK = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_timeout_ms": 500,
         "health_check_failure_threshold": 3}  # fmt: skip
"""Settings of a cluster of our own: a node's death is seen after 1.5 s and not after 13 s (Ray 2.60, measured)."""
KNOCK_S = 10.0
"""Seconds within which a cluster's port has to answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What a slot asks of the cluster, in Ray's units. ``accelerator``: a type as Ray names it (``A100``, ``H200``);
    ``resources``: custom ones, by name."""

    cpus: float = 1.0
    gpus: float = 0.0
    accelerator: str | None = None
    resources: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.cpus < 0 or self.gpus < 0 or (self.gpus > 1 and self.gpus != int(self.gpus)):
            raise UsageError("impossible resources of a trial", expected="CPUs, and parts of one GPU or whole GPUs",
                             got=str(self))  # fmt: skip

    @property
    def needs(self) -> dict[str, float]:
        """Amounts by the names under which Ray counts them."""
        kind = {f"accelerator_type:{self.accelerator}": 0.001} if self.accelerator else {}
        wanted = {"CPU": self.cpus, "GPU": self.gpus, **kind, **self.resources}
        return {name: amount for name, amount in wanted.items() if amount > 0}

    @property
    def device(self) -> str:
        """What it is called before a machine is found."""
        return "cuda" if self.gpus else "cpu"

    def options(self) -> dict[str, Any]:
        """Options of an actor that asks for this."""
        own = {"num_cpus": self.cpus, "num_gpus": self.gpus, "resources": dict(self.resources)}
        return own | ({"accelerator_type": self.accelerator} if self.accelerator else {})

    def __str__(self) -> str:
        return ", ".join(f"{amount:g} {name}" for name, amount in self.needs.items() if amount >= 0.01) + (
            f" of type {self.accelerator}" if self.accelerator else "")  # fmt: skip


def capacity(ask: Ask) -> tuple[int, int]:
    """How many slots the cluster's nodes can hold, and how many of them now."""
    ray = connected_ray()
    now = ray.available_resources()
    fit = 0
    for node in ray.nodes():
        if node["Alive"]:
            fit += min((int(node["Resources"].get(name, 0.0) / amount + 1e-6) for name, amount in ask.needs.items()), default=1)
    free = min((int(now.get(name, 0.0) / amount + 1e-6) for name, amount in ask.needs.items()), default=fit)
    return fit, free


def room_for(ask: Ask, hint: str | None = "Say workers=N if the cluster grows on demand.") -> int:
    """How many slots the cluster's nodes can hold. Raises UsageError when none can hold one."""
    fit, _ = capacity(ask)
    if not fit:
        raise UsageError(f"no node of the cluster has {ask}", got=contents(), hint=hint)
    return fit


def room_beside(ask: Ask, other: Ask) -> bool:
    """Whether the cluster's nodes can hold a slot and, at the same time, one that asks for something else."""
    nodes = [node["Resources"] for node in connected_ray().nodes() if node["Alive"]]

    def holds(node: Mapping[str, float], *asks: Ask) -> bool:
        wanted = sum((Counter(each.needs) for each in asks), Counter[str]())
        return all(node.get(name, 0.0) + 1e-6 >= amount for name, amount in wanted.items())

    apart = any(holds(one, ask) and holds(two, other) for one, two in permutations(nodes, 2))
    return apart or any(holds(node, ask, other) for node in nodes)


def contents() -> str:
    """What the cluster has, in words."""
    counted = {name: amount for name, amount in sorted(connected_ray().cluster_resources().items())
               if not name.startswith(("node:", "memory", "object_store_memory"))}  # fmt: skip
    return "a cluster with " + (", ".join(f"{amount:g} {name}" for name, amount in counted.items()) or "no resources")


@contextmanager
def connection() -> Iterator[None]:
    """What Ray raises within the block, of which there are many kinds, is told as what it means: it cannot be spoken to."""
    try:
        yield
    except Exception as error:
        raise RunError("the connection to the Ray cluster is gone",
                       got=shorten(" ".join(f"{type(error).__name__}: {error}".split())),
                       hint="When it answers again, `nas resume` goes on where the search stopped.") from error  # fmt: skip


def the_ray() -> Any:
    """The ray package, imported when it is first needed. Its annotations are not fit for strict checking."""
    return import_module("ray")


def connected_ray() -> Any:
    """The same, for calls by which Ray, when it has lost its cluster, would join another or begin one, without a word."""
    ray = the_ray()
    if not ray.is_initialized():
        raise ConnectionError("not connected any more")
    return ray


def connect(address: str, **own: Any) -> Callable[[], None]:
    """Initialises Ray unless this process has done so; what undoes it, which is nothing for a Ray that was there.

    ``own``: what a cluster of our own (``local``) is to have, as ``ray.init`` takes it.

    Raises RunError when there is no such cluster, or it has another Ray or Python.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    ray = the_ray()
    if ray.is_initialized():
        return lambda: None
    words: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        words |= {"include_dashboard": False, "_system_config": QUICK, **own}
    try:
        _knock(address)
        with _kept_handlers(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ray.init(**words)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        reason = shorten(" ".join(str(error).split()))
        if "ersion mismatch" in reason:
            raise RunError("the cluster has another Ray or Python than this command", where=f"address={address}", got=reason,
                           hint="Install the same versions on every machine.") from None  # fmt: skip
        raise RunError("no Ray cluster answers", where=f"address={address}", got=reason,
                       hint="Start one with `ray start --head`, or take address=local or engine=local.") from None  # fmt: skip

    restore = _quiet()

    def disconnect() -> None:
        with _kept_handlers(), suppress(Exception):  # The cluster may be gone.
            ray.shutdown()
        restore()

    return disconnect


def _knock(address: str) -> None:
    """Raises OSError when nobody listens there: Ray itself would wait for minutes."""
    if address == "auto":
        current = Path(tempfile.gettempdir()) / "ray" / "ray_current_cluster"
        address = os.environ.get("RAY_ADDRESS") or (current.read_text().strip() if current.is_file() else "")
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_S).close()


def _quiet() -> Callable[[], None]:
    """Ray prints a raylet's last words among the search's own; they go to the logger "ray" instead. What undoes it."""
    worker = import_module("ray._private.worker")
    name = "print_to_stdstream"
    printed = getattr(worker, name, None)
    if printed is None:
        return lambda: None
    setattr(worker, name, lambda data, *_, **__: logging.getLogger("ray").info("%s", data.get("lines")))
    return lambda: setattr(worker, name, printed)


@contextmanager
def _kept_handlers() -> Iterator[None]:
    """Ray takes SIGTERM for itself; the search has its own answer to it."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM) if main else None
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)
