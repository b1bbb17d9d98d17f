"""One candidate, evaluated in a worker process: measure the deployed network, train the proxy, keep its weights."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn

from nas.errors import MeasureError, TrainError
from nas.measure.latency import measure_latency
from nas.measure.reference import REFERENCE_SHAPE, Anchors, reference_net
from nas.net.build import build
from nas.net.graph import Size
from nas.net.lower import lower
from nas.ops.plugins import load_plugins
from nas.search.objectives import parse_constraint
from nas.space.parse import parse_page
from nas.space.search_space import Architecture
from nas.train.data import Dataset, load_data
from nas.train.evaluate import evaluate as accuracy_on
from nas.train.fit import EpochResult, fit
from nas.train.recipe import Recipe
from nas.train.seeding import derive_seed, seed_everything

MEASURE_ATTEMPTS, MEASURE_PAUSE_S = 3, 2.0
"""A refused measurement (a busy machine) is tried again after a pause; then the candidate fails with the reason."""

Report = Callable[[Mapping[str, Any]], bool]


def preload() -> None:
    """What a worker does once at its start."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))


@lru_cache(maxsize=2)
def dataset(source: str, seed: int, limit: int | None, image_size: int | None, device: str) -> Dataset:
    """The data set, kept between trials. Its test split stays sealed in workers."""
    return load_data(source, seed=seed, limit=limit, image_size=image_size).sealed().to(device)


def evaluate(payload: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """Evaluate one candidate; see :func:`nas.search.loop.payload_of` for what the payload holds.

    Reports ``{"latency_ms": ...}`` once measured and ``{"epoch": ..., "val_accuracy": ...}`` every epoch; a true answer
    ends the evaluation there. Returns the metrics, with ``stopped`` saying whether it was ended early, and ``over`` why
    where it was a limit that it breaks.
    """
    start = time.perf_counter()
    load_plugins(payload["plugins"])
    architecture = Architecture(parse_page(payload["page"]))
    metrics: dict[str, Any] = {"stopped": False}
    if payload["measure"]:
        measured = measure(architecture, payload, report)
        if measured is None:
            return metrics | {"stopped": True}
        metrics |= measured
        metrics["measure_s"] = time.perf_counter() - start
        over = over_limit(metrics, payload["constraints"])
        if report({"latency_ms": metrics["latency_ms"]}) or over:
            return metrics | {"stopped": True, "over": over}
    return metrics | train(architecture, payload, report)


def measure(architecture: Architecture, payload: Mapping[str, Any], report: Report) -> dict[str, Any] | None:
    """Latency of the deployed network, with random weights (they do not change it; denormals are flushed).

    None when a stop was asked for while it was refused. Raises MeasureError when it is refused for good.
    """
    how = payload["measure"]
    graph = lower(architecture, size_of(payload["deploy"]))
    with seed_everything(payload["seed"]):
        network = build(graph)
    channels, height, width = graph.inputs[0][1]
    for attempt in range(MEASURE_ATTEMPTS):
        try:
            latency = measure_latency(network, (channels, height, width), device=how["device"], batch=how["batch"],
                                      threads=how["threads"], anchors=Anchors(how["anchors"]))  # fmt: skip
            break
        except MeasureError:
            if attempt == MEASURE_ATTEMPTS - 1:
                raise
            if report({"refused": attempt + 1}):
                return None
            time.sleep(MEASURE_PAUSE_S)
    return {"latency_ms": latency.median_ms, "latency_low_ms": latency.low_ms, "latency_high_ms": latency.high_ms,
            "latency": latency.to_mapping()}  # fmt: skip


def calibrate(how: Mapping[str, Any]) -> None:
    """Time the reference network that latencies are paired with, before workers make the machine busy; once a run."""
    measure_latency(reference_net(), REFERENCE_SHAPE, device=how["device"], batch=how["batch"], threads=how["threads"],
                    anchors=Anchors(how["anchors"]))  # fmt: skip


def train(architecture: Architecture, payload: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """Train the proxy from scratch; the accuracy is the last epoch's on the validation split."""
    data = dataset(**payload["data"])
    recipe = Recipe.from_mapping(payload["recipe"])
    seed, device = payload["seed"], payload["data"]["device"]
    graph = lower(architecture, size_of(payload["proxy"]))
    with seed_everything(derive_seed(seed, "weights"), device):
        network = build(graph).to(device)
    stopped = False

    def on_epoch(epoch: EpochResult) -> bool:
        nonlocal stopped
        values = {"epoch": epoch.epoch + 1, "val_accuracy": epoch.val_accuracy, "epoch_s": epoch.seconds}
        stopped = report(values) and epoch.epoch + 1 < recipe.epochs
        return stopped

    result = fit(network, data, recipe, seed=derive_seed(seed, "training"), device=device, on_epoch=on_epoch)
    if payload.get("weights"):
        save_weights(network, Path(payload["weights"]))
    return {
        "val_accuracy": result.val_accuracy, "val_loss": result.last.val_loss, "epochs": len(result.history), "stopped": stopped,
        "train_s": result.seconds, "images_per_s": result.last.images_per_s,
        "curve": [round(epoch.val_accuracy, 6) for epoch in result.history],
    }  # fmt: skip


def save_weights(network: nn.Module, path: Path) -> None:
    """Write a network's state, all of it or nothing."""
    partial = path.with_suffix(".partial")
    torch.save({name: value.cpu().contiguous() for name, value in network.state_dict().items()}, partial)
    partial.replace(path)


def load_weights(network: nn.Module, path: Path) -> None:
    """Load a network's state. Raises TrainError when the file is missing, damaged, or another network's."""
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except (OSError, RuntimeError, EOFError, ValueError, UnpicklingError) as error:
        raise TrainError("the weights cannot be loaded", where=str(path), got=str(error).split("\n")[0]) from None


def test_accuracy(architecture: Architecture, payload: Mapping[str, Any], data: Dataset) -> float:
    """Accuracy of a trial's trained proxy on the test split of an unsealed data set."""
    network, device = build(lower(architecture, size_of(payload["proxy"]))), payload["data"]["device"]
    load_weights(network, Path(payload["weights"]))
    return accuracy_on(network.to(device), data.test().to(device))[0]


def over_limit(metrics: Mapping[str, Any], constraints: list[str]) -> str | None:
    """The first limit that the metrics known so far break, as a sentence; None when all hold."""
    values = {"latency": metrics.get("latency_ms"), "num_params": metrics.get("num_params"), "macs": metrics.get("macs")}
    for text in constraints:
        constraint = parse_constraint(text)
        value = values.get(constraint.metric)
        if value is not None and constraint.violation({constraint.metric: value}) > 0:
            return f"{constraint.metric} {value:.4g} breaks {text}"
    return None


def size_of(words: Mapping[str, Any]) -> Size:
    """A size from its plain words."""
    return Size(width=words["width"], depth=words["depth"], num_classes=words["num_classes"],
                input=(words["input"][0], words["input"][1], words["input"][2]))  # fmt: skip
