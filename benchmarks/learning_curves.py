"""What a training's first epochs tell of its end: rank correlations over random networks, each trained with two seeds.

    NAS_DATA=DIR python -m benchmarks.learning_curves [--nets 70] [--epochs 9] [--out FILE] [--write]

The networks, the data and the settings are those of benchmarks/early_stopping.py: 2,000 training and 1,000 test images
of Fashion-MNIST, the classes balanced (fashion_mnist_tiny.npz in ``NAS_DATA``); ``--data`` takes any other .npz. A figure is
Spearman's rank correlation of what one seed shows after so many epochs with the final validation accuracy of the *other* seed
(mean of both ways round), so that a lucky training does not foretell itself. Trainings that are done
are kept in ``--out``, a line each. About 8 minutes on two quiet cores; ``--write`` replaces
results/benchmarks/learning_curves.csv.
"""

from __future__ import annotations

import argparse
import json
import os
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from benchmarks.conditions import Row, conditions, write_rows
from benchmarks.early_stopping import PAGE
from nas.net.build import build
from nas.net.graph import Size
from nas.net.lower import lower
from nas.search.executors.base import Failed, Finished, Job, Report
from nas.search.executors.local import LocalExecutor
from nas.search.forecast import cores
from nas.space.page import read_page
from nas.space.parse import parse_page
from nas.space.search_space import SearchSpace
from nas.train.data import load_data
from nas.train.fit import fit
from nas.train.recipe import Recipe
from nas.train.seeding import seed_everything

SEEDS = 2
SHOWN = {"val_accuracy": 1, "val_loss": -1, "train_loss": -1}
"""What a training shows after every epoch, and whether more of it is better."""


def train(payload: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """In a worker: one network, one seed; what every epoch showed."""
    space = SearchSpace(parse_page(read_page(PAGE, "page.yaml")))
    graph = lower(space.sample(random.Random(payload["net"])), Size())
    recipe = Recipe(epochs=payload["epochs"], batch_size=32, learning_rate=0.05)
    with seed_everything(payload["seed"], "cpu"):
        network = build(graph)
    result = fit(network, load_data(payload["data"], seed=0), recipe, seed=payload["seed"],
                 on_epoch=lambda epoch: report({"epoch": epoch.epoch}))  # fmt: skip
    return {**payload, "num_params": graph.num_params,
            **{shown: [getattr(epoch, shown) for epoch in result.history] for shown in SHOWN}}  # fmt: skip


def trained(todo: list[dict[str, Any]], out: Path) -> list[dict[str, Any]]:
    """The results of all, from ``out`` where they are known."""
    known = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()] if out.exists() else []
    missing = [job for job in todo if not any(job.items() <= row.items() for row in known)]
    with LocalExecutor("benchmarks.learning_curves:train", workers=cores(), gpus_per_trial=0) as executor:
        number = running = 0
        while missing or running:
            while missing and executor.free:
                executor.submit(Job(trial=(number := number + 1), payload=missing.pop()))
                running += 1
            for event in executor.poll(1.0):
                if isinstance(event, Failed):
                    raise RuntimeError(event.reason)
                if isinstance(event, Finished):
                    running -= 1
                    known.append(dict(event.result))
                    with out.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(known[-1]) + "\n")
    return [next(row for row in known if job.items() <= row.items()) for job in todo]


def correlations(curves: Mapping[str, np.ndarray]) -> list[Row]:
    """Curves (nets, seeds, epochs) by what they show; a row an epoch."""
    final = curves["val_accuracy"][:, :, -1]
    rows: list[Row] = []
    for epoch in range(curves["val_accuracy"].shape[2]):
        told = {shown: [spearmanr(sign * curves[shown][:, seed, epoch], final[:, 1 - seed]).statistic for seed in range(SEEDS)]
                for shown, sign in SHOWN.items()}  # fmt: skip
        rows.append({"epochs": epoch + 1, **{shown: round(float(np.mean(values)), 3) for shown, values in told.items()}})
        print(rows[-1])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", type=int, default=70)
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--data", default=os.path.join(os.environ.get("NAS_DATA", "."), "fashion_mnist_tiny.npz"))
    parser.add_argument("--out", type=Path, default=Path("results") / "learning_curves.jsonl")
    parser.add_argument("--write", action="store_true", help="write results/benchmarks/learning_curves.csv")
    given = parser.parse_args()
    about = conditions()
    todo = [{"net": net, "seed": seed, "epochs": given.epochs, "data": given.data}
            for net in range(given.nets) for seed in range(SEEDS)]  # fmt: skip
    results = trained(todo, given.out)
    curves = {shown: np.array([row[shown] for row in results]).reshape(given.nets, SEEDS, given.epochs) for shown in SHOWN}
    deviation = float(np.std(curves["val_accuracy"][:, :, -1], axis=1, ddof=1).mean())
    rows = [row | {"nets": given.nets, "accuracy_sd_of_seeds": round(deviation, 4), **about} for row in correlations(curves)]
    if given.write:
        write_rows("learning_curves.csv", rows)


if __name__ == "__main__":
    main()
