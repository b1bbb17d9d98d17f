"""What an exported file says about where it came from."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from nas.net.graph import Graph
from nas.net.render import Head
from nas.report.text import count, duration, milliseconds, percent
from nas.space.spec import Spec

LICENCE = "Licence: the operations in this file are Apache-2.0; the wiring and the weights are yours."


def page_head(spec: Spec, graph: Graph) -> Head:
    """The head of a network written from a page: what the page says of itself."""
    lines = [f"Source: {spec.source}." if spec.source else "", f"Reference: {spec.reference}." if spec.reference else "",
             "Comes without trained weights.", "", LICENCE, f"Made with: nas export {shlex.quote(spec.name)}"]  # fmt: skip
    return Head(title=f"{spec.name}: {_size(graph)}.", lines=[_size_line(spec), *filter(None, lines[:2]), *lines[2:]])


def found_lines(config: Mapping[str, Any], trial: int, latency_ms: float | None, latency: Mapping[str, Any] | None) -> list[str]:
    """Which search a trial came from, and the latency that was measured in it."""
    where = (f"Found in the space {config['space']} on the data {config['data']}, with a budget of {config['budget']};"
             f" trial {trial}.")  # fmt: skip
    return [line for line in (where, _latency(latency_ms, latency)) if line]


def trial_head(
    spec: Spec, graph: Graph, *, config: Mapping[str, Any], run: str, trial: int, seed: int | None, metrics: Mapping[str, Any],
    latency: Mapping[str, Any] | None, epochs: int | None, trained: bool,
) -> Head:  # fmt: skip
    """The head of a trial's network: its search, its figures with their conditions, and how to make it again."""
    lines = [
        _size_line(spec),
        f"Found in the space {config['space']} on the data {config['data']}, with a budget of {config['budget']};"
        f" trial {trial}, seed {seed}.",
        _latency(metrics.get("latency"), latency),
        _accuracy(metrics.get("accuracy"), epochs),
        "Weights: proxy-trained, that is by the search's short training; train it fully before use."
        if trained else "Comes without trained weights: only a smaller proxy of it was trained.",
        f"Source of the space: {spec.source}." if spec.source else "",
    ]  # fmt: skip
    words = [f"{key}={shlex.quote(str(value))}" for key, value in config.items()]
    made = f"Made with: nas export {shlex.quote(run)} trial={trial}"
    again = ["", LICENCE, f"To find it again: nas search {' '.join(words)}", made]
    return Head(title=f"{spec.name}: {_size(graph)}.", lines=[*filter(None, lines), *again])


def final_head(spec: Spec, graph: Graph, *, metrics: Mapping[str, Any], found: Sequence[str] = (), command: str = "") -> Head:
    """The head of a network with the weights of its final training, as ``nas.search.final`` tells it in ``metrics``.

    ``found`` are lines on the search that it came from.
    """
    recipe, data, on = metrics["recipe"], metrics["data"], metrics["conditions"]
    schedule = f"{recipe['schedule']} from {recipe['learning_rate']:g}"
    test = f", {percent(metrics['test_accuracy'])} on the test split" if metrics["test_accuracy"] is not None else ""
    normal = "; ".join(f"{what} {', '.join(f'{value:.4f}' for value in data[key])}"
                       for what, key in (("mean", "mean"), ("deviation", "std")))  # fmt: skip
    lines = [
        _size_line(spec), f"Pixels in 0..1 are normalised by {normal}.", *found,
        f"Weights: {metrics['weights']}: recipe {metrics['recipe_name']}, {metrics['epochs']} epochs on {data['name']}"
        f" ({data['train']} images), {recipe['optimizer']}, {schedule}, batch {recipe['batch_size']}, seed {metrics['seed']};"
        f" of the epoch with the best validation accuracy ({metrics['best_epoch']}).",
        f"Accuracy: {percent(metrics['val_accuracy'])} on the validation split{test} (one training; read once).",
        f"Trained in {duration(metrics['train_s'])} on {on['device_name']}, {recipe['amp']}, torch {on['torch']}.",
        f"Source: {spec.source}." if spec.source else "", f"Recipe after {metrics['recipe_source']}.",
    ]  # fmt: skip
    made = ["", LICENCE, *([f"Made with: {command}"] if command else [])]
    return Head(title=f"{spec.name}: {_size(graph)}.", lines=[*filter(None, lines), *made])


def _size(graph: Graph) -> str:
    return f"{count(graph.num_params)} parameters, {count(graph.macs)} multiply-adds"


def _size_line(spec: Spec) -> str:
    channels, height, width = spec.input
    return f"Input: (N, {channels}, {height}, {width}), normalised as in training; output: (N, {spec.num_classes}) logits."


def _latency(value: float | None, conditions: Mapping[str, Any] | None) -> str:
    if value is None:
        return ""
    if not conditions:
        return f"Latency: {milliseconds(value)}."
    c = conditions
    return (
        f"Latency: {milliseconds(value)} ({c['confidence']:.0%} interval {c['low_ms']:.3g} to {c['high_ms']:.3g} ms,"
        f" n = {c['n']}) on {c['device_name']}, batch {c['batch']}, {c['dtype']}, threads: {c['threads']}, {c['memory_format']},"
        f" {c['runtime']}, torch {c['torch_version']}."
    )


def _accuracy(value: float | None, epochs: int | None) -> str:
    if value is None:
        return ""
    length = f" (epochs: {epochs})" if epochs else ""
    return f"Accuracy: {percent(value)} on the validation split, by the search's short training{length}."
