"""What a search may want to know of a network on a device, from one measurement at most."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple, Unpack

from nas.errors import MeasureError, nearest
from nas.measure.conditions import Options, find_dtype
from nas.measure.device import find_device, lock_name
from nas.measure.latency import Latency
from nas.measure.lock import device_lock
from nas.measure.memory import activation_bytes, peak_bytes, weight_bytes
from nas.measure.protocol import Between, Limits
from nas.measure.reference import Anchors
from nas.measure.target import WAIT_S, is_remote, measure_both
from nas.net.build import build
from nas.net.graph import Graph

METRICS = {
    "latency": "ms of one pass of a whole batch, the median", "latency_p95": "ms, 95th percentile of single passes",
    "throughput": "inputs a second", "memory": "bytes that inference needs at its peak, weights included",
    "weight_bytes": "bytes of parameters and buffers", "energy": "mJ for one input",
}  # fmt: skip

TIMED = frozenset({"latency", "latency_p95", "throughput", "energy"})
"""Those that the network has to be run for, on a device of its own; of memory it is not timed."""


class Figures(NamedTuple):
    """The latency with all its conditions, and every figure that was wanted by its name in :data:`METRICS`.

    ``latency`` is None when none of :data:`TIMED` was wanted.
    """

    latency: Latency | None
    values: dict[str, float]


def measure_metrics(
    target: str, network: Graph, wanted: Collection[str] = ("latency",), *, limits: Limits | None = None,
    anchors: Anchors | None = None, wait_s: float = WAIT_S, between: Between = bool, **options: Unpack[Options],
) -> Figures:  # fmt: skip
    """Measure once, by :func:`nas.measure.target.measure_both`, and tell all of ``wanted``; memory alone is not timed.

    ``memory`` is counted by torch's allocator on this machine's CUDA devices, for the eager network; elsewhere it is
    what the weights and the tensors between operations amount to (:func:`nas.measure.memory.activation_bytes`).
    Raises MeasureError for an unknown name, and where energy is not counted.
    """
    for name in wanted:
        if name not in METRICS:
            raise MeasureError("unknown metric", expected=", ".join(METRICS), got=name, hint=nearest(name, METRICS))
    latency, values = None, dict[str, float]()
    if TIMED & {*wanted}:
        latency, joules = measure_both(target, network, energy="energy" in wanted, limits=limits, anchors=anchors, wait_s=wait_s,
                                       between=between, **options)  # fmt: skip
        values = told_by(latency)
        if joules is not None:
            values["energy"] = 1000 * joules / latency.batch
    if {"memory", "weight_bytes"} & {*wanted}:
        held = memory_of(target, network, dtype=options.get("dtype", "float32"), batch=options.get("batch", 1), wait_s=wait_s)
        memory = held.weight_bytes + held.activation_bytes if held.peak_bytes is None else held.peak_bytes
        values |= {"weight_bytes": held.weight_bytes, "memory": memory}
    return Figures(latency, {name: values[name] for name in METRICS if name in wanted})


def told_by(latency: Latency) -> dict[str, float]:
    """The metrics that one latency tells."""
    return {"latency": latency.median_ms, "latency_p95": latency.p95_ms, "throughput": throughput(latency)}


def throughput(latency: Latency) -> float:
    """Inputs a second, one batch after the other."""
    return 1000 * latency.batch / latency.median_ms


class Memory(NamedTuple):
    """Bytes of the weights, of the most between operations (an estimate), and of all that a pass held where it is counted."""

    weight_bytes: int
    activation_bytes: int
    peak_bytes: int | None


def memory_of(target: str, graph: Graph, *, dtype: str = "float32", batch: int = 1, wait_s: float = WAIT_S) -> Memory:
    """What inference needs to hold; the peak is counted on this machine's CUDA devices, by one pass that has the device alone.

    Raises MeasureError when that stays in use, UnsupportedError when the network does not fit.
    """
    kind, network = find_dtype(dtype), build(graph)
    peak = None
    if not is_remote(target) and (device := find_device(target)).type != "cpu":
        with device_lock(lock_name(device), timeout_s=wait_s):
            peak = peak_bytes(network, graph.inputs[0][1], device=str(device), batch=batch, dtype=kind)
    return Memory(weight_bytes(network, kind), activation_bytes(graph, batch, kind), peak)
