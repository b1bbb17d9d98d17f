"""A run with a past of every kind, made without training: search, baseline, failures, curves, repeats, hostile words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nas.search.run import RunFolder
from nas.search.storage import open_storage
from nas.search.study import SearchStudy
from tests.search.fakes import FakeExecutor, run_loop, settled

HOSTILE = '</script><img src=x onerror="document.title=1">{{data}}&amp;'
IMAGES = 360


def outcome(job: Any) -> dict[str, Any]:
    """The even trials are the search's, the odd ones the baseline's, and worse; every seventh fails."""
    if job.trial % 7 == 3:
        raise RuntimeError(f"error: {HOSTILE}")
    page = str(job.payload["page"]["network"])
    quality = (sum(map(ord, page)) % 97) / 97 - 0.1 * (job.trial % 2)
    latency = 1.0 + (len(page) * 31 + job.trial * 7) % 40 / 10
    accuracy = round(IMAGES * min(0.99, 0.6 + 0.3 * quality)) / IMAGES
    if job.payload["stage"]["do"] == "measure":
        return {"metrics": {"latency": latency}, "latency_low_ms": latency * 0.8, "latency_high_ms": latency * 1.2,
                "measure_s": 0.125}  # fmt: skip
    return {"metrics": {"accuracy": accuracy}, "curve": [accuracy / 2, accuracy], "epochs": 2, "train_s": 0.25,
            "val_images": IMAGES, "phase": "baseline" if job.trial % 2 else "search"}  # fmt: skip


def scripted_run(folder: Path, trials: int = 30, outcome: Any = outcome, **words: Any) -> str:
    """The run's folder as text."""
    chosen = settled(budget=f"{trials}trials", **{"objectives": "accuracy,latency", "constraint": ["latency<=4.5ms"], **words})
    run_loop(folder, FakeExecutor(outcome), chosen)
    run = RunFolder(folder)
    run.write_config(chosen.to_mapping())
    run.write(run.environment, json.dumps({"cpu": HOSTILE, "gpus": [], "packages": {"torch": "2"}}))
    with open_storage(run.study) as storage:
        study = SearchStudy(storage, chosen.space, chosen.objectives, chosen.constraints, name="run")
        done = [r.number for r in study.records if r.state == "completed"][:4]
        study.set_metadata(
            val_images=IMAGES, test_images=100,
            repeats={str(n): [0.5, 0.7] for n in done[:1]},
            final={str(n): {"val_accuracy": study.records[n].metrics["accuracy"] + 0.05, "test_accuracy": 0.8} for n in done},
            peers=[{"name": HOSTILE, "accuracy": 0.7, "latency_ms": 2.0, "num_params": 1000, "macs": 10_000}],
        )  # fmt: skip
    return str(folder)


def failure(job: Any) -> dict[str, Any]:
    """What every trial of a run that finds nothing comes to."""
    raise RuntimeError("error: no room")
