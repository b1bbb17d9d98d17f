"""Final training: a chosen network at the size it is deployed at, by a published recipe, to the end.

A training is a folder. The same call goes on where it was killed; a finished one is read back, and its test split not again.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from filelock import FileLock, Timeout
from torch import nn

from nas.errors import DataError, NasError, RunError, TrainError
from nas.measure.device import device_name
from nas.net.build import build
from nas.net.graph import Graph, Size
from nas.net.lower import lower
from nas.search.front import at_size
from nas.search.run import RunFolder
from nas.space.page import read_file
from nas.space.search_space import Architecture
from nas.space.spec import Spec
from nas.space.unparse import to_page, to_yaml
from nas.train.checkpoint import load_weights, save_weights
from nas.train.data import Dataset
from nas.train.evaluate import evaluate
from nas.train.fit import EpochResult, FitResult, fit
from nas.train.images import take
from nas.train.parallel import ALONE, Group
from nas.train.recipe import Recipe
from nas.train.recipe_pages import RecipePage
from nas.train.seeding import derive_seed, seed_everything
from nas.train.split import Split

PAGE, PLAN, CHECKPOINT, METRICS = "architecture.yaml", "training.yaml", "checkpoint.pt", "metrics.json"
BEST, LAST = "best.pt", "last.pt"

TOLD = ("val_accuracy", "test_accuracy", "epochs", "train_s", "weights")
"""What of its metrics a search tells of a final training."""
FILES = (PLAN, PAGE, BEST, CHECKPOINT, LAST, METRICS)
"""All that a training keeps in its folder, in the order in which it is written."""

MARGIN = 0.92
"""Share of a time cap that is planned for; the rest is for what no timing of a few batches foresees."""
TIMED_BATCHES = 4

OnEpoch = Callable[[EpochResult, int], bool | None]
"""Hears of an epoch and of how many are planned; True ends the training there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalResult:
    """A final training. ``spec`` is the page at the trained size, ``recipe`` what it was trained by, with the planned epochs.

    ``metrics`` is what metrics.json holds, None for a training that was stopped before its end. The weights are the
    folder's best.pt (of the epoch with the highest validation accuracy) and last.pt.
    """

    folder: Path
    spec: Spec
    recipe: Recipe
    history: tuple[EpochResult, ...]
    metrics: Mapping[str, Any] | None

    @property
    def finished(self) -> bool:
        """Whether it came to its end."""
        return self.metrics is not None

    @property
    def weights(self) -> Path:
        """The weights to deploy: the best on validation."""
        return self.folder / BEST


def train_final(
    architecture: Architecture, size: Size, data: Dataset, recipe: RecipePage, *, folder: Path, name: str | None = None,
    seed: int = 0, device: str = "cpu", epochs: int | None = None, seconds: float | None = None,
    on_epoch: OnEpoch | None = None, on_step: Callable[[], object] = bool, enough: float = 1.0, group: Group = ALONE,
) -> FinalResult:  # fmt: skip
    """Train ``architecture`` at ``size`` (what it leaves open is the data's) and keep everything in ``folder``:
    :data:`FILES`.

    ``epochs`` replaces the recipe's. ``seconds`` is the time there is: a few batches are timed, and where the recipe is too
    long the number of epochs is planned so that its schedule ends in time. The plan is made once; a resumed training keeps
    it. ``on_epoch`` hears of every epoch and may stop after one by returning True; the same call goes on, unless ``enough``
    of the planned epochs were done: then it has come to its end there. ``on_step`` is called after every step. The test split
    is read once, by the best weights at the end; where the data set was sealed, by the first call of the finished training
    with one that is not.

    Raises RunError when the folder holds another training, is in use, or cannot be written; TrainError when the images do
    not fit the network or the training diverges; SpaceError when the network is impossible at that size.
    """
    size = replace(size, input=size.input or data.input_shape, num_classes=size.num_classes or data.num_classes)
    if (size.input, size.num_classes) != (data.input_shape, data.num_classes):
        raise TrainError("the data does not fit the network", expected=_task(size.input, size.num_classes),
                         got=_task(data.input_shape, data.num_classes))  # fmt: skip
    spec = page_at(architecture, size, name or architecture.name)
    graph = lower(Architecture(spec))
    asked = recipe.recipe.lasting(epochs) if epochs is not None else recipe.recipe
    asked = asked.on(device)
    words = {"page": to_page(spec), "data": data.fingerprint, "seed": seed, "recipe": asked.to_mapping(),
             "processes": group.size}  # fmt: skip
    if (folder / METRICS).is_file():
        return _opened(_read(folder, spec, words), lambda: _fresh(graph, seed, device), data.to(device))
    with held_folder(folder) if group.first else nullcontext():
        planned = _planned(folder, words, lambda: _plan(graph, data, asked, seed, device, seconds, group), device, group)
        if group.first:
            _write(folder / PAGE, to_yaml(spec))
        network = _fresh(graph, seed, device)
        result = fit(network, data, planned, seed=derive_seed(seed, "training"), device=device,
                     on_epoch=None if on_epoch is None else lambda epoch: on_epoch(epoch, planned.epochs),
                     checkpoint=folder / CHECKPOINT, best=folder / BEST, group=group, on_step=on_step)  # fmt: skip
        metrics = None
        done = len(result.history)
        if (not result.stopped or done >= enough * planned.epochs) and group.first:
            save_weights(network, folder / LAST)
            about = _conditions(data, recipe, planned, done, seed, device, group)
            figures = _judge(_fresh(graph, seed, device), folder / BEST, data.to(device), planned, result)
            metrics = {"name": spec.name, "num_params": graph.num_params, "macs": graph.macs, **figures, **about}
            _write(folder / METRICS, json.dumps(metrics, indent=2) + "\n")
            (folder / CHECKPOINT).unlink(missing_ok=True)
    return FinalResult(folder=folder, spec=spec, recipe=planned, history=result.history, metrics=metrics)


def page_at(architecture: Architecture, size: Size, name: str) -> Spec:
    """The architecture's page with a size written into it; an input is no longer a matter of its scaling."""
    spec = at_size(architecture, size, name)
    if size.input is None:
        return spec
    return replace(spec, input=size.input, scaling=replace(spec.scaling, resolution=None, gamma=1.0))


def _task(shape: tuple[int, ...] | None, classes: int | None) -> str:
    return f"{'x'.join(map(str, shape or ()))} images in {classes} classes"


def _fresh(graph: Graph, seed: int, device: str) -> nn.Module:
    with seed_everything(derive_seed(seed, "weights"), device):
        return build(graph).to(device)


@contextmanager
def held_folder(folder: Path) -> Iterator[None]:
    """The folder, made, and held by this process alone for the length of the block. Raises RunError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock", timeout=0)
        lock.acquire()
    except Timeout:
        raise RunError("another process is training in this folder", where=str(folder)) from None
    except OSError as error:
        raise RunError("the folder cannot be written", where=str(folder), got=error.strerror,
                       hint="Choose another with out=DIR.") from None  # fmt: skip
    try:
        yield
    finally:
        lock.release()


def _write(path: Path, text: str) -> None:
    RunFolder(path.parent).write(path, text)


def _planned(folder: Path, words: Mapping[str, Any], plan: Callable[[], int], device: str, group: Group) -> Recipe:
    """The recipe with its number of epochs: as it was planned when the training began, or now. The first process decides."""
    epochs = 0
    if group.first:
        if (folder / PLAN).is_file():
            epochs = _same(folder, words)
        else:
            epochs = plan()
            _write(folder / PLAN, yaml.safe_dump({**words, "epochs": epochs}, sort_keys=False))
    if group.size > 1:
        epochs = int(group.sum(torch.tensor(epochs, device=device)))
    recipe = Recipe.from_mapping(words["recipe"])
    return recipe if epochs == recipe.epochs else recipe.lasting(epochs)


def _same(folder: Path, words: Mapping[str, Any]) -> int:
    """The epochs of the training in the folder. Raises RunError when it is another one."""
    try:
        known = dict(read_file(folder / PLAN))
        epochs = int(known.pop("epochs"))
    except (NasError, KeyError, TypeError, ValueError) as error:
        raise RunError("the training's plan cannot be read", where=str(folder / PLAN), got=str(error)) from None
    for key, value in words.items():
        if json.loads(json.dumps(value)) != known.get(key):
            what = {"page": "network or size", "processes": "number of processes"}.get(key, key)
            raise RunError(f"this folder holds a training with another {what}", where=str(folder), got=_short(value),
                           expected=_short(known.get(key)), hint="Choose another folder, or delete this one.")  # fmt: skip
    return epochs


def _short(value: Any) -> str | None:
    return str(value)[:32] if isinstance(value, int | str) else None


def _plan(graph: Graph, data: Dataset, recipe: Recipe, seed: int, device: str, seconds: float | None,
          group: Group) -> int:  # fmt: skip
    """How many of the recipe's epochs there is time for, by timing a few batches of the largest images."""
    if seconds is None:
        return recipe.epochs
    start = time.perf_counter()
    epoch_s = epoch_seconds(graph, data, recipe, seed, device)
    left = seconds * MARGIN - (time.perf_counter() - start)
    return max(1, min(recipe.epochs, int(left / epoch_s * group.size)))


def epoch_seconds(graph: Graph, data: Dataset, recipe: Recipe, seed: int, device: str) -> float:
    """Seconds of an epoch with its validation, from the second pass over a few batches of the largest images."""
    train, validation = (_some(split, TIMED_BATCHES * recipe.batch_size) for split in (data.train, data.validation))
    short = replace(recipe.lasting(2), stages=1, learning_rate=1e-6)
    last = fit(_fresh(graph, seed, device), replace(data, train=train, validation=validation), short, device=device).last
    validated = last.seconds - len(train) / last.images_per_s
    return len(data.train) / last.images_per_s + validated * len(data.validation) / len(validation)


def _some(split: Split, count: int) -> Split:
    index = torch.arange(min(count, len(split)))
    return replace(split, images=take(split.images, index.to(split.device)), labels=split.labels[: len(index)])


def _judge(kept: nn.Module, best: Path, data: Dataset, recipe: Recipe, result: FitResult) -> dict[str, Any]:
    """The figures of the weights that are kept."""
    load_weights(kept, best)
    return {
        "val_accuracy": evaluate(kept, data.validation, **_as_trained(recipe))[0], "test_accuracy": _tested(kept, data, recipe),
        "last_val_accuracy": result.val_accuracy, "best_epoch": result.best.epoch + 1, "epochs": len(result.history),
        "train_s": result.seconds, "curve": [asdict(epoch) for epoch in result.history],
    }  # fmt: skip


def _tested(kept: nn.Module, data: Dataset, recipe: Recipe) -> float | None:
    """Accuracy on the test split, None where that is sealed. The only place where it is read."""
    try:
        return evaluate(kept, data.test(), **_as_trained(recipe))[0]
    except DataError:
        return None


def _as_trained(recipe: Recipe) -> dict[str, Any]:
    return {"amp": recipe.amp, "channels_last": recipe.channels_last}


def _opened(final: FinalResult, network: Callable[[], nn.Module], data: Dataset) -> FinalResult:
    """A finished training with its figure on the test split: that was sealed on a machine without the data set's source."""
    if final.metrics is None or final.metrics["test_accuracy"] is not None:
        return final
    kept = network()
    load_weights(kept, final.weights)
    if (test := _tested(kept, data, final.recipe)) is None:
        return final
    metrics = {**final.metrics, "test_accuracy": test}
    _write(final.folder / METRICS, json.dumps(metrics, indent=2) + "\n")
    return replace(final, metrics=metrics)


def _conditions(data: Dataset, page: RecipePage, recipe: Recipe, done: int, seed: int, device: str,
                group: Group) -> dict[str, Any]:  # fmt: skip
    whole = done >= page.recipe.epochs
    weights = "fully trained" if whole else f"trained for {done} of the recipe's {page.recipe.epochs} epochs"
    return {
        "weights": weights + (f", planned were {recipe.epochs}" if done < recipe.epochs else ""),
        "recipe_name": page.name, "recipe_source": page.source, "recipe": recipe.to_mapping(), "seed": seed,
        "data": {"name": data.name, "fingerprint": data.fingerprint, "classes": list(data.classes), "train": len(data.train),
                 "validation": len(data.validation), "mean": list(data.mean), "std": list(data.std)},
        "conditions": {"device": device, "device_name": device_name(torch.device(device)), "processes": group.size,
                       "threads": torch.get_num_threads(), "torch": str(torch.__version__),
                       "python": platform.python_version()},
    }  # fmt: skip


def _read(folder: Path, spec: Spec, words: Mapping[str, Any]) -> FinalResult:
    """A training that is finished."""
    _same(folder, words)
    try:
        metrics = json.loads((folder / METRICS).read_text(encoding="utf-8"))
        known = {field.name for field in fields(EpochResult)}
        history = tuple(EpochResult(**{k: v for k, v in epoch.items() if k in known}) for epoch in metrics["curve"])
        recipe = Recipe.from_mapping(metrics["recipe"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError("the training's figures cannot be read", where=str(folder / METRICS), got=str(error)) from None
    return FinalResult(folder=folder, spec=spec, recipe=recipe, history=history, metrics=metrics)
