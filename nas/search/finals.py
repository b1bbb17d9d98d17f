"""The last share of a budget: the best of the front trained at the size they are deployed at, by a published recipe."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nas.search.executors.base import Executor
from nas.search.executors.host import ARRIVING
from nas.search.extras import Extra, page_of, run_extras
from nas.search.final import CHECKPOINT, FILES, METRICS, FinalResult, train_final
from nas.search.loop import SearchLoop
from nas.search.run import RunFolder
from nas.search.settled import Settled
from nas.search.study import Record
from nas.train.data import Dataset
from nas.train.recipe_pages import load_recipe

LEAST_S = 5.0
"""Seconds that a final training is worth beginning with."""


def train_finals(loop: SearchLoop) -> None:
    """Train the members that the shares ask for, of those within the limits, side by side as far as there are slots, until the
    budget is spent."""
    checks, wanted = loop.ledger.front.checks, loop.rules.shares.members
    members = [record for record in loop.ledger.front.kept if record.number not in checks.final]
    members.sort(key=lambda record: not final_folder(loop.folder, record.number).exists())  # what was begun is gone on with
    todo = members[: wanted - len(checks.final)]
    if not todo:
        return
    seconds = seconds_each(loop, loop.executor, len(todo))
    if seconds < LEAST_S:
        return loop.ledger.remark(f"no final training: {max(0.0, seconds):.1f} s a network are left of the budget")

    def trained(extra: Extra, result: Mapping[str, Any]) -> None:
        if result.get("stopped"):
            loop.ledger.remark(f"the budget ended before the final training of trial {extra.name}; a larger one goes on with it")
        else:
            checks.final[int(extra.name)] = {key: value for key, value in result.items() if key != "metrics"}
            tidy(final_folder(loop.folder, int(extra.name)))

    jobs = [Extra(str(r.number), page_of(loop, r), {"stage": stage}, tuple(str(Path(stage["folder"]) / name) for name in FILES))
            for r in todo for stage in [stage_of(loop, r, seconds)]]  # fmt: skip
    run_extras(loop, jobs, trained, share=1.0, seconds=seconds, what="final training")


def tidy(folder: Path) -> None:
    """Delete what a training on another machine leaves here: the last checkpoint that came, and what was on its way when a driver
    was killed."""
    for path in (folder / CHECKPOINT, *folder.glob(f"*{ARRIVING}")):
        path.unlink(missing_ok=True)


def stage_of(loop: SearchLoop, record: Record, seconds: float) -> dict[str, Any]:
    """What the evaluator is told of a final training."""
    folder = final_folder(loop.folder, record.number)
    name = f"{loop.folder.path.resolve().name}_{record.number}"
    return {"do": "final", "folder": str(folder.resolve()), "name": name, "seconds": seconds, **loop.payload["final"]}


def final_folder(run: RunFolder, trial: int) -> Path:
    """Where a trial's final training is kept."""
    return run.path / "final" / str(trial)


def seconds_each(loop: SearchLoop, executor: Executor, networks: int) -> float:
    """Wall seconds that the rest of the budget has for each of so many trainings, less a little for beginning them."""
    held = executor.largest
    rounds = math.ceil(networks / len(executor.resources))
    left = [limit / rounds if kind == "wall" else limit / (held.fraction * networks)
            for kind in ("wall", held.kind) if (limit := loop.meter.left(kind)) is not None]  # fmt: skip
    return 0.95 * min(left, default=0.0)


def read_finals(loop: SearchLoop, settled: Settled, data: Dataset) -> Iterator[tuple[Record, FinalResult]]:
    """The final trainings that came to their end, most accurate first."""
    done = loop.ledger.front.checks.final
    for number in sorted(done, key=lambda n: -done[n]["val_accuracy"]):
        record = loop.study.records[number]
        stage = stage_of(loop, record, 0.0)
        if not (Path(stage["folder"]) / METRICS).is_file():
            loop.ledger.remark(f"the final training of trial {number} is gone: {stage['folder']}")
            continue
        final = train_final(
            loop.study.space.architecture(record.decisions), settled.plan.deploy, data, load_recipe(stage["recipe"]),
            folder=Path(stage["folder"]), name=stage["name"], seed=settled.config.seed, device=settled.device)  # fmt: skip
        if final.metrics is not None:  # a worker without the data set's source could not read its test split
            done[number] = {**done[number], "test_accuracy": final.metrics["test_accuracy"]}
        yield record, final


def proxy_and_final(records: Sequence[Record], final: Mapping[int, Mapping[str, Any]]) -> list[tuple[float, float]]:
    """Of each network that was trained to the end, the validation accuracy that the search saw and the one it has now."""
    seen = {number: records[number].metrics.get("accuracy") for number in final}
    return [(accuracy, final[number]["val_accuracy"]) for number, accuracy in seen.items() if accuracy is not None]
