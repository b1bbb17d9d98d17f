"""How quickly architectures are drawn, lowered and built, and how long the pages are.

    python benchmarks/lowering.py [--samples 500] [--rounds 9] [--write]

- decide and lower: networks a second on one core, drawn evenly from nasnet_cell with stacks of N cells. Every sample is new;
  operations met before are remembered, as in a search, so the first samples (``--samples`` of them) are a warm-up. The median
  of ``--rounds`` rounds.
- build: ``nas.build(graph)`` against the same modules made directly, with the same arguments and initialisation, by plain
  classes: those that ``nas export`` writes, with their loops and ``nn.Sequential``. In one process, by turns; the ratio of
  the medians of ``--rounds`` rounds.
- pages: lines of each file.

Times are the process's own on one thread (CPU seconds), which other processes on the machine disturb less than the clock's.

``--write`` stores the figures in results/benchmarks/lowering.csv. About half a minute on one core.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import random
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

from nas.net.build import build
from nas.net.graph import Graph, Size
from nas.net.lower import lower
from nas.net.render import Head, render
from nas.space.library import load_architecture, load_space, pages_folder

ROOT = Path(__file__).resolve().parent.parent
Row = tuple[str, str, str, str]

PUBLISHED = ("nasnet_a_cifar", "efficientnet_b0", "resnet_50", "darts_v2_cifar")
CELLS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    conditions = f"{_processor()}, 1 thread, Python {platform.python_version()}, torch {torch.__version__}"
    print(f"# {conditions}; load {_load()}")
    rows: list[Row] = [("conditions", conditions, _load(), "load")]
    for stack in (2, 6):
        rows.append(("decide and lower", f"nasnet_cell N={stack}", f"{speed(stack, arguments):.0f}", "samples/CPU s"))
        print(*rows[-1])
    for name, graph in networks().items():
        ours, plain = compare(graph, arguments.rounds)
        rows.append(("build / hand-written", name, f"{ours / plain:.3f}", f"of {1e3 * plain:.1f} ms"))
        print(*rows[-1])
    rows += [("page", str(page.relative_to(pages_folder())), str(len(page.read_text(encoding="utf-8").splitlines())), "lines")
             for page in sorted(pages_folder().rglob("*.yaml"))]  # fmt: skip
    lengths = [int(row[2]) for row in rows if row[0] == "page"]
    print(f"{len(lengths)} pages, {min(lengths)} to {max(lengths)} lines, median {median(lengths):.0f}")
    if arguments.write:
        with (ROOT / "results" / "benchmarks" / "lowering.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([("what", "of", "value", "unit"), *rows])


def speed(stack: int, arguments: argparse.Namespace) -> float:
    """Samples a second at stacks of so many cells (the page says 6)."""
    space, rng, size = load_space("nasnet_cell"), random.Random(0), Size(depth=stack / 6)
    times = []
    for _ in range(1 + arguments.rounds):
        start = time.process_time()
        for _ in range(arguments.samples):
            lower(space.sample(rng), size)
        times.append(time.process_time() - start)
    return float(arguments.samples / median(times[1:]))


def networks() -> dict[str, Graph]:
    """Published networks, and sampled cells in stacks of two."""
    space, rng = load_space("nasnet_cell"), random.Random(0)
    graphs = {name: lower(load_architecture(name)) for name in PUBLISHED}
    size = Size(width=0.25, depth=1 / 3)
    return graphs | {f"nasnet_cell N=2, width 0.25, sample {i}": lower(space.sample(rng), size) for i in range(CELLS)}


def compare(graph: Graph, rounds: int) -> tuple[float, float]:
    """Seconds to build a graph, and to make the same network from its source; after one of each as a warm-up."""
    names: dict[str, Any] = {"__name__": "network"}
    exec(compile(render(graph, Head(title="t")), "network.py", "exec"), names)  # our own text, not a user's
    ways: tuple[Callable[[], Any], ...] = (lambda: build(graph), names["build"])
    times: tuple[list[float], ...] = ([], [])
    for _ in range(1 + rounds):
        for way, taken in zip(ways, times, strict=True):
            start = time.process_time()
            way()
            taken.append(time.process_time() - start)
    return median(times[0][1:]), median(times[1][1:])


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    main()
