"""``nas measure``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nas.cli.arguments import Arguments
from nas.cli.show import size_of
from nas.errors import NasError, UsageError, nearest
from nas.measure.conditions import DTYPES
from nas.measure.latency import Latency
from nas.measure.metrics import memory_of, throughput
from nas.measure.protocol import Limits
from nas.measure.reference import Anchors
from nas.measure.target import is_remote, measure_at
from nas.net.graph import Graph
from nas.net.lower import lower
from nas.report.text import megabytes
from nas.search.config import whole_number
from nas.space.library import load_architecture
from nas.space.search_space import Architecture


def run(arguments: Arguments) -> dict[str, Any]:
    """Measure a page's network, or a trial's at the size it is to be deployed at."""
    name, graph = _network(arguments)
    options, limits = options_of(arguments), _limits(arguments)
    wait = _number(arguments, "wait", 60.0, least=0)
    reference = arguments.get("reference")
    target = options.pop("device")
    latency = measure_at(target, graph, **options, limits=limits, wait_s=wait,
                         anchors=Anchors(reference) if reference is not None else None)  # fmt: skip
    memory = memory_of(target, graph, dtype=latency.dtype, batch=latency.batch, wait_s=wait)
    document: dict[str, Any] = {
        "name": name, "target": target, "latency": latency.to_mapping(), "throughput_per_s": throughput(latency),
        "memory": memory._asdict(), "num_params": graph.num_params, "macs": graph.macs,
    }  # fmt: skip
    if not arguments.json:
        print(_text(document, latency))
    return document


def _network(arguments: Arguments) -> tuple[str, Graph]:
    """A page's network, or a run's trial. Raises when there is neither, naming what is nearest."""
    what, trial, size = arguments.words[0], arguments.get("trial"), size_of(arguments)
    from nas.search.run import RunFolder

    try:
        folder = RunFolder.find(what)
    except NasError:
        if trial is not None:
            raise
        architecture = load_architecture(what)
        return architecture.name, lower(architecture, size)
    from nas.search.archive import open_archive
    from nas.search.front import at_size

    with open_archive(what) as archive:
        record = archive.pick(trial or "best")
        name = f"{folder.path.name}-{record.number}"
        spec = at_size(archive.study.space.architecture(record.decisions), archive.deploy, name)
    return name, lower(Architecture(spec), size)


def options_of(arguments: Arguments) -> dict[str, Any]:
    """The conditions of a measurement, as ``measure_latency`` takes them. Raises UsageError."""
    dtype = arguments.get("dtype", "float32") or "float32"
    if dtype not in DTYPES:
        raise UsageError("unknown dtype", got=dtype, expected=" or ".join(DTYPES), hint=nearest(dtype, DTYPES))
    options: dict[str, Any] = {
        "device": arguments.get("target", "cpu"), "batch": whole_number("batch", arguments.get("batch", "1")),
        "threads": whole_number("threads", arguments.get("threads", "1")), "dtype": dtype,
        "runtime": arguments.get("runtime", "eager"), "memory_format": arguments.get("memory_format"),
        "fold_batch_norm": "fold" in arguments.flags, "graph": "graph" in arguments.flags,
    }  # fmt: skip
    cores = arguments.get("cores")
    if cores is not None:
        options["cores"] = [whole_number("cores", core, least=0) for core in cores.split(",")]
    return options


def _limits(arguments: Arguments) -> Limits:
    limits = Limits()
    tolerance = arguments.get("tolerance")
    if tolerance is not None:
        share = _number({"tolerance": tolerance.removesuffix("%")}, "tolerance", 2.0, least=0.1, most=50) / 100
        limits = replace(limits, tolerance=share, max_half_width=max(share, limits.max_half_width))
    return replace(limits, max_s=_number(arguments, "max_s", limits.max_s, least=0.1))


def _number(words: Arguments | Mapping[str, str], key: str, default: float, least: float, most: float = 3600) -> float:
    """A number between two bounds. Raises UsageError."""
    value = words.get(key)
    if value is None:
        return default
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if not least <= number <= most:
        raise UsageError(f"{key} is a number", expected=f"{least:g} to {most:g}", got=value)
    return number


def _text(document: dict[str, Any], latency: Latency) -> str:
    memory, ms = document["memory"], "{:.4g}".format
    elsewhere = f"{document['target']}: " * is_remote(document["target"])
    shape = "x".join(map(str, latency.input_shape))
    half = (latency.high_ms - latency.low_ms) / 2
    layout = f"{latency.memory_format}{', batch norms folded' * bool(latency.batch_norm_folded)}{', CUDA graph' * latency.graph}"
    cores = f" on core{'s' * (len(latency.cores) > 1)} {','.join(map(str, latency.cores))}" if latency.cores else ""
    clock = f" at {latency.clock_mhz:.0f} MHz" if latency.clock_mhz else ""
    drift = f"{abs(latency.reference_drift):.1%} {'slower' if latency.reference_drift >= 0 else 'faster'}"
    speed = f"{document['throughput_per_s']:.4g} images/s"
    kept = f"n = {latency.n} pairs kept, {latency.rejected} interrupted, attempt {latency.attempts}, {latency.seconds:.1f} s"
    held = f"weights {megabytes(memory['weight_bytes'])}, between operations {megabytes(memory['activation_bytes'])} (estimate)"
    peak = f", peak {megabytes(memory['peak_bytes'])}" if memory["peak_bytes"] else ""
    lines = [
        (f"{document['name']}, input {shape}, batch {latency.batch}",
         f"{ms(latency.median_ms)} ms ± {ms(half)} ({half / latency.median_ms:.1%}), {speed}"),
        (f"{latency.confidence:.0%} interval of the median", f"{ms(latency.low_ms)} to {ms(latency.high_ms)} ms"),
        ("single runs", f"95th percentile {ms(latency.p95_ms)} ms, interquartile range {ms(latency.iqr_ms)} ms"),
        ("samples", kept),
        ("device", f"{elsewhere}{latency.device_name}{clock}, {latency.threads} thread{'s' * (latency.threads > 1)}{cores}"),
        ("runtime", f"{latency.runtime} {latency.runtime_version} (torch {latency.torch_version}), {latency.dtype}, {layout}"),
        ("drift", f"the reference ran {drift} than in quiet times; corrected"),
        ("memory", held + peak),
    ]  # fmt: skip
    width = max(len(what) for what, _ in lines)
    return "\n".join(f"{what:<{width}}  {said}" for what, said in lines)
