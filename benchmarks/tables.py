"""Measured tables that stand in for training: read from the folder that the environment variable NAS_DATA names.

- NAS-Bench-201: every architecture of the space was trained, up to three times, and its latency measured. A look-up.
- Accel-NASBench: 5,138 random architectures of 10^11 were trained. As its authors do, what a search asks for is answered
  by models of the table: of all pairs of decisions; their errors in cross-validation are told by :func:`accel_nasbench`.
"""

from __future__ import annotations

import os
import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import Ridge

from nas.search.objectives import nondominated
from nas.search.samplers.encoding import Coder
from nas.space.decide import Decisions
from nas.space.parse import parse_file
from nas.space.search_space import SearchSpace

HERE = Path(__file__).parent

_EDGES = {"node1.from0": "op_0_1", "node2.from0": "op_0_2", "node2.from1": "op_1_2",
          "node3.from0": "op_0_3", "node3.from1": "op_1_3", "node3.from2": "op_2_3"}  # fmt: skip
_OPS = {"none": 0, "skip_connect": 1, "nor_conv_1x1": 2, "nor_conv_3x3": 3, "avg_pool_3x3": 4}
_BLOCK = {"repeat": "l", "expansion": "e", "kernel_size": "k", "se_ratio": "se"}

FLOOR = {"cifar10": 85.0, "cifar100": 60.0, "imagenet": 58.0}
"""Accuracy in % of the reference point of the hypervolume."""

NOISE = 0.75
"""Standard deviation of an observation of Accel-NASBench, in points of accuracy: its model's error in cross-validation."""


class Table(ABC):
    """Architectures of ``space`` with a number each, the row. Accuracies are in %, latencies in ms.

    ``test``: accuracy that a search never sees; ``seconds``: what a training takes; ``latency``: by device.
    """

    def __init__(self, name: str, space: SearchSpace, floor: float) -> None:
        self.name, self.space, self.floor, self.coder = name, space, floor, Coder(space)

    test: Sequence[float] | np.ndarray
    seconds: Sequence[float] | np.ndarray
    latency: Mapping[str, Sequence[float]] | Mapping[str, np.ndarray]

    @abstractmethod
    def row(self, decisions: Decisions) -> int:
        """The row of the architecture of these decisions."""

    @abstractmethod
    def seen(self, row: int, seed: int) -> float:
        """Validation accuracy of one training, always the same for a seed."""

    @abstractmethod
    def ceiling(self, seed: int, device: str | None) -> float:
        """The score of what one observation of every architecture would recommend; NaN where they are too many."""

    @property
    @abstractmethod
    def best(self) -> float:
        """The greatest test accuracy."""

    @abstractmethod
    def whole(self, device: str) -> float:
        """The area of the true front."""

    @abstractmethod
    def slowest(self, device: str) -> float:
        """The reference latency: the 95th percentile of all architectures above the floor."""

    def area(self, rows: Sequence[int], device: str) -> float:
        """What these rows dominate: test accuracy above the floor times the logarithm of how much faster than the reference."""
        latency = np.array([self.latency[device][row] for row in rows])
        return dominated(np.array([self.test[row] for row in rows]) - self.floor, np.log(self.slowest(device) / latency))

    def score(self, rows: Sequence[int], device: str | None) -> float:
        """Test accuracy of the first row, or the area as a fraction of the true front's."""
        return self.area(rows, device) / self.whole(device) if device else float(self.test[rows[0]])


def dominated(gain: np.ndarray, width: np.ndarray) -> float:
    """The area between the origin and the points (width, gain), both to be large."""
    area = height = 0.0
    for i in np.argsort(-width, kind="stable"):
        if width[i] > 0 and gain[i] > height:
            area += width[i] * (gain[i] - height)
            height = gain[i]
    return float(area)


class Measured(Table):
    """A table that has every architecture. ``runs``: validation accuracy of each training, NaN where there was none."""

    def __init__(
        self, name: str, space: SearchSpace, floor: float, labels: Sequence[Sequence[object]], runs: np.ndarray,
        test: np.ndarray, seconds: np.ndarray, latency: Mapping[str, np.ndarray],
    ) -> None:  # fmt: skip
        super().__init__(name, space, floor)
        self.rows = {labelled: i for i, labelled in enumerate(zip(*labels, strict=True))}
        self.runs, self.test, self.seconds, self.latency = runs, test, seconds, latency
        self._observed: dict[int, np.ndarray] = {}

    def row(self, decisions: Decisions) -> int:
        return self.rows[tuple(decisions[key] for key in self.space.holes)]

    def observe(self, seed: int) -> np.ndarray:
        """One training's validation accuracy of every architecture, drawn among those there are."""
        if seed not in self._observed:
            draws = np.random.default_rng(seed).random(self.runs.shape)
            draws[np.isnan(self.runs)] = -1.0
            self._observed = {seed: self.runs[np.arange(len(self.runs)), draws.argmax(axis=1)]}
        return self._observed[seed]

    def seen(self, row: int, seed: int) -> float:
        return float(self.observe(seed)[row])

    def ceiling(self, seed: int, device: str | None) -> float:
        seen = self.observe(seed)
        if device is None:
            return float(self.test[seen.argmax()])
        return self.score(np.flatnonzero(nondominated(np.stack([-seen, self.latency[device]], axis=1))).tolist(), device)

    @property
    def best(self) -> float:
        return float(np.max(self.test))

    @cache  # noqa: B019 (tables live as long as the process)
    def slowest(self, device: str) -> float:
        return float(np.percentile(self.latency[device][self.test > self.floor], 95))

    @cache  # noqa: B019
    def whole(self, device: str) -> float:
        return self.area(range(len(self.test)), device)


class Pairs:
    """A ridge regression on all pairs of labels."""

    def __init__(self, known: np.ndarray, values: np.ndarray) -> None:
        self._labels = [np.unique(column)[1:] for column in known.T]
        there = ~np.isnan(values)
        model = Ridge(alpha=10).fit(self._features(known[there]), values[there])
        self._weights, self._mean = model.coef_, float(model.intercept_)

    def _features(self, many: np.ndarray) -> np.ndarray:
        hot = np.concatenate([column[:, None] == labels for column, labels in zip(many.T, self._labels, strict=True)], axis=1)
        i, k = np.triu_indices(hot.shape[1])
        return (hot[:, i] & hot[:, k]).astype(float)

    def predict(self, many: np.ndarray) -> np.ndarray:
        """The values of these architectures."""
        told: np.ndarray = self._features(many) @ self._weights + self._mean
        return told


class Modelled(Table):
    """A table of some architectures, and models of it for the others; rows are given to those that are asked for."""

    def __init__(
        self, name: str, space: SearchSpace, floor: float, frame: pd.DataFrame, devices: Mapping[str, np.ndarray]
    ) -> None:
        super().__init__(name, space, floor)
        keys = [key.split(".")[1:] for key in space.holes]
        known = frame[[f"{block}_{_BLOCK[word]}" for block, word in keys]].to_numpy(float).copy()
        known[:, [word == "se_ratio" for _, word in keys]] *= 0.25
        self._columns = {"test": frame["val_top1"].to_numpy(float), "seconds": np.log(frame["train_time_s"].to_numpy(float))}
        self._columns |= {device: np.log(values) for device, values in devices.items()}
        self._known, self._models = known, {name: Pairs(known, values) for name, values in self._columns.items()}
        self._rows: dict[tuple[float, ...], int] = {}
        self.test: list[float] = []
        self.seconds: list[float] = []
        self.latency: dict[str, list[float]] = {device: [] for device in devices}

    def row(self, decisions: Decisions) -> int:
        vector = tuple(float(str(decisions[key])) for key in self.space.holes)
        if vector not in self._rows:
            self._rows[vector] = len(self._rows)
            told = {name: float(model.predict(np.array([vector]))[0]) for name, model in self._models.items()}
            self.test.append(told["test"])
            self.seconds.append(float(np.exp(told["seconds"])))
            for device, values in self.latency.items():
                values.append(float(np.exp(told[device])))
        return self._rows[vector]

    def seen(self, row: int, seed: int) -> float:
        return self.test[row] + random.Random(f"{seed}/{self.test[row]}").gauss(0, NOISE)

    def ceiling(self, seed: int, device: str | None) -> float:
        return float("nan")

    def slowest(self, device: str) -> float:
        return float(np.nanpercentile(np.exp(self._columns[device][self._columns["test"] > self.floor]), 95))

    @cached_property
    def best(self) -> float:
        return float(self._evolved(None)[:, 0].max())

    @cache  # noqa: B019
    def whole(self, device: str) -> float:
        found = self._evolved(device)
        return dominated(found[:, 0] - self.floor, np.log(self.slowest(device)) - found[:, 1])

    def _evolved(self, device: str | None) -> np.ndarray:
        """Accuracy and log latency of the front that 60 generations of 2,000 mutants reach without noise."""
        rng = np.random.default_rng(0)
        labels = [np.unique(column) for column in self._known.T]
        names = ["test", device or "seconds"]
        parents, values = self._known, np.empty((0, 2))
        front = parents
        for _ in range(60):
            told = np.stack([self._models[name].predict(parents) for name in names], axis=1)
            pool, values = np.concatenate([front[: len(values)], parents]), np.concatenate([values, told])
            losses = values * [-1, 1] if device else -values[:, :1]
            best = nondominated(losses) if device else np.isin(np.arange(len(pool)), np.argsort(losses[:, 0])[:50])
            front, values = pool[best], values[best]
            parents = front[rng.integers(len(front), size=2000)].copy()
            for _ in range(2):
                places = rng.integers(len(labels), size=len(parents))
                parents[np.arange(len(parents)), places] = [rng.choice(labels[place]) for place in places]
        return values


@cache
def nas_bench_201(dataset: str = "cifar10") -> Measured:
    """NAS-Bench-201 (Dong & Yang 2020, arXiv:2001.00326): 15,625 cells trained for 200 epochs, up to three times each."""
    frame = pd.read_parquet(Path(os.environ["NAS_DATA"]) / "nasbench201.parquet")
    space = SearchSpace(parse_file(HERE.parent / "search_spaces" / "nas_bench_201.yaml"))
    labels = {number: label for label, number in _OPS.items()}
    twice = 2 if dataset == "cifar100" else 1
    return Measured(
        f"nas_bench_201/{dataset}", space, FLOOR[dataset],
        labels=[frame[_EDGES[key.removeprefix("cell.")]].map(labels).tolist() for key in space.holes],
        runs=frame[[f"{dataset}_val_200_run{i}" for i in range(3)]].to_numpy(float),
        test=frame[f"{dataset}_test_200"].to_numpy(float),
        seconds=frame["cifar10_cost_12_s"].to_numpy(float) * 200 / 12 * twice,
        latency={name.removeprefix("lat_ms__"): frame[name].to_numpy(float) for name in frame if "lat_ms__" in name},
    )  # fmt: skip


def committed(path: Path) -> Measured:
    """NAS-Bench-201 on CIFAR-10 from the small file that the tests have: numpy arrays ``ops`` (architectures x edges, the
    official numbers), ``runs``, ``test`` (hundredths of a percent, 0: none), ``seconds`` and ``pixel3`` (latency in ms)."""
    space = SearchSpace(parse_file(HERE.parent / "search_spaces" / "nas_bench_201.yaml"))
    numbers = {number: label for label, number in _OPS.items()}
    with np.load(path, allow_pickle=False) as arrays:
        runs = arrays["runs"].astype(float) / 100
        runs[runs == 0] = np.nan
        return Measured(
            "nas_bench_201/cifar10", space, FLOOR["cifar10"],
            labels=[[numbers[number] for number in column] for column in arrays["ops"].T.tolist()], runs=runs,
            test=arrays["test"].astype(float) / 100, seconds=arrays["seconds"].astype(float),
            latency={"pixel3": arrays["pixel3"].astype(float)},
        )  # fmt: skip


@cache
def accel_nasbench() -> Modelled:
    """Accel-NASBench (Ahmad et al. 2024, arXiv:2404.08005): MBConv networks on ImageNet, models of 5,138 of them.

    In 4-fold cross-validation: accuracy 0.75 points off (root mean square; the table's deviation is 3.3; rank correlation
    0.985), latency 6 to 7 % (0.991 and more), training time 13 % (0.949). A latency of the GPU is 1,000 by its throughput.
    """
    frame = pd.read_parquet(Path(os.environ["NAS_DATA"]) / "accel_nasbench.parquet")
    devices = {"zcu102": frame["lat_ms__zcu102"].to_numpy(float), "a100": 1000 / frame["throughput_ips__a100"].to_numpy(float)}
    space = SearchSpace(parse_file(HERE / "accel_nasbench.yaml"))
    return Modelled("accel_nasbench", space, FLOOR["imagenet"], frame, devices)


TABLES = {
    "cifar10": lambda: nas_bench_201("cifar10"),
    "cifar100": lambda: nas_bench_201("cifar100"),
    "mbconv": accel_nasbench,
}
