"""Measuring wherever the network is to run: on this machine's CPU or GPU, on a measuring server, or through ``ssh``."""

from __future__ import annotations

import copy
import threading
from collections.abc import Collection, Mapping
from concurrent.futures import Future, wait
from dataclasses import asdict
from typing import Any, NamedTuple, Unpack

import torch
from torch import nn

from nas.errors import MeasureError
from nas.measure.conditions import Conditions, Options, find_dtype
from nas.measure.device import device_name, find_device, lock_name
from nas.measure.energy import energy_counter, measure_energy
from nas.measure.fold import fold_batch_norms
from nas.measure.latency import Latency, measure_latency
from nas.measure.lock import device_lock
from nas.measure.onnx import to_onnx
from nas.measure.protocol import Between, Limits
from nas.measure.reference import Anchors, Reference
from nas.measure.remote import ANSWER_S, Address, connect, remote_status
from nas.measure.runtime import EXPORTER, find_runtime
from nas.measure.wire import PROTOCOL
from nas.net.build import build
from nas.net.graph import Graph
from nas.net.render import Head, render
from nas.ops import Shape

WAIT_S, POLL_S = 600.0, 0.1
"""How long a measurement waits for its turn on the device; how often ``between`` is called while another machine measures."""


class Measured(NamedTuple):
    """A latency and, where it was asked for, the joules of one pass of the batch."""

    latency: Latency
    energy_j: float | None


def is_remote(target: str) -> bool:
    """Whether the target is an address."""
    return "://" in target


def check_target(target: str, *, runtime: str = "eager", metrics: Collection[str] = ()) -> str:
    """What will measure there, in words. Raises UsageError or MeasureError when it cannot: before a search starts.

    ``metrics``: names of :data:`nas.measure.metrics.METRICS`; energy is refused where nothing counts it.
    """
    engine = find_runtime(runtime)
    if missing := [package for package in engine.missing if package in EXPORTER or not is_remote(target)]:
        raise MeasureError(f"runtime={runtime} needs {', '.join(missing)}, which is not installed here",
                           hint=f"Install it: {engine.install}. Or say another runtime=.")  # fmt: skip
    if not is_remote(target):
        device = find_device(target)
        if "energy" in metrics:
            energy_counter(device)
        return f"{device_name(device)}, {runtime} {engine.version()}"
    status = remote_status(Address.parse(target))
    if runtime not in status.get("runtimes", ()):
        raise MeasureError(f"the other machine has no {runtime}", where=target, expected=" or ".join(status.get("runtimes", ())))
    if engine.in_torch and "source" not in status.get("takes", ()):
        raise MeasureError(f"runtime={runtime} needs the network's source, and this server takes no code", where=target,
                           hint="Measure with runtime=onnxruntime, or start the server with a token and --allow.")  # fmt: skip
    if "energy" in metrics and status.get("energy") is not True:
        raise MeasureError(str(status.get("energy") or "the other machine does not count energy"), where=target)
    return f"{status.get('device_name')} ({target}), {runtime}"


def conditions_at(target: str, **options: Unpack[Options]) -> dict[str, Any]:
    """What measurements there have in common, in plain words: two that differ in none of them compare.

    Raises MeasureError when a machine cannot be reached or has no such engine.
    """
    runtime = options.get("runtime", "eager")
    made = Conditions.of(device="cpu" if is_remote(target) else target, **options)
    if is_remote(target):
        status = remote_status(Address.parse(target))
        name, versions = status.get("device_name"), dict(status.get("versions", {}))
    else:
        name, versions = device_name(made.device), {"torch": str(torch.__version__), runtime: made.runtime.version()}
    cores = options.get("cores")
    return {
        "device": name, "torch": versions.get("torch"), "runtime": runtime, "runtime_version": versions.get(runtime),
        "batch": made.batch, "threads": made.threads, "dtype": made.dtype, "memory_format": made.memory_format,
        "fold_batch_norm": options.get("fold_batch_norm", False), "graph": made.graph,
        **({} if cores is None else {"cores": list(cores)}),
    }  # fmt: skip


def measure_at(
    target: str, network: Graph | nn.Module, shape: Shape | None = None, *, limits: Limits | None = None,
    anchors: Anchors | None = None, wait_s: float = WAIT_S, **options: Unpack[Options],
) -> Latency:  # fmt: skip
    """Latency of a network wherever it is to run; the protocol and the conditions are those of ``measure_latency``.

    ``target``: cpu, cuda, cuda:N, ``http://HOST:PORT`` or ``ssh://USER@HOST``. A graph knows its input and gets random weights;
    ``shape`` (without the batch) goes with a module. The device is locked meanwhile, on whatever machine it is, after a wait of
    up to ``wait_s`` seconds. Raises MeasureError as ``measure_latency`` does, and when a machine cannot be reached.
    """
    return measure_both(target, network, shape, limits=limits, anchors=anchors, wait_s=wait_s, **options).latency


def measure_both(
    target: str, network: Graph | nn.Module, shape: Shape | None = None, *, energy: bool = False, limits: Limits | None = None,
    anchors: Anchors | None = None, wait_s: float = WAIT_S, between: Between = bool, **options: Unpack[Options],
) -> Measured:  # fmt: skip
    """As :func:`measure_at`, and the energy as well where ``energy`` asks for it.

    ``between`` may end it early, see :data:`nas.measure.protocol.Between`.
    """
    shape = network.inputs[0][1] if isinstance(network, Graph) else shape
    if shape is None:
        raise MeasureError("a module is measured with the shape of its input", got=type(network).__name__)
    if isinstance(network, Graph):
        options["weights"] = "random"
    if is_remote(target):
        return _elsewhere(Address.parse(target), network, shape, energy, limits, anchors, wait_s, between, options)
    model = build(network) if isinstance(network, Graph) else network
    with device_lock(lock_name(find_device(target)), timeout_s=wait_s, between=between):
        latency = measure_latency(model, shape, device=target, limits=limits, anchors=anchors, between=between, **options)
        joules = measure_energy(model, shape, device=target, between=between, **options) if energy else None
        return Measured(latency, joules)


def _elsewhere(address: Address, network: Graph | nn.Module, shape: Shape, energy: bool, limits: Limits | None,
               anchors: Anchors | None, wait_s: float, between: Between, options: Options) -> Measured:  # fmt: skip
    """The unit is ours: quiet times of that machine's reference are kept here, under its address."""
    form, body = exported(network, shape, options)
    prefix = f"{address.text} "
    known = anchors.known if anchors is not None else {}
    question: dict[str, Any] = {
        "ask": "measure", "protocol": PROTOCOL, "format": form, "shape": list(shape), "energy": energy, "wait_s": wait_s,
        "options": {**options, **({"cores": list(cores)} if (cores := options.get("cores")) else {})},
        "limits": asdict(limits or Limits()),
        "reference": {key.removeprefix(prefix): value for key, value in known.items() if key.startswith(prefix)},
        **({"device": address.device} if address.device else {}),
    }  # fmt: skip
    answer = _answer(address, question, body, wait_s + ANSWER_S, between)
    if not isinstance(answer.get("latency"), dict) or not isinstance(answer.get("reference"), str):
        raise MeasureError("this is no measuring server", where=address.text, got=", ".join(answer))
    latency, joules = Latency.from_mapping(answer["latency"]), answer.get("energy_j")
    if anchors is not None:
        unit = anchors.record(prefix + answer["reference"], latency.reference_ms / 1000)
        latency = latency.in_unit(unit * 1000)
    return Measured(latency, float(joules) if isinstance(joules, int | float) else None)


def _answer(address: Address, question: Mapping[str, Any], body: bytes, seconds: float, between: Between) -> dict[str, Any]:
    """What another machine answers to a thread of its own, which is left to itself when ``between`` raises."""
    answer = Future[dict[str, Any]]()

    def ask() -> None:
        try:
            answer.set_result(connect(address).ask(question, body, seconds))
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=ask, daemon=True, name="measuring elsewhere").start()
    while not wait([answer], POLL_S).done:
        between()
    return answer.result()


def exported(network: Graph | nn.Module, shape: Shape, options: Options) -> tuple[str, bytes]:
    """The network as it travels: its format and content. Raises MeasureError, or ExportError, when it cannot."""
    if find_runtime(options.get("runtime", "eager")).in_torch:
        if isinstance(network, Reference):
            return "source", network.source.encode()
        if not isinstance(network, Graph):
            raise MeasureError("a module of one's own does not travel as source", hint="Measure it with runtime=onnxruntime.")
        return "source", render(network, Head(title="A network to be measured.")).encode()
    dtype = find_dtype(options.get("dtype", "float32"))
    model = build(network) if isinstance(network, Graph) else copy.deepcopy(network)
    model = (fold_batch_norms(model) if options.get("fold_batch_norm") else model).eval().to(dtype)
    return "onnx", to_onnx(model, torch.zeros(options.get("batch", 1), *shape, dtype=dtype))
