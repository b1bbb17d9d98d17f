"""What an exported file says about where it came from."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import mean, stdev
from typing import Any

from nas.measure.latency import Latency
from nas.net.graph import Graph
from nas.net.render import Head
from nas.report.run.noise import binomial_error
from nas.report.text import count, duration, milliseconds, percent
from nas.search.front import Checks
from nas.search.study import Record
from nas.space.spec import Spec

LICENCE = "Licence: the operations in this file are Apache-2.0; the wiring and the weights are yours."


def page_head(spec: Spec, graph: Graph) -> Head:
    """The head of a network written from a page: what the page says of itself."""
    lines = [f"Source: {spec.source}." if spec.source else "", f"Reference: {spec.reference}." if spec.reference else "",
             "Comes without trained weights.", "", LICENCE, f"Made with: nas export {shlex.quote(spec.name)}"]  # fmt: skip
    return Head(title=f"{spec.name}: {_size(graph)}.", lines=[_size_line(spec), *filter(None, lines[:2]), *lines[2:]])


def found_lines(config: Mapping[str, Any], record: Record, checks: Checks) -> list[str]:
    """Which search a trial came from, and the latencies that were measured in it. ``config``: its space, data and budget."""
    seed = f", seed {record.seed}" if record.seed is not None else ""
    where = (f"Found in the space {config['space']} on the data {config['data']}, with a budget of {config['budget']};"
             f" trial {record.number}{seed}.")  # fmt: skip
    latency = _latency("Latency in the search", record.metrics.get("latency"), record.attrs.get("latency"))
    again = checks.again.get(record.number)
    later = again and (f"Latency at the search's end, under the same conditions: {milliseconds(again['median_ms'])}"
                       f" ({again['low_ms']:.3g} to {again['high_ms']:.3g} ms).")  # fmt: skip
    return [line for line in (where, latency, later) if line]


def accuracy_lines(record: Record, *, images: int | None = None, test: float | None = None, test_images: int | None = None,
                   repeats: Sequence[float] = ()) -> list[str]:  # fmt: skip
    """A trial's accuracies with their noise: the standard error by the number of images, and trainings with other seeds."""
    if (value := record.metrics.get("accuracy")) is None:
        return []
    epochs = f" (epochs: {record.attrs['epochs']})" if record.attrs.get("epochs") else ""
    tested = f" and {_with_error(test, test_images)} on the test split" if test is not None else ""
    lines = [f"Accuracy: {_with_error(value, images)} on the validation split{tested}, by the search's short training{epochs}."]
    if repeats:
        all_of_them = [value, *repeats]
        lines.append(f"Trained {len(all_of_them)} times with other seeds: {percent(mean(all_of_them))} on validation, standard"
                     f" deviation {percent(stdev(all_of_them))}.")  # fmt: skip
    return lines


def _with_error(accuracy: float, images: int | None) -> str:
    """A share with its standard error, where it is known of how many."""
    error = binomial_error(accuracy, images)
    return percent(accuracy) if error is None else f"{percent(accuracy)} (standard error {percent(error)}, n = {images})"


def trial_head(spec: Spec, graph: Graph, *, found: Sequence[str], accuracy: Sequence[str], trained: bool, command: str, made: str
               ) -> Head:  # fmt: skip
    """The head of a trial's network: its search, its figures with their conditions, and how to make it again.

    ``found`` and ``accuracy`` are the lines of the functions of those names, ``command`` is the search's, ``made`` the export's.
    """
    weights = ("Weights: proxy-trained, that is by the search's short training; train it fully before use." if trained else
               "Comes without trained weights: only a smaller proxy of it was trained.")  # fmt: skip
    source = [f"Source of the space: {spec.source}."] if spec.source else []
    lines = [_size_line(spec), *found, *accuracy, weights, *source, "", LICENCE, f"To find it again: {command}",
             f"Made with: {made}"]  # fmt: skip
    return Head(title=f"{spec.name}: {_size(graph)}.", lines=lines)


def with_latencies(head: Head, found: Mapping[str, Latency | str]) -> Head:
    """The head with what the exported files took when they were measured, before its closing paragraph."""
    names = {"py": "this file", "onnx": "network.onnx", "pt2": "network.pt2"}
    measured = [_latency(f"Latency of {names[name]} at export", latency.median_ms, latency.to_mapping())
                for name, latency in found.items() if not isinstance(latency, str)]  # fmt: skip
    lines = list(head.lines)
    place = lines.index("") if "" in lines else len(lines)
    return replace(head, lines=[*lines[:place], *measured, *lines[place:]])


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
        f"Accuracy: {_with_error(metrics['val_accuracy'], data['validation'])} on the validation split{test} (one training; read"
        " once).",
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


def _latency(what: str, value: float | None, conditions: Mapping[str, Any] | None) -> str:
    if value is None:
        return ""
    if not conditions:
        return f"{what}: {milliseconds(value)}."
    c = conditions
    return (
        f"{what}: {milliseconds(value)} ({c['confidence']:.0%} interval {c['low_ms']:.3g} to {c['high_ms']:.3g} ms,"
        f" n = {c['n']}) on {c['device_name']}, batch {c['batch']}, {c['dtype']}, threads: {c['threads']}, {c['memory_format']},"
        f" {c['runtime']} {c['runtime_version']}, torch {c['torch_version']}."
    )
