"""Measured tables that stand in for training: read from the folder that the environment variable NAS_DATA names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from nas.search.samplers.encoding import Coder
from nas.space.decide import Decisions
from nas.space.parse import parse_file
from nas.space.search_space import SearchSpace

SPACES = Path(__file__).parents[1] / "search_spaces"

_EDGES = {"node1.from0": "op_0_1", "node2.from0": "op_0_2", "node2.from1": "op_1_2",
          "node3.from0": "op_0_3", "node3.from1": "op_1_3", "node3.from2": "op_2_3"}  # fmt: skip
_OPS = {"none": 0, "skip_connect": 1, "nor_conv_1x1": 2, "nor_conv_3x3": 3, "avg_pool_3x3": 4}

FLOOR = {"cifar10": 85.0, "cifar100": 60.0}
"""Accuracy in % of the reference point of the hypervolume."""


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """All architectures of a space, measured. ``runs``: validation accuracy in % of each training (NaN: there was none);
    ``test``: mean test accuracy in %, which a search never sees; ``seconds``: what a training takes; ``latency``: ms.
    """

    name: str
    space: SearchSpace
    coder: Coder
    rows: Mapping[tuple[object, ...], int]
    runs: np.ndarray
    test: np.ndarray
    seconds: np.ndarray
    latency: Mapping[str, np.ndarray]
    floor: float

    def row(self, decisions: Decisions) -> int:
        """The row of the architecture of these decisions."""
        return self.rows[tuple(decisions[key] for key in self.space.holes)]

    def observe(self, seed: int) -> np.ndarray:
        """One training's validation accuracy of every architecture, drawn among those there are."""
        draws = np.random.default_rng(seed).random(self.runs.shape)
        draws[np.isnan(self.runs)] = -1.0
        seen: np.ndarray = self.runs[np.arange(len(self.runs)), draws.argmax(axis=1)]
        return seen

    def hypervolume(self, chosen: np.ndarray, device: str) -> float:
        """The area that these rows dominate: test accuracy above the floor times the logarithm of how much faster than the
        reference (95th percentile of the latencies of all that are above the floor)."""
        latency = self.latency[device]
        worst = np.log(np.percentile(latency[self.test > self.floor], 95))
        area = height = 0.0
        width = worst - np.log(latency[chosen])
        gain = self.test[chosen] - self.floor
        for i in np.argsort(-width, kind="stable"):
            if width[i] > 0 and gain[i] > height:
                area += width[i] * (gain[i] - height)
                height = gain[i]
        return float(area)


@cache
def nas_bench_201(dataset: str = "cifar10") -> Table:
    """NAS-Bench-201 (Dong & Yang 2020, arXiv:2001.00326): 15,625 cells trained for 200 epochs, up to three times each."""
    frame = pd.read_parquet(Path(os.environ["NAS_DATA"]) / "nasbench201.parquet")
    space = SearchSpace(parse_file(SPACES / "nas_bench_201.yaml"))
    labels = {number: label for label, number in _OPS.items()}
    columns = [frame[_EDGES[key.removeprefix("cell.")]].map(labels) for key in space.holes]
    twice = 2 if dataset == "cifar100" else 1
    return Table(
        name=f"nas_bench_201/{dataset}", space=space, coder=Coder(space), floor=FLOOR[dataset],
        rows={labelled: i for i, labelled in enumerate(zip(*columns, strict=True))},
        runs=frame[[f"{dataset}_val_200_run{i}" for i in range(3)]].to_numpy(float),
        test=frame[f"{dataset}_test_200"].to_numpy(float),
        seconds=frame["cifar10_cost_12_s"].to_numpy(float) * 200 / 12 * twice,
        latency={name.removeprefix("lat_ms__"): frame[name].to_numpy(float) for name in frame if "lat_ms__" in name},
    )  # fmt: skip
