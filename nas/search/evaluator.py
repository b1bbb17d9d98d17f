"""One job of a candidate in a worker process: measure the deployed network, or train the proxy and keep its weights."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nas.errors import CheckpointError, DataError, MeasureError, UnsupportedError
from nas.measure.device import device_models, giving_way
from nas.measure.metrics import measure_metrics
from nas.measure.reference import DEPTHS, REFERENCE_SHAPE, Anchors, reference_net
from nas.measure.target import measure_at
from nas.net.build import build
from nas.net.graph import Size
from nas.net.lower import lower
from nas.ops.plugins import load_plugins
from nas.search.final import TOLD, train_final
from nas.space.parse import parse_page
from nas.space.search_space import Architecture
from nas.train.checkpoint import load_weights, save_weights
from nas.train.data import Dataset, load_data
from nas.train.evaluate import evaluate as accuracy_on
from nas.train.fit import EpochResult, FitResult, fit
from nas.train.recipe import Recipe
from nas.train.recipe_pages import load_recipe
from nas.train.seeding import derive_seed, seed_everything
from nas.train.shared import open_shared

MEASURE_ATTEMPTS, MEASURE_PAUSE_S = 3, 2.0
"""A refused measurement (a busy machine) is tried again after a pause; then the job says that it was refused."""

ASK_EVERY_S = 0.5
"""Seconds between two looks of a measurement at whether it is to stop. Each is a message to the driver."""

ALIVE_EVERY_S = 10.0
"""Seconds between two signs of life of a training: an epoch at deployed size may take longer than a job may be silent."""

CHECKPOINT_EVERY_S = 20.0
"""Seconds of training between two checkpoints of a candidate, so that writing them costs little."""

ENOUGH = 0.8
"""Share of its planned epochs after which a final training that the budget's end stops is taken for finished: its schedule is
then nearly over, and its best weights are worth having."""

Report = Callable[[Mapping[str, Any]], bool]


def preload() -> dict[str, str]:
    """What a worker does once at its start; the models of what it can measure on."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    return device_models()


@lru_cache(maxsize=2)
def dataset(source: str, seed: int, image_size: int | None, device: str, shared: str | None = None) -> Dataset:
    """The data set, kept between trials; from the ``shared`` folder that the driver made of it, where there is one.

    Its test split stays sealed in workers.
    """
    if shared is not None:
        return open_shared(Path(shared)).to(device)
    return load_data(source, seed=seed, image_size=image_size).sealed().to(device)


def evaluate(payload: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """Do one job with one candidate; see :func:`nas.search.start.payload_of` for what the payload holds.

    Its ``stage`` is ``{"do": "measure"}`` or ``{"do": "train", "epochs": N}``: train until N epochs of the recipe are done,
    from the checkpoint on where there is one; or ``{"do": "final"}``, see :func:`finish`. Reports what is known so far; a
    true answer ends the job after that epoch, or a measurement between two of its runs. Returns ``metrics``, details under
    their own names, and ``stopped`` or ``refused`` when it was ended or could not be.
    """
    load_plugins(payload["plugins"])
    architecture = Architecture(parse_page(payload["page"]))
    match payload["stage"]["do"]:
        case "measure":
            return measure(architecture, payload, report)
        case "final":
            return finish(architecture, payload, report)
    return train(architecture, payload, report)


class StopMeasuring(Exception):
    """Raised between the runs of a measurement that is to stop."""


def measure(architecture: Architecture, payload: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """Figures of the deployed network, with random weights (they do not change them; denormals are flushed).

    ``refused`` is the reason when the device stayed too busy for a figure that can be believed. Raises UnsupportedError for
    a network that cannot run there.
    """
    start = time.perf_counter()
    how = payload["measure"]
    graph = lower(architecture, size_of(payload["deploy"]))
    asked = start

    def between() -> None:
        nonlocal asked
        if (now := time.perf_counter()) - asked >= ASK_EVERY_S:
            asked = now
            if report({}):
                raise StopMeasuring

    for attempt in range(MEASURE_ATTEMPTS):
        try:
            latency, metrics = measure_metrics(how["target"], graph, how["metrics"], batch=how["batch"], threads=how["threads"],
                                               runtime=how["runtime"], anchors=Anchors(how["anchors"]),
                                               between=between)  # fmt: skip
            break
        except StopMeasuring:
            return {"stopped": True}
        except UnsupportedError:  # a failure like any other, and no fault of the device
            raise
        except MeasureError as error:
            if report({"refused": attempt + 1}):
                return {"stopped": True}
            if attempt == MEASURE_ATTEMPTS - 1:
                return {"refused": str(error)}
            time.sleep(MEASURE_PAUSE_S)
    conditions = {"latency_low_ms": latency.low_ms, "latency_high_ms": latency.high_ms,
                  "latency": latency.to_mapping()} if latency else {}  # fmt: skip
    return {"metrics": metrics, **conditions, "measure_s": time.perf_counter() - start}


def calibrate(how: Mapping[str, Any]) -> dict[int, float]:
    """Time the reference networks that latencies are paired with, before workers make the machine busy; once a run.

    The unit of the run's latencies: the milliseconds that the reference of each depth takes in quiet times.
    """
    latencies = [measure_at(how["target"], reference_net(depth), REFERENCE_SHAPE, batch=how["batch"], threads=how["threads"],
                            runtime=how["runtime"], anchors=Anchors(how["anchors"])) for depth in DEPTHS]  # fmt: skip
    return {latency.reference_depth: latency.reference_ms for latency in latencies}


def train(architecture: Architecture, payload: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """Train the proxy; the accuracy is the last epoch's on the validation split. All epochs done: the weights are kept."""
    recipe = Recipe.from_mapping(payload["recipe"])
    epochs, until = recipe.epochs, int(payload["stage"]["epochs"])
    checkpoint = Path(payload["checkpoint"])
    asked = False

    def on_epoch(epoch: EpochResult) -> bool:
        nonlocal asked
        done = epoch.epoch + 1
        asked = report({"epoch": done, "metrics": {"accuracy": epoch.val_accuracy}})
        return (asked and done < until) or until <= done < epochs

    try:
        network, result = _fit(architecture, payload, recipe, checkpoint, report, on_epoch)
    except CheckpointError:
        checkpoint.unlink(missing_ok=True)  # the training starts over
        network, result = _fit(architecture, payload, recipe, checkpoint, report, on_epoch)
    done = len(result.history)
    if done == recipe.epochs:
        if payload["weights"]:
            save_weights(network, Path(payload["weights"]))
        checkpoint.unlink(missing_ok=True)
    return {
        "metrics": {"accuracy": result.val_accuracy}, "train_loss": result.last.train_loss,
        "epochs": done, "stopped": done < until, "val_images": len(dataset(**payload["data"]).validation),
        "train_s": result.seconds, "curve": [round(epoch.val_accuracy, 6) for epoch in result.history],
    }  # fmt: skip


def finish(architecture: Architecture, payload: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """The final training of a found network at deployed size, in the stage's ``folder``, within its ``seconds``.

    Stopped with less than :data:`ENOUGH` of its epochs, it can be gone on with. The only job that reads the test split: once,
    by the weights that are kept; where only the workers' copy of the data is, the driver does.
    """
    stage, device = payload["stage"], payload["data"]["device"]
    data = whole_dataset(payload["data"]).to(device)
    recipe, size = load_recipe(stage["recipe"]), size_of(payload["deploy"])

    def on_epoch(epoch: EpochResult, epochs: int) -> bool:
        done, metrics = epoch.epoch + 1, {"accuracy": epoch.val_accuracy}
        return report({"epoch": done, "epochs": epochs, "metrics": metrics}) and done < epochs

    with between_steps(device, report) as on_step:
        result = train_final(architecture, size, data, recipe, name=stage["name"], folder=Path(stage["folder"]),
                             seed=payload["seed"], device=device, seconds=stage["seconds"], on_epoch=on_epoch, on_step=on_step,
                             enough=ENOUGH)  # fmt: skip
    if result.metrics is None:
        return {"stopped": True}
    return {"metrics": {}, **{word: result.metrics[word] for word in TOLD}}


def whole_dataset(words: Mapping[str, Any]) -> Dataset:
    """The data set with its test split; where its source is not on this machine, the sealed copy that travelled here."""
    try:
        return load_data(words["source"], seed=words["seed"], image_size=words["image_size"])
    except DataError:
        if words["shared"] is None:
            raise
        return open_shared(Path(words["shared"]))


def _fit(architecture: Architecture, payload: Mapping[str, Any], recipe: Recipe, checkpoint: Path, report: Report,
         on_epoch: Callable[[EpochResult], bool]) -> tuple[nn.Module, FitResult]:  # fmt: skip
    data, seed, device = dataset(**payload["data"]), payload["seed"], payload["data"]["device"]
    with seed_everything(derive_seed(seed, "weights"), device):
        network = build(lower(architecture, size_of(payload["proxy"]))).to(device)
    with between_steps(device, report) as on_step:
        result = fit(network, data, recipe, seed=derive_seed(seed, "training"), device=device, on_epoch=on_epoch,
                     checkpoint=checkpoint, checkpoint_every_s=CHECKPOINT_EVERY_S, on_step=on_step)  # fmt: skip
    return network, result


@contextmanager
def between_steps(device: str, report: Report) -> Iterator[Callable[[], object]]:
    """What to call between the steps of a training: it shows the driver that the job is alive, and lets a measurement have a
    GPU to itself."""
    told = time.perf_counter()
    with giving_way(device) as give_way:

        def on_step() -> None:
            nonlocal told
            if (now := time.perf_counter()) - told >= ALIVE_EVERY_S:
                told = now
                report({})
            give_way()

        yield on_step


def test_accuracy(architecture: Architecture, payload: Mapping[str, Any], data: Dataset) -> float:
    """Accuracy of a trial's trained proxy on the test split of an unsealed data set."""
    network, device = build(lower(architecture, size_of(payload["proxy"]))), payload["data"]["device"]
    load_weights(network, Path(payload["weights"]))
    return accuracy_on(network.to(device), data.test().to(device))[0]


def size_of(words: Mapping[str, Any]) -> Size:
    """A size from its plain words."""
    return Size(width=words["width"], depth=words["depth"], num_classes=words["num_classes"],
                input=(words["input"][0], words["input"][1], words["input"][2]))  # fmt: skip
