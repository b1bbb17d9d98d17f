"""Two one-thread workers on two cores against one worker with one or two threads: trials an hour of real trainings.

    python -m benchmarks.workers [--spaces three_stages nasnet_cell] [--rounds 5] [--trials 4] [--write]

Every arm trains the same networks for an epoch of 600 random 32x32 images in batches of 96, in warm workers pinned to cores:
of PAGE (dense and separable convolutions in three stages: few large operations, which two threads share well) or of a space,
at the size of a CIFAR-10 proxy (nasnet_cell: hundreds of small ones). The arms take turns in blocks of ``--trials``
trainings, in another order each round, so that what else the machine does hits all alike. Printed are medians over the rounds
with their range; ``gain`` is trials an hour over the better of the two arms of one worker, round by round. About two minutes a
space on two quiet cores; the load average is told before and after. ``--write`` replaces results/benchmarks/workers.csv.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.conditions import Row, conditions, write_rows
from nas.net.graph import Size
from nas.search.executors.base import Failed, Finished, Job
from nas.search.executors.local import LocalExecutor
from nas.search.settled import size_words
from nas.space.library import load_space
from nas.space.page import read_page
from nas.space.parse import parse_page
from nas.space.search_space import SearchSpace
from nas.space.unparse import to_page
from nas.train.recipe import Recipe

ARMS = {"2 workers, 1 thread": (2, 1), "1 worker, 1 thread": (1, 1), "1 worker, 2 threads": (1, 2)}
OURS = "2 workers, 1 thread"
IMAGES = 750
"""A fifth is held out for validation."""

PAGE = """
name: three_stages
source: benchmarks/workers.py
input: [3, 32, 32]
num_classes: 10
network:
  - {name: stem, op: conv_bn_act, kernel_size: 3, out_channels: 32}
  - {name: stage1, choice: {conv: {op: conv_bn_act, kernel_size: {choice: [3, 5]}, out_channels: 32},
                            sep: {op: sep_conv, kernel_size: {choice: [3, 5, 7]}, out_channels: 64}}}
  - {name: down1, op: conv_bn_act, kernel_size: 3, out_channels: 64, stride: 2}
  - {name: stage2, choice: {conv: {op: conv_bn_act, kernel_size: {choice: [3, 5]}, out_channels: 64},
                            sep: {op: sep_conv, kernel_size: {choice: [3, 5, 7]}, out_channels: 128}}}
  - {name: down2, op: conv_bn_act, kernel_size: 3, out_channels: 128, stride: 2}
  - global_avg_pool
  - classifier
"""


def write_images(path: Path) -> Path:
    """Random images of CIFAR-10's size and number of classes."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (IMAGES + 50, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(IMAGES + 50) % 10
    np.savez(path, x_train=pixels[:IMAGES], y_train=labels[:IMAGES], x_test=pixels[IMAGES:], y_test=labels[IMAGES:])
    return path


def networks(name: str) -> tuple[SearchSpace, Size]:
    """The space, and how large its networks are trained."""
    if name == "three_stages":
        return SearchSpace(parse_page(read_page(PAGE, name))), Size(input=(3, 32, 32), num_classes=10)
    return load_space(name), Size(width=0.25, depth=1 / 3, input=(3, 32, 32), num_classes=10)


def jobs(folder: Path, count: int, name: str) -> list[Job]:
    """Trainings of so many different networks, each of an epoch."""
    space, trained = networks(name)
    size = size_words(trained)
    shared = {
        "data": {"source": str(write_images(folder / "images.npz")), "seed": 0, "image_size": None, "device": "cpu"},
        "deploy": size, "proxy": size, "recipe": Recipe(epochs=1, batch_size=96).to_mapping(), "seed": 0, "plugins": [],
        "measure": None, "weights": "", "stage": {"do": "train", "epochs": 1},
    }  # fmt: skip
    return [Job(trial=i, payload={**shared, "page": to_page(space.sample(random.Random(i)).spec),
                                  "checkpoint": str(folder / f"{i}.pt")}) for i in range(count)]  # fmt: skip


def trials_per_hour(executor: LocalExecutor, todo: Sequence[Job]) -> float:
    """Run all jobs. Raises RuntimeError when one fails."""
    waiting, running, start = list(reversed(todo)), 0, time.perf_counter()
    while waiting or running:
        while waiting and executor.free:
            executor.submit(waiting.pop())
            running += 1
        for event in executor.poll(1.0):
            if isinstance(event, Failed):
                raise RuntimeError(event.reason)
            running -= isinstance(event, Finished)
    return 3600 * len(todo) / (time.perf_counter() - start)


def measure(rounds: int, trials: int, space: str) -> dict[str, list[float]]:
    """Trials an hour of every arm, round by round."""
    paces: dict[str, list[float]] = {arm: [] for arm in ARMS}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        todo = jobs(Path(folder), trials, space)
        executors = {arm: stack.enter_context(LocalExecutor(
            "nas.search.evaluator:evaluate", workers=workers, threads=threads, gpus_per_trial=0,
            preload="nas.search.evaluator:preload")) for arm, (workers, threads) in ARMS.items()}  # fmt: skip
        for arm, executor in executors.items():
            trials_per_hour(executor, todo[: ARMS[arm][0]])  # starts, imports, data
        order = list(ARMS)
        for turn in range(rounds):
            for arm in order[turn % 3 :] + order[: turn % 3]:
                paces[arm].append(trials_per_hour(executors[arm], todo))
            print("  ".join(f"{arm}: {paces[arm][-1]:.0f}/h" for arm in ARMS), flush=True)
    return paces


def report(paces: Mapping[str, Sequence[float]], about: Mapping[str, Any]) -> list[Row]:
    """A row for every arm."""
    alone = [max(pair) for pair in zip(*(paces[arm] for arm in ARMS if arm != OURS), strict=True)]
    gains = {arm: [pace / best for pace, best in zip(paces[arm], alone, strict=True)] for arm in ARMS}
    return [{"arm": arm, "trials_per_hour": round(statistics.median(paces[arm]), 1), "low": round(min(paces[arm]), 1),
             "high": round(max(paces[arm]), 1), "gain": round(statistics.median(gains[arm]), 3),
             "gain_low": round(min(gains[arm]), 3), "gain_high": round(max(gains[arm]), 3), "rounds": len(paces[arm]), **about}
            for arm in ARMS]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spaces", nargs="+", default=["three_stages", "nasnet_cell"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=4, help="trainings a block; even, so that two workers share them")
    parser.add_argument("--write", action="store_true", help="write results/benchmarks/workers.csv")
    given = parser.parse_args()
    rows: list[Row] = []
    for space in given.spaces:
        about = conditions()
        paces = measure(given.rounds, given.trials, space)
        rows += report(paces, {"space": space, **about, "load_after": round(os.getloadavg()[0], 1), "block": given.trials})
        for row in rows[-len(ARMS) :]:
            print(row)
    if given.write:
        write_rows("workers.csv", rows)


if __name__ == "__main__":
    main()
