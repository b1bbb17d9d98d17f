"""Time a trial costs outside its evaluation: draft, store, tell, by strategy and by how many trials are stored already.

    python benchmarks/overhead.py [--sizes 50 1000 5000] [--trials 30] [--objectives accuracy,latency]

On the nasnet_cell space and a journal file on disk. A stub stands in for training and measuring: it derives both
metrics from the decisions in microseconds, and its time is not counted. Nothing is lowered, built or trained.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import optuna

from nas.search.objectives import parse_objectives
from nas.search.samplers import STRATEGIES
from nas.search.storage import open_storage
from nas.search.study import SearchStudy
from nas.space.parse import parse_file
from nas.space.search_space import SearchSpace

PAGE = Path(__file__).parents[1] / "search_spaces" / "nasnet_cell.yaml"

THEMSELVES = ("nsga2", "local_search", "non_aging_evolution", "hierarchical_evolution")


def stub(decisions: Mapping[str, object]) -> dict[str, float]:
    """Made-up metrics that favour separable convolutions and fast operations."""
    labels = [str(label) for label in decisions.values()]
    separable = sum(label.startswith("sep_conv") for label in labels) / len(labels)
    slow = sum(label.endswith(("5x5", "7x7")) for label in labels)
    return {"accuracy": 0.5 + separable / 2 + len(set(labels)) / 1000, "latency": 1.0 + slow / 10}


def measure(study: SearchStudy, strategy: str, trials: int) -> tuple[list[float], float, int]:
    """Milliseconds of each trial, the processor's mean share of them, and how many decisions were drawn blindly."""
    sampler = STRATEGIES[strategy](study.space, seed=0)
    times, blind = [], 0
    busy = time.process_time()
    for _ in range(trials):
        start = time.perf_counter()
        draft = study.draft(sampler)
        record = study.add(draft, identity=f"{len(study.records):032x}", seed=0)
        asked = time.perf_counter()
        metrics = stub(record.decisions)
        back = time.perf_counter()
        study.tell(record.number, "completed", metrics=metrics, metadata={"meter": {"wall": 1.0, "trials": 1.0}})
        times.append(1e3 * (asked - start + time.perf_counter() - back))
        blind += draft.blind
    return times, 1e3 * (time.process_time() - busy) / max(1, trials), blind


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[50, 1000, 5000], help="stored trials")
    parser.add_argument("--trials", type=int, default=30, help="trials timed at each size")
    parser.add_argument("--objectives", default="accuracy,latency")
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES), choices=list(STRATEGIES))
    asked = parser.parse_args()
    space = SearchSpace(parse_file(PAGE))
    print(f"{space.name}: {len(space.holes)} decisions; objectives {asked.objectives}; journal file on disk; a stub "
          f"stands in for training and measuring")  # fmt: skip
    print(f"Python {platform.python_version()}, Optuna {optuna.__version__}, {platform.machine()} {sys.platform}")
    print(f"{'strategy':<24}{'stored':>8}{'median ms':>12}{'worst ms':>12}{'mean CPU ms':>14}{'blind':>8}{'MB':>8}"
          f"{'open s':>8}")  # fmt: skip
    for strategy in asked.strategies:
        with tempfile.TemporaryDirectory() as folder:
            grow(Path(folder) / "journal.jsonl", space, strategy, asked)


def grow(path: Path, space: SearchSpace, strategy: str, asked: argparse.Namespace) -> None:
    """Fill a study, timing at each size: by itself where a strategy goes by what it noted, at random where filling by a model
    would take hours. What a strategy then learns from all trials at once is in its first, the worst, time."""
    filler = strategy if strategy in THEMSELVES else "random"
    for size in sorted(asked.sizes):
        with open_storage(path) as storage:
            study = SearchStudy(storage, space, parse_objectives(asked.objectives))
            measure(study, filler, size - len(study.records))
            times, busy, blind = measure(study, strategy, asked.trials)
        start = time.perf_counter()
        with open_storage(path) as storage:
            SearchStudy(storage, space, parse_objectives(asked.objectives))
        print(f"{strategy:<24}{size:>8}{statistics.median(times):>12.2f}{max(times):>12.2f}{busy:>14.2f}{blind:>8}"
              f"{path.stat().st_size / 1e6:>8.1f}{time.perf_counter() - start:>8.2f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
