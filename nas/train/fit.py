"""The training loop: data on the device, one shuffled pass an epoch, one validation pass, nothing synchronised between.

What is random in epoch e follows from (seed, e) alone. So a resumed training needs no saved random state, and on a CPU
it goes on bit for bit as the uninterrupted one would.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.errors import TrainError
from nas.train.checkpoint import START_OVER, load_checkpoint, save_checkpoint
from nas.train.data import Dataset
from nas.train.evaluate import autocast, evaluate, in_format, main_logits
from nas.train.optimizer import Average, make_optimizer
from nas.train.recipe import Recipe
from nas.train.seeding import derive_seed, reseed, seed_everything
from nas.train.split import num_batches

CHECK_EVERY = 256
"""Steps between two looks at the loss inside an epoch; each look waits for the device once."""

DROP_PATH = "drop_path"
"""Every module with a float attribute of this name is told the epoch's probability."""


class StopTraining(Exception):
    """Raised by ``on_epoch`` to end a training after the epoch it was told of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochResult:
    """One epoch: its number from 0, mean training loss (augmented images, label smoothing included), validation
    accuracy (a fraction) and loss, seconds in all, and training images a second (validation not counted)."""

    epoch: int
    train_loss: float
    val_accuracy: float
    val_loss: float
    seconds: float
    images_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FitResult:
    """All epochs so far, those before a resume included. ``stopped``: ``on_epoch`` ended it before the last epoch."""

    history: tuple[EpochResult, ...]
    stopped: bool

    @property
    def last(self) -> EpochResult:
        """The last epoch."""
        return self.history[-1]

    @property
    def val_accuracy(self) -> float:
        """Of the last epoch, whose weights the model holds; not the best, which would be picked on validation data."""
        return self.last.val_accuracy

    @property
    def seconds(self) -> float:
        """Time of all epochs."""
        return sum(epoch.seconds for epoch in self.history)


def fit(
    model: nn.Module, data: Dataset, recipe: Recipe, *, seed: int = 0, device: torch.device | str = "cpu",
    on_epoch: Callable[[EpochResult], bool | None] | None = None, checkpoint: Path | None = None,
    give_way: Callable[[], object] | None = None,
) -> FitResult:  # fmt: skip
    """Train ``model`` in place on ``data.train`` and validate it every epoch on ``data.validation``.

    ``model`` maps (N, C, H, W) to (N, classes), or to (logits, auxiliary logits) while training; build it under
    :func:`seed_everything`. ``on_epoch`` hears of every epoch; when it returns True or raises :class:`StopTraining`,
    the training ends there. With a ``checkpoint`` path the state is saved after every epoch (and after ``on_epoch``, so
    a kill in between repeats that epoch), and the same call goes on from it, also after a stop. ``give_way`` is called
    after every step: :func:`nas.measure.lock.device_shared` pauses the training there while another
    process measures.

    Raises TrainError for a loss that is not finite (naming the epoch), a model that does not return class scores, and
    a checkpoint that is damaged or another training's. torch.OutOfMemoryError passes through.
    """
    with seed_everything(seed, device):
        training = _Training(model, data.to(device), recipe, seed)
        training.give_way = give_way or training.give_way
        if checkpoint is not None:
            training.load(checkpoint)
        stopped = False
        while not stopped and len(training.history) < recipe.epochs:
            result = training.run_epoch()
            try:
                stopped = bool(on_epoch is not None and on_epoch(result))
            except StopTraining:
                stopped = True
            if checkpoint is not None:
                training.save(checkpoint)
        training.finish()
    return FitResult(history=tuple(training.history), stopped=len(training.history) < recipe.epochs)


class _Training:
    """A model with all that changes while it is trained."""

    def __init__(self, model: nn.Module, data: Dataset, recipe: Recipe, seed: int) -> None:
        self.device = data.train.device
        self.model = model.to(self.device)
        if recipe.channels_last:
            for weight in self.model.parameters():
                weight.data = in_format(weight.data, weight.ndim == 4)
        self.data, self.recipe, self.seed = data, recipe, seed
        self.augmentation = recipe.augmentation(data.augmentation)
        self.steps = num_batches(len(data.train), recipe.batch_size)
        self.optimizer = make_optimizer(self.model, recipe)
        self.average = None if recipe.ema is None else Average(self.model, recipe.ema)
        self.history: list[EpochResult] = []
        self.give_way: Callable[[], object] = bool

    def run_epoch(self) -> EpochResult:
        """One pass over the training split, one over the validation split."""
        epoch, start = len(self.history), time.perf_counter()
        reseed(derive_seed(self.seed, "epoch", epoch))
        train_loss = self._train(epoch)
        trained = time.perf_counter()
        judged = self.model if self.average is None else self.average.model
        accuracy, val_loss = evaluate(judged, self.data.validation, amp=self.recipe.amp,
                                      channels_last=self.recipe.channels_last)  # fmt: skip
        _check_finite(val_loss, "validation", epoch)
        result = EpochResult(
            epoch=epoch, train_loss=train_loss, val_accuracy=accuracy, val_loss=val_loss,
            seconds=time.perf_counter() - start, images_per_s=len(self.data.train) / (trained - start),
        )  # fmt: skip
        self.history.append(result)
        return result

    def _train(self, epoch: int) -> float:
        """The epoch's mean loss."""
        generator = torch.Generator(device=self.device).manual_seed(derive_seed(self.seed, "images", epoch))
        _set_drop_path(self.model, self.recipe.drop_path * epoch / max(self.recipe.epochs - 1, 1))
        self.model.train()
        total = torch.zeros((), device=self.device)
        batches = self.data.train.train_batches(self.recipe.batch_size, self.augmentation, generator)
        for step, (images, labels) in enumerate(batches, start=1):
            rate = self.recipe.learning_rate_at(epoch + (step - 0.5) / self.steps)
            total += self._step(in_format(images, self.recipe.channels_last), labels, rate) * len(labels)
            self.give_way()
            if step % CHECK_EVERY == 0:
                _check_finite(float(total), "training", epoch)
        return _check_finite(float(total) / len(self.data.train), "training", epoch)

    def _step(self, images: Tensor, labels: Tensor, rate: float) -> Tensor:
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with autocast(self.device, self.recipe.amp):
            loss = self._loss(self.model(images), labels)
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        if self.recipe.grad_clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.grad_clip)
        self.optimizer.step()
        if self.average is not None:
            self.average.update()
        return loss.detach()

    def _loss(self, outputs: Any, labels: Tensor) -> Tensor:
        logits = main_logits(outputs, self.data.num_classes)
        loss = F.cross_entropy(logits, labels, label_smoothing=self.recipe.label_smoothing)
        if self.recipe.aux_weight and isinstance(outputs, tuple | list):
            aux = F.cross_entropy(outputs[1], labels, label_smoothing=self.recipe.label_smoothing)
            loss = loss + self.recipe.aux_weight * aux
        return loss

    def finish(self) -> None:
        """Leave in the model the weights that were validated."""
        if self.average is not None and self.history:
            self.model.load_state_dict(self.average.model.state_dict())

    def _identity(self) -> dict[str, Any]:
        return {"seed": self.seed, "data": self.data.fingerprint, "recipe": self.recipe.to_mapping()}

    def save(self, path: Path) -> None:
        save_checkpoint(path, {
            "identity": self._identity(), "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.state(),
            "history": [asdict(result) for result in self.history],
        })  # fmt: skip

    def load(self, path: Path) -> None:
        """Go on from the file, where there is one."""
        state = load_checkpoint(path, identity=self._identity(), device=self.device)
        if state is None:
            return
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            if self.average is not None:
                self.average.restore(state["average"])
            self.history = [EpochResult(**result) for result in state["history"]]
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            raise TrainError("the checkpoint belongs to another network", where=str(path),
                             got=str(error).split("\n")[0], hint=START_OVER) from error  # fmt: skip


def _set_drop_path(model: nn.Module, probability: float) -> None:
    for module in model.modules():
        if isinstance(getattr(module, DROP_PATH, None), float):
            setattr(module, DROP_PATH, probability)


def _check_finite(loss: float, what: str, epoch: int) -> float:
    if not math.isfinite(loss):
        raise TrainError(f"the {what} loss is {loss}: it diverged", where=f"epoch {epoch}",
                         hint="Try a lower learning_rate, a warm-up, or grad_clip.")  # fmt: skip
    return loss
