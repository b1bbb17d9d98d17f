"""What a search saves by not measuring what is surely over its limit, and how often that is wrong, on a public table.

    NAS_DATA=DIR python benchmarks/foresight.py [--candidates 400] [--repeats 2] [--write]

Table: ofa_mbv3_latency.parquet (5,000 once-for-all MobileNetV3 sub-networks, Cai et al. 2020, on 4 GPUs at 3 batch sizes).
Every repeat draws candidates at random in turn; one that is foreseen to be surely over the limit (a quantile of all
latencies) is skipped, every other is measured and learnt from, exactly as :class:`nas.measure.foresight.Foresight` does it
in a search, from lowered graphs. ``saved``: the share of those over the limit that was skipped. ``wrong``: skipped though
within the limit, of all candidates, of the skipped, and of those within. About a minute on one core.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nas.measure import foresight
from nas.measure.features import features_of
from nas.net.graph import Graph
from nas.net.lower import lower
from nas.space.parse import parse_page
from nas.space.search_space import Architecture

ROOT = Path(__file__).resolve().parent.parent
Row = dict[str, object]

STAGES = tuple(zip((24, 40, 80, 112, 160), (2, 2, 2, 1, 2), (False, True, False, True, True),
                   ("relu", "relu", "hard_swish", "hard_swish", "hard_swish"), strict=True))  # fmt: skip
"""Channels, stride, squeeze-and-excitation and activation of the five elastic stages."""


def network(row: Any) -> Graph:
    """A row of the table, lowered."""
    layers: list[Any] = [
        {"op": "conv_bn_act", "kernel_size": 3, "stride": 2, "out_channels": 16, "activation": "hard_swish"},
        {"op": "inverted_residual", "expansion": 1, "out_channels": 16},
    ]  # fmt: skip
    for stage, (channels, stride, se, activation) in enumerate(STAGES):
        for block in range(int(row.d[stage])):
            digit = 4 * stage + block
            layers.append({"op": "inverted_residual", "kernel_size": int(row.ks[digit]), "expansion": int(row.e[digit]), "se": se,
                           "out_channels": channels, "activation": activation, "stride": 1 if block else stride})  # fmt: skip
    layers += [{"op": "conv_bn_act", "kernel_size": 1, "out_channels": 960, "activation": "hard_swish"}, "global_avg_pool",
               {"op": "linear", "out_features": 1280}, "hard_swish", "classifier"]  # fmt: skip
    side = int(row.res)
    return lower(Architecture(parse_page({"name": "ofa", "input": [3, side, side], "num_classes": 1000, "network": layers})))


def search(graphs: list[Graph], latencies: np.ndarray, limit: float) -> np.ndarray:
    """Counts: skipped, skipped wrongly, over the limit, within it."""
    known, counts = foresight.Foresight(), np.zeros(4)
    for graph, latency in zip(graphs, latencies, strict=True):
        within = latency <= limit
        skipped = known.surely_over(graph, limit) is not None
        counts += (skipped, skipped and within, not within, within)
        if not skipped:
            known.add(graph, float(latency))
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--candidates", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="write results/benchmarks/foresight.csv")
    args = parser.parse_args()
    if "NAS_DATA" not in os.environ:
        sys.exit("set NAS_DATA to the folder with ofa_mbv3_latency.parquet")
    table = pd.read_parquet(Path(os.environ["NAS_DATA"]) / "ofa_mbv3_latency.parquet")
    draws = [table.sample(args.candidates, random_state=seed) for seed in range(args.repeats)]
    graphs = [[network(row) for row in draw.itertuples()] for draw in draws]
    features = {id(graph): features_of(graph) for drawn in graphs for graph in drawn}
    foresight.features_of = lambda graph: features[id(graph)]  # every network is asked about by 24 searches
    rows: list[Row] = []
    for column in [name for name in table.columns if name.startswith("lat_ms__")]:
        for quantile in (0.2, 0.5):
            limit = float(table[column].quantile(quantile))
            skipped, wrong, over, within = np.sum(
                [search(drawn, draw[column].to_numpy(float), limit) for drawn, draw in zip(graphs, draws, strict=True)], 0)
            rows.append({"setting": column.removeprefix("lat_ms__"), "limit_quantile": quantile,
                         "saved": round(skipped / over, 3), "wrong_of_all": round(wrong / (over + within), 5),
                         "wrong_of_skipped": round(wrong / max(skipped, 1), 5),
                         "wrong_of_within": round(wrong / within, 5)})  # fmt: skip
            print(rows[-1], flush=True)
    figures = pd.DataFrame(rows)
    rows.append({"setting": "MEAN", **figures.drop(columns="setting").mean().round(5).to_dict()})
    print(rows[-1])
    if args.write:
        path = ROOT / "results" / "benchmarks" / "foresight.csv"
        conditions = {"confidence": foresight.CONFIDENCE, "candidates": args.candidates, "repeats": args.repeats,
                      "numpy": np.__version__}  # fmt: skip
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=[*rows[0], *conditions])
            writer.writeheader()
            writer.writerows(row | conditions for row in rows)


if __name__ == "__main__":
    main()
