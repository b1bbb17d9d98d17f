"""Curves of results/benchmarks/tabular.csv: mean score against evaluations, bands of two standard errors.

    python -m benchmarks.plot_tabular
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes

RESULTS = Path("results/benchmarks")

COLOURS = {"auto": "#c0392b", "auto, latency modelled": "#f1948a", "regularized_evolution": "#2980b9",
           "Optuna TPE": "#27ae60", "Optuna NSGA-II": "#8e44ad", "Optuna TPE, multivariate, group": "#16a085",
           "Optuna GP": "#e67e22", "random": "#7f8c8d"}  # fmt: skip
"""Of what is compared with peers; the other strategies have a panel of their own."""

DASHES = {8: "--", 64: ":"}
"""By workers."""

CIFAR10, ACCURACY = "nas_bench_201/cifar10", "test accuracy, %"
Panel = tuple[str, str, str, pd.DataFrame]


def panels(table: pd.DataFrame) -> list[Panel]:
    """Title, column of the x axis, label of the y axis and rows of every panel."""
    compared = table[table["strategy"].isin(COLOURS)]
    cifar10 = table[(table["table"] == CIFAR10) & (table["device"] == "")]
    few = cifar10[cifar10["strategy"].isin(["auto", "random", "regularized_evolution"])]
    others = cifar10[~cifar10["strategy"].isin(COLOURS)]
    found: list[Panel] = [(f"{name}, one worker", "evaluations", ACCURACY, rows)
                          for name, rows in _alone(compared[compared["device"] == ""]).groupby("table")]  # fmt: skip
    found += [
        (f"{CIFAR10}, in simulated time", "simulated hours", ACCURACY, _alone(cifar10[cifar10["strategy"].isin(COLOURS)])),
        (f"{CIFAR10}, other strategies", "evaluations", ACCURACY, pd.concat([_alone(few), _alone(others)])),
        (f"{CIFAR10}, simulated workers", "evaluations", ACCURACY, few),
    ]
    devices = _alone(compared[compared["device"] != ""])
    return found + [(f"{name}, {device}", "evaluations", "hypervolume / true front's", rows)
                    for (name, device), rows in devices.groupby(["table", "device"])]  # fmt: skip


def _alone(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["workers"] == 1]


def draw(axes: Axes, title: str, along: str, label: str, rows: pd.DataFrame) -> None:
    """One panel: a curve for every strategy and number of workers; and the best there is."""
    for (strategy, workers), curve in rows.groupby(["strategy", "workers"]):
        curve = curve[curve["evaluations"] >= 20].sort_values("evaluations")
        told = f"{strategy}{f', {workers} workers' if workers > 1 else ''} ({curve['seeds'].max()} seeds)"
        (line,) = axes.plot(curve[along], curve["mean"], DASHES.get(workers, "-"), color=COLOURS.get(strategy), label=told)
        low, high = (curve["mean"] + sign * 2 * curve["error"] for sign in (-1, 1))
        axes.fill_between(curve[along], low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    axes.axhline((rows["mean"] + rows["regret"]).mean(), color="black", linestyle="--", linewidth=0.8, label="the best there is")
    if rows["ceiling"].notna().any():
        axes.axhline(rows["ceiling"].mean(), color="black", linestyle=":", linewidth=0.8, label="one observation of all")
    axes.set(title=title, xlabel=along, ylabel=label, xscale="log")
    axes.legend(fontsize=6, loc="lower right")
    axes.grid(alpha=0.3)


def main() -> None:
    table = pd.read_csv(RESULTS / "tabular.csv", keep_default_na=False, na_values=[""]).fillna({"device": ""})
    shown = panels(table.assign(**{"simulated hours": table["simulated_s"] / 3600}))
    columns = 3
    figure, grid = plt.subplots(-(-len(shown) // columns), columns, figsize=(15, 4 * -(-len(shown) // columns)), squeeze=False)
    for axes in grid.flat[len(shown) :]:
        axes.remove()
    for axes, panel in zip(grid.flat, shown, strict=False):
        draw(axes, *panel)
    figure.tight_layout()
    for kind, dpi in (("png", 70), ("svg", None)):
        figure.savefig(RESULTS / f"tabular.{kind}", dpi=dpi or "figure", facecolor="white")


if __name__ == "__main__":
    main()
