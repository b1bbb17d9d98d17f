"""How well latency repeats: the same random networks measured twice, in two processes, by two protocols.

    python benchmarks/latency_repeatability.py [--nets 20] [--loads 0 1 2] [--cells 100] [--write]

For every number of foreign training processes in ``--loads``, two fresh processes measure every network by
``measure_latency`` and, right after it, by torch's ``blocked_autorange`` for about the same time. Compared are the two
processes, and the last one with the first of all ("vs ... foreign"; ``median_lean`` is signed: below 0 the later figures are
the lower ones; ``intervals_meet`` is the share of the networks whose two stated intervals have a value in common).
Everything shares one record of quiet times, as a run's folder does. Then ``--cells`` random networks of nasnet_cell (CIFAR's
size) are measured twice on the machine as it is, by ``measure_latency`` alone: what matters there is their order. A refused
measurement is counted, and is not a figure. 20 networks, three loads and 100 cells take 8 minutes on a quiet machine; a
busy one refuses, and takes longer. With
``--write`` the figures go to results/benchmarks/latency_repeatability.csv with their conditions.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.benchmark import Timer

from nas.errors import MeasureError
from nas.measure.device import device_name
from nas.measure.latency import measure_latency
from nas.measure.reference import Anchors, SepConv, Sum
from nas.net.build import build
from nas.net.graph import Size
from nas.net.lower import lower
from nas.space.library import load_space

ROOT = Path(__file__).resolve().parent.parent
Shape = tuple[int, int, int]
Row = dict[str, object]


def random_op(rng: random.Random, channels: int) -> nn.Module:
    """One of separable and dense convolutions, poolings and the identity."""
    kernel = rng.choice([3, 5])
    conv = nn.Conv2d(channels, channels, rng.choice([1, 3]), padding="same", bias=False)
    return rng.choice([
        SepConv(channels, channels, kernel, 1), nn.Sequential(nn.ReLU(), conv, nn.BatchNorm2d(channels)),
        nn.AvgPool2d(3, 1, 1), nn.MaxPool2d(3, 1, 1), nn.Identity(),
    ])  # fmt: skip


def random_net(seed: int) -> tuple[nn.Module, Shape]:
    """A small random network of two or three stages and its input shape."""
    rng = random.Random(seed)
    channels, size = rng.choice([8, 12, 16, 24, 32]), rng.choice([8, 16, 32])
    layers: list[nn.Module] = [nn.Conv2d(3, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)]
    for _ in range(rng.choice([2, 3])):
        layers += [Sum(random_op(rng, channels), random_op(rng, channels)) for _ in range(rng.choice([1, 2, 3]))]
        layers.append(SepConv(channels, 2 * channels, 3, 2))
        channels *= 2
    layers += [nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)]
    return nn.Sequential(*layers).eval(), (3, size, size)


def random_cell(seed: int) -> tuple[nn.Module, Shape]:
    """A network of nasnet_cell at the size of a CIFAR search, and its input shape."""
    graph = lower(load_space("nasnet_cell").sample(random.Random(seed)), Size(width=0.25, depth=1 / 3, input=(3, 32, 32)))
    return build(graph).eval(), (3, 32, 32)


def autorange_ms(model: nn.Module, shape: Shape, seconds: float) -> list[float]:
    """Torch's own protocol under the same conditions: ms a run of each of its blocks."""
    net = model.to(memory_format=torch.channels_last)
    data = torch.randn(1, *shape).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        timer = Timer("net(data)", globals={"net": net, "data": data}, num_threads=1)
        return [1000 * run for run in timer.blocked_autorange(min_run_time=seconds).times]


def sweep(nets: int, folder: str, cells: bool) -> None:
    """What a worker process does: one JSON line a network."""
    anchors = Anchors(folder)
    for seed in range(nets):
        model, shape = random_cell(seed) if cells else random_net(seed)
        start = time.perf_counter()
        try:
            latency = measure_latency(model, shape, anchors=anchors).to_mapping()
        except MeasureError as error:
            latency = {"median_ms": None, "error": str(error), "seconds": time.perf_counter() - start}
        peer = {} if cells else {"autorange_ms": median(autorange_ms(model, shape, 0.4))}
        print(json.dumps(latency | peer), flush=True)


def foreign_load(seconds: float) -> None:
    """A training loop on one thread, for so long, and no longer than the process that started it lives."""
    parent = os.getppid()
    torch.set_num_threads(1)
    model, shape = random_net(3)
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    images, labels = torch.randn(64, *shape), torch.randint(0, 10, (64,))
    end = time.monotonic() + seconds
    while time.monotonic() < end and os.getppid() == parent:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()


def itself(*words: str) -> dict[str, Any]:
    """This script in another process, as keyword arguments of `subprocess`."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return {"args": [sys.executable, __file__, *words], "env": environment}


@contextmanager
def loaded(count: int, seconds: float) -> Iterator[None]:
    """So many foreign processes train meanwhile, and end by themselves after ``seconds`` at the latest."""
    foreign = [subprocess.Popen(**itself("--load", str(seconds))) for _ in range(count)]
    if foreign:
        time.sleep(4)  # import torch
    try:
        yield
    finally:
        for process in foreign:
            process.terminate()
            process.wait()


def run_sweep(nets: int, folder: str, cells: int = 0) -> list[Row]:
    command = itself("--sweep", folder, "--nets", str(nets), "--cells", str(cells))
    worker = subprocess.run(**command, stdout=subprocess.PIPE, text=True, timeout=60 + 30 * nets, check=True)
    return [json.loads(line) for line in worker.stdout.splitlines()]


def kendall(a: np.ndarray, b: np.ndarray) -> float:
    """Kendall's tau (no ties expected)."""
    upper = np.triu_indices(len(a), 1)
    return float(np.mean(np.sign(a[upper[0]] - a[upper[1]]) * np.sign(b[upper[0]] - b[upper[1]])))


def intervals_meet(both: list[tuple[Row, Row]]) -> float:
    """Share of the networks whose two stated intervals have a value in common."""
    ends = np.array([[[row["low_ms"], row["high_ms"]] for row in pair] for pair in both], dtype=float)
    return float(np.mean(ends[:, :, 0].max(axis=1) <= ends[:, :, 1].min(axis=1)))


def compare(what: str, load: int, field: str, first: list[Row], second: list[Row]) -> Row:
    """Agreement of two sweeps over the networks that both measured."""
    both = [(x, y) for x, y in zip(first, second, strict=True) if x[field] is not None and y[field] is not None]
    if len(both) < 2:
        return {"foreign_processes": load, "compared": what, "protocol": field.removesuffix("_ms").replace("median", "paired"),
                "nets": len(first), "refused": len(first) - len(both)}  # fmt: skip
    a, b = (np.array([pair[i][field] for pair in both], dtype=float) for i in (0, 1))
    gap = np.abs(a - b) / ((a + b) / 2)
    return {
        "foreign_processes": load, "compared": what, "protocol": field.removesuffix("_ms").replace("median", "paired"),
        "nets": len(first), "refused": len(first) - len(both), "median_difference": round(float(np.median(gap)), 4),
        "median_lean": round(float(np.median(b / a - 1)), 4),
        "p95_difference": round(float(np.quantile(gap, 0.95)), 4), "max_difference": round(float(gap.max()), 4),
        **({"intervals_meet": round(intervals_meet(both), 3)} if field == "median_ms" else {}),
        "kendall": round(kendall(a, b), 3),
        "fastest_ms": round(float(a.min()), 3), "slowest_ms": round(float(a.max()), 3),
    }  # fmt: skip


def costs(sweeps: list[list[Row]]) -> Row:
    """Seconds a network took, how far the reference had drifted, and what the machine had to do in all."""
    rows = [row for rows in sweeps for row in rows]
    seconds = [float(str(row["seconds"])) for row in rows]
    drift = [float(str(row["reference_drift"])) for row in rows if row["median_ms"] is not None]
    return {"median_s": round(float(np.median(seconds)), 2), "max_s": round(max(seconds), 2),
            "median_drift": round(float(np.median(drift or [0.0])), 3), "max_drift": round(max(drift, default=0.0), 3),
            "load_average": round(os.getloadavg()[0], 1)}  # fmt: skip


def benchmark(nets: int, loads: list[int], cells: int) -> list[Row]:
    """All comparisons, printed as they come."""
    rows: list[Row] = []
    first: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for load in loads:
            with loaded(load, 120 + 30 * nets):
                sweeps = [run_sweep(nets, folder) for _ in range(2)]
            first = first or sweeps[0]
            pairs = [("two processes", sweeps[0], sweeps[1])]
            pairs += [(f"vs {loads[0]} foreign", first, sweeps[1])] if load != loads[0] else []
            for field in ("median_ms", "autorange_ms"):
                for what, a, b in pairs:
                    rows.append(compare(what, load, field, a, b) | (costs(sweeps) if field == "median_ms" else {}))
                    print(rows[-1], flush=True)
            for error in (row["error"] for rows_ in sweeps for row in rows_ if "error" in row):
                print("refused:", error)
        if cells:
            sweeps = [run_sweep(cells, folder, 1) for _ in range(2)]
            rows.append(compare("nasnet_cell, two processes", 0, "median_ms", *sweeps) | costs(sweeps))
            print(rows[-1], flush=True)
    conditions = {"threads": 1, "batch": 1, "dtype": "float32", "memory_format": "channels_last",
                  "device": device_name(torch.device("cpu")), "cores": os.cpu_count(), "torch": torch.__version__}  # fmt: skip
    return [row | conditions for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--nets", type=int, default=20)
    parser.add_argument("--loads", type=int, nargs="+", default=[0, 1], help="numbers of foreign training processes")
    parser.add_argument("--cells", type=int, default=100, help="random networks of nasnet_cell, measured twice")
    parser.add_argument("--write", action="store_true", help="write results/benchmarks/latency_repeatability.csv")
    parser.add_argument("--sweep", metavar="FOLDER", help=argparse.SUPPRESS)
    parser.add_argument("--load", type=float, metavar="SECONDS", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.load is not None:
        return foreign_load(args.load)
    if args.sweep is not None:
        return sweep(args.nets, args.sweep, bool(args.cells))
    rows = benchmark(args.nets, args.loads, args.cells)
    if args.write:
        path = ROOT / "results" / "benchmarks" / "latency_repeatability.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(dict.fromkeys(key for row in rows for key in row)))
            writer.writeheader()
            writer.writerows(rows)
    return None


if __name__ == "__main__":
    main()
