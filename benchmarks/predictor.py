"""How well latency is predicted from few measurements, on public tables of measured networks.

    NAS_DATA=DIR python benchmarks/predictor.py [--train 50 100 200 500] [--repeats 5] [--ceiling] [--write]

Tables: ofa_mbv3_latency.parquet (5,000 once-for-all MobileNetV3 sub-networks, Cai et al. 2020, on 4 GPUs at 3 batch sizes),
nasbench201.parquet (Dong and Yang 2020, with latencies of HW-NAS-Bench and others; the 341 of 15,625 cells whose
output no input reaches are left out: they are no networks) and accel_nasbench.parquet (5,138 networks of MnasNet's space on
accelerators; throughputs are taken as milliseconds an image). Every repeat draws its training networks at random and is
judged on 1,000 others: Spearman's rank correlation, mean absolute percentage error, share inside the 90 % interval and
its median half-width. Features are the encodings' digits and the sums they imply; no feature is fitted to a device.

How much of a column can be foretold at all is told by two other figures. ``boosting``: scikit-learn's gradient boosting on
4,000 networks (``--ceiling``). ``shared``: the correlation with what this device has in common with two others at the same
batch size, ``sqrt(r_xy r_xz / r_yz)``, the median over such pairs, without any model; what is the device's own is noise to it.
About 10 minutes with ceilings on one core.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import math
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import sklearn
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor

from nas.measure.predictor import LatencyPredictor

ROOT = Path(__file__).resolve().parent.parent
Floats = NDArray[np.float64]
Row = dict[str, object]

HELD_OUT, CEILING = 1000, 4000

OFA_WIDTHS, OFA_STRIDES = (16, 24, 40, 80, 112, 160), (2, 2, 2, 1, 2)
"""Output channels of the first block and of the five stages, and the stages' strides (MobileNetV3-Large, width 1.0)."""

CELL_EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))


def ofa_features(table: pd.DataFrame) -> Floats:
    """From the digits: blocks of every kernel and expansion, depths, resolution, and logarithms of sums over live blocks.

    The sums: multiply-adds of the expanding, depthwise and projecting convolutions, elements inside and between blocks,
    and parameters.
    """
    kernel, expand, depth = (np.array([[int(c) for c in digits] for digits in table[name]]) for name in ("ks", "e", "d"))
    resolution = table["res"].to_numpy(dtype=float)
    blocks, side = [], np.ceil(resolution / 2)
    live = np.stack([depth[:, block // 4] > block % 4 for block in range(20)], 1)
    for block in range(20):
        stage, first = block // 4, block % 4 == 0
        inside, outside = OFA_WIDTHS[stage if first else stage + 1], OFA_WIDTHS[stage + 1]
        out_side = np.ceil(side / OFA_STRIDES[stage]) if first else side
        middle, taps = expand[:, block] * inside, kernel[:, block] ** 2
        costs = (inside * middle * side**2, middle * taps * out_side**2, middle * outside * out_side**2,
                 middle * (side**2 + out_side**2), outside * out_side**2, middle * (inside + taps + outside))  # fmt: skip
        blocks.append(np.stack(costs, 1) * live[:, [block]])
        side = out_side
    words = [(kernel, value) for value in (3, 5, 7)] + [(expand, value) for value in (3, 4, 6)]
    kinds = [(live & (digits == value)).sum(1) for digits, value in words]
    scale = resolution / 224
    return np.column_stack([np.log(np.sum(blocks, 0)), depth, depth.sum(1), scale, scale**2, *kinds])


def cell_features(table: pd.DataFrame) -> tuple[Floats, NDArray[np.bool_]]:
    """NAS-Bench-201's six edges, one-hot, as written and with those dropped that carry nothing; counts, depth and totals.

    Also which rows are networks at all.
    """
    ops = np.stack([table[f"op_{a}_{b}"].to_numpy(dtype=int) for a, b in CELL_EDGES], 1)
    reached, needed = np.zeros((len(ops), 4), bool), np.zeros((len(ops), 4), bool)
    reached[:, 0] = needed[:, 3] = True
    for edge, (a, b) in enumerate(CELL_EDGES):
        reached[:, b] |= reached[:, a] & (ops[:, edge] > 0)
    for edge, (a, b) in reversed(list(enumerate(CELL_EDGES))):
        needed[:, a] |= needed[:, b] & (ops[:, edge] > 0)
    live = np.stack([np.where(reached[:, a] & needed[:, b], ops[:, edge], 0) for edge, (a, b) in enumerate(CELL_EDGES)], 1)
    longest = np.full((len(ops), 4), -9)
    longest[:, 0] = 0
    for edge, (a, b) in enumerate(CELL_EDGES):
        step = np.where(live[:, edge] > 0, longest[:, a] + (live[:, edge] > 1), -9)
        longest[:, b] = np.maximum(longest[:, b], step)
    counts = [(edges == op).sum(1) for edges in (live, ops) for op in (1, 2, 3, 4)]
    ones = [(edges == op).astype(float) for edges in (live, ops) for op in (1, 2, 3, 4)]
    work = np.log(1 + (live == 2).sum(1) + 9 * (live == 3).sum(1))
    totals = np.log(table[["cifar10_flops_m", "cifar10_params_m"]].to_numpy(dtype=float))
    return np.column_stack([*counts, *ones, longest[:, 3], work, totals]), (live > 0).any(1)


def accelerator_features(table: pd.DataFrame) -> Floats:
    """The seven blocks' digits, and logarithms of multiply-adds and parameters."""
    digits = [name for name in table.columns if name.startswith("block")]
    return np.column_stack([table[digits].to_numpy(dtype=float), np.log(table[["macs_m", "params_m"]].to_numpy(dtype=float))])


def judge(features: Floats, latency: Floats, train: int, repeats: int) -> Row:
    """Means over the repeats for one setting."""
    figures = []
    for seed in range(repeats):
        order = np.random.default_rng(seed).permutation(len(features))
        taught, asked = order[:train], order[-HELD_OUT:]
        predictor = LatencyPredictor.fit(features[taught], latency[taught])
        median, low, high = predictor.predict(features[asked], confidence=0.9)
        truth = latency[asked]
        figures.append((spearman(median, truth), 100 * np.mean(np.abs(median / truth - 1)),
                        100 * np.mean((low <= truth) & (truth <= high)), 100 * np.median((high - low) / 2 / median)))  # fmt: skip
    mean = np.mean(figures, 0)
    return {"method": "predictor", "train": train, "spearman": round(mean[0], 3), "mape_percent": round(mean[1], 2),
            "coverage_percent": round(mean[2], 1), "half_width_percent": round(mean[3], 1),
            "repeats": repeats}  # fmt: skip


def boosted(features: Floats, latency: Floats) -> Row:
    """Another regressor's figures, with forty times the networks."""
    order = np.random.default_rng(0).permutation(len(features))
    taught, asked = order[:CEILING], order[-HELD_OUT:]
    model = HistGradientBoostingRegressor(max_iter=300, learning_rate=0.04, max_leaf_nodes=12, random_state=0)
    found = np.exp(model.fit(features[taught], np.log(latency[taught])).predict(features[asked]))
    truth = latency[asked]
    return {"method": "boosting", "train": CEILING, "spearman": round(spearman(found, truth), 3),
            "mape_percent": round(100 * float(np.mean(np.abs(found / truth - 1))), 2), "repeats": 1}  # fmt: skip


def spearman(a: Floats, b: Floats) -> float:
    """Rank correlation."""
    return float(pd.Series(a).corr(pd.Series(b), method="spearman"))


def shared(setting: str, columns: dict[str, Floats]) -> float | None:
    """See the head of this file; None where fewer than two other devices were measured at this batch size."""
    device, _, batch = setting.rpartition("_")
    others = [name for name in columns if name != setting and device and name.endswith(f"_{batch}")]
    found = [math.sqrt(max(0.0, spearman(columns[setting], columns[a]) * spearman(columns[setting], columns[b])
                           / spearman(columns[a], columns[b]))) for a, b in itertools.combinations(others, 2)]  # fmt: skip
    return round(min(1.0, float(np.median(found))), 3) if found else None


def settings(folder: Path) -> list[tuple[str, str, Floats, Floats]]:
    """(table, setting, features, latency in ms) of every column of measured latencies."""
    names = ("ofa_mbv3_latency.parquet", "nasbench201.parquet", "accel_nasbench.parquet")
    ofa, cells, accelerators = (pd.read_parquet(folder / name) for name in names)
    cell_table, networks = cell_features(cells)
    tables = (("ofa", ofa, ofa_features(ofa), np.ones(len(ofa), bool)), ("nasbench201", cells, cell_table, networks),
              ("accel", accelerators, accelerator_features(accelerators), np.ones(len(accelerators), bool)))  # fmt: skip
    found = []
    for name, table, features, networks in tables:
        for column in table.columns:
            kind, _, setting = column.partition("__")
            if kind in {"lat_ms", "throughput_ips"}:
                figures = table[column].to_numpy(dtype=float)
                kept = networks & (figures > 0)
                ms = figures[kept] if kind == "lat_ms" else 1000 / figures[kept]
                found.append((name, setting if kind == "lat_ms" else f"{setting} throughput", features[kept], ms))
    return found


def means(rows: list[Row]) -> list[Row]:
    """The mean of every figure over a table's settings."""
    table = pd.DataFrame(rows)
    figures = [name for name in ("spearman", "mape_percent", "coverage_percent", "half_width_percent", "shared_spearman")
               if name in table]  # fmt: skip
    groups = table.groupby(["table", "method", "train"], sort=False)[figures].mean().round(3).reset_index()
    return [{"setting": "MEAN", **{name: value for name, value in row.items() if value == value}}
            for row in groups.to_dict("records")]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--train", type=int, nargs="+", default=[50, 100, 200, 500])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--ceiling", action="store_true", help=f"also gradient boosting on {CEILING} measurements, once")
    parser.add_argument("--write", action="store_true", help="write results/benchmarks/predictor.csv")
    args = parser.parse_args()
    if "NAS_DATA" not in os.environ:
        sys.exit("set NAS_DATA to the folder with ofa_mbv3_latency.parquet, nasbench201.parquet and accel_nasbench.parquet")
    rows: list[Row] = []
    found = settings(Path(os.environ["NAS_DATA"]))
    ofa = {setting: latency for table, setting, _, latency in found if table == "ofa"}
    for train in args.train:
        for table, setting, features, latency in found:
            rows.append({"table": table, "setting": setting, **judge(features, latency, train, args.repeats)})
            print(rows[-1], flush=True)
    for table, setting, features, latency in found if args.ceiling else []:
        known = {"shared_spearman": shared(setting, ofa)} if table == "ofa" else {}
        rows.append({"table": table, "setting": setting, **boosted(features, latency), **known})
        print(rows[-1], flush=True)
    rows += means(rows)
    print(pd.DataFrame(rows).to_string(index=False))
    if args.write:
        path = ROOT / "results" / "benchmarks" / "predictor.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        versions = {"numpy": np.__version__, "pandas": pd.__version__, "sklearn": sklearn.__version__}
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=[*dict.fromkeys(name for row in rows for name in row), *versions])
            writer.writeheader()
            writer.writerows(row | versions for row in rows)


if __name__ == "__main__":
    main()
