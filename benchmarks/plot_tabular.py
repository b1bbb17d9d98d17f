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


def panels(table: pd.DataFrame) -> list[tuple[str, str, pd.DataFrame]]:
    """Title, label of the y axis and rows of every panel."""
    alone = table[(table["workers"] == 1) & (table["device"] == "")]
    found = [(f"{name}, one worker", "test accuracy, %", rows) for name, rows in alone.groupby("table")]
    ours = table[(table["device"] == "") & (table["table"] == "nas_bench_201/cifar10")]
    many = ours[ours["strategy"].isin(["auto", "random"])]
    found.append(("cifar10, simulated workers", "test accuracy, %", many.assign(
        strategy=many["strategy"] + ", " + many["workers"].astype(str))))  # fmt: skip
    devices = table[(table["device"] != "") & (table["workers"] == 1)]
    return found + [(f"{name}, {device}", "hypervolume / true front's", rows)
                    for (name, device), rows in devices.groupby(["table", "device"])]  # fmt: skip


def draw(axes: Axes, title: str, label: str, rows: pd.DataFrame) -> None:
    """One panel: a curve for every strategy, the ceiling dotted."""
    for strategy, curve in rows.groupby("strategy"):
        curve = curve[curve["evaluations"] >= 20].sort_values("evaluations")
        many = str(strategy).split(", ")[-1]
        style = {"8": "--", "64": ":"}.get(many, "-")
        colour = COLOURS[str(strategy).removesuffix(f", {many}") if many.isdigit() else str(strategy)]
        axes.plot(curve["evaluations"], curve["mean"], style, color=colour, label=f"{strategy} ({curve['seeds'].max()} seeds)")
        low, high = (curve["mean"] + sign * 2 * curve["error"] for sign in (-1, 1))
        axes.fill_between(curve["evaluations"], low, high, color=colour, alpha=0.15, linewidth=0)
    if rows["ceiling"].notna().any():
        axes.axhline(rows["ceiling"].mean(), color="black", linestyle=":", linewidth=0.8, label="one observation of all")
    axes.set(title=title, xlabel="evaluations", ylabel=label, xscale="log")
    axes.legend(fontsize=6, loc="lower right")
    axes.grid(alpha=0.3)


def main() -> None:
    table = pd.read_csv(RESULTS / "tabular.csv", keep_default_na=False, na_values=[""]).fillna({"device": ""})
    shown = panels(table[table["strategy"].isin(COLOURS)])
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
