"""What the user does not say is chosen here, from the data, the device and the budget, and told in words."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn import functional as F

from nas.errors import NasError, SpaceError, UsageError
from nas.net.build import build
from nas.net.graph import Graph, Size
from nas.net.lower import lower
from nas.search.config import SearchConfig, SizeWords, as_size
from nas.space.search_space import SearchSpace
from nas.space.spec import CellRef, Repeat, Spec
from nas.train.data import Dataset
from nas.train.evaluate import main_logits
from nas.train.layout import ChannelsLast
from nas.train.recipe import Recipe
from nas.train.seeding import seed_everything

CANDIDATES = 40
"""Candidates that a time budget is planned for; the promise is 30."""

SMALL_DATA = 5_000_000
"""Training pixels below which the searched network is the deployed one: there is nothing to save by a proxy."""

SCALES = ((1.0, 1.0), (1.0, 0.5), (0.5, 0.5), (0.5, 1 / 3), (0.25, 1 / 3), (0.25, 1 / 6), (0.125, 1 / 6))
"""(width, depth) of proxies, largest first."""

EPOCHS = (10, 40)
"""Fewest epochs that a proxy larger than the smallest is worth, and the most that are planned."""

EPOCHS_UNTIMED = 15
"""Epochs where the budget is in trials and says nothing of time; the proxy is one whose epoch takes at most that many seconds."""
EPOCH_SECONDS_UNTIMED = 3.0

TIMED_MACS = 2e9
"""Multiply-adds of a timed step at most: of large images fewer are taken at once, and the time follows from the pace."""

SIDE_BY_SIDE = 1.3
"""How much slower a CPU worker trains beside others than alone: they share memory and clock (1.27 on two cores, digits)."""

OVERHEAD_S = 2.0
"""Seconds a candidate takes beside its training: measuring, building, validation of the first batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The sizes, the recipe and the deployment of a search, with the reasons in words."""

    deploy: Size
    proxy: Size
    batch: int
    recipe: Recipe
    epoch_s: float
    notes: tuple[str, ...]


def plan_search(space: SearchSpace, data: Dataset, config: SearchConfig, *, device: str, workers: int,
                seconds: float | None) -> Plan:  # fmt: skip
    """Choose sizes, epochs, batch size and learning rate. ``seconds`` is the wall time there is, None when unknown.

    Raises UsageError (or the space's own error) when no size of the space fits the data.
    """
    task = Size(input=data.input_shape, num_classes=data.num_classes)
    batch_size = config.batch_size or default_batch(len(data.train), device)
    with one_thread(device):
        pace = Pace.measure(space, task, batch_size, device)
    steps = -(-len(data.train) // batch_size)
    said = multipliers(space.spec, config.proxy)
    one_size = len(data.train) * data.input_shape[1] * data.input_shape[2] <= SMALL_DATA
    deploy_said = multipliers(space.spec, config.deploy)
    if one_size and not _says_size(said) and _says_size(deploy_said):
        said = deploy_said
    share = None if seconds is None else seconds * workers / CANDIDATES
    validated = len(data.validation) / batch_size / 3  # a forward pass costs about a third of a training step
    slower = SIDE_BY_SIDE if device == "cpu" and workers > 1 else 1.0

    def epoch_seconds(graphs: list[Graph]) -> float:
        return statistics.median(pace.step(graph, batch_size) for graph in graphs) * (steps + validated) * slower

    proxy, epoch_s = _choose_proxy(space, as_size(said, task), _says_size(said), epoch_seconds, share)
    epochs = config.epochs or _epochs(epoch_s, share)
    deploy = as_size(deploy_said, task)
    if one_size and not _says_size(deploy_said):
        deploy = replace(proxy, input=deploy.input, num_classes=deploy.num_classes)
    recipe = default_recipe(epochs, batch_size, device)
    notes = (
        f"trained: width x{proxy.width:g}, depth x{proxy.depth:g}, input {times(proxy.input)}, about {epoch_s:.2g} s an epoch",
        "deployed (measured and limited): " + ("the same network" if deploy == proxy else
        f"width x{deploy.width:g}, depth x{deploy.depth:g}, input {times(deploy.input)}, {deploy.num_classes} classes"),
        f"recipe: {epochs} epoch{'s' * (epochs > 1)}, batch {batch_size}, {recipe.optimizer} at learning rate "
        f"{recipe.learning_rate:g}, cosine",
    )  # fmt: skip
    return Plan(deploy=deploy, proxy=proxy, batch=config.deploy.batch or 1, recipe=recipe, epoch_s=epoch_s, notes=notes)


def default_batch(images: int, device: str) -> int:
    """Batch size by the number of training images; on a GPU larger, to keep it busy."""
    if device != "cpu":
        return 64 if images < 5_000 else 256
    return 32 if images < 5_000 else 96


def default_recipe(epochs: int, batch_size: int, device: str) -> Recipe:
    """Short training that ranks candidates: Nesterov SGD, cosine, learning rate linear in the batch size."""
    return Recipe(epochs=epochs, batch_size=batch_size, learning_rate=round(0.05 * batch_size / 32, 4), weight_decay=3e-4,
                  warmup_epochs=min(1.0, epochs / 5), grad_clip=5.0,
                  amp="float32" if device == "cpu" else "bfloat16")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds of a training step on this device: ``per_call`` an operation plus ``per_mac`` a multiply-add."""

    per_call: float
    per_mac: float

    @classmethod
    def measure(cls, space: SearchSpace, task: Size, batch_size: int, device: str) -> Pace:
        """Time steps of one small and one larger network of the space."""
        points = []
        for width, depth in ((0.125, 1 / 6), (0.5, 1 / 3)):
            graph = _typical(space, replace(task, width=width, depth=depth))
            images = max(2, min(batch_size, int(TIMED_MACS / max(1, graph.macs))))
            points.append((_calls(graph), graph.macs * images, time_step(graph, images, device)))
        (calls1, macs1, t1), (calls2, macs2, t2) = points
        determinant = calls1 * macs2 - calls2 * macs1
        per_call = (t1 * macs2 - t2 * macs1) / determinant if determinant else 0.0
        per_mac = (calls1 * t2 - calls2 * t1) / determinant if determinant else t2 / max(1, macs2)
        if per_call < 0 or per_mac <= 0:
            return cls(0.0, t2 / max(1, macs2))
        return cls(per_call, per_mac)

    def step(self, graph: Graph, batch_size: int) -> float:
        """Seconds of a training step of a graph."""
        return self.per_call * _calls(graph) + self.per_mac * graph.macs * batch_size


def time_step(graph: Graph, batch_size: int, device: str) -> float:
    """Seconds of one training step, the fastest of three after a warm-up; on a CPU of one thread, as workers have it."""
    with seed_everything(0, device):
        network = build(graph).to(device)
        ChannelsLast(network)
        images = torch.randn(batch_size, *graph.inputs[0][1]).to(device, memory_format=torch.channels_last)
        labels = torch.zeros(batch_size, dtype=torch.long, device=device)
        times = []
        for _ in range(4):
            start = time.perf_counter()
            torch.autograd.backward(F.cross_entropy(main_logits(network(images), graph.shape[-1]), labels))
            if device != "cpu":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
    return min(times[1:])


@contextmanager
def one_thread(device: str) -> Iterator[None]:
    """Within the block torch uses one CPU thread: a second one beside a busy process slows small kernels 5 to 100 times."""
    before = torch.get_num_threads()
    if device == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _typical(space: SearchSpace, size: Size) -> Graph:
    """The graph of median cost among a few samples."""
    graphs = sorted(samples(space, size, 9), key=lambda graph: graph.macs)
    return graphs[len(graphs) // 2]


def samples(space: SearchSpace, size: Size, count: int) -> list[Graph]:
    """So many random networks of a space, fewer where many are impossible. Raises UsageError where none fits."""
    rng = random.Random(0)
    graphs: list[Graph] = []
    problem: NasError | None = None
    for _ in range(3 * count):
        try:
            graphs.append(lower(space.sample(rng), size))
        except SpaceError as error:
            problem = error
        if len(graphs) == count:
            return graphs
    if not graphs and problem is not None:
        raise UsageError(f"no network of {space.name} fits this data", got=f"input {times(size.input)}: {problem}")
    return graphs


def _calls(graph: Graph) -> int:
    return sum(1 for _ in graph.calls())


def _choose_proxy(space: SearchSpace, size: Size, fixed: bool, epoch_seconds: Callable[[list[Graph]], float],
                  share: float | None) -> tuple[Size, float]:  # fmt: skip
    """The largest proxy that leaves time for enough epochs, and the seconds of its epoch."""
    proxy, epoch_s = size, 0.0
    for width, depth in [(size.width, size.depth)] if fixed else SCALES:
        proxy = replace(size, width=width, depth=depth)
        epoch_s = epoch_seconds(samples(space, proxy, 9))
        if (EPOCHS[0] * epoch_s + OVERHEAD_S <= share) if share is not None else epoch_s <= EPOCH_SECONDS_UNTIMED:
            break
    return proxy, epoch_s


def _epochs(epoch_s: float, share: float | None) -> int:
    if share is None:
        return EPOCHS_UNTIMED
    return max(1, min(EPOCHS[1], int((share - OVERHEAD_S) / epoch_s)))


def _says_size(words: SizeWords) -> bool:
    return words.width is not None or words.depth is not None


def multipliers(spec: Spec, words: SizeWords) -> SizeWords:
    """``repeats`` and ``filters`` as multipliers of what the page writes. Raises UsageError where it has neither."""
    repeats, filters = _written(spec)
    if words.repeats is not None:
        if not repeats:
            raise UsageError("this space has no repeated cells", got=f"repeats={words.repeats}", hint="Write depth=0.5 instead.")
        words = replace(words, depth=words.repeats / repeats, repeats=None)
    if words.filters is not None:
        if not filters:
            raise UsageError("this space has no cells of a written width", got=f"filters={words.filters}",
                             hint="Write width=0.5 instead.")
        words = replace(words, width=words.filters / filters, filters=None)
    return words


def _written(spec: Spec) -> tuple[int, int]:
    """The repeats and the first width of the cells that a page's network writes (N and F of NASNet)."""
    repeats, filters = 0, 0
    for layer in spec.network.layers:
        body: Any = layer.body
        times = 1
        if isinstance(body, Repeat):
            times, body = (body.times if isinstance(body.times, int) else 1), body.bodies[0]
        if isinstance(body, CellRef):
            repeats = max(repeats, times)
            if not filters and isinstance(body.channels, int):
                filters = body.channels
    return repeats, filters


def times(shape: tuple[int, int, int] | None) -> str:
    """A shape as a user writes it."""
    return "x".join(map(str, shape or ()))
