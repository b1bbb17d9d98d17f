"""The front of a run as a picture for a page of text: SVG, PNG or PDF, by the file's ending."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from nas.errors import UsageError
from nas.search.metrics import METRICS

ENDINGS = (".svg", ".png", ".pdf")
_SEARCH, _FRONT, _BASELINE, _PEER, _INK = "#2f6fd0", "#d1495b", "#7a8794", "#b7791f", "#5d6b7c"


def front_figure(document: Mapping[str, Any], file: Path) -> None:
    """Draw a run's document: accuracy over the other objective, with 95 % intervals on the front, whose ties are hollow.

    Raises UsageError where matplotlib is not installed, for another ending, or when the file cannot be written.
    """
    if file.suffix not in ENDINGS:
        raise UsageError("not a picture that can be drawn", got=str(file), expected="a file that ends in " + ", ".join(ENDINGS))
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError("a picture of the front needs matplotlib", hint='Type: pip install "nas[figures]"') from None
    goals = [o["metric"] for o in document["objectives"]]
    y = "accuracy" if "accuracy" in goals else goals[0]
    x = next((goal for goal in goals if goal != y), "num_params")
    data = BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "nas", "font.size": 10}):
        figure = Figure(figsize=(7, 4.2), layout="constrained")
        _draw(figure.add_subplot(), document, x, y)
        undated: dict[str, Any] = {"metadata": {"Date": None}} if file.suffix == ".svg" else {}
        figure.savefig(data, format=file.suffix[1:], dpi=160, facecolor="white", **undated)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data.getvalue())
    except OSError as error:
        raise UsageError("the file cannot be written", where=str(file), got=error.strerror) from None


def _draw(axes: Any, document: Mapping[str, Any], x: str, y: str) -> None:
    def at(trials: list[Any], metric: str) -> list[float]:
        return [t["metrics"][metric] * (100 if metric == "accuracy" else 1) for t in trials]

    trials = [t for t in document["trials"] if t["state"] == "completed" and x in t["metrics"] and y in t["metrics"]]
    styles = {
        "search": ("search", {"c": _SEARCH, "alpha": 0.5, "s": 22, "linewidths": 0}),
        "baseline": ("random search", {"c": _BASELINE, "alpha": 0.8, "s": 26, "linewidths": 1.2, "marker": "x"}),
    }
    for phase, (name, style) in styles.items():
        chosen = [t for t in trials if t["phase"] == phase and not t["front"]]
        if chosen:
            axes.scatter(at(chosen, x), at(chosen, y), label=name, **style)
    front = sorted((t for t in trials if t["front"]), key=lambda t: t["metrics"][x])
    if front:
        bars = {"accuracy": ("yerr", [196 * (t["accuracy_error"] or 0.0) for t in front])}
        axes.errorbar(at(front, x), at(front, y), fmt="o", color=_FRONT, markersize=6, capsize=2, elinewidth=1, label="front",
                      **dict([bars[y]] if y in bars else []))  # fmt: skip
        axes.step(at(front, x), at(front, y), where="post", color=_FRONT, linewidth=1, linestyle=":")
    if tied := [t for t in trials if t["ties"]]:
        style = {"s": 40, "facecolors": "white", "edgecolors": _FRONT, "linewidths": 1.2, "zorder": 3}
        axes.scatter(at(tied, x), at(tied, y), label="as good as one of the front within the errors", **style)
    for peer in document["peers"]:
        where = [peer.get(f"{m}_ms" if m == "latency" else m) for m in (x, y)]
        if None not in where:
            point = where[0], where[1] * (100 if y == "accuracy" else 1)
            axes.scatter(*point, marker="D", c=_PEER, s=34)
            axes.annotate(peer["name"], point, xytext=(4, 4), textcoords="offset points", fontsize=8, color=_PEER,
                          parse_math=False)  # fmt: skip
    for limit in document["limits"]:
        if limit["metric"] == x:
            axes.axvline(limit["limit"], color=_INK, linestyle="--", linewidth=1)
    run = document["run"]
    axes.set_title(f"{run['space']} on {run['data']}, budget {run['budget']}", fontsize=10, color=_INK, parse_math=False)
    axes.set_xlabel(axis_title(x))
    axes.set_ylabel(axis_title(y))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if trials:
        axes.legend(frameon=False, fontsize=9)


def axis_title(name: str) -> str:
    """A metric's label with its unit; a product of metrics is called by its text."""
    if (metric := METRICS.get(name)) is None:
        return name
    unit = "%" if name == "accuracy" else metric.unit
    return f"{metric.label} ({unit})" if unit else metric.label
