"""What early stopping is worth: the same wall time with early_stopping=asha and without, on Fashion-MNIST.

    NAS_DATA=DIR python -m benchmarks.early_stopping [--seeds 0 1 2] [--wall 180] [--epochs 9] [--out FOLDER] [--write]

Small networks of three stages (PAGE), every core busy with one arm at a time. A front at a moment is made of what was
completed by then, by validation accuracy and parameters. Every network that ever was on a front is trained again, with another
seed, on the same recipe with ``--retrain`` times the epochs, whoever found it, and scored by its test accuracy. The figure is the
hypervolume of the retrained fronts: test accuracy above FLOOR times the natural logarithm of how many times smaller than LARGEST
the network is.
``time_to_match`` is the share of the wall time after which the arm had the final hypervolume of the arm without stopping.

The images are 2,000 to train and 1,000 to test of Fashion-MNIST, the classes balanced (fashion_mnist_tiny.npz in ``NAS_DATA``);
``--data`` takes any other .npz.

Searches and trainings that are done are kept in ``--out``, so a run that is cut short goes on: finished arms are not repeated,
and one that was begun starts over. On two quiet cores a seed takes about 8 minutes with the usual settings; the load when each
arm began is in its rows. ``--write`` replaces results/benchmarks/early_stopping.csv.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.conditions import Row, conditions, write_rows
from nas.search.candidate import View
from nas.search.config import SearchConfig
from nas.search.evaluator import test_accuracy
from nas.search.executors.base import Failed, Finished, Job
from nas.search.executors.local import LocalExecutor
from nas.search.forecast import cores
from nas.search.objectives import front, parse_objectives
from nas.search.run import RunFolder
from nas.search.settled import Settled
from nas.search.start import payload_of, search
from nas.search.storage import open_storage
from nas.search.study import SearchStudy
from nas.space.unparse import to_page
from nas.train.data import load_data

ARMS = ("asha", "none")
FLOOR, LARGEST = 0.6, 3e5
POINTS = 40
"""Moments at which the fronts are looked at."""

PAGE = """
name: three_stages
source: benchmarks/early_stopping.py
input: [1, 28, 28]
num_classes: 10
network:
  - {name: stem, op: conv_bn_act, kernel_size: 3, out_channels: {choice: [4, 8, 12, 16]}, stride: 2}
  - {name: stage1, choice: {conv: {op: conv_bn_act, kernel_size: {choice: [1, 3, 5]}, out_channels: {choice: [8, 16, 24, 32]}},
                           sep: {op: sep_conv, kernel_size: {choice: [3, 5, 7]}, out_channels: {choice: [8, 16, 24, 32]}}}}
  - {name: down, op: conv_bn_act, kernel_size: {choice: [2, 3, 5]}, out_channels: {choice: [16, 24, 32, 48]}, stride: 2}
  - {name: stage2, choice: {conv: {op: conv_bn_act, kernel_size: {choice: [1, 3, 5]}, out_channels: {choice: [16, 32, 48, 64]}},
                          sep: {op: sep_conv, kernel_size: {choice: [3, 5, 7]}, out_channels: {choice: [16, 32, 48, 64]}},
                          none: identity}}
  - global_avg_pool
  - classifier
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What both arms share."""

    data: str
    out: Path
    wall: str
    epochs: int
    retrain: int
    strategy: str
    objectives: str


@dataclass(frozen=True, slots=True)
class Found:
    """A completed candidate: when (seconds after the first trial began), what it is, and what the search knew of it."""

    seconds: float
    identity: str
    decisions: Mapping[str, Any]
    metrics: Mapping[str, float]


def run_arm(setting: Setting, seed: int, arm: str) -> Path:
    """The folder of a finished search; one that was begun and not finished is started over."""
    run, done = setting.out / f"seed{seed}-{arm}", setting.out / f"seed{seed}-{arm}.json"
    if done.exists():
        return run
    shutil.rmtree(run, ignore_errors=True)
    setting.out.mkdir(parents=True, exist_ok=True)
    page = setting.out / "three_stages.yaml"
    page.write_text(PAGE, encoding="utf-8")
    about = conditions()
    config = SearchConfig.from_words({
        "space": str(page), "data": setting.data, "budget": setting.wall, "objectives": setting.objectives,
        "strategy": setting.strategy, "epochs": setting.epochs, "early_stopping": arm, "seed": seed,
        "baseline": "0", "repeats": "0", "proxy": "width=1", "deploy": "width=1", "run": str(run)})  # fmt: skip
    result = search(config, say=lambda line: None, view=no_view)
    if result.interrupted:
        raise KeyboardInterrupt
    done.write_text(json.dumps({**about, "wall_s": result.wall_s, "trials": dict(result.counts)}), encoding="utf-8")
    return run


@contextmanager
def no_view() -> Iterator[View]:
    """Shows nothing."""
    yield lambda status: None


def found(run: Path) -> list[Found]:
    """The completed candidates of a search, by time."""
    settled = Settled.read(RunFolder(run))
    with open_storage(run / "study.log", reading=True) as storage:
        study = SearchStudy(storage, settled.space, settled.objectives, settled.constraints, name=settled.name, reading=True)
        ends = {t.number: t.datetime_complete for t in study.optuna.trials}
        begin = min(t.datetime_start for t in study.optuna.trials if t.datetime_start is not None)
    kept = [(end, r) for r in study.records if r.state == "completed" and (end := ends[r.number]) is not None]
    return [Found((end - begin).total_seconds(), r.identity, r.decisions, r.metrics)
            for end, r in sorted(kept, key=lambda pair: pair[0])]  # fmt: skip


def fronts(candidates: Sequence[Found], objectives: str, wall: float) -> list[tuple[float, list[Found]]]:
    """What a search would have answered at even moments, of which the last is its end."""
    goals = parse_objectives(objectives)
    moments = [wall * (i + 1) / POINTS for i in range(POINTS)]
    known = [[c for c in candidates if c.seconds <= moment or moment == moments[-1]] for moment in moments]
    return [(moment, [some[i] for i in front([c.metrics for c in some], goals)])
            for moment, some in zip(moments, known, strict=True)]  # fmt: skip


def retrained(setting: Setting, run: Path, members: Iterable[Found]) -> dict[str, float]:
    """Test accuracies after equal trainings, by identity; those that are known are not trained again."""
    cache = setting.out / f"retrained-{setting.epochs * setting.retrain}.json"
    known: dict[str, float] = json.loads(cache.read_text(encoding="utf-8")) if cache.exists() else {}
    todo = list({c.identity: c for c in members if c.identity not in known}.values())
    settled = Settled.read(RunFolder(run))
    recipe = replace(settled.plan.recipe, epochs=setting.epochs * setting.retrain)
    weights = setting.out / "weights"
    weights.mkdir(exist_ok=True)
    payload = {**payload_of(settled, RunFolder(run)), "recipe": recipe.to_mapping(), "seed": 1000,
               "stage": {"do": "train", "epochs": recipe.epochs}}  # fmt: skip
    data = load_data(setting.data, seed=settled.config.seed)
    with LocalExecutor("nas.search.evaluator:evaluate", workers=cores(), gpus_per_trial=0,
                       preload="nas.search.evaluator:preload", log=setting.out / "retrained.txt") as executor:  # fmt: skip
        waiting, running = list(enumerate(todo)), dict[int, Found]()
        while waiting or running:
            while waiting and executor.free:
                number, candidate = waiting.pop(0)
                page = to_page(settled.space.architecture(candidate.decisions).spec)
                words = {"page": page, "weights": str(weights / f"{number}.pt"),
                         "checkpoint": str(weights / f"{number}.checkpoint")}  # fmt: skip
                executor.submit(Job(trial=number, payload={**payload, **words}))
                running[number] = candidate
            for event in executor.poll(1.0):
                if isinstance(event, Failed):
                    raise RuntimeError(event.reason)
                if isinstance(event, Finished):
                    candidate = running.pop(event.trial)
                    given = {**payload, "weights": str(weights / f"{event.trial}.pt")}
                    known[candidate.identity] = test_accuracy(settled.space.architecture(candidate.decisions), given, data)
                    cache.write_text(json.dumps(known), encoding="utf-8")
    shutil.rmtree(weights)
    return known


def hypervolume(points: Iterable[tuple[float, float]]) -> float:
    """The area of what (accuracy, parameters) dominate, above FLOOR and in logarithms below LARGEST."""
    area, height = 0.0, FLOOR
    for accuracy, size in sorted(points, key=lambda point: (point[1], -point[0])):
        if accuracy > height and size < LARGEST:
            area += (accuracy - height) * math.log(LARGEST / size)
            height = accuracy
    return area


def compare(setting: Setting, seed: int) -> list[Row]:
    """Both arms of a seed, at every moment."""
    runs = {arm: run_arm(setting, seed, arm) for arm in ARMS}
    about = {arm: json.loads((setting.out / f"seed{seed}-{arm}.json").read_text(encoding="utf-8")) for arm in ARMS}
    wall = min(float(about[arm]["wall_s"]) for arm in ARMS)
    seen = {arm: fronts(found(runs[arm]), setting.objectives, wall) for arm in ARMS}
    members = [member for arm in ARMS for _, some in seen[arm] for member in some]
    accuracy = retrained(setting, runs[ARMS[0]], members)
    curves = {arm: [hypervolume((accuracy[m.identity], m.metrics["num_params"]) for m in some) for _, some in seen[arm]]
              for arm in ARMS}  # fmt: skip
    goal, rows = curves["none"][-1], list[Row]()
    for arm in ARMS:
        trials, where = about[arm].pop("trials"), about[arm]
        reached = next((i + 1 for i, value in enumerate(curves[arm]) if value >= goal), None)
        matched = "never" if reached is None else f"after {reached / POINTS:.0%} of {wall:.0f} s"
        print(f"seed {seed} {arm} {trials} hypervolume {curves[arm][-1]:.4f}, matches none's {matched}", flush=True)
        rows += [{"seed": seed, "arm": arm, "share": (i + 1) / POINTS, "seconds": round(moment, 1), "front": len(some),
                  "hypervolume": round(value, 5), "time_to_match": reached and reached / POINTS, "epochs": setting.epochs,
                  "retrain_epochs": setting.epochs * setting.retrain, "strategy": setting.strategy,
                  "completed": trials.get("completed", 0), "stopped": trials.get("stopped", 0), **where}
                 for i, ((moment, some), value) in enumerate(zip(seen[arm], curves[arm], strict=True))]  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--wall", default="180s", help="the budget of an arm")
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--retrain", type=int, default=2)
    parser.add_argument("--strategy", default="random")
    parser.add_argument("--objectives", default="accuracy,num_params")
    parser.add_argument("--data", default=os.path.join(os.environ.get("NAS_DATA", "."), "fashion_mnist_tiny.npz"))
    parser.add_argument("--out", type=Path, default=Path("results") / "early_stopping")
    parser.add_argument("--write", action="store_true", help="write results/benchmarks/early_stopping.csv")
    given = vars(parser.parse_args())
    seeds, write = given.pop("seeds"), given.pop("write")
    rows = [row for seed in seeds for row in compare(Setting(**given), seed)]
    if write:
        write_rows("early_stopping.csv", rows)


if __name__ == "__main__":
    main()
