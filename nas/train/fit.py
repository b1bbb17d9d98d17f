"""The training loop: data on the device, one shuffled pass an epoch, one validation pass, nothing synchronised between.

What is random in epoch e follows from (seed, e) alone. So a resumed training needs no saved random state, and on a CPU
it goes on bit for bit as the uninterrupted one would.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nas.errors import CheckpointError, TrainError
from nas.train.augment import mix_up
from nas.train.auxiliary import prepare
from nas.train.checkpoint import START_OVER, load_checkpoint, save_checkpoint, save_weights
from nas.train.data import Dataset
from nas.train.evaluate import autocast, evaluate
from nas.train.layout import ChannelsLast, in_format
from nas.train.loss import training_loss
from nas.train.optimizer import Average, make_optimizer
from nas.train.parallel import ALONE, Group
from nas.train.recipe import Recipe
from nas.train.regularise import Regularisation
from nas.train.seeding import derive_seed, reseed, seed_everything
from nas.train.split import num_batches

CHECK_EVERY = 256
"""Steps between two looks at the loss inside an epoch; each look waits for the device once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochResult:
    """One epoch: its number from 0, mean training loss (augmented images; label smoothing, mixup and auxiliary head
    included), validation accuracy (a fraction) and loss, seconds in all, and training images a second (validation not
    counted)."""

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
    def best(self) -> EpochResult:
        """The epoch of the highest validation accuracy, the first of equal ones: picked on validation data."""
        return max(self.history, key=lambda epoch: epoch.val_accuracy)

    @property
    def seconds(self) -> float:
        """Time of all epochs."""
        return sum(epoch.seconds for epoch in self.history)


def fit(
    model: nn.Module, data: Dataset, recipe: Recipe, *, seed: int = 0, device: torch.device | str = "cpu",
    on_epoch: Callable[[EpochResult], bool | None] | None = None, checkpoint: Path | None = None,
    checkpoint_every_s: float = 0.0, best: Path | None = None, group: Group = ALONE,
    on_step: Callable[[], object] = bool,
) -> FitResult:  # fmt: skip
    """Train ``model`` in place on ``data.train`` and validate it every epoch on ``data.validation``.

    ``model`` maps (N, C, H, W) to (N, classes), or to (logits, auxiliary logits, ...) while training; build it under
    :func:`seed_everything`. ``on_epoch`` hears of every epoch; when it returns True, the training ends there. With a
    ``checkpoint`` path the state is saved after every epoch (and after ``on_epoch``, so a kill in between repeats that
    epoch), and the same call goes on from it, also after a stop; with ``checkpoint_every_s`` after a stop, and otherwise only
    when so many seconds have passed since the last time. The weights of the :attr:`FitResult.best` epoch so far are kept in
    the file ``best``. ``on_step`` is called after every step: :func:`nas.measure.lock.device_shared` pauses the training
    there while another process measures.

    In a ``group`` of processes all call this alike: batches are shared out, gradients averaged, figures are the whole's.
    The first process alone writes; each hears of every epoch, and a stop of any stops all. Batch norm sees its process's
    part of a batch; running statistics are the first's.

    Raises TrainError for a loss that is not finite (naming the epoch), a model that does not return class scores or take
    images of the recipe's sizes, and a checkpoint that is damaged or another training's. torch.OutOfMemoryError passes
    through.
    """
    with seed_everything(seed, device):
        training = _Training(model, data.to(device), recipe.on(device), seed, group, on_step)
        try:
            if checkpoint is not None:
                training.load(checkpoint)
            stopped, saved = False, time.monotonic()
            while not stopped and len(training.history) < recipe.epochs:
                result = training.run_epoch()
                if best is not None and group.first and training.is_best:
                    save_weights(training.judged, best)
                stopped = group.any(bool(on_epoch is not None and on_epoch(result)), training.device)
                due = stopped or time.monotonic() - saved >= checkpoint_every_s
                if checkpoint is not None and group.first and due:
                    training.save(checkpoint)
                    saved = time.monotonic()
        finally:
            training.remove()
        training.finish()
    return FitResult(history=tuple(training.history), stopped=len(training.history) < recipe.epochs)


class _Training:
    """A model with all that changes while it is trained."""

    def __init__(self, model: nn.Module, data: Dataset, recipe: Recipe, seed: int, group: Group,
                 on_step: Callable[[], object]) -> None:  # fmt: skip
        self.device = data.train.device
        self.model = model.to(self.device)
        self.data, self.recipe, self.seed, self.group = data, recipe, seed, group
        self.steps = num_batches(len(data.train), recipe.batch_size)
        if (least := len(data.train) // self.steps // group.size) < 2 and group.size > 1:
            raise TrainError("a batch has too few images for so many processes", expected="2 images each", got=least,
                             hint=f"batch_size={2 * group.size} is the least for {group.size}.")  # fmt: skip
        reseed(derive_seed(seed, "auxiliary"))
        self.whole, unused = prepare(self.model, recipe, data.input_shape, data.num_classes, parallel=group.size > 1)
        self.layout = ChannelsLast(self.whole) if recipe.channels_last else None
        self.average = None if recipe.ema is None else Average(self.model, recipe.ema)
        self.optimizer = make_optimizer(self.whole, recipe)
        self.regularisation = Regularisation(self.model, drop_path=recipe.drop_path > 0)
        self.runs = group.wrap(self.whole, unused=unused)
        self.history: list[EpochResult] = []
        self.on_step = on_step

    @property
    def judged(self) -> nn.Module:
        """The network that is validated and kept."""
        return self.model if self.average is None else self.average.model

    @property
    def is_best(self) -> bool:
        """Whether the last epoch's validation accuracy exceeds all before."""
        *before, last = (epoch.val_accuracy for epoch in self.history)
        return last > max(before, default=-1.0)

    def run_epoch(self) -> EpochResult:
        """One pass over the training split, one over the validation split."""
        epoch, start = len(self.history), time.perf_counter()
        reseed(derive_seed(self.seed, "epoch", epoch, *[self.group.rank] * (self.group.rank > 0)))
        train_loss = self._train(epoch)
        trained = time.perf_counter()
        self.group.share_buffers(self.judged)
        accuracy, val_loss = evaluate(self.judged, self.data.validation, amp=self.recipe.amp,
                                      channels_last=self.recipe.channels_last, group=self.group)  # fmt: skip
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
        mixing = random.Random(derive_seed(self.seed, "mixup", epoch))
        recipe = self.recipe
        strength, drop_path = recipe.strength_at(epoch), recipe.drop_path_at(epoch)
        how = recipe.augmentation(self.data.augmentation, epoch, min(self.data.input_shape[1:]))
        self.regularisation.set(drop_path, strength)
        self.whole.train()
        total = torch.zeros((), device=self.device)
        batches = self.data.train.train_batches(recipe.batch_size, how, generator, self.group)
        for step, (images, labels) in enumerate(batches, start=1):
            rate = recipe.learning_rate_at(epoch + (step - 0.5) / self.steps)
            alpha = recipe.mixup * strength
            share = mixing.betavariate(alpha, alpha) if alpha else 1.0
            total += self._step(images, labels, rate, share, self._part(step, labels)) * len(labels)
            self.on_step()
            if step % CHECK_EVERY == 0:
                _check_finite(float(total), "training", epoch)
        return _check_finite(float(self.group.sum(total)) / len(self.data.train), "training", epoch)

    def _part(self, step: int, labels: Tensor) -> float:
        """What this process's mean loss weighs in the mean over all: 1 where its part of the batch is no larger or smaller."""
        batch, larger = divmod(len(self.data.train), self.steps)
        return len(labels) * self.group.size / (batch + (step <= larger))

    def _step(self, images: Tensor, labels: Tensor, rate: float, share: float, part: float) -> Tensor:
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        images = in_format(images if share == 1.0 else mix_up(images, share), self.recipe.channels_last)
        with autocast(self.device, self.recipe.amp):
            loss = training_loss(self.runs(images), labels, share, self.recipe, self.data.num_classes)
        self.optimizer.zero_grad()
        torch.autograd.backward(loss if part == 1.0 else part * loss)
        if self.recipe.grad_clip:
            nn.utils.clip_grad_norm_(self.whole.parameters(), self.recipe.grad_clip)
        self.optimizer.step()
        if self.average is not None:
            self.average.update()
        return loss.detach()

    def remove(self) -> None:
        """Take off the model what was put around its layers for the training."""
        self.regularisation.remove()
        if self.layout is not None:
            self.layout.remove()

    def finish(self) -> None:
        """Leave in the model the weights that were validated."""
        if self.average is not None and self.history:
            self.model.load_state_dict(self.average.model.state_dict())

    def _identity(self) -> dict[str, Any]:
        return {"seed": self.seed, "data": self.data.fingerprint, "recipe": self.recipe.to_mapping(),
                "number of processes": self.group.size}  # fmt: skip

    def save(self, path: Path) -> None:
        save_checkpoint(path, {
            "identity": self._identity(), "model": self.whole.state_dict(), "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.state(),
            "history": [asdict(result) for result in self.history],
        })  # fmt: skip

    def load(self, path: Path) -> None:
        """Go on from the file, where there is one."""
        state = load_checkpoint(path, identity=self._identity(), device=self.device)
        if state is None:
            return
        try:
            self.whole.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            if self.average is not None:
                self.average.restore(state["average"])
            self.history = [EpochResult(**result) for result in state["history"]]
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError("the checkpoint belongs to another network", where=str(path),
                                  got=str(error).split("\n")[0], hint=START_OVER) from error  # fmt: skip


def _check_finite(loss: float, what: str, epoch: int) -> float:
    if not math.isfinite(loss):
        raise TrainError(f"the {what} loss is {loss}: it diverged", where=f"epoch {epoch}",
                         hint="Try a lower learning_rate, a warm-up, or grad_clip.")  # fmt: skip
    return loss
